//! The API over real HTTP on the embedded backend, always with two accounts.

mod approvals;
mod chat;
mod dead_letters;
mod events;
mod keys;
mod messages;
mod operations;
