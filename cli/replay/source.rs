//! Where the past is read from: a running node, or a capsule that was saved. Streamed: at
//! no time is more in memory than a line and what deciding needs to remember.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;

use anyhow::Context;
use aof_shared::ids::MessageId;
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::ACCEPT;

use super::capsule;
use super::record::Input;
use super::slice::Slice;
use crate::client::Client;
use crate::lines::Lines;

/// How long before a slice its messages may have been accepted: a message waits for its
/// channel's name, for a router, for a backend that is away.
const LEAD_MS: u64 = 600_000;

/// Messages read ahead of their decisions; the oldest are given up beyond it. Routers
/// decide in order but for a few thousand.
const MAX_AHEAD: usize = 100_000;

/// Where the past is read from.
pub(crate) enum Source {
    /// A node, in one account.
    Node(Client),
    /// A saved capsule.
    Capsule(PathBuf),
}

/// Lines of one kind, in order.
pub(crate) enum Reader {
    /// From a node.
    Node(Lines, Client),
    /// From a capsule.
    Capsule(capsule::Section),
}

impl Source {
    /// The slice's events of `kinds`; all of them when none are named.
    ///
    /// # Errors
    /// What the node says, or that the capsule cannot be read.
    pub(crate) async fn events(&self, slice: &Slice, kinds: &[&str]) -> anyhow::Result<Reader> {
        let client = match self {
            Self::Node(client) => client,
            Self::Capsule(path) => {
                return Ok(Reader::Capsule(capsule::Section::open(path, "event", kinds)?));
            }
        };
        let mut query: Vec<(&str, String)> = vec![
            ("follow", "false".to_owned()),
            ("from", slice.from_ms.to_string()),
            ("to", slice.to_ms.to_string()),
        ];
        if !kinds.is_empty() {
            query.push(("type", kinds.join(",")));
        }
        query.extend(slice.about.iter().map(|(name, value)| (&**name, value.clone())));
        open(client, "/events", &query).await
    }

    /// Every configuration that decisions were made under, whenever it was recorded.
    ///
    /// # Errors
    /// As [`Source::events`].
    pub(crate) async fn configurations(&self) -> anyhow::Result<Reader> {
        const RECORDED: &str = "config.recorded";
        match self {
            Self::Node(client) => {
                let query = [("follow", "false".to_owned()), ("type", RECORDED.to_owned())];
                open(client, "/events", &query).await
            }
            Self::Capsule(path) => {
                Ok(Reader::Capsule(capsule::Section::open(path, "event", &[RECORDED])?))
            }
        }
    }

    /// The messages that the slice's decisions were made about.
    ///
    /// # Errors
    /// As [`Source::events`].
    pub(crate) async fn messages(&self, slice: &Slice) -> anyhow::Result<Reader> {
        match self {
            Self::Node(client) => {
                let from_ms = slice.from_ms.saturating_sub(LEAD_MS);
                let query = [("from", from_ms.to_string()), ("to", slice.to_ms.to_string())];
                open(client, "/messages", &query).await
            }
            Self::Capsule(path) => {
                Ok(Reader::Capsule(capsule::Section::open(path, "message", &[])?))
            }
        }
    }
}

async fn open(client: &Client, path: &str, query: &[(&str, String)]) -> anyhow::Result<Reader> {
    let url = reqwest::Url::parse_with_params("http://node/", query).expect("a constant URL");
    let path = format!("{path}?{}", url.query().unwrap_or_default());
    let request = client
        .of_account(Method::GET, &path)
        .header(ACCEPT, "application/x-ndjson, application/problem+json");
    Ok(Reader::Node(Lines::of(client.send(request).await?), client.clone()))
}

impl Reader {
    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// When it breaks off before its end.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        match self {
            Self::Node(lines, client) => {
                Ok(lines.next().await.map_err(|error| client.unreachable(error))?)
            }
            Self::Capsule(section) => section.next(),
        }
    }
}

/// Messages by id, read as far as decisions ask.
pub(super) struct Inputs {
    reader: Reader,
    ahead: HashMap<MessageId, Input>,
    order: VecDeque<MessageId>,
    last_seq: u64,
    over: bool,
}

impl Inputs {
    pub(super) fn new(reader: Reader) -> Self {
        let (ahead, order) = (HashMap::new(), VecDeque::new());
        Self { reader, ahead, order, last_seq: 0, over: false }
    }

    /// The message that stands at `seq`; `None` when it is no longer kept, or was accepted
    /// long before the slice.
    ///
    /// # Errors
    /// As [`Reader::next`].
    pub(super) async fn take(&mut self, id: MessageId, seq: u64) -> anyhow::Result<Option<Input>> {
        if let Some(input) = self.ahead.remove(&id) {
            return Ok(Some(input));
        }
        while !self.over && self.last_seq < seq {
            let Some(line) = self.reader.next().await? else {
                self.over = true;
                break;
            };
            let input: Input = serde_json::from_slice(&line).context("a message cannot be read")?;
            self.last_seq = input.seq;
            if input.message.id == id {
                return Ok(Some(input));
            }
            self.keep(input);
        }
        Ok(None)
    }

    fn keep(&mut self, input: Input) {
        if self.order.len() == MAX_AHEAD
            && let Some(oldest) = self.order.pop_front()
        {
            self.ahead.remove(&oldest);
        }
        self.order.push_back(input.message.id);
        self.ahead.insert(input.message.id, input);
    }
}
