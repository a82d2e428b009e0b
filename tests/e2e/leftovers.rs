//! What a tool starts ends with its run, however it hides and however the run ends.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aof_harness::{Api, Manifests, Node};

/// Longest wait for a process to come or go.
const DEADLINE: Duration = Duration::from_secs(20);

/// Leaves a process behind that has left its group and session and has no parent, and
/// then goes on as its first argument says.
const DAEMON: &str = "#!/bin/sh\n\
    (setsid sh -c 'trap \"\" HUP TERM; echo $$ > \"$0.new\"; mv \"$0.new\" \"$0\"; \
    exec sleep 300' \"$2\" </dev/null >/dev/null 2>&1 &)\n\
    while [ ! -e \"$2\" ]; do sleep 0.01; done\n\
    eval \"$1\"\n";

struct Scene {
    node: Node,
    work: tempfile::TempDir,
    tool: PathBuf,
    _manifests: Manifests,
    _data: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let work = tempfile::tempdir().expect("a folder");
        let tool = work.path().join("daemonise");
        std::fs::write(&tool, DAEMON).expect("a script");
        std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).expect("its mode");
        let manifests = Manifests::new("");
        manifests.agent(
            "shell",
            &format!(
                "  runtime: command\n  tools: [{tool}]\n  tool_config: {{{tool}: {{timeout_secs: 3}}}}\n",
                tool = tool.display()
            ),
        );
        manifests.flow(
            "ops",
            &format!(
                "  trigger: {{type: Chat}}\n  context:\n    working_dir: {}\n    \
                 env: {{REQUIRE_APPROVAL: \"false\"}}\n  agents: [{{name: shell}}]\n",
                work.path().display()
            ),
        );
        // Not below the folder that tools write to, whose way would be closed to them.
        let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let config = manifests.dir.path().join("daemon.yaml");
        let node = Node::serve(env!("CARGO_BIN_EXE_aofctl"), &config, data.path(), &[]);
        Self { node, work, tool, _manifests: manifests, _data: data }
    }

    /// The command that leaves a process behind and then does `what`, and where that
    /// process writes its number.
    fn command(&self, what: &str, name: &str) -> (String, PathBuf) {
        let pid = self.work.path().join(name);
        (format!("{} '{what}' {}", self.tool.display(), pid.display()), pid)
    }
}

fn wait_until(what: &str, seen: impl Fn() -> bool) {
    let began = Instant::now();
    while !seen() {
        assert!(began.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn lives(pid: &Path) -> bool {
    let pid = std::fs::read_to_string(pid).expect("a process id");
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn a_process_that_left_its_session_ends_when_the_tool_does_or_runs_out_of_time() {
    let scene = Scene::new();
    let api = Api::operator(&scene.node, "default");
    for (what, name, said) in
        [("echo done; exit 7", "ended", "exit code 7"), ("sleep 300", "late", "stopped after 3 s")]
    {
        let (command, pid) = scene.command(what, name);
        let answer = api.chat("ops", &command).await;
        assert!(answer["answer"].as_str().is_some_and(|a| a.contains(said)), "{answer}");
        assert!(pid.exists(), "{what}: nothing was left behind, so nothing was tested");
        assert!(!lives(&pid), "{what}: it outlived its run");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_with_a_node_that_is_killed() {
    let scene = Scene::new();
    let api = Api::operator(&scene.node, "default");
    let (command, pid) = scene.command("sleep 300", "orphan");
    let mut asked = tokio::task::JoinSet::new();
    asked.spawn(async move { api.chat("ops", &command).await });
    tokio::task::block_in_place(|| wait_until("the process starts", || pid.exists()));
    assert!(lives(&pid));
    asked.abort_all();
    let Scene { node, work: _work, .. } = scene;
    node.kill();
    wait_until("the process ends with the node", || !lives(&pid));
}
