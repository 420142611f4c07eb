//! `make scale`.

use std::process::ExitCode;

use coppice_tests::interrupt::Interrupt;
use coppice_tests::progress::say;
use coppice_tests::scale::{self, Plan};

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
    if cfg!(debug_assertions) {
        say("This is not the release profile: its times mean nothing");
    }
    let report = match scale::run(Plan::full(), &interrupt) {
        Ok(report) => report,
        Err(error) => {
            complain(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    say(&report.table());
    let missed = report.missed();
    for bound in &missed {
        complain(&format!("missed: {bound}"));
    }
    if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::print_stderr, reason = "what a command has to say to who called it")]
fn complain(message: &str) {
    eprintln!("coppice-scale: {message}");
}
