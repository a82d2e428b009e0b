//! What a tool's process gets: exactly its flow's environment and a directory. Pure.
//!
//! The environment is `context.env`, `KUBECONFIG` from `context.kubeconfig`, `PATH`, `HOME`
//! (the run's scratch directory), `LANG`, and nothing of the node's own. The namespace is
//! not put into argv behind anybody's back: flows name it in the kubeconfig's context or
//! in the command; it shows in the target that approvers see.

use std::collections::BTreeMap;
use std::path::Path;

use aof_shared::action::Command;
use aof_shared::config::FlowContext;
use sha2::{Digest, Sha256};

/// Where programs are looked for unless the flow sets `PATH`.
pub(crate) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const LANG: &str = "C.UTF-8";
/// Stands for the scratch directory where people and digests see an environment.
const SCRATCH: &str = "<scratch>";

/// The `PATH` that a flow's programs are looked up in.
pub(crate) fn path(context: &FlowContext) -> &str {
    context.env.get("PATH").map_or(DEFAULT_PATH, |path| path.expose())
}

/// The whole environment of a tool's process.
pub(crate) fn environment(context: &FlowContext, home: &Path) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::from([
        ("HOME".to_owned(), home.to_string_lossy().into_owned()),
        ("LANG".to_owned(), LANG.to_owned()),
        ("PATH".to_owned(), DEFAULT_PATH.to_owned()),
    ]);
    if let Some(kubeconfig) = &context.kubeconfig {
        environment.insert("KUBECONFIG".to_owned(), kubeconfig.clone());
    }
    for (name, value) in &context.env {
        environment.insert(name.clone(), value.expose().to_owned());
    }
    environment
}

/// What would run, as people approve it: the flow's values appear as their SHA-256.
pub(crate) fn command(context: &FlowContext, argv: Vec<String>) -> Command {
    let mut environment = environment(context, Path::new(SCRATCH));
    for (name, value) in &context.env {
        let hash = hex::encode(Sha256::digest(value.expose().as_bytes()));
        environment.insert(name.clone(), format!("sha256:{hash}"));
    }
    let directory = context.working_dir.as_ref().map(|dir| dir.to_string_lossy().into_owned());
    let target = [
        ("cluster", context.cluster_name.as_deref()),
        ("namespace", context.namespace.as_deref()),
        ("kubeconfig", context.kubeconfig.as_deref()),
        ("directory", directory.as_deref()),
    ];
    let target: Vec<_> =
        target.into_iter().filter_map(|(what, value)| Some(format!("{what}={}", value?))).collect();
    Command {
        argv,
        directory: directory.unwrap_or_else(|| SCRATCH.to_owned()),
        environment,
        target: if target.is_empty() { "this host".to_owned() } else { target.join(" ") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aof_shared::secret::Secret;

    fn context(token: &str) -> FlowContext {
        FlowContext {
            kubeconfig: Some("/etc/kube/prod".to_owned()),
            namespace: Some("shop".to_owned()),
            env: BTreeMap::from([("TOKEN".to_owned(), Secret::new(token))]),
            ..FlowContext::default()
        }
    }

    #[test]
    fn a_process_gets_its_flow_and_nothing_else() {
        let environment = environment(&context("s3cret-a"), Path::new("/scratch"));
        let names: Vec<_> = environment.keys().map(String::as_str).collect();
        assert_eq!(names, ["HOME", "KUBECONFIG", "LANG", "PATH", "TOKEN"]);
        assert_eq!(environment["TOKEN"], "s3cret-a");
        assert_eq!(environment["HOME"], "/scratch");
    }

    #[test]
    fn an_approval_shows_no_secret_but_tells_two_apart() {
        let argv = || vec!["/bin/ls".to_owned()];
        let a = command(&context("s3cret-a"), argv());
        let b = command(&context("s3cret-b"), argv());
        assert_ne!(a, b);
        let written = serde_json::to_string(&a).expect("plain text");
        assert!(!written.contains("s3cret"), "{written}");
        assert_eq!(a.target, "namespace=shop kubeconfig=/etc/kube/prod");
    }
}
