//! Redis over TLS.

use std::path::Path;
use std::process::Command;

use aof_servers::{NatsOptions, Redis, RedisOptions};

use super::stand::{Stand, config, manifests, ready, url};

/// A certificate of 127.0.0.1 that vouches for itself, and its key.
fn certificate(dir: &Path) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=redis"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", "key.pem", "-out", "certificate.pem"])
        .current_dir(dir)
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_takes_redis_over_tls_and_only_with_a_certificate_that_it_trusts() {
    let dir = tempfile::tempdir().expect("a folder");
    certificate(dir.path());
    let file = |name: &str| dir.path().join(name).display().to_string();
    let tls = RedisOptions {
        tls: Some((file("certificate.pem"), file("key.pem"))),
        ..RedisOptions::default()
    };
    let redis = Redis::start_with(&tls);
    assert!(redis.url().starts_with("rediss://"), "{}", redis.url());
    let stand = Stand { redis, ..Stand::new(&NatsOptions::default()) };
    let manifests = manifests("");
    let config = config(&manifests);
    let stranger = stand.node("worker", &config, &[]);
    let trusting = [("SSL_CERT_FILE", &*file("certificate.pem"))];
    let node = stand.node("gateway,router,worker,approver", &config, &trusting);
    ready(&[&node]).await;
    let said = stand.chat(&url(&node), "one", "echo one").await;
    assert_eq!(said["status"], "success", "{said}");
    assert!(!stranger.is_ready(), "it does not know the certificate");
    let (_, shown) = stand.get(&url(&stranger), "/readyz").await;
    let why = shown["parts"]["redis"].as_str().unwrap_or_default().to_lowercase();
    assert!(why.contains("certificate"), "{shown}");
}
