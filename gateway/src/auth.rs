//! API keys: tenant-bound, scoped, stored as SHA-256. The tenant comes from the key alone.

mod operator;

use std::sync::Arc;
use std::time::Duration;

use aof_shared::ids::TenantId;
use aof_shared::store::ApiKey;
use axum::http::{HeaderMap, header};
use moka::sync::Cache;
use sha2::{Digest, Sha256};

pub use self::operator::{
    ADMIN_KEY_FILE, BootstrapError, OperatorKey, ensure_admin_key, ensure_cluster_key,
};
use crate::app::App;
use crate::problem::Problem;

/// How long a key is remembered. With it a key revoked elsewhere dies within 15 s (K2).
const CACHE_MS: u64 = 5_000;
/// Keys remembered at once.
const CACHE_CAP: u64 = 10_000;
/// Bytes of randomness in a key's secret.
const SECRET_BYTES: usize = 32;
/// Bytes of randomness in a key's id.
const ID_BYTES: usize = 6;

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Send messages.
    Chat,
    /// Read agents, approvals, the journal.
    Read,
    /// Vote on approvals.
    Approve,
    /// Keys, dead letters, the node.
    Operate,
}

impl Scope {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Chat, Self::Read, Self::Approve, Self::Operate];

    /// As stored and shown.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Read => "read",
            Self::Approve => "approve",
            Self::Operate => "operate",
        }
    }
}

/// Keys looked up lately, by hash.
#[derive(Debug)]
pub(crate) struct Keys(Cache<String, Arc<ApiKey>>);

impl Default for Keys {
    fn default() -> Self {
        let lifetime = Duration::from_millis(CACHE_MS);
        Self(Cache::builder().max_capacity(CACHE_CAP).time_to_live(lifetime).build())
    }
}

impl Keys {
    /// Forgets everything; a revocation on this node acts at once.
    pub(crate) fn forget(&self) {
        self.0.invalidate_all();
    }
}

/// Who calls, for which account.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The key.
    pub(crate) key: Arc<ApiKey>,
    /// The account of the path, which the key may act for.
    pub(crate) tenant: TenantId,
}

impl Caller {
    /// True for a key that may act for any account.
    pub(crate) fn is_operator(&self) -> bool {
        self.key.tenant.is_none()
    }
}

impl App {
    /// The caller, if their key may do `scope` for `account`.
    ///
    /// # Errors
    /// 401 without a valid key; 404 for an account that is not the key's, as if it were
    /// not there, and for one that nobody has named; 403 without the scope.
    pub(crate) async fn authorize(
        &self,
        headers: &HeaderMap,
        account: &str,
        scope: Scope,
    ) -> Result<Caller, Problem> {
        let key = self.key(headers).await?;
        let tenant = TenantId::new(account).map_err(|_| Problem::not_found("account", account))?;
        if key.tenant.as_ref().is_some_and(|own| *own != tenant) {
            return Err(Problem::not_found("account", account));
        }
        require(&key, scope)?;
        if key.tenant.is_none() && !self.is_known(&tenant).await? {
            return Err(Problem::not_found("account", account));
        }
        Ok(Caller { key, tenant })
    }

    /// Whether a manifest or a key names the account; the default one is always there.
    /// Otherwise the operator's typing mistake would make an account.
    async fn is_known(&self, tenant: &TenantId) -> Result<bool, Problem> {
        let snapshot = self.node.config.current();
        if *tenant == TenantId::default_tenant()
            || snapshot.flows.iter().any(|flow| flow.tenant == *tenant)
            || snapshot.instances.iter().any(|instance| instance.tenant == *tenant)
        {
            return Ok(true);
        }
        Ok(!self.node.ports.store.keys(Some(tenant)).await?.is_empty())
    }

