//! The HTTP API as a client of one account uses it.

use serde_json::{Value, json};

use crate::Node;

/// One account, with one key.
#[derive(Clone)]
pub struct Api {
    pub http: reqwest::Client,
    pub url: String,
    pub account: String,
    pub key: String,
}

impl Api {
    /// As the operator.
    pub fn operator(node: &Node, account: &str) -> Self {
        Self {
            http: reqwest::Client::new(),
            url: node.url.clone(),
            account: account.to_owned(),
            key: node.admin_key(),
        }
    }

    /// The same account with a new key for `user`.
    pub async fn person(&self, user: &str, scopes: &[&str]) -> Self {
        let (status, made) = self.post("keys", &json!({"user": user, "scopes": scopes})).await;
        assert!((200..300).contains(&status), "{status}: {made}");
        let key = made["key"].as_str().unwrap_or_else(|| panic!("no key in {made}"));
        Self { key: key.to_owned(), ..self.clone() }
    }

    /// The same key on another account's paths.
    pub fn reaching_for(&self, account: &str) -> Self {
        Self { account: account.to_owned(), ..self.clone() }
    }

    /// Status and body of a GET below `/accounts/<account>/`.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        let url = format!("{}/accounts/{}/{path}", self.url, self.account);
        let sent = self.http.get(url).bearer_auth(&self.key).send().await;
        read(sent.expect("the node answers")).await
    }

    /// Status and body of a POST below `/accounts/<account>/`.
    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let url = format!("{}/accounts/{}/{path}", self.url, self.account);
        let sent = self.http.post(url).bearer_auth(&self.key).json(body).send().await;
        read(sent.expect("the node answers")).await
    }

    /// Says `text` in `channel` and waits for the answer.
    pub async fn chat(&self, channel: &str, text: &str) -> Value {
        let (status, answer) = self.post("chat", &json!({"channel": channel, "text": text})).await;
        assert!((200..300).contains(&status), "{status}: {answer}");
        answer
    }

    /// Votes on an action; the answer says whether it counted.
    pub async fn vote(&self, id: &str, vote: &str) -> (u16, Value) {
        self.post(&format!("approvals/{id}/votes"), &json!({"vote": vote})).await
    }

    /// One approval as it stands.
    pub async fn approval(&self, id: &str) -> Value {
        self.get(&format!("approvals/{id}")).await.1
    }

    /// The journal, oldest first.
    pub async fn journal(&self) -> Vec<Value> {
        let url = format!("{}/accounts/{}/events?follow=false&after=0", self.url, self.account);
        let sent =
            self.http.get(url).bearer_auth(&self.key).header("accept", "application/x-ndjson");
        let text = sent.send().await.expect("the node answers").text().await.expect("a body");
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Journal entries of one type.
    pub async fn events(&self, kind: &str) -> Vec<Value> {
        self.journal().await.into_iter().filter(|event| event["type"] == kind).collect()
    }
}

async fn read(answer: reqwest::Response) -> (u16, Value) {
    let status = answer.status().as_u16();
    let text = answer.text().await.expect("a whole body");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}
