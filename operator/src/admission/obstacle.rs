//! What keeps a pod from getting its agent.
//!
//! A pod that opted in by its own label is denied then, with these words. One of an
//! opted-in namespace runs without the sidecar, and says so in its annotation.
//!
//! A missing volume belongs here: with an empty directory in its place, a rolling
//! update would put every replica of a group on disks that end with their pods, and
//! nobody would notice before the data was gone.

use coppice_api::cluster::{AGENT_CONTAINER, APP_PORT, INJECT_LABEL, OPERATIONS_PORT};
use coppice_api::v1alpha1::ConditionReason;

/// Why a pod cannot be injected. The text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// Its ports are the node's.
    #[error(
        "the pod has hostNetwork, so agents of several pods would fight for the node's ports \
         {APP_PORT} to {OPERATIONS_PORT}: take hostNetwork off, or label the pod \
         {INJECT_LABEL}=\"false\" to run it without the sidecar"
    )]
    HostNetwork,
    /// A group keeps its data in a volume that the pod does not declare.
    #[error(
        "ReplicationGroup {group} keeps its data in the pod's volume {volume:?}, and the pod \
         declares none of that name: add it to the pod's volumes (a StatefulSet: to its \
         volumeClaimTemplates), or name one that it declares in spec.storage.volumeName"
    )]
    VolumeNotFound {
        /// The group.
        group: String,
        /// The volume that it names.
        volume: String,
    },
    /// The volume is there, but nothing can be written to it.
    #[error(
        "ReplicationGroup {group} keeps its data in the pod's volume {volume:?}, which is a \
         {source_kind} and cannot be written: make it one that can, or name another in \
         spec.storage.volumeName"
    )]
    VolumeReadOnly {
        /// The group.
        group: String,
        /// The volume that it names.
        volume: String,
        /// What kind of volume it is.
        source_kind: String,
    },
    /// The pod has something of the sidecar's name.
    #[error(
        "the pod has a {what} called {name}, which is the sidecar's name: call it something else"
    )]
    NameTaken {
        /// Container or volume.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Another container has one of the agent's ports.
    #[error(
        "container {container} listens on port {port}, which is the {AGENT_CONTAINER}'s (it needs \
         {APP_PORT} to {OPERATIONS_PORT}): have it listen elsewhere"
    )]
    PortTaken {
        /// The container.
        container: String,
        /// Its port.
        port: u16,
    },
}

// === impl Obstacle ===

impl Obstacle {
    /// All that there are, in the order in which a group's status tells them.
    pub const REASONS: [ConditionReason; 4] = [
        ConditionReason::HostNetwork,
        ConditionReason::VolumeNotFound,
        ConditionReason::NameTaken,
        ConditionReason::PortTaken,
    ];

    /// In a group's status.
    #[must_use]
    pub const fn reason(&self) -> ConditionReason {
        match self {
            Self::HostNetwork => ConditionReason::HostNetwork,
            Self::VolumeNotFound { .. } | Self::VolumeReadOnly { .. } => {
                ConditionReason::VolumeNotFound
            }
            Self::NameTaken { .. } => ConditionReason::NameTaken,
            Self::PortTaken { .. } => ConditionReason::PortTaken,
        }
    }

    /// A stable name: in events, denials, annotations and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.reason().name()
    }
}
