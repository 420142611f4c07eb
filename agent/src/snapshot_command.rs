//! `coppice-agent snapshot …`: what a person does with snapshots by hand.
//!
//! Works on the data directory alone, beside a running agent or without one.
//! Only `take` needs the store itself: an agent that holds it is asked over its
//! operations port. Only `restore` changes the store, and needs the agent gone.

mod ask;
mod owner;

use std::error::Error;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use coppice_api::AgentConfig;
use uuid::Uuid;

use self::ask::AskError;
use self::owner::Owner;
use crate::args::{Args, SnapshotAction, parse_group};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{self, ConfigError, ConfigSource};
use crate::snapshots::{
    RocksSnapshots, SnapshotError, SnapshotInfo, SnapshotName, SnapshotSource as _, Snapshots,
    StoredGroup, export_directory, groups_in, restore, verify,
};
use crate::store::StoreError;
use crate::store::rocksdb::{RocksSettings, RocksStore};

/// Why a command did nothing, or not all.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotCommandError {
    /// It is not known where.
    #[error("which data folder? Give --data-dir FOLDER or --config FILE")]
    WhichFolder,
    /// The folder is not there.
    #[error("there is no data folder {}", .0.display())]
    NoFolder(PathBuf),
    /// Neither a snapshot's name nor a folder.
    #[error("{0:?} is neither a snapshot's name, as `snapshot list` shows it, nor a folder")]
    WhichSnapshot(String),
    /// The group is not known by this name.
    #[error(
        "which group is {0:?}? Give --config FILE with a file that lists it, or write NAME=TYPE (such as page-views=PNCounter), or its id"
    )]
    WhichGroup(String),
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The snapshot or the store.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The snapshot holds other groups only.
    #[error("the snapshot {} does not hold the group {group}: it holds {held}", path.display())]
    NoSuchGroup {
        /// The snapshot.
        path: PathBuf,
        /// What the group was called.
        group: String,
        /// Those that it holds, by name where it is known.
        held: String,
    },
    /// The store holds objects of the group, which a restore would put an end to.
    #[error(
        "the data directory holds objects of the group {0}: add --replace to put those of the snapshot in their place"
    )]
    GroupHolds(String),
    /// An agent holds the folder, and does not take a snapshot either.
    #[error("an agent holds the data folder, so it was asked to take a snapshot: {0}")]
    Ask(#[from] AskError),
    /// The agent that was asked is another one.
    #[error(
        "the agent at {address} took the snapshot {name}, but not in {}: give --listen-operations ADDRESS or --config FILE of the agent that holds this folder",
        data_dir.display()
    )]
    WrongAgent {
        /// Who was asked.
        address: std::net::SocketAddr,
        /// What it took.
        name: String,
        /// Where it should be.
        data_dir: PathBuf,
    },
}

/// The data folder, and what the configuration says beside it.
struct Target {
    data_dir: PathBuf,
    config: AgentConfig,
}

/// Does what `action` says and prints what came of it.
///
/// # Errors
///
/// [`SnapshotCommandError`], in words for the person at the terminal.
pub fn run(action: &SnapshotAction, args: &Args) -> Result<(), SnapshotCommandError> {
    match action {
        SnapshotAction::List => list(&Target::of(args)?),
        SnapshotAction::Take => take(&Target::of(args)?),
        SnapshotAction::Export { name, to } => {
            let target = Target::of(args)?;
            let name: SnapshotName =
                name.parse().map_err(|_| SnapshotCommandError::WhichSnapshot(name.clone()))?;
            export_directory(&Snapshots::of(&target.data_dir).find(name)?, to)?;
            say(&format!("{name} is now in {} too", to.display()));
            Ok(())
        }
        SnapshotAction::Verify { name } => verify_one(name, args),
        SnapshotAction::Restore { name, group, replace } => {
            restore_group(name, group, *replace, args)
        }
    }
}

