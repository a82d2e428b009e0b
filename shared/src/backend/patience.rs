//! Waits for servers that are down when a node starts. One log line a change, never one a try.

use std::time::Duration;

use tokio::time::Instant;

use super::BackendError;
use crate::lifecycle::Lifecycle;
use crate::node::Health;

/// First and longest pause between two tries, in ms; doubles in between.
const FIRST_PAUSE_MS: u64 = 250;
const MAX_PAUSE_MS: u64 = 5_000;
/// Longest try; migrations of a large database are the longest there are.
const TRY: Duration = Duration::from_secs(60);

/// A server of a cluster.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// Its name in health.
    pub(crate) part: &'static str,
    /// Its name for people.
    pub(crate) name: &'static str,
    /// Where it is, without credentials.
    pub(crate) at: String,
}

/// Why a try came to nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It may be there later.
    Away(String),
    /// It will be no better later: what is wrong and what to do.
    Refused(String),
}

/// Who waits: where it is shown, and what ends it.
#[derive(Debug, Clone, Copy)]
pub struct Waiting<'a> {
    /// Shows what is waited for.
    pub health: &'a Health,
    /// Ends the wait when it stops.
    pub lifecycle: &'a Lifecycle,
}

impl Waiting<'_> {
    /// Tries until it opens. Meanwhile readiness says what is waited for.
    ///
    /// # Errors
    /// [`BackendError::Refused`] at once when waiting cannot help, [`BackendError::Stopped`]
    /// when the node was told to stop.
    pub(crate) async fn open<T>(
        &self,
        server: &Server,
        mut attempt: impl AsyncFnMut() -> Result<T, Failure>,
    ) -> Result<T, BackendError> {
        let Server { part, name, at } = server;
        let began = Instant::now();
        let mut pause_ms = FIRST_PAUSE_MS;
        let mut said = String::new();
        self.health.down(part, format!("waiting for {name} at {at}"));
        loop {
            let tried = tokio::select! {
                () = self.lifecycle.stopped() => return Err(BackendError::Stopped),
                tried = tokio::time::timeout(TRY, attempt()) => tried,
            };
            let reason = match tried {
                Ok(Ok(opened)) => {
                    if !said.is_empty() {
                        let waited_s = began.elapsed().as_secs();
                        tracing::info!(waited_s, "{name} at {at} is there");
                    }
                    self.health.up(part);
                    return Ok(opened);
                }
                Ok(Err(Failure::Refused(reason))) => {
                    return Err(BackendError::Refused { reason });
                }
                Ok(Err(Failure::Away(reason))) => reason,
                Err(_) => format!("no answer in {} s", TRY.as_secs()),
            };
            if reason != said {
                tracing::warn!(reason, "waiting for {name} at {at}");
                self.health.down(part, format!("waiting for {name} at {at}: {reason}"));
                said = reason;
            }
            tokio::select! {
                () = self.lifecycle.stopped() => return Err(BackendError::Stopped),
                () = tokio::time::sleep(Duration::from_millis(pause_ms)) => {}
            }
            pause_ms = (pause_ms * 2).min(MAX_PAUSE_MS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        Server { part: "nats", name: "NATS", at: "nats://host:4222".to_owned() }
    }

    #[tokio::test]
    async fn waits_for_what_is_away_and_says_so() {
        let (health, lifecycle) = (Health::default(), Lifecycle::new());
        let patience = Waiting { health: &health, lifecycle: &lifecycle };
        let mut tries = 0;
        let opened = patience
            .open(&server(), async || {
                tries += 1;
                if tries == 1 {
                    return Err(Failure::Away("connection refused".to_owned()));
                }
                assert!(!health.ready());
                let why = health.parts()["nats"].clone().expect("a reason");
                assert_eq!(why, "waiting for NATS at nats://host:4222: connection refused");
                Ok("open")
            })
            .await;
        assert_eq!(opened.expect("it opens"), "open");
        assert!(health.ready());
    }

    #[tokio::test]
    async fn does_not_wait_for_what_will_not_pass() {
        let (health, lifecycle) = (Health::default(), Lifecycle::new());
        let patience = Waiting { health: &health, lifecycle: &lifecycle };
        let refused = patience
            .open::<()>(&server(), async || Err(Failure::Refused("too old".to_owned())))
            .await;
        let text = refused.expect_err("refused").to_string();
        assert_eq!(text, "too old");
        let stopping = async {
            tokio::task::yield_now().await;
            lifecycle.stop();
        };
        let server = server();
        let waiting = patience.open::<()>(&server, async || Err(Failure::Away("down".to_owned())));
        let (ended, ()) = tokio::join!(waiting, stopping);
        assert!(matches!(ended, Err(BackendError::Stopped)));
    }
}
