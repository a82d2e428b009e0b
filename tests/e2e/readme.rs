//! The README's *Try it*, typed as it stands into three terminals.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use aof_harness::until;

use crate::root;

/// A shell that reads what is typed, and keeps what it shows.
struct Terminal {
    shell: Child,
    keyboard: Option<ChildStdin>,
    shown: Arc<Mutex<String>>,
}

impl Terminal {
    /// Opens a shell in the repository that ends at the first command that fails.
    fn open(env: &[(&str, &str)]) -> Self {
        let mut shell = Command::new("bash")
            .args(["-eu", "-s"])
            .current_dir(root())
            .env_remove("AOF_API_KEY")
            .env_remove("AOF_ACCOUNT")
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("bash starts");
        let shown = Arc::<Mutex<String>>::default();
        show(shell.stdout.take().expect("piped"), &shown);
        show(shell.stderr.take().expect("piped"), &shown);
        let keyboard = shell.stdin.take();
        Self { shell, keyboard, shown }
    }

    fn type_in(&mut self, block: &str) {
        let keyboard = self.keyboard.as_mut().expect("open until `ended`");
        keyboard.write_all(format!("{block}\n").as_bytes()).expect("the shell reads");
    }

    fn screen(&self) -> String {
        self.shown.lock().expect("no panic while reading").clone()
    }

    /// Waits until the screen has `what`; returns the line.
    async fn shows(&mut self, what: &str) -> String {
        until(&format!("`{what}` on the screen"), async || {
            let screen = self.screen();
            let found = screen.lines().find(|line| line.contains(what)).map(str::to_owned);
            let ended = self.shell.try_wait().expect("a child").is_some();
            assert!(found.is_some() || !ended, "the shell ended without `{what}`:\n{screen}");
            found
        })
        .await
    }

    /// Waits for the last command to end.
    async fn ended(&mut self) -> ExitStatus {
        drop(self.keyboard.take());
        until("the shell to end", async || self.shell.try_wait().expect("a child")).await
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

fn show(mut stream: impl Read + Send + 'static, shown: &Arc<Mutex<String>>) {
    let shown = Arc::clone(shown);
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes[..n]);
            shown.lock().expect("no panic while reading").push_str(&text);
        }
    });
}

/// The shell blocks below `## Try it`, with the built binary for the one that users build.
fn blocks() -> Vec<String> {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("a README");
    let (_, after) = readme.split_once("\n## Try it\n").expect("a section");
    let section = after.split("\n## ").next().expect("its text");
    let binary = env!("CARGO_BIN_EXE_aofctl");
    let folder = Path::new(binary).parent().expect("a folder").display().to_string();
    let fences = section.split("```bash\n").skip(1);
    fences
        .map(|rest| rest.split("```").next().expect("a block").trim_end())
        .map(|block| block.replace("cargo run --release --", &format!("exec {binary}")))
        .map(|block| block.replace("$PWD/target/release", &folder))
        .collect()
}

#[tokio::test]
async fn the_readmes_commands_do_what_it_says() {
    let blocks = blocks();
    let [serve, harmless, destructive, people, story] = blocks.as_slice() else {
        panic!("{} blocks; this test knows what to expect of five", blocks.len());
    };
    let old_logs = Path::new("/var/tmp/aof-quickstart/old-logs");
    let data = tempfile::tempdir().expect("a folder");
    let data_dir = data.path().to_str().expect("text");

    let mut node = Terminal::open(&[("AOF_DATA_DIR", data_dir)]);
    node.type_in(&format!("{serve} --listen 127.0.0.1:0"));
    let ready = node.shows("ready http").await;
    let url = ready.split_whitespace().find(|word| word.starts_with("http://")).expect("a URL");
    let env = [("AOF_DATA_DIR", data_dir), ("AOF_SERVER", url)];

    let mut asks = Terminal::open(&env);
    asks.type_in(harmless);
    asks.type_in(destructive);
    asks.shows("aofctl approvals approve").await;
    assert!(asks.screen().contains("Linux"), "{}", asks.screen());
    assert!(old_logs.is_dir(), "nothing ran before the quorum");

    let mut decides = Terminal::open(&env);
    decides.type_in(people);
    decides.type_in("echo both have voted");
    decides.shows("both have voted").await;
    let asked = asks.ended().await;
    assert!(asked.success(), "{}\n{}", asks.screen(), decides.screen());
    assert!(!old_logs.exists(), "it ran");

    decides.type_in(story);
    let told = decides.ended().await;
    let screen = decides.screen();
    assert!(told.success(), "{screen}");
    for step in ["approval.voted", "action.approved", "action.executed", "run.completed"] {
        let line = |l: &str| l.contains("─ ") && l.contains(step);
        assert!(screen.lines().any(line), "the trace lacks {step}:\n{screen}");
    }
}
