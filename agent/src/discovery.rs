//! Who the peers are: the addresses that this agent dials, as they change.
//!
//! Discovery names addresses, the handshake names replicas: an address never
//! heard from is no member. Invariant: an agent dials only what its discovery
//! names; addresses are not learned from peers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use tokio::sync::watch;

pub use self::endpoint_slices::{EndpointSlices, SliceMetrics, SliceSettings};
pub use self::static_peers::StaticPeers;
use crate::peer::GroupName;

mod endpoint_slices;
mod static_peers;

/// What is listed at one time.
pub type Peers = Arc<Listed>;

/// All addresses that a source knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Each with the groups that it is a peer of.
    pub addresses: BTreeMap<PeerAddress, Scope>,
    /// The groups of which all peers are known: who is not listed is none.
    pub complete: Scope,
}

/// Some groups, or all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Whatever is served.
    AllGroups,
    /// These.
    Groups(BTreeSet<GroupName>),
}

/// A source of peers' addresses.
pub trait Discovery: Send + Sync {
    /// The current set and each later one. When the sender is gone the last
    /// set stays in force.
    fn peers(&self) -> watch::Receiver<Peers>;
}

/// Where a peer listens: a host name or IP address, and a port.
///
/// A name is resolved again at each dial, so a peer may move behind it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddress {
    host: String,
    port: u16,
}

/// A peer's address that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a peer's address: write host:port, such as 10.0.0.7:4438 or [::1]:4438")]
pub struct BadPeerAddress(String);

// === impl Listed ===

impl Listed {
    /// A source that knows nothing yet.
    pub fn unknown() -> Self {
        Self { addresses: BTreeMap::new(), complete: Scope::Groups(BTreeSet::new()) }
    }

    /// Whether a group has peers, or may have some.
    pub fn expects_peers(&self, group: &GroupName) -> bool {
        !self.complete.covers(group) || self.addresses.values().any(|of| of.covers(group))
    }
}

// === impl Scope ===

impl Scope {
    /// Whether this group is among them.
    pub fn covers(&self, group: &GroupName) -> bool {
        match self {
            Self::AllGroups => true,
            Self::Groups(groups) => groups.contains(group),
        }
    }
}

// === impl PeerAddress ===

impl PeerAddress {
    /// The host name, or the IP address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl From<SocketAddr> for PeerAddress {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}

impl FromStr for PeerAddress {
    type Err = BadPeerAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(address.into());
        }
        let bad = || BadPeerAddress(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(bad)?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if host.is_empty() || host.len() > 253 || !host.chars().all(is_name) {
            return Err(bad());
        }
        Ok(Self { host: host.to_ascii_lowercase(), port })
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_as_written() {
        for text in ["127.0.0.1:4438", "[::1]:4438", "web-0.web.shop.svc:4438"] {
            let address: PeerAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "host", "host:", ":4438", "host:0", "host:65536", "http://a:1", "a b:1"] {
            assert!(text.parse::<PeerAddress>().is_err(), "{text} names no host and port");
        }
    }
}
