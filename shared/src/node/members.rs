//! Who else is in the cluster: every node says every two seconds who it is, and what the
//! others say is compared with what this one does.
//!
//! Signals may be lost, so nothing is decided by this: it is what operators see, and what
//! warns them of nodes that were configured or set differently.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use uuid::Uuid;

use super::Node;
use crate::clock::UnixMs;
use crate::subject::LiveSubject;
use crate::telemetry::WarningLabels;

/// How often a node says that it is there.
const ANNOUNCE: Duration = Duration::from_secs(2);
/// A node silent for so long is gone: four announcements may be lost.
const GONE_AFTER: Duration = Duration::from_secs(10);
/// Nodes remembered; more are not shown.
const MAX_MEMBERS: usize = 1_000;
/// Nodes that one warning names.
const MAX_NAMED: usize = 5;
/// Clocks further apart than this are warned of, in ms. Limits, expiries and day budgets
/// are decided by several clocks.
const MAX_SKEW_MS: i64 = 2_000;
/// Announcements over which the clock is judged: one that came late says nothing.
const CLOCK_SAMPLES: usize = 5;
/// An edit reaches all nodes within two seconds; another revision for longer is warned of.
const REVISION_GRACE: Duration = Duration::from_secs(6);
/// Pause when signals cannot be heard.
const LISTEN_PAUSE: Duration = Duration::from_secs(1);

/// What is warned of, as the metric names it, and the notice's name.
const KINDS: [(&str, &str); 3] = [
    ("configuration", "nodes' configuration"),
    ("clock", "nodes' clocks"),
    ("name", "nodes' names"),
];

/// A node, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// `node_id`, or what the host is called with something random.
    pub id: String,
    /// This start of it.
    pub boot: Uuid,
    /// Its roles.
    pub roles: Vec<String>,
    /// The configuration it serves.
    pub revision: String,
    /// Its version.
    pub version: String,
    /// Where it listens.
    pub address: String,
    /// When it started.
    pub started_at_ms: UnixMs,
    /// Its clock.
    pub now_ms: UnixMs,
    /// It drains: forget it.
    #[serde(default)]
    pub leaving: bool,
}

/// A node as this one sees it.
#[derive(Debug, Clone, Serialize)]
pub struct Seen {
    /// What it said last; for this node, what it would say.
    #[serde(flatten)]
    pub member: Member,
    /// How far its clock is ahead of this node's, in ms; negative when it is behind.
    pub ahead_ms: i64,
    /// How long ago it was heard, in ms.
    pub heard_ms_ago: u64,
}

#[derive(Debug)]
struct Heard {
    member: Member,
    at: Instant,
    /// Its clock less this one's at arrival. The way takes time, so the largest is nearest.
    ahead_ms: VecDeque<i64>,
    /// Since when it serves another revision than this node.
    differs_since: Option<Instant>,
}

impl Heard {
    fn ahead_ms(&self) -> i64 {
        self.ahead_ms.iter().copied().max().unwrap_or(0)
    }
}

#[derive(Debug, Default)]
struct State {
    own: Option<Member>,
    others: BTreeMap<Uuid, Heard>,
}

/// The nodes of the cluster. Empty on the embedded backend, which is one process.
#[derive(Debug, Clone, Default)]
pub struct Members(Arc<Mutex<State>>);

