//! Who the other members of a group are: openings of stores that were heard,
//! here or by somebody who told of them.
//!
//! A silent opening stays a member, so that the log is kept for it, until a later
//! opening of its store is known, or nobody heard of it for long. Addresses are
//! no part of this: who was never heard by anyone is no member, and nobody is
//! dialled because of what is told here.
//!
//! What is told of a member is news if its report number is higher than the one
//! known; only the member itself counts its reports. So a report passes each
//! replica once, and one that went round a ring keeps nobody alive. What is
//! forgotten stays so: a member is told of only during the first half of the time
//! after which it is forgotten, and an opening is not taken up again from others
//! once a later one of its store is known. (Copies of a disk are openings of one
//! store side by side. The earlier is a member where it has a link.)
//!
//! An opening only ever sees more (who lost an unsynced tail comes as another
//! opening), so vectors that are told of one are joined, in whatever order and
//! in whatever pieces they come. With a linked member only its own word counts.
//!
//! Pure: no clock, no IO, no randomness.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use coppice_crdt::mutant::{self, Mutant};
use coppice_crdt::{ActorId, VersionVector};

use crate::effect::LinkId;
use crate::message::{Hello, MemberReport};

/// Openings that are only told of: at most so many are kept.
const MAX_TOLD_OF: usize = 1_024;

/// One opening of another store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The store.
    pub store: [u8; 16],
    /// How often the store had been opened.
    pub opening_number: u64,
    /// The replica's name, for people.
    pub name: Arc<str>,
    /// What it has seen at least: its last report, or what is told of that.
    pub seen: VersionVector,
    /// What it has on its disk at least.
    pub durable: VersionVector,
    /// The number of its last report known here.
    pub report: u64,
    /// Whether it ever said hello here; else it is only told of.
    pub said_hello: bool,
    /// The link to it, if one is up.
    pub link: Option<LinkId>,
    /// When it was last heard, here or by who tells of it, in milliseconds of the
    /// owner's steady clock; below 0 if that was before the clock began.
    pub heard_ms: i64,
    /// Its wall time ahead of ours when last heard here, in milliseconds.
    pub skew_ms: i64,
}

impl Member {
    /// For how long nobody heard it, at `now_ms` of the owner's steady clock.
    #[must_use]
    pub fn silent_ms(&self, now_ms: u64) -> u64 {
        let silent_ms = i128::from(now_ms) - i128::from(self.heard_ms);
        u64::try_from(silent_ms.max(0)).unwrap_or(u64::MAX)
    }
}

/// A time of the owner's steady clock as one that may be before its beginning.
pub(crate) fn steady(now_ms: u64) -> i64 {
    i64::try_from(now_ms).unwrap_or(i64::MAX)
}

/// The other members of a group, by opening.
#[derive(Clone, Debug)]
pub struct Membership {
    members: BTreeMap<ActorId, Member>,
    /// This replica's own store, and how often it had been opened.
    own_store: ([u8; 16], u64),
    forget_ms: u64,
}

impl Membership {
    /// Nobody but an opening of `own_store`, the `own_number`th. Who was silent for
    /// `forget_ms` will be forgotten.
    #[must_use]
    pub const fn new(own_store: [u8; 16], own_number: u64, forget_ms: u64) -> Self {
        Self { members: BTreeMap::new(), own_store: (own_store, own_number), forget_ms }
    }

    /// Takes another time after which silent members are forgotten.
    pub const fn set_forget_ms(&mut self, forget_ms: u64) {
        self.forget_ms = forget_ms;
    }

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

    fn is_superseded(&self, store: &[u8; 16], number: u64) -> bool {
        let (own_store, own_number) = &self.own_store;
        let later = |member: &Member| member.store == *store && member.opening_number > number;
        (own_store == store && *own_number > number) || self.members.values().any(later)
    }

    /// What a Hello says of its sender: that replaces all that was known of its
    /// store, for what was not on disk is gone if it crashed.
    pub(crate) fn reported(&self, mut hello: Hello) -> Hello {
        if mutant::is(Mutant::PeerVectorJoined) {
            for known in self.members.values().filter(|known| known.store == hello.store) {
                hello.vector.join(&known.seen);
                hello.durable.join(&known.durable);
            }
        }
        hello
    }

