//! The card that shows a held action, in Block Kit. Pure.
//!
//! What will run stands in preformatted rich text, which Slack shows letter by letter:
//! nothing in a command can close it, mention anyone or look like a button.

use serde_json::{Value, json};

use aof_shared::action::{ApprovalStatus, ApprovalView, Choice, Identity, SelfApproval};
use aof_shared::clock::rfc3339;

use super::mrkdwn;
use crate::reply::shell;

/// The button that approves; its `value` is the action's id.
pub const APPROVE: &str = "aof.approve";
/// The button that denies.
pub const DENY: &str = "aof.deny";

/// Text of one block. Slack takes 3,000; escapes count.
const MAX_BLOCK_CHARS: usize = 2_800;
/// Blocks that a command may fill; Slack takes 50 blocks a message.
const MAX_COMMAND_BLOCKS: usize = 8;
/// Outcome shown; the whole of it is in `aofctl approvals show`.
const MAX_OUTCOME_CHARS: usize = 2_000;
/// Command shown in a notification.
const MAX_FALLBACK_CHARS: usize = 200;
/// People named in one line.
const MAX_NAMED: usize = 20;
/// Longest single name, reason or rule.
const MAX_FIELD_CHARS: usize = 200;
/// Longest id of a person.
const MAX_ID_CHARS: usize = 60;

/// A card as Slack takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Card {
    /// For notifications and screen readers.
    pub text: String,
    /// The blocks.
    pub blocks: Value,
}

/// Draws `view`.
#[must_use]
pub fn card(view: &ApprovalView) -> Card {
    let command = shell::quoted(&view.argv);
    let mut blocks = vec![section(&format!("*{}*", headline(view)))];
    blocks.extend(command_blocks(view, &command));
    blocks.push(section(&facts(view)));
    if !view.votes.is_empty() {
        blocks.push(section(&votes(view)));
    }
    if let Some(outcome) = view.outcome.as_deref().filter(|text| !text.trim().is_empty()) {
        blocks.push(preformatted(&cut(outcome.trim_end(), MAX_OUTCOME_CHARS)));
    }
    if view.status == ApprovalStatus::Pending {
        blocks.push(buttons(view));
    }
    blocks.push(footer(view));
    let brief = mrkdwn::literal(&cut(&command, MAX_FALLBACK_CHARS));
    Card { text: format!("{}: {brief}", headline(view)), blocks: Value::Array(blocks) }
}

/// How it stands, in a line.
fn headline(view: &ApprovalView) -> String {
    match view.status {
        ApprovalStatus::Pending => ":hourglass_flowing_sand: Approval needed".to_owned(),
        ApprovalStatus::Approved => ":white_check_mark: Approved, about to run".to_owned(),
        ApprovalStatus::Denied => match denier(view) {
            Some(who) => format!(":no_entry: Denied by {who}"),
            None => ":no_entry: Denied".to_owned(),
        },
        ApprovalStatus::Expired => ":alarm_clock: Expired: nobody decided in time".to_owned(),
        ApprovalStatus::Started => ":gear: Approved, running".to_owned(),
        ApprovalStatus::Executed => ":white_check_mark: Executed".to_owned(),
        ApprovalStatus::Failed => ":x: Approved, but it failed".to_owned(),
        ApprovalStatus::Uncertain => {
            ":warning: Started, and nobody knows how it ended: look at the target and settle it \
             by hand. It will not run again by itself"
                .to_owned()
        }
    }
}

fn denier(view: &ApprovalView) -> Option<String> {
    let denied = view.votes.iter().rev().find(|vote| vote.choice == Choice::Deny)?;
    Some(person(&denied.voter))
}

fn command_blocks(view: &ApprovalView, command: &str) -> Vec<Value> {
    let mut rest = command;
    let mut blocks = Vec::new();
    while !rest.is_empty() && blocks.len() < MAX_COMMAND_BLOCKS {
        let end = rest.char_indices().nth(MAX_BLOCK_CHARS).map_or(rest.len(), |(at, _)| at);
        blocks.push(preformatted(&rest[..end]));
        rest = &rest[end..];
    }
    if !rest.is_empty() {
        blocks.push(section(&format!(
            ":warning: *{} more characters of the command are not shown here.* Read all of it \
             before you decide: `aofctl approvals show {}`",
            rest.chars().count(),
            view.id
        )));
    }
    if shell::beyond_ascii(&view.argv) {
        blocks.push(section(
            ":warning: The command holds letters beyond ASCII, which may look like others.",
        ));
    }
    blocks
}

