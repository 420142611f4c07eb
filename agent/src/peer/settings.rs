//! What the transport is told, and why it may refuse to start.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Reporter;
use super::tls::{TlsError, TlsFiles};

/// The transport's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where peers reach this agent (`listen.peers`); port 0 picks a free one.
    pub listen: SocketAddr,
    /// Mutual TLS (`tls`); none: plain connections.
    pub tls: Option<TlsFiles>,
    /// Whether groups and certificates reach each agent in its own time: the files of TLS
    /// may come later, until when there are no connections, and a peer that does not
    /// know a group yet is nothing to be told of.
    pub in_cluster: bool,
    /// Answers the operator on this port, whose certificate says so; none: nobody
    /// is answered.
    pub reporter: Option<Arc<dyn Reporter>>,
    /// Whether plain connections may leave loopback (`insecurePeers`).
    pub insecure_peers: bool,
    /// What may wait in memory.
    pub limits: Limits,
    /// How long things may take.
    pub timing: Timing,
}

/// What may wait in memory.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes queued to be sent on one link; a single longer frame is taken too.
    pub outbound_bytes: usize,
    /// Bytes of received frames that wait for the replica task, in the whole
    /// agent; at least one frame of the greatest length.
    pub inbound_bytes: usize,
    /// Connections accepted at one time.
    pub connections: usize,
    /// Streams that a peer may have open on one connection.
    pub streams_per_connection: u32,
}

/// How long things may take.
#[derive(Clone, Debug)]
pub struct Timing {
    /// To connect, to shake hands, to answer the opening request: each.
    pub connect: Duration,
    /// The wait after a first failure; doubled with each further one.
    pub first_retry: Duration,
    /// The longest wait between two attempts.
    pub last_retry: Duration,
    /// A link that lived this long makes the next failure a first one.
    pub stable: Duration,
    /// The first wait before a duplicate is tried again although the link that
    /// was kept is still there; doubled each time, up to ten minutes.
    pub duplicate_recheck: Duration,
    /// A PING is sent when nothing came for this long.
    pub ping_interval: Duration,
    /// A connection whose PING is not answered for this long is closed.
    pub ping_timeout: Duration,
    /// To send what is queued when a link is closed.
    pub closing: Duration,
    /// An accepted connection without a link is closed after this.
    pub idle: Duration,
    /// Between two looks at the TLS files.
    pub certificate_poll: Duration,
}

/// Why the transport did not start. Nothing listens, nothing was spawned.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Anyone could read and write.
    #[error(
        "listen.peers is {0}, which other machines can reach, and peers would prove nothing: \
         set `tls` (ca, certificate, key), or `insecurePeers: true` to let anyone in who can \
         connect, or listen on 127.0.0.1"
    )]
    Insecure(SocketAddr),
    /// The port is taken, or the address is not of this machine.
    #[error(
        "listen.peers: cannot listen on {address}: {source}; choose another address or stop what \
         listens there"
    )]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The TLS files can not be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

// === impl Settings ===

impl Settings {
    /// From which time on it is said that a group is not known, or not named by a
    /// certificate: in a cluster, from when that lasted some minutes.
    pub(super) fn group_faults_from(&self) -> u64 {
        if self.in_cluster { 40 } else { 2 }
    }

    /// Plain connections on `listen`, and the defaults.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            tls: None,
            in_cluster: false,
            reporter: None,
            insecure_peers: false,
            limits: Limits::default(),
            timing: Timing::default(),
        }
    }
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self {
            outbound_bytes: 2 * 1024 * 1024,
            inbound_bytes: 32 * 1024 * 1024,
            connections: 512,
            streams_per_connection: 256,
        }
    }
}

// === impl Timing ===

impl Default for Timing {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            first_retry: Duration::from_millis(50),
            last_retry: Duration::from_secs(5),
            stable: Duration::from_secs(5),
            duplicate_recheck: Duration::from_secs(5),
            ping_interval: Duration::from_secs(2),
            ping_timeout: Duration::from_secs(5),
            closing: Duration::from_secs(2),
            idle: Duration::from_secs(15),
            certificate_poll: Duration::from_secs(1),
        }
    }
}
