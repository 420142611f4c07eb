//! Three replicas that ship their arrival logs to each other in frames.
//!
//! One key. `Put` replaces the entries it saw, `Delete` removes them. A frame is
//! applied as it is sent or not at all: what is in flight longer is a frame that
//! is sent later from what the sender then believes about its peer.

use stateright::{Model, Property};

/// A set of dots, one bit each; a version vector is a set without gaps.
type Dots = u8;

const REPLICAS: usize = 3;
const DOTS_PER_ACTOR: usize = 2;
/// One actor for each replica, and one more for the replica that crashed.
const DOTS: usize = (REPLICAS + 1) * DOTS_PER_ACTOR;

/// What is done differently from the right rule, if anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The right one.
    Sound,
    /// A frame is applied if it continues each origin's dots.
    ConsecutiveDots,
    /// The base leaves out the units that were passed over.
    BaseWithoutPassedOver,
    /// A frame may go on behind a unit that is passed over, with one base.
    FrameAcrossPassedOver,
    /// A handshake joins the peer's vector with what was known of it.
    PeerVectorJoined,
    /// The log is trimmed at what the peers have in memory.
    TrimmedAtAcked,
    /// Of units that supersede each other a frame carries the last as it is.
    NewestOnly,
}

/// One write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Write {
    /// The entries that are seen are replaced by a new one.
    Put,
    /// The entries that are seen are removed.
    Delete,
}

/// The bounds and the rule of one run.
#[derive(Clone, Debug)]
pub(crate) struct Frames {
    /// The rule under test.
    pub(crate) rule: Rule,
    /// What each replica writes, in order.
    pub(crate) writes: [&'static [Write]; REPLICAS],
    /// The replica that may once lose what it has not synced; none if 3.
    pub(crate) crashing: usize,
    /// How often two replicas may connect again, which also tells what they have.
    pub(crate) handshakes: u8,
    /// How many entries of the log a frame may take.
    pub(crate) frame: usize,
    /// Whether logs are trimmed.
    pub(crate) trimming: bool,
}

/// What a set of units does, joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Delta {
    dots: Dots,
    adds: Dots,
    removes: Dots,
}

/// One entry of an arrival log: a unit, or a frame as it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Entry {
    delta: Delta,
    own: bool,
}

/// What one commit after the other makes of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Store {
    live: Dots,
    vector: Dots,
    log: Vec<Entry>,
    floor: Dots,
}

/// One replica: its state, what of it is on disk, what it knows of its peers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Replica {
    now: Store,
    synced: Store,
    peers: [Dots; REPLICAS],
    connected: [bool; REPLICAS],
    written: usize,
    actor: usize,
}

/// All replicas, and each unit ever issued with its origin's vector before it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    units: [(Delta, Dots); DOTS],
    replicas: [Replica; REPLICAS],
    handshakes: u8,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A replica makes its next write.
    Write { at: usize },
    /// What is committed is on disk.
    Sync { at: usize },
    /// What is not on disk is lost; the next write is by a new actor.
    Crash { at: usize },
    /// Two replicas connect and tell each other their vectors.
    Handshake { one: usize, two: usize },
    /// The log's entries `first..end` go out in one frame, without those that
    /// the peer has; relayed ones before `first` are passed over.
    Send { from: usize, to: usize, first: usize, end: usize },
    /// The oldest entry of the log is dropped.
    Trim { at: usize },
}

const fn covers(vector: Dots, other: Dots) -> bool {
    other & !vector == 0
}

impl Delta {
    fn join(self, later: Self) -> Self {
        let removes = self.removes | later.removes;
        Self { dots: self.dots | later.dots, adds: (self.adds | later.adds) & !removes, removes }
    }
}

impl Store {
    fn apply(&mut self, delta: Delta, own: bool) {
        self.live = (self.live & !delta.removes) | (delta.adds & !self.vector);
        self.vector |= delta.dots;
        self.log.push(Entry { delta, own });
    }

    /// The vector that this store had before entry `index` of its log.
    fn vector_before(&self, index: usize) -> Dots {
        self.log[..index].iter().fold(self.floor, |all, entry| all | entry.delta.dots)
    }
}

