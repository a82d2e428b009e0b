//! Clouds, and terraform, which makes and unmakes what is in them.

use super::{PLAIN, Program, Style, stays_here};
use crate::guard::command::Command;

pub(super) const PROGRAMS: &[Program] = &[
    TERRAFORM,
    AWS,
    Program {
        names: &["gcloud"],
        values: &[
            "--project",
            "--account",
            "--format",
            "--filter",
            "--verbosity",
            "--limit",
            "--region",
            "--zone",
            "--sort-by",
        ],
        switches: &["-q,--quiet", "-h,--help", "--uri"],
        harmless: &[""],
        destroys: &[("--flags-file", "takes its flags from a file")],
        check: gcloud,
        bare: true,
        abbreviates: true,
        ..PLAIN
    },
    Program {
        names: &["az"],
        values: &["-o,--output", "--query", "--subscription", "-g,--resource-group", "-n,--name"],
        switches: &["--debug", "--verbose", "--only-show-errors", "-h,--help"],
        harmless: &[""],
        check: az,
        bare: true,
        abbreviates: true,
        ..PLAIN
    },
    Program {
        names: &["gsutil"],
        switches: &["-m", "-q", "-D"],
        harmless: &["ls", "cat", "stat", "du", "version", "help"],
        ..PLAIN
    },
    Program {
        names: &["gh"],
        values: &["-R,--repo"],
        harmless: &[
            "pr list",
            "pr view",
            "pr status",
            "pr diff",
            "pr checks",
            "issue list",
            "issue view",
            "issue status",
            "run list",
            "run view",
            "run watch",
            "repo view",
            "repo list",
            "release list",
            "release view",
            "workflow list",
            "workflow view",
            "auth status",
            "search",
            "status",
            "version",
            "help",
        ],
        ..PLAIN
    },
    Program {
        names: &["doctl"],
        values: &["-c,--config", "--context", "-o,--output"],
        harmless: &[
            "account get",
            "compute droplet list",
            "compute droplet get",
            "kubernetes cluster list",
            "version",
        ],
        destroys: &[("--config", "uses settings other than the flow's")],
        ..PLAIN
    },
];

/// Source of commands: `terraform -help`, 1.13; OpenTofu has the same.
const TERRAFORM: Program = Program {
    names: &["terraform", "tofu"],
    style: Style::Words,
    switches: &["-help,--help", "-version,--version"],
    later_values: &[],
    later_switches: &[
        "-no-color",
        "-json",
        "-destroy",
        "-auto-approve",
        "-compact-warnings",
        "-detailed-exitcode",
        "-recursive",
    ],
    harmless: &[
        "plan",
        "validate",
        "fmt",
        "show",
        "output",
        "version",
        "providers",
        "graph",
        "get",
        "init",
        "state list",
        "state show",
        "state pull",
        "workspace list",
        "workspace show",
        "workspace select",
        "metadata functions",
    ],
    destroys: &[
        ("destroy", "destroys what the configuration made"),
        ("apply", "may destroy what it replaces"),
        ("state rm", "forgets what the configuration made"),
        ("state mv", "rewrites the state"),
        ("state push", "overwrites the state"),
        ("state replace-provider", "rewrites the state"),
        ("workspace delete", "deletes a workspace"),
        ("taint", "has a resource destroyed and made again"),
        ("force-unlock", "breaks another run's lock"),
        ("init -migrate-state", "moves the state"),
        ("init -force-copy", "overwrites the state"),
        ("init -reconfigure", "forgets where the state is"),
        ("init -from-module", "overwrites files"),
        ("init -plugin-dir", "runs programs from a directory"),
        ("plan -generate-config-out", "writes a file"),
        ("plan -state-out", "writes a file"),
        ("providers mirror", "writes files"),
        ("providers lock", "rewrites the lock file"),
    ],
    check: |command| {
        let out = command.values("out").find(|path| !stays_here(path));
        out.map(|path| format!("writes `{path}`"))
    },
    ..PLAIN
};

/// Source of flags: `aws help`, 2.31.
const AWS: Program = Program {
    names: &["aws"],
    values: &[
        "--query",
        "--output",
        "--profile",
        "--region",
        "--color",
        "--ca-bundle",
        "--endpoint-url",
        "--cli-read-timeout",
        "--cli-connect-timeout",
        "--cli-binary-format",
    ],
    switches: &[
        "--debug",
        "--no-verify-ssl",
        "--no-paginate",
        "--no-sign-request",
        "--no-cli-pager",
        "--no-cli-auto-prompt",
    ],
    harmless: &[""],
    destroys: &[("--endpoint-url", "speaks to another server than the account's")],
    check: aws,
    abbreviates: true,
    ..PLAIN
};

/// Operations whose last word is a file that they write.
const DOWNLOADS: &[&str] = &[
    "get-object",
    "get-job-output",
    "get-export",
    "get-sdk",
    "get-media",
    "get-clip",
    "get-images",
    "get-screenshot",
];

