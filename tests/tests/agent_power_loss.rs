//! With `Always`, what an agent answered survives a power loss.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{fs, thread};

use coppice_tests::agents::{Agent, AgentSpec, Signal};
use coppice_tests::client::Client;
use coppice_tests::eventually::eventually;
use coppice_tests::preload;
use coppice_tests::progress::say;
use coppice_tests::trio::{Failure, read, with_configuration, write_configuration};
use serde_json::{Value, json};
use tempfile::TempDir;

const LOSSES: u64 = 60;
/// Patience with a machine that does much else.
const LIMIT: Duration = Duration::from_mins(2);
/// Connections that add elements, and the bytes of what another one writes, so
/// that tables are flushed and logs ended meanwhile.
const CONNECTIONS: u64 = 8;
const BLOB_BYTES: usize = 64 * 1024;

#[test]
fn no_write_is_answered_while_syncs_fail() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let flag = folder.path().join("fails");
    let mut spec = agent(folder.path(), &preload::compile("fail_fsync", folder.path())?, "Always")?;
    spec.environment.push(("COPPICE_FSYNC_FAILS".into(), flag.clone().into()));
    let agent = spec.start()?;
    let add = |element: u64| add(&mut agent.client(), "x", element);
    assert_eq!(add(0), Some(200));

    fs::write(&flag, "")?;
    for element in 1..40 {
        assert_ne!(add(element), Some(200), "nothing is on disk");
    }
    let shown = read(&mut agent.client(), "/v1/groups/tags/objects/x?size=true");
    assert!(shown.is_some(), "reads go on");

    fs::remove_file(&flag)?;
    eventually(LIMIT, || (add(40) == Some(200)).then_some(())).ok_or("it stays read-only")?;
    let path = "/v1/groups/tags/objects/x?element=0";
    let first = read(&mut agent.client(), path).ok_or("it is there")?;
    assert_eq!(first["present"], true, "what was answered before is there");
    Ok(())
}

#[test]
fn no_acknowledged_write_is_lost_with_the_power() -> Result<(), Failure> {
    let mut powered = Powered::start("Always")?;
    // What is there when a process starts counts as synced.
    powered.agent.restart()?;
    let mut acknowledged = Acknowledged::default();
    let mut amid_start = Vec::new();
    for loss in 0..LOSSES {
        write_until_killed(&mut powered.agent, loss, &mut acknowledged)?;
        powered.lose_all_unsynced()?;
        if loss % 5 == 4 {
            // And once more, while it starts.
            powered.agent.spawn_again()?;
            eventually(Duration::from_millis(loss * 2), || None::<()>);
            powered.agent.kill();
            amid_start.push(powered.lose()?);
        }
        powered.agent.restart()?;
        assert_eq!(lost(&powered.agent, loss, &acknowledged), None);
    }
    for loss in 0..LOSSES {
        assert_eq!(lost(&powered.agent, loss, &acknowledged), None);
    }
    let writes: usize = acknowledged.values().map(Vec::len).sum();
    let (starts, too_early) =
        (amid_start.len(), amid_start.iter().filter(|found| **found == Found::NotBegun).count());
    say(&format!(
        "{LOSSES} power losses amid writes, {writes} acknowledged writes, none lost; \
         {starts} amid a start, {too_early} of them before it changed anything"
    ));
    assert!(too_early < starts, "no start was far enough to lose something");
    assert!(writes > 1_000, "too little was written to prove anything");
    Ok(())
}

#[test]
fn the_first_writes_of_a_new_agent_survive_too() -> Result<(), Failure> {
    let mut powered = Powered::start("Always")?;
    let mut acknowledged = Acknowledged::default();
    write_until_killed(&mut powered.agent, 0, &mut acknowledged)?;
    powered.lose_all_unsynced()?;
    powered.agent.restart()?;
    assert_eq!(lost(&powered.agent, 0, &acknowledged), None);
    Ok(())
}

#[test]
fn an_agent_that_ends_well_leaves_everything_on_disk() -> Result<(), Failure> {
    let mut powered = Powered::start("None")?;
    powered.agent.restart()?;
    let elements: Vec<u64> = (0..100).collect();
    for element in &elements {
        assert_eq!(add(&mut powered.agent.client(), "0-0", *element), Some(200));
    }
    powered.agent.signal(Signal::TERM)?;
    let ended = powered.agent.wait(LIMIT).ok_or("it did not end")?;
    assert!(ended.success(), "{}", powered.agent.log_tail());
    powered.lose_all_unsynced()?;
    powered.agent.restart()?;
    let mut acknowledged: Acknowledged =
        (0..CONNECTIONS).map(|connection| ((0, connection), Vec::new())).collect();
    acknowledged.insert((0, 0), elements);
    assert_eq!(lost(&powered.agent, 0, &acknowledged), None, "nobody asked for a sync before");
    Ok(())
}

#[test]
fn these_tests_notice_what_was_not_synced() -> Result<(), Failure> {
    let mut powered = Powered::start("None")?;
    powered.agent.restart()?;
    let mut acknowledged = Acknowledged::default();
    write_until_killed(&mut powered.agent, 0, &mut acknowledged)?;
    powered.lose_all_unsynced()?;
    powered.agent.restart()?;
    assert!(lost(&powered.agent, 0, &acknowledged).is_some(), "nothing asked for a sync");
    Ok(())
}

/// An agent whose power can be cut.
struct Powered {
    agent: Agent,
    shadow: PathBuf,
    _folder: TempDir,
}

// === impl Powered ===

