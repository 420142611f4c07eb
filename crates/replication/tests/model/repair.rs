//! A receiver that repairs its state from two sources, in parts.
//!
//! One range with a few keys, each key an interval of its own. A key holds
//! entries, each named by the dot that wrote it; `Put` replaces the entries it
//! saw, `Delete` removes them. Transport is reduced to what the rules need: a
//! unit may arrive wherever its base is covered, in any order otherwise.

#[path = "repair/outcome.rs"]
mod outcome;

pub(crate) use outcome::{ENDS_EQUAL, NOTHING_COMES_BACK, NOTHING_IS_LOST, REMOVAL_FOLLOWS};

/// A set of dots, one bit each; a version vector is a set without gaps, so
/// join is `|`, meet is `&`, and "covers" is "contains".
pub(crate) type Dots = u16;
/// A set of keys, one bit each.
pub(crate) type Keys = u8;

/// The first source: at the start it has everything that was ever written.
pub(crate) const FIRST: usize = 0;
/// The second source, as the first.
pub(crate) const SECOND: usize = 1;
/// The replica that is behind.
pub(crate) const RECEIVER: usize = 2;

const DOTS_PER_ACTOR: usize = 3;
const DOTS: usize = 3 * DOTS_PER_ACTOR;
const KEYS: usize = 3;

/// What the receiver does differently from the right rule, if anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The right one: a part joins the source's vector to its interval alone,
    /// the base is the join over intervals, and the repair is in the log.
    Sound,
    /// The first part raises the context of every interval.
    WholeGroupAtFirstPart,
    /// What a part does not hold is taken for removed outside its interval too.
    AbsenceEverywhere,
    /// Entries of a part are judged by the group's vector (the minimum).
    JudgedByGroup,
    /// Frames carry the minimum over the intervals as their base.
    BaseIsMinimum,
    /// The base is what went through the log, which does not hold the repair.
    RepairNotLogged,
    /// A part's interval takes the source's vector instead of joining it.
    ContextReplaced,
    /// A new source starts with every interval at the group's vector.
    ContextsForgotten,
}

/// What is done when a part would make the interval list too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// Neighbours are merged, with the meet of their contexts.
    MergeByMeet,
    /// The right one: the part extends the interval before it and takes that
    /// interval's context, no more; entries beyond that context are left out,
    /// and only a source that covers it will do.
    ExtendNeighbour,
    /// As `ExtendNeighbour`, but entries beyond the context are merged too.
    ExtendWithAllEntries,
    /// As `ExtendNeighbour`, but from sources that do not cover the context.
    ExtendFromAnySource,
}

/// Whether the first source may vanish for good, and what is done then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It stays.
    Stays,
    /// It may vanish, and nothing is done about it.
    NothingDone,
    /// It may vanish, and is then retired: what any interval or base has seen
    /// of it becomes final, and every interval is raised to that.
    RaisedToSeen,
    /// It may vanish, and is then retired: what only a part of a range has seen
    /// of it is dropped.
    LoweredToComplete,
}

/// One write that a replica may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// Replaces what it sees under these keys: a batch when they are several.
    Put(Keys),
    /// Removes what it sees under one key.
    Delete(usize),
}

/// The bounds and the rule of one run.
#[derive(Clone, Debug)]
pub(crate) struct Repair {
    /// The rule under test.
    pub(crate) rule: Rule,
    /// How many intervals of different contexts a range's record may list.
    pub(crate) list: (usize, Full),
    /// Keys in use, 1 to 3.
    pub(crate) keys: usize,
    /// Writes that each replica may still make.
    pub(crate) budget: [u8; 3],
    /// Which writes there are.
    pub(crate) writes: &'static [Write],
    /// How often a repair may be started; a start gives up the one before.
    pub(crate) sessions: u8,
    /// What may become of the first source.
    pub(crate) fate: Fate,
}

/// One write as it travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Unit {
    adds: Keys,
    removes: [Dots; KEYS],
    base: Dots,
}

/// One replica's copy of the range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Replica {
    live: [Dots; KEYS],
    context: [Dots; KEYS],
}

/// A repair under way: what the source was at its snapshot, and what is merged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Session {
    snapshot: Replica,
    vector: Dots,
    done: Keys,
}

/// All replicas, and every unit ever issued.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    units: [Unit; DOTS],
    replicas: [Replica; 3],
    budget: [u8; 3],
    sessions: u8,
    session: Option<Session>,
    /// The receiver's arrival log: each unit with the vector of the log before.
    log: Vec<(usize, Dots)>,
    log_vector: Dots,
    first_is_lost: bool,
}

