//! What the project's own programs have in common: how they end.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use crate::interrupt::Interrupt;

/// Runs a program that tidies up when it is interrupted. `work` says whether all
/// is as it has to be; why not it has said itself.
pub fn run<E: Display + From<io::Error>>(
    name: &str,
    work: impl FnOnce(&Interrupt) -> Result<bool, E>,
) -> ExitCode {
    match Interrupt::install().map_err(E::from).and_then(|interrupt| work(&interrupt)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain(name, &error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// The end of a program that was called in a wrong way.
#[must_use]
pub fn misused(name: &str, hint: &str) -> ExitCode {
    complain(name, hint);
    ExitCode::from(64)
}

/// Tells who called a program what is wrong.
#[expect(clippy::print_stderr, reason = "what a command has to say to who called it")]
pub fn complain(name: &str, message: &str) {
    eprintln!("{name}: {message}");
}
