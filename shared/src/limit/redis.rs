//! Limits on Redis: one script a decision, on the server's own clock, exact across nodes.
//!
//! Every key begins with `{name}:`, so two clusters can share a server. What was granted
//! survives a restart as far as Redis wrote it down; see [`Opened::findings`].

mod link;
mod scripts;
mod server;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use redis::{Cmd, ErrorKind, RedisError, Value, from_redis_value};

use crate::clock::Clock;
use crate::limit::{Admission, Demand, LimitError, Limits};
use crate::queue::BoxError;
use crate::secret::Secret;

use link::Link;
use scripts::{Script, Scripts};
use server::ServerInfo;

/// How long a charge is known by its id after the day's last one: longer than a message
/// waits to be tried again.
const CHARGES_LIFE_MS: u64 = 2 * 24 * 3_600_000;
/// How long a day's total is kept after its last charge.
const TOTAL_LIFE_MS: u64 = 35 * 24 * 3_600_000;

/// Which Redis, and whose limits.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// The cluster's name.
    pub name: String,
    /// `redis://[user:password@]host[:port][/database]`.
    pub url: Secret,
}

/// Limits that are open, and what is not as it should be.
pub struct Opened {
    /// The adapter.
    pub limits: Arc<dyn Limits>,
    /// What may make the server forget, one sentence each, for the log and `doctor`.
    pub findings: Vec<String>,
}

/// Why the limits did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It may be there later: try again.
    #[error("redis at {address} does not answer; start it, or correct `redis_url`")]
    Unreachable {
        /// `host:port`.
        address: String,
        /// The cause.
        #[source]
        source: BoxError,
    },
    /// It will be no better later: do not start.
    #[error("redis at {address} {reason}")]
    Refused {
        /// `host:port`.
        address: String,
        /// What is wrong and what to do, without passwords.
        reason: String,
        /// The cause, if it said more.
        #[source]
        source: Option<BoxError>,
    },
}

/// Connects, checks the server, and gives it the scripts. Later outages heal by themselves:
/// every call then fails within two seconds, and works again once Redis is back.
///
/// # Errors
/// [`OpenError`].
pub async fn open(options: RedisOptions) -> Result<Opened, OpenError> {
    open_on(options, None).await
}

/// `clock`: decide on this one instead of the server's.
async fn open_on(
    options: RedisOptions,
    clock: Option<Arc<dyn Clock>>,
) -> Result<Opened, OpenError> {
    let link = Link::new(options.url.expose()).map_err(|_| OpenError::Refused {
        address: "`redis_url`".to_owned(),
        reason: "is not understood; write redis://user:password@host:6379".to_owned(),
        source: None,
    })?;
    let failed = |error| open_error(link.address(), error);
    let info = link.call(&redis::cmd("INFO")).await.map_err(failed)?;
    let info: String = from_redis_value(info).map_err(|error| failed(error.into()))?;
    let info = ServerInfo::parse(&info);
    if let Some(reason) = info.refusal() {
        return Err(OpenError::Refused {
            address: link.address().to_owned(),
            reason,
            source: None,
        });
    }
    let scripts = Scripts::new();
    scripts.load(&link).await.map_err(failed)?;
    let prefix = format!("{{{}}}:", options.name);
    let limits = RedisLimits { link, scripts, prefix, clock };
    // An account that may not write is told now, not with the first message.
    let nothing = Demand::default();
    limits.decide(&nothing).await.map_err(|error| open_error(limits.link.address(), error))?;
    Ok(Opened { limits: Arc::new(limits), findings: info.findings() })
}

fn open_error(address: &str, error: RedisError) -> OpenError {
    let address = address.to_owned();
    let reason = match (error.kind(), error.code()) {
        (ErrorKind::AuthenticationFailed, _) => "refuses the login; correct `redis_url`",
        (_, Some("NOAUTH")) => "asks for a password; put it into `redis_url`",
        (_, Some("NOPERM")) => "forbids what limits need; allow the user +@all on ~{name}:*",
        (ErrorKind::InvalidClientConfig, _) => "cannot be reached as `redis_url` says; correct it",
        _ => return OpenError::Unreachable { address, source: Box::new(error) },
    };
    OpenError::Refused { address, reason: reason.to_owned(), source: Some(Box::new(error)) }
}

/// The adapter.
struct RedisLimits {
    link: Link,
    scripts: Scripts,
    prefix: String,
    /// `None`: the server's clock.
    clock: Option<Arc<dyn Clock>>,
}