/// An error with its causes.
#[must_use]
pub fn in_full(error: &SnapshotCommandError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(found) = cause {
        let more = found.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = found.source();
    }
    text
}

// === impl Target ===

impl Target {
    fn of(args: &Args) -> Result<Self, SnapshotCommandError> {
        if args.source.config.is_some() || !args.source.group.is_empty() {
            let source =
                ConfigSource { source: args.source.clone(), overrides: args.overrides.clone() };
            let config = config::load(&source)?;
            return Ok(Self { data_dir: config.data_dir.clone(), config });
        }
        let mut config = AgentConfig::default();
        args.overrides.apply(&mut config);
        let data_dir = args.overrides.data_dir.clone().ok_or(SnapshotCommandError::WhichFolder)?;
        Ok(Self { data_dir, config })
    }

    fn must_exist(&self) -> Result<(), SnapshotCommandError> {
        if self.data_dir.is_dir() {
            return Ok(());
        }
        Err(SnapshotCommandError::NoFolder(self.data_dir.clone()))
    }

    /// The name of a group that is configured, else its id and type.
    fn name_of(&self, stored: &StoredGroup) -> String {
        match self.config.groups.iter().find(|group| group.effective_id() == stored.id) {
            Some(group) => group.name.clone(),
            None => match stored.crdt_type {
                Some(crdt_type) => format!("{} ({crdt_type})", stored.id),
                None => stored.id.to_string(),
            },
        }
    }

    /// What a person is told who called the group `asked`: names in place of ids.
    fn named(&self, asked: &str, error: SnapshotError) -> SnapshotCommandError {
        match error {
            SnapshotError::NoSuchGroup { path, groups, .. } => {
                let names: Vec<_> = groups.iter().map(|group| self.name_of(group)).collect();
                let held = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                SnapshotCommandError::NoSuchGroup { path, group: asked.to_owned(), held }
            }
            SnapshotError::GroupHolds(_) => SnapshotCommandError::GroupHolds(asked.to_owned()),
            error => error.into(),
        }
    }

    /// The id of the group that a person calls `text`, and its name, if that says it.
    fn group_id(&self, text: &str) -> Result<(Uuid, Option<String>), SnapshotCommandError> {
        let known = self.config.groups.iter().find(|group| group.name == text);
        if let (None, Ok(id)) = (known, Uuid::parse_str(text)) {
            let named = self.config.groups.iter().find(|group| group.effective_id() == id);
            return Ok((id, named.map(|group| group.name.clone())));
        }
        let group = known.cloned().map_or_else(|| parse_group(text), Ok);
        let group = group.map_err(|_| SnapshotCommandError::WhichGroup(text.to_owned()))?;
        Ok((group.effective_id(), Some(group.name)))
    }
}

fn list(target: &Target) -> Result<(), SnapshotCommandError> {
    target.must_exist()?;
    let found = Snapshots::of(&target.data_dir).list()?;
    if found.is_empty() {
        say(&format!("there is no snapshot in {}", target.data_dir.display()));
        return Ok(());
    }
    say("NAME\tTAKEN\tBYTES\tGROUPS");
    for SnapshotInfo { name, path, bytes } in found {
        let groups = match groups_in(&path) {
            Ok(groups) if groups.is_empty() => "none".to_owned(),
            Ok(groups) => {
                let names: Vec<_> = groups.iter().map(|group| target.name_of(group)).collect();
                names.join(", ")
            }
            // The others are still worth a line each.
            Err(error) => format!("cannot be read: {error}"),
        };
        say(&format!("{name}\t{}\t{bytes}\t{groups}", shown(name.taken_at())));
    }
    Ok(())
}

