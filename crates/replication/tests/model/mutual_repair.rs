//! Two replicas, each half repaired by a third that is gone.
//!
//! One range of two keys, each an interval. The third had everything; `A` has
//! its state of the first key, `B` of the second, and each lacks the other half.
//! Neither has a log of it. Each pulls parts from a snapshot of the other, while
//! both write and their logs hand units on wherever the base is covered. A third
//! replica, if it takes part, has neither half and pulls from `A`.

use stateright::{Model, Property};

/// A set of dots, one bit each; join is `|`, meet `&`, "covers" is "contains".
type Dots = u8;

const KEYS: usize = 2;
/// The history: one write that both had, one that replaced it under both keys.
const FIRST: Dots = 0b01;
const SECOND: Dots = 0b10;
const HISTORY: Dots = FIRST | SECOND;
const DOTS: usize = 8;

/// A removed entry stays removed wherever its removal was applied.
pub(crate) const NOTHING_COMES_BACK: &str = "nothing removed comes back";
/// What a context covers is here, unless some removal took it.
pub(crate) const NOTHING_IS_LOST: &str = "nothing is lost";
/// A removal never overtakes what it removes.
pub(crate) const REMOVAL_FOLLOWS: &str = "a removal follows what it removes";
/// However the run went, both end equal, with all that either had.
pub(crate) const ENDS_EQUAL: &str = "a fair run ends equal";

/// What a part that a half repaired replica serves says to have seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// The right rule: what was seen in the part's own interval.
    Interval,
    /// All that was seen anywhere.
    Join,
    /// What was seen everywhere.
    Minimum,
    /// What was seen everywhere, and entries beyond it are left out.
    MinimumAlone,
    /// It serves nothing.
    Nothing,
}

/// When the puller's log takes notice of what a part's source had seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logged {
    /// The right rule: before each part that brings news.
    EachPart,
    /// Before the first part, with what that says.
    FirstPart,
    /// Before the first part, with what the source says to have seen everywhere.
    SourceMinimum,
}

/// How the puller reckons what it has seen everywhere once all parts are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Completed {
    /// The right rule: what was seen in every interval.
    MinimumOfIntervals,
    /// All that any part said.
    JoinOfParts,
}

/// The rule of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MutualRepair {
    pub(crate) served: Served,
    pub(crate) logged: Logged,
    pub(crate) completed: Completed,
    /// Units that each replica may issue, and repairs that it may begin: of `A`,
    /// `B` and, if it takes part, of the third.
    pub(crate) budgets: &'static [(u8, u8)],
}

/// One write as it travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Unit {
    adds: u8,
    removes: [Dots; KEYS],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Replica {
    live: [Dots; KEYS],
    context: [Dots; KEYS],
    /// Units in the log, each with the log's vector before it.
    log: Vec<(usize, Dots)>,
    log_vector: Dots,
    writes: u8,
    sessions: u8,
    session: Option<Session>,
}

/// A snapshot that is pulled, and which keys were.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Session {
    live: [Dots; KEYS],
    context: [Dots; KEYS],
    done: u8,
    joined: Dots,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    units: [Unit; DOTS],
    replicas: Vec<Replica>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Replaces what is seen under these keys.
    Put { at: usize, keys: u8 },
    /// Removes what is seen under one key.
    Delete { at: usize, key: usize },
    /// A log hands a unit on.
    Deliver { dot: usize, from: usize, to: usize },
    /// A snapshot of the other is taken; the one before is given up.
    Begin { at: usize },
    /// One part is merged.
    Merge { at: usize, key: usize },
}

const fn covers(vector: Dots, other: Dots) -> bool {
    other & !vector == 0
}

/// Whom a replica pulls from.
const fn source_of(at: usize) -> usize {
    if at == 0 { 1 } else { 0 }
}

impl Replica {
    /// A replica that has all of the history under the keys of `whole`.
    fn new(whole: [bool; KEYS], (writes, sessions): (u8, u8)) -> Self {
        let live = whole.map(|whole| if whole { SECOND } else { FIRST });
        let context = whole.map(|whole| if whole { HISTORY } else { FIRST });
        let log_vector = context[0] | context[1];
        Self { live, context, log: Vec::new(), log_vector, writes, sessions, session: None }
    }

