//! What agents and the operator say to each other directly.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// An agent asks for a certificate, with its pod-bound token as bearer.
///
/// The operator decides by the pod's labels which groups it names. `previous` lets a
/// pod keep the groups that it held: those are named too if that certificate is
/// valid, of the same pod and of the request's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateRequest {
    /// A PKCS #10 request as PEM; only its key is looked at.
    pub csr: String,
    /// The certificate in use, as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
}

/// The operator's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateResponse {
    /// The chain, the agent's own certificate first, as PEM.
    pub certificate: String,
    /// The authorities that peers are verified by, as PEM.
    pub authorities: String,
    /// The groups that the certificate names.
    pub groups: Vec<Uuid>,
}

/// How an agent is, for the operator's eyes only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AgentReport {
    /// The agent's release.
    pub agent_version: String,
    /// The pod's UID.
    pub pod: String,
    /// SHA-256 of each authority that it verifies peers by, in hexadecimal, sorted.
    pub authorities: Vec<String>,
    /// The disk.
    pub store: StoreReport,
    /// What it serves, by name.
    pub groups: Vec<GroupReport>,
    /// Published groups that it does not serve, because it holds other data by their name.
    pub refused: Vec<RefusedGroup>,
    /// Published groups that cannot be used as they are, by name, and why: what was
    /// published of them before stays in force.
    pub unused: BTreeMap<String, String>,
}

/// An agent's disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StoreReport {
    /// Bytes of the database.
    pub bytes: u64,
    /// Bytes from which on local writes are refused; absent: no limit is set.
    pub limit_bytes: Option<u64>,
    /// Why nothing can be written; absent: all is well.
    pub problem: Option<String>,
}

/// One group at one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupReport {
    /// Its name.
    pub name: String,
    /// Identity of its data.
    pub id: Uuid,
    /// Whether no published group selects this pod with this id any more.
    pub orphan: bool,
    /// Whether its state is still incomplete.
    pub bootstrapping: bool,
    /// Other members that it is connected with.
    pub connected: u32,
    /// What it has seen: per actor, in hexadecimal, the number of its last operation.
    pub seen: BTreeMap<String, u64>,
}

/// A published group that an agent does not serve.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RefusedGroup {
    /// The name of both.
    pub name: String,
    /// The id that is published.
    pub offered: Uuid,
    /// The id of the data that it holds, and goes on serving.
    pub held: Uuid,
}
