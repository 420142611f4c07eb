//! The transport between agents: whole frames over HTTP/2, nothing more.
//!
//! It listens, dials what discovery names, keeps one bidirectional stream per
//! group and peer, and moves frames whose content it never looks at. What a
//! frame means, who may speak for a group, which of two links stays: all that
//! is the core's, behind the replica task. The two meet in this file's types:
//! [`LinkEvent`]s go up through one bounded mailbox, frames come down through
//! each link's [`Outbound`].
//!
//! Invariants, and who keeps them: a link's events are one `Up`, then `Frame`
//! and `Room` in order, then one `Down` (`link`); a frame's length is checked
//! before anything is allocated for it (`frame_reader`); what waits in memory
//! is bounded in bytes in both directions (`outbound`, `mailbox`); an accepted
//! frame is sent whole or the stream ends in an error (`outbound`).

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

pub use self::close_reason::CloseReason;
pub use self::identity::PeerIdentity;
pub use self::mailbox::FramePermit;
pub use self::metrics::PeerMetrics;
pub use self::outbound::{Outbound, SendError};
pub use self::settings::{Limits, Settings, StartError, Timing};
pub use self::supervisor::Supervisor;
pub use self::tls::{
    Certified, Refusal as TlsRefusal, TlsError, TlsField, TlsFiles, check as check_tls, examine,
};

mod backoff;
mod close_reason;
mod connection;
mod dial;
mod faults;
mod frame_reader;
mod identity;
mod link;
mod mailbox;
mod metrics;
mod outbound;
mod outbound_body;
mod server;
mod settings;
mod shared;
mod supervisor;
mod tls;

/// The longest frame a peer may send or be sent: a unit of 16 MiB and what
/// surrounds it. A constant of the protocol, no setting.
pub const MAX_FRAME_BYTES: usize = 16 * 1024 * 1024 + 64 * 1024;

/// Says how the agent is, to the operator of its cluster.
pub trait Reporter: fmt::Debug + Send + Sync {
    /// The report as JSON, with what verifies peers now. Quick: it may not wait.
    fn report(&self, trusted: &[String]) -> Vec<u8>;
}

/// Names one link for as long as this process lives; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// The name of a group as it stands in the URL of a link.
///
/// Says where a frame belongs, not who may send it: that is the group's id,
/// which the core compares in the handshake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName(Arc<str>);

/// What the transport tells the replica task.
///
/// For each link: one `Up`, any number of `Frame` and `Room`, one `Down`. After
/// [`Outbound::close`] a few frames may still be in the mailbox: the owner
/// drops events of links that it no longer knows.
///
/// The mailbox is bounded, and a link whose event does not fit stops reading:
/// a replica task that falls behind slows its peers down instead of growing.
#[derive(Debug)]
pub enum LinkEvent {
    /// A stream to a peer is open both ways; neither side has spoken yet.
    Up(LinkUp),
    /// One whole frame, in the order sent.
    Frame {
        /// Where it came from.
        link: LinkId,
        /// Without its length prefix; 1 to [`MAX_FRAME_BYTES`] bytes.
        frame: Bytes,
        /// Holds the frame's place in the agent's budget for received frames.
        /// Drop it when the frame is handled or buffered under another limit.
        permit: FramePermit,
    },
    /// A refused or asked-for length fits into the link's [`Outbound`] now.
    Room {
        /// Where there is room.
        link: LinkId,
    },
    /// The link is gone, for whatever reason; nothing of it follows.
    Down {
        /// Which link.
        link: LinkId,
        /// Why: the owner's own reason, where the owner closed it.
        reason: CloseReason,
    },
}

/// A link that has just opened.
#[derive(Debug)]
pub struct LinkUp {
    /// Names the link in all later events.
    pub link: LinkId,
    /// The group that the stream was opened for; served here when it opened.
    pub group: GroupName,
    /// Whether this agent dialled; the peer did otherwise.
    pub dialled: bool,
    /// For status and logs: the address as discovery lists it, or where an
    /// accepted connection came from.
    pub remote: String,
    /// Which groups the peer's certificate proves it may speak for. The core
    /// closes with [`CloseReason::Unauthorised`] where the group's id is not
    /// among them.
    pub identity: PeerIdentity,
    /// Where frames for the peer go, and how the link is closed.
    pub outbound: Outbound,
}

// === impl GroupName ===

impl GroupName {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 40;

    /// Takes a name that matches `^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$`, else `None`.
    pub fn parse(name: &str) -> Option<Self> {
        let bytes = name.as_bytes();
        let (first, last) = (bytes.first()?, bytes.last()?);
        let ends_well = first.is_ascii_lowercase() && *last != b'-';
        let is_plain = |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
        (ends_well && bytes.len() <= Self::MAX_BYTES && bytes.iter().all(is_plain))
            .then(|| Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl LinkId ===

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests;