    fn vector(&self) -> Dots {
        self.context[0] & self.context[1]
    }

    fn apply(&mut self, index: usize, unit: Unit) {
        let bit = 1 << index;
        self.log.push((index, self.log_vector));
        self.log_vector |= bit;
        for key in 0..KEYS {
            if self.context[key] & bit == 0 {
                self.live[key] &= !unit.removes[key];
                self.live[key] |= (unit.adds >> key & 1) * bit;
            }
            self.context[key] |= bit;
        }
    }
}

impl MutualRepair {
    fn write(state: &mut State, at: usize, unit: Unit) -> Option<()> {
        let replica = &mut state.replicas[at];
        let index = 2 + 2 * at + usize::from(2 - replica.writes.min(2));
        replica.writes = replica.writes.checked_sub(1)?;
        state.units[index] = unit;
        replica.apply(index, unit);
        Some(())
    }

    fn deliver(state: &mut State, index: usize, (from, to): (usize, usize)) -> Option<()> {
        let base = state.replicas[from].log.iter().find(|(logged, _)| *logged == index)?.1;
        let vector = state.replicas[to].vector();
        if vector >> index & 1 == 1 || !covers(vector, base) {
            return None;
        }
        let unit = state.units[index];
        state.replicas[to].apply(index, unit);
        Some(())
    }

    fn begin(self, state: &mut State, at: usize) -> Option<()> {
        let Replica { live, context, .. } = state.replicas[source_of(at)].clone();
        let whole = context[0] == context[1];
        if self.served == Served::Nothing && !whole {
            return None;
        }
        let minimum = context[0] & context[1];
        let replica = &mut state.replicas[at];
        replica.sessions = replica.sessions.checked_sub(1)?;
        if self.logged == Logged::SourceMinimum {
            replica.log_vector |= minimum;
        }
        replica.session = Some(Session { live, context, done: 0, joined: 0 });
        Some(())
    }

    fn merge(self, state: &mut State, at: usize, key: usize) -> Option<()> {
        let replica = &mut state.replicas[at];
        let mut session = replica.session.take()?;
        if session.done >> key & 1 == 1 {
            return None;
        }
        let minimum = session.context[0] & session.context[1];
        let vector = match self.served {
            Served::Interval => session.context[key],
            Served::Join => session.context[0] | session.context[1],
            Served::Minimum | Served::MinimumAlone | Served::Nothing => minimum,
        };
        let held = match self.served {
            Served::MinimumAlone => session.live[key] & minimum,
            _ => session.live[key],
        };
        if self.logged == Logged::EachPart
            || (self.logged == Logged::FirstPart && session.done == 0)
        {
            replica.log_vector |= vector;
        }
        let own = replica.context[key];
        replica.live[key] = (replica.live[key] & (held | !vector)) | (held & !own);
        replica.context[key] |= vector;
        session.done |= 1 << key;
        session.joined |= vector;
        if session.done == 0b11 {
            if self.completed == Completed::JoinOfParts {
                replica.context.iter_mut().for_each(|context| *context |= session.joined);
            }
        } else {
            replica.session = Some(session);
        }
        Some(())
    }

    fn every_unit(state: &State) -> impl Iterator<Item = (usize, &Unit)> {
        state.units.iter().enumerate().filter(|(_, unit)| **unit != Unit::default())
    }

    fn nothing_comes_back(state: &State) -> bool {
        Self::every_unit(state).all(|(index, unit)| {
            state.replicas.iter().all(|replica| {
                (0..KEYS).all(|key| {
                    replica.context[key] >> index & 1 == 0
                        || replica.live[key] & unit.removes[key] == 0
                })
            })
        })
    }

    fn nothing_is_lost(state: &State) -> bool {
        (0..KEYS).all(|key| {
            let (mut added, mut removed) = (0, 0);
            for (index, unit) in Self::every_unit(state) {
                added |= (unit.adds >> key & 1) << index;
                removed |= unit.removes[key];
            }
            state
                .replicas
                .iter()
                .all(|replica| covers(replica.live[key], replica.context[key] & added & !removed))
        })
    }

