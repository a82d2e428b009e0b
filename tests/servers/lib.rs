//! Private NATS, Redis, PostgreSQL and HAProxy servers, and nodes of the product, for tests:
//! free ports, folders of their own.
//!
//! Each is started with `start`, killed with `kill` (SIGKILL, its data kept), started again
//! on the same port and folder with `start_again`, frozen with `pause` and thawed with
//! `resume`. It ends, and its folder goes, when it is dropped or when the test process dies,
//! however that dies; so a server may stand in a `static` and be shared by a test binary.
//!
//! The programs are installed by `tests/run`; a missing one is a panic that says so.

mod haproxy;
mod member;
mod nats;
mod port;
mod postgres;
mod process;
mod programs;
mod redis;
mod wire;

pub use haproxy::*;
pub use member::*;
pub use nats::*;
pub use postgres::*;
pub use programs::tools_dir;
pub use redis::*;
pub use wire::*;

#[cfg(test)]
mod tests;