impl Powered {
    fn start(durability: &str) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let library = preload::compile("power_loss", folder.path())?;
        let mut spec = agent(folder.path(), &library, durability)?;
        let shadow = folder.path().join("shadow");
        fs::create_dir(&shadow)?;
        spec.environment.push(("COPPICE_SHADOW_OF".into(), spec.data().into()));
        spec.environment.push(("COPPICE_SHADOW".into(), shadow.clone().into()));
        Ok(Self { agent: spec.start()?, shadow, _folder: folder })
    }

    /// Replaces the data of the agent, which was killed, by what was synced;
    /// its next process begins a new shadow.
    fn lose(&self) -> Result<Found, Failure> {
        let data = self.agent.spec().data();
        let found = if preload::is_complete(&self.shadow) {
            fs::remove_dir_all(&data)?;
            preload::restore(&self.shadow, &data)?;
            Found::Synced
        } else {
            Found::NotBegun
        };
        fs::remove_dir_all(&self.shadow)?;
        fs::create_dir(&self.shadow)?;
        Ok(found)
    }

    /// As [`lose`](Self::lose), of an agent that served: its shadow is complete.
    fn lose_all_unsynced(&self) -> Result<(), Failure> {
        match self.lose()? {
            Found::Synced => Ok(()),
            Found::NotBegun => Err("an agent served without a shadow: nothing was lost".into()),
        }
    }
}

/// What the next process finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// What was synced.
    Synced,
    /// What the last one found: it was killed before its shadow was complete, and
    /// until then its program does nothing.
    NotBegun,
}

/// By loss and connection: the elements whose add was answered.
type Acknowledged = BTreeMap<(u64, u64), Vec<u64>>;

fn agent(folder: &Path, library: &Path, durability: &str) -> Result<AgentSpec, Failure> {
    let group = |name: &str, kind: &str| {
        format!(
            "  - {{name: {name}, crdt: {{type: {kind}}}, storage: {{durability: {durability}}}}}\n"
        )
    };
    let groups = group("tags", "ORSet") + &group("blobs", "LWWRegister");
    let file = write_configuration(
        folder,
        "agent.yaml",
        &format!("startupWait: 100ms\ngroups:\n{groups}"),
    )?;
    let mut spec = AgentSpec::new("a", folder, with_configuration(&file))?;
    spec.environment.push(("LD_PRELOAD".into(), library.into()));
    Ok(spec)
}

/// Writes on many connections, and kills the agent at some moment.
fn write_until_killed(
    running: &mut Agent,
    loss: u64,
    acknowledged: &mut Acknowledged,
) -> Result<(), Failure> {
    // Multiples of a large odd number: spread, and the same in each run.
    let enough = loss.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57;
    let (answered, stopped) = (AtomicU64::new(0), AtomicBool::new(false));
    let lists: Vec<_> = (0..CONNECTIONS).map(|_| Mutex::new(Vec::new())).collect();
    let address = running.spec().ports.app;
    thread::scope(|scope| {
        for (connection, list) in lists.iter().enumerate() {
            let (answered, stopped) = (&answered, &stopped);
            scope.spawn(move || {
                let mut client = Client::new(address);
                let key = format!("{loss}-{connection}");
                for element in 0.. {
                    if stopped.load(Ordering::SeqCst) {
                        break;
                    }
                    if add(&mut client, &key, element) == Some(200) {
                        list.lock().unwrap_or_else(PoisonError::into_inner).push(element);
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        scope.spawn(|| {
            let (mut client, blob) = (Client::new(address), vec![b'x'; BLOB_BYTES]);
            while !stopped.load(Ordering::SeqCst) {
                let content = Some(("application/octet-stream", blob.as_slice()));
                // Whether it is there does not matter.
                let _ = client.send("PUT", "/v1/groups/blobs/objects/x", content);
            }
        });
        let wrote = eventually(LIMIT, || (answered.load(Ordering::SeqCst) > enough).then_some(()));
        running.kill();
        stopped.store(true, Ordering::SeqCst);
        let log = running.log_tail();
        wrote.ok_or_else(|| Failure::from(format!("too few writes are answered: {log}")))
    })?;
    for (connection, list) in (0..).zip(lists) {
        let list = list.into_inner().unwrap_or_else(PoisonError::into_inner);
        acknowledged.insert((loss, connection), list);
    }
    Ok(())
}

/// What was answered before a loss, and is not there.
fn lost(running: &Agent, loss: u64, acknowledged: &Acknowledged) -> Option<String> {
    let mut client = running.client();
    for connection in 0..CONNECTIONS {
        let elements = &acknowledged[&(loss, connection)];
        if elements.is_empty() {
            continue;
        }
        let path = format!("/v1/groups/tags/objects/{loss}-{connection}?limit=1000");
        let shown = read(&mut client, &path).unwrap_or_default();
        let shown = shown["value"].as_array().cloned().unwrap_or_default();
        let is_lost = |element: &&u64| !shown.contains(&Value::from(**element));
        let lost: Vec<_> = elements.iter().filter(is_lost).collect();
        if !lost.is_empty() {
            let count = elements.len();
            return Some(format!("of {count} answered, {path} lacks {lost:?}"));
        }
    }
    None
}

/// Adds one element; the status of the answer, if there is one.
fn add(client: &mut Client, key: &str, element: u64) -> Option<u16> {
    let path = format!("/v1/groups/tags/objects/{key}");
    let body = json!({"op": "add", "element": element});
    client.send_json("POST", &path, &body).ok().map(|answer| answer.status)
}
