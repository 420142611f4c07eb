//! What the operator found out.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::schema;

/// What the operator found out, last. Nothing here moves fast: lag and rates are
/// metrics.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicationGroupStatus {
    /// Which generation of the object this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::generation")]
    pub observed_generation: Option<i64>,
    /// The UUID of the group's data.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::status_id")]
    pub id: Option<Uuid>,
    /// Ready, Progressing, Injected, Converged, CertificatesReady and StorageHealthy:
    /// True is good, and what is wrong is the reason, with the mend in the message.
    #[schemars(extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["type"],
        "maxItems" = 16
    ))]
    pub conditions: Vec<Condition>,
    /// Pods whose agent has started, of those injected: 3/3.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::members")]
    pub members: Option<String>,
    /// Pods that the selector matches.
    #[schemars(schema_with = "schema::count")]
    pub matched_pods: u32,
    /// Those of them that have the sidecar.
    #[schemars(schema_with = "schema::count")]
    pub injected_pods: u32,
    /// How many members run each release of the agent.
    #[schemars(schema_with = "schema::agent_versions")]
    pub agent_versions: BTreeMap<String, u32>,
}
