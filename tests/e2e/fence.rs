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

/// A server that greets whoever connects; its port.
fn greeter() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        while let Ok((mut socket, _)) = listener.accept() {
            let _ = std::io::Write::write_all(&mut socket, b"HTTP/1.0 200 OK\r\n\r\ngreetings");
        }
    });
    port
}

#[tokio::test]
async fn a_tool_connects_to_the_ports_that_its_settings_name() {
    let (named, other) = (greeter(), greeter());
    let manifests = Manifests::new("");
    let spec = |network: &str| {
        format!("  runtime: command\n  tools: [curl]\n  tool_config: {{curl: {{{network}}}}}\n")
    };
    manifests.agent("open", &spec(""));
    manifests.agent("closed", &spec("network: none"));
    manifests.agent("some", &spec(&format!("network: [{named}]")));
    for agent in ["open", "closed", "some"] {
        let flow = format!(
            "  trigger: {{type: Chat, config: {{channels: [{agent}]}}}}\n  \
             agents: [{{name: {agent}}}]\n"
        );
        manifests.flow(agent, &flow);
    }
    let data = tempfile::tempdir().expect("a folder");
    let node = Node::start(env!("CARGO_BIN_EXE_aofctl"), manifests.dir.path(), data.path());
    let api = Api::operator(&node, "default");
    for (agent, port, reaches) in [
        ("open", named, true),
        ("open", other, true),
        ("some", named, true),
        ("some", other, false),
        ("closed", named, false),
    ] {
        let answer = api.chat(agent, &format!("curl -sS http://127.0.0.1:{port}/")).await;
        let said = answer["answer"].as_str().unwrap_or_default();
        assert_eq!(said.contains("greetings"), reaches, "{agent}: {answer}");
        assert!(said.contains("exit code") || said.contains("greetings"), "{agent}: {answer}");
    }
}
