//! What stands under one entry's name, and when it survives a join.
//!
//! The one subtle place of the algebra. Three shapes serve every type:
//!
//! * *dots*: an existence, a set's element, an enabled flag. It is there while a
//!   dot is.
//! * *versions*: a register. Each concurrent value under the dot that wrote it.
//! * *cells*: one actor's part of a counter (see [`Cell`]).
//!
//! A **context** says which dots a state speaks about. Joining two states keeps
//! a dot that both hold, or that one holds and the other's context does not
//! cover; what one lacks although its context covers it was removed there.
//!
//! ```text
//! live = (a ∩ b) ∪ (a ∖ context b) ∪ (b ∖ context a)
//! ```
//!
//! Pure: no clock, no IO, no randomness.
//! Sources: Almeida, Shoker, Baquero, arXiv:1603.01529, section 7 (dot stores);
//! counters with removal: `docs/protocol.md`, "Counters".

use crate::mutant::{self, Mutant};
use crate::{ActorId, Dot, HybridTimestamp, VersionVector};

/// The state under one entry's name. Never empty: an entry without content is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Live dots, ascending.
    Dots(Vec<Dot>),
    /// A register's live versions, ascending by dot.
    Versions(Vec<Version>),
    /// One actor's counter cells, ascending by birth, dead ones with their floor.
    Cells(Vec<Cell>),
}

/// One write of a register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The write.
    pub dot: Dot,
    /// Orders concurrent writes for readers, with the actor as tie-break.
    pub stamp: HybridTimestamp,
    /// From this wall time on (milliseconds since 1970) the value is expired.
    pub deadline_ms: Option<u64>,
    /// The media type the value was written with.
    pub content_type: Box<str>,
    /// The value.
    pub bytes: Box<[u8]>,
}

/// What was added to and taken from a counter, cumulative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Amounts {
    /// Sum of all increments.
    pub up: u64,
    /// Sum of all decrements.
    pub down: u64,
}

/// One cell of a counter, named by its actor (in the entry's key) and its birth.
///
/// Only its owner raises the amounts, while any of them is above the floor; once
/// all is removed, the owner's next increment opens a cell with a new birth. A
/// removal records what it saw as the floor, joined by maximum and never folded
/// into the amounts: an increment that the removal had not seen raises the same
/// amounts, and only what stands above the floor counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The owner's `n` at the first increment.
    pub birth: u64,
    /// The owner's `n` at the latest increment that is here.
    pub last: u64,
    /// What the owner had added up by `last`.
    pub amounts: Amounts,
    /// What removals have seen of it.
    pub floor: Amounts,
}

impl Amounts {
    /// Pointwise maximum.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { up: self.up.max(other.up), down: self.down.max(other.down) }
    }

    /// Whether nothing here is above `other`.
    #[must_use]
    pub fn is_within(self, other: Self) -> bool {
        self.up <= other.up && self.down <= other.down
    }
}

impl Cell {
    /// Whether some of its amounts are above the floor.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !self.amounts.is_within(self.floor)
    }

    /// What the cell adds to the counter's value: amounts above the floor.
    #[must_use]
    pub fn value(&self) -> i128 {
        let above = |amount: u64, floor: u64| i128::from(amount.saturating_sub(floor));
        above(self.amounts.up, self.floor.up) - above(self.amounts.down, self.floor.down)
    }

    fn join(&mut self, other: &Self) {
        self.last = self.last.max(other.last);
        self.amounts = self.amounts.max(other.amounts);
        self.floor = self.floor.max(other.floor);
    }
}

impl Version {
    /// Whether a reader whose clock shows `now_ms` finds the value expired.
    #[must_use]
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.deadline_ms.is_some_and(|deadline| deadline <= now_ms)
    }
}

/// The version readers get: the greatest by (stamp, actor).
#[must_use]
pub fn picked(versions: &[Version]) -> Option<&Version> {
    versions.iter().max_by_key(|version| (version.stamp, version.dot.actor, version.dot.n))
}

impl Entry {
    /// Whether anything under this name is visible: a dot, a version, a live cell.
    #[must_use]
    pub fn is_live(&self) -> bool {
        match self {
            Self::Dots(dots) => !dots.is_empty(),
            Self::Versions(versions) => !versions.is_empty(),
            Self::Cells(cells) => cells.iter().any(Cell::is_live),
        }
    }

    /// The dots that a removal of this entry has to name; for cells, the latest
    /// increment of each live one, `owner` being the actor in the entry's key.
    #[must_use]
    pub fn live_dots(&self, owner: Option<ActorId>) -> Vec<Dot> {
        match (self, owner) {
            (Self::Dots(dots), _) => dots.clone(),
            (Self::Versions(versions), _) => versions.iter().map(|version| version.dot).collect(),
            (Self::Cells(cells), Some(owner)) => {
                let live = cells.iter().filter(|cell| cell.is_live());
                live.map(|cell| Dot::new(owner, cell.last)).collect()
            }
            (Self::Cells(_), None) => Vec::new(),
        }
    }

