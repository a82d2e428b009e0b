//! The gateway: consumes webhooks and REPLIES, emits INBOUND and votes. Never chooses a flow.
