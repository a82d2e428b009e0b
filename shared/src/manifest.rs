//! Reads manifests: YAML in, one checked [`Snapshot`](crate::config::Snapshot) out.
//!
//! ```text
//! files ─ yaml ─ document ─┬─ flow ─ trigger, approval ─┐
//!                          ├─ agent                     ├─ link ─ check ─▶ Snapshot
//!                          └─ daemon ─ instance ────────┘
//! ```
//!
//! Reading never stops at the first mistake: everything that is wrong becomes a
//! [`Finding`] with its place and what to do, all at once. With an error among them there
//! is no snapshot, so what is in force stays in force.
//!
//! A file is read again only when it changed ([`Loader`]); what depends on several
//! documents (instances, groups, revisions) is joined anew each time.

mod accounts;
mod agent;
mod approval;
mod check;
mod daemon;
mod document;
mod env;
mod files;
mod finding;
mod flow;
mod instance;
mod link;
mod load;
mod pattern;
mod platform;
mod read;
mod suggest;
mod tool;
mod trigger;
mod watch;
mod yaml;

pub use env::Env;
pub use finding::{Finding, Paint, Severity};
pub use load::{Loaded, Loader, Sources, load};
pub use platform::platform_names;
pub use watch::{Reload, watch, watch_from};