impl Frames {
    fn write(&self, state: &mut State, at: usize) -> Option<()> {
        let replica = &mut state.replicas[at];
        let write = *self.writes[at].get(replica.written)?;
        replica.written += 1;
        let own = 0b11 << (replica.actor * DOTS_PER_ACTOR);
        let free = own & !replica.now.vector;
        let dots = free & free.wrapping_neg();
        let removes = replica.now.live;
        let adds = match write {
            Write::Put => dots,
            Write::Delete if removes != 0 => 0,
            Write::Delete => return None,
        };
        let delta = Delta { dots, adds, removes };
        let index = usize::try_from(dots.trailing_zeros()).ok()?;
        state.units[index] = (delta, replica.now.vector);
        replica.now.apply(delta, true);
        Some(())
    }

    /// Builds a frame and hands it to the receiver, which takes it or not.
    fn send(
        &self,
        state: &mut State,
        (from, to): (usize, usize),
        (first, end): (usize, usize),
    ) -> Option<()> {
        let sender = &state.replicas[from];
        let known = sender.peers[to];
        let log = &sender.now.log;
        if !sender.connected[to] || end > log.len() || !covers(known, sender.now.floor) {
            return None;
        }
        let missing = |entry: &&Entry| !covers(known, entry.delta.dots);
        let passed_over: Vec<&Entry> = log[..first].iter().filter(missing).collect();
        let mut entries: Vec<Entry> = log[first..end].iter().filter(missing).copied().collect();
        if passed_over.iter().any(|entry| entry.own) || entries.is_empty() {
            return None;
        }
        if self.rule == Rule::FrameAcrossPassedOver {
            entries.retain(|entry| entry.own);
        }
        let frame =
            entries.iter().map(|entry| entry.delta).reduce(|frame, next| match self.rule {
                Rule::NewestOnly if covers(next.removes, frame.adds) => {
                    Delta { dots: frame.dots | next.dots, ..next }
                }
                _ => frame.join(next),
            })?;
        let base = match self.rule {
            Rule::BaseWithoutPassedOver => known & sender.now.vector_before(first),
            _ => sender.now.vector_before(first),
        };
        let receiver = &mut state.replicas[to];
        let accepted = match self.rule {
            Rule::ConsecutiveDots => is_gapless(receiver.now.vector | frame.dots),
            _ => covers(receiver.now.vector, base),
        };
        if !accepted {
            return None;
        }
        if !covers(receiver.now.vector, frame.dots) {
            receiver.now.apply(frame, false);
        }
        state.replicas[from].peers[to] |= frame.dots;
        Some(())
    }

    fn handshake(&self, state: &mut State, one: usize, two: usize) {
        for (at, peer) in [(one, two), (two, one)] {
            let told = state.replicas[peer].now.vector;
            let replica = &mut state.replicas[at];
            replica.connected[peer] = true;
            match self.rule {
                Rule::PeerVectorJoined => replica.peers[peer] |= told,
                _ => replica.peers[peer] = told,
            }
        }
    }

    fn crash(state: &mut State, at: usize) {
        let replica = &mut state.replicas[at];
        replica.now = replica.synced.clone();
        replica.peers = [0; REPLICAS];
        replica.connected = [false; REPLICAS];
        replica.actor = REPLICAS;
        for peer in &mut state.replicas {
            peer.connected[at] = false;
        }
    }

    fn trim(&self, state: &mut State, at: usize) -> Option<()> {
        let oldest = state.replicas[at].now.log.first()?.delta.dots;
        let safe = state.replicas.iter().all(|replica| match self.rule {
            Rule::TrimmedAtAcked => covers(replica.now.vector, oldest),
            _ => covers(replica.synced.vector, oldest),
        });
        let store = &mut state.replicas[at].now;
        safe.then(|| {
            store.floor |= oldest;
            store.log.remove(0);
        })
    }

    /// Everything that will happen if nothing more is written and every link is
    /// up for long enough.
    fn settle(&self, state: &State) -> State {
        let mut state = state.clone();
        loop {
            let before: Vec<Dots> =
                state.replicas.iter().map(|replica| replica.now.vector).collect();
            for (from, to) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
                self.handshake(&mut state, from, to);
                for first in 0..state.replicas[from].now.log.len() {
                    let _ = self.send(&mut state, (from, to), (first, first + 1));
                }
            }
            if state.replicas.iter().map(|replica| replica.now.vector).eq(before) {
                return state;
            }
        }
    }
}

