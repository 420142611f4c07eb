//! `make demo` and, with `--stay`, `make run`.

use std::process::ExitCode;

use coppice_tests::demo;
use coppice_tests::interrupt::Interrupt;

fn main() -> ExitCode {
    let stays = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--stay") => true,
        Some(_) => {
            complain("it takes nothing, or --stay to leave three agents running");
            return ExitCode::from(64);
        }
    };
    let sabotage = std::env::var("DEMO_SABOTAGE").is_ok_and(|value| value == "1");
    let ended = Interrupt::install().map_err(demo::Failure::from).and_then(|interrupt| {
        if stays { demo::stay(&interrupt).map(|()| true) } else { demo::run(sabotage, &interrupt) }
    });
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            complain("the agents are not as they must be");
            ExitCode::FAILURE
        }
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "what a command has to say to who called it")]
fn complain(message: &str) {
    eprintln!("coppice-demo: {message}");
}