    fn removal_follows(state: &State) -> bool {
        Self::every_unit(state).all(|(index, unit)| {
            state.replicas.iter().all(|replica| {
                (0..KEYS).all(|key| {
                    replica.context[key] >> index & 1 == 0
                        || covers(replica.context[key], unit.removes[key])
                })
            })
        })
    }

    /// Nothing more is written, both are linked, and each repairs from the other
    /// as often as that helps.
    fn ends_equal(&self, state: &State) -> bool {
        let mut state = state.clone();
        for replica in &mut state.replicas {
            replica.session = None;
        }
        loop {
            let held = |state: &State| {
                let replicas = state.replicas.iter();
                replicas.map(|replica| (replica.live, replica.context)).collect::<Vec<_>>()
            };
            let before = held(&state);
            for (dot, link) in (0..DOTS).flat_map(|dot| self.links().map(move |link| (dot, link))) {
                let _ = Self::deliver(&mut state, dot, link);
            }
            for at in 0..self.budgets.len() {
                state.replicas[at].sessions = 1;
                if self.begin(&mut state, at).is_some() {
                    for key in 0..KEYS {
                        let _ = self.merge(&mut state, at, key);
                    }
                }
            }
            let after = held(&state);
            if after == before {
                let equal = after.iter().all(|one| *one == after[0]);
                return equal && covers(state.replicas[0].vector(), HISTORY);
            }
        }
    }

    fn links(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let replicas = self.budgets.len();
        let all = (0..replicas).flat_map(move |from| (0..replicas).map(move |to| (from, to)));
        all.filter(|(from, to)| from != to)
    }

    fn half_served(state: &State) -> bool {
        state.replicas.iter().any(|replica| {
            let session = replica.session.as_ref();
            session.is_some_and(|session| {
                session.context[0] != session.context[1] && session.done != 0
            })
        })
    }
}

impl Model for MutualRepair {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut units = [Unit::default(); DOTS];
        units[0] = Unit { adds: 0b11, removes: [0; KEYS] };
        units[1] = Unit { adds: 0b11, removes: [FIRST; KEYS] };
        let halves = [[true, false], [false, true], [false, false]];
        let replicas = halves.into_iter().zip(self.budgets);
        let replicas = replicas.map(|(whole, &budget)| Replica::new(whole, budget)).collect();
        vec![State { units, replicas }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for at in 0..self.budgets.len() {
            actions.extend((1..4).map(|keys| Action::Put { at, keys }));
            actions.extend((0..KEYS).map(|key| Action::Delete { at, key }));
            actions.push(Action::Begin { at });
            actions.extend((0..KEYS).map(|key| Action::Merge { at, key }));
        }
        for (dot, _) in Self::every_unit(state) {
            actions.extend(self.links().map(|(from, to)| Action::Deliver { dot, from, to }));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Put { at, keys } => {
                let mut unit = Unit { adds: keys, ..Unit::default() };
                for key in (0..KEYS).filter(|key| keys >> key & 1 == 1) {
                    unit.removes[key] = state.replicas[at].live[key];
                }
                Self::write(&mut state, at, unit)?;
            }
            Action::Delete { at, key } => {
                let mut unit = Unit::default();
                unit.removes[key] = state.replicas[at].live[key];
                if unit == Unit::default() {
                    return None;
                }
                Self::write(&mut state, at, unit)?;
            }
            Action::Deliver { dot, from, to } => Self::deliver(&mut state, dot, (from, to))?,
            Action::Begin { at } => self.begin(&mut state, at)?,
            Action::Merge { at, key } => self.merge(&mut state, at, key)?,
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(NOTHING_COMES_BACK, |_, state| Self::nothing_comes_back(state)),
            Property::always(NOTHING_IS_LOST, |_, state| Self::nothing_is_lost(state)),
            Property::always(REMOVAL_FOLLOWS, |_, state| Self::removal_follows(state)),
            Property::always(ENDS_EQUAL, Self::ends_equal),
            Property::sometimes("served by who is half repaired", |_, state| {
                Self::half_served(state)
            }),
        ]
    }
}