fn is_gapless(dots: Dots) -> bool {
    let second_of_each = 0b1010_1010;
    covers(dots, (dots & second_of_each) >> 1)
}

/// What a unit's origin had seen is here before it.
fn is_causal(store: &Store, units: &[(Delta, Dots); DOTS]) -> bool {
    let here = units.iter().filter(|(delta, _)| delta.dots & store.vector != 0);
    here.into_iter().all(|(_, base)| covers(store.vector, *base))
}

/// A store holds what the units that its vector covers make, joined.
fn is_what_its_vector_says(store: &Store, units: &[(Delta, Dots); DOTS]) -> bool {
    let here = units.iter().filter(|(delta, _)| delta.dots & store.vector != 0);
    let joined = here.fold(Delta::default(), |all, (delta, _)| all.join(*delta));
    store.live == joined.adds
}

/// No unit is applied before what its origin had seen.
pub(crate) const NO_CAUSAL_GAP: &str = "no unit overtakes what its origin had seen";
/// A state is the join of the units under its vector: none is missing from it,
/// nothing removed is in it, and equal vectors mean equal state.
pub(crate) const STATE_IS_VECTOR: &str = "a state is what its vector says";
/// No member needs more than a log holds.
pub(crate) const LOG_REACHES_BACK: &str = "a log reaches back to every member";
/// However the run went, replicas that exchange everything become equal.
pub(crate) const ENDS_EQUAL: &str = "a fair run ends with equal vectors";

impl Model for Frames {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let replicas = [0, 1, 2].map(|at| Replica {
            actor: at,
            connected: [true; REPLICAS],
            ..Replica::default()
        });
        let units = [(Delta::default(), 0); DOTS];
        vec![State { units, replicas, handshakes: self.handshakes }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (at, replica) in state.replicas.iter().enumerate() {
            actions.push(Action::Write { at });
            if self.trimming {
                actions.push(Action::Trim { at });
            }
            if self.trimming || at == self.crashing {
                actions.push(Action::Sync { at });
            }
            if at == self.crashing && replica.actor == at {
                actions.push(Action::Crash { at });
            }
            let log = replica.now.log.len();
            for to in (0..REPLICAS).filter(|to| *to != at) {
                actions.extend((at < to).then_some(Action::Handshake { one: at, two: to }));
                for first in 0..log {
                    let ends = first + 1..=log.min(first + self.frame);
                    actions.extend(ends.map(|end| Action::Send { from: at, to, first, end }));
                }
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Write { at } => self.write(&mut state, at)?,
            Action::Sync { at } => state.replicas[at].synced = state.replicas[at].now.clone(),
            Action::Crash { at } => Self::crash(&mut state, at),
            Action::Handshake { one, two } => {
                state.handshakes = state.handshakes.checked_sub(1)?;
                self.handshake(&mut state, one, two);
            }
            Action::Send { from, to, first, end } => {
                self.send(&mut state, (from, to), (first, end))?;
            }
            Action::Trim { at } => self.trim(&mut state, at)?,
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(NO_CAUSAL_GAP, |_, state: &State| {
                state.replicas.iter().all(|replica| is_causal(&replica.now, &state.units))
            }),
            Property::always(STATE_IS_VECTOR, |_, state: &State| {
                let says = |replica: &Replica| is_what_its_vector_says(&replica.now, &state.units);
                state.replicas.iter().all(says)
            }),
            Property::always(LOG_REACHES_BACK, |_, state: &State| {
                let floors = state.replicas.iter().fold(0, |all, replica| all | replica.now.floor);
                state.replicas.iter().all(|replica| covers(replica.now.vector, floors))
            }),
        ];
        // Dear, and a link that is up is stuck only by what a crash made untrue.
        if self.crashing < REPLICAS {
            properties.push(Property::always(ENDS_EQUAL, |model: &Self, state| {
                let [one, two, three] = model.settle(state).replicas;
                one.now.vector == two.now.vector && two.now.vector == three.now.vector
            }));
        }
        properties
    }
}
