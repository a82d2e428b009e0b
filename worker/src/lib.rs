//! The worker: consumes TASKS; emits REPLIES, ACTIONS and EVENTS. Never runs a held
//! action without its decision, and never anything through a shell.

pub mod guard;
