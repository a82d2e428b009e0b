//! Two organisations on one node: neither reaches anything of the other's.

use std::net::SocketAddr;

use aof_harness::{Api, Manifests, Node, Sender, Slack, mention, reaction, slack_trigger, until};
use serde_json::{Value, json};

/// The same flow name, channel and users in both organisations; only credentials differ.
fn two_orgs(api: SocketAddr) -> Manifests {
    let manifests = Manifests::new("");
    manifests.agent("shell", "  runtime: command\n  tools: [printenv, mktemp]\n");
    for tenant in ["a", "b"] {
        let rest = format!(
            "  context:\n    organization: org-{tenant}\n    env: {{WHOSE: org-{tenant}}}\n  agents:\n    - name: shell\n  \
             approval:\n    allowed_users: [U0BOSS01, boss]\n    require_for: [mktemp]\n"
        );
        let token = format!("xoxb-{tenant}");
        let spec = slack_trigger(api, &token, &format!("secret-of-{tenant}"), &rest);
        manifests.write(
            &format!("flows/ops-{tenant}.yaml"),
            &format!(
                "apiVersion: aof.dev/v1\nkind: AgentFlow\nmetadata: {{name: ops}}\nspec:\n{spec}"
            ),
        );
    }
    manifests
}

struct Org {
    api: Api,
    sender: Sender,
}

async fn start(manifests: &Manifests, data: &std::path::Path) -> (Node, Org, Org) {
    let node = Node::start(env!("CARGO_BIN_EXE_aofctl"), manifests.dir.path(), data);
    let mut orgs = Vec::new();
    for tenant in ["a", "b"] {
        let operator = Api::operator(&node, &format!("org-{tenant}"));
        orgs.push(Org {
            api: operator.person("boss", &["chat", "read", "approve", "operate"]).await,
            sender: Sender::new(&node.url, &format!("org-{tenant}"))
                .signing_with(&format!("secret-of-{tenant}")),
        });
    }
    let b = orgs.pop().expect("two");
    let a = orgs.pop().expect("two");
    (node, a, b)
}

#[tokio::test]
async fn a_signature_of_one_is_refused_by_the_other_and_leaves_no_trace() {
    let (slack, api) = Slack::start(&[]).await;
    let manifests = two_orgs(api);
    let data = tempfile::tempdir().expect("a folder");
    let (_node, a, b) = start(&manifests, data.path()).await;
    for (signer, other) in [(&a, &b), (&b, &a)] {
        let forged = Sender { secret: signer.sender.secret.clone(), ..other.sender.clone() };
        let answer = forged.post(mention("C0000001", "U0000001", "1.1", "printenv WHOSE")).await;
        assert_eq!(answer.expect("an answer").status(), 401);
    }
    for org in [&a, &b] {
        let messages: Vec<Value> =
            org.api.journal().await.into_iter().filter(|e| e["message_id"].is_string()).collect();
        assert!(messages.is_empty(), "{messages:?}");
    }
    assert_eq!(slack.posted(), 0);
}

#[tokio::test]
async fn each_runs_with_its_own_environment_and_reads_its_own_journal() {
    let (slack, api) = Slack::start(&[]).await;
    let manifests = two_orgs(api);
    let data = tempfile::tempdir().expect("a folder");
    let (_node, a, b) = start(&manifests, data.path()).await;
    // The very same event at both: their ids differ, since the organisation is part of them.
    for org in [&a, &b] {
        org.sender.accepted(mention("C0000001", "U0000001", "1.1", "printenv WHOSE")).await;
    }
    let answers = until("two answers", async || {
        let posted = slack.calls("chat.postMessage");
        (posted.len() == 2).then_some(posted)
    })
    .await;
    let texts: Vec<String> = answers.iter().map(Value::to_string).collect();
    for whose in ["org-a", "org-b"] {
        assert_eq!(texts.iter().filter(|t| t.contains(whose)).count(), 1, "{texts:?}");
    }
    for (mine, other) in [(&a, "org-b"), (&b, "org-a")] {
        let journal = mine.api.journal().await;
        assert!(journal.iter().all(|e| e["tenant"] != other), "{journal:?}");
        assert!(journal.iter().any(|e| e["type"] == "run.completed"));
        let reaching = mine.api.reaching_for(other);
        for path in ["events?follow=false", "approvals", "agents", "dead-letters", "keys"] {
            let (status, body) = reaching.get(path).await;
            assert_eq!(status, 404, "GET {path} of {other}: {body}");
        }
        let (status, _) = reaching.post("chat", &json!({"text": "printenv"})).await;
        assert_eq!(status, 404);
    }
}

#[tokio::test]
async fn neither_votes_on_the_others_actions() {
    let (slack, api) = Slack::start(&[]).await;
    let manifests = two_orgs(api);
    let data = tempfile::tempdir().expect("a folder");
    let (_node, a, b) = start(&manifests, data.path()).await;
    a.sender.accepted(mention("C0000001", "U0000001", "1.1", "mktemp -p /tmp aof.XXXXXX")).await;
    let id = until("a held action", async || {
        let (_, list) = a.api.get("approvals?status=pending").await;
        list["approvals"][0]["id"].as_str().map(ToOwned::to_owned)
    })
    .await;
    until("its card", async || (slack.posted() > 0).then_some(())).await;

    assert_eq!(b.api.get(&format!("approvals/{id}")).await.0, 404);
    assert_eq!(b.api.vote(&id, "approve").await.0, 404);
    assert_eq!(b.api.reaching_for("org-a").vote(&id, "approve").await.0, 404);
    // The right person's reaction on the right message, through the wrong workspace.
    let card = "1800000000.000000";
    b.sender.accepted(reaction("C0000001", "U0BOSS01", card, "+1")).await;
    // A vote that counts comes after it and overtakes nothing of another organisation.
    assert_eq!(a.api.approval(&id).await["status"], "pending");
    assert_eq!(a.api.vote(&id, "deny").await.0, 200);
    let denied = until("the denial", async || {
        let approval = a.api.approval(&id).await;
        (approval["status"] != "pending").then_some(approval)
    })
    .await;
    assert_eq!(denied["status"], "denied", "{denied}");
    assert!(a.api.events("action.approved").await.is_empty());
}
