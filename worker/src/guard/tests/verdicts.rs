//! Which chain, which refusal.

use super::*;
use crate::guard::{MAX_BYTES, MAX_WORDS, ParseError};

fn check(policy: &Policy, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(outcome(text, policy), *expected, "{text}: {:?}", decide(text, policy));
    }
}

#[test]
fn first_rule_names_the_chain() {
    check(
        &policy(),
        &[
            ("kubectl delete namespace prod", "critical"),
            ("kubectl delete ns prod", "critical"),
            ("kubectl delete ns/prod", "critical"),
            ("kubectl delete pod/a namespaces/prod", "critical"),
            ("kubectl delete deploy,Namespaces prod", "critical"),
            ("kubectl -n x delete --wait=false namespaces.v1 prod", "critical"),
            ("kubectl delete --unknown ns prod", "critical"),
            ("kubectl delete -f may-be-a-namespace.yaml", "critical"),
            ("kubectl delete pod web-0", "standard"),
            ("kubectl delete networkpolicies all", "standard"),
            ("kubectl -n namespace delete pod web-0", "standard"),
            ("sudo kubectl delete pod web-0", "standard"),
            ("sh -c 'kubectl get pods; kubectl delete pod web-0'", "standard"),
            ("kubectl scale --replicas=0 deploy/web", "default"),
            ("helm un web", "default"),
            ("terraform destroy", "default"),
            ("kubectl get pods", "allow"),
        ],
    );
}

#[test]
fn what_cannot_be_read_asks_the_most_people() {
    check(
        &policy(),
        &[
            ("python3 -c 'print(1)'", "critical"),
            ("sh -c 'kubectl $(echo delete) ns prod'", "critical"),
            ("xargs kubectl", "critical"),
            ("env PATH=/tmp kubectl get pods", "critical"),
            ("kubectl exec -it web-0 -- bash", "critical"),
            ("kubectl some-plugin", "critical"),
        ],
    );
}

#[test]
fn refuses_parts_that_need_different_chains() {
    check(&policy(), &[("sh -c 'kubectl delete pod a; kubectl delete ns b'", "refuse")]);
}

#[test]
fn refuses_what_is_not_listed() {
    let policy = Policy::new(&agent("kubectl sh timeout"), None, &approval());
    check(
        &policy,
        &[
            ("kubectl get pods", "allow"),
            ("/usr/bin/kubectl get pods", "allow"),
            ("helm list", "refuse"),
            ("timeout 5 helm list", "refuse"),
            ("sh -c 'kubectl get pods | grep web'", "refuse"),
            ("timeout 5 sh -c 'env kubectl get pods'", "refuse"),
            ("kubectl exec web-0 -- ls", "refuse"),
            ("/tmp/kubectl get pods", "refuse"),
            ("./kubectl get pods", "refuse"),
        ],
    );
    check(&Policy::new(&agent(""), None, &approval()), &[("kubectl get pods", "refuse")]);
}

#[test]
fn allowed_commands_are_the_only_ones() {
    check(
        &allowing("kubectl", &["get", "describe", "logs", "rollout status"]),
        &[
            ("kubectl get pods", "allow"),
            ("kubectl -n prod --context=x get pods", "allow"),
            ("kubectl logs -f web-0", "allow"),
            ("kubectl rollout status deploy/web", "allow"),
            ("kubectl delete pod web-0", "refuse"),
            ("kubectl -n get delete pod web-0", "refuse"),
            ("kubectl rollout restart deploy/web", "refuse"),
            ("kubectl rollout", "refuse"),
            ("kubectl", "refuse"),
            ("kubectl GET pods", "refuse"),
            ("kubectl --unknown get pods", "refuse"),
            ("timeout 5 kubectl delete pod web-0", "refuse"),
            ("sh -c 'kubectl delete pod web-0'", "refuse"),
            ("helm list", "allow"),
        ],
    );
    check(
        &allowing("/usr/bin/kubectl", &["get"]),
        &[("kubectl get pods", "allow"), ("kubectl logs web-0", "refuse")],
    );
    check(
        &allowing("mytool", &["mytool status"]),
        &[("mytool status", "allow"), ("mytool -x status", "refuse"), ("mytool other", "refuse")],
    );
}

#[test]
fn flow_replaces_the_agents_settings_tool_by_tool() {
    let only = |command: &str| ToolConfig {
        allowed_commands: Some(vec![command.to_owned()]),
        ..ToolConfig::default()
    };
    let mut agent = agent("kubectl helm");
    agent.tool_config =
        BTreeMap::from([("kubectl".to_owned(), only("get")), ("helm".to_owned(), only("list"))]);
    let flow = FlowAgent {
        name: "ops".parse().expect("a name"),
        patterns: Vec::new(),
        priority: Default::default(),
        tools: Some(vec!["kubectl".to_owned(), "helm".to_owned(), "git".to_owned()]),
        tool_config: BTreeMap::from([("kubectl".to_owned(), only("logs"))]),
    };
    check(
        &Policy::new(&agent, Some(&flow), &approval()),
        &[
            ("kubectl get pods", "refuse"),
            ("kubectl logs web-0", "allow"),
            ("helm list", "allow"),
            ("helm status x", "refuse"),
            ("git status", "allow"),
        ],
    );
}

