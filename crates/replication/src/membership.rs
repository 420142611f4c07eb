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

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: ActorId = ActorId::from_bytes([1; 16]);
    const BOB: ActorId = ActorId::from_bytes([2; 16]);
    const LATER: ActorId = ActorId::from_bytes([3; 16]);

    fn member(store: u8, opening_number: u64, link: u64) -> Member {
        Member {
            store: [store; 16],
            opening_number,
            name: "a".into(),
            seen: VersionVector::new(),
            durable: VersionVector::new(),
            link: Some(LinkId(link)),
            heard_ms: 0,
            skew_ms: 0,
        }
    }

    fn on_disk(n: u64) -> VersionVector {
        [(ANN, n)].into_iter().collect()
    }

    #[test]
    fn a_disconnected_opening_stays_until_a_later_one_of_its_store_connects() {
        let mut members = Membership::default();
        members.connected(ANN, member(1, 4, 1));
        members.disconnected(LinkId(1));
        members.connected(BOB, member(2, 9, 2));
        assert_eq!(members.iter().count(), 2, "the log is kept for Ann");
        members.connected(LATER, member(1, 5, 3));
        assert!(members.get_mut(&ANN).is_none());
        assert_eq!(members.linked().collect::<Vec<_>>(), [BOB, LATER]);
    }

    #[test]
    fn openings_of_a_clone_stay_side_by_side_while_they_are_linked() {
        let mut members = Membership::default();
        members.connected(ANN, member(1, 4, 1));
        members.connected(LATER, member(1, 5, 2));
        assert_eq!(members.linked().count(), 2);
    }

    #[test]
    fn a_link_that_was_replaced_does_not_disconnect_its_opening() {
        let mut members = Membership::default();
        members.connected(ANN, member(1, 4, 1));
        members.connected(ANN, member(1, 4, 2));
        members.disconnected(LinkId(1));
        assert_eq!(members.linked().collect::<Vec<_>>(), [ANN]);
    }

    #[test]
    fn the_log_is_kept_for_who_has_least_on_disk() {
        let mut members = Membership::default();
        assert_eq!(members.durable_everywhere(), None, "nobody is known to have anything");
        members.connected(ANN, Member { durable: on_disk(7), ..member(1, 1, 1) });
        members.connected(BOB, Member { durable: on_disk(3), ..member(2, 1, 2) });
        members.disconnected(LinkId(2));
        assert_eq!(members.durable_everywhere(), Some(on_disk(3)), "Bob may come back");
        members.connected(BOB, Member { durable: on_disk(1), ..member(2, 1, 3) });
        assert_eq!(members.durable_everywhere(), Some(on_disk(1)), "replaced, not joined");
    }
}
