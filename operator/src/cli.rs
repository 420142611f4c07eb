//! From a command line to an exit code.

use std::ffi::OsString;
use std::process::ExitCode;

use coppice_process::{Libraries, Program, init_logs};

use crate::args::Args;
use crate::run;

const PROGRAM: Program = Program {
    name: "coppice-operator",
    hang_up: "what is in the cluster is followed, and flags are read at the start",
    cut_short: "with work left",
};

/// Parses, runs, and says how it ended: 0 well, 1 not, 64 for a wrong command line.
#[must_use]
pub fn main(command_line: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::read(command_line) {
        Ok(args) => args,
        Err(nothing) => return nothing.tell(),
    };
    let (level, format) = (args.log.log_level, args.log.log_format);
    if let Err(error) = init_logs(level, format, Libraries::FromWarn) {
        return PROGRAM.complain(error);
    }
    PROGRAM.run(|stop| run::run(args, stop))
}
