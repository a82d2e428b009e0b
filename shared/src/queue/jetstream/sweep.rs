//! Takes what is done out of a work queue, behind the consumers' back.

use std::sync::Arc;

use futures_util::{StreamExt, stream};

use crate::queue::BoxError;
use crate::subject::Stream;

use super::connect::Link;
use super::progress::Progress;
use super::ranges::Ranges;

/// Messages taken out one by one in a sweep: those above one that is not done.
const MAX_SINGLES: usize = 1_024;
/// Taken out at once.
const MAX_IN_FLIGHT: usize = 32;
/// Done messages above the floor that are left alone: the floor will get there.
const SPARED: usize = 4;

/// What was taken out.
#[derive(Default)]
pub(super) struct Swept {
    /// Everything up to here.
    floor: u64,
    /// One by one, above it.
    singles: Ranges,
}

/// What is to be taken out.
#[derive(Default)]
pub(super) struct Sweep {
    /// Everything up to here.
    floor: Option<u64>,
    singles: Vec<u64>,
}

impl Swept {
    /// What is done and still there.
    pub(super) fn plan(&mut self, progress: &Progress) -> Option<Sweep> {
        let floor = Some(progress.floor()).filter(|floor| *floor > self.floor);
        let mut singles = Vec::new();
        if floor.is_none() && progress.above().len() > SPARED {
            let done = progress.above().iter().flat_map(|(first, last)| first..=last);
            singles.extend(done.filter(|seq| !self.singles.contains(*seq)).take(MAX_SINGLES));
        }
        (floor.is_some() || !singles.is_empty()).then_some(Sweep { floor, singles })
    }

    /// A sweep ended well.
    pub(super) fn done(&mut self, sweep: &Sweep) {
        if let Some(floor) = sweep.floor {
            self.floor = floor;
            self.singles.forget_to(floor);
        }
        for seq in &sweep.singles {
            self.singles.insert(*seq, *seq);
        }
    }
}

/// Takes it out. Whatever stays is tried again: nothing depends on it but room.
pub(super) async fn run(
    link: Arc<Link>,
    stream: Stream,
    rest: Option<String>,
    sweep: Sweep,
) -> Result<Sweep, BoxError> {
    let handle = link.context.get_stream_no_info(link.stream(stream)).await?;
    if let Some(floor) = sweep.floor {
        let purge = handle.purge().sequence(floor + 1);
        match rest {
            None => purge.await?,
            Some(rest) => {
                let filter = link.space.filters(stream, None, &[rest]).remove(0);
                purge.filter(filter).await?
            }
        };
    }
    let subject = format!("STREAM.MSG.DELETE.{}", link.stream(stream));
    let deletes = sweep.singles.clone().into_iter().map(|seq| {
        // Not overwritten with noise: it need not be unreadable, only gone.
        let body = serde_json::json!({ "seq": seq, "no_erase": true });
        let (link, subject) = (&link, subject.clone());
        async move {
            let answer: Result<serde_json::Value, _> = link.context.request(subject, &body).await;
            answer.map(drop)
        }
    });
    let ended: Vec<Result<(), _>> =
        stream::iter(deletes).buffer_unordered(MAX_IN_FLIGHT).collect().await;
    ended.into_iter().collect::<Result<(), _>>()?;
    Ok(sweep)
}
