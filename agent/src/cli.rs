//! From a command line to an exit code.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use coppice_api::AgentConfig;
use coppice_process::{Libraries, Program, init_logs};

use crate::args::{Args, Command, Overrides, Source};
use crate::config::{self, ConfigSource};
use crate::peer::check_tls;
use crate::run::Opened;
use crate::snapshots::{RocksSnapshots, SnapshotSource};
use crate::store::rocksdb::{RocksSettings, RocksStore};
use crate::store::{Store, StoreError};
use crate::{run, snapshot_command};

const PROGRAM: Program = Program {
    name: "coppice-agent",
    hang_up: "changes of the configuration file are followed",
    cut_short: "without a hand-over",
};

/// Parses, runs, and says how it ended: 0 well, 1 not, 64 for a wrong command line.
#[must_use]
pub fn main(command_line: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::read(command_line) {
        Ok(args) => args,
        Err(nothing) => return nothing.tell(),
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
            Err(error) => {
                PROGRAM.complain(format_args!("snapshot: {}", snapshot_command::in_full(&error)))
            }
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
        Err(error) => return PROGRAM.complain(error),
    };
    if let Err(error) = init_logs(config.log.level, config.log.format, Libraries::AsOurs) {
        return PROGRAM.complain(error);
    }
    PROGRAM.run(|stop| run::run((source, config), open, stop))
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
                return PROGRAM.complain(format_args!("{}: {wrong}", file.display()));
            }
            if config.groups.is_empty() {
                PROGRAM.complain(format_args!(
                    "{}: warning: it lists no group, so an agent would serve nothing: see `groups`",
                    file.display()
                ));
            }
            let groups = config.groups.len();
            PROGRAM.complain(format_args!("{}: good, {groups} group(s)", file.display()));
            ExitCode::SUCCESS
        }
        Err(error) => PROGRAM.complain(error),
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
