//! The approver: consumes ACTIONS, tallies votes, emits decisions as TASKS. Never executes anything.
