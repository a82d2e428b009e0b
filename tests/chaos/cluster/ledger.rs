//! The ledger: what was accepted against what became of it, promise by promise.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use super::ran::{self, Ran};
use super::topology::{LIMITED, PER_MINUTE};
use super::traffic::Plan;

/// Event types that end a message; those of a run's dead letter come beside its own end.
const TERMINAL: [&str; 5] =
    ["run.completed", "run.failed", "message.ignored", "message.unrouted", "dead_letter.added"];
/// Microseconds between a run's admission and its tool's start, at most, for it to count
/// towards the window below.
const ADMITTED_US: u64 = 3_000_000;
/// Shorter than a minute by [`ADMITTED_US`]: of starts within it all were admitted within
/// one minute.
const WINDOW_US: u64 = 57_000_000;
/// Violations of one kind that are shown.
const SHOWN: usize = 8;

/// What is known when everything is settled.
pub(crate) struct Known {
    /// Key and message of what was accepted.
    pub(crate) accepted: BTreeMap<String, String>,
    /// Key, status and text of what was answered over the chat API.
    pub(crate) answered: HashMap<String, (String, String)>,
    /// The journal of each organization.
    pub(crate) journals: BTreeMap<String, Vec<Value>>,
    /// What tools wrote.
    pub(crate) ran: BTreeMap<String, Vec<Ran>>,
    /// How often each run's output was posted at Slack.
    pub(crate) posted: HashMap<String, u64>,
}

/// A message's ends, as the journal has them.
#[derive(Debug, Default, Clone)]
struct Fate {
    ends: Vec<String>,
    reasons: Vec<String>,
    runs: BTreeSet<String>,
    starts: u64,
    replies: BTreeSet<String>,
}

/// The columns, and what is wrong.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) columns: BTreeMap<&'static str, u64>,
    pub(crate) ends: BTreeMap<String, u64>,
    pub(crate) reasons: BTreeMap<String, u64>,
    pub(crate) answers: BTreeMap<String, u64>,
    pub(crate) broken: BTreeMap<&'static str, Vec<String>>,
}

/// True when every accepted message has an end.
pub(crate) fn is_settled(
    accepted: &BTreeMap<String, String>,
    journals: &BTreeMap<String, Vec<Value>>,
) -> bool {
    let fates = fates(journals);
    accepted.values().all(|id| fates.get(id).is_some_and(|fate| !fate.ends.is_empty()))
}

/// Every message that a journal names.
fn fates(journals: &BTreeMap<String, Vec<Value>>) -> HashMap<String, Fate> {
    let mut fates: HashMap<String, Fate> = HashMap::new();
    for event in journals.values().flatten() {
        let Some(message) = event["message_id"].as_str() else { continue };
        let kind = event["type"].as_str().unwrap_or_default();
        let fate = fates.entry(message.to_owned()).or_default();
        let of_run = kind == "dead_letter.added" && event["run_id"].is_string();
        if TERMINAL.contains(&kind) && !of_run {
            fate.ends.push(event["data"]["status"].as_str().unwrap_or(kind).to_owned());
            let reason = event["data"]["reason"].as_str();
            fate.reasons.extend(reason.map(str::to_owned));
        }
        // Why an approved action was refused all the same.
        let outcome = event["data"]["outcome"].as_str().filter(|_| kind == "action.failed");
        let refused = outcome.filter(|outcome| outcome.starts_with("refused: "));
        fate.reasons.extend(refused.map(str::to_owned));
        match kind {
            "run.started" => {
                fate.starts += 1;
                fate.runs.extend(event["run_id"].as_str().map(str::to_owned));
            }
            "reply.sent" | "reply.failed" => {
                fate.replies.insert(kind.to_owned());
            }
            _ => {}
        }
    }
    fates
}

impl Ledger {
    /// Balances everything.
    pub(crate) fn of(known: &Known) -> Self {
        let mut ledger = Self::default();
        let fates = fates(&known.journals);
        ledger.messages(known, &fates);
        ledger.runs(known, &fates);
        ledger.walls(known);
        ledger.limits(known);
        let events = known.journals.values().flatten();
        let mut kinds: HashMap<&str, u64> = HashMap::new();
        for event in events {
            *kinds.entry(event["type"].as_str().unwrap_or_default()).or_default() += 1;
        }
        let count = |kind: &str| kinds.get(kind).copied().unwrap_or_default();
        ledger.columns.extend([
            ("dead-lettered", count("dead_letter.added")),
            ("actions approved", count("action.approved")),
            ("actions uncertain", count("action.uncertain")),
            ("replies sent", count("reply.sent")),
            ("replies failed or unknown", count("reply.failed")),
        ]);
        ledger
    }