#[test]
fn mode_decides_what_the_catalogue_means() {
    let with = |mode, chains| {
        Policy::new(&agent(TOOLS), None, &Approval { mode, chains, ..Approval::default() })
    };
    check(
        &with(ApprovalMode::Required, vec![chain("first", 1), chain("second", 2)]),
        &[("rm -rf data", "first"), ("python3 x.py", "second"), ("ls", "allow")],
    );
    check(
        &with(ApprovalMode::Unset, vec![]),
        &[("rm -rf data", "refuse"), ("python3 x.py", "refuse"), ("ls", "allow")],
    );
    check(&with(ApprovalMode::Required, vec![]), &[("rm -rf data", "refuse"), ("ls", "allow")]);
    check(
        &with(ApprovalMode::Waived, vec![]),
        &[
            ("rm -rf data", "allow"),
            ("python3 x.py", "allow"),
            ("./rm data", "refuse"),
            ("unlisted", "refuse"),
        ],
    );
    let Verdict::Refuse { reason } = decide("rm data", &with(ApprovalMode::Unset, vec![])) else {
        panic!("allowed")
    };
    assert!(reason.contains("allowed_users") && reason.contains("REQUIRE_APPROVAL"), "{reason}");
}

#[test]
fn a_rule_without_its_chain_refuses() {
    let mut approval = approval();
    approval.rules[0].chain = "nobody".to_owned();
    check(
        &Policy::new(&agent(TOOLS), None, &approval),
        &[("kubectl delete ns prod", "refuse"), ("kubectl delete pod a", "standard")],
    );
}

#[test]
fn patterns_match_what_people_mean() {
    let held = |pattern: &str, text: &str| {
        let Verdict::Hold { rule, .. } = decide(text, &requiring(&[pattern])) else { return false };
        rule == pattern
    };
    let yes = [
        ("kubectl scale --replicas=0", "kubectl -n prod scale deploy/web --replicas 0"),
        ("kubectl scale --replicas 0", "kubectl scale --replicas=00 deploy/web"),
        ("kubectl delete -n prod", "kubectl --namespace=prod delete pod a"),
        ("kubectl delete --namespace prod*", "kubectl delete pod a -nprod-eu"),
        ("kubectl get secrets", "kubectl get secret/db"),
        ("kubectl get secrets", "kubectl get pods,secrets -A"),
        ("kubectl get secrets", "kubectl get pod/a secret/b"),
        ("kubectl apply", "kubectl apply -f web.yaml"),
        ("kubectl rollout *", "kubectl rollout restart deploy/web"),
        ("kubectl *", "kubectl get pods"),
        ("kubectl", "kubectl get pods"),
        ("helm upgrade", "helm --kube-context prod upgrade web ./chart"),
        ("helm uninstall", "helm delete web"),
        ("helm delete", "helm un web"),
        ("helm * web", "helm status web"),
        ("rm -rf", "rm --force data --recursive"),
        ("rm -rf", "rm -r data -f"),
        ("rm --recursive", "rm -fr data"),
        ("git push ** main", "git push -u origin a b main"),
        ("git push --tags", "git push origin --tag"),
        ("terraform plan -destroy", "terraform -chdir=prod plan --destroy"),
        ("aws ec2 describe-*", "aws --region x ec2 describe-instances"),
        ("mytool sync", "mytool --env prod sync"),
        ("delete namespace", "kubectl delete ns prod"),
        ("/usr/bin/kubectl get", "kubectl get pods"),
        ("* get", "kubectl get pods"),
        ("sudo", "sudo ls"),
        ("", "ls"),
    ];
    for (pattern, text) in yes {
        assert!(
            held(pattern, text),
            "`{pattern}` must hold `{text}`: {:?}",
            decide(text, &requiring(&[pattern]))
        );
    }
    let no = [
        ("kubectl scale --replicas=0", "kubectl scale --replicas=10 deploy/web"),
        ("kubectl get secrets", "kubectl get pods"),
        ("kubectl get pods -n prod", "kubectl get pods -n staging"),
        ("kubectl rollout restart", "kubectl rollout status deploy/web"),
        ("kubectl delete", "kubectl get pods delete"),
        ("helm upgrade", "helm list --filter upgrade"),
        ("rm -rf", "grep -rf x y"),
        ("git push ** main", "git push origin dev"),
        ("mytool sync", "mytool status sync"),
    ];
    for (pattern, text) in no {
        assert_eq!(
            decide(text, &requiring(&[pattern])),
            Verdict::Allow,
            "`{pattern}` must not hold `{text}`"
        );
    }
}

