//! The sidecar agent: replicas of groups, their store, their peers, the app's API.
//!
//! One write, in the order of the code: `http` (bytes to an operation, limits) →
//! `replica_task::handle` (a place in the mailbox, a ticket) → `replica_task`
//! (the writer thread gathers a batch) → `engine` (loads what it touches, one
//! commit: the durable point) → `store` → the ticket resolves → `peer` (frames
//! out). At the peer: `peer` → `replica_task` → `engine` → `store` → an answer.
//! Reads go beside the writer: `http` → `query` → a snapshot of the store.
//!
//! What a write means is `coppice_crdt`'s; what peers say to each other is
//! `coppice_replication`'s. `run` is the only place that wires things together.

mod acceptor;
pub mod args;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod discovery;
pub mod disk_limit;
pub mod engine;
pub mod etag;
pub mod http;
pub mod identity;
pub mod peer;
pub mod query;
pub mod records;
pub mod replica_task;
pub mod run;
pub mod snapshot_command;
pub mod snapshot_task;
pub mod snapshots;
pub mod store;
pub mod store_metrics;
pub mod telemetry;