    fn break_(&mut self, promise: &'static str, what: impl IntoIterator<Item = String>) {
        let mut what = what.into_iter().peekable();
        if what.peek().is_some() {
            self.broken.entry(promise).or_default().extend(what);
        }
    }

    /// accepted-is-durable, one-terminal-event, one-run.
    fn messages(&mut self, known: &Known, fates: &HashMap<String, Fate>) {
        let none = Fate::default();
        for (key, id) in &known.accepted {
            let fate = fates.get(id).unwrap_or(&none);
            if fate.ends.is_empty() {
                self.break_("accepted-is-durable", [format!("{key} ({id}) has no end")]);
            }
            if let Some(end) = fate.ends.first() {
                *self.ends.entry(end.clone()).or_default() += 1;
            }
            for reason in &fate.reasons {
                *self.reasons.entry(reason.clone()).or_default() += 1;
            }
            if let Some((status, _)) = known.answered.get(key)
                && !matches!(status.as_str(), "held" | "accepted")
                && !fate.ends.contains(status)
            {
                let what = format!("{key} was answered {status} and ended {:?}", fate.ends);
                self.break_("one-terminal-event", [what]);
            }
        }
        for (id, fate) in fates {
            if fate.ends.len() > 1 {
                self.break_("one-terminal-event", [format!("{id} ended {:?}", fate.ends)]);
            }
            if fate.runs.len() > 1 || fate.starts > 1 {
                let what = format!("{id} has {} runs, {} starts", fate.runs.len(), fate.starts);
                self.break_("one-run", [what]);
            }
        }
        for (status, _) in known.answered.values() {
            *self.answers.entry(status.clone()).or_default() += 1;
        }
        let told = known.answered.values().filter(|(status, _)| status != "accepted").count();
        self.columns.extend([
            ("accepted", known.accepted.len() as u64),
            ("journaled", fates.len() as u64),
            ("chats answered", told as u64),
        ]);
    }

    /// one-run, no-quorum-no-action, in-order-conversations, and that success is true.
    fn runs(&mut self, known: &Known, fates: &HashMap<String, Fate>) {
        let twice: Vec<String> = known
            .ran
            .iter()
            .filter(|(_, runs)| runs.len() > 1)
            .map(|(key, runs)| format!("{key}: {runs:?}"))
            .collect();
        let held = |key: &String| Plan::of_key(key).is_some_and(|plan| plan == Plan::Approved);
        let executed = known.ran.keys().filter(|key| held(key)).count();
        let never = |plan| matches!(plan, Some(Plan::Denied | Plan::Expires | Plan::Refused));
        let against: Vec<String> =
            known.ran.keys().filter(|key| never(Plan::of_key(key))).cloned().collect();
        let (held_twice, run_twice): (Vec<String>, Vec<String>) = twice
            .into_iter()
            .partition(|what| what.split(':').next().is_some_and(|key| held(&key.to_owned())));
        let posted: Vec<String> = known
            .posted
            .iter()
            .filter(|(_, times)| **times > 1)
            .map(|(key, times)| format!("{key} was posted {times} times"))
            .collect();
        let mut untrue = Vec::new();
        for (key, id) in &known.accepted {
            let ended = fates.get(id).and_then(|fate| fate.ends.first()).map(String::as_str);
            let ran = known.ran.get(key).and_then(|runs| runs.first());
            if ended == Some("success") && ran.is_none_or(|ran| ran.end_us.is_none()) {
                untrue.push(format!("{key} succeeded, but its tool did not end: {ran:?}"));
            }
        }
        let cut_off = |key: &str| {
            let id = known.accepted.get(key);
            let reasons = id.and_then(|id| fates.get(id)).map(|fate| &fate.reasons);
            reasons
                .is_some_and(|all| all.iter().any(|r| r == "unknown_outcome" || r == "uncertain"))
        };
        let disordered = ran::disordered(&known.ran, cut_off);
        self.columns.extend([
            ("tools run", known.ran.len() as u64),
            ("run twice", run_twice.len() as u64),
            ("held actions executed", executed as u64),
            ("executed twice", held_twice.len() as u64),
            ("executed without quorum", against.len() as u64),
            ("ordered wrongly", disordered.len() as u64),
            ("answers posted twice", posted.len() as u64),
        ]);
        self.break_("one-run", run_twice);
        self.break_("no-quorum-no-action", held_twice.into_iter().chain(against));
        self.break_("in-order-conversations", disordered);
        self.break_("outbound-once", posted);
        self.break_("success-is-true", untrue);
    }