#[test]
fn parses_as_a_shell_would() {
    let cases: &[(&str, &[&str])] = &[
        ("a  b\tc", &["a", "b", "c"]),
        ("a 'b c' \"d e\"", &["a", "b c", "d e"]),
        (r#"a b\ c "d\"e" "f\g" 'h\i'"#, &["a", "b c", "d\"e", "f\\g", "h\\i"]),
        ("a '' \"\"", &["a", "", ""]),
        ("a b\\\nc \\\n d", &["a", "bc", "d"]),
        ("  a b \n", &["a", "b"]),
        ("a '$x `y` ;|&<>()*'", &["a", "$x `y` ;|&<>()*"]),
        ("grep foo$ x", &["grep", "foo$", "x"]),
        ("a x=~/b b#c", &["a", "x=~/b", "b#c"]),
        (
            "kubectl get -o jsonpath={.items[*].x}",
            &["kubectl", "get", "-o", "jsonpath={.items[*].x}"],
        ),
    ];
    for (text, words) in cases {
        assert_eq!(
            parse_command(text).as_deref(),
            Ok(words.iter().map(|&w| w.to_owned()).collect::<Vec<_>>().as_slice()),
            "{text}"
        );
    }
}

#[test]
fn says_what_only_a_shell_could_do() {
    use ParseError as E;
    let cases = [
        ("", E::Empty),
        ("a; b", E::Operator(";")),
        ("a | b", E::Operator("|")),
        ("a && b", E::Operator("&&")),
        ("a\nb", E::Operator("line end")),
        ("a > b", E::Redirect('>')),
        ("a 2>&1", E::Redirect('>')),
        ("a << b", E::Redirect('<')),
        ("a $b", E::Expansion('$')),
        ("a \"$b\"", E::Expansion('$')),
        ("a `b`", E::Expansion('`')),
        ("(a)", E::Subshell('(')),
        ("ls *.log", E::Glob("*.log".to_owned())),
        ("ls {a,b}", E::Glob("{a,b}".to_owned())),
        ("ls ~/x", E::Tilde),
        ("ls # x", E::Comment),
        ("A=1 ls", E::Assignment("A".to_owned())),
        ("ls 'x", E::Unterminated),
        ("ls x\\", E::Unterminated),
        ("ls 'x\0'", E::Control('\0')),
        ("ls \u{201c}x\u{201d}", E::LookAlike('\u{201c}')),
    ];
    for (text, error) in cases {
        assert_eq!(parse_command(text), Err(error), "{text}");
    }
    assert_eq!(parse_command(&"a".repeat(MAX_BYTES + 1)), Err(ParseError::TooLong));
    assert_eq!(parse_command(&"a ".repeat(MAX_WORDS + 2)), Err(ParseError::TooManyWords));
}

#[test]
fn refuses_what_is_too_large() {
    let long = ["ls".to_owned(), "a".repeat(MAX_BYTES)];
    assert!(matches!(judge(&long, &policy()), Verdict::Refuse { .. }));
    assert!(matches!(
        judge(&vec!["ls".to_owned(); MAX_WORDS + 1], &policy()),
        Verdict::Refuse { .. }
    ));
}

/// Longest that the worst input may take, unoptimised on a busy machine. What is quadratic in
/// 64 KiB takes minutes.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(5);

#[test]
fn takes_time_in_proportion() {
    let fill = |unit: &str| unit.repeat((MAX_BYTES - 64) / unit.len());
    let argv = |words: &[&str]| words.iter().map(|&w| w.to_owned()).collect::<Vec<_>>();
    let many = |program: &str, word: &str| {
        [vec![program.to_owned()], vec![word.to_owned(); MAX_WORDS - 1]].concat()
    };
    let cases = [
        argv(&["sh", "-c", &fill("*")]),
        argv(&["sh", "-c", &fill("a;")]),
        argv(&["sh", "-c", &fill("{.")]),
        argv(&["kubectl", "delete", &fill("a,")]),
        argv(&["kubectl", &format!("-{}", fill("x"))]),
        argv(&["psql", "-c", &format!("select {}", fill("("))]),
        argv(&["psql", "-c", &format!("select {}", fill(" ("))]),
        argv(&["psql", "-c", &format!("select 1{}", fill("\"\""))]),
        argv(&["mytool", &fill("a-")]),
        argv(&["sed", &fill("s/")]),
        many("kubectl", "--unknown"),
        many("kubectl", "a/b"),
        many("git", "-c"),
        many("find", "-exec"),
        many("xargs", "-0"),
        many("sudo", "sudo"),
    ];
    let policy = policy();
    for case in cases {
        let start = std::time::Instant::now();
        let _ = judge(&case, &policy);
        let _ = parse_command(&case.join(" "));
        let start_of = case.join(" ").chars().take(20).collect::<String>();
        assert!(start.elapsed() < DEADLINE, "{start_of}: {:?}", start.elapsed());
    }
}
