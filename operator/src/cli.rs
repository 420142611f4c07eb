//! From a command line to an exit code.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::args::Args;
use crate::{run, shutdown, telemetry};

/// How long what still runs may take after the end.
const LAST_WORK: Duration = Duration::from_secs(2);

/// Parses, runs, and says how it ended: 0 well, 1 not, 64 for a wrong command line.
#[must_use]
pub fn main(command_line: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::read(command_line) {
        Ok(args) => args,
        Err(nothing) => {
            nothing.print();
            return ExitCode::from(nothing.exit_code());
        }
    };
    if let Err(error) = telemetry::init_logs(args.log.log_level, args.log.log_format) {
        return complain(&error.to_string());
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("cannot start threads: {error}")),
    };
    let stop = CancellationToken::new();
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = run::run(args, stop.clone()) => ended.map_err(|error| format!("{error:#}")),
            failed = shutdown::on_signal(stop.clone()) => Err(match failed {
                Ok(()) => "ended by a second signal, with work left".to_owned(),
                Err(error) => format!("no signal handler: {error}"),
            }),
        }
    });
    runtime.shutdown_timeout(LAST_WORK);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error),
    }
}

fn complain(what: &str) -> ExitCode {
    // Nobody is left to tell if stderr is gone.
    let _ = writeln!(std::io::stderr(), "coppice-operator: {what}");
    ExitCode::FAILURE
}
