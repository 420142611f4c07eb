//! Where an agent listens, and where it finds its peers.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// Where the three ports listen; port 0 takes a free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Listen {
    /// The app's API: loopback only, since whoever reaches it may read and write.
    #[serde(deserialize_with = "read_address")]
    pub app: SocketAddr,
    /// Other agents.
    #[serde(deserialize_with = "read_address")]
    pub peers: SocketAddr,
    /// Metrics, probes, status.
    #[serde(deserialize_with = "read_address")]
    pub operations: SocketAddr,
}

/// How peers are found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Discovery {
    /// A list in this file.
    #[serde(rename = "static")]
    pub static_peers: StaticDiscovery,
}

/// Peers by address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StaticDiscovery {
    /// The other agents' peers addresses; naming this agent itself does no harm.
    pub peers: Vec<PeerAddress>,
}

/// A peer's address, `host:port`; the host is a name or an IP address (IPv6 in brackets).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeerAddress(String);

/// The text is no `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no peer's address: write host:port, as in 127.0.0.1:4438 or [::1]:4438")]
pub struct PeerAddressError {
    text: String,
}

impl Default for Listen {
    fn default() -> Self {
        let loopback = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        Self { app: loopback(4437), peers: loopback(4438), operations: loopback(4439) }
    }
}

impl PeerAddress {
    /// The address as `host:port`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the host is this machine: a loopback address or `localhost`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self.0.parse::<SocketAddr>() {
            Ok(address) => address.ip().is_loopback(),
            Err(_) => self.0.rsplit_once(':').is_some_and(|(host, _)| host == "localhost"),
        }
    }
}

fn read_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        let mend = "write an IP address and a port, as in 127.0.0.1:4437 or [::1]:4437";
        serde::de::Error::custom(format!("{text:?} is no address: {mend}"))
    })
}

fn is_host_and_port(text: &str) -> bool {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return address.port() != 0;
    }
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_name = !host.is_empty()
        && host.len() <= 253
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    // What looks like an IPv4 address but is none was meant as one.
    let looks_like_ip = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    is_name && !looks_like_ip && port.parse::<u16>().is_ok_and(|port| port != 0)
}

impl FromStr for PeerAddress {
    type Err = PeerAddressError;

    fn from_str(text: &str) -> Result<Self, PeerAddressError> {
        if is_host_and_port(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(PeerAddressError { text: text.to_owned() })
        }
    }
}

impl TryFrom<String> for PeerAddress {
    type Error = PeerAddressError;

    fn try_from(text: String) -> Result<Self, PeerAddressError> {
        text.parse()
    }
}

impl From<PeerAddress> for String {
    fn from(address: PeerAddress) -> Self {
        address.0
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        for (text, loopback) in [
            ("127.0.0.1:4438", true),
            ("127.1.2.3:4438", true),
            ("[::1]:4438", true),
            ("localhost:4438", true),
            ("10.0.0.1:4438", false),
            ("agent-b.web.svc:4438", false),
        ] {
            let address: PeerAddress = text.parse().unwrap();
            assert_eq!(address.is_loopback(), loopback, "{text}");
        }
        for text in
            ["", ":1", "a", "a:", "a:0", "a:65536", "::1:4438", "1.2.3:4", "http://a:1", "a b:1"]
        {
            let error = text.parse::<PeerAddress>().unwrap_err().to_string();
            assert!(error.contains("host:port"), "{text}: {error}");
        }
    }
}