    /// Joins two states of one entry, each with the context it is judged by.
    ///
    /// `owner` is the actor in the entry's key if it holds cells. Absent where
    /// nothing survives. Two shapes under one name can only come from a damaged
    /// peer; the first is kept, so that nothing is lost here.
    #[must_use]
    pub fn join(
        owner: Option<ActorId>,
        (ours, our_context): (Option<&Self>, &VersionVector),
        (theirs, their_context): (Option<&Self>, &VersionVector),
    ) -> Option<Self> {
        let joined = match (ours, theirs) {
            (Some(Self::Dots(ours)), None) => Self::Dots(survivors(ours, their_context)),
            (None, Some(Self::Dots(theirs))) => Self::Dots(survivors(theirs, our_context)),
            (Some(Self::Dots(ours)), Some(Self::Dots(theirs))) => {
                Self::Dots(join_by_dot((ours, our_context), (theirs, their_context)))
            }
            (Some(Self::Versions(ours)), None) => Self::Versions(survivors(ours, their_context)),
            (None, Some(Self::Versions(theirs))) => Self::Versions(survivors(theirs, our_context)),
            (Some(Self::Versions(ours)), Some(Self::Versions(theirs))) => {
                Self::Versions(join_by_dot((ours, our_context), (theirs, their_context)))
            }
            (Some(Self::Cells(ours)), None) => {
                Self::Cells(join_cells(owner?, (ours, our_context), (&[], their_context)))
            }
            (None, Some(Self::Cells(theirs))) => {
                Self::Cells(join_cells(owner?, (&[], our_context), (theirs, their_context)))
            }
            (Some(Self::Cells(ours)), Some(Self::Cells(theirs))) => {
                Self::Cells(join_cells(owner?, (ours, our_context), (theirs, their_context)))
            }
            (None, None) => return None,
            (Some(ours), Some(_)) => ours.clone(),
        };
        joined.non_empty()
    }

    /// `None` if nothing stands here any more.
    pub(crate) fn non_empty(mut self) -> Option<Self> {
        if let (Self::Versions(versions), true) =
            (&mut self, mutant::is(Mutant::LosingValueDropped))
        {
            let kept = picked(versions).cloned();
            versions.retain(|version| kept.as_ref() == Some(version));
        }
        let empty = match &self {
            Self::Dots(dots) => dots.is_empty(),
            Self::Versions(versions) => versions.is_empty(),
            Self::Cells(cells) => cells.is_empty(),
        };
        (!empty).then_some(self)
    }
}

/// Something that stands under a dot of its own.
pub(crate) trait Dotted: Clone {
    fn dot(&self) -> Dot;
}

impl Dotted for Dot {
    fn dot(&self) -> Dot {
        *self
    }
}

impl Dotted for Version {
    fn dot(&self) -> Dot {
        self.dot
    }
}

fn survivors<T: Dotted>(here: &[T], other_context: &VersionVector) -> Vec<T> {
    here.iter().filter(|item| !other_context.covers(&item.dot())).cloned().collect()
}

/// Merge of two ascending runs under the survival rule.
fn join_by_dot<T: Dotted>(
    (ours, our_context): (&[T], &VersionVector),
    (theirs, their_context): (&[T], &VersionVector),
) -> Vec<T> {
    let holds = |side: &[T], dot: Dot| side.binary_search_by_key(&dot, Dotted::dot).is_ok();
    let kept_ours =
        ours.iter().filter(|item| holds(theirs, item.dot()) || !their_context.covers(&item.dot()));
    let new_theirs =
        theirs.iter().filter(|item| !holds(ours, item.dot()) && !our_context.covers(&item.dot()));
    let mut joined: Vec<T> = kept_ours.chain(new_theirs).cloned().collect();
    joined.sort_by_key(Dotted::dot);
    joined
}

/// Cells of both sides by birth. A cell that one side lacks although its context
/// covers the cell's latest increment was removed there, and its floor dropped
/// because the owner can raise it no more.
fn join_cells(
    owner: ActorId,
    (ours, our_context): (&[Cell], &VersionVector),
    (theirs, their_context): (&[Cell], &VersionVector),
) -> Vec<Cell> {
    let dropped =
        |cell: &Cell, context: &VersionVector| context.covers(&Dot::new(owner, cell.last));
    let mut joined = Vec::with_capacity(ours.len().max(theirs.len()));
    for ours in ours {
        match theirs.iter().find(|theirs| theirs.birth == ours.birth) {
            Some(theirs) => {
                let mut cell = *ours;
                cell.join(theirs);
                joined.push(cell);
            }
            None if dropped(ours, their_context) => {}
            None => joined.push(*ours),
        }
    }
    for theirs in theirs {
        let known = ours.iter().any(|ours| ours.birth == theirs.birth);
        if !known && !dropped(theirs, our_context) {
            joined.push(*theirs);
        }
    }
    joined.sort_by_key(|cell| cell.birth);
    joined
}

#[cfg(test)]
mod tests;