impl RedisLimits {
    fn key(&self, kind: char, scope: &str) -> String {
        format!("{}{kind}:{scope}", self.prefix)
    }

    fn day_key(&self, kind: char, scope: &str, day: u32) -> String {
        format!("{}{kind}:{day}:{scope}", self.prefix)
    }

    /// What the scripts take as the time: empty for the server's own.
    fn time(&self) -> String {
        self.clock.as_ref().map_or_else(String::new, |clock| clock.now_ms().to_string())
    }

    /// Begins a call of `script` on the places of `demand`, or on what its holder is
    /// remembered by when there are none.
    fn over_places(&self, script: &Script, demand: &Demand) -> Cmd {
        let mut call = script.over(demand.places.len().max(1));
        for place in &demand.places {
            call.arg(self.key('p', &place.scope));
        }
        if demand.places.is_empty() {
            call.arg(self.key('g', &demand.holder));
        }
        call
    }

    async fn decide(&self, demand: &Demand) -> Result<Admission, RedisError> {
        let Demand { windows, places, holder, ttl_ms } = demand;
        let script = &self.scripts.admit;
        // Whoever has the places was granted; with no ttl there is nothing to remember.
        let remembered = places.is_empty() && *ttl_ms > 0;
        let mut call = script.over(windows.len() + places.len() + usize::from(remembered));
        for window in windows {
            call.arg(self.key('w', &window.scope));
        }
        for place in places {
            call.arg(self.key('p', &place.scope));
        }
        if remembered {
            call.arg(self.key('g', holder));
        }
        call.arg(self.time()).arg(holder).arg(us(*ttl_ms)).arg(windows.len());
        for window in windows {
            call.arg(window.limit).arg(us(window.window_ms));
        }
        for place in places {
            call.arg(place.limit);
        }
        let answer = script.run(&self.link, &call).await?;
        if matches!(answer, Value::Int(0)) {
            return Ok(Admission::Granted);
        }
        let (key, wait_ms): (usize, u64) = from_redis_value(answer)?;
        let scopes = windows.iter().map(|window| &window.scope);
        let mut scopes = scopes.chain(places.iter().map(|place| &place.scope));
        let scope = scopes.nth(key.saturating_sub(1)).cloned().unwrap_or_default();
        Ok(Admission::Deferred { scope, retry_after_ms: wait_ms.max(1) })
    }

    async fn run<T: redis::FromRedisValue>(
        &self,
        script: &Script,
        call: &Cmd,
    ) -> Result<T, LimitError> {
        let answer = script.run(&self.link, call).await;
        let answer = answer.and_then(|answer| from_redis_value(answer).map_err(RedisError::from));
        answer.map_err(|error| self.link.error(error))
    }
}

fn us(ms: u64) -> u64 {
    ms.saturating_mul(1_000)
}

#[async_trait]
impl Limits for RedisLimits {
    async fn admit(&self, demand: &Demand) -> Result<Admission, LimitError> {
        self.decide(demand).await.map_err(|error| self.link.error(error))
    }

    async fn renew(&self, demand: &Demand) -> Result<bool, LimitError> {
        let script = &self.scripts.renew;
        let mut call = self.over_places(script, demand);
        call.arg(self.time()).arg(&demand.holder).arg(us(demand.ttl_ms)).arg(demand.places.len());
        self.run(script, &call).await
    }

    async fn release(&self, demand: &Demand) -> Result<(), LimitError> {
        let script = &self.scripts.release;
        let mut call = self.over_places(script, demand);
        call.arg(&demand.holder).arg(demand.places.len());
        self.run::<u8>(script, &call).await.map(drop)
    }

    async fn charge(
        &self,
        scope: &str,
        day: u32,
        amount: u64,
        charge_id: &str,
    ) -> Result<u64, LimitError> {
        let script = &self.scripts.charge;
        let mut call = script.over(2);
        call.arg(self.day_key('c', scope, day)).arg(self.day_key('d', scope, day));
        let amount = i64::try_from(amount).unwrap_or(i64::MAX);
        call.arg(charge_id).arg(amount).arg(CHARGES_LIFE_MS).arg(TOTAL_LIFE_MS);
        self.run(script, &call).await
    }

    async fn spent(&self, scope: &str, day: u32) -> Result<u64, LimitError> {
        let mut get = redis::cmd("GET");
        get.arg(self.day_key('d', scope, day));
        let answer = self.link.call(&get).await;
        let total = answer.and_then(|total| Ok(from_redis_value::<Option<u64>>(total)?));
        Ok(total.map_err(|error| self.link.error(error))?.unwrap_or_default())
    }
}
