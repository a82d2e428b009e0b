//! kubectl, helm, and what else speaks to clusters.

use super::{PLAIN, Program};
use crate::guard::command::Command;

const ELSEWHERE: &str = "uses a cluster, credentials or settings other than the flow's";

pub(super) const PROGRAMS: &[Program] = &[
    KUBECTL,
    HELM,
    Program {
        names: &["kustomize"],
        harmless: &["build", "version", "cfg tree"],
        destroys: &[
            ("build --enable-exec", "runs programs that a kustomization names"),
            ("build --enable-alpha-plugins", "runs programs that a kustomization names"),
            ("build --enable-helm", "runs the program that --helm-command names"),
            ("build -o", "writes a file"),
            ("build --output", "writes a file"),
        ],
        ..PLAIN
    },
    Program {
        names: &["argocd"],
        values: &["--server", "--auth-token", "--config", "--argocd-context"],
        switches: &["--grpc-web", "--insecure", "--plaintext", "-h,--help"],
        harmless: &[
            "app list",
            "app get",
            "app diff",
            "app history",
            "app logs",
            "app manifests",
            "app resources",
            "version",
            "cluster list",
            "cluster get",
            "repo list",
            "proj list",
            "proj get",
            "account get-user-info",
        ],
        ..PLAIN
    },
    Program {
        names: &["flux"],
        values: &["-n,--namespace", "--context", "--timeout"],
        harmless: &["get", "logs", "check", "version", "tree", "stats", "events", "diff", "trace"],
        ..PLAIN
    },
    Program {
        names: &["istioctl"],
        values: &["-n,--namespace", "-i,--istioNamespace", "--context"],
        harmless: &[
            "analyze",
            "version",
            "proxy-status",
            "ps",
            "proxy-config",
            "pc",
            "describe",
            "validate",
        ],
        ..PLAIN
    },
    Program {
        names: &["stern"],
        harmless: &[""],
        destroys: &[("--kubeconfig", ELSEWHERE)],
        ..PLAIN
    },
];

/// Source of flags: `kubectl options`, 1.34.
const KUBECTL: Program = Program {
    names: &["kubectl", "oc"],
    values: &[
        "-n,--namespace",
        "--context",
        "--cluster",
        "--user",
        "-s,--server",
        "--token",
        "--kubeconfig",
        "--kuberc",
        "--as",
        "--as-group",
        "--as-uid",
        "--as-user-extra",
        "--cache-dir",
        "--certificate-authority",
        "--client-certificate",
        "--client-key",
        "--log-flush-frequency",
        "--password",
        "--profile",
        "--profile-output",
        "--request-timeout",
        "--tls-server-name",
        "--username",
        "-v,--v",
        "--vmodule",
    ],
    switches: &[
        "-h,--help",
        "--insecure-skip-tls-verify",
        "--match-server-version",
        "--warnings-as-errors",
        "--disable-compression",
    ],
    later_values: &[
        "-o,--output",
        "-l,--selector",
        "--field-selector",
        "--replicas",
        "--image",
        "--since",
        "--since-time",
        "--tail",
        "-L,--label-columns",
        "--sort-by",
        "--for",
        "--timeout",
        "--grace-period",
        "-c,--container",
        "--field-manager",
        "--chunk-size",
        "--template",
        "--pod-running-timeout",
        "--current-replicas",
        "--resource-version",
    ],
    later_switches: &[
        "-A,--all-namespaces",
        "-w,--watch",
        "--watch-only",
        "--all",
        "--force",
        "--now",
        "--no-headers",
        "--show-labels",
        "--show-kind",
        "--ignore-not-found",
        "-R,--recursive",
        "--wait",
        "--prune",
        "--all-containers",
        "--timestamps",
        "--prefix",
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        "--disable-eviction",
        "--containers",
        "--overwrite",
        "--rm",
        "-i,--stdin",
        "-t,--tty",
        "--follow",
        "--previous",
        "-q,--quiet",
        "--server-side",
    ],
    aliases: &[("log", "logs"), ("ev", "events")],
    harmless: &[
        "get",
        "describe",
        "logs",
        "top",
        "explain",
        "api-resources",
        "api-versions",
        "cluster-info",
        "version",
        "diff",
        "auth can-i",
        "auth whoami",
        "rollout status",
        "rollout history",
        "rollout restart",
        "rollout pause",
        "rollout resume",
        "events",
        "wait",
        "options",
        "completion",
        "config view",
        "config current-context",
        "config get-contexts",
        "config get-clusters",
        "config get-users",
        "plugin list",
        "port-forward",
        "exec",
        "annotate",
        "label",
        "set image",
        "set resources",
        "set env",
        "apply",
        "create",
        "expose",
        "autoscale",
        "scale",
        "uncordon",
        "kustomize",
        "help",
    ],
    destroys: &[
        ("delete", "deletes objects"),
        ("drain", "evicts all pods of a node"),
        ("cordon", "takes a node out of scheduling"),
        ("taint", "may evict pods of a node"),
        ("scale --replicas=0", "stops all pods of a workload"),
        ("autoscale --max=0", "stops all pods of a workload"),
        ("replace", "overwrites whole objects"),
        ("edit", "may change anything of an object"),
        ("patch", "may change anything of an object, its replicas too"),
        ("rollout undo", "puts an older revision in force"),
        ("apply --prune", "deletes what the files no longer name"),
        ("apply --force", "deletes and creates again"),
        ("apply edit-last-applied", "may change anything of an object"),
        ("create --raw", "sends what it is given to any API path"),
        ("create --edit", "opens an editor"),
        ("create clusterrolebinding", "grants rights"),
        ("create rolebinding", "grants rights"),
        ("create job --image", "runs an image that nobody here has seen"),
        ("create cronjob --image", "runs an image that nobody here has seen"),
        ("create deployment --image", "runs an image that nobody here has seen"),
        ("create token", "hands out a credential"),
        ("expose --overrides", "may change anything of an object"),
        ("run", "runs an image that nobody here has seen"),
        ("debug", "runs an image that nobody here has seen, perhaps on the node"),
        ("cp", "overwrites files"),
        ("cluster-info dump --output-directory", "writes files"),
        ("kustomize --enable-exec", "runs programs that a kustomization names"),
        ("kustomize --enable-alpha-plugins", "runs programs that a kustomization names"),
        ("kustomize --enable-helm", "runs the program that --helm-command names"),
        ("kustomize --output", "writes a file"),
        ("--kubeconfig", ELSEWHERE),
        ("--kuberc", ELSEWHERE),
        ("--server", ELSEWHERE),
        ("--token", ELSEWHERE),
        ("--cache-dir", "writes files"),
        ("--profile-output", "writes a file"),
        ("--log-file", "writes a file"),
        ("--log-dir", "writes files"),
    ],
    rehearsals: &["--dry-run=client", "--dry-run=server", "--help"],
    check: unseen_content,
    ..PLAIN
};

