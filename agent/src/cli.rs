//! From a command line to an exit code.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use coppice_api::AgentConfig;
use tokio_util::sync::CancellationToken;

use crate::args::{Args, Command, Overrides, Source};
use crate::config::{self, ConfigSource};
use crate::peer::check_tls;
use crate::run::Opened;
use crate::snapshots::{RocksSnapshots, SnapshotSource};
use crate::store::rocksdb::{RocksSettings, RocksStore};
use crate::store::{Store, StoreError};
use crate::{run, shutdown, snapshot_command, telemetry};

/// How long work on the disk may go on after the end.
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
    match &args.command {
        None => serve_opened(args, |config| {
            let store = open_rocksdb(config)?;
            let snapshots: Arc<dyn SnapshotSource> = Arc::new(RocksSnapshots::of(&store));
            Ok(Opened { store, snapshots: Some(snapshots) })
        }),
        Some(Command::CheckConfig { file }) => check_config(file, &args.overrides),
        Some(Command::Snapshot { action }) => match snapshot_command::run(action, &args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&format!("snapshot: {}", snapshot_command::in_full(&error))),
        },
    }
}

/// Serves over a store that `open` opens, without snapshots, until a signal.
pub fn serve<S: Store>(
    args: Args,
    mut open: impl FnMut(&AgentConfig) -> Result<S, StoreError> + Send + 'static,
) -> ExitCode {
    serve_opened(args, move |config| Ok(Opened { store: open(config)?, snapshots: None }))
}

fn serve_opened<S: Store>(
    args: Args,
    open: impl FnMut(&AgentConfig) -> Result<Opened<S>, StoreError> + Send + 'static,
) -> ExitCode {
    let source = ConfigSource { source: args.source, overrides: args.overrides };
    let config = match config::load(&source) {
        Ok(config) => config,
        Err(error) => return complain(&error.to_string()),
    };
    if let Err(error) = telemetry::init_logs(config.log.level, config.log.format) {
        return complain(&error.to_string());
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("cannot start threads: {error}")),
    };
    let stop = CancellationToken::new();
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = run::run((source, config), open, stop.clone()) => ended.map_err(|error| error.to_string()),
            failed = shutdown::on_signal(stop.clone()) => Err(match failed {
                Ok(()) => "ended by a second signal, without a hand-over".to_owned(),
                Err(error) => format!("no signal handler: {error}"),
            }),
        }
    });
    // What still waits for the disk, such as the opening of a store, is left.
    runtime.shutdown_timeout(LAST_WORK);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error),
    }
}

/// Opens the store in the configuration's data folder.
///
/// # Errors
///
/// As [`RocksStore::open`].
pub fn open_rocksdb(config: &AgentConfig) -> Result<RocksStore, StoreError> {
    RocksStore::open(&config.data_dir, &RocksSettings::default())
}

fn check_config(file: &std::path::Path, overrides: &Overrides) -> ExitCode {
    let source = Source { config: Some(file.to_owned()), ..Source::default() };
    match config::load(&ConfigSource { source, overrides: overrides.clone() }) {
        Ok(config) => {
            if let Some(wrong) = wrong_tls(&config) {
                return complain(&format!("{}: {wrong}", file.display()));
            }
            if config.groups.is_empty() {
                complain(&format!(
                    "{}: warning: it lists no group, so an agent would serve nothing: see `groups`",
                    file.display()
                ));
            }
            complain(&format!("{}: good, {} group(s)", file.display(), config.groups.len()));
            ExitCode::SUCCESS
        }
        Err(error) => complain(&error.to_string()),
    }
}

/// What keeps an agent from using the TLS files, a line each.
fn wrong_tls(config: &AgentConfig) -> Option<String> {
    let files = run::tls_files(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let checked = match runtime {
        Ok(runtime) => runtime.block_on(check_tls(&files)),
        Err(error) => return Some(format!("cannot start threads: {error}")),
    };
    let wrong: Vec<_> = checked.err()?.iter().map(ToString::to_string).collect();
    Some(wrong.join("\n"))
}

fn complain(message: &str) -> ExitCode {
    // Nobody may be left to read it, which is no reason to end in another way.
    let _ = writeln!(std::io::stderr(), "coppice-agent: {message}");
    ExitCode::FAILURE
}
