//! Reads a node's journal: its history as lines, or live, taking up where it broke off.

use std::time::Duration;

use anyhow::Context;
use eventsource_stream::Eventsource;
use futures_util::StreamExt;
use reqwest::header::ACCEPT;
use reqwest::{Method, Url};
use serde_json::Value;

use crate::client::{Client, ClientError};
use crate::lines::Lines;

/// Pauses between two tries to reconnect, in ms; the last is repeated.
const RECONNECT_MS: [u64; 5] = [250, 500, 1_000, 2_000, 5_000];
/// Tries in a row that reach nobody before the command gives up: about a minute.
const MAX_TRIES: usize = 15;

/// Which part of the journal.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Dotted names, or prefixes as in `approval.*`; empty takes all.
    pub types: Vec<String>,
    /// Only after this sequence number.
    pub after: Option<u64>,
    /// Starts with the newest so many.
    pub tail: Option<usize>,
    /// Only of one message or run: the parameter's name and the id.
    pub of: Option<(&'static str, String)>,
    /// Only about these: parameters of the journal.
    pub about: Vec<(&'static str, String)>,
}

impl Selection {
    fn path(&self, follow: bool) -> String {
        let mut query = vec![("follow", follow.to_string())];
        if !self.types.is_empty() {
            query.push(("type", self.types.join(",")));
        }
        query.extend(self.after.map(|seq| ("after", seq.to_string())));
        query.extend(self.tail.map(|n| ("tail", n.to_string())));
        query.extend(self.of.clone());
        query.extend(self.about.iter().cloned());
        let url = Url::parse_with_params("http://node/events", query).expect("a constant URL");
        format!("/events?{}", url.query().unwrap_or_default())
    }
}

/// The history of a selection, oldest first, handed to `each`.
///
/// # Errors
/// When the node cannot be reached, or answers something else.
pub async fn history(
    client: &Client,
    selection: &Selection,
    mut each: impl FnMut(Value),
) -> anyhow::Result<()> {
    let request = client
        .of_account(Method::GET, &selection.path(false))
        .header(ACCEPT, "application/x-ndjson, application/problem+json");
    let mut lines = Lines::of(client.send(request).await?);
    while let Some(line) = lines.next().await.map_err(|error| client.unreachable(error))? {
        each(read(client, &line)?);
    }
    Ok(())
}

fn read(client: &Client, line: &[u8]) -> Result<Value, ClientError> {
    serde_json::from_slice(line).map_err(|error| client.garbled(format!("an event: {error}")))
}

/// Follows a selection live, until `each` fails; from now on where it names no start.
/// Connections that break are taken up again after the last event seen.
///
/// # Errors
/// What `each` says, what the node refuses, or that it stays unreachable.
pub async fn follow(
    client: &Client,
    selection: &Selection,
    mut each: impl FnMut(Value) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut last = None;
    let mut tries = 0;
    loop {
        let broke = match connect(client, selection, last).await {
            Ok(response) => {
                let mut events = response.bytes_stream().eventsource();
                while let Some(Ok(event)) = events.next().await {
                    tries = 0;
                    let Ok(data) = serde_json::from_str::<Value>(&event.data) else { continue };
                    if event.event == "resync" {
                        let first = &data["first_seq"];
                        anstream::eprintln!("what came before {first} is no longer kept");
                    } else if let Some(seq) = data["seq"].as_u64() {
                        last = Some(seq);
                        each(data)?;
                    }
                }
                "the connection broke".to_owned()
            }
            Err(ClientError::Problem { problem })
                if problem.status < 500 && problem.status != 429 =>
            {
                return Err(ClientError::Problem { problem }.into());
            }
            Err(error) if tries >= MAX_TRIES || (tries == 0 && last.is_none()) => {
                return Err(error).context("the journal cannot be followed");
            }
            Err(error) => error.to_string(),
        };
        let pause = RECONNECT_MS[tries.min(RECONNECT_MS.len() - 1)];
        tries += 1;
        anstream::eprintln!("{broke}; again in {pause} ms");
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

async fn connect(
    client: &Client,
    selection: &Selection,
    last: Option<u64>,
) -> Result<reqwest::Response, ClientError> {
    let mut request = client
        .of_account(Method::GET, &selection.path(true))
        .header(ACCEPT, "text/event-stream, application/problem+json");
    if let Some(last) = last {
        request = request.header("last-event-id", last.to_string());
    }
    client.send(request).await
}

#[cfg(test)]
mod tests {
    use super::Selection;

    #[test]
    fn a_selection_is_asked_for_in_the_query() {
        let selection = Selection {
            types: vec!["approval.*".to_owned(), "run.failed".to_owned()],
            tail: Some(20),
            ..Selection::default()
        };
        let path = selection.path(true);
        assert_eq!(path, "/events?follow=true&type=approval.*%2Crun.failed&tail=20");
    }
}
