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

/// The path of a source file's module, without `aof_`: `worker/src/agent/call.rs` is
/// `worker.agent.call`.
fn module_of(file: &str) -> String {
    let path = file.trim_end_matches(".rs").replacen("/src/", "/", 1);
    path.trim_end_matches("/lib").replace('/', ".")
}

#[test]
fn a_span_is_named_after_its_module() {
    let opened = |text: &str| -> Vec<String> {
        [".span(", ".process("]
            .iter()
            .flat_map(|call| text.split(call).skip(1))
            .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
            .map(str::to_owned)
            .collect()
    };
    let mut seen = 0;
    let mut broken = Vec::new();
    let roles = ["approver/src/", "gateway/src/", "router/src/", "worker/src/"];
    for (file, text) in
        sources().into_iter().filter(|(f, _)| roles.iter().any(|r| f.starts_with(r)))
    {
        for name in opened(&text) {
            seen += 1;
            if name != module_of(&file) {
                broken.push(format!("{file}: `{name}` should be `{}`", module_of(&file)));
            }
        }
    }
    assert!(seen >= 10, "only {seen} spans were found");
    check("who reads a trace must find the code: a span has its module's path", broken);
}

/// Names of the product's series, as `Metrics` registers them.
fn series() -> Vec<String> {
    let file = root().join("shared/src/telemetry.rs");
    let text = fs::read_to_string(file).expect("the metrics");
    let names = text.split("registry.register(").skip(1);
    names
        .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
        .map(|name| format!("agentflow_{name}"))
        .collect()
}

#[test]
fn dashboards_alerts_and_scalers_ask_for_series_that_exist() {
    let known = series();
    assert!(known.len() > 8, "only {} series were found", known.len());
    let mut broken = Vec::new();
    for file in [
        "deploy/grafana/dashboards/aof.json",
        "deploy/kubernetes/keda/worker.yaml",
        "deploy/prometheus/alerts.yml",
        "docs/OPERATIONS.md",
    ] {
        let text = fs::read_to_string(root().join(file)).expect("a file");
        let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
        let asked: Vec<_> = text.split(word).filter(|w| w.starts_with("agentflow_")).collect();
        assert!(!asked.is_empty(), "{file} asks for nothing");
        for name in asked {
            let suffixes = ["_total", "_bucket", "_count", "_sum"];
            let plain = suffixes.iter().find_map(|s| name.strip_suffix(s)).unwrap_or(name);
            if !known.iter().any(|k| k == plain || k == name) {
                broken.push(format!("{file}: {name}"));
            }
        }
    }
    check("a panel or alert on a series that does not exist is silent for ever", broken);
}

#[test]
fn every_alert_says_what_to_do_at_night() {
    let read = |file: &str| fs::read_to_string(root().join(file)).expect("a file");
    let (alerts, operations) = (read("deploy/prometheus/alerts.yml"), read("docs/OPERATIONS.md"));
    let names = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let told = |name: &&str| operations.contains(&format!("| `{name}` |"));
    let untold: Vec<String> = names.filter(|name| !told(name)).map(str::to_owned).collect();
    check("whoever is woken finds the alert in docs/OPERATIONS.md", untold);
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
