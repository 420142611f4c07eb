//! What the operator and the agents of a cluster write to each other.
//!
//! A namespace's groups are published in the `ConfigMap` [`GROUPS_CONFIG_MAP`]:
//! [`key_of_group`] holds a [`PublishedGroup`], [`OPERATOR_KEY`] a
//! [`PublishedOperator`], two more keys the certificates of the authorities. An
//! agent gets its certificate by a [`CertificateRequest`], and tells the operator
//! how it is by an [`AgentReport`]. All of these carry a version or ignore fields
//! that they do not know: operators and agents of neighbouring releases meet.

mod names;
mod published;
mod report;

pub use names::{
    AGENT_CONTAINER, APP_PORT, AUTHORITIES_ROTATION, CLUSTER_DIR, DATA_MOUNT, DATA_VOLUME,
    GROUP_LABEL, GROUPS_CONFIG_MAP, GROUPS_DIR, HELD_DATABASE, IDENTITY_DIR, INJECT_LABEL,
    INJECTED_LABEL, LABELS_FILE, OPERATIONS_PORT, OPERATOR_KEY, OPERATOR_TOKEN_FILE,
    PEERS_AUTHORITIES_KEY, PEERS_PORT, REPORT_PATH, SERVING_AUTHORITIES_KEY, SIDECAR_VOLUMES,
    SIGNING_AUDIENCE, SIGNING_PATH, cluster_of, group_of_key, group_uri, key_of_group,
    operator_uri, peer_service, pod_uri, realm,
};
pub use published::{CONTRACT_VERSION, PublishedGroup, PublishedOperator};
pub use report::{
    AgentReport, CertificateRequest, CertificateResponse, GroupReport, RefusedGroup, StoreReport,
};
