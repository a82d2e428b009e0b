//! Programs end, are cut, and leave nothing behind.

use std::collections::BTreeMap;
use std::time::Duration;

use aof_shared::config::FlowContext;
use aof_shared::secret::Secret;

use super::*;

/// `sh -c script` as a program of its own directory.
fn script(directory: &Path, script: &str) -> Program {
    Program {
        path: PathBuf::from("/bin/sh"),
        args: vec!["-c".to_owned(), script.to_owned()],
        environment: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
        directory: directory.to_owned(),
        timeout: Duration::from_secs(20),
        launch: None,
    }
}

async fn output(text: &str) -> Output {
    let dir = tempfile::tempdir().expect("a directory");
    run(&script(dir.path(), text), &Mask::default()).await
}

#[tokio::test]
async fn exit_codes_and_both_pipes_are_kept() {
    for (text, code, printed) in [
        ("echo out; echo err >&2; exit 3", 3, "out\nerr\n"),
        ("printf x; echo err >&2", 0, "x\nerr\n"),
        ("kill -9 $$", 137, ""),
    ] {
        let output = output(text).await;
        assert_eq!((output.ended, output.text.as_str()), (Ended::Exited(code), printed), "{text}");
    }
}

#[tokio::test]
async fn input_is_closed_and_the_environment_is_only_what_was_given() {
    assert_eq!(output("cat; echo read").await.text, "read\n");
    let mut program = script(Path::new("/"), "");
    program.path = PathBuf::from("/usr/bin/env");
    program.args.clear();
    let output = run(&program, &Mask::default()).await;
    assert_eq!(output.text, "PATH=/usr/bin:/bin\n");
}

#[tokio::test]
async fn output_is_cut_with_a_note_and_the_program_goes_on() {
    let output = output("yes | head -c 1000000; exit 7").await;
    assert_eq!(output.ended, Ended::Exited(7));
    assert!(output.text.len() < MAX_OUTPUT_BYTES + 200, "{}", output.text.len());
    let note = output.text.lines().last().expect("a note");
    assert!(note.contains("1000000 bytes in all"), "{note}");
}

#[tokio::test]
async fn a_secret_is_masked_even_where_the_cap_cuts_it() {
    let secret = "hunter22-hunter22";
    let env = BTreeMap::from([("TOKEN".to_owned(), Secret::new(secret))]);
    let mask = Mask::of(&FlowContext { env, ..FlowContext::default() });
    let dir = tempfile::tempdir().expect("a directory");
    let line = format!(
        "head -c {} /dev/zero | tr '\\0' x; printf '{secret}'; yes | head -c 99999",
        MAX_OUTPUT_BYTES - 4
    );
    let output = run(&script(dir.path(), &line), &mask).await;
    assert!(!output.text.contains("hunt"), "{}", &output.text[MAX_OUTPUT_BYTES - 40..]);
    let output = run(&script(dir.path(), &format!("echo {secret}")), &mask).await;
    assert_eq!(output.text, "***\n");
}

#[tokio::test]
async fn the_whole_group_dies_on_timeout() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut program = script(dir.path(), "sleep 300 & echo $! > pid; wait");
    program.timeout = Duration::from_millis(500);
    let output = run(&program, &Mask::default()).await;
    assert_eq!(output.ended, Ended::TimedOut);
    gone(&dir.path().join("pid")).await;
}

#[tokio::test]
async fn the_whole_group_dies_when_the_run_is_cancelled_or_its_leader_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let program = script(dir.path(), "sleep 300 & echo $! > pid; exit 0");
    run(&program, &Mask::default()).await;
    gone(&dir.path().join("pid")).await;

    let program =
        script(dir.path(), "rm pid; sleep 300 & echo $! > pid.new; mv pid.new pid2; wait");
    let pid = dir.path().join("pid2");
    let mask = Mask::default();
    let mut running = Box::pin(run(&program, &mask));
    while !pid.exists() {
        let _ = tokio::time::timeout(Duration::from_millis(10), &mut running).await;
    }
    drop(running);
    gone(&pid).await;
}

#[tokio::test]
async fn what_leaves_the_group_does_not_keep_the_run_waiting() {
    let began = tokio::time::Instant::now();
    let output = output("setsid sleep 3 & exit 0").await;
    assert_eq!(output.ended, Ended::Exited(0));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let mut program = script(Path::new("/nowhere/at/all"), "true");
    let output = run(&program, &Mask::default()).await;
    let Ended::NotStarted(reason) = output.ended else { panic!("{:?}", output.ended) };
    assert!(reason.contains("/nowhere/at/all"), "{reason}");
    program.directory = PathBuf::from("/");
    program.path = PathBuf::from("/nowhere/tool");
    let output = run(&program, &Mask::default()).await;
    assert!(matches!(output.ended, Ended::NotStarted(_)), "{output:?}");
}

/// Waits until the process named in the file is gone or a zombie of init's.
async fn gone(pid: &Path) {
    let pid: u32 = std::fs::read_to_string(pid).expect("a pid").trim().parse().expect("a number");
    for _ in 0..200 {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        match state {
            Err(_) => return,
            Ok(stat) if stat.contains(") Z ") => return,
            Ok(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    panic!("process {pid} is still there");
}
