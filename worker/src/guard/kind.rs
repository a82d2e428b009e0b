//! The many names of one Kubernetes kind: `ns`, `namespace`, `Namespaces`, `namespaces.v1`,
//! `ns/prod`, `pod,ns`.

use super::command::Command;

/// Kind, then its short names. Source: `kubectl api-resources`, Kubernetes 1.34.
const SHORT_NAMES: &[(&str, &[&str])] = &[
    ("certificatesigningrequest", &["csr"]),
    ("componentstatus", &["cs"]),
    ("configmap", &["cm"]),
    ("cronjob", &["cj"]),
    ("customresourcedefinition", &["crd"]),
    ("daemonset", &["ds"]),
    ("deployment", &["deploy"]),
    ("endpoint", &["ep"]),
    ("event", &["ev"]),
    ("horizontalpodautoscaler", &["hpa"]),
    ("ingress", &["ing"]),
    ("limitrange", &["limit"]),
    ("namespace", &["ns"]),
    ("networkpolicy", &["netpol"]),
    ("node", &["no"]),
    ("persistentvolume", &["pv"]),
    ("persistentvolumeclaim", &["pvc"]),
    ("pod", &["po"]),
    ("poddisruptionbudget", &["pdb"]),
    ("priorityclass", &["pc"]),
    ("replicaset", &["rs"]),
    ("replicationcontroller", &["rc"]),
    ("resourcequota", &["quota"]),
    ("service", &["svc"]),
    ("serviceaccount", &["sa"]),
    ("statefulset", &["sts"]),
    ("storageclass", &["sc"]),
    ("volumeattributesclass", &["vac"]),
];

/// Whether the program's second word names a kind.
pub(crate) fn has_kinds(program: &str) -> bool {
    matches!(program, "kubectl" | "oc")
}

/// Whether `word` names the kind that `wanted` does, perhaps among others.
pub(crate) fn names(word: &str, wanted: &str) -> bool {
    let wanted = one_name(wanted);
    let kinds = word.split('/').next().unwrap_or(word);
    kinds.split(',').any(|k| one_name(k) == wanted)
}

/// Whether the kinds stand where the guard cannot read them: a file, a URL, an API path.
pub(crate) fn unseen(command: &Command<'_>) -> bool {
    ["filename", "kustomize", "raw", "f", "k"].iter().any(|f| command.has_flag(f))
}

/// Singular, lower case, without group and version.
fn one_name(kind: &str) -> String {
    let kind = kind.split(['.', '/']).next().unwrap_or(kind).to_ascii_lowercase();
    let of = |k: &str| {
        SHORT_NAMES.iter().find(|(name, short)| *name == k || short.contains(&k)).map(|(n, _)| *n)
    };
    let singular = match kind.strip_suffix("ies") {
        Some(stem) => format!("{stem}y"),
        None => kind.strip_suffix('s').unwrap_or(&kind).to_owned(),
    };
    let without_es = kind.strip_suffix("es").unwrap_or(&kind);
    of(&kind).or_else(|| of(&singular)).or_else(|| of(without_es)).map_or(singular, str::to_owned)
}
