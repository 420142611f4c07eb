//! What people write.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::status::ReplicationGroupStatus;
use super::{rules, schema};
use crate::{
    ByteSize, CrdtSpec, Durability, Limits, LogLevel, Snapshot, Storage, Sync, TextDuration,
};

/// A group of replicas: what its objects are, which pods of the namespace hold
/// them, and how they are kept.
#[derive(CustomResource, JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "coppice.dev",
    version = "v1alpha1",
    kind = "ReplicationGroup",
    namespaced,
    shortname = "rg",
    category = "coppice",
    status = "ReplicationGroupStatus",
    derive = "PartialEq",
    doc = "A group of replicas: what its objects are, which pods of the namespace hold them, and how they are kept.",
    validation = rules::name(),
    printcolumn(
        name = "Type",
        type_ = "string",
        description = "What every object of the group is",
        json_path = ".spec.crdt.type"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        description = "Whether every member serves",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Members",
        type_ = "string",
        description = "Pods whose agent has started, of those injected",
        json_path = ".status.members"
    ),
    printcolumn(
        name = "Converged",
        type_ = "string",
        description = "Whether the members had seen the same writes when they were asked",
        json_path = r#".status.conditions[?(@.type=="Converged")].status"#
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        description = "Why Ready is what it is",
        priority = 1,
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::id_stays()))]
pub struct ReplicationGroupSpec {
    /// The UUID of the group's data; if left out, this object's UID. Set it to the id
    /// of a deleted group to take over what its running pods still hold. It never
    /// changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::id")]
    pub id: Option<Uuid>,
    /// Which pods of this namespace are members, of those that opted in.
    pub selector: Selector,
    /// What the objects are. It never changes.
    pub crdt: CrdtSpec,
    /// When peers are told of writes.
    #[serde(default)]
    pub sync: Sync,
    /// When checkpoints are taken.
    #[serde(default)]
    pub snapshot: Snapshot,
    /// Where the data is kept, and when a write is safe.
    #[serde(default)]
    pub storage: VolumeSpec,
    /// What local writes may not exceed; what peers send is never refused for it.
    #[serde(default)]
    pub limits: Limits,
    /// The agent's container. A pod has one agent for all its groups, with the largest
    /// of their resources and the most telling of their log levels.
    #[serde(default)]
    pub agent: AgentSettings,
    /// Whether the operator leaves all that belongs to this group as it is.
    #[serde(default)]
    pub paused: bool,
}

/// Which pods of the namespace are members, of those that opted in by the label
/// `coppice.dev/inject`.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// Labels that a pod must carry, all of them.
    #[schemars(schema_with = "schema::match_labels")]
    pub match_labels: BTreeMap<String, String>,
}

/// Where a member keeps its data, and when a write is safe.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = rules::volume()))]
pub struct VolumeSpec {
    /// What kind of volume a pod gets when it is injected. It never changes. With
    /// `PodVolume` only a pod of the same name, as of a `StatefulSet`, finds its data again.
    #[schemars(schema_with = "schema::volume_kind")]
    pub volume: VolumeKind,
    /// How much this group may use. The sizes of a pod's groups add up to that of its
    /// volume; local writes stop at 80 % of it.
    #[schemars(schema_with = "schema::volume_size")]
    pub size: ByteSize,
    /// With `EphemeralClaim`: the claim's class; if left out, the cluster's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::storage_class_name")]
    pub storage_class_name: Option<String>,
    /// With `PodVolume`: which of the pod's own volumes is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::volume_name")]
    pub volume_name: Option<String>,
    /// What an answered write survives. `Always`: a power loss, by an fsync before the
    /// answer. `Interval`: a crash of the agent, and of a power loss all but the last
    /// `fsyncInterval`. `None`: a crash of the agent.
    #[schemars(schema_with = "schema::durability")]
    pub durability: Durability,
    /// With durability `Interval`: the longest time between write and fsync.
    #[schemars(schema_with = "schema::fsync_interval")]
    pub fsync_interval: TextDuration,
}

/// What kind of volume keeps the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeKind {
    /// Ends with the pod.
    #[default]
    EmptyDir,
    /// A claim that is made for the pod and ends with it.
    EphemeralClaim,
    /// One that the pod declares, as a `StatefulSet` does for its claims. The data is in a
    /// folder of the pod's name: only a pod of the same name finds it again.
    PodVolume,
}

/// The agent's container.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AgentSettings {
    /// Its image; if left out, that of the operator's release.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::image")]
    pub image: Option<String>,
    /// What it asks for and may use; what is left out comes from the operator's settings.
    #[schemars(schema_with = "schema::resources")]
    pub resources: ResourceRequirements,
    /// The least severe level that it logs.
    #[schemars(schema_with = "schema::log_level")]
    pub log_level: LogLevel,
}

// === impl ReplicationGroup ===

impl ReplicationGroup {
    /// Identity of the group's data: `spec.id`, else the object's UID; none for an
    /// object that the API server has never stored.
    #[must_use]
    pub fn effective_id(&self) -> Option<Uuid> {
        let uid = || self.metadata.uid.as_deref().and_then(|uid| uid.parse().ok());
        self.spec.id.or_else(uid)
    }
}

// === impl ReplicationGroupSpec ===

impl ReplicationGroupSpec {
    /// A group of this type with default settings, which selects no pod yet.
    #[must_use]
    pub fn new(crdt: CrdtSpec) -> Self {
        Self {
            id: None,
            selector: Selector::default(),
            crdt,
            sync: Sync::default(),
            snapshot: Snapshot::default(),
            storage: VolumeSpec::default(),
            limits: Limits::default(),
            agent: AgentSettings::default(),
            paused: false,
        }
    }
}

// === impl VolumeSpec ===

impl VolumeSpec {
    /// What of it agents are told.
    #[must_use]
    pub fn storage(&self) -> Storage {
        Storage { durability: self.durability, fsync_interval: self.fsync_interval }
    }
}

impl Default for VolumeSpec {
    fn default() -> Self {
        let Storage { durability, fsync_interval } = Storage::default();
        Self {
            volume: VolumeKind::default(),
            size: ByteSize::mebibytes(1024),
            storage_class_name: None,
            volume_name: None,
            durability,
            fsync_interval,
        }
    }
}

// === impl VolumeKind ===

impl VolumeKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::EmptyDir, Self::EphemeralClaim, Self::PodVolume];

    /// The name users write.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EmptyDir => "EmptyDir",
            Self::EphemeralClaim => "EphemeralClaim",
            Self::PodVolume => "PodVolume",
        }
    }
}
