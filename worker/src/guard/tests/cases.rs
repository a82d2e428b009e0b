//! Every written case of `cases/`.

use std::collections::{BTreeMap, HashSet};

use super::{decide, policy};
use crate::guard::{Verdict, judge};

const DISGUISED: &str = include_str!("../cases/disguised.txt");
const HARMLESS: &str = include_str!("../cases/harmless.txt");

/// Cases that each file must have.
const LEAST_CASES: usize = 300;

/// Harmless cases that may be held, in percent.
const MOST_HELD_PERCENT: usize = 2;

struct Case<'a> {
    category: &'a str,
    written: &'a str,
    verdict: Verdict,
}

fn read(file: &'static str) -> Vec<Case<'static>> {
    let lines = file.lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines.map(case).collect()
}

fn case(line: &'static str) -> Case<'static> {
    let at = line.find([':', '!']).expect("a category ends in `:` or `!`");
    let (category, written) = (&line[..at], line[at + 1..].trim_start());
    let policy = policy();
    let verdict = if line.as_bytes()[at] == b':' {
        decide(&written.replace('␤', "\n"), &policy)
    } else {
        match serde_json::from_str(written).unwrap_or_else(|e| panic!("{line}: {e}")) {
            serde_json::Value::String(text) => decide(&text, &policy),
            list => judge(
                &serde_json::from_value::<Vec<String>>(list).expect("a list of words"),
                &policy,
            ),
        }
    };
    Case { category, written, verdict }
}

fn by_category(cases: &[Case<'_>]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for case in cases {
        *counts.entry(case.category.to_owned()).or_default() += 1;
    }
    counts
}

fn distinct(cases: &[Case<'_>]) -> usize {
    cases.iter().map(|c| c.written).collect::<HashSet<_>>().len()
}

#[test]
fn allows_no_disguise() {
    let cases = read(DISGUISED);
    assert!(distinct(&cases) >= LEAST_CASES && distinct(&cases) == cases.len(), "{}", cases.len());
    let held = cases.iter().filter(|c| matches!(c.verdict, Verdict::Hold { .. })).count();
    println!(
        "{} disguised, {held} held, the others refused: {:?}",
        cases.len(),
        by_category(&cases)
    );
    let passed: Vec<_> =
        cases.iter().filter(|c| c.verdict == Verdict::Allow).map(|c| c.written).collect();
    assert!(passed.is_empty(), "{} allowed:\n{}", passed.len(), passed.join("\n"));
}

#[test]
fn allows_what_is_harmless() {
    let cases = read(HARMLESS);
    assert!(distinct(&cases) >= LEAST_CASES && distinct(&cases) == cases.len(), "{}", cases.len());
    let stopped: Vec<_> = cases.iter().filter(|c| c.verdict != Verdict::Allow).collect();
    println!("{} harmless, {} not allowed: {:?}", cases.len(), stopped.len(), by_category(&cases));
    for case in &stopped {
        println!("  {}\n      {:?}", case.written, case.verdict);
    }
    assert!(
        stopped.len() * 100 <= cases.len() * MOST_HELD_PERCENT,
        "{} not allowed",
        stopped.len()
    );
}
