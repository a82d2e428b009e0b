//! Someone who follows an organization's journal through everything, and comes back with
//! the id of the last event that came.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aof_harness::Api;
use eventsource_stream::Eventsource;
use futures_util::StreamExt;
use serde_json::Value;

/// Longest silence of a stream that lives: heartbeats come every 15 s.
const SILENCE: Duration = Duration::from_secs(20);
/// Pause before the next try to connect.
const AGAIN: Duration = Duration::from_millis(200);

/// What came.
#[derive(Default)]
pub(crate) struct Followed {
    /// Sequence number of each event, in the order they came.
    pub(crate) seqs: Vec<u64>,
    /// Events of another organization, and what else must not come.
    pub(crate) wrong: Vec<String>,
    /// Streams that broke off.
    pub(crate) broken: u64,
}

/// Follows until aborted.
pub(crate) async fn follow(api: Api, followed: Arc<Mutex<Followed>>) {
    let url = format!("{}/accounts/{}/events?after=0", api.url, api.account);
    loop {
        let last = followed.lock().expect("ok").seqs.last().copied();
        let mut asked = api.http.get(&url).bearer_auth(&api.key);
        if let Some(last) = last {
            asked = asked.header("last-event-id", last.to_string());
        }
        let answer = tokio::time::timeout(SILENCE, asked.send()).await;
        if let Ok(Ok(answer)) = answer
            && answer.status().is_success()
        {
            // Heartbeats are comments, which the parser swallows: the raw bytes show life.
            let alive = Box::pin(answer.bytes_stream());
            let bytes = futures_util::stream::unfold(alive, async |mut bytes| {
                let next = tokio::time::timeout(SILENCE, bytes.next()).await.ok()??;
                Some((next, bytes))
            });
            let mut events = Box::pin(bytes.eventsource());
            while let Some(Ok(event)) = events.next().await {
                take(&api.account, &event, &mut followed.lock().expect("ok"));
            }
        }
        followed.lock().expect("ok").broken += 1;
        tokio::time::sleep(AGAIN).await;
    }
}

fn take(account: &str, event: &eventsource_stream::Event, followed: &mut Followed) {
    let Ok(seq) = event.id.parse::<u64>() else {
        if event.event != "broken" {
            followed.wrong.push(format!("{account}: `{}` came: {}", event.event, event.data));
        }
        return;
    };
    let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
    if data["tenant"] != account {
        followed.wrong.push(format!("{account} saw an event of {}", data["tenant"]));
    }
    if followed.seqs.last().is_some_and(|last| *last >= seq) {
        followed.wrong.push(format!("{account} saw event {seq} after {:?}", followed.seqs.last()));
    }
    followed.seqs.push(seq);
}
