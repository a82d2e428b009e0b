//! What a node will be: which roles, on which backend, under which name. Pure.

use aof_shared::config::{Daemon, Servers};
use aof_shared::manifest::Env;
use uuid::Uuid;

use super::Role;

/// Longest name of a node.
const MAX_ID_CHARS: usize = 64;

/// A node to be.
#[derive(Debug)]
pub(super) struct Plan {
    /// Its roles, each once.
    pub(super) roles: Vec<Role>,
    /// The servers of its cluster; `None` keeps everything in the data directory.
    pub(super) cluster: Option<Servers>,
    /// What it calls itself.
    pub(super) node_id: String,
    /// The manifests speak of a cluster that nobody described.
    pub(super) alone_unasked: bool,
}

impl Plan {
    /// Decides from the command line (`asked`), the manifests and the environment. `host`
    /// names a node that was given no name.
    ///
    /// # Errors
    /// When that is contradictory; the error says what to do.
    pub(super) fn of(
        asked: &[Role],
        daemon: &Daemon,
        env: &Env,
        host: &str,
    ) -> anyhow::Result<Self> {
        let settings = daemon.cluster.clone().with_env(env)?;
        let cluster = settings.servers()?;
        let roles: Vec<Role> =
            Role::ALL.into_iter().filter(|role| asked.is_empty() || asked.contains(role)).collect();
        anyhow::ensure!(
            cluster.is_some() || roles.len() == Role::ALL.len(),
            "the embedded backend is one process, so it runs all roles: leave --role out, or set \
             NATS_URL, REDIS_URL and DATABASE_URL (or `spec.cluster`) to run roles as processes"
        );
        let node_id = match settings.node_id.as_deref().map(one_token) {
            Some(id) if !id.is_empty() => id,
            _ => format!("{}-{:04x}", one_token(host), Uuid::now_v7().as_u128() & 0xffff),
        };
        let alone_unasked = settings.announced && cluster.is_none();
        Ok(Self { roles, cluster, node_id, alone_unasked })
    }

    /// True when the node has `role`.
    pub(super) fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// The roles as people write them.
    pub(super) fn role_names(&self) -> Vec<String> {
        self.roles.iter().map(|role| role.name().to_owned()).collect()
    }
}

/// What is left of a name when it may hold letters, digits, `.`, `-` and `_` only.
fn one_token(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '-' };
    name.trim().chars().take(MAX_ID_CHARS).map(plain).collect()
}

/// What this host is called, as far as it says.
pub(super) fn host() -> String {
    let named = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let named = named.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    if named.trim().is_empty() { "node".to_owned() } else { named.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: [(&str, &str); 3] = [
        ("NATS_URL", "nats://n:4222"),
        ("REDIS_URL", "redis://r:6379"),
        ("DATABASE_URL", "postgres://p/aof"),
    ];

    fn plan(roles: &[Role], daemon: &Daemon, env: &'static [(&str, &str)]) -> anyhow::Result<Plan> {
        let env = Env::new(|name| {
            let found = env.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        });
        Plan::of(roles, daemon, &env, "host.example\n")
    }

    #[test]
    fn without_servers_a_node_runs_all_roles_or_none() {
        let daemon = Daemon::default();
        let alone = plan(&[], &daemon, &[]).expect("a plan");
        assert!(alone.cluster.is_none());
        assert_eq!(alone.roles, Role::ALL);
        assert!(alone.node_id.starts_with("host.example-"), "{}", alone.node_id);
        assert!(plan(&Role::ALL, &daemon, &[]).is_ok());
        let refused = plan(&[Role::Worker], &daemon, &[]).expect_err("one process");
        assert!(refused.to_string().contains("NATS_URL, REDIS_URL and DATABASE_URL"), "{refused}");
    }

    #[test]
    fn a_cluster_takes_any_mix_of_roles() {
        let mut daemon = Daemon::default();
        daemon.cluster.node_id = Some("pod 7".to_owned());
        let mixed = [Role::Worker, Role::Gateway, Role::Worker];
        let mixed = plan(&mixed, &daemon, &CLUSTER).expect("a plan");
        assert_eq!(mixed.role_names(), ["gateway", "worker"]);
        assert_eq!(mixed.node_id, "pod-7");
        assert!(mixed.has(Role::Worker) && !mixed.has(Role::Router));
        assert_eq!(plan(&[], &daemon, &CLUSTER).expect("a plan").roles, Role::ALL);
    }

    #[test]
    fn a_part_of_a_cluster_is_refused_and_one_that_nobody_described_is_told() {
        let mut daemon = Daemon::default();
        let refused = plan(&[], &daemon, &CLUSTER[..2]).expect_err("no database");
        assert!(refused.to_string().contains("`database_url` (DATABASE_URL) is missing"));
        daemon.cluster.announced = true;
        assert!(plan(&[], &daemon, &[]).expect("a plan").alone_unasked);
        assert!(!plan(&[], &daemon, &CLUSTER).expect("a plan").alone_unasked);
    }
}
