//! Routes messages among 100,000 flows of 1,000 tenants, and prints the index beside the
//! full scan of the same run. Targets: field.md, *Targets*: p50 20 µs, p99 100 µs, reload
//! 200 ms. `cargo bench -p aof-router`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aof_router::channel::Naming;
use aof_router::score::Request;
use aof_router::select::scan;
use aof_router::table::Table;
use aof_shared::config::{Flow, FlowAgent, Snapshot};
use aof_shared::ids::{
    AgentName, FlowName, InstanceName, MessageId, PlatformName, Revision, TenantId,
};
use aof_shared::message::{Channel, Message, MessageKind, Priority, User};

const TENANTS: usize = 1_000;
const FLOWS_EACH: usize = 100;
const MESSAGES: usize = 200_000;
const SCANS: usize = 20;
const TOPICS: [&str; 10] = [
    "deploy",
    "rollback",
    "incident",
    "restart",
    "scale",
    "certificate",
    "database",
    "latency",
    "backup",
    "invoice",
];

fn main() {
    mixed();
    words_only();
    one_large_tenant();
    hostile();
}

/// A tenant's hundred flows: by channel, by user, by pattern, by platform alone.
fn mixed() {
    let flows = every_flow(|tenant, number| {
        let mut flow = bare(tenant, number);
        let trigger = &mut flow.trigger;
        trigger.platform =
            Some(platform(if number.is_multiple_of(2) { "slack" } else { "telegram" }));
        match number % 4 {
            0 => trigger.channels = vec![channel(number / 10), format!("room-{number}")],
            1 => trigger.users = vec![format!("U{}", number / 10)],
            2 => trigger.patterns = vec![pattern(number, tenant)],
            _ => trigger.channels = vec![channel(number / 20)],
        }
        flow
    });
    measure("100k flows, mixed", &flows, |n| message(n % TENANTS, n));
}

/// The hard case: no channel to go by, every flow has a pattern.
fn words_only() {
    let flows = every_flow(|tenant, number| {
        let mut flow = bare(tenant, number);
        flow.trigger.platform = Some(platform("slack"));
        flow.trigger.patterns = vec![pattern(number, tenant)];
        flow
    });
    measure("100k flows, patterns only", &flows, |n| message(n % TENANTS, n));
}

/// All flows belong to one tenant.
fn one_large_tenant() {
    let flows: Vec<Flow> = (0..TENANTS * FLOWS_EACH)
        .map(|number| {
            let mut flow = bare(0, number);
            flow.trigger.patterns = vec![format!("{} task{number}", TOPICS[number % 10])];
            flow
        })
        .collect();
    measure("100k flows of one tenant", &flows, |n| message(0, n));
}

/// One message against a tenant whose patterns are as costly as the caps let them be.
fn hostile() {
    let mut flow = bare(0, 0);
    flow.trigger.patterns = [
        r"(\w{50}){50}",
        r"(?:\w+\s+){8}z",
        r"(?:[ab]*a[ab]{200})c",
        r"(x+x+)+y",
        r"(?:[ab]?){200}[ab]{200}z",
        r"(?:(?:a|b|ab|ba)*){3}z",
    ]
    .map(String::from)
    .to_vec();
    let table = Table::build(Arc::new(snapshot(&[flow])), None);
    let mut sent = message(0, 0);
    let mut bits = 0x9E37_79B9_7F4A_7C15_u64;
    sent.text.clear();
    for _ in 0..100_000 {
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        sent.text.push(if bits & 1 == 0 { 'a' } else { 'b' });
    }
    let mut worst = Duration::ZERO;
    for _ in 0..10 {
        let begun = Instant::now();
        black_box(table.decide(&Request::new(&sent, Naming::Nameless)));
        worst = worst.max(begun.elapsed());
    }
    println!("6 hostile patterns on 100 kB of text: worst {worst:.1?}");
}

