//! House rules that a compiler does not know. Each failure says why the rule is there.

use std::fs;
use std::path::{Path, PathBuf};

const CRATES: [&str; 6] = ["approver", "cli", "gateway", "router", "shared", "worker"];
/// Lines of one source file, tests included. One idea a file.
const MAX_LINES: usize = 600;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    for entry in entries {
        let path = entry.expect("a readable entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            walk(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for part in CRATES.iter().chain(&["tests"]) {
        walk(&root().join(part), &mut found);
    }
    assert!(found.len() > 20, "the walk found only {} files", found.len());
    found.sort();
    found
        .into_iter()
        .map(|path| {
            let text =
                fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let name = path.strip_prefix(root()).expect("below the root").display().to_string();
            (name, text)
        })
        .collect()
}

fn check(rule: &str, broken: Vec<String>) {
    assert!(broken.is_empty(), "{rule}\n  {}", broken.join("\n  "));
}

#[test]
fn every_file_says_first_what_it_is() {
    let broken = sources().into_iter().filter(|(_, text)| !text.starts_with("//!"));
    check(
        "the first line of a file is `//!`: a newcomer reads first lines to find the way",
        broken.map(|(name, _)| name).collect(),
    );
}

#[test]
fn files_hold_one_idea() {
    let long = sources().into_iter().filter_map(|(name, text)| {
        let lines = text.lines().count();
        (lines > MAX_LINES).then(|| format!("{name}: {lines} lines"))
    });
    check("a file has at most 600 lines: split it by idea", long.collect());
}

#[test]
fn no_file_is_called_mod_utils_or_common() {
    let broken = sources().into_iter().map(|(name, _)| name).filter(|name| {
        ["mod.rs", "utils.rs", "util.rs", "common.rs", "helpers.rs"]
            .contains(&name.rsplit('/').next().unwrap_or_default())
    });
    check("a file is named after its idea; use `queue.rs` beside `queue/`", broken.collect());
}

#[test]
fn subjects_are_built_in_one_file() {
    let built = |line: &str| {
        let code = line.split("//").next().unwrap_or_default();
        [
            "aof.inbound.",
            "aof.task.",
            "aof.action.",
            "aof.reply.",
            "aof.event.",
            "aof.dead.",
            "aof.live.",
        ]
        .iter()
        .any(|s| code.contains(&format!("\"{s}")))
    };
    let broken = sources()
        .into_iter()
        .filter(|(name, _)| name != "shared/src/subject.rs" && !name.starts_with("tests/"))
        .flat_map(|(name, text)| {
            let hits: Vec<_> = text
                .lines()
                .enumerate()
                .filter(|(_, line)| built(line))
                .map(|(at, _)| format!("{name}:{}", at + 1))
                .collect();
            hits
        });
    check(
        "subjects come from `Subject`: a typo in one would show a tenant another's messages",
        broken.collect(),
    );
}

#[test]
fn a_role_never_depends_on_a_role() {
    let mut broken = Vec::new();
    for part in CRATES {
        let manifest = root().join(part).join("Cargo.toml");
        let text = fs::read_to_string(&manifest).expect("a manifest");
        for other in CRATES {
            let named = text.contains(&format!("aof-{other} ")) && other != part;
            let allowed = other == "shared" || part == "cli";
            if named && !allowed {
                broken.push(format!("{part} depends on {other}"));
            }
        }
    }
    check("roles meet only in subjects and ports, so that each can run alone", broken);
}

#[test]
fn the_root_holds_only_what_belongs_there() {
    let known = [
        "Cargo.toml",
        "Cargo.lock",
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
        "clippy.toml",
        "deny.toml",
        "rustfmt.toml",
        "compose.yaml",
        "approver",
        "cli",
        "gateway",
        "router",
        "shared",
        "worker",
        "tests",
        "deploy",
        "docs",
        "examples",
        "target",
    ];
    let broken = fs::read_dir(root())
        .expect("a readable root")
        .map(|entry| entry.expect("a readable entry").file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && !known.contains(&name.as_str()));
    check("the root is the first page that people see", broken.collect());
}
