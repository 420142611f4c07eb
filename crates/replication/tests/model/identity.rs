//! One store whose disk is lost in part, copied or put back, and a peer.
//!
//! A write has a payload of its own, so that two writes under one dot show.

use stateright::{Model, Property};

/// Which actor writes after an opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The right one: a new actor at the first write after each opening.
    NewActor,
    /// The stored actor goes on from the stored counter.
    StoredActor,
    /// The stored actor goes on, unless a peer that was asked before the first
    /// write knows more of it than the store does.
    StoredUnlessPeerKnowsMore,
}

/// What may happen to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process ends and what was not synced is lost.
    LostTail,
    /// An older copy of the disk is put back.
    RolledBack,
    /// A second store is opened on a copy of the disk.
    Cloned,
}

/// The bounds and the rule of one run.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The rule under test.
    pub(crate) rule: Rule,
    /// The faults that may happen.
    pub(crate) faults: &'static [Fault],
    /// How many writes there are in all.
    pub(crate) writes: u8,
    /// How often a store may be opened in all, copies included.
    pub(crate) openings: usize,
}

/// One write: its dot, and which it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Unit {
    actor: u8,
    n: u8,
    payload: u8,
}

/// What a disk holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Disk {
    actor: u8,
    units: Vec<Unit>,
}

/// One opened store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Store {
    now: Disk,
    synced: Disk,
    /// A copy that may be put back, or opened beside this one.
    copy: Option<Disk>,
    wrote_since_opening: bool,
    /// A peer was heard, before the first write, that knows more of the stored
    /// actor than this store does.
    found_behind: bool,
}

/// The stores (a clone makes a second), a peer's units, and what was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    stores: Vec<Store>,
    peer: Vec<Unit>,
    /// What is in some memory or on some disk, or was once: by payload.
    written: Vec<Unit>,
    openings: usize,
    actors: u8,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A store takes a write.
    Write { store: usize },
    /// What is committed is on disk.
    Sync { store: usize },
    /// The disk is copied.
    Copy { store: usize },
    /// Something happens to the disk, and the store is opened again.
    Reopen { store: usize, fault: Fault },
    /// Store and peer exchange what the other's vector does not cover.
    Exchange { store: usize },
}

/// The highest n of `actor`, as a version vector says it.
fn highest(units: &[Unit], actor: u8) -> u8 {
    let of_actor = units.iter().filter(|unit| unit.actor == actor);
    of_actor.map(|unit| unit.n).max().unwrap_or(0)
}

/// Adds what `there` has and the vector of `here` does not cover.
fn pull(here: &mut Vec<Unit>, there: &[Unit]) {
    let vector = here.clone();
    here.extend(there.iter().filter(|unit| unit.n > highest(&vector, unit.actor)));
    here.sort_by_key(|unit| (unit.actor, unit.n, unit.payload));
}

impl Identity {
    fn write(&self, state: &mut State, index: usize) {
        let store = &mut state.stores[index];
        let first = !store.wrote_since_opening;
        let mint = match self.rule {
            Rule::NewActor => first,
            Rule::StoredActor => store.now.actor == 0,
            Rule::StoredUnlessPeerKnowsMore => {
                store.now.actor == 0 || (first && store.found_behind)
            }
        };
        if mint {
            state.actors += 1;
            store.now.actor = state.actors;
        }
        store.wrote_since_opening = true;
        let n = highest(&store.now.units, store.now.actor) + 1;
        let payload = u8::try_from(state.written.len()).expect("a model writes a few times");
        let unit = Unit { actor: store.now.actor, n, payload };
        state.written.push(unit);
        store.now.units.push(unit);
        store.now.units.sort_by_key(|unit| (unit.actor, unit.n, unit.payload));
    }

    fn reopen(&self, state: &mut State, index: usize, fault: Fault) -> Option<()> {
        if state.openings == self.openings {
            return None;
        }
        state.openings += 1;
        let store = &mut state.stores[index];
        let disk = match fault {
            Fault::LostTail => store.synced.clone(),
            Fault::RolledBack | Fault::Cloned => store.copy.clone()?,
        };
        let opened = Store { now: disk.clone(), synced: disk, ..Store::default() };
        match fault {
            Fault::LostTail | Fault::RolledBack => {
                *store = Store { copy: store.copy.take(), ..opened };
            }
            Fault::Cloned => state.stores.push(opened),
        }
        Some(())
    }

    fn exchange(state: &mut State, index: usize) {
        let store = &mut state.stores[index];
        let sent = store.now.units.clone();
        let actor = store.now.actor;
        if !store.wrote_since_opening && highest(&state.peer, actor) > highest(&sent, actor) {
            store.found_behind = true;
        }
        pull(&mut store.now.units, &state.peer);
        pull(&mut state.peer, &sent);
    }
}

/// Two writes never have one dot.
pub(crate) const DOTS_ARE_UNIQUE: &str = "a dot names one write";
/// What the vectors of store and peer both cover, both have.
pub(crate) const NOTHING_IS_MASKED: &str = "what a vector covers is here";

impl Model for Identity {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            stores: vec![Store::default()],
            peer: Vec::new(),
            written: Vec::new(),
            openings: 1,
            actors: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for store in 0..state.stores.len() {
            if state.written.len() < usize::from(self.writes) {
                actions.push(Action::Write { store });
            }
            actions.extend([
                Action::Sync { store },
                Action::Copy { store },
                Action::Exchange { store },
            ]);
            actions.extend(self.faults.iter().map(|fault| Action::Reopen { store, fault: *fault }));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Write { store } => self.write(&mut state, store),
            Action::Sync { store } => {
                let store = &mut state.stores[store];
                store.synced = store.now.clone();
            }
            Action::Copy { store } => {
                let store = &mut state.stores[store];
                store.copy = Some(store.synced.clone());
            }
            Action::Reopen { store, fault } => self.reopen(&mut state, store, fault)?,
            Action::Exchange { store } => Self::exchange(&mut state, store),
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(DOTS_ARE_UNIQUE, |_, state: &State| {
                let written = &state.written;
                written.iter().all(|one| {
                    let same = |two: &&Unit| (one.actor, one.n) == (two.actor, two.n);
                    written.iter().filter(same).count() == 1
                })
            }),
            Property::always(NOTHING_IS_MASKED, |_, state: &State| {
                state.stores.iter().all(|store| {
                    let covered = |unit: &&Unit| unit.n <= highest(&state.peer, unit.actor);
                    store.now.units.iter().filter(covered).all(|unit| state.peer.contains(unit))
                })
            }),
            Property::sometimes(
                "written after a fault, with the peer ahead",
                |_, state: &State| {
                    state.openings > 1
                        && state.stores.iter().any(|store| {
                            store.wrote_since_opening && store.now.units.len() < state.peer.len()
                        })
                },
            ),
        ]
    }
}