/// One step of one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A replica writes.
    Write { at: usize, write: Write },
    /// A log hands one unit on.
    Deliver { dot: usize, from: usize, to: usize },
    /// The receiver takes a snapshot of a source, and gives up the one it had.
    StartRepair { from: usize },
    /// The receiver merges one interval of the snapshot, in one commit.
    MergePart { key: usize },
    /// The first source vanishes with its disk.
    LoseFirst,
}

const fn dot(actor: usize, n: usize) -> Dots {
    1 << (actor * DOTS_PER_ACTOR + n - 1)
}

const fn own_dots(actor: usize) -> Dots {
    0b111 << (actor * DOTS_PER_ACTOR)
}

const fn covers(vector: Dots, other: Dots) -> bool {
    other & !vector == 0
}

/// What the sources' logs no longer hold: the two writes of the history.
const FLOOR: Dots = dot(FIRST, 1) | dot(FIRST, 2);

impl Unit {
    fn touches(&self, key: usize) -> bool {
        self.adds >> key & 1 == 1 || self.removes[key] != 0
    }
}

impl Replica {
    fn at(vector: Dots, live: [Dots; KEYS], keys: usize) -> Self {
        let mut context = [0; KEYS];
        context[..keys].fill(vector);
        Self { live, context }
    }

    /// The minimum over intervals: what the replica may say that it has.
    fn vector(&self, keys: usize) -> Dots {
        self.context[..keys].iter().fold(Dots::MAX, |all, context| all & context)
    }

    /// The join over intervals: all that a write made here may have seen.
    fn seen(&self, keys: usize) -> Dots {
        self.context[..keys].iter().fold(0, |all, context| all | context)
    }

    /// Applies a unit where the interval's context does not cover it.
    fn apply(&mut self, bit: Dots, unit: &Unit, keys: usize) {
        for key in 0..keys {
            if self.context[key] & bit == 0 {
                self.live[key] &= !unit.removes[key];
                if unit.adds >> key & 1 == 1 {
                    self.live[key] |= bit;
                }
            }
            self.context[key] |= bit;
        }
    }

    /// Joins one interval with a source's, of whose entries only `new` may enter.
    fn join_part(&mut self, key: usize, session: &Session, new: Dots) {
        let theirs = session.snapshot.live[key];
        let kept = self.live[key] & (theirs | !session.vector);
        self.live[key] = kept | (theirs & new);
    }
}

impl Repair {
    fn write(&self, state: &mut State, at: usize, write: Write) -> Option<()> {
        let vector = state.replicas[at].seen(self.keys);
        let bit = own_dots(at) & !vector;
        let bit = bit & bit.wrapping_neg();
        let replica = &state.replicas[at];
        let unit = match write {
            Write::Put(keys) if usize::from(keys) >> self.keys == 0 => {
                let mut unit = Unit { adds: keys, ..Unit::default() };
                for key in (0..self.keys).filter(|key| keys >> key & 1 == 1) {
                    unit.removes[key] = replica.live[key];
                }
                unit
            }
            Write::Delete(key) if key < self.keys && replica.live[key] != 0 => {
                let mut unit = Unit::default();
                unit.removes[key] = replica.live[key];
                unit
            }
            Write::Put(_) | Write::Delete(_) => return None,
        };
        let base = if at == RECEIVER { self.base(state) } else { vector };
        let index = usize::try_from(bit.trailing_zeros()).ok()?;
        state.units[index] = Unit { base, ..unit };
        state.budget[at] = state.budget[at].checked_sub(1)?;
        self.apply(state, at, index);
        Some(())
    }

    fn apply(&self, state: &mut State, at: usize, index: usize) {
        if at == RECEIVER {
            let base = self.base(state);
            state.log.push((index, base));
            state.log_vector |= 1 << index;
        }
        let unit = state.units[index];
        state.replicas[at].apply(1 << index, &unit, self.keys);
    }

    /// What the receiver's next frame says that it may have seen.
    fn base(&self, state: &State) -> Dots {
        match self.rule {
            Rule::BaseIsMinimum => state.replicas[RECEIVER].vector(self.keys),
            _ => state.log_vector,
        }
    }

