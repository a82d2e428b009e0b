//! What a tool can reach of the node that started it, and of other organisations: nothing.

use aof_harness::{Api, Manifests, Node};

const SPEC: &str = "  trigger: {type: Chat}\n  context:\n    organization: ORG\n    kubeconfig: KUBE\n    env: {REQUIRE_APPROVAL: \"false\"}\n  agents: [{name: shell}]\n";

#[tokio::test]
async fn a_tool_reads_its_own_and_nothing_of_the_node_or_of_others() {
    let manifests = Manifests::new("");
    manifests.agent("shell", "  runtime: command\n  tools: [cat, mktemp]\n");
    let kube = tempfile::tempdir().expect("a folder");
    for org in ["org-a", "org-b"] {
        let path = kube.path().join(org);
        std::fs::write(&path, format!("kubeconfig-of-{org}")).expect("a file");
        let spec = SPEC.replace("ORG", org).replace("KUBE", &path.display().to_string());
        manifests.flow(&format!("flow-{org}"), &spec);
    }
    let data = tempfile::tempdir().expect("a folder");
    let config = manifests.dir.path().join("daemon.yaml");
    let env = [("AOF_TEST_CANARY", "canary-of-the-node")];
    let node = Node::serve(env!("CARGO_BIN_EXE_aofctl"), &config, data.path(), &env);
    let api = Api::operator(&node, "org-a");
    let answer = async |command: String| {
        let answer = api.chat("ops", &command).await;
        answer["answer"].as_str().unwrap_or_default().to_owned()
    };
    let own = answer(format!("cat {}/org-a", kube.path().display())).await;
    assert!(own.contains("kubeconfig-of-org-a"), "its own kubeconfig: {own}");
    assert!(answer("cat /etc/hostname".to_owned()).await.contains("```"), "the system is there");
    assert!(answer("mktemp x.XXXXXX".to_owned()).await.contains("x."), "its directory is its own");

    let key = node.admin_key();
    let (pid, data, config) = (node.pid(), data.path().display(), config.display());
    let secrets = [
        (format!("cat {data}/admin.key"), key.as_str()),
        ("cat ../../../admin.key".to_owned(), key.as_str()),
        (format!("cat /proc/{pid}/root{data}/admin.key"), key.as_str()),
        (format!("cat /proc/{pid}/cwd/../..{data}/admin.key"), key.as_str()),
        (format!("cat {data}/aof.db"), "SQLite format"),
        (format!("cat /proc/{pid}/environ"), "canary-of-the-node"),
        (format!("cat {config}"), "DaemonConfig"),
        (format!("cat {}/org-b", kube.path().display()), "kubeconfig-of-org-b"),
    ];
    for (command, secret) in secrets {
        let said = answer(command.clone()).await;
        assert!(!said.contains(secret), "{command}: {said}");
        assert!(said.contains("exit code") || said.contains("not"), "{command}: {said}");
    }
}
