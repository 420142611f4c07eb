//! What may never happen in a repair, and how each run must end.

use stateright::{Model, Property};

use super::{
    Action, DOTS, Dots, FIRST, Fate, KEYS, Keys, RECEIVER, Repair, Replica, SECOND, Session, State,
    Unit, covers, dot, own_dots,
};

/// Sender and receiver.
const LINKS: [(usize, usize); 6] = [
    (FIRST, SECOND),
    (FIRST, RECEIVER),
    (SECOND, FIRST),
    (SECOND, RECEIVER),
    (RECEIVER, FIRST),
    (RECEIVER, SECOND),
];

/// A removed entry stays removed wherever its removal was applied.
pub(crate) const NOTHING_COMES_BACK: &str = "nothing removed comes back";
/// What a context covers is here, unless some removal took it.
pub(crate) const NOTHING_IS_LOST: &str = "nothing is lost";
/// A removal never overtakes what it removes.
pub(crate) const REMOVAL_FOLLOWS: &str = "a removal follows what it removes";
/// However the run went, replicas that exchange everything become equal.
pub(crate) const ENDS_EQUAL: &str = "a fair run ends equal";

impl Repair {
    /// Everything that will happen if nothing more is written and every link
    /// and source is up for long enough.
    fn settle(&self, state: &State) -> State {
        let mut state = state.clone();
        state.session = None;
        self.exchange(&mut state);
        if state.first_is_lost {
            self.retire_first(&mut state);
            self.exchange(&mut state);
        }
        state
    }

    fn exchange(&self, state: &mut State) {
        loop {
            let before = state.replicas;
            for dot in 0..DOTS {
                for (from, to) in LINKS {
                    let _ = self.deliver(state, dot, from, to);
                }
            }
            for from in [FIRST, SECOND] {
                if self.start(state, from).is_some() {
                    self.merge_all_parts(state);
                }
            }
            if state.replicas == before {
                return;
            }
        }
    }

    fn merge_all_parts(&self, state: &mut State) {
        for key in 0..self.keys {
            let session = state.session.clone();
            if self.merge_part(state, key).is_none() {
                state.session = session;
            }
        }
        state.session = None;
    }

    /// The receiver settles what it has of the lost actor; then the second
    /// source is repaired from it, which is complete again.
    fn retire_first(&self, state: &mut State) {
        let of_first = own_dots(FIRST);
        let receiver = &mut state.replicas[RECEIVER];
        let complete = receiver.vector(self.keys) & of_first;
        match self.fate {
            Fate::Stays | Fate::NothingDone => return,
            Fate::RaisedToSeen => {
                let seen = state.log_vector & of_first;
                receiver.context[..self.keys].iter_mut().for_each(|context| *context |= seen);
            }
            Fate::LoweredToComplete => {
                let unfinished = of_first & !complete;
                for key in 0..self.keys {
                    receiver.live[key] &= !unfinished;
                    receiver.context[key] &= !unfinished;
                }
                state.log_vector &= !unfinished;
                state.log.iter_mut().for_each(|(_, base)| *base &= !unfinished);
            }
        }
        let snapshot = state.replicas[RECEIVER];
        let vector = snapshot.vector(self.keys);
        let session = Session { snapshot, vector, done: 0 };
        let second = &mut state.replicas[SECOND];
        for key in 0..self.keys {
            second.join_part(key, &session, !second.context[key]);
            second.context[key] |= vector;
        }
    }

    fn nothing_comes_back(&self, state: &State) -> bool {
        Self::every_unit(state).all(|(index, unit)| {
            state.replicas.iter().all(|replica| {
                (0..self.keys).all(|key| {
                    replica.context[key] >> index & 1 == 0
                        || replica.live[key] & unit.removes[key] == 0
                })
            })
        })
    }

    fn nothing_is_lost(&self, state: &State) -> bool {
        (0..self.keys).all(|key| {
            let mut removed = 0;
            let mut added = 0;
            for (index, unit) in Self::every_unit(state) {
                removed |= unit.removes[key];
                added |= Dots::from(unit.adds >> key & 1) << index;
            }
            let expected = |replica: &Replica| replica.context[key] & added & !removed;
            state.replicas.iter().all(|replica| covers(replica.live[key], expected(replica)))
        })
    }

    fn removal_follows_what_it_removes(&self, state: &State) -> bool {
        Self::every_unit(state).all(|(index, unit)| {
            state.replicas.iter().all(|replica| {
                (0..self.keys).filter(|key| unit.touches(*key)).all(|key| {
                    replica.context[key] >> index & 1 == 0
                        || covers(replica.context[key], unit.removes[key])
                })
            })
        })
    }

