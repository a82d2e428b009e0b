//! What a Redis server must be, and what it had better be.

use std::collections::HashMap;

/// The oldest that is taken: older ones are not maintained and were never tried.
const MIN_VERSION: (u32, u32) = (7, 0);

/// What `INFO` says.
pub(super) struct ServerInfo(HashMap<String, String>);

impl ServerInfo {
    pub(super) fn parse(text: &str) -> Self {
        let fields = text.lines().filter_map(|line| line.trim_end().split_once(':'));
        Self(fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    fn field(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// Why limits cannot be kept there, and the way out.
    pub(super) fn refusal(&self) -> Option<String> {
        let version = self.field("redis_version");
        let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
        let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if found < MIN_VERSION {
            let (major, minor) = MIN_VERSION;
            return Some(format!("is version {version}; take {major}.{minor} or newer"));
        }
        if self.field("redis_mode") == "cluster" {
            return Some("is a Redis Cluster; take one server, with replicas if you like".into());
        }
        if self.field("role") == "slave" {
            return Some("is a replica; name its primary".into());
        }
        None
    }

    /// What may make it forget admissions, places or budgets, one sentence each.
    pub(super) fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        if self.field("aof_enabled") == "0" {
            findings.push(
                "appendonly is `no`: a restart forgets rate windows, places and day budgets; \
                 set `appendonly yes`"
                    .to_owned(),
            );
        }
        let policy = self.field("maxmemory_policy");
        if policy != "noeviction" {
            findings.push(format!(
                "maxmemory-policy is `{policy}`: when memory is short, limits are forgotten \
                 rather than refused; set `maxmemory-policy noeviction`"
            ));
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n\
                        role:master\r\naof_enabled:1\r\nmaxmemory_policy:noeviction\r\n";

    fn changed(from: &str, to: &str) -> ServerInfo {
        assert!(GOOD.contains(from), "{from}");
        ServerInfo::parse(&GOOD.replace(from, to))
    }

    #[test]
    fn a_durable_server_of_its_own_is_taken_without_a_finding() {
        let info = ServerInfo::parse(GOOD);
        assert_eq!(info.refusal(), None);
        assert!(info.findings().is_empty());
    }

    #[test]
    fn a_server_that_cannot_keep_limits_is_refused_with_the_way_out() {
        for (from, to, says) in [
            ("7.0.15", "6.2.14", "take 7.0 or newer"),
            ("7.0.15", "", "take 7.0 or newer"),
            ("standalone", "cluster", "take one server"),
            ("master", "slave", "name its primary"),
        ] {
            let refusal = changed(from, to).refusal().unwrap_or_default();
            assert!(refusal.contains(says), "{to}: {refusal}");
        }
        assert_eq!(changed("7.0.15", "10.2.1").refusal(), None);
    }

    #[test]
    fn what_makes_it_forget_is_found() {
        for (from, to, says) in [
            ("aof_enabled:1", "aof_enabled:0", "appendonly is `no`"),
            ("noeviction", "allkeys-lru", "maxmemory-policy is `allkeys-lru`"),
            ("noeviction", "volatile-ttl", "maxmemory-policy is `volatile-ttl`"),
        ] {
            let findings = changed(from, to).findings();
            assert_eq!(findings.len(), 1);
            assert!(findings[0].contains(says), "{findings:?}");
        }
    }
}
