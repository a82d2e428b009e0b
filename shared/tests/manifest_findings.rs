//! Every kind of finding, as people read it.
//!
//! `manifests/findings/<case>.yaml` is loaded alone, and what it renders to must be
//! `<case>.txt` beside it. `AOF_BLESS=1` writes the texts anew: read them before you
//! commit them.

use std::path::{Path, PathBuf};

use aof_shared::manifest::{self, Env, Loaded, Paint, Severity, Sources};

/// What a variable holds must never be seen, so it is easy to find.
const HIDDEN: &str = "the hidden VALUE";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests/findings")
}

fn load(file: &Path) -> Loaded {
    let env = Env::new(|name| (!name.starts_with("NO_")).then(|| HIDDEN.to_owned()));
    manifest::load(&Sources { paths: vec![file.to_owned()], ..Sources::new(env) })
}

fn cases() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder()).expect("the cases");
    let mut cases: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    cases.sort();
    assert!(cases.len() > 30, "only {} cases", cases.len());
    cases
}

#[test]
fn findings_read_as_written_down() {
    let mut different = Vec::new();
    for case in cases() {
        let loaded = load(&case);
        let rendered: Vec<String> =
            loaded.findings.iter().map(|finding| finding.render(Paint::Plain)).collect();
        let shown = rendered.join("\n").replace(&format!("{}/", folder().display()), "");
        let golden = case.with_extension("txt");
        if std::env::var_os("AOF_BLESS").is_some() {
            std::fs::write(&golden, &shown).expect("a writable folder");
        }
        if std::fs::read_to_string(&golden).unwrap_or_default() != shown {
            different.push(format!("=== {}\n{shown}", case.display()));
        }
    }
    assert!(different.is_empty(), "AOF_BLESS=1 to accept:\n{}", different.join("\n"));
}

#[test]
fn no_finding_holds_what_a_variable_or_a_secret_held() {
    for case in cases() {
        for finding in load(&case).findings {
            let everything = format!("{finding:?}{}", finding.render(Paint::Colour));
            for secret in [HIDDEN, "VALUE", "xoxb-literal"] {
                assert!(!everything.contains(secret), "{}: {everything}", case.display());
            }
        }
    }
}

#[test]
fn errors_leave_no_snapshot_and_warnings_do() {
    for case in cases() {
        let loaded = load(&case);
        let errors = loaded.findings.iter().filter(|f| f.severity == Severity::Error).count();
        assert_eq!(loaded.snapshot.is_none(), errors > 0, "{}", case.display());
        let all_placed = loaded.findings.iter().all(|f| f.line > 0 && f.column > 0);
        assert!(all_placed, "{}: {:?}", case.display(), loaded.findings);
        assert!(!loaded.findings.is_empty(), "{} shows nothing", case.display());
    }
}
