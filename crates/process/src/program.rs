//! A program from its first thread to its exit code.

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::on_signal;

/// How long what still runs, such as work on the disk, may take after the end.
const LAST_WORK: Duration = Duration::from_secs(2);

/// A program, and what it says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// What stands before its complaints.
    pub name: &'static str,
    /// Why it does nothing at a SIGHUP.
    pub hang_up: &'static str,
    /// What it leaves undone when a second signal ends it.
    pub cut_short: &'static str,
}

// === impl Program ===

impl Program {
    /// Starts the runtime, runs `work` and says how it ended: 0 well, 1 not.
    ///
    /// A signal cancels the token that `work` is given; a later one ends it where it is.
    pub fn run<W, E>(&self, work: impl FnOnce(CancellationToken) -> W) -> ExitCode
    where
        W: Future<Output = Result<(), E>>,
        E: Display,
    {
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return self.complain(format_args!("cannot start threads: {error}")),
        };
        let stop = CancellationToken::new();
        let ended = runtime.block_on(async {
            tokio::select! {
                ended = work(stop.clone()) => ended.map_err(|error| error.to_string()),
                failed = on_signal(stop.clone(), self.hang_up) => Err(match failed {
                    Ok(()) => format!("ended by a second signal, {}", self.cut_short),
                    Err(error) => format!("no signal handler: {error}"),
                }),
            }
        });
        // What still waits for the disk, such as the opening of a store, is left.
        runtime.shutdown_timeout(LAST_WORK);
        match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => self.complain(error),
        }
    }

    /// Says what is wrong, on stderr; the exit code for it.
    pub fn complain(&self, what: impl Display) -> ExitCode {
        // Nobody may be left to read it, which is no reason to end in another way.
        let _ = writeln!(std::io::stderr(), "{}: {what}", self.name);
        ExitCode::FAILURE
    }
}
