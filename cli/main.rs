//! The `aofctl` binary. Thin: everything is in the `aof_cli` crate.

use std::process::ExitCode;

/// Messages are made on one thread and freed on another, which costs glibc's allocator
/// half of the throughput. See `cargo bench --bench load`.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    aof_cli::main()
}
