//! Reports for people: coverage first, then what differs, then the score tables.

use aof_router::explain::{FlowReport, Ranked};
use aof_worker::guard::Verdict;
use serde_json::json;

use super::report::{Change, CommandChange, Coverage, Difference, Report, place};
use super::rules::{Judgement, Side};
use super::slice::Slice;
use crate::output::{self, BAD, BOLD, GOOD, WAITS, paint};

/// Ways that messages move, shown of each account.
const MAX_WAYS: usize = 10;

/// Writes reports, one an account.
pub(crate) fn report(slice: &Slice, against: &str, reports: &[Report]) {
    output::line(format_args!("decided again: {} to {}, against {against}", slice.from, slice.to));
    for report in reports {
        account(report);
    }
    if reports.is_empty() {
        anstream::eprintln!(
            "no account decided anything then; choose another --from, --to or --last"
        );
    }
}

fn account(report: &Report) {
    output::line("");
    output::line(paint(BOLD, report.account.as_str()));
    for line in covered(&report.coverage) {
        output::line(format_args!("  {line}"));
    }
    if report.total() == 0 {
        output::line(format_args!("  {}", paint(GOOD, "0 differences")));
        return;
    }
    for change in Change::ALL {
        if let Some(count) = report.differences.get(&change) {
            let style = if change.loosens() || change == Change::Lost { BAD } else { WAITS };
            output::line(format_args!("  {count:>8}  {}", paint(style, change.words())));
        }
    }
    let mut ways: Vec<_> = report.moves.iter().collect();
    ways.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (way, count) in ways.iter().take(MAX_WAYS) {
        output::line(format_args!("  {count:>8}  {way}"));
    }
    for difference in &report.listed {
        output::line("");
        one(difference);
    }
    let more = report.total().saturating_sub(report.listed.len() as u64);
    if more > 0 {
        output::line(format_args!("\n  {more} more are counted above; --limit lists more"));
    }
}

fn covered(coverage: &Coverage) -> Vec<String> {
    let share = |part: u64, all: u64| part.saturating_mul(100).checked_div(all).unwrap_or(100);
    let Coverage { decisions, covered, commands, commands_covered, .. } = coverage;
    let mut lines = vec![format!(
        "coverage: {covered} of {decisions} decisions ({} %), {commands_covered} of {commands} commands ({} %)",
        share(*covered, *decisions),
        share(*commands_covered, *commands)
    )];
    let why =
        |(why, count): (&&str, &u64)| format!("{count:>8}  not covered: {}", why.replace('_', " "));
    lines.extend(coverage.uncovered.iter().map(why));
    lines.extend(coverage.commands_uncovered.iter().map(why));
    lines
}

fn one(difference: &Difference) {
    let Difference { change, message_id, time, text, before, after, table, command } = difference;
    let text = output::visible(&text.replace('\n', " "));
    output::line(format_args!("  {time} {message_id} {}", paint(BOLD, change.words())));
    output::line(format_args!("    {text}"));
    if let Some(CommandChange { argv, before, after }) = command {
        output::line(format_args!("    command  {}", output::shell_words(&json!(argv))));
        if let Some(before) = before {
            output::line(format_args!("    was      {}", judged(before)));
        }
        output::line(format_args!("    would be {}", judged(after)));
    }
    output::line(format_args!("    before   {}", side(before)));
    output::line(format_args!("    after    {}", side(after)));
    for flow in table {
        output::line(format_args!("             {}", row(flow)));
    }
}

fn judged(judgement: &Judgement) -> String {
    match (&judgement.verdict, judgement.require) {
        (Verdict::Allow, _) => paint(GOOD, "allowed"),
        (Verdict::Refuse { reason }, _) => format!("{}: {reason}", paint(BAD, "refused")),
        (Verdict::Hold { chain, rule }, require) => {
            let people = require.map(|n| format!(" for {n}")).unwrap_or_default();
            format!("{}{people} of {chain}: {rule}", paint(WAITS, "held"))
        }
    }
}

/// `flow/agent, then every flow that matched with its score`.
fn side(side: &Side) -> String {
    let rows: Vec<String> = side.candidates.iter().map(ranked).collect();
    let rows = if rows.is_empty() { "no flow matched".to_owned() } else { rows.join(" · ") };
    format!("{}  [{rows}]", place(side))
}

fn ranked(ranked: &Ranked) -> String {
    let filters: Vec<&str> = ranked.filters.iter().map(|f| f.name()).collect();
    let filters = if filters.is_empty() { "no filter".to_owned() } else { filters.join("+") };
    format!("{} {} {filters}", ranked.flow, ranked.score)
}

fn row(flow: &FlowReport) -> String {
    format!("{} {}: {}", flow.flow, flow.score, flow.verdict)
}
