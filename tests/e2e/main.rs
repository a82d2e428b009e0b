//! Whole stories, each through a real node process.

mod alertmanager;
mod cluster;
mod deploy;
mod discord;
mod disk;
mod emulate;
mod fence;
mod fixtures;
mod incident;
mod isolation;
mod leftovers;
mod models;
mod phone_fixtures;
mod phones;
mod platform;
mod quickstart;
mod readme;
mod referee;
mod reload;
mod retry;
mod telegram;
mod traces;
mod whatsapp_referee;

use std::path::PathBuf;

use aof_harness::Node;

/// A node on its own data folder.
struct Running {
    node: Node,
    _data: tempfile::TempDir,
}

fn serve(config: PathBuf, env: &[(&str, &str)]) -> Running {
    let data = tempfile::tempdir().expect("a folder");
    let node = Node::serve(env!("CARGO_BIN_EXE_aofctl"), &config, data.path(), env);
    Running { node, _data: data }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
