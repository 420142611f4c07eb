//! The contracts: what people, the operator and the agents write to each other.
//!
//! Types with their textual form, their defaults and what is valid; nothing
//! here reads a file or speaks to anyone. The agent gives [`AgentConfig`] its
//! YAML; which parser reads it is known there and nowhere else.

mod agent_config;
pub mod cluster;
mod duration;
mod size;
#[cfg(feature = "crd")]
pub mod v1alpha1;

pub use agent_config::{
    AgentConfig, AppUrl, AppUrlError, CrdtSpec, Discovery, Durability, FieldProblem, Group, Limits,
    Listen, Log, LogFormat, LogLevel, PeerAddress, PeerAddressError, Replica, Snapshot,
    StaticDiscovery, Storage, Sync, Tls,
};
pub use duration::{DurationError, TextDuration};
pub use size::{ByteSize, SizeError};