fn facts(view: &ApprovalView) -> String {
    let quorum = &view.quorum;
    let mut lines = vec![
        format!("*Asked by* {}", person(&view.requester)),
        format!("*Runs on* {}", field(&view.target)),
        format!("*Flow* {} · *agent* {}", field(view.flow.as_str()), field(view.agent.as_str())),
        format!("*Rule* {} · *chain* {}", field(&view.rule), field(&quorum.chain)),
    ];
    let own = match quorum.self_approval {
        SelfApproval::Never => ", the one who asked does not count",
        SelfApproval::Allowed => "",
    };
    if view.status == ApprovalStatus::Pending {
        lines.push(format!("*Missing* {} · *expires* {}", view.missing, date(view.expires_at_ms)));
    }
    let who = some_of(&quorum.approvers, |id| approver(id));
    lines.push(format!("*May decide* {who} ({} must agree{own})", quorum.require));
    lines.join("\n")
}

fn votes(view: &ApprovalView) -> String {
    let lines = some_of(&view.votes, |vote| {
        let did = match vote.choice {
            Choice::Approve => ":+1:",
            Choice::Deny => ":-1:",
            Choice::Withdraw => "withdrew",
        };
        let reason = vote.reason.as_deref().map(|r| format!(" ({})", field(r)));
        format!("{did} {}{}", person(&vote.voter), reason.unwrap_or_default())
    });
    format!("*Votes* {lines}")
}

fn some_of<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    let shown: Vec<String> = items.iter().take(MAX_NAMED).map(show).collect();
    let more = items.len().saturating_sub(MAX_NAMED);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    if shown.is_empty() { "nobody".to_owned() } else { shown.join(", ") + &tail }
}

/// Someone, as a mention where Slack knows them.
fn person(who: &Identity) -> String {
    if who.platform.as_str() == "slack" {
        approver(&who.user)
    } else {
        format!("{} on {}", field(&who.user), field(who.platform.as_str()))
    }
}

/// An approver's id: a mention when it is a Slack user's.
fn approver(id: &str) -> String {
    let user = id.strip_prefix("slack:").unwrap_or(id);
    let letters = user.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    if user.len() >= 5 && letters && (user.starts_with('U') || user.starts_with('W')) {
        format!("<@{user}>")
    } else {
        field(&cut(id, MAX_ID_CHARS))
    }
}

/// A value that somebody else chose: cut, and without markup.
fn field(text: &str) -> String {
    if text.is_empty() { "–".to_owned() } else { mrkdwn::literal(&cut(text, MAX_FIELD_CHARS)) }
}

/// A time in the reader's own zone. Source: Slack, "Formatting text", *Date formatting*.
fn date(at_ms: u64) -> String {
    format!("<!date^{}^{{date_short_pretty}} {{time_secs}}|{}>", at_ms / 1_000, rfc3339(at_ms))
}

fn cut(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        None => text.to_owned(),
        Some((end, _)) => {
            let missing = text[end..].chars().count();
            format!("{}… {missing} more characters", &text[..end])
        }
    }
}

fn section(text: &str) -> Value {
    let text: String = text.chars().take(MAX_BLOCK_CHARS).collect();
    json!({"type": "section", "text": {"type": "mrkdwn", "text": text}})
}

fn preformatted(text: &str) -> Value {
    json!({
        "type": "rich_text",
        "elements": [{
            "type": "rich_text_preformatted",
            "elements": [{"type": "text", "text": text}],
        }],
    })
}

fn buttons(view: &ApprovalView) -> Value {
    let button = |text: &str, style: &str, action: &str| {
        json!({
            "type": "button",
            "text": {"type": "plain_text", "text": text},
            "style": style,
            "action_id": action,
            "value": view.id.to_string(),
        })
    };
    json!({
        "type": "actions",
        "block_id": format!("aof.decide.{}", view.id),
        "elements": [button("Approve", "primary", APPROVE), button("Deny", "danger", DENY)],
    })
}

fn footer(view: &ApprovalView) -> Value {
    let how = if view.status == ApprovalStatus::Pending {
        " · decide with the buttons, with :+1: or :-1:, or with `aofctl approvals`"
    } else {
        ""
    };
    let text = format!("digest `{}` · action `{}`{how}", field(&view.digest), view.id);
    json!({"type": "context", "elements": [{"type": "mrkdwn", "text": text}]})
}

#[cfg(test)]
pub(crate) mod tests;
