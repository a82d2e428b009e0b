//! What goes wrong: every kind of fault to every kind of process, drawn from a seed.

use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::topology::Topology;
use crate::draws::Draws;

/// Pause between two faults, in milliseconds.
const PAUSE_MS: (u64, u64) = (400, 2_500);
/// How long what was killed stays away, in milliseconds.
const AWAY_MS: (u64, u64) = (100, 3_000);
/// How long something is frozen or cut off, in milliseconds: shorter and longer than the 5 s
/// after which a worker's tasks go to another.
const LASTING_MS: (u64, u64) = (500, 9_000);
/// Longest drain of one node: what `serve` promises, and its start.
const MAX_DRAIN: Duration = Duration::from_secs(31);

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// A node, by its place in [`Topology::members`].
    Node(usize),
    Server(Server),
}

/// A server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    Nats,
    Redis,
    Postgres,
}

/// How wires fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Break {
    Cut,
    Silence,
}

/// One fault.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// `kill -9`, and a new start later.
    Kill(Target, u64),
    /// SIGSTOP, and SIGCONT later.
    Freeze(Target, u64),
    /// A node and one server no longer hear each other.
    Wire(usize, Server, Break, u64),
    /// A node hears no server any more.
    Alone(usize, Break, u64),
    /// Every node in turn is drained and started again.
    Roll,
}

const SERVERS: [Server; 3] = [Server::Nats, Server::Redis, Server::Postgres];

/// One of each kind of fault to each kind of process, mixed: first what kills.
fn round(draws: &mut Draws) -> Vec<Fault> {
    let mut kills = vec![Fault::Roll];
    let mut others = Vec::new();
    for role in ["gateway", "router", "worker", "approver"] {
        let nodes = Topology::of_role(role);
        let one = |draws: &mut Draws| {
            nodes[usize::try_from(draws.below(nodes.len() as u64)).expect("an index")]
        };
        kills.push(Fault::Kill(Target::Node(one(draws)), draws.between(AWAY_MS)));
        others.push(Fault::Freeze(Target::Node(one(draws)), draws.between(LASTING_MS)));
        for how in [Break::Cut, Break::Silence] {
            let server = SERVERS[usize::try_from(draws.below(3)).expect("an index")];
            others.push(Fault::Wire(one(draws), server, how, draws.between(LASTING_MS)));
            others.push(Fault::Alone(one(draws), how, draws.between(LASTING_MS)));
        }
    }
    for server in SERVERS {
        kills.push(Fault::Kill(Target::Server(server), draws.between(AWAY_MS)));
        others.push(Fault::Freeze(Target::Server(server), draws.between(LASTING_MS)));
    }
    draws.shuffle(&mut kills);
    draws.shuffle(&mut others);
    kills.extend(others);
    kills
}

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// Faults, drains among them.
    pub(crate) faults: u64,
    /// Nodes that were killed.
    pub(crate) killed: u64,
    /// Nodes that were drained.
    pub(crate) drained: u64,
    /// Drains that ended otherwise than with 0 in time.
    pub(crate) bad_drains: Vec<String>,
}

/// Does one fault after the other until `end`, each undone before the next.
pub(crate) fn run(topology: &Topology, seed: u64, end: Instant) -> Done {
    let mut draws = Draws::of(seed);
    let (mut done, began) = (Done::default(), Instant::now());
    loop {
        for fault in round(&mut draws) {
            sleep(Duration::from_millis(draws.between(PAUSE_MS)));
            if Instant::now() >= end {
                return done;
            }
            println!("{:7.1} s  {}", began.elapsed().as_secs_f64(), Shown(fault, topology));
            done.faults += 1;
            inflict(topology, fault, &mut done);
        }
    }
}

fn inflict(topology: &Topology, fault: Fault, done: &mut Done) {
    match fault {
        Fault::Kill(target, ms) => {
            match target {
                Target::Node(node) => {
                    done.killed += 1;
                    topology.members[node].kill();
                }
                Target::Server(Server::Nats) => topology.nats.kill(),
                Target::Server(Server::Redis) => topology.redis.kill(),
                Target::Server(Server::Postgres) => topology.postgres.kill(),
            }
            sleep(Duration::from_millis(ms));
            match target {
                Target::Node(node) => topology.members[node].start_again(),
                Target::Server(Server::Nats) => topology.nats.start_again(),
                Target::Server(Server::Redis) => topology.redis.start_again(),
                Target::Server(Server::Postgres) => topology.postgres.start_again(),
            }
        }
        Fault::Freeze(target, ms) => {
            match target {
                Target::Node(node) => topology.members[node].pause(),
                Target::Server(Server::Nats) => topology.nats.pause(),
                Target::Server(Server::Redis) => topology.redis.pause(),
                Target::Server(Server::Postgres) => topology.postgres.pause(),
            }
            sleep(Duration::from_millis(ms));
            match target {
                Target::Node(node) => topology.members[node].resume(),
                Target::Server(Server::Nats) => topology.nats.resume(),
                Target::Server(Server::Redis) => topology.redis.resume(),
                Target::Server(Server::Postgres) => topology.postgres.resume(),
            }
        }
        Fault::Wire(node, server, how, ms) => {
            let wires = &topology.members[node].wires;
            let wire = match server {
                Server::Nats => &wires.nats,
                Server::Redis => &wires.redis,
                Server::Postgres => &wires.postgres,
            };
            broken(&[wire], how, ms);
        }
        Fault::Alone(node, how, ms) => broken(&topology.members[node].wires.all(), how, ms),
        Fault::Roll => roll(topology, done),
    }
}

fn broken(wires: &[&aof_servers::Wire], how: Break, ms: u64) {
    for wire in wires {
        match how {
            Break::Cut => wire.cut(),
            Break::Silence => wire.silence(),
        }
    }
    sleep(Duration::from_millis(ms));
    wires.iter().for_each(|wire| wire.mend());
}

/// A rolling restart: each node is ready again before the next one goes.
fn roll(topology: &Topology, done: &mut Done) {
    for node in 0..topology.members.len() {
        topology.wait_for(node);
        let began = Instant::now();
        let code = topology.members[node].drain();
        let took = began.elapsed();
        done.drained += 1;
        if code != Some(0) || took > MAX_DRAIN {
            done.bad_drains.push(format!("{}: {code:?} after {took:?}", topology.name(node)));
        }
        topology.members[node].start_again();
        topology.wait_for(node);
    }
    topology.wait_ready();
}

/// A fault with the names of what it is done to.
struct Shown<'a>(Fault, &'a Topology);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = |target| match target {
            Target::Node(node) => self.1.name(node),
            Target::Server(server) => format!("{server:?}"),
        };
        match self.0 {
            Fault::Kill(what, ms) => write!(f, "kill -9 {}, again after {ms} ms", target(what)),
            Fault::Freeze(what, ms) => write!(f, "freeze {} for {ms} ms", target(what)),
            Fault::Wire(node, server, how, ms) => {
                write!(f, "{how:?} {} from {server:?} for {ms} ms", self.1.name(node))
            }
            Fault::Alone(node, how, ms) => {
                write!(f, "{how:?} {} from all servers for {ms} ms", self.1.name(node))
            }
            Fault::Roll => f.write_str("rolling restart of all nodes"),
        }
    }
}
