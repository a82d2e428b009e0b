//! A real Alertmanager notifies a real node: what fires and what resolves is each worked on
//! once, and answered in Slack, where the account says.

use aof_harness::{ALERTMANAGER, Alertmanager, Api, Manifests, Node, Slack, slack_trigger, until};

const TOKEN: &str = "a-bearer-token-of-alertmanager";

#[tokio::test]
async fn an_alert_that_fires_and_resolves_is_worked_on_twice_and_answered_in_slack() {
    let Some(program) = aof_harness::tool(ALERTMANAGER) else { return };
    let (slack, addr) = Slack::start(&[]).await;
    let manifests = Manifests::new("");
    manifests.agent("shell", "  runtime: command\n  tools: [echo, uname]\n");
    let trigger = slack_trigger(addr, "xoxb-test", "secret", "      channels: [C0000000001]\n");
    manifests.flow("people", &format!("{trigger}  agents: [{{name: shell}}]\n"));
    manifests.flow(
        "alerts",
        &format!(
            "  trigger:\n    type: Alertmanager\n    config:\n      events: [alert]\n      \
             bearer_token: {TOKEN}\n      reply_to: slack/default/C0000000007\n      source:\n        \
             text: \"echo {{{{ body.alerts[0].labels.alertname }}}} is {{{{ body.status }}}}\"\n  \
             agents: [{{name: shell}}]\n"
        ),
    );
    let data = tempfile::tempdir().expect("a folder");
    let node = Node::start(env!("CARGO_BIN_EXE_aofctl"), manifests.dir.path(), data.path());
    let api = Api::operator(&node, "default");
    let webhook = format!("{}/webhook/alertmanager/default", node.url);
    let wrong = Alertmanager::start(&program, &webhook, "another-token").await;
    wrong.tell("Forged", true).await;
    let right = Alertmanager::start(&program, &webhook, TOKEN).await;
    right.tell("DiskFull", true).await;
    let answered = async |words: &str| {
        until(words, async || {
            let posts = slack.calls("chat.postMessage");
            posts.into_iter().find(|post| post["text"].to_string().contains(words))
        })
        .await
    };
    let fired = answered("DiskFull is firing").await;
    assert_eq!(fired["channel"], "C0000000007");
    right.tell("DiskFull", false).await;
    answered("DiskFull is resolved").await;
    let accepted = api.events("message.accepted").await;
    assert_eq!(accepted.len(), 2, "each once, and nothing of whoever has no token: {accepted:?}");
    assert_eq!(accepted[0]["data"]["kind"], "alert");
    assert_eq!(accepted[0]["conversation"], accepted[1]["conversation"], "one after the other");
    let metrics = api.http.get(format!("{}/metrics", node.url)).send().await.expect("an answer");
    let metrics = metrics.text().await.expect("text");
    let refused = r#"agentflow_ingress_total{platform="alertmanager",outcome="unauthorized"}"#;
    assert!(metrics.contains(refused), "the forged one was refused");
}
