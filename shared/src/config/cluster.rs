//! Which servers a cluster stands on, and whether there is a cluster at all. Pure.
//!
//! A node whose configuration or environment names NATS, Redis and PostgreSQL is one of a
//! cluster; a node that names none of them keeps everything in its own data directory.
//! What names only some of them is refused: it would split the cluster in silence.

use crate::manifest::Env;
use crate::secret::Secret;

/// The name of a cluster that was given none.
pub const DEFAULT_CLUSTER: &str = "aof";
/// Longest name of a cluster; it is part of streams, buckets, keys and a schema.
const MAX_NAME_BYTES: usize = 32;
/// Most copies that JetStream keeps of a stream.
pub(crate) const MAX_REPLICAS: u8 = 5;

/// `DaemonConfig.spec.cluster`, with what 001 says of it under `server` and `runtime`.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// `name`: sets clusters apart that share servers; `aof` unless set.
    pub name: String,
    /// `nats_url`, or `NATS_URL`.
    pub nats_url: Option<Secret>,
    /// `nats_monitor_url`: where NATS tells how it writes to disk.
    pub nats_monitor_url: Option<Secret>,
    /// `redis_url`, or `REDIS_URL`, or 001's `server.redis_url`.
    pub redis_url: Option<Secret>,
    /// `database_url`, or `DATABASE_URL`.
    pub database_url: Option<Secret>,
    /// `replicas`: copies of every stream; 1 unless set.
    pub replicas: u8,
    /// 001's `server.node_id`: what this node calls itself.
    pub node_id: Option<String>,
    /// 001's `cluster_mode` or `distributed` says that there is one.
    pub announced: bool,
    /// `redis_url` is 001's, which alone asks for no cluster.
    pub redis_of_001: bool,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            name: DEFAULT_CLUSTER.to_owned(),
            nats_url: None,
            nats_monitor_url: None,
            redis_url: None,
            database_url: None,
            replicas: 1,
            node_id: None,
            announced: false,
            redis_of_001: false,
        }
    }
}

/// The servers of a cluster, all of them named.
#[derive(Debug, Clone)]
pub struct Servers {
    /// The cluster's name.
    pub name: String,
    /// One NATS server, or several with commas between.
    pub nats_url: Secret,
    /// Its monitoring endpoint.
    pub nats_monitor_url: Option<Secret>,
    /// Redis.
    pub redis_url: Secret,
    /// PostgreSQL.
    pub database_url: Secret,
    /// Copies of every stream.
    pub replicas: u8,
}

/// Why it is not clear which backend is meant. Says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnclearCluster {
    /// Some servers are named and others not.
    #[error(
        "a cluster needs NATS, Redis and PostgreSQL, but {missing} is missing beside {given}: \
         set {missing}, or unset {given} to keep everything in the data directory"
    )]
    Incomplete {
        /// What is named.
        given: String,
        /// What is not.
        missing: String,
    },
    /// Something named is not a URL of such a server. It is not repeated: it may hold a password.
    #[error("{name} is not a URL of {server}: write it as `{example}`")]
    BadUrl {
        /// The variable.
        name: &'static str,
        /// The server.
        server: &'static str,
        /// How it looks.
        example: &'static str,
    },
}

/// One kind of server.
pub(crate) struct Kind {
    /// Its field in `spec.cluster`.
    pub(crate) field: &'static str,
    /// The variable that replaces the field.
    pub(crate) variable: &'static str,
    /// For people.
    pub(crate) server: &'static str,
    /// How its URL looks.
    pub(crate) example: &'static str,
    schemes: &'static [&'static str],
}

impl Kind {
    pub(crate) const NATS: Self = Self {
        field: "nats_url",
        variable: "NATS_URL",
        server: "NATS",
        example: "nats://host:4222",
        schemes: &["nats", "tls", "ws", "wss"],
    };
    pub(crate) const REDIS: Self = Self {
        field: "redis_url",
        variable: "REDIS_URL",
        server: "Redis",
        example: "redis://host:6379",
        schemes: &["redis", "rediss"],
    };
    pub(crate) const POSTGRES: Self = Self {
        field: "database_url",
        variable: "DATABASE_URL",
        server: "PostgreSQL",
        example: "postgres://user@host/database",
        schemes: &["postgres", "postgresql"],
    };
    pub(crate) const MONITOR: Self = Self {
        field: "nats_monitor_url",
        variable: "NATS_MONITOR_URL",
        server: "NATS monitoring",
        example: "http://host:8222",
        schemes: &["http", "https"],
    };

    /// Whether `url` starts as a URL of this kind does and names a host.
    pub(crate) fn fits(&self, url: &str) -> bool {
        url.split_once("://")
            .is_some_and(|(scheme, rest)| self.schemes.contains(&scheme) && !rest.is_empty())
    }

    fn named(&self) -> String {
        format!("`{}` ({})", self.field, self.variable)
    }
}

/// Whether `name` may be a cluster's: 1 to 32 of `a-z`, `0-9` and `-`.
pub(crate) fn is_cluster_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.bytes().all(plain)
}

