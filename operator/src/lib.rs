//! The operator: the control plane of Coppice.
//!
//! It keeps, for each `ReplicationGroup`, what its pods need to find each other; tells
//! the agents of a namespace their groups by one `ConfigMap`; injects the sidecar into
//! pods as they are made; signs the agents' certificates; and says in each group's status
//! what is wrong and how to mend it. It never touches a running pod.
//!
//! Every replica serves the webhook and signs; the one that holds the lease writes.
//! `run` is the only wiring.

pub mod admission;
pub mod announce;
pub mod api_client;
pub mod args;
pub mod certificates;
pub mod children;
pub mod cli;
pub mod context;
pub mod controller;
pub mod denials;
pub mod events;
pub mod groups;
pub mod lease;
pub mod metrics;
pub mod names;
pub mod namespaces;
pub mod operations;
mod outage;
pub mod pods;
pub mod polls;
pub mod readiness;
pub mod reconcile;
pub mod recorder;
pub mod reports;
pub mod run;
pub mod schedule;
pub mod scope;
pub mod sources;
mod tasks;
pub mod uninjected;
pub mod watched;
