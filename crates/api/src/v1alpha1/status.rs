//! What the operator found out.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What the operator found out, last. Nothing here moves fast: lag and rates are
/// metrics.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicationGroupStatus {
    /// Which generation of the object this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "generation")]
    pub observed_generation: Option<i64>,
    /// The UUID of the group's data.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "id")]
    pub id: Option<Uuid>,
    /// `Ready`, `Progressing`, `Injected`, `Converged`, `CertificatesReady` and
    /// `StorageHealthy`: True is good, and what is wrong is the reason, with the mend in the message.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// Pods whose agent has started, of those injected: 3/3.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "members")]
    pub members: Option<String>,
    /// Pods that the selector matches.
    #[schemars(schema_with = "count")]
    pub matched_pods: u32,
    /// Those of them that have the sidecar.
    #[schemars(schema_with = "count")]
    pub injected_pods: u32,
    /// How many members run each release of the agent.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "agent_versions")]
    pub agent_versions: BTreeMap<String, u32>,
}

fn generation(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "format": "int64", "minimum": 0 })
}

fn id(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "maxLength": 36 })
}

/// One of each type; without the list's type, a writer of one would drop the others.
fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "maxItems": 16,
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": {
                    "description": "What it speaks about.",
                    "type": "string",
                    "maxLength": 64,
                },
                "status": {
                    "description": "True is good.",
                    "type": "string",
                    "enum": ["True", "False", "Unknown"],
                },
                "observedGeneration": {
                    "description": "Which generation of the object this is about.",
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                },
                "lastTransitionTime": {
                    "description": "Since when the status is what it is.",
                    "type": "string",
                    "format": "date-time",
                },
                "reason": {
                    "description": "Why, in one word.",
                    "type": "string",
                    "maxLength": 64,
                    "pattern": "^[A-Za-z][A-Za-z0-9]*$",
                },
                "message": {
                    "description": "What was found, and what to do.",
                    "type": "string",
                    "maxLength": 32768,
                },
            },
        },
    })
}

fn members(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "maxLength": 32 })
}

fn count(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "format": "int32", "minimum": 0 })
}

fn agent_versions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": { "type": "integer", "format": "int32", "minimum": 0 },
    })
}
