//! Gateways behind the load balancer of the deployment.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aof_harness::{SIGNING_SECRET, Sender, Slack, mention, slack_trigger, until};
use aof_servers::{Haproxy, NatsOptions};
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::stand::{Stand, config, manifests, ready, url};

/// Webhooks on their way at once.
const SENDERS: usize = 8;
/// Webhooks of each sender.
const EACH: usize = 40;

fn haproxy(gateways: &[std::net::SocketAddr]) -> Haproxy {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/haproxy/haproxy.cfg");
    Haproxy::start(&config, gateways)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_dies_mid_load_and_no_webhook_is_lost() {
    let (_slack, api) = Slack::start(&[]).await;
    let stand = Stand::new(&NatsOptions::default());
    let manifests = manifests("");
    let rest = "  agents: [{name: shell}]\n";
    manifests.flow("slack", &slack_trigger(api, "xoxb-1", SIGNING_SECRET, rest));
    let config = config(&manifests);
    let behind = stand.node("router,worker,approver", &config, &[]);
    let gateways = [stand.node("gateway", &config, &[]), stand.node("gateway", &config, &[])];
    ready(&[&behind, &gateways[0], &gateways[1]]).await;
    let balancer = haproxy(&[gateways[0].addr(), gateways[1].addr()]);
    until("the balancer", async || balancer.is_ready().then_some(())).await;
    let sent = AtomicUsize::new(0);
    let send = async |sender: usize| {
        let webhook = Sender::new(&balancer.url(), "default");
        let mut ids = Vec::new();
        for n in 0..EACH {
            let ts = format!("17000{sender:05}.{n:06}");
            let body = mention(&format!("C000000{sender}"), "U0000001", &ts, "echo here");
            // As a platform does: what got a 503 comes again; nothing else ever comes back.
            let answer = until("a webhook to be taken", async || {
                let answer = webhook.post(body.clone()).await.expect("the balancer answers");
                let status = answer.status().as_u16();
                assert!(matches!(status, 200 | 503), "{status}\n{}", balancer.log());
                (status == 200).then_some(answer)
            })
            .await;
            let answer: serde_json::Value = answer.json().await.expect("JSON");
            ids.push(answer["message_id"].as_str().expect("an id").to_owned());
            if sent.fetch_add(1, Ordering::SeqCst) == SENDERS * EACH / 3 {
                gateways[0].kill();
            }
        }
        ids
    };
    let ids: Vec<String> = join_all((0..SENDERS).map(send)).await.concat();
    let alive = url(&gateways[1]);
    until("every webhook to end once", async || {
        let journal = stand.journal(&alive).await;
        let ended = journal.iter().filter(|event| event["type"] == "run.completed");
        let ended: Vec<&str> = ended.filter_map(|event| event["message_id"].as_str()).collect();
        let once = |id: &String| ended.iter().filter(|ended| *ended == id).count() == 1;
        (ended.len() == ids.len() && ids.iter().all(once)).then_some(())
    })
    .await;
}

/// A gateway that dies with every request but the balancer's look: how many it saw.
async fn dying() -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("an address");
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut request = vec![0; 4_096];
            let read = client.read(&mut request).await.unwrap_or_default();
            if request[..read].starts_with(b"GET /readyz") {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                let _ = client.write_all(answer).await;
            } else if read > 0 {
                count.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    (addr, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_safe_to_send_again_is_sent_again() {
    let (addr, seen) = dying().await;
    let balancer = haproxy(&[addr]);
    until("the balancer", async || balancer.is_ready().then_some(())).await;
    let http = reqwest::Client::new();
    for (path, times) in [("/webhook/slack/default", 3), ("/accounts/default/chat", 1)] {
        seen.store(0, Ordering::SeqCst);
        let post = http.post(format!("{}{path}", balancer.url())).body("{}").send().await;
        // Or it closes the connection, as the gateway did.
        let refused = post.map_or(true, |answer| answer.status().is_server_error());
        assert!(refused, "{path}");
        assert_eq!(seen.load(Ordering::SeqCst), times, "{path}");
    }
}
