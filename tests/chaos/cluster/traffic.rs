//! A steady load as platforms make it: conversations whose messages come in order, each
//! offered again until it is accepted, and people who vote.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aof_harness::{Api, Sender, mention};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::topology::{LIMITED, TENANTS, Topology, VOTERS};

/// Conversations at Slack of each organization; they share two users.
const SLACK_LINES: usize = 6;
/// Conversations over the chat API of each organization.
const CHAT_LINES: usize = 3;
/// Pause between two messages of a conversation.
const PAUSE: Duration = Duration::from_millis(1_200);
/// The same in the organization with a limit a minute: together just below it.
const LIMITED_PAUSE: Duration = Duration::from_millis(10_500);
/// Pause before what was not taken is offered again.
const AGAIN: Duration = Duration::from_millis(200);
/// Longest wait for an answer to a webhook or a vote; a chat answers within 60 s.
const WAIT: Duration = Duration::from_secs(10);
/// The same for a chat.
const CHAT_WAIT: Duration = Duration::from_secs(75);
/// Pause between two looks at what is held.
const VOTE_EVERY: Duration = Duration::from_millis(500);

/// What a message is to come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Its tool runs.
    Runs,
    /// No such tool: the guard says no.
    Refused,
    /// Held; both people agree.
    Approved,
    /// Held; one says no.
    Denied,
    /// Held; nobody says anything.
    Expires,
}

impl Plan {
    /// The `n`th message of every conversation comes to the same.
    pub(crate) fn of(n: u64) -> Self {
        match n % 16 {
            5 => Self::Approved,
            9 => Self::Denied,
            11 => Self::Refused,
            13 => Self::Approved,
            15 if n % 32 == 15 => Self::Expires,
            _ => Self::Runs,
        }
    }

    /// The plan behind a key that [`Line::key`] made.
    pub(crate) fn of_key(key: &str) -> Option<Self> {
        Some(Self::of(key.rsplit('/').next()?.parse().ok()?))
    }

    fn command(self, key: &str, n: u64) -> String {
        match self {
            Self::Refused => format!("kubectl get pods {key}"),
            Self::Runs if n.is_multiple_of(24) => format!("mark {key} 3"),
            Self::Runs => format!("mark {key} 0.05"),
            _ => format!("purge {key} 0.05"),
        }
    }
}

/// What was seen from outside.
#[derive(Default)]
pub(crate) struct Outside {
    /// No new messages are made.
    pub(crate) stop: AtomicBool,
    /// Nobody votes any more.
    pub(crate) settled: AtomicBool,
    /// Key of each message with a 2xx, and the message's id.
    pub(crate) accepted: Mutex<BTreeMap<String, String>>,
    /// Keys that were answered over the chat API with status and text.
    pub(crate) answered: Mutex<HashMap<String, (String, String)>>,
    /// Offers that were not taken at first: no answer, or a 5xx.
    pub(crate) refused: AtomicU64,
    /// Votes that were taken.
    pub(crate) votes: AtomicU64,
    /// Votes that were not: no answer, or an error.
    pub(crate) votes_lost: AtomicU64,
    /// What must never come as an answer.
    pub(crate) wrong: Mutex<Vec<String>>,
}