    /// Takes notice that a link is down.
    pub fn disconnected(&mut self, link: LinkId) {
        for member in self.members.values_mut() {
            if member.link == Some(link) {
                member.link = None;
            }
        }
    }

    /// Takes what a peer tells of a member.
    pub fn told(&mut self, told: &MemberReport, now_ms: u64) {
        let heard_ms = steady(now_ms).saturating_sub(steady(told.age_ms));
        if let Some(member) = self.members.get_mut(&told.opening) {
            if member.link.is_some() {
                return;
            }
            if told.report > member.report {
                member.report = told.report;
                member.heard_ms = member.heard_ms.max(heard_ms);
            }
            member.durable.join(&told.durable);
            member.seen.join(&told.durable);
            member.seen.raise(told.opening, told.issued);
            return;
        }
        let only_told_of = self.members.values().filter(|member| !member.said_hello).count();
        let refused = told.age_ms >= self.forget_ms / 2
            || only_told_of >= MAX_TOLD_OF
            || self.is_superseded(&told.store, told.opening_number);
        if refused {
            return;
        }
        let mut seen = told.durable.clone();
        seen.raise(told.opening, told.issued);
        let member = Member {
            store: told.store,
            opening_number: told.opening_number,
            name: Arc::clone(&told.name),
            seen,
            durable: told.durable.clone(),
            report: told.report,
            said_hello: false,
            link: None,
            heard_ms,
            skew_ms: 0,
        };
        // One with the same number is of a copy of the disk.
        self.members.retain(|_, known| {
            known.store != member.store
                || known.link.is_some()
                || known.opening_number >= member.opening_number
        });
        self.members.insert(told.opening, member);
    }

    /// Forgets members without a link that were silent for too long.
    pub fn forget_silent(&mut self, now_ms: u64) {
        let forget_ms = self.forget_ms;
        self.members
            .retain(|_, member| member.link.is_some() || member.silent_ms(now_ms) < forget_ms);
    }

    /// The members that others are to be told of, from behind `after` on and then
    /// from the start.
    pub fn to_tell(
        &self,
        after: Option<ActorId>,
        now_ms: u64,
    ) -> impl Iterator<Item = (&ActorId, &Member)> {
        let before = after.map(|after| self.members.range(..=after));
        let all = self.behind(after).chain(before.into_iter().flatten());
        all.filter(move |(_, member)| {
            member.link.is_some() || member.silent_ms(now_ms) < self.forget_ms / 2
        })
    }

    /// One member.
    pub fn get_mut(&mut self, opening: &ActorId) -> Option<&mut Member> {
        self.members.get_mut(opening)
    }

    /// One member.
    #[must_use]
    pub fn get(&self, opening: &ActorId) -> Option<&Member> {
        self.members.get(opening)
    }

    /// All of them, by opening.
    pub fn iter(&self) -> impl Iterator<Item = (&ActorId, &Member)> {
        self.members.iter()
    }

    /// Those behind `after`, by opening.
    pub(crate) fn behind(
        &self,
        after: Option<ActorId>,
    ) -> impl Iterator<Item = (&ActorId, &Member)> {
        self.members.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded))
    }

    /// The openings with a live link.
    pub fn linked(&self) -> impl Iterator<Item = ActorId> + '_ {
        self.members.iter().filter(|(_, member)| member.link.is_some()).map(|(&id, _)| id)
    }

    /// What every member has on its disk; `None` if there is no member.
    ///
    /// Members that are only told of count too: a relay that serves one may be
    /// gone tomorrow, and who then comes here is to find what it lacks. (If it was
    /// away for too long, the log's caps have decided.)
    #[must_use]
    pub fn durable_everywhere(&self) -> Option<VersionVector> {
        let mut members = self.members.values();
        let first = members.next()?.durable.clone();
        Some(members.fold(first, |all, member| all.meet(&member.durable)))
    }
}

#[cfg(test)]
mod tests;
