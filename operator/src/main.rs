//! The operator's command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    coppice_operator::cli::main(std::env::args_os())
}