    fn ends_equal(&self, state: &State) -> bool {
        let end = self.settle(state);
        let [first, second, receiver] = end.replicas;
        let equal = second == receiver && (state.first_is_lost || first == second);
        equal && self.every_absence_is_explained(&end)
    }

    /// What the receiver covers and does not hold was removed by a unit that it
    /// covers too. (Under repair a removal may be ahead of its unit.)
    fn every_absence_is_explained(&self, state: &State) -> bool {
        let receiver = &state.replicas[RECEIVER];
        (0..self.keys).all(|key| {
            let known =
                Self::every_unit(state).filter(|(dot, _)| receiver.context[key] >> dot & 1 == 1);
            let (mut added, mut removed) = (0, 0);
            for (dot, unit) in known {
                added |= Dots::from(unit.adds >> key & 1) << dot;
                removed |= unit.removes[key];
            }
            let raised = own_dots(FIRST) & if state.first_is_lost { Dots::MAX } else { 0 };
            covers(receiver.live[key] | raised, added & !removed)
        })
    }

    fn between_parts(&self, state: &State) -> bool {
        let receiver = &state.replicas[RECEIVER];
        let partial = receiver.vector(self.keys) != receiver.seen(self.keys);
        partial && state.session.is_some() && state.budget[RECEIVER] < self.budget[RECEIVER]
    }

    fn extending(&self, state: &State) -> bool {
        let receiver = &state.replicas[RECEIVER];
        state.session.as_ref().is_some_and(|session| {
            let credits =
                (0..self.keys).filter_map(|key| self.credit(receiver, key, session.vector));
            credits.into_iter().any(|credit| credit != session.vector)
        })
    }
}

impl Model for Repair {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut state = State {
            units: [Unit::default(); DOTS],
            replicas: [Replica::default(); 3],
            budget: self.budget,
            sessions: self.sessions,
            session: None,
            log: Vec::new(),
            log_vector: dot(FIRST, 1),
            first_is_lost: false,
        };
        let (first, second) = (dot(FIRST, 1), dot(FIRST, 2));
        let all: Keys = (1 << self.keys) - 1;
        let mut both = [0; KEYS];
        both[..self.keys].fill(first);
        state.units[0] = Unit { adds: all, ..Unit::default() };
        state.units[1] = Unit { adds: 1, removes: [first, 0, 0], base: first };
        state.replicas[RECEIVER] = Replica::at(first, both, self.keys);
        both[0] = second;
        state.replicas[FIRST] = Replica::at(first | second, both, self.keys);
        state.replicas[SECOND] = state.replicas[FIRST];
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for at in (0..3).filter(|at| state.budget[*at] > 0) {
            actions.extend(self.writes.iter().map(|write| Action::Write { at, write: *write }));
        }
        for (dot, _) in Self::every_unit(state) {
            actions.extend(LINKS.map(|(from, to)| Action::Deliver { dot, from, to }));
        }
        if state.sessions > 0 {
            actions.extend([FIRST, SECOND].map(|from| Action::StartRepair { from }));
        }
        if state.session.is_some() {
            actions.extend((0..self.keys).map(|key| Action::MergePart { key }));
        }
        if self.fate != Fate::Stays && !state.first_is_lost {
            actions.push(Action::LoseFirst);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Write { at, write } => self.write(&mut state, at, write)?,
            Action::Deliver { dot, from, to } => self.deliver(&mut state, dot, from, to)?,
            Action::StartRepair { from } => {
                state.sessions = state.sessions.checked_sub(1)?;
                self.start(&mut state, from)?;
            }
            Action::MergePart { key } => self.merge_part(&mut state, key)?,
            Action::LoseFirst => {
                state.first_is_lost = true;
                state.budget[FIRST] = 0;
                state.session = None;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(NOTHING_COMES_BACK, Self::nothing_comes_back),
            Property::always(NOTHING_IS_LOST, Self::nothing_is_lost),
            Property::always(REMOVAL_FOLLOWS, Self::removal_follows_what_it_removes),
            Property::always(ENDS_EQUAL, Self::ends_equal),
            Property::sometimes("between parts, with a local write made", Self::between_parts),
        ];
        if self.keys > self.list.0 {
            properties.push(Property::sometimes("extending a neighbour", Self::extending));
        }
        properties
    }
}