fn measure(name: &str, flows: &[Flow], message: impl Fn(usize) -> Message) {
    let resident = resident_mib();
    let first = Arc::new(snapshot(flows));
    let snapshot_mib = resident_mib() - resident;
    let begun = Instant::now();
    let table = Table::build(first, None);
    let loaded = begun.elapsed();
    let mut changed = flows.to_vec();
    changed[flows.len() / 2].trigger.users.push("U-new".to_owned());
    // As a reload from files gives it: equal flows in new places.
    let second = Arc::new(snapshot(&changed));
    let begun = Instant::now();
    let reloaded = Table::build(second, Some(&table));
    let reload = begun.elapsed();

    let messages: Vec<Message> = (0..10_000).map(&message).collect();
    let one = |n: usize| {
        let begun = Instant::now();
        let request = Request::new(&messages[n % messages.len()], Naming::Named("room-20"));
        black_box(reloaded.decide(&request));
        begun.elapsed()
    };
    let mut cold: Vec<Duration> = (0..messages.len()).map(one).collect();
    let mut taken: Vec<Duration> = (0..MESSAGES).map(one).collect();
    let mut full: Vec<Duration> = (0..SCANS)
        .map(|n| {
            let request = Request::new(&messages[n * 7], Naming::Named("room-20"));
            let begun = Instant::now();
            for tenant in reloaded.tenants() {
                black_box(scan(reloaded.flows(tenant), &request));
            }
            begun.elapsed()
        })
        .collect();
    let mut line = String::new();
    for (what, times) in [("cold", &mut cold), ("warm", &mut taken), ("full scan", &mut full)] {
        times.sort();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        write!(line, "; {what} p50 {:.1?} p99 {:.1?} max {:.1?}", at(50), at(99), at(100))
            .expect("writing to text");
    }
    let table_mib = resident_mib() - resident - 2.0 * snapshot_mib;
    println!(
        "{name}: load {loaded:.0?}, reload of one flow {reload:.0?}, about {table_mib:.0} MiB{line}"
    );
}

fn every_flow(make: impl Fn(usize, usize) -> Flow) -> Vec<Flow> {
    (0..TENANTS)
        .flat_map(|t| (0..FLOWS_EACH).map(move |n| (t, n)))
        .map(|(t, n)| make(t, n))
        .collect()
}

fn snapshot(flows: &[Flow]) -> Snapshot {
    let flows: Vec<Arc<Flow>> = flows.iter().cloned().map(Arc::new).collect();
    Snapshot { revision: Revision::of(b"bench"), flows, ..Snapshot::default() }
}

fn tenant(number: usize) -> TenantId {
    TenantId::new(format!("org-{number}")).expect("a valid name")
}

fn platform(name: &str) -> PlatformName {
    PlatformName::new(name).expect("a valid name")
}

fn channel(number: usize) -> String {
    format!("C0CHANNEL{number}")
}

/// Half of them a word list, half a real regex; all different between tenants.
fn pattern(number: usize, tenant: usize) -> String {
    let topic = TOPICS[number % 10];
    match number % 20 {
        0..10 => format!("{topic}-{number}|{topic}{tenant}"),
        _ => format!(r"^(please )?{topic}\s+(svc|app)-{number}\b"),
    }
}

fn bare(of: usize, number: usize) -> Flow {
    let mut flow = Flow::new(tenant(of), FlowName::new(format!("flow-{number}")).expect("a name"));
    flow.agents = ["ops", "helper"]
        .map(|name| FlowAgent {
            name: AgentName::new(name).expect("a valid name"),
            patterns: if name == "ops" { vec!["kubectl".into(), "pod".into()] } else { Vec::new() },
            priority: Priority::Normal,
            tools: None,
            tool_config: BTreeMap::new(),
        })
        .to_vec();
    flow
}

fn message(of: usize, n: usize) -> Message {
    let instance = InstanceName::new("main").expect("a valid name");
    let platform = platform(if n.is_multiple_of(3) { "telegram" } else { "slack" });
    let (topic, number) = (TOPICS[n % 10], n % FLOWS_EACH);
    Message {
        id: MessageId::derive(&tenant(of), &platform, &instance, "1"),
        tenant: tenant(of),
        instance,
        platform,
        kind: MessageKind::Mention,
        channel: Channel { id: channel(n % 12), name: None, direct: false },
        thread: None,
        reply_to: None,
        user: User::new(format!("U{}", n % 10)),
        text: format!("please {topic} svc-{number} now, the pods of team {n} are not ready yet"),
        media: Vec::new(),
        event_id: String::new(),
        conversation: String::new(),
        sent_at_ms: 0,
        received_at_ms: 0,
        raw: String::new(),
    }
}

/// Resident memory of this process in MiB; 0 where the system does not say.
fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap_or_default();
    let kib: f64 = line.split_whitespace().nth(1).and_then(|v| v.parse().ok()).unwrap_or(0.0);
    kib / 1_024.0
}
