//! Who the other members of a group are: openings of stores that were heard.
//!
//! A disconnected opening stays a member, so that the log is kept for it, until
//! a later opening of its store connects or the log's caps decide.
//!
//! Pure: no clock, no IO, no randomness.

use std::collections::BTreeMap;
use std::sync::Arc;

use coppice_crdt::{ActorId, VersionVector};

use crate::effect::LinkId;

/// One opening of another store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The store.
    pub store: [u8; 16],
    /// How often the store had been opened.
    pub opening_number: u64,
    /// The replica's name, for people.
    pub name: Arc<str>,
    /// What it last reported to have seen.
    pub seen: VersionVector,
    /// What it last reported to have on its disk.
    pub durable: VersionVector,
    /// The link to it, if one is up.
    pub link: Option<LinkId>,
    /// When it was last heard, in milliseconds of the owner's steady clock.
    pub heard_ms: u64,
    /// Its wall time ahead of ours when last heard, in milliseconds.
    pub skew_ms: i64,
}

/// The other members of a group, by opening.
#[derive(Clone, Debug, Default)]
pub struct Membership {
    members: BTreeMap<ActorId, Member>,
}

impl Membership {
    /// Takes notice of an opening that said hello; it replaces what was known of
    /// it, and disconnected earlier openings of its store.
    pub fn connected(&mut self, opening: ActorId, member: Member) {
        self.members.retain(|_, known| {
            known.store != member.store
                || known.link.is_some()
                || known.opening_number > member.opening_number
        });
        self.members.insert(opening, member);
    }

    /// Takes notice that a link is down.
    pub fn disconnected(&mut self, link: LinkId) {
        for member in self.members.values_mut() {
            if member.link == Some(link) {
                member.link = None;
            }
        }
    }

    /// One member.
    pub fn get_mut(&mut self, opening: &ActorId) -> Option<&mut Member> {
        self.members.get_mut(opening)
    }

    /// All of them, by opening.
    pub fn iter(&self) -> impl Iterator<Item = (&ActorId, &Member)> {
        self.members.iter()
    }

    /// The openings with a live link.
    pub fn linked(&self) -> impl Iterator<Item = ActorId> + '_ {
        self.members.iter().filter(|(_, member)| member.link.is_some()).map(|(&id, _)| id)
    }

    /// What every member has on its disk; `None` if there is no member.
    #[must_use]
    pub fn durable_everywhere(&self) -> Option<VersionVector> {
        let mut members = self.members.values();
        let first = members.next()?.durable.clone();
        Some(members.fold(first, |all, member| all.meet(&member.durable)))
    }
}
