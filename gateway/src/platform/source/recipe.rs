//! How a source's events are read: templates that make a message of headers and body.
//!
//! The language is Jinja, by minijinja. A template sees `body`, `headers` (lower case,
//! without those that prove) and `digest` (SHA-256 of the body). It cannot read files, call
//! anything, or run for long.

use aof_shared::config::Instance;
use minijinja::{Environment, UndefinedBehavior, escape_formatter};
use serde_json::Value;

use super::proof::Proof;
use crate::platform::Malformed;

/// Steps that one template may take; the longest of ours take some hundreds.
const MAX_STEPS: u64 = 100_000;

/// How a source is read unless an account says otherwise.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recipe {
    /// How it proves itself.
    pub(super) proof: fn() -> Proof,
    /// By name: `id` (the same for every retry), `text`, `channel`, `user`, `conversation`
    /// (what keeps its order), `skip` (`true` ignores the event).
    templates: &'static [(&'static str, &'static str)],
}

/// Source: GitHub, "Webhook events and payloads".
pub(super) const GITHUB: Recipe = Recipe {
    proof: || Proof::hmac("x-hub-signature-256", "sha256="),
    templates: &[
        ("id", "{{ headers['x-github-delivery'] or digest }}"),
        (
            "skip",
            "{{ headers['x-github-event'] == 'ping' or not body.sender or body.sender.type == 'Bot' }}",
        ),
        (
            "channel",
            "{{ body.repository.full_name or body.organization.login or body.installation.account.login or 'github' }}",
        ),
        ("user", "{{ body.sender.login }}"),
        (
            "conversation",
            "{{ body.repository.full_name }}#{{ body.issue.number or body.pull_request.number or body.ref }}",
        ),
        (
            "text",
            "{{ headers['x-github-event'] or 'event' }}{{ ' ' ~ body.action if body.action }} in \
            {{ body.repository.full_name or body.organization.login }} by {{ body.sender.login }}\
            {% set about = body.issue or body.pull_request or body.workflow_run or body.check_run or body.deployment_status %}\
            {% if about %}: {{ about.title or about.display_title or about.name or about.state }}\
            {{ ' (' ~ about.conclusion ~ ')' if about.conclusion }} {{ about.html_url }}{% endif %}\
            {% if body.comment %}\n{{ body.comment.body }}{% endif %}\
            {% if body.ref %}: {{ body.ref }}{% endif %}",
        ),
    ],
};

/// Source: PagerDuty, "V3 Webhooks".
pub(super) const PAGERDUTY: Recipe = Recipe {
    proof: || Proof::hmac("x-pagerduty-signature", "v1="),
    templates: &[
        ("id", "{{ headers['x-webhook-id'] or body.event.id or digest }}"),
        ("skip", "{{ not body.event or body.event.event_type == 'pagey.ping' }}"),
        ("channel", "{{ body.event.data.service.id or body.event.data.id }}"),
        ("user", "{{ body.event.agent.id or 'pagerduty' }}"),
        ("conversation", "{{ body.event.data.incident.id or body.event.data.id }}"),
        (
            "text",
            "{{ body.event.event_type }}: {{ body.event.data.title or body.event.data.summary or body.event.data.name }}\
            {{ ' [' ~ body.event.data.urgency ~ ']' if body.event.data.urgency }}\
            {{ ' on ' ~ body.event.data.service.summary if body.event.data.service }} {{ body.event.data.html_url }}",
        ),
    ],
};

