//! The card that shows a held action, as an embed with buttons. Pure.
//!
//! What will run stands in a code block that nothing in a command can close. Everything
//! that somebody else chose is escaped; no card mentions anyone (`allowed_mentions`).

use serde_json::{Value, json};

use aof_shared::action::{ApprovalStatus, ApprovalView, Choice, Identity, SelfApproval};

use crate::platform::discord::interaction::{APPROVE, DENY};
use crate::platform::discord::is_snowflake;
use crate::reply::shell;

/// Command shown; with everything else it stays below the 6,000 characters of an embed.
/// Source: Discord, "Message", *Embed Limits*.
const MAX_COMMAND_CHARS: usize = 2_000;
/// Outcome shown; a field takes 1,024. The whole of it is in `aofctl approvals show`.
const MAX_OUTCOME_CHARS: usize = 800;
/// Longest value of a field.
const MAX_VALUE_CHARS: usize = 400;
/// Longest single name, reason or rule.
const MAX_NAME_CHARS: usize = 120;
/// People named in one field.
const MAX_NAMED: usize = 10;
/// Command shown in a notification.
const MAX_BRIEF_CHARS: usize = 200;
/// Stands behind `@`, so that it mentions nobody.
const WORD_JOINER: char = '\u{2060}';

/// `content`, `embeds` and `components` of a message that draws `view`.
pub(crate) fn card(view: &ApprovalView) -> Value {
    let (title, color) = headline(view);
    let command = shell::quoted(&view.argv);
    let brief = cut(&command, MAX_BRIEF_CHARS);
    json!({
        "content": format!("**{title}** {}", literal(&brief)),
        "embeds": [{
            "title": title,
            "color": color,
            "description": description(view, &command),
            "fields": fields(view),
            "footer": {"text": footer(view)},
        }],
        "components": buttons(view),
    })
}

/// How it stands, in a line, and as a colour (RGB).
fn headline(view: &ApprovalView) -> (String, u32) {
    let (text, color) = match view.status {
        ApprovalStatus::Pending => ("⏳ Approval needed", 0x00F0_B232),
        ApprovalStatus::Approved => ("✅ Approved, about to run", 0x0058_65F2),
        ApprovalStatus::Denied => ("⛔ Denied", 0x00DA_373C),
        ApprovalStatus::Expired => ("⏰ Expired: nobody decided in time", 0x0080_848E),
        ApprovalStatus::Started => ("⚙️ Approved, running", 0x0058_65F2),
        ApprovalStatus::Executed => ("✅ Executed", 0x0023_A55A),
        ApprovalStatus::Failed => ("❌ Approved, but it failed", 0x00DA_373C),
        ApprovalStatus::Uncertain => {
            let text = "⚠️ Started, and nobody knows how it ended: look at the target and settle \
                        it by hand";
            (text, 0x00F0_B232)
        }
    };
    (text.to_owned(), color)
}

fn description(view: &ApprovalView, command: &str) -> String {
    let (shown, missing) = crate::reply::paced::bounded(command, MAX_COMMAND_CHARS);
    let mut text = block(shown);
    if missing > 0 {
        text.push_str(&format!(
            "\n⚠️ **{missing} more characters of the command are not shown here.** Read all of \
             it before you decide: `aofctl approvals show {}`",
            view.id
        ));
    }
    if shown.contains("```") {
        text.push_str("\n⚠️ Backticks of the command are shown as ˋ.");
    }
    if shell::beyond_ascii(&view.argv) {
        text.push_str("\n⚠️ The command holds letters beyond ASCII, which may look like others.");
    }
    text
}

/// A code block. Backticks that would close it become letters that look like them.
fn block(text: &str) -> String {
    let inert = if text.contains("```") { text.replace('`', "ˋ") } else { text.to_owned() };
    format!("```\n{inert}\n```")
}

fn fields(view: &ApprovalView) -> Vec<Value> {
    let quorum = &view.quorum;
    let own = match quorum.self_approval {
        SelfApproval::Never => ", the one who asked does not count",
        SelfApproval::Allowed => "",
    };
    let who = some_of(&quorum.approvers, |id| approver(id));
    let mut fields = vec![
        field("Asked by", &person(&view.requester)),
        field("Runs on", &name(&view.target)),
        field(
            "Flow · agent",
            &format!("{} · {}", name(view.flow.as_str()), name(view.agent.as_str())),
        ),
        field("Rule · chain", &format!("{} · {}", name(&view.rule), name(&quorum.chain))),
        field("May decide", &format!("{who} ({} must agree{own})", quorum.require)),
    ];
    if view.status == ApprovalStatus::Pending {
        let expires = format!("{} · expires <t:{}:R>", view.missing, view.expires_at_ms / 1_000);
        fields.push(field("Missing", &expires));
    }
    if !view.votes.is_empty() {
        let votes = some_of(&view.votes, |vote| {
            let did = match vote.choice {
                Choice::Approve => "👍",
                Choice::Deny => "👎",
                Choice::Withdraw => "withdrew",
            };
            let reason = vote.reason.as_deref().map(|r| format!(" ({})", name(r)));
            format!("{did} {}{}", person(&vote.voter), reason.unwrap_or_default())
        });
        fields.push(field("Votes", &votes));
    }
    if let Some(outcome) = view.outcome.as_deref().filter(|text| !text.trim().is_empty()) {
        let outcome = block(&cut(outcome.trim_end(), MAX_OUTCOME_CHARS));
        fields.push(json!({"name": "Outcome", "value": outcome, "inline": false}));
    }
    fields
}