    /// tenant-wall.
    fn walls(&mut self, known: &Known) {
        let mut seen = Vec::new();
        for (key, runs) in &known.ran {
            let whose = key.split('/').next().unwrap_or_default();
            let others = runs.iter().filter(|run| run.whose != whose);
            seen.extend(others.map(|run| format!("{key} ran as {}", run.whose)));
        }
        for (tenant, journal) in &known.journals {
            let others = journal.iter().filter(|event| event["tenant"] != tenant.as_str());
            seen.extend(others.map(|event| format!("{tenant} reads {event}")));
            // Every key names its organization, wherever in an event it stands.
            let text: String = journal.iter().map(Value::to_string).collect();
            let others = known.journals.keys().filter(|other| *other != tenant);
            let named = others.filter(|other| text.contains(&format!("{other}/")));
            seen.extend(named.map(|other| format!("{tenant} reads keys of {other}")));
        }
        for (key, (_, answer)) in &known.answered {
            if answer.contains("ran:") && !answer.contains(&format!("ran:{key}:")) {
                seen.push(format!("{key} was answered {answer:?}"));
            }
        }
        self.columns.insert("another tenant's seen", seen.len() as u64);
        self.break_("tenant-wall", seen);
    }

    /// exact-limits.
    fn limits(&mut self, known: &Known) {
        let (together, of_user, mut over) = ran::over_places(&known.ran);
        let begun = begun(&known.journals[LIMITED], &known.accepted);
        let mut starts: Vec<u64> = known
            .ran
            .iter()
            .filter_map(|(key, runs)| {
                let (begun_us, run) = (begun.get(key.as_str())?, runs.first()?);
                (run.start_us.saturating_sub(*begun_us) < ADMITTED_US).then_some(run.start_us)
            })
            .collect();
        starts.sort_unstable();
        let within =
            |at: usize| starts[at..].partition_point(|start| *start < starts[at] + WINDOW_US);
        let most = (0..starts.len()).map(within).max().unwrap_or_default();
        if most > PER_MINUTE {
            over.push(format!("{most} runs started within a minute, of {PER_MINUTE}"));
        }
        self.columns.extend([
            ("over limit", over.len() as u64),
            ("most tools at once", together as u64),
            ("most of one user", of_user as u64),
            ("most a minute", most as u64),
        ]);
        self.break_("exact-limits", over);
    }

    /// Prints the columns and what is broken.
    pub(crate) fn print(&self) {
        for (column, count) in &self.columns {
            println!("  {column:28} {count:>8}");
        }
        println!("  ended: {:?}\n  reasons: {:?}", self.ends, self.reasons);
        println!("  chats were answered: {:?}", self.answers);
        for (promise, what) in &self.broken {
            println!("BROKEN {promise}: {} times", what.len());
            what.iter().take(SHOWN).for_each(|what| println!("    {what}"));
        }
    }
}

/// When each key's run began, in microseconds since the epoch.
fn begun<'a>(journal: &[Value], accepted: &'a BTreeMap<String, String>) -> HashMap<&'a str, u64> {
    let keys: HashMap<&str, &str> =
        accepted.iter().map(|(key, id)| (id.as_str(), key.as_str())).collect();
    let started = journal.iter().filter(|event| event["type"] == "run.started");
    started
        .filter_map(|event| {
            let key = keys.get(event["message_id"].as_str()?)?;
            let time: jiff::Timestamp = event["time"].as_str()?.parse().ok()?;
            Some((*key, u64::try_from(time.as_microsecond()).ok()?))
        })
        .collect()
}
