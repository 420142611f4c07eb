//! `make scale`.

use std::process::ExitCode;

use coppice_tests::command;
use coppice_tests::progress::say;
use coppice_tests::scale::{self, Plan};

const NAME: &str = "coppice-scale";

fn main() -> ExitCode {
    if std::env::args().len() > 1 {
        return command::misused(NAME, "it takes nothing");
    }
    command::run(NAME, |interrupt| {
        if cfg!(debug_assertions) {
            say("This is not the release profile: its times mean nothing");
        }
        let report = scale::run(Plan::full(), interrupt)?;
        say(&report.table());
        let missed = report.missed();
        for bound in &missed {
            command::complain(NAME, &format!("missed: {bound}"));
        }
        Ok::<_, scale::Failure>(missed.is_empty())
    })
}