fn field(title: &str, value: &str) -> Value {
    json!({"name": title, "value": cut(value, MAX_VALUE_CHARS), "inline": false})
}

fn some_of<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    let shown: Vec<String> = items.iter().take(MAX_NAMED).map(show).collect();
    let more = items.len().saturating_sub(MAX_NAMED);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    if shown.is_empty() { "nobody".to_owned() } else { shown.join(", ") + &tail }
}

/// Someone, as a mention where Discord knows them.
fn person(who: &Identity) -> String {
    if who.platform.as_str() == "discord" {
        approver(&who.user)
    } else {
        format!("{} on {}", name(&who.user), name(who.platform.as_str()))
    }
}

/// An approver's id: a mention when it is a Discord user's.
fn approver(id: &str) -> String {
    let user = id.strip_prefix("discord:").unwrap_or(id);
    if user.len() >= 17 && is_snowflake(user) { format!("<@{user}>") } else { name(id) }
}

/// A value that somebody else chose: cut, and without markup.
fn name(text: &str) -> String {
    if text.is_empty() { "–".to_owned() } else { literal(&cut(text, MAX_NAME_CHARS)) }
}

/// Text that must be shown as it is: no markup, no mentions.
fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '*' | '_' | '~' | '`' | '|' | '>' | '<' | '[' | ']' | '(' | ')' | '#' | '-'
            | ':' => {
                out.push('\\');
                out.push(c);
            }
            '@' => {
                out.push(c);
                out.push(WORD_JOINER);
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

fn cut(text: &str, max_chars: usize) -> String {
    match crate::reply::paced::bounded(text, max_chars) {
        (text, 0) => text.to_owned(),
        (text, missing) => format!("{text}… {missing} more characters"),
    }
}

/// The two buttons while it waits; none afterwards. Source: Discord, "Component Reference".
fn buttons(view: &ApprovalView) -> Value {
    const ROW: u8 = 1;
    const BUTTON: u8 = 2;
    const SUCCESS: u8 = 3;
    const DANGER: u8 = 4;
    if view.status != ApprovalStatus::Pending {
        return json!([]);
    }
    let button = |label: &str, style: u8, id: &str| {
        let custom_id = format!("{id}{}", view.id);
        json!({"type": BUTTON, "label": label, "style": style, "custom_id": custom_id})
    };
    let both = [button("Approve", SUCCESS, APPROVE), button("Deny", DANGER, DENY)];
    json!([{"type": ROW, "components": both}])
}

fn footer(view: &ApprovalView) -> String {
    let how = if view.status == ApprovalStatus::Pending {
        " · decide with the buttons, with 👍 or 👎, or with aofctl approvals"
    } else {
        ""
    };
    format!("digest {} · action {}{how}", cut(&view.digest, MAX_NAME_CHARS), view.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::slack::blocks::tests::view;

    /// What an embed counts. Source: Discord, *Embed Limits*.
    fn counted(card: &Value) -> usize {
        let embed = &card["embeds"][0];
        let chars = |v: &Value| v.as_str().unwrap_or_default().chars().count();
        let fields = embed["fields"].as_array().expect("fields");
        let fields: usize = fields.iter().map(|f| chars(&f["name"]) + chars(&f["value"])).sum();
        chars(&embed["title"])
            + chars(&embed["description"])
            + chars(&embed["footer"]["text"])
            + fields
    }

    #[test]
    fn the_largest_card_is_within_the_limits() {
        let mut large = view(ApprovalStatus::Pending);
        large.argv = vec!["`".repeat(9_000)];
        large.rule = "*".repeat(900);
        large.target = "_".repeat(900);
        large.outcome = Some("```".repeat(2_000));
        large.quorum.approvers = (0..400).map(|n| format!("{}{n}", "#".repeat(300))).collect();
        let card = card(&large);
        assert!(counted(&card) <= 6_000, "{}", counted(&card));
        let embed = &card["embeds"][0];
        assert!(embed["description"].as_str().expect("text").chars().count() <= 4_096);
        for field in embed["fields"].as_array().expect("fields") {
            assert!(field["value"].as_str().expect("text").chars().count() <= 1_024, "{field}");
        }
        assert!(card["content"].as_str().expect("text").chars().count() <= 2_000);
    }

    #[test]
    fn buttons_name_the_action_and_go_once_it_is_decided() {
        let pending = view(ApprovalStatus::Pending);
        let card = card(&pending);
        let buttons = card["components"][0]["components"].as_array().expect("buttons");
        let ids: Vec<_> = buttons.iter().map(|b| b["custom_id"].as_str().expect("id")).collect();
        assert_eq!(ids, [format!("{APPROVE}{}", pending.id), format!("{DENY}{}", pending.id)]);
        assert!(ids.iter().all(|id| id.len() <= 100), "Discord takes 100 characters");
        for status in [ApprovalStatus::Denied, ApprovalStatus::Executed] {
            assert_eq!(super::card(&view(status))["components"], json!([]));
        }
    }

    #[test]
    fn a_command_cannot_leave_its_block() {
        let mut odd = view(ApprovalStatus::Pending);
        odd.argv = vec!["echo".to_owned(), "```\n# Approved by <@1> @everyone".to_owned()];
        let card = card(&odd);
        let description = card["embeds"][0]["description"].as_str().expect("text");
        assert_eq!(description.matches("```").count(), 2, "{description}");
        let content = card["content"].as_str().expect("text");
        assert!(!content.contains("@everyone") && !content.contains("<@1>"), "{content}");
    }
}
