//! Starting: what is made, what is upgraded and what is refused.

use std::sync::Arc;
use std::time::Duration;

use aof_servers::{Nats, NatsOptions};
use async_nats::jetstream::stream::{Config, RetentionPolicy};
use futures_util::future::join_all;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::{FLOOR, NEWEST, Node, SYNCED, options};
use crate::clock::SystemClock;
use crate::lifecycle::Lifecycle;
use crate::queue::contract::{task, tenant};
use crate::queue::jetstream::{JetStreamOptions, OpenError, open};
use crate::queue::{Durability, ReadRange};
use crate::secret::Secret;
use crate::subject::Stream;

async fn refused(options: JetStreamOptions) -> OpenError {
    let opened = open(options, Arc::new(SystemClock), &Lifecycle::new()).await;
    opened.err().expect("it does not open")
}

async fn context(server: &Nats) -> async_nats::jetstream::Context {
    let client = async_nats::connect(server.url()).await.expect("a connection");
    async_nats::jetstream::new(client)
}

#[tokio::test]
async fn nodes_that_start_at_once_make_everything_together() {
    for server in [&FLOOR, &NEWEST] {
        let options = options(server);
        let nodes = join_all((0..8).map(|_| Node::open(options.clone()))).await;
        let t = tenant("a");
        for (n, node) in nodes.iter().enumerate() {
            let seq = node.queue.publish(vec![task(&t, "x")]).await.expect("publish")[0].seq;
            assert_eq!(seq, n as u64 + 1, "one stream for all");
        }
        join_all(nodes.into_iter().map(Node::close)).await;
    }
}

#[tokio::test]
async fn a_stream_of_an_earlier_version_is_brought_up_to_date() {
    let options = options(&NEWEST);
    Node::open(options.clone()).await.close().await;
    let context = context(&NEWEST).await;
    let name = format!("{}_EVENTS", options.name.to_uppercase());
    let config = async || {
        let stream = context.get_stream(&name).await.expect("the stream");
        stream.cached_info().config.clone()
    };
    let made = config().await;
    let older = Config { max_age: Duration::from_secs(1_000_000), ..made.clone() };
    context.update_stream(&older).await.expect("update");
    Node::open(options).await.close().await;
    assert_eq!(config().await, made);
}

#[tokio::test]
async fn a_stream_that_is_not_ours_is_refused() {
    let context = context(&NEWEST).await;
    let foreign = |name: String, subject: String, retention| Config {
        name,
        subjects: vec![subject],
        retention,
        ..Config::default()
    };
    // The same name with other settings.
    let taken = options(&NEWEST);
    let (name, subject) =
        (format!("{}_TASKS", taken.name.to_uppercase()), format!("{}.task.>", taken.name));
    let config = foreign(name.clone(), subject, RetentionPolicy::WorkQueue);
    context.create_stream(config).await.expect("create");
    let error = refused(taken).await.to_string();
    assert!(error.contains(&name) && error.contains("WorkQueue"), "{error}");
    // Another name on our subjects.
    let overlapped = options(&NEWEST);
    let name = format!("FOREIGN_{}", overlapped.name);
    let config = foreign(name, format!("{}.>", overlapped.name), RetentionPolicy::Limits);
    context.create_stream(config).await.expect("create");
    let error = refused(overlapped).await;
    assert!(matches!(error, OpenError::Refused { .. }), "{error:?}");
    assert!(error.to_string().contains("another stream takes the same subjects"), "{error}");
}

#[tokio::test]
async fn wrong_credentials_are_refused_and_never_shown() {
    let login = Some(("me".to_owned(), "s3cret".to_owned()));
    let server = Nats::start(&NatsOptions { login, ..NatsOptions::default() });
    let right = options(&server);
    Node::open(right.clone()).await.close().await;
    let url = server.url().replace("s3cret", "wr0ng");
    let error = refused(JetStreamOptions { url: Secret::new(url), ..right }).await;
    assert!(matches!(error, OpenError::Refused { .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("wr0ng"), "{error:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_may_be_tried_again() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = port.local_addr().expect("its address");
    drop(port);
    let url = Secret::new(format!("nats://u:s3cret@{addr}"));
    let error = refused(JetStreamOptions { url, ..options(&NEWEST) }).await;
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error:?}");
    let text = format!("{error} {error:?}");
    assert!(text.contains(&addr.to_string()) && !text.contains("s3cret"), "{text}");
}

/// Speaks just enough NATS to be connected to.
async fn pretend(version: &str, listener: TcpListener) {
    let (stream, _) = listener.accept().await.expect("a client");
    let (read, mut write) = stream.into_split();
    let info = format!(
        "INFO {{\"server_id\":\"x\",\"version\":\"{version}\",\"headers\":true,\
         \"max_payload\":1048576,\"proto\":1}}\r\n"
    );
    write.write_all(info.as_bytes()).await.expect("greet");
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if line == "PING" {
            write.write_all(b"PONG\r\n").await.expect("answer");
        }
    }
    let _ = lines.into_inner().into_inner().read(&mut [0]).await;
}

#[tokio::test]
async fn a_server_that_is_too_old_is_refused_with_its_version() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = Secret::new(format!("nats://{}", listener.local_addr().expect("its address")));
    let asked = JetStreamOptions { url, monitor_url: None, ..options(&NEWEST) };
    let error = tokio::select! {
        error = refused(asked) => error,
        () = pretend("2.9.10", listener) => panic!("nobody asked"),
    };
    assert!(matches!(error, OpenError::Refused { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("2.9.10") && text.contains("2.10 or newer"), "{text}");
}

#[tokio::test]
async fn durability_is_what_the_server_really_does() {
    let synced = options(&SYNCED);
    for (options, expected) in [
        (synced.clone(), Durability::Fsync),
        // Without the monitoring endpoint nobody says that it syncs.
        (JetStreamOptions { monitor_url: None, ..synced }, Durability::Memory),
        (options(&NEWEST), Durability::Memory),
    ] {
        let node = Node::open(options).await;
        assert_eq!(node.queue.durability(), expected);
        node.close().await;
    }
}

#[tokio::test]
async fn two_clusters_on_one_server_see_nothing_of_each_other() {
    let (one, two) = (Node::open(options(&FLOOR)).await, Node::open(options(&FLOOR)).await);
    let publication = task(&tenant("a"), "x");
    for node in [&one, &two] {
        let stored = node.queue.publish(vec![publication.clone()]).await.expect("publish")[0];
        assert!(!stored.duplicate && stored.seq == 1, "{stored:?}");
        let range = ReadRange::default();
        let read = node.queue.read(Stream::Tasks, range, 10, 0).await.expect("read");
        assert_eq!(read.len(), 1);
    }
    one.close().await;
    two.close().await;
}
