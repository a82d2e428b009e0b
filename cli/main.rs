//! The `aofctl` binary. Thin: everything is in the `aof_cli` crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    aof_cli::main()
}