    /// Hands a unit on if the log of `from` has it and `to` covers its base. The
    /// sources' logs stand for any log that is right: origin's bases, no order.
    fn deliver(&self, state: &mut State, index: usize, from: usize, to: usize) -> Option<()> {
        if state.first_is_lost && (from == FIRST || to == FIRST) {
            return None;
        }
        let vector = state.replicas[to].vector(self.keys);
        let bit = 1 << index;
        let base = if from == RECEIVER {
            state.log.iter().find(|(logged, _)| *logged == index)?.1
        } else {
            let trimmed = FLOOR & bit != 0 || !covers(vector, FLOOR);
            let known = state.replicas[from].vector(self.keys) & bit != 0;
            if trimmed || !known {
                return None;
            }
            state.units[index].base
        };
        if vector & bit != 0 || !covers(vector, base) {
            return None;
        }
        self.apply(state, to, index);
        Some(())
    }

    fn start(&self, state: &mut State, from: usize) -> Option<()> {
        let snapshot = state.replicas[from];
        let vector = snapshot.vector(self.keys);
        let lost = from == FIRST && state.first_is_lost;
        if lost || covers(state.replicas[RECEIVER].vector(self.keys), vector) {
            return None;
        }
        if self.rule != Rule::RepairNotLogged {
            state.log_vector |= vector;
        }
        let receiver = &mut state.replicas[RECEIVER];
        if self.rule == Rule::ContextsForgotten {
            let vector = receiver.vector(self.keys);
            receiver.context[..self.keys].fill(vector);
        }
        state.session = Some(Session { snapshot, vector, done: 0 });
        Some(())
    }

    /// Takes any interval that this snapshot has not given yet: a resumed repair
    /// may begin anywhere.
    fn merge_part(&self, state: &mut State, key: usize) -> Option<()> {
        let mut session = state.session.take()?;
        if session.done >> key & 1 == 1 {
            return None;
        }
        session.done |= 1 << key;
        let receiver = &mut state.replicas[RECEIVER];
        let own = receiver.context[key];
        let judge = match self.rule {
            Rule::JudgedByGroup => receiver.vector(self.keys),
            _ => own,
        };
        let credit = self.credit(receiver, key, session.vector)?;
        let accepted = match self.list.1 {
            Full::ExtendWithAllEntries => Dots::MAX,
            _ => credit,
        };
        receiver.join_part(key, &session, accepted & !judge);
        receiver.context[key] = own | credit;
        match self.rule {
            Rule::WholeGroupAtFirstPart => {
                for context in &mut receiver.context[..self.keys] {
                    *context |= session.vector;
                }
            }
            Rule::AbsenceEverywhere => {
                for other in (0..self.keys).filter(|other| session.done >> other & 1 == 0) {
                    receiver.live[other] &= !session.vector;
                }
            }
            Rule::ContextReplaced => {
                receiver.context[key] = session.vector | (own & own_dots(RECEIVER));
            }
            _ => {}
        }
        if self.list.1 == Full::MergeByMeet {
            self.shorten(receiver);
        }
        let all: Keys = (1 << self.keys) - 1;
        state.session = (session.done != all).then_some(session);
        Some(())
    }

    /// How far the source's vector may be credited to the interval at `key`:
    /// whole, or, where that would make the list too long, as far as the
    /// interval before it. None if this source cannot give even that.
    fn credit(&self, receiver: &Replica, key: usize, vector: Dots) -> Option<Dots> {
        let (limit, full) = self.list;
        let mut after = receiver.context;
        after[key] |= vector;
        if full == Full::MergeByMeet || self.intervals(after) <= limit {
            return Some(vector);
        }
        let neighbour = after[key.checked_sub(1)?];
        let here = receiver.context[key];
        let able = full == Full::ExtendFromAnySource || covers(vector, neighbour & !here);
        (covers(neighbour, here) && able).then_some(neighbour)
    }

    fn intervals(&self, contexts: [Dots; KEYS]) -> usize {
        1 + contexts[..self.keys].windows(2).filter(|pair| pair[0] != pair[1]).count()
    }

    /// What `MergeByMeet` does, from the front.
    fn shorten(&self, receiver: &mut Replica) {
        for key in 1..self.keys {
            if self.intervals(receiver.context) <= self.list.0 {
                return;
            }
            let meet = receiver.context[key - 1] & receiver.context[key];
            receiver.context[key - 1] = meet;
            receiver.context[key] = meet;
        }
    }

    fn every_unit(state: &State) -> impl Iterator<Item = (usize, &Unit)> {
        state.units.iter().enumerate().filter(|(_, unit)| **unit != Unit::default())
    }
}