impl Members {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every node that is there, this one first.
    #[must_use]
    pub fn list(&self) -> Vec<Seen> {
        let state = self.lock();
        let own = state.own.iter();
        let own = own.map(|m| Seen { member: m.clone(), ahead_ms: 0, heard_ms_ago: 0 });
        let others = state.others.values().map(|heard| Seen {
            member: heard.member.clone(),
            ahead_ms: heard.ahead_ms(),
            heard_ms_ago: u64::try_from(heard.at.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
        let mut others: Vec<Seen> = others.collect();
        others.sort_by(|a, b| a.member.id.cmp(&b.member.id));
        own.chain(others).collect()
    }

    /// Takes in what a node said. Returns whether it is new here.
    fn hear(&self, member: Member, now_ms: UnixMs, now: Instant) -> bool {
        let mut state = self.lock();
        if state.own.as_ref().is_some_and(|own| own.boot == member.boot) {
            return false;
        }
        if member.leaving {
            state.others.remove(&member.boot);
            return false;
        }
        let differs = state.own.as_ref().is_some_and(|own| own.revision != member.revision);
        let known = state.others.contains_key(&member.boot);
        if !known && state.others.len() >= MAX_MEMBERS {
            return false;
        }
        let ahead_ms = signed(member.now_ms) - signed(now_ms);
        let heard = state.others.entry(member.boot).or_insert_with(|| Heard {
            member: member.clone(),
            at: now,
            ahead_ms: VecDeque::new(),
            differs_since: None,
        });
        heard.member = member;
        heard.at = now;
        heard.differs_since = differs.then_some(heard.differs_since.unwrap_or(now));
        heard.ahead_ms.push_back(ahead_ms);
        if heard.ahead_ms.len() > CLOCK_SAMPLES {
            heard.ahead_ms.pop_front();
        }
        !known
    }

    /// Forgets nodes that fell silent; returns their names.
    fn forget_silent(&self, now: Instant) -> Vec<String> {
        let mut state = self.lock();
        let mut gone = Vec::new();
        state.others.retain(|_, heard| {
            let stays = now.duration_since(heard.at) < GONE_AFTER;
            if !stays {
                gone.push(heard.member.id.clone());
            }
            stays
        });
        gone
    }

    /// What to warn of, in the order of [`KINDS`].
    fn findings(&self, now: Instant) -> [Option<String>; 3] {
        let state = self.lock();
        let Some(own) = &state.own else { return [None, None, None] };
        let others = || state.others.values();
        let late = |heard: &&Heard| {
            heard.differs_since.is_some_and(|at| now.duration_since(at) >= REVISION_GRACE)
        };
        let revision = |h: &Heard| format!("{} serves {}", h.member.id, h.member.revision);
        let skewed = |heard: &&Heard| heard.ahead_ms().abs() > MAX_SKEW_MS;
        let clock = |h: &Heard| {
            let way = if h.ahead_ms() > 0 { "ahead" } else { "behind" };
            format!("{} is {} ms {way}", h.member.id, h.ahead_ms().abs())
        };
        let same_name = others().any(|heard| heard.member.id == own.id);
        [
            named(others().filter(late).map(revision)).map(|nodes| {
                format!("{nodes}, this one {}: give all nodes the same manifests", own.revision)
            }),
            named(others().filter(skewed).map(clock))
                .map(|nodes| format!("{nodes} of this node: synchronise the clocks (NTP)")),
            same_name.then(|| {
                format!("another node is called {} too: give each its own node_id", own.id)
            }),
        ]
    }
}

fn signed(ms: UnixMs) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// The first few, and how many more; `None` when there are none.
fn named(nodes: impl Iterator<Item = String>) -> Option<String> {
    let nodes: Vec<String> = nodes.collect();
    let more = nodes.len().saturating_sub(MAX_NAMED);
    let first = nodes[..nodes.len().min(MAX_NAMED)].join(", ");
    match (nodes.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(first),
        (false, more) => Some(format!("{first} and {more} more")),
    }
}

/// Announces `own` and listens to the others until the node stops.
pub async fn run(node: Node, own: Member) {
    node.members.lock().own = Some(own);
    let subject = LiveSubject::nodes();
    while !node.lifecycle.stopping() {
        if let Ok(mut listener) = node.ports.live.listen(&subject).await {
            let mut tick = tokio::time::interval(ANNOUNCE);
            loop {
                tokio::select! {
                    biased;
                    () = node.lifecycle.stopped() => break,
                    _ = tick.tick() => {
                        announce(&node, &subject).await;
                        judge(&node);
                    }
                    signal = listener.next() => match signal {
                        Some(payload) => take(&node, &payload),
                        None => break,
                    },
                }
            }
        }
        judge(&node);
        let _ = tokio::time::timeout(LISTEN_PAUSE, node.lifecycle.stopped()).await;
    }
    if let Some(own) = &mut node.members.lock().own {
        own.leaving = true;
    }
    announce(&node, &subject).await;
}

async fn announce(node: &Node, subject: &LiveSubject) {
    let payload = {
        let mut state = node.members.lock();
        let Some(own) = &mut state.own else { return };
        own.now_ms = node.ports.clock.now_ms();
        own.revision = node.config.current().revision.to_string();
        serde_json::to_vec(own)
    };
    if let Ok(payload) = payload {
        node.ports.live.send(subject, payload.into()).await;
    }
}

fn take(node: &Node, payload: &[u8]) {
    let Ok(member) = serde_json::from_slice::<Member>(payload) else {
        tracing::debug!("an announcement could not be read");
        return;
    };
    let (id, roles, address) = (member.id.clone(), member.roles.join(","), member.address.clone());
    if node.members.hear(member, node.ports.clock.now_ms(), Instant::now()) {
        tracing::info!(node.id = %id, roles, address, "a node is there");
    }
}

/// Compares, warns, and counts; one log line a change.
fn judge(node: &Node) {
    let now = Instant::now();
    for id in node.members.forget_silent(now) {
        tracing::info!(node.id = %id, "a node is gone");
    }
    node.metrics.nodes.set(i64::try_from(node.members.list().len()).unwrap_or(i64::MAX));
    let before = node.health.notices();
    for ((kind, part), finding) in KINDS.into_iter().zip(node.members.findings(now)) {
        let labels = WarningLabels { kind: kind.to_owned() };
        node.metrics.warnings.get_or_create(&labels).set(i64::from(finding.is_some()));
        match (&finding, before.contains_key(part)) {
            (Some(finding), false) => tracing::warn!("{part}: {finding}"),
            (None, true) => tracing::info!("{part}: as they should be"),
            _ => {}
        }
        node.health.notice(part, finding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: UnixMs = 1_705_314_600_000;

    fn member(id: &str, boot: u128) -> Member {
        Member {
            id: id.to_owned(),
            boot: Uuid::from_u128(boot),
            roles: vec!["worker".to_owned()],
            revision: "r1".to_owned(),
            version: "1".to_owned(),
            address: "127.0.0.1:1".to_owned(),
            started_at_ms: NOW_MS,
            now_ms: NOW_MS,
            leaving: false,
        }
    }

    fn members() -> (Members, Instant) {
        let members = Members::default();
        members.lock().own = Some(member("a", 1));
        (members, Instant::now())
    }

    #[test]
    fn nodes_come_are_listed_and_go() {
        let (members, now) = members();
        assert!(members.hear(member("b", 2), NOW_MS, now));
        assert!(!members.hear(member("b", 2), NOW_MS, now), "heard before");
        assert!(!members.hear(member("a", 1), NOW_MS, now), "that is this node");
        members.hear(member("c", 3), NOW_MS, now);
        let ids: Vec<_> = members.list().into_iter().map(|seen| seen.member.id).collect();
        assert_eq!(ids, ["a", "b", "c"]);
        members.hear(Member { leaving: true, ..member("b", 2) }, NOW_MS, now);
        assert_eq!(members.list().len(), 2, "it said that it leaves");
        assert_eq!(members.forget_silent(now + GONE_AFTER), ["c"]);
        assert_eq!(members.findings(now), [None, None, None]);
    }

    #[test]
    fn another_revision_is_warned_of_once_it_lasts() {
        let (members, now) = members();
        let other = Member { revision: "r2".to_owned(), ..member("b", 2) };
        members.hear(other.clone(), NOW_MS, now);
        assert_eq!(members.findings(now)[0], None, "an edit takes a moment");
        members.hear(other, NOW_MS, now + Duration::from_secs(2));
        let warning = members.findings(now + REVISION_GRACE)[0].clone().expect("a warning");
        assert!(warning.contains("b serves r2") && warning.contains("r1"), "{warning}");
        members.hear(member("b", 2), NOW_MS, now + REVISION_GRACE);
        assert_eq!(members.findings(now + REVISION_GRACE)[0], None);
    }

    #[test]
    fn a_clock_is_judged_by_the_announcement_that_came_soonest() {
        let (members, now) = members();
        members.hear(member("b", 2), NOW_MS + 9_000, now);
        assert!(members.findings(now)[1].is_some(), "late or behind");
        members.hear(member("b", 2), NOW_MS + 100, now);
        assert_eq!(members.findings(now)[1], None, "it was late");
        members.hear(Member { now_ms: NOW_MS + 3_000, ..member("b", 2) }, NOW_MS, now);
        let warning = members.findings(now)[1].clone().expect("a warning");
        assert!(warning.contains("b is 3000 ms ahead"), "{warning}");
    }

    #[test]
    fn two_nodes_of_one_name_are_warned_of() {
        let (members, now) = members();
        members.hear(member("a", 2), NOW_MS, now);
        assert!(members.findings(now)[2].as_deref().is_some_and(|w| w.contains("node_id")));
    }

    #[test]
    fn warnings_name_a_few_nodes() {
        let names = |n: usize| named((0..n).map(|n| format!("n{n}")));
        assert_eq!(names(0), None);
        assert_eq!(names(2).as_deref(), Some("n0, n1"));
        assert_eq!(names(7).as_deref(), Some("n0, n1, n2, n3, n4 and 2 more"));
    }
}
