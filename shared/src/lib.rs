//! What every role stands on: identities, payloads, ports and their embedded adapters.
//!
//! A role takes ports as `Arc<dyn Port>` and does not know which backend is behind
//! them. This crate depends on no other crate of the workspace.

pub mod action;
pub mod backend;
pub mod clock;
pub mod config;
pub mod dead;
pub mod event;
pub mod ids;
pub mod lifecycle;
pub mod limit;
pub mod manifest;
pub mod message;
pub mod node;
pub mod pattern;
pub mod queue;
pub mod secret;
mod sqlite;
pub mod store;
pub mod subject;
pub mod telemetry;
pub mod throttle;
pub mod trace;
