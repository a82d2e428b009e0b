//! Edits as editors, people and Kubernetes make them.

use std::os::unix::fs::symlink;
use std::path::Path;

use tokio::sync::mpsc;

use super::*;
use crate::manifest::{Env, load};

/// An edit must be in force after two seconds (features.md, G2); the machine may be busy.
const DEADLINE: Duration = Duration::from_secs(10);

const AGENT: &str = "apiVersion: aof.dev/v1\nkind: Agent\nmetadata: {name: a}\n\
                     spec: {model: 'echo:repeat'}\n";

fn flow(name: &str, channel: &str) -> String {
    format!(
        "apiVersion: aof.dev/v1\nkind: AgentFlow\nmetadata: {{name: {name}}}\nspec:\n  \
         trigger: {{type: Chat, config: {{channels: [{channel}]}}}}\n  agents: [{{name: a}}]\n"
    )
}

/// A folder that is being watched.
struct Watched {
    dir: tempfile::TempDir,
    config: Config,
    lifecycle: Lifecycle,
    reports: mpsc::UnboundedReceiver<Reload>,
}

impl Watched {
    async fn start(fill: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("agent.yaml"), AGENT).expect("written");
        fill(dir.path());
        let paths = vec![dir.path().to_owned()];
        let sources = Sources { paths, ..Sources::new(Env::new(|_| None)) };
        let loaded = load(&sources);
        let config = Config::new(loaded.snapshot.expect("the first one loads"));
        let lifecycle = Lifecycle::new();
        let (send, reports) = mpsc::unbounded_channel();
        let report = move |reload| send.send(reload).expect("someone listens");
        let work = watch(sources, config.clone(), lifecycle.clone(), report);
        lifecycle.spawn(work);
        Self { dir, config, lifecycle, reports }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The next report.
    async fn next(&mut self) -> Reload {
        let next = timeout(DEADLINE, self.reports.recv()).await;
        next.expect("a report in time").expect("the watch runs")
    }

    /// The flows of the next report, which must have been applied.
    async fn applied(&mut self) -> Vec<String> {
        match self.next().await {
            Reload::Applied { changed, revision, .. } => {
                assert_eq!(self.config.current().revision, revision);
                changed.into_iter().map(|(_, name)| name.to_string()).collect()
            }
            Reload::Rejected { findings } => panic!("rejected: {findings:?}"),
        }
    }

    fn channels(&self) -> Vec<String> {
        let snapshot = self.config.current();
        snapshot.flows.iter().flat_map(|flow| flow.trigger.channels.clone()).collect()
    }

    async fn stop(self) {
        self.lifecycle.stop();
        timeout(DEADLINE, self.lifecycle.drained()).await.expect("it stops");
    }
}

#[tokio::test]
async fn edits_by_writing_renaming_and_removing_are_applied() {
    let mut watched = Watched::start(|dir| {
        std::fs::write(dir.join("ops.yaml"), flow("ops", "one")).expect("written");
    })
    .await;
    std::fs::write(watched.path("ops.yaml"), flow("ops", "two")).expect("written");
    assert_eq!(watched.applied().await, ["ops"]);
    assert_eq!(watched.channels(), ["two"]);

    std::fs::write(watched.path("ops.swp"), flow("ops", "six")).expect("written");
    std::fs::rename(watched.path("ops.swp"), watched.path("ops.yaml")).expect("renamed");
    assert_eq!(watched.applied().await, ["ops"]);
    assert_eq!(watched.channels(), ["six"]);

    std::fs::create_dir(watched.path("team")).expect("a folder");
    std::fs::write(watched.path("team/dev.yaml"), flow("dev", "dev")).expect("written");
    assert_eq!(watched.applied().await, ["dev"]);

    std::fs::remove_file(watched.path("ops.yaml")).expect("removed");
    assert_eq!(watched.applied().await, ["ops"]);
    assert_eq!(watched.channels(), ["dev"]);
    watched.stop().await;
}

#[tokio::test]
async fn a_broken_edit_is_reported_once_and_leaves_the_last_good_one() {
    let mut watched = Watched::start(|dir| {
        std::fs::write(dir.join("ops.yaml"), flow("ops", "one")).expect("written");
    })
    .await;
    let good = watched.config.current().revision.clone();
    std::fs::write(watched.path("ops.yaml"), "kind: AgentFlow\nmetadata: {name: [\n").expect("ok");
    let Reload::Rejected { findings } = watched.next().await else { panic!("it is broken") };
    assert!(findings[0].line().contains("ops.yaml:2"), "{}", findings[0].line());
    assert_eq!(watched.config.current().revision, good);
    assert_eq!(watched.channels(), ["one"]);

    std::fs::write(watched.path("ops.yaml"), flow("ops", "one")).expect("written");
    assert!(watched.applied().await.is_empty(), "taken back, nothing differs");
    assert_eq!(watched.config.current().revision, good);
    watched.stop().await;
}

#[tokio::test]
async fn a_mounted_config_map_is_swapped_as_a_whole() {
    let mut watched = Watched::start(|dir| {
        std::fs::create_dir(dir.join("..first")).expect("a folder");
        std::fs::write(dir.join("..first/ops.yaml"), flow("ops", "one")).expect("written");
        symlink("..first", dir.join("..data")).expect("linked");
        symlink("..data/ops.yaml", dir.join("ops.yaml")).expect("linked");
    })
    .await;
    assert_eq!(watched.channels(), ["one"]);
    std::fs::create_dir(watched.path("..second")).expect("a folder");
    std::fs::write(watched.path("..second/ops.yaml"), flow("ops", "two")).expect("written");
    symlink("..second", watched.path("..data_tmp")).expect("linked");
    std::fs::rename(watched.path("..data_tmp"), watched.path("..data")).expect("swapped");
    std::fs::remove_dir_all(watched.path("..first")).expect("removed");
    assert_eq!(watched.applied().await, ["ops"]);
    assert_eq!(watched.channels(), ["two"]);
    watched.stop().await;
}

#[tokio::test]
async fn a_file_that_is_written_slowly_is_read_when_it_is_whole() {
    use std::io::Write as _;
    let mut watched = Watched::start(|dir| {
        std::fs::write(dir.join("ops.yaml"), flow("ops", "one")).expect("written");
    })
    .await;
    let text = flow("ops", "two");
    let mut file = std::fs::File::create(watched.path("ops.yaml")).expect("truncated");
    for part in text.as_bytes().chunks(40) {
        file.write_all(part).expect("written");
        tokio::task::yield_now().await;
    }
    drop(file);
    assert_eq!(watched.applied().await, ["ops"]);
    assert_eq!(watched.channels(), ["two"]);
    watched.stop().await;
}
