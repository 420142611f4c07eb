//! What an agent is told about one group.

use std::fmt;

use coppice_crdt::CrdtType;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::strict;
#[cfg(feature = "crd")]
use crate::v1alpha1::schema;
use crate::{ByteSize, TextDuration};

/// A named keyspace whose objects are all of one CRDT type.
///
/// A group's type never changes; a name with another type is another group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Group {
    /// 1 to 40 lower-case letters, digits and hyphens, a letter first.
    pub name: String,
    /// Identity of the data; default: derived from name and type. Peers whose
    /// ids differ refuse each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    /// What its objects are.
    #[serde(deserialize_with = "strict::read")]
    pub crdt: CrdtSpec,
    /// When peers are told.
    #[serde(default, deserialize_with = "strict::read")]
    pub sync: Sync,
    /// When checkpoints are taken.
    #[serde(default, deserialize_with = "strict::read")]
    pub snapshot: Snapshot,
    /// When a write is safe.
    #[serde(default, deserialize_with = "strict::read")]
    pub storage: Storage,
    /// What local writes may not exceed.
    #[serde(default, deserialize_with = "strict::read")]
    pub limits: Limits,
}

/// What the objects of a group are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct CrdtSpec {
    /// The CRDT type: what every object is, and so what becomes of concurrent writes.
    #[serde(rename = "type", serialize_with = "write_type", deserialize_with = "read_type")]
    #[cfg_attr(feature = "crd", schemars(schema_with = "schema::crdt_type"))]
    pub crdt_type: CrdtType,
}

/// When peers are told of writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Sync {
    /// After this time at the latest.
    #[cfg_attr(feature = "crd", schemars(schema_with = "schema::sync_interval"))]
    pub interval: TextDuration,
    /// At once too, coalesced while a link is busy.
    pub eager: bool,
}

/// When checkpoints are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Snapshot {
    /// The time between two.
    #[cfg_attr(feature = "crd", schemars(schema_with = "schema::snapshot_interval"))]
    pub interval: TextDuration,
    /// How many are kept; 0: none is taken.
    #[cfg_attr(feature = "crd", schemars(schema_with = "schema::snapshot_retain"))]
    pub retain: u32,
    /// Whether one is taken on a clean stop.
    pub on_shutdown: bool,
}

/// When a write is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Storage {
    /// What an answered write survives.
    pub durability: Durability,
    /// With `Interval`: the longest time between write and fsync.
    pub fsync_interval: TextDuration,
}

/// What an answered write survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Durability {
    /// A power loss: fsync before the answer.
    Always,
    /// A crash of the agent; of a power loss, all but the last `fsyncInterval`.
    #[default]
    Interval,
    /// A crash of the agent.
    None,
}

/// What local writes may not exceed; what peers send is never refused for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// How many objects there may be.
    #[cfg_attr(feature = "crd", schemars(schema_with = "schema::entries"))]
    pub objects: u64,
    /// How large one value may be, by PUT or `set`.
    #[cfg_attr(feature = "crd", schemars(schema_with = "schema::value_bytes"))]
    pub value_bytes: ByteSize,
    /// How many live entries there may be, over all objects.
    #[cfg_attr(feature = "crd", schemars(schema_with = "schema::entries"))]
    pub elements: u64,
    /// How large the arrival log may be; a peer further behind is repaired by state.
    #[cfg_attr(feature = "crd", schemars(schema_with = "schema::log_bytes"))]
    pub log_bytes: ByteSize,
    /// How old the oldest entry of the arrival log may be.
    #[cfg_attr(feature = "crd", schemars(schema_with = "schema::log_age"))]
    pub log_age: TextDuration,
}

impl Group {
    /// A group with default settings.
    #[must_use]
    pub fn new(name: &str, crdt_type: CrdtType) -> Self {
        Self {
            name: name.to_owned(),
            id: None,
            crdt: CrdtSpec { crdt_type },
            sync: Sync::default(),
            snapshot: Snapshot::default(),
            storage: Storage::default(),
            limits: Limits::default(),
        }
    }

    /// The identity of the group's data: `id`, else a UUID of version 5 in the URL namespace
    /// of `coppice:<name>:<type>`, so that agents with the same line in their
    /// files find each other.
    ///
    /// ```
    /// use coppice_api::Group;
    /// use coppice_crdt::CrdtType;
    ///
    /// let id = Group::new("page-views", CrdtType::PNCounter).effective_id();
    /// assert_eq!(id.get_version_num(), 5);
    /// ```
    #[must_use]
    pub fn effective_id(&self) -> Uuid {
        self.id.unwrap_or_else(|| {
            let url = format!("coppice:{}:{}", self.name, self.crdt.crdt_type);
            Uuid::new_v5(&Uuid::NAMESPACE_URL, url.as_bytes())
        })
    }

    /// Whether `name` is a group's name: `^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$`.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        let bytes = name.as_bytes();
        let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
        bytes.len() <= 40
            && bytes.first().is_some_and(u8::is_ascii_lowercase)
            && bytes.last().is_some_and(|byte| *byte != b'-')
            && bytes.iter().all(inner)
    }
}

impl Default for Sync {
    fn default() -> Self {
        Self { interval: TextDuration::from_secs(5), eager: true }
    }
}

impl Default for Snapshot {
    fn default() -> Self {
        Self { interval: TextDuration::from_secs(60), retain: 3, on_shutdown: true }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self { durability: Durability::default(), fsync_interval: TextDuration::from_millis(100) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            objects: 1_000_000,
            value_bytes: ByteSize::mebibytes(1),
            elements: 10_000_000,
            log_bytes: ByteSize::mebibytes(64),
            log_age: TextDuration::from_secs(3600),
        }
    }
}

impl Durability {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Always, Self::Interval, Self::None];

    /// The name users write.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::Interval => "Interval",
            Self::None => "None",
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

// Serde hands the field over by reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn write_type<S: Serializer>(crdt_type: &CrdtType, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(crdt_type.name())
}

fn read_type<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CrdtType, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_dns_labels_that_begin_with_a_letter() {
        for name in ["a", "page-views", "a1", &"a".repeat(40)] {
            assert!(Group::is_name(name), "{name}");
        }
        for name in ["", "A", "1a", "-a", "a-", "a_b", "a.b", "a/b", "é", &"a".repeat(41)] {
            assert!(!Group::is_name(name), "{name}");
        }
    }

    #[test]
    fn the_id_follows_name_and_type_and_an_explicit_one_wins() {
        let mut group = Group::new("page-views", CrdtType::PNCounter);
        // python3 -c 'import uuid; print(uuid.uuid5(uuid.NAMESPACE_URL, "coppice:page-views:PNCounter"))'
        assert_eq!(group.effective_id().to_string(), "c3e4ec42-3062-5f7a-9c2d-eb28177e3b26");
        assert_ne!(group.effective_id(), Group::new("page-views", CrdtType::GSet).effective_id());

        group.id = Some(Uuid::from_u128(7));
        assert_eq!(group.effective_id(), Uuid::from_u128(7));
    }
}
