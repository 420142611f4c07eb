//! Why a link ended: one closed list, for the metric, for logs, and for
//! deciding whether and when to dial again.

use std::fmt;

use super::LinkId;

/// Why a link ended, or why one that was asked for never came up.
///
/// The first part is found by the transport, the second given by the core with
/// [`Outbound::close`](super::Outbound::close).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer ended its side in order, between two frames.
    PeerClosed,
    /// The connection or the stream broke.
    Io,
    /// The peer is not speaking HTTP/2, or answers the opening request with
    /// something other than 200, or 404 without a content type.
    Protocol,
    /// A length prefix above [`MAX_FRAME_BYTES`](super::MAX_FRAME_BYTES).
    OversizedFrame,
    /// The peer does not serve the group, or not yet.
    UnknownGroup,
    /// The TLS handshake failed, or the peer's certificate has expired since.
    Tls,
    /// The peer does not answer pings, or does not finish what it began.
    Timeout,
    /// Discovery no longer lists the address, or the group is no longer served.
    Removed,
    /// This agent stops.
    Shutdown,

    /// A frame that makes no sense. Also found by the transport, for an empty
    /// frame and for one that is cut off.
    MalformedFrame,
    /// A message that has no place in the conversation.
    UnexpectedMessage,
    /// A unit, or a part of a repair, says what no correct replica says.
    DamagedUnit,
    /// The peer speaks no version that is understood here.
    UnsupportedVersion,
    /// The group has the same name there and another id.
    GroupMismatch,
    /// The group's objects are of another type there.
    TypeMismatch,
    /// The peer's certificate does not name the group's id.
    Unauthorised,
    /// The peer is this agent: the address is not dialled again while listed.
    SelfLink,
    /// Another link to the same peer stays. This one's address is tried again
    /// for the group when `kept` is gone.
    Duplicate {
        /// The link that stays.
        kept: LinkId,
    },
}

impl CloseReason {
    /// The metric's label and the word in logs; stable.
    pub fn label(self) -> &'static str {
        match self {
            Self::PeerClosed => "peer-closed",
            Self::Io => "io",
            Self::Protocol => "protocol",
            Self::OversizedFrame => "oversized-frame",
            Self::UnknownGroup => "unknown-group",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Removed => "removed",
            Self::Shutdown => "shutdown",
            Self::MalformedFrame => "malformed-frame",
            Self::UnexpectedMessage => "unexpected-message",
            Self::DamagedUnit => "damaged-unit",
            Self::UnsupportedVersion => "unsupported-version",
            Self::GroupMismatch => "group-mismatch",
            Self::TypeMismatch => "type-mismatch",
            Self::Unauthorised => "unauthorised",
            Self::SelfLink => "self",
            Self::Duplicate { .. } => "duplicate",
        }
    }
}

/// What a person can mend after the peer closed a link with this label.
pub(super) fn mend_said(label: &str) -> Option<&'static str> {
    match label {
        "unauthorised" => Some(
            "this agent's certificate is for other groups: issue it with the URI name \
             urn:coppice:<realm>:<id of this group>, or with none that begins with urn:coppice:",
        ),
        label => mend(label),
    }
}

/// What a person can mend after a link was closed here for the reason of this label.
pub(super) fn mend(label: &str) -> Option<&'static str> {
    match label {
        "group-mismatch" | "type-mismatch" => {
            Some("a peer has another group under this name: give both the same type and id")
        }
        "unauthorised" => Some(
            "the peer's certificate is for other groups: issue it with the URI name \
             urn:coppice:<realm>:<id of this group>, or with none that begins with urn:coppice:",
        ),
        "protocol" => Some(
            "one side does not speak the peers' protocol: list the address of the other agent's \
             `listen.peers`, and give both `tls`, or neither",
        ),
        "unsupported-version" => {
            Some("the versions of both sides are too far apart: upgrade the older one")
        }
        _ => None,
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_configuration_can_mend_is_said() {
        for reason in [
            CloseReason::GroupMismatch,
            CloseReason::TypeMismatch,
            CloseReason::Unauthorised,
            CloseReason::Protocol,
            CloseReason::UnsupportedVersion,
        ] {
            assert!(mend(reason.label()).is_some(), "{reason}");
            assert!(mend_said(reason.label()).is_some(), "{reason}");
        }
        for reason in [CloseReason::PeerClosed, CloseReason::Io, CloseReason::SelfLink] {
            assert!(mend(reason.label()).is_none(), "{reason}");
        }
        let sides = [mend("unauthorised"), mend_said("unauthorised")].map(Option::unwrap);
        assert!(sides[0].contains("the peer's certificate"), "closed here: {}", sides[0]);
        assert!(sides[1].contains("this agent's certificate"), "by the peer: {}", sides[1]);
    }
}
