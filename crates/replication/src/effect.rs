//! What a replica asks its owner to do.

use crate::record::Position;

/// One connection to a peer, about one group; never used twice by one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// Something to do once the last commit succeeded, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send a frame.
    Send(LinkId, Vec<u8>),
    /// Close a link; [`crate::Replica::link_down`] is not called for it.
    Close(LinkId, CloseReason),
    /// Open a snapshot of the store as it is now, to serve a repair over this
    /// link; the state in it is that of [`crate::Replica::visible`].
    OpenSnapshot(LinkId),
    /// Read a part of that snapshot and send it.
    ReadPart {
        /// Over which link.
        link: LinkId,
        /// Of which range.
        range: u8,
        /// From where on; `None`: from its start.
        from: Option<Position>,
    },
    /// The snapshot is no longer needed.
    DropSnapshot(LinkId),
}

/// Why a link is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The peer speaks of another group, or of one with another id.
    GroupMismatch,
    /// The peer's group has objects of another type.
    TypeMismatch,
    /// Another link to the same opening is kept.
    Duplicate {
        /// The link that stays.
        kept: LinkId,
    },
    /// The peer is this replica itself.
    SelfLink,
    /// A frame of a version that this program does not speak.
    UnsupportedVersion,
    /// A frame, or something in it, is over its limit.
    OversizedFrame,
    /// A frame makes no sense.
    MalformedFrame,
    /// A message that has no place in the conversation.
    UnexpectedMessage,
    /// A unit says what no correct replica says.
    DamagedUnit,
}

impl CloseReason {
    /// The value of the metrics' `reason` label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::GroupMismatch => "group-mismatch",
            Self::TypeMismatch => "type-mismatch",
            Self::Duplicate { .. } => "duplicate",
            Self::SelfLink => "self",
            Self::UnsupportedVersion => "unsupported-version",
            Self::OversizedFrame => "oversized-frame",
            Self::MalformedFrame => "malformed-frame",
            Self::UnexpectedMessage => "unexpected-message",
            Self::DamagedUnit => "damaged-unit",
        }
    }
}
