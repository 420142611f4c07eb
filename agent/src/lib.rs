//! The sidecar agent: replicas of groups, their store, their peers.

pub mod store;