fn take(target: &Target) -> Result<(), SnapshotCommandError> {
    target.must_exist()?;
    let store = match RocksStore::open(&target.data_dir, &RocksSettings::default()) {
        Ok(store) => store,
        Err(StoreError::Locked { .. }) => return ask_for_one(target),
        Err(error) => return Err(SnapshotError::from(error).into()),
    };
    let now = UNIX_EPOCH + Duration::from_millis(SystemClock::new().now_ms());
    let owner = Owner::of(&target.data_dir);
    let taken = RocksSnapshots::of(&store).take(now);
    let told = owner.ok().and_then(|owner| owner.take(&target.data_dir));
    let taken = taken?;
    say(&format!("{} was taken: {} bytes", taken.name, taken.bytes));
    if let Some(told) = told {
        say(&told);
    }
    Ok(())
}

fn ask_for_one(target: &Target) -> Result<(), SnapshotCommandError> {
    let address = target.config.listen.operations;
    let taken = ask::take(address)?;
    let name: Option<SnapshotName> = taken.name.parse().ok();
    let found = name.and_then(|name| Snapshots::of(&target.data_dir).find(name).ok());
    if found.is_none() {
        let (name, data_dir) = (taken.name, target.data_dir.clone());
        return Err(SnapshotCommandError::WrongAgent { address, name, data_dir });
    }
    say(&format!("{} was taken by the running agent: {} bytes", taken.name, taken.bytes));
    Ok(())
}

/// Where the snapshot is that a person calls `text`: its name, or a folder.
fn find(text: &str, args: &Args) -> Result<PathBuf, SnapshotCommandError> {
    let path = Path::new(text);
    match text.parse::<SnapshotName>() {
        Ok(name) if !path.is_dir() => {
            Ok(Snapshots::of(&Target::of(args)?.data_dir).find(name)?.path)
        }
        _ if path.is_dir() => Ok(path.to_owned()),
        _ => Err(SnapshotCommandError::WhichSnapshot(text.to_owned())),
    }
}

fn verify_one(name: &str, args: &Args) -> Result<(), SnapshotCommandError> {
    let path = find(name, args)?;
    let found = verify(&path)?;
    say(&format!(
        "{name} is whole: {} files, {} bytes, {} records",
        found.files, found.bytes, found.records
    ));
    // Only for names, so it need not be given.
    let target = Target::of(args).ok();
    for contents in &found.groups {
        let group = &contents.group;
        let name = target.as_ref().map_or_else(|| group.id.to_string(), |of| of.name_of(group));
        say(&format!(
            "{name}: objects: {}, entries: {}, log records: {}",
            contents.objects, contents.entries, contents.log_records
        ));
    }
    Ok(())
}

fn restore_group(
    name: &str,
    group: &str,
    replace: bool,
    args: &Args,
) -> Result<(), SnapshotCommandError> {
    let target = Target::of(args)?;
    let (id, group_name) = target.group_id(group)?;
    let path = find(name, args)?;
    let owner = Owner::of(&target.data_dir);
    let restored = restore(&path, &target.data_dir, (id, group_name.as_deref()), replace);
    // One that failed has opened the store too.
    let told = owner.ok().and_then(|owner| owner.take(&target.data_dir));
    let restored = restored.map_err(|error| target.named(group, error))?;
    say(&format!(
        "{group} is back as {name} has it: {} records, {} bytes, in place of {} records",
        restored.records, restored.bytes, restored.removed
    ));
    if let Some(told) = told {
        say(&told);
    }
    say("Start the agent now. Agents that still hold the group bring it up to what they have: \
         to go back for good, stop them all first and empty or restore each.");
    Ok(())
}

fn shown(taken_at: SystemTime) -> String {
    let since = taken_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    let time = time::UtcDateTime::from_unix_timestamp(seconds);
    time.map_or_else(
        |_| "-".to_owned(),
        |time| {
            let (date, (hour, minute, second)) = (time.date(), time.time().as_hms());
            format!("{date} {hour:02}:{minute:02}:{second:02} UTC")
        },
    )
}

fn say(line: &str) {
    // Who stopped reading wants no more of it; the command's work is done all the same.
    let _ = writeln!(io::stdout(), "{line}");
}

#[cfg(test)]
mod tests;
