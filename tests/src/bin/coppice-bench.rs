//! `make bench-quick`.

use std::process::ExitCode;

use coppice_tests::{bench, command};

const NAME: &str = "coppice-bench";

fn main() -> ExitCode {
    if std::env::args().len() > 1 {
        return command::misused(NAME, "it takes nothing");
    }
    command::run(NAME, |interrupt| bench::run(interrupt).map(|()| true))
}
