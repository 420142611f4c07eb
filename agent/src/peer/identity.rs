//! What a peer has proved about itself.

use uuid::Uuid;

/// Which groups a peer may speak for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerIdentity {
    /// No TLS: the peer has proved nothing. Only on loopback, or where
    /// `insecurePeers: true` accepts that.
    Insecure,
    /// Its certificate is of our CA and has no `urn:coppice:` name: it stands
    /// for all groups.
    AllGroups,
    /// Its certificate is of our CA and names the ids of the groups it stands
    /// for, as `urn:coppice:<realm>:<group id>`; possibly none.
    Groups(Vec<Uuid>),
}

impl PeerIdentity {
    /// Whether the peer may speak for the group with this id.
    pub fn speaks_for(&self, group: Uuid) -> bool {
        match self {
            Self::Insecure | Self::AllGroups => true,
            Self::Groups(groups) => groups.contains(&group),
        }
    }
}
