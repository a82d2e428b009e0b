//! Which part of the past: a stretch of time and what it is about. Pure.

use std::borrow::Cow;

use aof_shared::clock::{UnixMs, rfc3339};
use serde::{Deserialize, Serialize};

use crate::about::About;

/// What is looked at unless a time is named, in milliseconds.
const DEFAULT_LAST_MS: u64 = 3_600_000;

/// Options that choose a part of the past.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct SliceArgs {
    /// From then on: 2026-01-31T12:00:00Z, or how long ago, as in 90s, 15m, 24h, 7d
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<Moment>,
    /// Until then [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to: Option<Moment>,
    /// The newest stretch of this length, instead of --from and --to [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = duration_ms, conflicts_with_all = ["from", "to"])]
    last: Option<u64>,
    #[command(flatten)]
    about: About,
}

/// A point in time as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// On the clock.
    At(UnixMs),
    /// So long ago.
    Ago(u64),
}

/// A part of the past.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Slice {
    /// From then on.
    pub(crate) from: String,
    /// Until then.
    pub(crate) to: String,
    pub(crate) from_ms: UnixMs,
    pub(crate) to_ms: UnixMs,
    /// What it is about, as parameters of the journal.
    pub(crate) about: Vec<(Cow<'static, str>, String)>,
}

impl SliceArgs {
    /// The slice that is meant at `now_ms`.
    ///
    /// # Errors
    /// When it ends before it begins.
    pub(crate) fn at(&self, now_ms: UnixMs) -> anyhow::Result<Slice> {
        let on_clock = |moment: Moment| match moment {
            Moment::At(at_ms) => at_ms,
            Moment::Ago(ago_ms) => now_ms.saturating_sub(ago_ms),
        };
        let to_ms = self.to.map_or(now_ms, on_clock);
        let last = Moment::Ago(self.last.unwrap_or(DEFAULT_LAST_MS));
        let from_ms = match self.from {
            Some(from) => on_clock(from),
            // One message is looked for in all that is kept.
            None if self.about.is_one() && self.last.is_none() => 0,
            None => on_clock(last).min(to_ms),
        };
        anyhow::ensure!(
            from_ms < to_ms,
            "the slice ends ({}) before it begins ({}): give --from an earlier time than --to",
            rfc3339(to_ms),
            rfc3339(from_ms)
        );
        let about = self.about.parameters();
        let about = about.into_iter().map(|(name, value)| (name.into(), value)).collect();
        Ok(Slice { from: rfc3339(from_ms), to: rfc3339(to_ms), from_ms, to_ms, about })
    }

    /// True when anything at all was chosen.
    pub(crate) fn is_set(&self) -> bool {
        let times = self.from.is_some() || self.to.is_some() || self.last.is_some();
        times || !self.about.parameters().is_empty()
    }
}

impl Slice {
    /// The newest `ms` milliseconds before `now_ms`, of everything.
    pub(crate) fn last(ms: u64, now_ms: UnixMs) -> Self {
        let from_ms = now_ms.saturating_sub(ms);
        let [from, to] = [from_ms, now_ms].map(rfc3339);
        Self { from, to, from_ms, to_ms: now_ms, about: Vec::new() }
    }
}

/// Reads a point in time.
fn moment(text: &str) -> Result<Moment, String> {
    if text == "now" {
        return Ok(Moment::Ago(0));
    }
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        let ms = UnixMs::try_from(at.as_millisecond());
        return ms.map(Moment::At).map_err(|_| "it is before 1970".to_owned());
    }
    duration_ms(text.trim_end_matches(" ago")).map(Moment::Ago).map_err(|_| {
        "write a time as 2026-01-31T12:00:00Z, or how long ago, as in 90s, 15m, 24h, 7d".to_owned()
    })
}

/// Reads a duration: a whole number with `s`, `m`, `h` or `d`.
pub(crate) fn duration_ms(text: &str) -> Result<u64, String> {
    let wrong = || "write a duration as 90s, 15m, 24h or 7d".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let unit_ms = match unit {
        's' => 1_000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        _ => return Err(wrong()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    count.checked_mul(unit_ms).filter(|ms| *ms > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = 1_705_314_600_000;

    #[test]
    fn durations_and_moments_are_read_as_people_write_them() {
        let check = |text: &str, expected: Option<Moment>| {
            assert_eq!(moment(text).ok(), expected, "{text}");
        };
        check("90s", Some(Moment::Ago(90_000)));
        check("15m ago", Some(Moment::Ago(900_000)));
        check("7d", Some(Moment::Ago(604_800_000)));
        check("now", Some(Moment::Ago(0)));
        check("2024-01-15T10:30:00Z", Some(Moment::At(NOW)));
        for bad in ["", "h", "0h", "-1h", "1w", "yesterday", "99999999999999999999d", "1.5h", "é"]
        {
            check(bad, None);
        }
    }

    #[test]
    fn a_slice_has_a_beginning_before_its_end() {
        let slice = SliceArgs::default().at(NOW).expect("the last hour");
        assert_eq!((slice.from_ms, slice.to_ms), (NOW - DEFAULT_LAST_MS, NOW));
        let args = SliceArgs { to: Some(Moment::Ago(60_000)), ..SliceArgs::default() };
        let args = SliceArgs { from: Some(Moment::Ago(30_000)), ..args };
        let error = args.at(NOW).expect_err("backwards").to_string();
        assert!(error.contains("before it begins") && error.contains("--from"), "{error}");
    }

    #[test]
    fn one_message_is_looked_for_in_all_that_is_kept() {
        let id = uuid::Uuid::from_u128(7);
        let about = About { message: Some(id), ..About::default() };
        let args = SliceArgs { about, ..SliceArgs::default() };
        let slice = args.at(NOW).expect("a slice");
        assert_eq!((slice.from_ms, slice.to_ms), (0, NOW));
        assert_eq!(slice.about, [("message_id".into(), id.to_string())]);
    }
}
