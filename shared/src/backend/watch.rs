//! Asks the servers of a cluster once a second whether they answer, so that readiness says
//! which one is away and since when.
//!
//! The roles' own loops find out by themselves and wait; this is what people and load
//! balancers see. What a node can serve without keeps it ready: a gateway accepts messages
//! while Redis or PostgreSQL is away, and what needs them waits.

use std::time::Duration;

use crate::clock::rfc3339;
use crate::node::Node;
use crate::subject::Stream;

/// How often each server is asked.
const EVERY: Duration = Duration::from_secs(1);
/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(2);
/// What is asked for: nobody has it.
const PROBE: &str = "probe";
/// Questions without an answer after which a server is away: one may be lost.
const MISSES: u32 = 2;

/// Which servers a node cannot do without.
#[derive(Debug, Clone, Copy)]
pub struct Needs {
    /// Limits.
    pub redis: bool,
    /// Records.
    pub postgres: bool,
}

/// A server as it is watched.
struct Watched {
    part: &'static str,
    name: &'static str,
    needed: bool,
}

/// Watches until the node stops. Every node needs NATS.
pub async fn run(node: Node, needs: Needs) {
    let nats = Watched { part: super::NATS, name: "NATS", needed: true };
    let redis = Watched { part: super::REDIS, name: "Redis", needed: needs.redis };
    let postgres = Watched { part: super::POSTGRES, name: "PostgreSQL", needed: needs.postgres };
    let ports = &node.ports;
    tokio::join!(
        watch(&node, nats, || async {
            let answer = ports.queue.bounds(Stream::Inbound).await;
            answer.map(drop).map_err(|error| error.to_string())
        }),
        watch(&node, redis, || async {
            let answer = ports.limits.spent(PROBE, 0).await;
            answer.map(drop).map_err(|error| error.to_string())
        }),
        watch(&node, postgres, || async {
            let answer = ports.store.key_by_hash(PROBE).await;
            answer.map(drop).map_err(|error| error.to_string())
        }),
    );
}

async fn watch<F>(node: &Node, server: Watched, probe: impl Fn() -> F)
where
    F: Future<Output = Result<(), String>>,
{
    let Watched { part, name, needed } = server;
    let mut answered_at_ms = node.ports.clock.now_ms();
    let mut misses = 0;
    loop {
        let answer = tokio::select! {
            () = node.lifecycle.stopped() => return,
            answer = tokio::time::timeout(ANSWER, probe()) => answer,
        };
        let answer =
            answer.unwrap_or_else(|_| Err(format!("no answer in {} ms", ANSWER.as_millis())));
        let now_ms = node.ports.clock.now_ms();
        match answer {
            Ok(()) => {
                if misses >= MISSES {
                    let away_s = now_ms.saturating_sub(answered_at_ms) / 1_000;
                    tracing::info!(away_s, "{name} is back");
                }
                (misses, answered_at_ms) = (0, now_ms);
                node.health.up(part);
            }
            Err(reason) => {
                misses += 1;
                let why = format!("{name} is away since {}: {reason}", rfc3339(answered_at_ms));
                if misses == MISSES {
                    tracing::warn!(reason, "{name} is away");
                }
                if misses >= MISSES && needed {
                    node.health.down(part, why);
                } else if misses >= MISSES {
                    node.health.lacking(part, why);
                }
            }
        }
        let _ = tokio::time::timeout(EVERY, node.lifecycle.stopped()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::clock::SystemClock;
    use crate::config::{Config, Snapshot};
    use crate::lifecycle::Lifecycle;
    use crate::node::Health;

    /// Longest wait for a change.
    const DEADLINE: Duration = Duration::from_secs(20);

    async fn until(what: &str, mut probe: impl FnMut() -> bool) {
        let wait = async {
            while !probe() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("no {what}"));
    }

    #[tokio::test]
    async fn an_outage_is_shown_with_its_beginning_and_ends_by_itself() {
        let dir = tempfile::tempdir().expect("a folder");
        let backend = Lifecycle::new();
        let ports = crate::backend::open_embedded(dir.path(), Arc::new(SystemClock), &backend);
        let node = Node {
            ports: ports.expect("it opens"),
            config: Config::new(Snapshot::default()),
            metrics: Arc::default(),
            tracer: Default::default(),
            health: Health::default(),
            members: Default::default(),
            lifecycle: Lifecycle::new(),
        };
        let away = Arc::new(AtomicBool::new(true));
        for (part, needed) in [("nats", true), ("redis", false)] {
            let (node, away) = (node.clone(), Arc::clone(&away));
            let server = Watched { part, name: "It", needed };
            node.clone().lifecycle.spawn(async move {
                watch(&node, server, || {
                    let away = away.load(Ordering::SeqCst);
                    std::future::ready(if away { Err("refused".to_owned()) } else { Ok(()) })
                })
                .await;
            });
        }
        let health = &node.health;
        let shown = |part| health.parts().get(part).cloned().flatten().unwrap_or_default();
        until("outage", || !shown("nats").is_empty() && !shown("redis").is_empty()).await;
        assert!(shown("redis").starts_with("It is away since 20"), "{}", shown("redis"));
        assert!(!health.ready(), "it is needed");
        away.store(false, Ordering::SeqCst);
        until("recovery", || shown("nats").is_empty() && shown("redis").is_empty()).await;
        assert!(health.ready());
        node.lifecycle.stop();
        node.lifecycle.drained().await;
    }
}
