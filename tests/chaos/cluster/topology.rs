//! The cluster of `compose.yaml` as plain processes: HAProxy, two gateways, NATS, two
//! routers, three workers, two approvers, Redis, PostgreSQL.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aof_harness::{Api, Manifests, SIGNING_SECRET, slack_trigger};
use aof_servers::{Haproxy, Member, MemberOptions, Nats, NatsOptions, Postgres, Redis};

/// An operator's key, as `AOF_ADMIN_KEY` gives it.
const ADMIN_KEY: &str =
    "aof_00112233aabb_00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
/// Every process of the product.
const ROLES: [&str; 9] = [
    "gateway", "gateway", "router", "router", "worker", "worker", "worker", "approver", "approver",
];
/// Longest wait until every node is ready: debug builds on a busy machine.
const READY: Duration = Duration::from_secs(90);
/// Runs at once, all workers together.
pub(crate) const MAX_TASKS: usize = 8;
/// Runs of one user at once.
pub(crate) const MAX_USER_TASKS: usize = 3;
/// Runs a minute of [`LIMITED`].
pub(crate) const PER_MINUTE: usize = 40;
/// The organization with a limit a minute.
pub(crate) const LIMITED: &str = "org-c";
/// All of them.
pub(crate) const TENANTS: [&str; 3] = ["org-a", "org-b", LIMITED];
/// Who votes.
pub(crate) const VOTERS: [&str; 2] = ["alice", "bob"];

/// What a tool does: it says when it starts and ends, for whom, and takes the time it is told.
/// `$EPOCHREALTIME` is bash's own, so that only the wait is another process.
const TOOL: &str = r#"#!/bin/bash
LC_ALL=C
printf '%s start %s %s\n' "$EPOCHREALTIME" "$1" "$WHOSE" >>"$LEDGER"
sleep "$2"
printf '%s end %s %s\n' "$EPOCHREALTIME" "$1" "$WHOSE" >>"$LEDGER"
echo "ran:$1:$WHOSE"
"#;

/// The processes and what they share.
pub(crate) struct Topology {
    pub(crate) nats: Nats,
    pub(crate) redis: Redis,
    pub(crate) postgres: Postgres,
    pub(crate) balancer: Haproxy,
    pub(crate) members: Vec<Member>,
    tools: tempfile::TempDir,
    _manifests: Manifests,
}

impl Topology {
    /// Starts everything, and waits until every node is ready.
    pub(crate) fn start(slack: SocketAddr) -> Self {
        let tools = tools();
        let manifests = manifests(slack, tools.path());
        let nats = Nats::start(&NatsOptions { sync_always: true, ..NatsOptions::default() });
        let (redis, postgres) = (Redis::start(), Postgres::start());
        // A build meanwhile must not change what is started again.
        let binary = tools.path().join("aofctl");
        std::fs::copy(env!("CARGO_BIN_EXE_aofctl"), &binary).expect("room for a copy");
        let options = |role: &str| MemberOptions {
            binary: binary.clone(),
            role: role.to_owned(),
            config: manifests.dir.path().join("daemon.yaml"),
            env: vec![
                ("AOF_ADMIN_KEY".to_owned(), ADMIN_KEY.to_owned()),
                ("AOF_LOG".to_owned(), std::env::var("AOF_LOG").unwrap_or("info".to_owned())),
            ],
        };
        let servers = (&nats, &redis, &postgres);
        let members: Vec<Member> =
            ROLES.iter().map(|role| Member::start(&options(role), servers)).collect();
        let gateways: Vec<SocketAddr> = members
            .iter()
            .zip(ROLES)
            .filter(|(_, role)| *role == "gateway")
            .map(|(m, _)| m.addr())
            .collect();
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/haproxy/haproxy.cfg");
        let balancer = Haproxy::start(&config, &gateways);
        let all = Self { nats, redis, postgres, balancer, members, tools, _manifests: manifests };
        all.wait_ready();
        all
    }

    /// Role and number of each node, in the order of `members`: `worker-1`.
    pub(crate) fn name(&self, member: usize) -> String {
        let before = ROLES[..member].iter().filter(|role| **role == ROLES[member]).count();
        format!("{}-{before}", ROLES[member])
    }

