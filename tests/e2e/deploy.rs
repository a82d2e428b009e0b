//! The deployment files, each judged by the program that will read it.

use std::path::PathBuf;
use std::process::Command;

use aof_harness::tool;

use crate::root;

/// Runs a checker from the root and gives what it said, with whether it was content.
fn judged(program: PathBuf, args: &[&str], env: &[(&str, &str)]) -> (bool, String) {
    let mut command = Command::new(&program);
    command.args(args).envs(env.iter().copied()).current_dir(root());
    let output = command.output().unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn content(program: PathBuf, args: &[&str], env: &[(&str, &str)]) -> String {
    let (content, said) = judged(program, args, env);
    assert!(content, "{said}");
    said
}

/// A program of the system, which `tests/run` installs where it can.
fn system(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders
        .find_map(|folder| Some(folder.join(name)).filter(|file| file.is_file()))
        .unwrap_or_else(|| panic!("`{name}` is missing: run tests/run to install it"))
}

#[test]
fn compose_reads_its_file_and_starts_nothing_without_secrets() {
    let Some(compose) = tool("python/bin/docker-compose") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let example = std::fs::read_to_string(root().join(".env.example")).expect("an example");
    for line in example.lines().filter(|line| line.contains('=')) {
        let (name, value) = line.split_once('=').expect("seen before");
        let secret = name.ends_with("PASSWORD") || name.ends_with("KEY");
        assert_eq!(secret, value.is_empty(), "{name}: a secret has no default");
    }
    let filled = folder.path().join("env");
    std::fs::write(&filled, example.replace("=\n", "=filled\n")).expect("a writable folder");
    let filled = filled.display().to_string();
    let asked = ["--env-file", &filled, "-f", "compose.yaml", "config"];
    let shown = content(compose.clone(), &asked, &[]);
    for service in ["gateway", "router", "worker", "approver", "nats", "redis", "postgres"] {
        assert!(shown.contains(&format!("\n  {service}:")), "{service} is missing:\n{shown}");
    }
    let empty = ["--env-file", "/dev/null", "-f", "compose.yaml", "config"];
    let (content, said) = judged(compose, &empty, &[]);
    assert!(!content && said.contains("NATS_PASSWORD"), "{said}");
}

#[test]
fn kubernetes_knows_every_field() {
    let Some(validate) = tool("python/bin/kubernetes-validate") else { return };
    let built = content(system("kubectl"), &["kustomize", "deploy/kubernetes"], &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("built.yaml");
    std::fs::write(&file, &built).expect("a writable folder");
    content(validate, &["--strict", &file.display().to_string()], &[]);
    for kind in ["PodDisruptionBudget", "HorizontalPodAutoscaler", "NetworkPolicy", "ConfigMap"] {
        assert!(built.contains(&format!("\nkind: {kind}")), "{kind} is missing");
    }
    assert!(!built.contains("\nkind: Secret"), "secrets are made by whoever has them");
    let pods = built.matches("runAsNonRoot: true").count();
    assert_eq!(pods, built.matches("\nkind: Deployment").count(), "no pod runs as root");
}

#[test]
fn haproxy_nats_and_prometheus_read_their_files() {
    let Some(promtool) = tool("bin/promtool") else { return };
    let said = content(system("haproxy"), &["-c", "-f", "deploy/haproxy/haproxy.cfg"], &[]);
    assert!(!said.contains("WARNING"), "{said}");
    content(promtool.clone(), &["check", "config", "deploy/prometheus/prometheus.yml"], &[]);
    content(promtool, &["test", "rules", "deploy/prometheus/alerts_test.yml"], &[]);
    let nats = tool("nats-2.12.8/bin/nats-server").expect("installed with the others");
    content(nats, &["-c", "deploy/nats/nats.conf", "-t"], &[("NATS_PASSWORD", "x")]);
}

#[test]
fn the_manifests_of_the_deployment_are_valid() {
    let aofctl = PathBuf::from(env!("CARGO_BIN_EXE_aofctl"));
    let servers = [
        ("NATS_URL", "nats://nats:4222"),
        ("REDIS_URL", "redis://redis:6379"),
        ("DATABASE_URL", "postgres://aof@postgres/aof"),
    ];
    content(aofctl, &["validate", "deploy/config"], &servers);
}