impl Cluster {
    /// With what the environment says in place of what was written.
    ///
    /// # Errors
    /// [`UnclearCluster::BadUrl`], which names the variable.
    pub fn with_env(mut self, env: &Env) -> Result<Self, UnclearCluster> {
        let read = |kind: Kind| -> Result<Option<Secret>, UnclearCluster> {
            let Some(url) = env.get(kind.variable).filter(|url| !url.trim().is_empty()) else {
                return Ok(None);
            };
            let Kind { variable: name, server, example, .. } = kind;
            let fits = kind.fits(url.trim());
            let url = fits.then(|| Secret::new(url.trim()));
            url.ok_or(UnclearCluster::BadUrl { name, server, example }).map(Some)
        };
        self.nats_url = read(Kind::NATS)?.or(self.nats_url);
        self.nats_monitor_url = read(Kind::MONITOR)?.or(self.nats_monitor_url);
        self.database_url = read(Kind::POSTGRES)?.or(self.database_url);
        if let Some(url) = read(Kind::REDIS)? {
            self.redis_url = Some(url);
            self.redis_of_001 = false;
        }
        Ok(self)
    }

    /// The servers, when a cluster is meant; `None` for the embedded backend.
    ///
    /// # Errors
    /// [`UnclearCluster`] when only some are named.
    pub fn servers(&self) -> Result<Option<Servers>, UnclearCluster> {
        let urls = [
            (Kind::NATS, &self.nats_url),
            (Kind::REDIS, &self.redis_url),
            (Kind::POSTGRES, &self.database_url),
        ];
        if let [(_, Some(nats)), (_, Some(redis)), (_, Some(database))] = &urls {
            if !Kind::REDIS.fits(redis.expose()) {
                // 001's own field is taken as it is written until it is needed.
                let Kind { server, example, .. } = Kind::REDIS;
                return Err(UnclearCluster::BadUrl { name: "`server.redis_url`", server, example });
            }
            return Ok(Some(Servers {
                name: self.name.clone(),
                nats_url: nats.clone(),
                nats_monitor_url: self.nats_monitor_url.clone(),
                redis_url: redis.clone(),
                database_url: database.clone(),
                replicas: self.replicas,
            }));
        }
        let names = |given: bool| {
            let named = urls.iter().filter(|(_, url)| url.is_some() == given);
            named.map(|(kind, _)| kind.named()).collect::<Vec<_>>().join(" and ")
        };
        let others = self.nats_url.is_some() || self.database_url.is_some();
        if !others && (self.redis_url.is_none() || self.redis_of_001) {
            return Ok(None);
        }
        Err(UnclearCluster::Incomplete { given: names(true), missing: names(false) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(
        written: Cluster,
        env: &'static [(&str, &str)],
    ) -> Result<Option<Servers>, UnclearCluster> {
        let env = Env::new(|name| {
            let found = env.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        });
        written.with_env(&env)?.servers()
    }

    #[test]
    fn three_urls_make_a_cluster_and_none_makes_none() {
        assert!(chosen(Cluster::default(), &[]).expect("clear").is_none());
        let servers = chosen(
            Cluster { nats_url: Some(Secret::new("nats://written")), ..Cluster::default() },
            &[
                ("NATS_URL", "nats://n:4222"),
                ("REDIS_URL", "redis://r"),
                ("DATABASE_URL", "postgres://p/d"),
            ],
        );
        let servers = servers.expect("clear").expect("a cluster");
        assert_eq!(servers.nats_url.expose(), "nats://n:4222", "the environment counts");
        assert_eq!((servers.name.as_str(), servers.replicas), ("aof", 1));
    }

    #[test]
    fn a_part_of_a_cluster_is_refused_by_what_is_missing() {
        let error = chosen(Cluster::default(), &[("NATS_URL", "nats://n"), ("REDIS_URL", " ")]);
        let text = error.expect_err("incomplete").to_string();
        let missing = "`redis_url` (REDIS_URL) and `database_url` (DATABASE_URL) is missing";
        assert!(text.contains(missing), "{text}");
        assert!(text.contains("unset `nats_url` (NATS_URL)"), "{text}");
        for one in [("REDIS_URL", "redis://r"), ("DATABASE_URL", "postgresql://p/d")] {
            let env: &'static [(&str, &str)] = Box::leak(Box::new([one]));
            assert!(chosen(Cluster::default(), env).is_err(), "{one:?}");
        }
    }

    #[test]
    fn the_redis_of_001_alone_asks_for_no_cluster() {
        let url = Some(Secret::new("whatever"));
        let written = Cluster { redis_url: url, redis_of_001: true, ..Cluster::default() };
        assert!(chosen(written.clone(), &[]).expect("clear").is_none());
        let error = chosen(written, &[("NATS_URL", "nats://n"), ("DATABASE_URL", "postgres://p")]);
        assert!(error.expect_err("not a URL").to_string().contains("server.redis_url"));
    }

    #[test]
    fn what_is_no_url_is_named_and_not_repeated() {
        let error = chosen(Cluster::default(), &[("NATS_URL", "secret@host")]);
        let text = error.expect_err("no URL").to_string();
        assert!(text.contains("NATS_URL") && !text.contains("secret"), "{text}");
    }

    #[test]
    fn names_fit_streams_keys_and_schemas() {
        for (name, fits) in
            [("aof", true), ("a-1", true), ("", false), ("Aof", false), ("a_b", false)]
        {
            assert_eq!(is_cluster_name(name), fits, "{name}");
        }
        assert!(!is_cluster_name(&"a".repeat(MAX_NAME_BYTES + 1)));
    }
}
