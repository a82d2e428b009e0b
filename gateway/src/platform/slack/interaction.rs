//! Interactions: the buttons of an approval become votes; all others are ignored.

use aof_shared::action::{Choice, Identity, Vote, VoteTarget};
use aof_shared::clock::UnixMs;
use aof_shared::config::Instance;
use aof_shared::ids::ActionId;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Text, claimed, filled, ts_ms};
use crate::platform::{Claim, Inbound, Malformed};

/// The button that agrees; its value is the action's id.
const APPROVE: &str = "aof.approve";
/// The button that refuses; its value is the action's id.
const DENY: &str = "aof.deny";

#[derive(Deserialize)]
struct Interaction<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow, default)]
    user: Option<Named<'a>>,
    #[serde(borrow, default)]
    trigger_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    actions: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow, default)]
    id: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Action<'a> {
    #[serde(borrow, default)]
    action_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    value: Option<Text<'a>>,
    #[serde(borrow, default)]
    action_ts: Option<Text<'a>>,
}

/// Where the interaction says it is from.
pub(super) fn claim(payload: &str) -> Claim {
    #[derive(Deserialize)]
    struct Origin<'a> {
        #[serde(borrow, default)]
        api_app_id: Option<Text<'a>>,
        #[serde(borrow, default)]
        team: Option<Named<'a>>,
        #[serde(borrow, default)]
        enterprise: Option<Named<'a>>,
    }
    let Ok(origin) = serde_json::from_str::<Origin<'_>>(payload) else { return Claim::default() };
    let id =
        |named: Option<&'_ Named<'_>>| named.and_then(|n| filled(n.id.as_ref()).map(str::to_owned));
    let (team, enterprise) = (id(origin.team.as_ref()), id(origin.enterprise.as_ref()));
    claimed([team.as_deref(), enterprise.as_deref(), filled(origin.api_app_id.as_ref())])
}

/// Says what an interaction is.
pub(super) fn normalize(
    payload: &str,
    instance: &Instance,
    now_ms: UnixMs,
) -> Result<Inbound, Malformed> {
    let interaction: Interaction<'_> = serde_json::from_str(payload)
        .map_err(|e| Malformed(format!("`payload` is not an interaction: {e}")))?;
    if interaction.kind.as_str() != "block_actions" {
        return Ok(Inbound::Ignored("interaction type"));
    }
    for raw in interaction.actions.as_deref().unwrap_or_default() {
        // An element of another kind (a menu, a date) has other shapes; it is not ours.
        let Ok(action) = serde_json::from_str::<Action<'_>>(raw.get()) else { continue };
        let choice = match filled(action.action_id.as_ref()) {
            Some(APPROVE) => Choice::Approve,
            Some(DENY) => Choice::Deny,
            _ => continue,
        };
        return vote(&interaction, &action, choice, (instance, now_ms));
    }
    Ok(Inbound::Ignored("other action"))
}

fn vote(
    interaction: &Interaction<'_>,
    action: &Action<'_>,
    choice: Choice,
    (instance, now_ms): (&Instance, UnixMs),
) -> Result<Inbound, Malformed> {
    let missing = |name: &str| Malformed(format!("`{name}` is missing"));
    let user = interaction.user.as_ref().and_then(|u| filled(u.id.as_ref()));
    let user = user.ok_or_else(|| missing("user.id"))?;
    let trigger = filled(interaction.trigger_id.as_ref()).ok_or_else(|| missing("trigger_id"))?;
    let id: ActionId = filled(action.value.as_ref())
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| Malformed("the button's value is no action id".to_owned()))?;
    let action_ts = filled(action.action_ts.as_ref());
    let vote = Vote {
        target: VoteTarget::Action { id },
        voter: Identity::new(instance.platform.clone(), user),
        choice,
        reason: None,
        cast_at_ms: action_ts.and_then(ts_ms).unwrap_or(now_ms),
    };
    let event_id = format!("{trigger}:{}", action_ts.unwrap_or_default());
    Ok(Inbound::Vote { event_id, vote: Box::new(vote) })
}
