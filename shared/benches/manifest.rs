//! How long many flows take to load, and one edit among them to be in force.
//!
//! `cargo bench -p aof-shared --bench manifest [FLOWS] [TENANTS]` prints figures. Flows are
//! like those of 001: one file a tenant, one document a flow.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use aof_shared::config::Config;
use aof_shared::manifest::{Env, Loader, Sources};

const FLOWS: usize = 100_000;
const TENANTS: usize = 1_000;

/// Edits to measure; the middle one is reported.
const EDITS: usize = 9;

fn flow(tenant: usize, n: usize) -> String {
    format!(
        r#"---
apiVersion: aof.dev/v1
kind: AgentFlow
metadata:
  name: team-{n}-flow
  labels:
    environment: production
    organization: org-{tenant}
spec:
  trigger:
    type: Slack
    config:
      events: [app_mention, message]
      channels: [prod-{n}, prod-alerts-{n}]
      patterns: ["^(deploy|rollback) service-{n}"]
      bot_token: ${{BOT_{tenant}}}
      signing_secret: ${{SIGN_{tenant}}}
  context:
    kubeconfig: ${{KUBECONFIG_PROD}}
    namespace: team-{n}
    env:
      REQUIRE_APPROVAL: "true"
  agents:
    - name: k8s-ops
      patterns: ["kubectl", "k8s", "pod"]
  approval:
    allowed_users: [U015VBH1GTZ, U012ADMIN]
    require_for:
      - kubectl delete
  limits:
    max_requests_per_hour: 1000
"#
    )
}

fn write(dir: &Path, flows: usize, tenants: usize) -> usize {
    let agent = "apiVersion: aof.dev/v1\nkind: Agent\nmetadata: {name: k8s-ops}\n\
                 spec: {model: 'anthropic:claude-sonnet-4-5', tools: [kubectl]}\n";
    std::fs::write(dir.join("agents.yaml"), agent).expect("a writable folder");
    let mut bytes = 0;
    for tenant in 0..tenants {
        let mut file = String::new();
        for n in (tenant..flows).step_by(tenants) {
            let _ = write!(file, "{}", flow(tenant, n));
        }
        bytes += file.len();
        std::fs::write(dir.join(format!("org-{tenant:05}.yaml")), file).expect("a writable folder");
    }
    bytes
}

/// Resident memory in MiB.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() / 1_024
}

/// Processor time of this process so far, in milliseconds: what wall time would be for one
/// thread on an idle machine. Linux counts it in ticks of 10 ms.
fn processor_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10
}

fn main() {
    let mut given = std::env::args().skip(1).filter_map(|text| text.parse().ok());
    let flows = given.next().unwrap_or(FLOWS);
    let tenants: usize = given.next().unwrap_or(TENANTS);
    let dir = tempfile::tempdir().expect("a scratch folder");
    let bytes = write(dir.path(), flows, tenants);
    let before = resident_mib();
    println!("{flows} flows, {tenants} tenants, {} MiB of YAML", bytes >> 20);

    let env = Env::new(|name| Some(format!("value of {name}")));
    let mut loader = Loader::new(Sources { paths: vec![dir.path().into()], ..Sources::new(env) });
    let (start, before_ms) = (Instant::now(), processor_ms());
    let loaded = loader.load();
    let (took, used_ms) = (start.elapsed(), processor_ms() - before_ms);
    for finding in loaded.findings.iter().take(5) {
        println!("{}", finding.line());
    }
    let snapshot = loaded.snapshot.expect("it loads");
    assert_eq!(snapshot.flows.len(), flows);
    println!("load:            {:>8.1} ms, {used_ms} ms of processor", took.as_secs_f64() * 1e3);
    let config = Config::new(snapshot);
    println!("memory:          {:>8} MiB", resident_mib() - before);

    let start = Instant::now();
    let loaded = loader.load();
    println!("nothing changed: {:>8.1} ms", start.elapsed().as_secs_f64() * 1e3);
    drop(loaded);

    let before_ms = processor_ms();
    let mut times: Vec<f64> =
        (0..EDITS).map(|edit| reload(&mut loader, &config, dir.path(), edit)).collect();
    times.sort_by(f64::total_cmp);
    let used_ms = (processor_ms() - before_ms) / EDITS as u64;
    println!("one file edited: {:>8.1} ms, {used_ms} ms of processor", times[EDITS / 2]);
    println!("memory at last:  {:>8} MiB", resident_mib() - before);
}

/// Edits one file and puts the result in force.
fn reload(loader: &mut Loader, config: &Config, dir: &Path, edit: usize) -> f64 {
    let file = dir.join("org-00000.yaml");
    let text = std::fs::read_to_string(&file).expect("readable");
    std::fs::write(&file, format!("# edit {edit}\n{}", text.replacen("1000", "1001", 1)))
        .expect("writable");
    let start = Instant::now();
    let loaded = loader.load();
    config.apply(loaded.snapshot.expect("it loads"));
    start.elapsed().as_secs_f64() * 1e3
}