    /// The nodes of a role.
    pub(crate) fn of_role(role: &str) -> Vec<usize> {
        (0..ROLES.len()).filter(|member| ROLES[*member] == role).collect()
    }

    /// Waits until every node says that it is ready.
    ///
    /// # Panics
    /// When one does not, with what it wrote.
    pub(crate) fn wait_ready(&self) {
        for member in 0..self.members.len() {
            self.wait_for(member);
        }
        // It notices within a second.
        while !self.balancer.is_ready() {
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until one node says that it is ready.
    pub(crate) fn wait_for(&self, member: usize) {
        let end = Instant::now() + READY;
        while !self.members[member].is_ready() {
            if Instant::now() > end {
                self.keep_logs();
                panic!("{} is not ready; logs are in {}", self.name(member), logs().display());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// One account, as its operator, through the load balancer.
    pub(crate) fn api(&self, account: &str) -> Api {
        Api {
            http: reqwest::Client::new(),
            url: self.balancer.url(),
            account: account.to_owned(),
            key: ADMIN_KEY.to_owned(),
        }
    }

    /// The lines that tools wrote.
    pub(crate) fn ran(&self) -> String {
        std::fs::read_to_string(self.tools.path().join("ledger")).unwrap_or_default()
    }

    /// Copies the logs of all processes to where they outlive the test.
    pub(crate) fn keep_logs(&self) {
        let dir = logs();
        let _ = std::fs::create_dir_all(&dir);
        let servers = [
            ("nats", self.nats.log()),
            ("redis", self.redis.log()),
            ("haproxy", self.balancer.log()),
        ];
        let mut all: BTreeMap<String, String> =
            servers.into_iter().map(|(name, log)| (name.to_owned(), log)).collect();
        all.insert("postgres".to_owned(), self.postgres.log());
        all.insert("ledger".to_owned(), self.ran());
        let nodes = self.members.iter().enumerate();
        all.extend(nodes.map(|(n, member)| (self.name(n), member.log())));
        for (name, log) in all {
            let _ = std::fs::write(dir.join(format!("{name}.log")), log);
        }
    }
}

/// Where logs are kept when something is wrong.
pub(crate) fn logs() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("chaos")
}

/// The programs that agents run, and the file that they write to.
fn tools() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("ledger"), "").expect("a writable folder");
    for tool in ["mark", "purge"] {
        let path = dir.path().join(tool);
        std::fs::write(&path, TOOL).expect("a writable folder");
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, executable).expect("our file");
    }
    dir
}

fn manifests(slack: SocketAddr, tools: &Path) -> Manifests {
    let mut daemon = format!(
        "  runtime: {{max_concurrent_tasks: {MAX_TASKS}, max_tasks_per_user: {MAX_USER_TASKS}, task_timeout_secs: 60}}\n"
    );
    let _ = writeln!(daemon, "  cluster: {{name: chaos}}");
    let manifests = Manifests::new(&daemon);
    manifests.agent("shell", "  runtime: command\n  tools: [mark, purge]\n");
    let tools = tools.display();
    for tenant in TENANTS {
        let limits = if tenant == LIMITED {
            format!("  limits: {{max_requests_per_minute: {PER_MINUTE}}}\n")
        } else {
            String::new()
        };
        let rest = format!(
            "  context:\n    organization: {tenant}\n    env: {{WHOSE: {tenant}, LEDGER: {tools}/ledger, \
             PATH: \"{tools}:/usr/bin:/bin\"}}\n  agents:\n    - name: shell\n{limits}  approval:\n    \
             timeout_secs: 20\n    self_approval: never\n    chains:\n      - name: two\n        \
             approvers: [alice, bob]\n        require: 2\n    rules:\n      - pattern: purge\n        chain: two\n"
        );
        let token = format!("xoxb-{tenant}");
        manifests
            .flow(&format!("slack-{tenant}"), &slack_trigger(slack, &token, SIGNING_SECRET, &rest));
        manifests.flow(&format!("chat-{tenant}"), &format!("  trigger: {{type: Chat}}\n{rest}"));
    }
    manifests
}
