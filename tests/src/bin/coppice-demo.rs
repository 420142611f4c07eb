//! `make demo` and, with `--stay`, `make run`.

use std::process::ExitCode;

use coppice_tests::{command, demo};

const NAME: &str = "coppice-demo";

fn main() -> ExitCode {
    let stays = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--stay") => true,
        Some(_) => {
            let hint = "it takes nothing, or --stay to leave three agents running";
            return command::misused(NAME, hint);
        }
    };
    let sabotage = std::env::var("DEMO_SABOTAGE").is_ok_and(|value| value == "1");
    command::run(NAME, |interrupt| {
        if stays {
            return demo::stay(interrupt).map(|()| true);
        }
        let all_correct = demo::run(sabotage, interrupt)?;
        if !all_correct {
            command::complain(NAME, "the agents are not as they must be");
        }
        Ok(all_correct)
    })
}
