//! Each server starts, keeps what it stored through a kill, freezes, and leaves nothing behind.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::{NATS_2_12, NATS_FLOOR, NATS_NEWEST, Nats, NatsOptions, Postgres, Redis, RedisOptions};

const DEADLINE: Duration = Duration::from_secs(30);
/// Longest wait for an answer that must not come.
const SILENCE: Duration = Duration::from_millis(300);

fn addr(url: &str) -> SocketAddr {
    let (_, addr) = url.trim_end_matches("/postgres").rsplit_once(['@', '/']).expect("an address");
    addr.parse().expect("host and port")
}

/// Sends `question` and returns what came until `end` was in it.
fn ask(url: &str, question: &str, end: &str, wait: Duration) -> Option<String> {
    let mut stream = TcpStream::connect(addr(url)).ok()?;
    stream.set_read_timeout(Some(wait)).expect("a time-out");
    stream.write_all(question.as_bytes()).ok()?;
    let mut text = String::new();
    let mut bytes = [0_u8; 4_096];
    while !text.contains(end) {
        let read = stream.read(&mut bytes).ok().filter(|read| *read > 0)?;
        text.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    Some(text)
}

fn until(what: &str, probe: impl Fn() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !probe() {
        assert!(Instant::now() < end, "waited {DEADLINE:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn refuses(url: &str) -> bool {
    TcpStream::connect(addr(url)).is_err()
}

fn psql(postgres: &Postgres, sql: &str) -> String {
    let mut psql = Command::new(crate::programs::postgres("psql"));
    psql.args([&postgres.url(), "-qAt", "-v", "ON_ERROR_STOP=1", "-c", sql]);
    let output = psql.output().expect("psql runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn redis_keeps_what_it_acknowledged_through_a_kill() {
    let redis = Redis::start();
    let set = ask(&redis.url(), "SET k v\r\n", "\r\n", DEADLINE);
    assert_eq!(set.as_deref(), Some("+OK\r\n"));
    redis.kill();
    assert!(refuses(&redis.url()));
    redis.start_again();
    let got = ask(&redis.url(), "GET k\r\n", "v\r\n", DEADLINE);
    assert_eq!(got.as_deref(), Some("$1\r\nv\r\n"));
}

#[test]
fn redis_asks_for_its_password() {
    let options = RedisOptions { password: Some("pw".to_owned()), ..RedisOptions::default() };
    let redis = Redis::start_with(&options);
    assert!(redis.url().starts_with("redis://:pw@127.0.0.1:"));
    let refused = ask(&redis.url(), "GET k\r\n", "\r\n", DEADLINE);
    assert!(refused.expect("an answer").starts_with("-NOAUTH"));
}

#[test]
fn a_paused_server_answers_once_it_is_resumed() {
    let redis = Redis::start();
    redis.pause();
    assert_eq!(ask(&redis.url(), "PING\r\n", "\r\n", SILENCE), None);
    redis.resume();
    assert_eq!(ask(&redis.url(), "PING\r\n", "\r\n", DEADLINE).as_deref(), Some("+PONG\r\n"));
}

#[test]
fn nats_of_every_version_starts_with_jetstream_and_starts_again() {
    for version in [NATS_FLOOR, NATS_2_12, NATS_NEWEST] {
        let options = NatsOptions { version: version.to_owned(), ..NatsOptions::default() };
        let nats = Nats::start(&options);
        let info = ask(&nats.url(), "", "\r\n", DEADLINE).expect("a greeting");
        assert!(info.contains(&format!("\"version\":\"{version}\"")), "{info}");
        assert!(info.contains("\"jetstream\":true"), "{info}");
        nats.kill();
        assert!(refuses(&nats.url()));
        nats.start_again();
        nats.stop();
        nats.start_again();
    }
}

#[test]
fn nats_says_that_it_syncs_always() {
    let options = NatsOptions { sync_always: true, ..NatsOptions::default() };
    let nats = Nats::start(&options);
    let question = "GET /jsz?config=true HTTP/1.0\r\n\r\n";
    let config = ask(&nats.monitor_url(), question, "}", DEADLINE).expect("an answer");
    assert!(config.contains("\"sync_always\": true"), "{config}");
}

#[test]
fn nats_asks_for_its_login() {
    let login = Some(("user".to_owned(), "pw".to_owned()));
    let nats = Nats::start(&NatsOptions { login, ..NatsOptions::default() });
    assert!(nats.url().starts_with("nats://user:pw@127.0.0.1:"));
    let refused = ask(&nats.url(), "CONNECT {}\r\nPING\r\n", "-ERR", DEADLINE);
    assert!(refused.expect("an answer").contains("Authorization Violation"));
}

#[test]
fn three_nats_servers_form_one_cluster() {
    let servers = Nats::cluster(3, &NatsOptions::default());
    let question = "GET /jsz HTTP/1.0\r\n\r\n";
    for server in &servers {
        until("a leader and two followers", || {
            ask(&server.monitor_url(), question, "\"cluster_size\": 3", SILENCE).is_some()
        });
    }
}

#[test]
fn postgres_keeps_what_it_committed_through_a_kill() {
    let postgres = Postgres::start();
    psql(&postgres, "CREATE TABLE t (v text); INSERT INTO t VALUES ('kept')");
    postgres.kill();
    assert!(refuses(&postgres.url()));
    postgres.start_again();
    assert_eq!(psql(&postgres, "SELECT v FROM t"), "kept");
    postgres.pause();
    postgres.resume();
    assert_eq!(psql(&postgres, "SELECT v FROM t"), "kept");
}

#[test]
fn a_dropped_server_is_gone_with_its_folder() {
    let redis = Redis::start();
    let (url, dir) = (redis.url(), redis.dir().to_owned());
    assert!(dir.join("appendonlydir").exists());
    drop(redis);
    assert!(refuses(&url));
    assert!(!dir.exists());
}

#[test]
#[ignore = "the next test runs it as the process that dies"]
fn victim() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    for (url, dir) in [(redis.url(), redis.dir()), (postgres.url(), postgres.dir())] {
        println!("server {url} {}", dir.display());
    }
    println!("server end -");
    std::thread::sleep(DEADLINE);
}

#[test]
fn servers_are_gone_when_the_test_process_is_killed() {
    let mut victim = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "tests::victim", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("this binary runs");
    let lines = BufReader::new(victim.stdout.take().expect("piped")).lines();
    let servers: Vec<(String, PathBuf)> = lines
        .map_while(Result::ok)
        .filter_map(|line| {
            let (url, dir) = line.split_once("server ")?.1.split_once(' ')?;
            Some((url.to_owned(), PathBuf::from(dir)))
        })
        .take_while(|(url, _)| url != "end")
        .collect();
    assert_eq!(servers.len(), 2);
    assert!(servers.iter().all(|(url, dir)| !refuses(url) && dir.exists()));
    victim.kill().expect("our child");
    victim.wait().expect("our child");
    for (url, dir) in servers {
        until("the server's end", || refuses(&url));
        until("the folder's end", || !dir.exists());
    }
}
