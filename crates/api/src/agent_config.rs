//! The agent's configuration: one file, the same by hand and in a cluster.
//!
//! Reading gives an [`AgentConfig`] whose fields have the right shape;
//! [`AgentConfig::problems`] then says all that is wrong with their values, each
//! with the field's path and the mend. Unknown fields are refused: a misspelt
//! setting that silently kept its default would be found on the worst day.

mod app_url;
pub(crate) mod bounds;
mod group;
mod listen;
mod strict;
mod validate;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{ByteSize, TextDuration};

pub use app_url::{AppUrl, AppUrlError};
pub use group::{CrdtSpec, Durability, Group, Limits, Snapshot, Storage, Sync};
pub use listen::{Discovery, Listen, PeerAddress, PeerAddressError, StaticDiscovery};
pub use validate::FieldProblem;

/// All that an agent is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AgentConfig {
    /// Who this agent is.
    pub replica: Replica,
    /// Where the store is kept. One agent at a time may use it.
    pub data_dir: PathBuf,
    /// Bytes of the store from which on local writes are refused; none: only a full
    /// disk refuses them.
    pub data_limit: Option<ByteSize>,
    /// Where the three ports listen.
    pub listen: Listen,
    /// The URL by which the app knows its API, if its host is not loopback.
    pub app_url: Option<AppUrl>,
    /// How peers are found.
    pub discovery: Discovery,
    /// Mutual TLS between peers; none: only loopback peers, unless `insecurePeers`.
    pub tls: Option<Tls>,
    /// Allows peers on other than loopback without TLS: anyone who reaches the
    /// port can then read and write.
    pub insecure_peers: bool,
    /// How long a starting agent waits for a first peer before it serves alone.
    pub startup_wait: TextDuration,
    /// What is logged and how.
    pub log: Log,
    /// The groups served here; names are unique.
    pub groups: Vec<Group>,
}

/// Who an agent is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Replica {
    /// Shown to peers and in metrics; default: the host name.
    pub name: Option<String>,
}

/// Files of mutual TLS, read again when they change. Paths are relative to the
/// folder the agent runs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tls {
    /// The authority that peers' certificates must come from, as PEM.
    pub ca: PathBuf,
    /// This agent's certificate chain, as PEM.
    pub certificate: PathBuf,
    /// Its private key, as PEM.
    pub key: PathBuf,
}

/// What is logged and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Log {
    /// The least severe level that is logged.
    pub level: LogLevel,
    /// The shape of a line.
    pub format: LogFormat,
}

/// The least severe level that is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something failed that someone should look at.
    Error,
    /// Something is not as it should be, and is dealt with.
    Warn,
    /// What the agent does, in a few lines.
    #[default]
    Info,
    /// Decisions, per connection and batch.
    Debug,
    /// Everything.
    Trace,
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            replica: Replica::default(),
            data_dir: PathBuf::from("./data"),
            data_limit: None,
            listen: Listen::default(),
            app_url: None,
            discovery: Discovery::default(),
            tls: None,
            insecure_peers: false,
            startup_wait: TextDuration::from_secs(10),
            log: Log::default(),
            groups: Vec::new(),
        }
    }
}

impl LogLevel {
    /// Every level with its name.
    pub const NAMES: [(&'static str, Self); 5] = [
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];

    /// The name users write.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}