impl Outside {
    fn accept(&self, key: &str, id: &str) {
        let before = self.accepted.lock().expect("ok").insert(key.to_owned(), id.to_owned());
        if before.is_some_and(|before| before != id) {
            self.wrong.lock().expect("ok").push(format!("{key} was accepted as two messages"));
        }
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

/// One conversation.
#[derive(Clone)]
struct Line {
    tenant: &'static str,
    name: String,
    user: String,
}

impl Line {
    fn key(&self, n: u64) -> String {
        format!("{}/{}/{n}", self.tenant, self.name)
    }
}

/// Starts all conversations; each ends after `stop`, when its last message was taken or the
/// caller aborts it.
pub(crate) fn start(topology: &Topology, outside: &Arc<Outside>) -> tokio::task::JoinSet<()> {
    let mut lines = tokio::task::JoinSet::new();
    for tenant in TENANTS {
        for at in 0..SLACK_LINES {
            let line = Line { tenant, name: format!("s{at}"), user: format!("U000000{}", at % 2) };
            let http = reqwest::Client::builder().timeout(WAIT).build().expect("a client");
            let sender = Sender { http, ..Sender::new(&topology.balancer.url(), tenant) };
            lines.spawn(over_slack(line, sender, Arc::clone(outside)));
        }
        if tenant == LIMITED {
            continue;
        }
        for at in 0..CHAT_LINES {
            let line = Line { tenant, name: format!("c{at}"), user: format!("u{at}") };
            let http = reqwest::Client::builder().timeout(CHAT_WAIT).build().expect("a client");
            let api = Api { http, ..topology.api(tenant) };
            lines.spawn(over_chat(line, api, Arc::clone(outside)));
        }
    }
    lines
}

async fn over_slack(line: Line, sender: Sender, outside: Arc<Outside>) {
    let channel = format!("C{}{}", line.tenant.replace('-', ""), line.name).to_uppercase();
    let pause = if line.tenant == LIMITED { LIMITED_PAUSE } else { PAUSE };
    for n in 0.. {
        if outside.is_over() {
            return;
        }
        let key = line.key(n);
        let ts = format!("1700000001.{n:06}");
        let mut body: Value = serde_json::from_str(&mention(
            &channel,
            &line.user,
            &ts,
            &Plan::of(n).command(&key, n),
        ))
        .expect("our own");
        // One thread is one conversation.
        body["event"]["thread_ts"] = json!("1700000000.000001");
        let body = body.to_string();
        loop {
            let sent = sender.post(body.clone()).await;
            if let Ok(answer) = sent
                && answer.status().is_success()
                && let Ok(answer) = answer.json::<Value>().await
                && let Some(id) = answer["message_id"].as_str()
            {
                outside.accept(&key, id);
                break;
            }
            outside.refused.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(AGAIN).await;
        }
        tokio::time::sleep(pause).await;
    }
}

async fn over_chat(line: Line, api: Api, outside: Arc<Outside>) {
    let url = format!("{}/accounts/{}/chat", api.url, api.account);
    for n in 0.. {
        if outside.is_over() {
            return;
        }
        let key = line.key(n);
        let body = json!({
            "text": Plan::of(n).command(&key, n), "user": line.user, "conversation": line.name,
            "event_id": key, "channel": "ops",
        });
        loop {
            let sent = api.http.post(&url).bearer_auth(&api.key).json(&body).send().await;
            if let Ok(answer) = sent
                && answer.status().is_success()
                && let Ok(answer) = answer.json::<Value>().await
                && let Some(id) = answer["message_id"].as_str()
            {
                outside.accept(&key, id);
                let text = |field: &str| answer[field].as_str().unwrap_or_default().to_owned();
                let told = (text("status"), text("answer"));
                outside.answered.lock().expect("ok").insert(key.clone(), told);
                break;
            }
            outside.refused.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(AGAIN).await;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Votes as each held command's plan says until all is settled.
pub(crate) async fn vote(people: Vec<Api>, outside: Arc<Outside>) {
    while !outside.settled.load(Ordering::SeqCst) {
        let accounts = TENANTS.iter().map(|tenant| {
            vote_in(people.iter().filter(|person| person.account == *tenant).collect(), &outside)
        });
        join_all(accounts).await;
        tokio::time::sleep(VOTE_EVERY).await;
    }
}

/// The first person of an account looks, and all of its people vote.
async fn vote_in(people: Vec<&Api>, outside: &Outside) {
    let Api { http, url, account, key } = people[0];
    let list = format!("{url}/accounts/{account}/approvals?status=pending");
    let Ok(answer) = http.get(list).bearer_auth(key).send().await else { return };
    let Ok(listed) = answer.json::<Value>().await else { return };
    let votes = listed["approvals"].as_array().into_iter().flatten().flat_map(|approval| {
        let id = approval["id"].as_str().unwrap_or_default();
        let ballots: &[&str] = match approval["argv"][1].as_str().and_then(Plan::of_key) {
            Some(Plan::Approved) => &["approve", "approve"],
            Some(Plan::Denied) => &["approve", "deny"],
            _ => &[],
        };
        let people = people.iter().zip(ballots);
        people.map(move |(person, vote)| cast(person, id, vote))
    });
    for counted in join_all(votes).await {
        let count = if counted { &outside.votes } else { &outside.votes_lost };
        count.fetch_add(1, Ordering::SeqCst);
    }
}

async fn cast(person: &Api, id: &str, vote: &str) -> bool {
    let url = format!("{}/accounts/{}/approvals/{id}/votes", person.url, person.account);
    let body = json!({"vote": vote, "reason": "as planned"});
    let sent = person.http.post(url).bearer_auth(&person.key).json(&body).send().await;
    sent.is_ok_and(|answer| answer.status().is_success())
}

/// Makes a key for each person of each account.
pub(crate) async fn people(topology: &Topology) -> Vec<Api> {
    let mut people = Vec::new();
    for tenant in TENANTS {
        for voter in VOTERS {
            let made = topology.api(tenant).person(voter, &["read", "approve"]).await;
            let http = reqwest::Client::builder().timeout(WAIT).build().expect("a client");
            people.push(Api { http, ..made });
        }
    }
    people
}
