//! The charts: what they say of themselves, and what Helm makes of them.
//!
//! What needs Helm is ignored by `cargo test` and run by `make chart`, which fetches
//! Helm's library. What also needs an API server says so if there is none, and fails
//! where `COPPICE_REQUIRE_CLUSTER` is `1`.

mod documents;
mod helm;
mod objects;
mod refusals;
mod rights;
mod server;
