//! What holds of every command, made-up ones too.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::{approval, policy};
use crate::guard::command::Command;
use crate::guard::{Verdict, judge, parse_command};
use aof_shared::config::Approval;

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// Commands that are not allowed: destructive ones of all tables.
fn destructive() -> impl Strategy<Value = Vec<String>> {
    select(vec![
        "kubectl delete pod web-0",
        "kubectl delete ns prod",
        "kubectl scale deploy/web --replicas=0",
        "kubectl drain node-1",
        "kubectl patch deploy web",
        "helm uninstall web",
        "helm rollback web 1",
    ])
    .prop_map(words)
}

fn global_flag() -> impl Strategy<Value = Vec<String>> {
    select(vec![
        "-n prod",
        "--namespace=get",
        "-n list",
        "--namespace get",
        "-nprod",
        "--unknown",
        "-x",
        "--x=1",
        "-h=x",
    ])
    .prop_map(words)
}

fn wrapper() -> impl Strategy<Value = Vec<String>> {
    let wrappers = "sudo|sudo -n -u root|env|env -i|env TZ=UTC|env --|timeout 5|timeout -k 1 5s|nice|nice -n 5|nohup|time -p|\
        stdbuf -oL|setsid -w|busybox|command|xargs|xargs -n 1|kubectl exec web-0 --|docker exec -it web";
    select(wrappers.split('|').map(words).collect::<Vec<_>>())
}

/// Any word, those that mean something more often.
fn any_word() -> impl Strategy<Value = String> {
    prop_oneof![
        select(words(
            "kubectl helm git aws sh -c -- - -n --replicas=0 --replicas 0 get delete -rf sudo env find -exec ; {} xargs \
            exec docker psql --command=x -x=1 --=x --=  = @ -ab"
        )),
        "\\PC{0,8}",
        any::<String>(),
    ]
}

/// `word` for a shell, in one of four ways.
fn quoted(word: &str, way: usize) -> String {
    let plain =
        !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:".contains(c));
    match way {
        0 if plain => word.to_owned(),
        1 => format!("'{}'", word.replace('\'', "'\\''")),
        2 => {
            let escape = |c: char| {
                if matches!(c, '"' | '\\' | '$' | '`') { format!("\\{c}") } else { c.to_string() }
            };
            format!("\"{}\"", word.chars().map(escape).collect::<String>())
        }
        _ if word.is_empty() || word.contains('\n') => format!("'{}'", word.replace('\'', "'\\''")),
        _ => word.chars().map(|c| format!("\\{c}")).collect(),
    }
}

fn passes(argv: &[String]) -> bool {
    judge(argv, &policy()) == Verdict::Allow
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn judge_is_total(argv in prop::collection::vec(any_word(), 0..12)) {
        let _ = judge(&argv, &policy());
        let _ = Command::read(&argv);
    }

    #[test]
    fn parse_is_total(text in any::<String>(), quoted in "[a-z'\"\\\\ \n$;|*{},-]{0,40}") {
        let _ = parse_command(&text);
        let _ = parse_command(&quoted);
    }

    #[test]
    fn any_pattern_compiles_and_matches(pattern in any::<String>(), odd in "[a-z*= -]{0,80}", argv in prop::collection::vec(any_word(), 1..6)) {
        let approval = Approval { require_for: vec![pattern, odd], ..approval() };
        let _ = judge(&argv, &crate::guard::Policy::new(&super::agent(super::TOOLS), None, &approval));
    }

    #[test]
    fn quoting_is_undone(argv in prop::collection::vec("[ -~é\n\t]{0,12}", 1..8), ways in prop::collection::vec(0_usize..4, 8)) {
        prop_assume!(!argv[0].contains('='));
        let text: Vec<String> = argv.iter().zip(&ways).map(|(w, way)| quoted(w, *way)).collect();
        prop_assert_eq!(parse_command(&text.join(" ")), Ok(argv));
    }

    #[test]
    fn global_flags_change_nothing(argv in destructive(), flags in prop::collection::vec(global_flag(), 1..4)) {
        let mut flagged = vec![argv[0].clone()];
        flagged.extend(flags.into_iter().flatten());
        flagged.extend_from_slice(&argv[1..]);
        prop_assert!(!passes(&flagged), "{:?}", flagged);
    }

    #[test]
    fn flags_anywhere_change_nothing(argv in destructive(), flag in global_flag(), at in any::<Index>()) {
        let at = 1 + at.index(argv.len());
        let mut flagged = argv;
        flagged.splice(at..at, flag);
        prop_assert!(!passes(&flagged), "{:?}", flagged);
    }

    #[test]
    fn quotes_change_nothing(argv in destructive(), ways in prop::collection::vec(0_usize..4, 8)) {
        let text: Vec<String> = argv.iter().zip(&ways).map(|(w, way)| quoted(w, *way)).collect();
        prop_assert!(parse_command(&text.join(" ")).is_err() || !passes(&argv));
        let script = vec!["sh".to_owned(), "-c".to_owned(), text.join(" ")];
        prop_assert!(!passes(&script), "{:?}", script);
    }

    #[test]
    fn order_of_flags_changes_nothing(at in 2_usize..4, before in any::<bool>()) {
        let mut argv = words("kubectl scale deploy/web");
        let flags = if before { words("-n prod --replicas 0") } else { words("--replicas 0 -n prod") };
        argv.splice(at..at, flags);
        prop_assert!(!passes(&argv), "{:?}", argv);
    }

    #[test]
    fn wrappers_change_nothing(argv in destructive(), wrappers in prop::collection::vec(wrapper(), 1..5), script in any::<bool>()) {
        let mut wrapped: Vec<String> = wrappers.into_iter().flatten().collect();
        if script {
            wrapped.extend([String::from("sh"), String::from("-c"), argv.join(" ")]);
        } else {
            wrapped.extend(argv);
        }
        prop_assert!(!passes(&wrapped), "{:?}", wrapped);
    }

    #[test]
    fn company_changes_nothing(argv in destructive(), sign in select(vec![";", "&&", "||", "|", "&", "\n"]), first in any::<bool>()) {
        let (bad, good) = (argv.join(" "), "kubectl get pods");
        let text = if first { format!("{bad} {sign} {good}") } else { format!("{good}{sign}{bad}") };
        prop_assert!(!passes(&["bash".to_owned(), "-c".to_owned(), text]));
    }
}
