//! The agent's command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    coppice_agent::cli::main(std::env::args_os())
}
