//! The card that shows a held action, in words: for platforms without a layout of their own. Pure.

use aof_shared::action::{ApprovalStatus, ApprovalView, Choice, Identity, SelfApproval};
use aof_shared::clock::rfc3339;

use super::shell;
use super::split::Unit;

/// People named in one line.
const MAX_NAMED: usize = 20;

/// How much of a card a platform has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// How lengths are counted.
    pub unit: Unit,
    /// Longest command shown; the rest is counted, and the card says where to read it.
    pub command: usize,
    /// Longest single fact, list of people, or list of votes.
    pub line: usize,
    /// Longest outcome.
    pub outcome: usize,
}

/// A card in words: plain text without any markup, in the order in which it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// How it stands, in a line.
    pub headline: String,
    /// What would run, exactly as a shell would need it; shown letter by letter.
    pub command: String,
    /// What to mind before deciding.
    pub warnings: Vec<String>,
    /// What is known of it: a word and its value.
    pub facts: Vec<(&'static str, String)>,
    /// What it came to, if anything.
    pub outcome: Option<String>,
    /// Names it for whoever looks it up.
    pub footer: String,
    /// Whether votes still count: only then are there buttons.
    pub open: bool,
}

/// Draws `view` for a platform with this much `room`.
#[must_use]
pub fn draw(view: &ApprovalView, room: &Room) -> Card {
    let whole = shell::quoted(&view.argv);
    let end = room.unit.prefix(&whole, room.command);
    let open = view.status == ApprovalStatus::Pending;
    let mut facts = facts(view, room);
    if !view.votes.is_empty() {
        facts.push(("Votes", votes(view, room)));
    }
    let outcome = view.outcome.as_deref().map(str::trim_end).filter(|text| !text.trim().is_empty());
    Card {
        headline: headline(view, room),
        command: whole[..end].to_owned(),
        warnings: warnings(view, whole[end..].chars().count()),
        facts,
        outcome: outcome.map(|text| room.unit.cut(text, room.outcome)),
        footer: format!("digest {} · action {}", view.digest, view.id),
        open,
    }
}

impl Card {
    /// The whole card as text. The command stands on lines of its own.
    #[must_use]
    pub fn plain(&self) -> String {
        let mut parts = vec![self.headline.clone(), self.command.clone()];
        parts.extend(self.warnings.iter().map(|warning| format!("⚠ {warning}")));
        let facts: Vec<_> =
            self.facts.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        parts.push(facts.join("\n"));
        parts.extend(self.outcome.clone());
        parts.push(self.footer.clone());
        parts.join("\n\n")
    }
}

fn headline(view: &ApprovalView, room: &Room) -> String {
    match view.status {
        ApprovalStatus::Pending => "⏳ Approval needed".to_owned(),
        ApprovalStatus::Approved => "✅ Approved, about to run".to_owned(),
        ApprovalStatus::Denied => {
            let denied = view.votes.iter().rev().find(|vote| vote.choice == Choice::Deny);
            let by = denied.map(|vote| format!(" by {}", person(&vote.voter, room)));
            format!("⛔ Denied{}", by.unwrap_or_default())
        }
        ApprovalStatus::Expired => "⏰ Expired: nobody decided in time".to_owned(),
        ApprovalStatus::Started => "⚙ Approved, running".to_owned(),
        ApprovalStatus::Executed => "✅ Executed".to_owned(),
        ApprovalStatus::Failed => "❌ Approved, but it failed".to_owned(),
        ApprovalStatus::Uncertain => {
            "⚠ Started, and nobody knows how it ended: look at the target and settle it by hand. \
             It will not run again by itself"
                .to_owned()
        }
    }
}

fn warnings(view: &ApprovalView, missing_chars: usize) -> Vec<String> {
    let mut warnings = Vec::new();
    if missing_chars > 0 {
        warnings.push(format!(
            "{missing_chars} more characters of the command are not shown here. Read all of it \
             before you decide: aofctl approvals show {}",
            view.id
        ));
    }
    if shell::beyond_ascii(&view.argv) {
        warnings
            .push("The command holds letters beyond ASCII, which may look like others.".to_owned());
    }
    warnings
}

