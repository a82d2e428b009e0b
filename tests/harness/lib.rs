//! Starts a real node as a process, a stand-in for Slack's API, and signs what Slack would sign.
#![expect(missing_docs, reason = "names say it all in a test harness")]

mod alertmanager;
mod api;
mod backend;
mod discord;
mod emulate;
mod jaeger;
mod manifests;
mod models;
mod node;
mod phones;
mod sign;
mod slack;
mod telegram;
mod tools;

pub use alertmanager::*;
pub use api::*;
pub use backend::*;
pub use discord::*;
pub use emulate::*;
pub use jaeger::*;
pub use manifests::*;
pub use models::*;
pub use node::*;
pub use phones::*;
pub use sign::*;
pub use slack::*;
pub use telegram::*;
pub use tools::*;

use std::time::{Duration, Instant};

/// Longest wait for anything in a test.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// Waits until `probe` gives something, or panics saying what was awaited.
pub async fn until<T, F>(what: &str, mut probe: F) -> T
where
    F: AsyncFnMut() -> Option<T>,
{
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < end, "waited {DEADLINE:?} in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