/// Operations of the AWS API are named `verb-noun`.
fn aws(command: &Command<'_>) -> Option<String> {
    const READS: &[&str] = &[
        "describe-",
        "list-",
        "get-",
        "head-",
        "lookup-",
        "filter-",
        "search-",
        "batch-get-",
        "estimate-",
        "preview-",
        "validate-",
        "simulate-",
        "select-",
        "view-",
        "check-",
    ];
    const MORE: &[(&str, &str)] = &[
        ("s3", "ls"),
        ("s3", "presign"),
        ("logs", "tail"),
        ("logs", "start-query"),
        ("logs", "stop-query"),
        ("dynamodb", "query"),
        ("dynamodb", "scan"),
        ("configure", "list"),
        ("configure", "list-profiles"),
        ("configure", "get"),
        ("ec2", "create-tags"),
        ("ec2", "create-snapshot"),
        ("ec2", "start-instances"),
        ("rds", "create-db-snapshot"),
        ("rds", "start-db-instance"),
        ("sts", "decode-authorization-message"),
    ];
    let (Some(service), Some(verb)) = (command.certain_word(0), command.certain_word(1)) else {
        let help = command.certain_word(0) == Some("help");
        return (!help).then(|| "does not say plainly which operation it calls".to_owned());
    };
    let last = command.words.last().map_or("", |w| w.text);
    let local = |path: &str| path == "-" || stays_here(path);
    if service == "s3" && verb == "cp" {
        let down = command.words.len() == 4
            && command.words[2].text.starts_with("s3://")
            && !last.contains("://");
        let plain = !command.has_flag("recursive") && command.words.iter().all(|w| w.certain);
        return (!(down && plain && local(last))).then(|| "overwrites files or objects".to_owned());
    }
    if verb == "wait" || verb == "help" || MORE.contains(&(service, verb)) {
        return None;
    }
    if !READS.iter().any(|r| verb.starts_with(r)) {
        return Some(format!("calls `{service} {verb}`, which does more than read"));
    }
    let downloads = DOWNLOADS.iter().any(|d| verb.starts_with(d));
    let target = command.words.iter().skip(2).find(|w| (w.certain || downloads) && !local(w.text));
    target.map(|w| format!("writes `{}`", w.text))
}

/// Looks for the verb behind words that are known to be groups.
fn read_verb(command: &Command<'_>, groups: &[&str], reads: &[&str]) -> Option<String> {
    for word in &command.words {
        if !word.certain {
            break;
        }
        if reads.contains(&word.text)
            || word.text.starts_with("list-")
            || word.text.starts_with("get-")
        {
            let credentials =
                ["get-credentials", "get-access-keys", "get-upgrades"].contains(&word.text);
            return credentials.then(|| format!("`{}` writes credentials", word.text));
        }
        if !groups.contains(&word.text) {
            return Some(format!("calls `{}`, which may do more than read", word.text));
        }
    }
    let bare = command.words.is_empty();
    (!bare).then(|| "does not say plainly which operation it calls".to_owned())
}

fn gcloud(command: &Command<'_>) -> Option<String> {
    const GROUPS: &[&str] = &[
        "alpha",
        "beta",
        "compute",
        "instances",
        "disks",
        "snapshots",
        "images",
        "networks",
        "subnets",
        "firewall-rules",
        "addresses",
        "forwarding-rules",
        "backend-services",
        "instance-groups",
        "managed",
        "instance-templates",
        "regions",
        "zones",
        "container",
        "clusters",
        "node-pools",
        "operations",
        "projects",
        "organizations",
        "iam",
        "service-accounts",
        "roles",
        "keys",
        "sql",
        "databases",
        "backups",
        "storage",
        "buckets",
        "objects",
        "logging",
        "logs",
        "sinks",
        "metrics",
        "run",
        "services",
        "revisions",
        "jobs",
        "functions",
        "pubsub",
        "topics",
        "subscriptions",
        "dns",
        "managed-zones",
        "record-sets",
        "secrets",
        "versions",
        "artifacts",
        "repositories",
        "builds",
        "config",
        "configurations",
        "auth",
        "monitoring",
        "dashboards",
        "policies",
        "redis",
        "spanner",
        "dataflow",
        "components",
        "app",
        "billing",
        "accounts",
        "routers",
        "routes",
        "url-maps",
        "ssl-certificates",
        "target-pools",
        "health-checks",
        "machine-types",
    ];
    read_verb(
        command,
        GROUPS,
        &["list", "describe", "read", "tail", "info", "version", "help", "get-value", "ls", "cat"],
    )
}

fn az(command: &Command<'_>) -> Option<String> {
    const GROUPS: &[&str] = &[
        "vm",
        "vmss",
        "aks",
        "nodepool",
        "group",
        "account",
        "network",
        "vnet",
        "subnet",
        "nsg",
        "rule",
        "lb",
        "public-ip",
        "nic",
        "dns",
        "zone",
        "record-set",
        "storage",
        "container",
        "blob",
        "acr",
        "repository",
        "webapp",
        "functionapp",
        "monitor",
        "metrics",
        "activity-log",
        "alert",
        "log-analytics",
        "workspace",
        "keyvault",
        "secret",
        "sql",
        "server",
        "db",
        "ad",
        "user",
        "sp",
        "app",
        "role",
        "assignment",
        "definition",
        "resource",
        "provider",
        "disk",
        "snapshot",
        "image",
        "identity",
        "redis",
        "cosmosdb",
        "postgres",
        "flexible-server",
        "deployment",
        "lock",
        "tag",
        "advisor",
    ];
    read_verb(
        command,
        GROUPS,
        &["list", "show", "version", "find", "help", "show-tags", "show-usage", "check-health"],
    )
}
