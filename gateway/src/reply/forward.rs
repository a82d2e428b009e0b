//! Egress of sources: an alert has nobody to answer to, so what is said goes to the place
//! that the account's `reply_to` names, and without one to the journal alone.

use std::sync::Arc;

use async_trait::async_trait;

use aof_shared::ids::{InstanceName, PlatformName};
use aof_shared::message::{Address, Reply};

use super::Outlets;
use super::accounts::Accounts;
use super::port::{Body, Outlet, Piece, Posted, SendError};

/// Sends what a source's events led to.
#[derive(Clone)]
pub struct Forward {
    accounts: Accounts,
    outlets: Outlets,
}

/// Where something goes instead: the outlet, and the reply with its new address.
type Target = (Arc<dyn Outlet>, Reply);

impl Forward {
    /// Forwards to `outlets`, as the accounts say.
    #[must_use]
    pub fn new(accounts: Accounts, outlets: Outlets) -> Self {
        Self { accounts, outlets }
    }

    /// `None` when the account names no place.
    fn target(&self, reply: &Reply) -> Result<Option<Target>, SendError> {
        let to = &reply.to;
        let account = self.accounts.get(&to.tenant, &to.platform, &to.instance);
        let named = account.as_ref().and_then(|a| a.settings.get("reply_to")?.as_str());
        let Some(named) = named.filter(|named| !named.is_empty()) else { return Ok(None) };
        let place = place(named, to).ok_or_else(|| {
            refused(format!("`reply_to: {named}` is not `platform/instance/channel`"))
        })?;
        let outlet = self.outlets.get(&place.platform).cloned();
        let outlet = outlet
            .ok_or_else(|| refused(format!("`reply_to`: nothing sends to {}", place.platform)))?;
        Ok(Some((outlet, Reply { to: place, ..reply.clone() })))
    }
}

/// `slack/default/C0123` as an address of the same tenant: no account is anybody else's.
fn place(named: &str, of: &Address) -> Option<Address> {
    let mut parts = named.splitn(3, '/');
    let platform: PlatformName = parts.next()?.parse().ok()?;
    let instance: InstanceName = parts.next()?.parse().ok()?;
    let channel = parts.next().filter(|channel| !channel.is_empty())?.to_owned();
    Some(Address { tenant: of.tenant.clone(), platform, instance, channel, thread: None })
}

fn refused(detail: String) -> SendError {
    SendError::Refused { reason: "bad_reply_to", detail }
}

#[async_trait]
impl Outlet for Forward {
    fn pieces(&self, reply: &Reply) -> Vec<Piece> {
        match self.target(reply) {
            Ok(Some((outlet, forwarded))) => outlet.pieces(&forwarded),
            // `send` says why, or that there is nothing to send.
            Ok(None) | Err(_) => super::paced::pieces(reply, |text| vec![text.to_owned()]),
        }
    }

    fn repeatable(&self, body: &Body) -> bool {
        matches!(body, Body::Card { replaces: Some(_), .. })
    }

    fn wait_ms(&self, reply: &Reply, body: &Body) -> u64 {
        match self.target(reply) {
            Ok(Some((outlet, forwarded))) => outlet.wait_ms(&forwarded, body),
            Ok(None) | Err(_) => 0,
        }
    }

    async fn send(&self, reply: &Reply, piece: &Piece) -> Result<Posted, SendError> {
        match self.target(reply)? {
            Some((outlet, forwarded)) => outlet.send(&forwarded, piece).await,
            None => Ok(Posted { id: None, channel: None }),
        }
    }

    /// Votes find a card by where it was asked for, so reactions to a forwarded one would not
    /// count: its buttons do.
    async fn decorate(&self, _reply: &Reply, _posted: &str) {}
}

#[cfg(test)]
mod tests {
    use aof_shared::config::{Config, Snapshot};
    use serde_json::json;
    use wiremock::matchers::path;
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;
    use crate::platform::contract::account;
    use crate::reply::contract::paced_for;
    use crate::reply::tests::harness::reply_to;

    /// A forwarder of tenant `org-a`'s GitHub account, whose Slack account is at `url`.
    async fn sent(setting: &str, tenant: &str, url: &str) -> Result<Posted, SendError> {
        let settings = json!({ "reply_to": setting });
        let mut github = account("github", "s", &settings);
        (github.tenant, github.name) =
            (tenant.parse().expect("a name"), "main".parse().expect("a name"));
        let slack = crate::reply::tests::harness::instance(url);
        let instances = vec![Arc::new(github), Arc::new(slack)];
        let accounts = Accounts::new(Config::new(Snapshot { instances, ..Snapshot::default() }));
        let (paced, _dir) = paced_for(accounts.clone());
        let forward = Forward::new(accounts, crate::reply::outlets(&paced));
        let mut reply = reply_to("github".parse().expect("a name"), "acme/web", "**done**");
        reply.to.tenant = tenant.parse().expect("a name");
        let piece = &forward.pieces(&reply)[0];
        forward.send(&reply, piece).await
    }

    #[tokio::test]
    async fn an_alert_is_answered_where_its_account_says_and_nowhere_else() {
        let slack = MockServer::start().await;
        let answer = ResponseTemplate::new(200).set_body_json(json!({ "ok": true, "ts": "1.2" }));
        Mock::given(path("/chat.postMessage")).respond_with(answer).mount(&slack).await;
        let url = slack.uri();
        let posted = sent("slack/main/C7", "org-a", &url).await.expect("it is sent");
        assert_eq!(posted.id.as_deref(), Some("1.2"));
        let requests = slack.received_requests().await.expect("they are recorded");
        let body: serde_json::Value = serde_json::from_slice(&requests[0].body).expect("JSON");
        assert_eq!((&body["channel"], &body["text"]), (&json!("C7"), &json!("*done*")));
        let silent = sent("", "org-a", &url).await;
        assert_eq!(silent, Ok(Posted { id: None, channel: None }));
        for (setting, tenant, reason) in [
            ("slack/main/C7", "org-b", "no_instance"),
            ("C7", "org-a", "bad_reply_to"),
            ("irc/main/C7", "org-a", "bad_reply_to"),
        ] {
            match sent(setting, tenant, &url).await {
                Err(SendError::Refused { reason: got, .. }) => assert_eq!(got, reason),
                other => panic!("{setting} of {tenant}: {other:?}"),
            }
        }
        assert_eq!(slack.received_requests().await.expect("recorded").len(), 1);
    }
}