    /// The caller, if they are the operator.
    ///
    /// # Errors
    /// 401 without a valid key, 403 for any key that is bound to an account.
    pub(crate) async fn operator(&self, headers: &HeaderMap) -> Result<Arc<ApiKey>, Problem> {
        let key = self.key(headers).await?;
        if key.tenant.is_some() {
            return Err(Problem::forbidden("only the operator's key may see the node"));
        }
        require(&key, Scope::Operate)?;
        Ok(key)
    }

    /// The key that the request carries.
    ///
    /// # Errors
    /// 401 without one that counts.
    pub(crate) async fn key(&self, headers: &HeaderMap) -> Result<Arc<ApiKey>, Problem> {
        let text = presented(headers).filter(|k| is_shaped(k)).ok_or_else(Problem::bad_key)?;
        let hash = hash(text);
        let key = match self.keys.0.get(&hash) {
            Some(key) => key,
            None => {
                let found = self.node.ports.store.key_by_hash(&hash).await?;
                let key = Arc::new(found.ok_or_else(Problem::bad_key)?);
                self.keys.0.insert(hash, key.clone());
                key
            }
        };
        if key.revoked_at_ms.is_some() {
            return Err(Problem::dead_key("was revoked"));
        }
        if key.expires_at_ms.is_some_and(|at| at <= self.now_ms()) {
            return Err(Problem::dead_key("has expired"));
        }
        Ok(key)
    }
}

fn require(key: &ApiKey, scope: Scope) -> Result<(), Problem> {
    if key.scopes.iter().any(|s| s == scope.as_str()) {
        return Ok(());
    }
    Err(Problem::missing_scope(scope.as_str()))
}

fn presented(headers: &HeaderMap) -> Option<&str> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then_some(key.trim());
    }
    headers.get("x-api-key")?.to_str().ok().map(str::trim)
}

/// Cheap test before a hash and a lookup are spent: `aof_<id>_<secret>`.
fn is_shaped(key: &str) -> bool {
    let mut parts = key.split('_');
    let [prefix, id, secret] = [parts.next(), parts.next(), parts.next()];
    let hex = |part: Option<&str>, bytes: usize| {
        part.is_some_and(|p| p.len() == 2 * bytes && p.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    prefix == Some("aof")
        && hex(id, ID_BYTES)
        && hex(secret, SECRET_BYTES)
        && parts.next().is_none()
}

fn hash(key: &str) -> String {
    hex::encode(Sha256::digest(key.as_bytes()))
}

/// A fresh key: its id, and its whole text, which is shown once.
pub(crate) fn draw() -> (String, String) {
    let id = hex::encode(rand::random::<[u8; ID_BYTES]>());
    let secret = hex::encode(rand::random::<[u8; SECRET_BYTES]>());
    let text = format!("aof_{id}_{secret}");
    (id, text)
}

/// The record of a key: everything but its text.
pub(crate) fn record(text: &str, id: String, tenant: Option<TenantId>, user: &str) -> ApiKey {
    ApiKey {
        id,
        hash: hash(text),
        tenant,
        user: user.to_owned(),
        scopes: Vec::new(),
        created_at_ms: 0,
        expires_at_ms: None,
        revoked_at_ms: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_draw_makes_is_shaped_like_a_key() {
        let (id, text) = draw();
        assert!(is_shaped(&text) && text.contains(&id));
        let long = format!("{text}0");
        let more = format!("{text}_0");
        for bad in ["", "aof", "aof_", "aof__", "aof_zz_zz", &text[1..], &long, &more] {
            assert!(!is_shaped(bad), "{bad}");
        }
    }

    #[test]
    fn both_headers_carry_a_key_and_other_schemes_do_not() {
        let check = |name: &'static str, value: &str, expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().expect("a header value"));
            assert_eq!(presented(&headers), expected, "{name}: {value}");
        };
        check("authorization", "Bearer k", Some("k"));
        check("authorization", "bearer  k ", Some("k"));
        check("authorization", "Basic k", None);
        check("authorization", "k", None);
        check("x-api-key", " k", Some("k"));
        check("x-tenant-id", "k", None);
    }
}
