//! The gateway: consumes webhooks and REPLIES, emits INBOUND and votes. Never chooses a flow.

pub mod reply;
pub mod resolve;