/// Opsgenie signs nothing; its webhook sends a header that is set there.
pub(super) const OPSGENIE: Recipe = Recipe {
    proof: || Proof::token("authorization", "Bearer "),
    templates: &[
        (
            "id",
            "{{ body.alert.alertId }}:{{ body.action }}:{{ body.alert.updatedAt or body.alert.createdAt or digest }}",
        ),
        ("skip", "{{ not body.alert }}"),
        ("channel", "{{ body.integrationName or body.integrationId or 'opsgenie' }}"),
        ("user", "{{ body.alert.username or body.alert.user or 'opsgenie' }}"),
        ("conversation", "{{ body.alert.alias or body.alert.alertId }}"),
        (
            "text",
            "{{ body.action }}: {{ body.alert.message or body.alert.note or body.alert.alertId }}\
            {{ ' [' ~ body.alert.priority ~ ']' if body.alert.priority }}\
            {{ '\n' ~ body.alert.description if body.alert.description }}",
        ),
    ],
};

/// Alertmanager names no delivery: a notification is its group and how its alerts stand.
/// Source: Alertmanager, "Webhook configuration".
pub(super) const ALERTMANAGER: Recipe = Recipe {
    proof: || Proof::token("authorization", "Bearer "),
    templates: &[
        (
            "id",
            "{{ body.groupKey }}{% for a in body.alerts %}|{{ a.fingerprint }} {{ a.status }} {{ a.startsAt }}{% endfor %}",
        ),
        ("skip", "{{ not body.alerts }}"),
        ("channel", "{{ body.receiver or 'alertmanager' }}"),
        ("user", "alertmanager"),
        ("conversation", "{{ body.groupKey or digest }}"),
        (
            "text",
            "[{{ body.status }}] {{ body.commonLabels.alertname or body.groupLabels.alertname }}\
            {% for a in body.alerts %}\n- {{ a.status }}: \
            {{ a.annotations.summary or a.annotations.description or a.labels.alertname }}\
            {% for name, value in a.labels|items %} {{ name }}={{ value }}{% endfor %}{% endfor %}",
        ),
    ],
};

/// Whatever else: a token unless the account says how it signs.
pub(super) const WEBHOOK: Recipe = Recipe {
    proof: || Proof::token("authorization", "Bearer "),
    templates: &[
        ("id", "{{ headers['webhook-id'] or headers['idempotency-key'] or body.id or digest }}"),
        ("skip", "false"),
        ("channel", "{{ body.channel or 'webhook' }}"),
        ("user", "{{ body.user or 'webhook' }}"),
        ("conversation", "{{ body.conversation or body.channel or 'webhook' }}"),
        ("text", "{{ body.text or body.message or body.title }}"),
    ],
};

/// The templates of one account, ready to be rendered.
pub(super) struct Templates<'i> {
    environment: Environment<'i>,
}

impl<'i> Templates<'i> {
    /// The recipe's, with what the account's `source` has instead.
    ///
    /// # Errors
    /// [`Malformed`] when a template is none.
    pub(super) fn of(instance: &'i Instance, recipe: &Recipe) -> Result<Self, Malformed> {
        let mut environment = Environment::new();
        // What a body lacks is nothing, however deep; required fields are looked at.
        environment.set_undefined_behavior(UndefinedBehavior::Chainable);
        environment.set_formatter(|out, state, value| {
            // JSON's `null` is nothing too.
            if value.is_none() { Ok(()) } else { escape_formatter(out, state, value) }
        });
        environment.set_fuel(Some(MAX_STEPS));
        let own = instance.settings.get("source");
        for (name, text) in recipe.templates {
            let text = own.and_then(|own| own.get(name)).and_then(Value::as_str).unwrap_or(text);
            environment
                .add_template(name, text)
                .map_err(|e| Malformed(format!("`source.{name}` is no template: {e}")))?;
        }
        Ok(Self { environment })
    }

    /// What the template `name` makes of `seen`, without white space around it.
    ///
    /// # Errors
    /// [`Malformed`] when it cannot be rendered, or takes too long.
    pub(super) fn render(&self, name: &str, seen: &Value) -> Result<String, Malformed> {
        let template = self.environment.get_template(name);
        let text = template.and_then(|template| template.render(seen));
        let text = text.map_err(|e| Malformed(format!("`{name}` cannot be made: {e}")))?;
        Ok(text.trim().to_owned())
    }
}
