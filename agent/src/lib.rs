//! The sidecar agent: replicas of groups, their store, their peers.

pub mod discovery;
pub mod peer;
pub mod store;
