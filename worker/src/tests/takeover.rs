//! A worker that was cut off while another one took its run over.

use aof_shared::config::{Daemon, ModelEndpoint};
use aof_shared::store::{RunStart, Store};
use tokio::runtime::Handle;
use uuid::Uuid;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond};

use super::models::{text, tool_call};
use super::*;
use crate::checkpoint::{Call, Checkpoint, Pending};

/// The other worker: it begins a tool call of the run while the first waits for its model,
/// whose answer this is.
struct Other {
    store: Arc<dyn Store>,
    start: RunStart,
    runtime: Handle,
}

impl Respond for Other {
    fn respond(&self, _: &Request) -> wiremock::ResponseTemplate {
        let (store, start, runtime) =
            (Arc::clone(&self.store), self.start.clone(), self.runtime.clone());
        let took = std::thread::spawn(move || {
            runtime.block_on(async move {
                let mut checkpoint = Checkpoint::new(1);
                let call = Call {
                    id: "theirs".to_owned(),
                    tool: "touch".to_owned(),
                    arguments: serde_json::json!({"args": ["marker"]}),
                    signatures: None,
                };
                checkpoint.pending =
                    Some(Pending::Started { call, command: "touch marker".to_owned() });
                let (holder, saved) = (Uuid::from_u128(7), checkpoint.to_json());
                store.begin_run(&start, holder).await.expect("it takes over");
                store.save_checkpoint(&start.tenant, start.run, holder, &saved).await
            })
        });
        assert!(took.join().expect("no panic").expect("it saves"));
        tool_call("touch", r#"{"args": ["marker"]}"#)
    }
}

#[tokio::test]
async fn whoever_was_taken_over_from_runs_no_tool() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut ops = flow("acme", "ops", &[]);
    ops.context.working_dir = Some(dir.path().to_owned());
    let server = MockServer::start().await;
    let endpoint =
        ModelEndpoint { base_url: Some(format!("{}/v1", server.uri())), ..Default::default() };
    let daemon = Daemon { models: [("local".to_owned(), endpoint)].into(), ..Daemon::default() };
    let rig = Rig::new(snapshot(modeller("local", &["touch"]), vec![ops], daemon));
    let task = fixture::task("acme", "ops", "do it");
    let start = RunStart {
        run: task.run,
        tenant: task.message.tenant.clone(),
        message: task.message.id,
        flow: task.flow.clone(),
        agent: task.agent.clone(),
        revision: task.revision.clone(),
        at_ms: 1,
    };
    let other =
        Other { store: Arc::clone(&rig.node.ports.store), start, runtime: Handle::current() };
    Mock::given(any()).respond_with(other).up_to_n_times(1).mount(&server).await;
    let calm = text(&["unknown"]);
    Mock::given(any()).respond_with(calm).mount(&server).await;
    rig.start().await;
    rig.send(&task).await;
    // The delivery comes again, finds what the other one began, and repeats nothing of it.
    assert_eq!(rig.end(&task).await.0, "success");
    assert!(!dir.path().join("marker").exists(), "it ran although another worker had the run");
    rig.stop().await;
}
