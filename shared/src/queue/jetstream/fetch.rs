//! Payloads that are not near, read back from the stream.

use std::collections::HashMap;

use async_nats::jetstream::stream::{DirectGetErrorKind, RawMessageErrorKind, Stream as Handle};
use futures_util::{StreamExt, stream};

use crate::queue::Stored;
use crate::subject::Stream;

use super::connect::Link;
use super::message::from_stream;

/// Messages asked for at once.
const MAX_IN_FLIGHT: usize = 64;

/// Reads messages. `None`: it is gone, says the stream's leader; absent: it could not be read.
pub(super) async fn fetch(
    link: &Link,
    stream: Stream,
    seqs: Vec<u64>,
) -> HashMap<u64, Option<Stored>> {
    let handle = match link.context.get_stream_no_info(link.stream(stream)).await {
        Ok(handle) => handle,
        Err(error) => {
            tracing::debug!(%stream, %error, "messages could not be read back");
            return HashMap::new();
        }
    };
    let reads = seqs.into_iter().map(|seq| {
        let handle = &handle;
        async move { one(link, handle, seq).await.map(|found| (seq, found)) }
    });
    stream::iter(reads)
        .buffer_unordered(MAX_IN_FLIGHT)
        .filter_map(std::future::ready)
        .collect()
        .await
}

/// Any copy may answer; one that lags does not know the newest, so only the leader's word
/// counts when a message is not there.
async fn one(link: &Link, handle: &Handle<()>, seq: u64) -> Option<Option<Stored>> {
    let found = match handle.direct_get(seq).await {
        Ok(found) => found,
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => {
            match handle.get_raw_message(seq).await {
                Ok(found) => found,
                Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => {
                    return Some(None);
                }
                Err(_) => return None,
            }
        }
        Err(_) => return None,
    };
    match from_stream(&link.space, found) {
        Ok(incoming) => Some(Some(incoming.stored)),
        // Nobody can read it, now or later.
        Err(_) => Some(None),
    }
}
