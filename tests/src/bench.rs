//! `make bench-quick`: the agent beside redis, in one interleaved run.
//!
//! Absolute figures say as much about the machine as about the program, so each
//! is measured beside redis', which does the same work in turns of a second, and
//! what is printed first is the ratio. Redis has no merge, no per-replica cells
//! and no HTTP; it is the measure because everybody knows what it does.

mod answer;
mod contest;
mod load;
mod probe;
mod process;
mod redis;
mod report;
mod sections;
mod workload;

use std::io;
use std::path::{Path, PathBuf};

use tokio::time::Instant;

use crate::agents::AgentError;
use crate::interrupt::{Interrupt, Interrupted};
use crate::progress::say;
pub(crate) use probe::Probe;
pub(crate) use process::Process;
use report::Report;
use sections::Bench;

/// What ends a comparison early. Nothing is left behind, in any case.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Failure(#[from] Cause);

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(error.into())
    }
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error(transparent)]
    Redis(#[from] redis::RedisError),
    #[error(transparent)]
    Round(#[from] contest::RoundError),
    #[error("fill a set: {0}")]
    Fill(#[source] load::LoadError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

/// Runs the comparison, prints its table and writes it as JSON into cargo's
/// target folder.
///
/// # Errors
///
/// If redis is not installed, a server does not start or refuses an operation,
/// or on interruption.
pub fn run(interrupt: &Interrupt) -> Result<(), Failure> {
    compare(interrupt).map_err(Failure)
}

fn compare(interrupt: &Interrupt) -> Result<(), Cause> {
    let started = Instant::now();
    let redis = redis::version()?;
    let results = results_folder();
    std::fs::create_dir_all(&results)?;
    // Beside the results and not among the system's temporary files, which are
    // in memory on some systems: there a sync costs nothing.
    let folder = tempfile::Builder::new().prefix("data-").tempdir_in(&results)?;
    say(&format!("The agent beside redis {redis}: turns of a second each, on loopback"));
    if cfg!(debug_assertions) {
        say("This is not the release profile: these figures mean nothing");
    }
    let mut bench = Bench::new(folder.path(), interrupt.clone())?;
    let sections = bench.run()?;
    let report = Report { redis, sections, seconds: started.elapsed().as_secs() };
    say(&report.table());
    let path = results.join("quick.json");
    std::fs::write(&path, report.json())?;
    say(&format!("{} s; also as {}", report.seconds, path.display()));
    Ok(())
}

/// In cargo's target folder: a program is in that of its profile, a test in
/// `deps` below it.
pub(crate) fn results_folder() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let mut folders = program.ancestors().skip(1).filter(|folder| !folder.ends_with("deps"));
    folders.nth(1).unwrap_or(Path::new("")).join("coppice-bench")
}
