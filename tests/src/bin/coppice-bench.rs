//! `make bench-quick`.

use std::process::ExitCode;

use coppice_tests::bench;
use coppice_tests::interrupt::Interrupt;

fn main() -> ExitCode {
    if std::env::args().len() > 1 {
        complain("it takes nothing");
        return ExitCode::from(64);
    }
    let interrupt = match Interrupt::install() {
        Ok(interrupt) => interrupt,
        Err(error) => {
            complain(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    match bench::run(&interrupt) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "what a command has to say to who called it")]
fn complain(message: &str) {
    eprintln!("coppice-bench: {message}");
}
