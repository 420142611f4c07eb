//! The custom resource `ReplicationGroup`, version `v1alpha1`.
//!
//! One object says what a group is, which pods are its members, and what the
//! operator found out about it. Defaults, bounds and what never changes stand in
//! the schema, so that the API server refuses a mistake with a message before
//! anyone else sees it. `make crds` writes the schema to `crds/`.
//!
//! Fields that are not known are ignored: an operator meets objects of a newer
//! definition, with defaults that it has never heard of.

mod condition;
mod definition;
mod problems;
mod publish;
mod replication_group;
pub(crate) mod rules;
pub(crate) mod schema;
mod status;
#[cfg(feature = "crdgen")]
mod yaml;

pub use condition::{ConditionReason, ConditionType};
pub use definition::definition;
pub use publish::publish;
pub use replication_group::{
    AgentSettings, ReplicationGroup, ReplicationGroupSpec, Selector, VolumeKind, VolumeSpec,
};
pub use status::ReplicationGroupStatus;
#[cfg(feature = "crdgen")]
pub use yaml::definition_yaml;
