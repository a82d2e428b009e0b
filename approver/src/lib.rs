//! The approver: consumes ACTIONS, tallies votes, emits decisions as TASKS. Never executes anything.

pub mod chain;
pub mod explain;
#[cfg(test)]
mod fixtures;
pub mod quorum;
