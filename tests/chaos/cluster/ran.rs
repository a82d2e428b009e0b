//! What tools really did, from the lines that they wrote.

use std::collections::{BTreeMap, HashMap};

use super::topology::{MAX_TASKS, MAX_USER_TASKS};
use super::traffic::Plan;

/// One start of a tool, in microseconds since the epoch.
#[derive(Debug, Clone)]
pub(crate) struct Ran {
    pub(crate) start_us: u64,
    /// `None`: it was ended before its end.
    pub(crate) end_us: Option<u64>,
    /// Whose environment it had.
    pub(crate) whose: String,
}

/// Every start, by key.
pub(crate) fn read(lines: &str) -> BTreeMap<String, Vec<Ran>> {
    let mut all: BTreeMap<String, Vec<Ran>> = BTreeMap::new();
    for line in lines.lines() {
        let mut words = line.split(' ');
        let (Some(at), Some(what), Some(key), Some(whose)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            panic!("not a line of a tool: {line:?}");
        };
        let at_us: u64 = at.replace('.', "").parse().expect("seconds and microseconds");
        let runs = all.entry(key.to_owned()).or_default();
        match (what, runs.last_mut()) {
            ("end", Some(run)) => run.end_us = Some(at_us),
            _ => runs.push(Ran { start_us: at_us, end_us: None, whose: whose.to_owned() }),
        }
    }
    all
}

/// Organization, conversation and number of a key.
fn parts(key: &str) -> Option<(&str, u64)> {
    let (line, n) = key.rsplit_once('/')?;
    Some((line, n.parse().ok()?))
}

/// Messages of one conversation whose tools started in another order than they were
/// accepted, or before the one before had ended. What was held goes on when people have
/// decided, so only its overlaps count. What was cut off ended nobody knows when, and whoever
/// asked was told so: a suspended host's tool ends after its run, when the host goes on.
pub(crate) fn disordered(
    all: &BTreeMap<String, Vec<Ran>>,
    is_cut_off: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut lines: HashMap<&str, Vec<(u64, &Ran, &str)>> = HashMap::new();
    for (key, runs) in all {
        let Some((line, n)) = parts(key) else { continue };
        lines.entry(line).or_default().extend(runs.iter().map(|run| (n, run, key.as_str())));
    }
    let mut wrong = Vec::new();
    for runs in lines.values_mut() {
        runs.sort_by_key(|(_, run, _)| run.start_us);
        let (mut ended, mut newest) = ((0, ""), (0, ""));
        for (n, run, key) in runs {
            if run.start_us < ended.0 && !is_cut_off(key) {
                wrong.push(format!("{key} started before {} had ended", ended.1));
            }
            let known = run.end_us.filter(|_| !is_cut_off(key));
            if let Some(end_us) = known.filter(|end_us| *end_us > ended.0) {
                ended = (end_us, key);
            }
            if Plan::of_key(key) == Some(Plan::Runs) && !is_cut_off(key) {
                if *n < newest.0 {
                    wrong.push(format!("{key} started after {}", newest.1));
                }
                newest = (*n, key);
            }
        }
    }
    wrong
}

/// Most tools that ran at once, of those for which `of` gives the same.
fn most_at_once<K: std::hash::Hash + Eq>(
    all: &BTreeMap<String, Vec<Ran>>,
    of: impl Fn(&str) -> Option<K>,
) -> usize {
    let mut changes: HashMap<K, Vec<(u64, i64)>> = HashMap::new();
    for (key, runs) in all {
        let Some(group) = of(key) else { continue };
        let ended = runs.iter().filter_map(|run| Some((run.start_us, run.end_us?)));
        let changes = changes.entry(group).or_default();
        changes.extend(ended.flat_map(|(start, end)| [(start, 1), (end, -1)]));
    }
    let most = |mut changes: Vec<(u64, i64)>| {
        changes.sort_unstable();
        let mut now = 0;
        changes
            .iter()
            .map(|(_, change)| {
                now += change;
                now
            })
            .max()
            .unwrap_or_default()
    };
    let most = changes.into_values().map(most).max().unwrap_or_default();
    usize::try_from(most).unwrap_or_default()
}

/// More at once than there are places, for all and for one user.
pub(crate) fn over_places(all: &BTreeMap<String, Vec<Ran>>) -> (usize, usize, Vec<String>) {
    let together = most_at_once(all, |_| Some(()));
    let of_user = most_at_once(all, |key| {
        let (line, _) = parts(key)?;
        let (tenant, name) = line.split_once('/')?;
        let slack = name.strip_prefix('s').and_then(|at| at.parse::<u64>().ok());
        slack.map(|at| (tenant.to_owned(), at % 2))
    });
    let mut wrong = Vec::new();
    if together > MAX_TASKS {
        wrong.push(format!("{together} tools ran at once, of {MAX_TASKS} places"));
    }
    if of_user > MAX_USER_TASKS {
        wrong.push(format!("{of_user} tools of one user ran at once, of {MAX_USER_TASKS} places"));
    }
    (together, of_user, wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_overlap_and_places_are_seen() {
        let all = read(
            "1.000001 start t/s0/1 t\n1.000003 start t/s0/0 t\n1.000004 end t/s0/1 t\n\
             1.000005 end t/s0/0 t\n1.000006 start t/s0/2 t\n",
        );
        let wrong = disordered(&all, |key| key == "t/s0/2");
        assert_eq!(
            wrong,
            ["t/s0/0 started before t/s0/1 had ended", "t/s0/0 started after t/s0/1"]
                .map(str::to_owned),
            "{wrong:?}"
        );
        assert_eq!(over_places(&all).0, 2);
        assert_eq!(all["t/s0/2"][0].end_us, None);
    }
}
