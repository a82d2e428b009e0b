//! What waiting cannot mend: `aofctl serve` ends with exit code 3 and says what to do.

use std::process::Command;

use aof_servers::{Nats, NatsOptions, Postgres, Redis, RedisOptions};

use super::stand::{config, manifests};

/// A server that takes connections and says nothing.
fn silent() -> (std::net::TcpListener, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("a bound socket").to_string();
    (listener, addr)
}

/// Runs a node that must refuse to start; what it says.
fn refusal(nats: &str, redis: &str, postgres: &str, env: &[(&str, &str)]) -> String {
    let manifests = manifests("");
    let data = tempfile::tempdir().expect("a folder");
    let node = Command::new(env!("CARGO_BIN_EXE_aofctl"))
        .args(["serve", "--listen", "127.0.0.1:0", "--config"])
        .arg(config(&manifests))
        .arg("--data-dir")
        .arg(data.path())
        .envs([("NATS_URL", nats), ("REDIS_URL", redis), ("DATABASE_URL", postgres)])
        .envs(env.iter().copied())
        .output()
        .expect("aofctl starts");
    let said = String::from_utf8_lossy(&node.stderr).into_owned();
    assert_eq!(node.status.code(), Some(3), "{said}");
    said
}

#[test]
fn wrong_credentials_are_named_with_the_way_out_and_without_the_secret() {
    let login = Some(("aof".to_owned(), "right".to_owned()));
    let nats = Nats::start(&NatsOptions { login, ..NatsOptions::default() });
    let password = Some("right".to_owned());
    let redis = Redis::start_with(&RedisOptions { password, ..RedisOptions::default() });
    let postgres = Postgres::start();
    let wrong =
        |url: &str| url.replace("right", "wr0ng-secret").replace("aof-test", "wr0ng-secret");
    let all = [nats.url(), redis.url(), postgres.url()];
    for (at, name, way_out) in [
        (0, "NATS", "check the user and password in the URL"),
        (1, "redis", "redis_url"),
        (2, "PostgreSQL", "check user, password and pg_hba.conf"),
    ] {
        let mut urls = all.clone();
        urls[at] = wrong(&urls[at]);
        let said = refusal(&urls[0], &urls[1], &urls[2], &[]);
        let lower = said.to_lowercase();
        assert!(lower.contains(&name.to_lowercase()), "{name}: {said}");
        assert!(lower.contains(&way_out.to_lowercase()), "{way_out}: {said}");
        assert!(!said.contains("wr0ng-secret"), "{said}");
    }
}

#[test]
fn nats_older_than_2_10_is_refused_with_the_reason() {
    // What an old server says of itself is all that is looked at.
    let (listener, addr) = silent();
    let old = std::thread::spawn(move || {
        use std::io::{Read, Write};
        for client in listener.incoming() {
            let Ok(mut client) = client else { return };
            let info = "INFO {\"server_id\":\"old\",\"version\":\"2.9.10\",\"proto\":1,\
                        \"max_payload\":1048576,\"headers\":true,\"jetstream\":true}\r\n";
            let _ = client.write_all(info.as_bytes());
            let mut said = [0; 1_024];
            while client.read(&mut said).is_ok_and(|read| read > 0) {
                let _ = client.write_all(b"PONG\r\n");
            }
        }
    });
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let said = refusal(&format!("nats://{addr}"), &redis.url(), &postgres.url(), &[]);
    assert!(said.contains("2.9.10") && said.contains("2.10"), "{said}");
    drop(old);
}

#[test]
fn a_wrong_variable_is_said_before_any_server_is_waited_for() {
    let (_nobody, addr) = silent();
    let said = refusal(
        &format!("nats://{addr}"),
        &format!("redis://{addr}"),
        &format!("postgres://aof@{addr}/aof"),
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317"),
            ("OTEL_TRACES_SAMPLER", "some"),
        ],
    );
    assert!(said.contains("OTEL_TRACES_SAMPLER"), "{said}");
}
