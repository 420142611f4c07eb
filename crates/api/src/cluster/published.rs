//! What stands in a namespace's `ConfigMap`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{CrdtSpec, Group, Limits, Snapshot, Storage, Sync};

/// The version of what is published; a reader takes any, and ignores what it does
/// not know.
pub const CONTRACT_VERSION: u32 = 1;

/// A group, as its agents are told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishedGroup {
    /// Of this text.
    pub version: u32,
    /// The group's name.
    pub name: String,
    /// Identity of its data.
    pub id: Uuid,
    /// Its members are the injected pods that carry all of these labels; never empty.
    pub match_labels: BTreeMap<String, String>,
    /// What its objects are.
    pub crdt: CrdtSpec,
    /// When peers are told.
    #[serde(default)]
    pub sync: Sync,
    /// When checkpoints are taken.
    #[serde(default)]
    pub snapshot: Snapshot,
    /// When a write is safe.
    #[serde(default)]
    pub storage: Storage,
    /// What local writes may not exceed.
    #[serde(default)]
    pub limits: Limits,
}

/// Where the operator is, and which cluster this is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishedOperator {
    /// Of this text.
    pub version: u32,
    /// The UID of the namespace `kube-system`.
    pub cluster: String,
    /// Where it signs: its `Service`'s address, so that no DNS is needed.
    pub address: SocketAddr,
    /// The name in its certificate.
    pub server_name: String,
}

impl PublishedGroup {
    /// The group, as an agent serves it.
    #[must_use]
    pub fn group(&self) -> Group {
        Group {
            name: self.name.clone(),
            id: Some(self.id),
            crdt: self.crdt,
            sync: self.sync,
            snapshot: self.snapshot,
            storage: self.storage,
            limits: self.limits,
        }
    }

    /// Whether a pod with these labels is a member, if it is injected. Labels to match
    /// that are empty select nothing.
    #[must_use]
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |(key, value): (&String, &String)| labels.get(key) == Some(value);
        !self.match_labels.is_empty() && self.match_labels.iter().all(has)
    }
}
