//! Which channel a thread hangs below.

use serde::Deserialize;
use serde_json::Value;

use aof_shared::config::Instance;

use crate::platform::discord::is_snowflake;
use crate::reply::discord::{Discord, Route};

/// Threads remembered; of others Discord is asked again.
const MAX_THREADS: u64 = 50_000;
/// Types of threads. Source: Discord, "Channel Types".
const THREADS: std::ops::RangeInclusive<u64> = 10..=12;

/// The threads that the connection brought or that were asked for. Forgetting one costs a call.
pub(super) struct Threads(moka::sync::Cache<String, String>);

#[derive(Deserialize)]
struct Thread {
    id: String,
    #[serde(rename = "type", default)]
    kind: u64,
    #[serde(default)]
    parent_id: Option<String>,
}

impl Threads {
    pub(super) fn new() -> Self {
        Self(moka::sync::Cache::new(MAX_THREADS))
    }

    /// Remembers the threads in a dispatch that has some.
    pub(super) fn learn(&self, kind: &str, data: &str) {
        #[derive(Deserialize)]
        struct Many {
            #[serde(default)]
            threads: Vec<Thread>,
        }
        match kind {
            "GUILD_CREATE" | "THREAD_LIST_SYNC" => {
                let many = serde_json::from_str::<Many>(data).map(|many| many.threads);
                many.into_iter().flatten().for_each(|thread| self.add(thread));
            }
            "THREAD_CREATE" | "THREAD_UPDATE" => {
                serde_json::from_str(data).into_iter().for_each(|thread| self.add(thread));
            }
            _ => {}
        }
    }

    fn add(&self, thread: Thread) {
        let parent = thread.parent_id.filter(|id| is_snowflake(id));
        if let Some(parent) = parent.filter(|_| THREADS.contains(&thread.kind)) {
            self.0.insert(thread.id, parent);
        }
    }

    /// The parent of the channel that the message `data` is in, if that is a thread. Asks
    /// Discord where it is not known; without an answer the thread counts as a channel of its
    /// own, for which no flow is written.
    pub(super) async fn parent_of(
        &self,
        data: &str,
        discord: &Discord,
        instance: &Instance,
    ) -> Option<String> {
        #[derive(Deserialize)]
        struct Written {
            channel_id: String,
            /// Only messages in threads have one.
            #[serde(default)]
            position: Option<Value>,
        }
        let written: Written = serde_json::from_str(data).ok()?;
        if let Some(parent) = self.0.get(&written.channel_id) {
            return Some(parent);
        }
        written.position.filter(|_| is_snowflake(&written.channel_id))?;
        let route = Route::Channel { channel: &written.channel_id };
        match discord.call(instance, route, None).await {
            Ok(channel) => {
                serde_json::from_value(channel).into_iter().for_each(|thread| self.add(thread));
            }
            Err(error) => {
                tracing::info!(instance.name = %instance.name, %error, "a thread stays unknown");
            }
        }
        self.0.get(&written.channel_id)
    }
}
