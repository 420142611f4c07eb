//! Who is at the other end of a TLS connection, where no name of a host can tell: pods
//! come and go, and so do their addresses.
//!
//! Whom a certificate speaks for stands in its URIs.

mod chain;
mod names;

pub use chain::ChainVerifier;
pub use names::uris;
