//! The operator: the control plane of Coppice.
//!
//! It keeps, for each `ReplicationGroup`, what its pods need to find each other; tells
//! the agents of a namespace their groups by one `ConfigMap`; injects the sidecar into
//! pods as they are made; signs the agents' certificates; and says in each group's status
//! what is wrong and how to mend it. It never touches a running pod.
//!
//! Every replica serves the webhook and signs; the one that holds the lease writes.
//! `run` is the only wiring.

pub mod api_client;
pub mod args;
pub mod cli;
pub mod lease;
pub mod metrics;
pub mod names;
pub mod operations;
pub mod pods;
pub mod readiness;
pub mod run;
pub mod scope;
pub mod shutdown;
pub mod telemetry;
pub mod watched;
