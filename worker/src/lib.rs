//! The worker: consumes TASKS, runs agents, emits REPLIES and ACTIONS. Never runs a held
//! action without its decision.