fn facts(view: &ApprovalView, room: &Room) -> Vec<(&'static str, String)> {
    let quorum = &view.quorum;
    let field = |text: &str| field(text, room);
    let mut facts = vec![
        ("Asked by", person(&view.requester, room)),
        ("Runs on", field(&view.target)),
        ("Flow", field(&format!("{} · agent {}", view.flow, view.agent))),
        ("Rule", field(&format!("{} · chain {}", view.rule, quorum.chain))),
    ];
    if view.status == ApprovalStatus::Pending {
        let until = rfc3339(view.expires_at_ms);
        facts.push(("Missing", format!("{} · expires {until}", view.missing)));
    }
    let own = match quorum.self_approval {
        SelfApproval::Never => ", the one who asked does not count",
        SelfApproval::Allowed => "",
    };
    let who = some_of(&quorum.approvers, room, Clone::clone);
    facts.push(("May decide", format!("{who} ({} must agree{own})", quorum.require)));
    facts
}

fn votes(view: &ApprovalView, room: &Room) -> String {
    some_of(&view.votes, room, |vote| {
        let did = match vote.choice {
            Choice::Approve => "👍",
            Choice::Deny => "👎",
            Choice::Withdraw => "withdrew",
        };
        let reason = vote.reason.as_deref().map(|r| format!(" ({})", field(r, room)));
        format!("{did} {}{}", person(&vote.voter, room), reason.unwrap_or_default())
    })
}

fn some_of<T>(items: &[T], room: &Room, show: impl Fn(&T) -> String) -> String {
    let shown: Vec<String> = items.iter().take(MAX_NAMED).map(show).collect();
    let more = items.len().saturating_sub(MAX_NAMED);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    if shown.is_empty() { "nobody".to_owned() } else { field(&(shown.join(", ") + &tail), room) }
}

fn person(who: &Identity, room: &Room) -> String {
    field(&format!("{} on {}", who.user, who.platform), room)
}

/// A value that somebody else chose: in one line, and cut.
fn field(text: &str, room: &Room) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.is_empty() { "–".to_owned() } else { room.unit.cut(&line, room.line) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::contract::view;

    const ROOM: Room = Room { unit: Unit::Utf16, command: 40, line: 80, outcome: 60 };

    #[test]
    fn a_card_says_what_would_run_who_may_decide_and_how_it_stands() {
        let card = draw(&view(), &ROOM);
        assert!(card.open);
        assert_eq!(card.command, "rm -rf /srv/old");
        assert!(card.warnings.is_empty(), "{:?}", card.warnings);
        let text = card.plain();
        for part in ["Approval needed", "U015DEV01 on slack", "Missing: 2", "alice@example.org"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(card.footer.contains(&view().id.to_string()));
    }

    #[test]
    fn what_is_not_shown_is_counted_and_what_deceives_is_named() {
        let argv = vec!["echo".to_owned(), "й".repeat(100)];
        let outcome = Some("x".repeat(100));
        let status = ApprovalStatus::Executed;
        let card = draw(&ApprovalView { argv, outcome, status, ..view() }, &ROOM);
        assert_eq!((ROOM.unit.length(&card.command), card.open), (40, false));
        assert!(card.warnings[0].starts_with("67 more characters"), "{}", card.warnings[0]);
        assert!(card.warnings[1].contains("beyond ASCII"));
        assert!(card.outcome.is_some_and(|text| text.ends_with("more characters")));
    }

    #[test]
    fn no_value_breaks_its_line() {
        let target = "prod\nAsked by: the president".to_owned();
        let card = draw(&ApprovalView { target, ..view() }, &ROOM);
        assert_eq!(card.plain().matches("\nAsked by:").count(), 1, "{}", card.plain());
    }
}
