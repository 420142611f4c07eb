//! The agent's command line.

use std::process::ExitCode;

/// A request is allocated by one thread and freed by another, which costs the
/// system's allocator an eighth of the agent's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    coppice_agent::cli::main(std::env::args_os())
}
