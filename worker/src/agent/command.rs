//! The `command` runtime: no model; the message is the command, its output the answer.

use aof_shared::message::RunStatus;
use serde_json::json;

use crate::agent::{Next, Run, call};
use crate::checkpoint::{Call, Outcome, ToolResult};
use crate::guard;
use crate::job::Interrupted;

/// Runs the message, unless it ran before this delivery, and answers with the result.
///
/// # Errors
/// [`Interrupted`].
pub(super) async fn run(run: &mut Run<'_>) -> Result<Next, Interrupted> {
    if run.checkpoint.last_result().is_none() {
        let words = match guard::parse_command(run.job.task.message.text.trim()) {
            Ok(words) => words,
            Err(error) => {
                let text = format!("This is not a command that can run: {error}");
                return Ok(Next::refused("unreadable_command", text));
            }
        };
        let Some((tool, args)) = words.split_first() else {
            return Ok(Next::refused("unreadable_command", "There is no command to run."));
        };
        let call = Call {
            id: "message".to_owned(),
            tool: tool.clone(),
            arguments: json!({ "args": args }),
            signatures: None,
        };
        match call::call(run, call).await? {
            Next::Go => {}
            other => return Ok(other),
        }
    }
    let Some(result) = run.checkpoint.last_result().cloned() else {
        return Ok(Next::failed("state_lost", "The command's result is gone."));
    };
    let next = answer(&result);
    if let Next::End { answer, .. } = &next {
        run.stream.push(answer).await;
    }
    Ok(next)
}

/// What the person who typed the command is told.
fn answer(result: &ToolResult) -> Next {
    let command = &result.command;
    let output = fenced(&result.text);
    let end = |status, reason, answer| Next::End { status, reason, answer };
    match result.outcome {
        Outcome::Exited { code: 0 } if result.text.trim().is_empty() => {
            end(RunStatus::Success, "", format!("`{command}` is done; it printed nothing."))
        }
        Outcome::Exited { code: 0 } => end(RunStatus::Success, "", output),
        Outcome::Exited { code } => end(
            RunStatus::Success,
            "",
            format!("`{command}` ended with exit code {code}.\n{output}"),
        ),
        Outcome::Refused => end(RunStatus::Refused, "refused", result.text.clone()),
        Outcome::Failed => end(
            RunStatus::Failed,
            "tool_failed",
            format!("`{command}` did not succeed: {}", result.text),
        ),
        Outcome::Unknown => end(
            RunStatus::Failed,
            "unknown_outcome",
            format!(
                "`{command}` had started when its worker stopped. Nobody knows how it ended, \
                 and it was not run again: check, then ask once more if you must."
            ),
        ),
    }
}

/// A code block that the text cannot close.
fn fenced(text: &str) -> String {
    let mut fence = "```".to_owned();
    while text.contains(&fence) {
        fence.push('`');
    }
    format!("{fence}\n{}\n{fence}", text.trim_end_matches('\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_cannot_close_its_block() {
        assert_eq!(fenced("a\n"), "```\na\n```");
        assert_eq!(fenced("x ``` y"), "````\nx ``` y\n````");
    }
}
