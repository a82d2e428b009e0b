//! Arguments, shown commands, scratch directories.

use serde_json::json;

use super::*;

fn argv(tool: &str, arguments: serde_json::Value) -> Result<Vec<String>, String> {
    argv_of(&Call { id: "c".to_owned(), tool: tool.to_owned(), arguments, signatures: None })
}

#[test]
fn arguments_come_as_a_list_or_as_a_line() {
    for (arguments, expected) in [
        (json!({"args": ["get", "pods", 3]}), vec!["kubectl", "get", "pods", "3"]),
        (json!({"command": "get pods"}), vec!["kubectl", "get", "pods"]),
        (json!({"command": "kubectl get pods"}), vec!["kubectl", "get", "pods"]),
        (json!({"args": []}), vec!["kubectl"]),
        (json!({}), vec!["kubectl"]),
    ] {
        let expected: Vec<_> = expected.into_iter().map(str::to_owned).collect();
        assert_eq!(argv("kubectl", arguments.clone()), Ok(expected), "{arguments}");
    }
    for nonsense in [
        json!({"args": [["get"]]}),
        json!({"args": "get"}),
        json!("get pods"),
        json!(null),
        json!({"verb": "get"}),
        json!({"args": ["a\u{0}b"]}),
    ] {
        assert!(argv("kubectl", nonsense.clone()).is_err(), "{nonsense}");
    }
}

#[test]
fn shown_commands_quote_what_a_shell_would_split() {
    let shown_of = |argv: &[&str]| shown(&argv.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(
        shown_of(&["kubectl", "-n=shop", "a b", "it's", ""]),
        r"kubectl -n=shop 'a b' 'it'\''s' ''"
    );
}

#[test]
fn scratch_directories_are_private_and_go_with_their_run() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a directory");
    let dead = dir.path().join("999999999");
    std::fs::create_dir(&dead).expect("a leftover");
    std::fs::create_dir(dir.path().join("notes")).expect("something else");
    let tools = Tools::open(dir.path()).expect("it opens");
    assert!(!dead.exists() && dir.path().join("notes").exists());
    let run = RunId(uuid::Uuid::nil());
    let (a, b) = (tools.run_dir(run).expect("one"), tools.run_dir(run).expect("another"));
    assert_ne!(a.path(), b.path());
    let mode = std::fs::metadata(a.path()).expect("its mode").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let path = a.path().to_owned();
    std::fs::write(path.join("x"), "y").expect("a file");
    drop(a);
    assert!(!path.exists() && b.path().exists());
}

#[test]
fn time_limits_come_from_the_settings_within_bounds() {
    let config = |secs: u64| ToolConfig {
        settings: [("timeout_secs".to_owned(), json!(secs))].into(),
        ..ToolConfig::default()
    };
    assert_eq!(timeout(None), Duration::from_secs(60));
    assert_eq!(timeout(Some(&config(5))), Duration::from_secs(5));
    assert_eq!(timeout(Some(&config(0))), Duration::from_secs(1));
    assert_eq!(timeout(Some(&config(999_999))), Duration::from_secs(3_600));
}
