//! What a pod's agent remembers over a restart of its container, in `cluster.json` in
//! its data folder: the groups it serves, its peers, where the operator is.
//!
//! With it an agent comes up, serves and dials while there is no `ConfigMap`, no API
//! server and no operator. It is of one pod: a volume that outlives its pod gives the
//! next one its data, and not what the last one was told. The file is replaced whole
//! (written, fsynced, renamed), so it is there or not; damage is ignored, and said.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use coppice_api::cluster::PublishedOperator;
use serde::{Deserialize, Serialize};

use super::standing::Kept;
use crate::discovery::{Listed, PeerAddress, Scope};
use crate::peer::GroupName;

/// The file in the data folder.
const FILE: &str = "cluster.json";

/// What it is written as, before it is renamed.
const UNFINISHED: &str = "cluster.json.new";

const VERSION: u32 = 1;

/// The longest file that is read.
const MAX_BYTES: u64 = 16 << 20;

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Memory {
    version: u32,
    /// The pod's UID.
    pod: String,
    pub(super) groups: Vec<Kept>,
    peers: Vec<SavedPeer>,
    pub(super) operator: Option<PublishedOperator>,
    pub(super) serving_authorities: Option<String>,
    pub(super) peers_authorities: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SavedPeer {
    address: String,
    groups: Vec<String>,
}

/// Why nothing is remembered, though there is a file.
#[derive(Debug, thiserror::Error)]
pub(super) enum Forgotten {
    #[error("it is another pod's ({0})")]
    OtherPod(String),
    #[error("it is of version {0}, which this release does not know")]
    Version(u32),
    #[error("it is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
}

impl Memory {
    /// An empty one, of this pod.
    pub(super) fn of(pod: &str) -> Self {
        Self { version: VERSION, pod: pod.to_owned(), ..Self::default() }
    }

    /// Reads what this pod wrote; `None`: nothing yet.
    pub(super) fn read(folder: &Path, pod: &str) -> Result<Option<Self>, Forgotten> {
        let path = folder.join(FILE);
        match std::fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Ok(found) if found.len() > MAX_BYTES => {
                return Err(io::Error::other("longer than any that was written").into());
            }
            Ok(_) | Err(_) => {}
        }
        let value: serde_json::Value = serde_json::from_slice(&std::fs::read(path)?)?;
        let version = value.get("version").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if version != u64::from(VERSION) {
            return Err(Forgotten::Version(u32::try_from(version).unwrap_or(u32::MAX)));
        }
        let memory: Self = serde_json::from_value(value)?;
        if memory.pod != pod {
            return Err(Forgotten::OtherPod(memory.pod));
        }
        Ok(Some(memory))
    }

    /// Puts it on disk. Blocks.
    ///
    /// # Errors
    ///
    /// What was there before is there still.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let unfinished = folder.join(UNFINISHED);
        let mut file = File::create(&unfinished)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        std::fs::rename(unfinished, folder.join(FILE))?;
        File::open(folder)?.sync_all()
    }

    /// The peers, as discovery lists them.
    pub(super) fn peers(&self) -> BTreeMap<PeerAddress, Scope> {
        let peer = |saved: &SavedPeer| {
            let groups = saved.groups.iter().filter_map(|name| GroupName::parse(name)).collect();
            Some((saved.address.parse().ok()?, Scope::Groups(groups)))
        };
        self.peers.iter().filter_map(peer).collect()
    }

    /// Remembers the peers that are listed. Those of no group in particular are not
    /// found by discovery.
    pub(super) fn set_peers(&mut self, listed: &Listed) {
        let saved = |(address, scope): (&PeerAddress, &Scope)| match scope {
            Scope::AllGroups => None,
            Scope::Groups(groups) => Some(SavedPeer {
                address: address.to_string(),
                groups: groups.iter().map(ToString::to_string).collect(),
            }),
        };
        self.peers = listed.addresses.iter().filter_map(saved).collect();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn memory() -> Memory {
        let mut memory = Memory::of("pod-1");
        let groups = BTreeSet::from([GroupName::parse("a").unwrap()]);
        let addresses = BTreeMap::from([("10.0.0.2:4438".parse().unwrap(), Scope::Groups(groups))]);
        memory.set_peers(&Listed { addresses, complete: Scope::AllGroups });
        memory
    }

    #[test]
    fn what_is_written_is_read_by_the_same_pod() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Memory::read(folder.path(), "pod-1").unwrap().is_none(), "nothing was written");
        memory().write(folder.path()).unwrap();
        let read = Memory::read(folder.path(), "pod-1").unwrap().unwrap();
        assert_eq!(read, memory());
        assert_eq!(read.peers().len(), 1);
        assert!(!folder.path().join(UNFINISHED).exists());
    }

    #[test]
    fn another_pods_memory_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        memory().write(folder.path()).unwrap();
        let error = Memory::read(folder.path(), "pod-2").unwrap_err();
        assert!(matches!(error, Forgotten::OtherPod(pod) if pod == "pod-1"));
    }

    #[test]
    fn damage_and_a_newer_version_are_told_apart_and_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            std::fs::write(folder.path().join(FILE), text).unwrap();
            Memory::read(folder.path(), "pod-1").unwrap_err().to_string()
        };
        memory().write(folder.path()).unwrap();
        let whole = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
        assert!(read(&whole[..whole.len() / 2]).contains("damaged"));
        assert!(read("").contains("damaged"));
        assert!(read(r#"{"version":1,"groups":5}"#).contains("damaged"));
        assert!(read(r#"{"version":2,"pod":"pod-1"}"#).contains("of version 2"));
    }

    /// Written by the first release that had it: every later one reads it.
    #[test]
    fn the_first_version_is_read() {
        let text = r#"{
  "version": 1,
  "pod": "pod-1",
  "groups": [{
    "group": {"version": 1, "name": "a", "id": "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
              "matchLabels": {"app": "web"}, "crdt": {"type": "PNCounter"}},
    "orphan": true
  }],
  "peers": [{"address": "[fd00::2]:4438", "groups": ["a"]}],
  "operator": {"version": 1, "cluster": "c", "address": "10.0.0.1:443", "serverName": "s"},
  "servingAuthorities": null,
  "peersAuthorities": "pem"
}"#;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), text).unwrap();
        let read = Memory::read(folder.path(), "pod-1").unwrap().unwrap();
        assert!(read.groups[0].orphan && read.groups[0].group.name == "a");
        assert_eq!((read.peers().len(), read.peers_authorities.as_deref()), (1, Some("pem")));
        assert_eq!(read.operator.unwrap().server_name, "s");
    }
}