/// `apply -f -`, `create -f https://…`: what it makes is not in any file of ours.
fn unseen_content(command: &Command<'_>) -> Option<String> {
    let unseen = |v: &str| {
        v == "-" || v.contains("://") || v.starts_with("/dev/") || v.starts_with("/proc/")
    };
    let makes = command
        .words
        .iter()
        .take_while(|w| !w.certain)
        .chain(command.words.iter().find(|w| w.certain));
    let makes = makes
        .into_iter()
        .any(|w| matches!(w.text, "apply" | "create" | "set" | "label" | "annotate" | "expose"));
    let from = ["filename", "f", "kustomize", "k"]
        .iter()
        .flat_map(|f| command.values(f))
        .find(|v| unseen(v));
    from.filter(|_| makes).map(|from| format!("takes what nobody here has seen from `{from}`"))
}

/// Source of flags: `helm --help`, 3.18 and 4.0.
const HELM: Program = Program {
    names: &["helm"],
    values: &[
        "-n,--namespace",
        "--kube-context",
        "--kubeconfig",
        "--kube-apiserver",
        "--kube-token",
        "--kube-as-user",
        "--kube-as-group",
        "--kube-ca-file",
        "--kube-tls-server-name",
        "--burst-limit",
        "--qps",
        "--registry-config",
        "--repository-cache",
        "--repository-config",
        "--content-cache",
        "--color",
    ],
    switches: &["--debug", "--kube-insecure-skip-tls-verify", "-h,--help"],
    later_values: &[
        "-f,--values",
        "--set",
        "--set-string",
        "--set-file",
        "--version",
        "-o,--output",
        "--timeout",
        "--revision",
        "--max",
    ],
    later_switches: &[
        "-i,--install",
        "--wait",
        "--atomic",
        "-a,--all",
        "-A,--all-namespaces",
        "--short",
        "--dependency-update",
    ],
    aliases: &[
        ("delete", "uninstall"),
        ("del", "uninstall"),
        ("un", "uninstall"),
        ("ls", "list"),
        ("hist", "history"),
        ("inspect", "show"),
        ("dep", "dependency"),
        ("dependencies", "dependency"),
        ("fetch", "pull"),
    ],
    harmless: &[
        "list",
        "status",
        "history",
        "template",
        "lint",
        "show",
        "get",
        "search",
        "version",
        "env",
        "verify",
        "dependency list",
        "dependency ls",
        "dependency update",
        "dependency build",
        "repo list",
        "repo update",
        "repo add",
        "pull",
        "package",
        "install",
        "upgrade",
        "completion",
        "help",
        "plugin list",
    ],
    destroys: &[
        ("uninstall", "deletes a release"),
        ("rollback", "puts an older revision in force"),
        ("upgrade --force", "deletes and creates again"),
        ("upgrade --force-replace", "deletes and creates again"),
        ("upgrade --cleanup-on-fail", "deletes what an upgrade made"),
        ("install --force", "deletes and creates again"),
        ("install --force-replace", "deletes and creates again"),
        ("install --replace", "takes the name of a deleted release"),
        ("upgrade --take-ownership", "takes over objects of others"),
        ("install --take-ownership", "takes over objects of others"),
        ("--post-renderer", "runs the program that it names"),
        ("--output-dir", "writes files"),
        ("pull --untardir", "writes files"),
        ("pull --destination", "writes files"),
        ("pull -d", "writes files"),
        ("package --destination", "writes files"),
        ("package -d", "writes files"),
        ("--kubeconfig", ELSEWHERE),
        ("--kube-apiserver", ELSEWHERE),
        ("--kube-token", ELSEWHERE),
        ("--registry-config", ELSEWHERE),
        ("--repository-config", ELSEWHERE),
    ],
    rehearsals: &["--dry-run", "--dry-run=client", "--dry-run=server", "--help"],
    check: zero_replicas,
    ..PLAIN
};

/// `--set replicaCount=0` scales to nothing as surely as `kubectl scale` does.
fn zero_replicas(command: &Command<'_>) -> Option<String> {
    let sets = ["set", "set-string", "set-json"].iter().flat_map(|f| command.values(f));
    let zero = |v: &str| {
        v.split(',').any(|pair| {
            pair.split_once('=').is_some_and(|(key, value)| {
                key.to_ascii_lowercase().contains("replica")
                    && value.trim_matches(['"', '0', 'x', ' ']).is_empty()
            })
        })
    };
    sets.into_iter().any(zero).then(|| "stops all pods of a workload".to_owned())
}
