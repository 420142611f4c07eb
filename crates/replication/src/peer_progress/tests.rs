//! A sender's log, a link, and a receiver that knows the base rule and nothing else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use coppice_crdt::{Dot, EntryDelta, EntryKey, ObjectDelta, Part};
use proptest::prelude::*;

use super::*;
use crate::record::Totals;
use crate::unit::Cover;

const OWN: ActorId = ActorId::from_bytes([1; 16]);
const NEAR: ActorId = ActorId::from_bytes([2; 16]);
const FAR: ActorId = ActorId::from_bytes([3; 16]);
/// Who receives; its own writes come round to the sender.
const PEER: ActorId = ActorId::from_bytes([5; 16]);
/// Whose writes come by repair only.
const REPAIRED: ActorId = ActorId::from_bytes([4; 16]);
const HOLD_MS: u64 = 100;

/// The write `n` of `actor`, as a unit that adds its dot to a set.
fn unit(actor: ActorId, n: u64) -> Unit {
    let added = EntryDelta::Dots { added: vec![Dot::new(actor, n)], removed: vec![] };
    let element = format!("\"{actor:?}{n}\"");
    let name = EntryKey::of_object(Part::Element(element.as_bytes()));
    let delta = ObjectDelta { entries: [(name, added)].into(), removals: vec![] };
    Unit {
        covers: vec![Cover { actor, after: n - 1, upto: n }],
        objects: [("set".into(), delta)].into(),
    }
}

fn dots_of(unit: &Unit) -> BTreeSet<Dot> {
    let changes = unit.objects.values().flat_map(|delta| delta.entries.values());
    changes
        .flat_map(|change| match change {
            EntryDelta::Dots { added, .. } => added.clone(),
            _ => vec![],
        })
        .collect()
}

/// Both ends of a link and what is on its way.
struct World {
    log: ArrivalLog,
    records: BTreeMap<u64, LogRecord>,
    /// What the writer of each unit had seen before it.
    based_on: BTreeMap<Dot, VersionVector>,
    progress: PeerProgress,
    now_ms: u64,
    wire: VecDeque<Delta>,
    /// Frames that the receiver was handed.
    taken: u64,
    seen: VersionVector,
    have: BTreeSet<Dot>,
    epoch: u32,
    frame_end: VersionVector,
    waiting: Vec<(VersionVector, Unit)>,
    /// The receiver's reckoning if it took each frame as it was made.
    reckoned: VersionVector,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Write { by: u8, saw_all: bool, together: bool },
    Repair { writes: u64 },
    Send { records: usize },
    Deliver { room: bool },
    GainDirectly { which: prop::sample::Index },
    GainRepaired,
    Ack,
    Want,
    Exchange,
    PassTime { ms: u64 },
    LinkNear { up: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3_u8, any::<bool>(), any::<bool>())
            .prop_map(|(by, saw_all, together)| Step::Write { by, saw_all, together }),
        1 => (1..4_u64).prop_map(|writes| Step::Repair { writes }),
        4 => (1..5_usize).prop_map(|records| Step::Send { records }),
        4 => prop::bool::weighted(0.9).prop_map(|room| Step::Deliver { room }),
        4 => any::<prop::sample::Index>().prop_map(|which| Step::GainDirectly { which }),
        1 => Just(Step::GainRepaired),
        2 => Just(Step::Ack),
        1 => Just(Step::Want),
        1 => Just(Step::Exchange),
        2 => (1..150_u64).prop_map(|ms| Step::PassTime { ms }),
        1 => any::<bool>().prop_map(|up| Step::LinkNear { up }),
    ]
}

impl World {
    fn new() -> Self {
        let log = ArrivalLog::new(0, VersionVector::new(), u64::MAX);
        let progress = PeerProgress::new(PEER, Default::default(), &log);
        Self {
            log,
            records: BTreeMap::new(),
            based_on: BTreeMap::new(),
            progress,
            now_ms: 0,
            wire: VecDeque::new(),
            taken: 0,
            seen: VersionVector::new(),
            have: BTreeSet::new(),
            epoch: 0,
            frame_end: VersionVector::new(),
            waiting: Vec::new(),
            reckoned: VersionVector::new(),
        }
    }

    fn append(&mut self, item: LogItem, to_last_record: bool) {
        let last = self.log.next_seq().checked_sub(1);
        let unread = last.filter(|&last| {
            to_last_record && self.progress.cursor.as_ref().is_some_and(|at| at.seq <= last)
        });
        if let Some(seq) = unread {
            // Several units of one commit share a record. The log is told of it
            // as of another one, which differs in numbers only: so rebuild it.
            if let Some(record) = self.records.get_mut(&seq) {
                record.items.push(item);
            }
            let mut log = ArrivalLog::new(0, VersionVector::new(), u64::MAX);
            self.records.values().for_each(|record| log.append(&record.items, 1, 0));
            self.log = log;
            return;
        }
        let record =
            LogRecord { time_ms: 0, items: vec![item], totals: Totals::default(), digests: vec![] };
        let seq = self.log.next_seq();
        self.log.append(&record.items, 1, 0);
        self.records.insert(seq, record);
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Write { by, saw_all, together } => {
                let actor = [OWN, NEAR, FAR][usize::from(by)];
                let n = self.log.end().get(&actor) + 1;
                let saw = if actor == OWN || saw_all {
                    self.log.end().clone()
                } else {
                    let mut saw = match n {
                        1 => VersionVector::new(),
                        _ => self.based_on[&Dot::new(actor, n - 1)].clone(),
                    };
                    saw.raise(actor, n - 1);
                    saw
                };
                self.based_on.insert(Dot::new(actor, n), saw);
                self.append(LogItem::Unit(unit(actor, n)), together);
            }
            Step::Repair { writes } => {
                let mut vector = VersionVector::new();
                vector.raise(REPAIRED, self.log.end().get(&REPAIRED) + writes);
                self.append(LogItem::Repair(vector), false);
            }
            Step::Send { records } => self.send(records),
            Step::Deliver { room } => self.deliver(room),
            Step::GainDirectly { which } => {
                let ready = self
                    .based_on
                    .iter()
                    .filter(|(dot, saw)| !self.seen.covers(dot) && saw.is_covered_by(&self.seen));
                let ready: Vec<Dot> = ready.map(|(dot, _)| *dot).collect();
                if !ready.is_empty() {
                    let dot = *which.get(&ready);
                    self.apply(&unit(dot.actor, dot.n));
                }
            }
            Step::GainRepaired => self.seen.raise(REPAIRED, self.log.end().get(&REPAIRED)),
            Step::Ack => self.ack(),
            Step::Want => self.want(),
            Step::Exchange => self.progress.hold_nothing(&self.log),
            Step::PassTime { ms } => {
                self.now_ms += ms;
                self.progress.release_held(self.now_ms);
            }
            Step::LinkNear { up } => self.progress.peer_links(up.then_some(NEAR)),
        }
    }

    fn send(&mut self, records: usize) {
        let Some(from) = self.progress.wants_records_from(&self.log) else { return };
        let records: Vec<(u64, LogRecord)> = self
            .records
            .range(from..)
            .take(records)
            .map(|(&seq, record)| (seq, record.clone()))
            .collect();
        let rule =
            RelayRule { own: OWN, now_ms: self.now_ms, hold_ms: HOLD_MS, frame_bytes: FRAME_BYTES };
        if let Some(delta) = self.progress.next_frame(&records, rule) {
            let base = reckon(&mut self.reckoned, &delta);
            assert_eq!(self.reckoned, self.progress.frame_end, "both ends reckon alike");
            self.check_frame(&base, &delta.unit);
            self.wire.push_back(delta);
        }
    }

    /// Whoever has seen the base of a frame has all that the frame builds upon.
    fn check_frame(&self, base: &VersionVector, unit: &Unit) {
        assert!(base.is_covered_by(self.log.end()), "a base is of what was here");
        let mut end = base.clone();
        unit.raise(&mut end);
        let dots = dots_of(unit);
        for cover in &unit.covers {
            let known = base.get(&cover.actor);
            assert!(cover.after <= known, "a run begins where the base ends");
            for n in known + 1..=cover.upto {
                let dot = Dot::new(cover.actor, n);
                assert!(dots.contains(&dot), "{dot:?} is claimed and not in the frame");
            }
        }
        for dot in dots {
            assert!(self.based_on[&dot].is_covered_by(&end), "{dot:?} would come too early");
        }
    }

    fn deliver(&mut self, room: bool) {
        let Some(delta) = self.wire.pop_front() else { return };
        self.taken += 1;
        if delta.epoch != self.epoch {
            return;
        }
        let base = reckon(&mut self.frame_end, &delta);
        if room {
            self.waiting.push((base, delta.unit));
        }
        self.apply_ready();
    }

    fn apply_ready(&mut self) {
        while let Some(at) =
            self.waiting.iter().position(|(base, _)| base.is_covered_by(&self.seen))
        {
            let (_, unit) = self.waiting.remove(at);
            if !unit.is_covered_by(&self.seen) {
                self.apply(&unit);
            }
        }
    }

    fn apply(&mut self, unit: &Unit) {
        for dot in dots_of(unit) {
            let saw = &self.based_on[&dot];
            let mut end = self.seen.clone();
            unit.raise(&mut end);
            assert!(saw.is_covered_by(&end), "{dot:?} came before what its writer had seen");
        }
        self.have.extend(dots_of(unit));
        unit.raise(&mut self.seen);
        for (actor, n) in self.seen.iter().filter(|(actor, _)| *actor != REPAIRED) {
            for n in 1..=n {
                let dot = Dot::new(actor, n);
                assert!(self.have.contains(&dot), "the vector covers {dot:?}, which is not here");
            }
        }
    }

    fn ack(&mut self) {
        self.progress.acknowledged((&self.seen, &self.seen), self.taken, &self.log);
    }

    fn want(&mut self) {
        self.epoch += 1;
        self.frame_end = VersionVector::new();
        self.reckoned = VersionVector::new();
        self.waiting.clear();
        self.progress.restart(self.epoch, self.seen.clone(), &self.log);
    }

    /// The receiver asks again whenever nothing comes any more.
    fn settle(&mut self) {
        self.run(Step::GainRepaired);
        for _ in 0..2_000 {
            self.apply_ready();
            if self.seen == *self.log.end() {
                return;
            }
            self.now_ms += HOLD_MS;
            self.progress.release_held(self.now_ms);
            self.ack();
            self.send(usize::MAX);
            if self.wire.is_empty() && self.progress.wants_records_from(&self.log).is_none() {
                self.want();
            }
            self.deliver(true);
        }
        panic!("the receiver has {:?} of {:?}", self.seen, self.log.end());
    }
}

/// What a receiver makes of a frame: its base, and where the next one continues.
fn reckon(frame_end: &mut VersionVector, delta: &Delta) -> VersionVector {
    let base = match &delta.base {
        Base::Continued(risen) => {
            let mut base = frame_end.clone();
            base.join(risen);
            base
        }
        Base::Exact(base) => base.clone(),
    };
    *frame_end = base.clone();
    delta.unit.raise(frame_end);
    base
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_receiver_that_follows_the_base_rule_misses_nothing(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
        }
        world.settle();
    }
}

#[test]
fn a_unit_that_the_peer_has_may_stand_between_those_of_a_frame() {
    let mut world = World::new();
    let write = |by| Step::Write { by, saw_all: false, together: false };
    // Far's write is here first, then Near's, then Near's second. The peer has
    // Near's first by another way.
    for step in [write(2), write(1), write(1)] {
        world.run(step);
    }
    world.apply(&unit(NEAR, 1));
    world.ack();
    world.send(usize::MAX);
    assert_eq!(world.wire.len(), 1, "what the peer has parts no frame");
    assert_eq!(dots_of(&world.wire[0].unit).len(), 2);
    world.settle();
}

#[test]
fn a_peer_is_not_sent_what_it_wrote_itself() {
    let mut world = World::new();
    world.append(LogItem::Unit(unit(PEER, 1)), false);
    world.run(Step::Write { by: 0, saw_all: false, together: false });
    world.append(LogItem::Unit(unit(PEER, 2)), false);
    world.seen.raise(PEER, 2);
    world.have.extend([Dot::new(PEER, 1), Dot::new(PEER, 2)]);
    world.send(usize::MAX);
    world.send(usize::MAX);
    let sent: BTreeSet<Dot> = world.wire.iter().flat_map(|delta| dots_of(&delta.unit)).collect();
    assert_eq!(sent, [Dot::new(OWN, 1)].into(), "it did not report its own writes yet");
    assert_eq!(world.wire.len(), 1, "nor do they part a frame");
}

#[test]
fn a_frame_claims_no_write_that_it_lacks() {
    // The log holds the repaired actor's first write, then a repair that brought
    // its second, then its third; the peer has what the repair brought but lacks
    // another write of the unit that the first came in.
    let mut world = World::new();
    for dot in [Dot::new(REPAIRED, 1), Dot::new(REPAIRED, 3), Dot::new(FAR, 1)] {
        world.based_on.insert(dot, VersionVector::new());
    }
    let mut first = unit(REPAIRED, 1);
    first.join(unit(FAR, 1));
    world.append(LogItem::Unit(first), false);
    let repaired = [(REPAIRED, 2), (FAR, 1)].into_iter().collect();
    world.append(LogItem::Repair(repaired), false);
    world.append(LogItem::Unit(unit(REPAIRED, 3)), false);
    world.seen.raise(REPAIRED, 2);
    world.seen.raise(FAR, 1);
    world.progress.seen.raise(REPAIRED, 2);
    world.progress.seen.raise(FAR, 1);
    world.send(usize::MAX);
    world.send(usize::MAX);
    for delta in &world.wire {
        assert_eq!(delta.unit.writes(), dots_of(&delta.unit).len() as u64, "{delta:?}");
    }
    assert!(!world.wire.is_empty());
}

#[test]
fn a_unit_on_its_way_parts_a_frame() {
    let mut world = World::new();
    let write = |by, saw_all| Step::Write { by, saw_all, together: false };
    world.run(Step::LinkNear { up: true });
    world.run(write(1, false));
    world.run(write(0, true));
    world.send(usize::MAX);
    assert_eq!(dots_of(&world.wire[0].unit), [Dot::new(OWN, 1)].into(), "Near's is held back");
    world.run(write(0, true));
    world.run(Step::PassTime { ms: HOLD_MS });
    world.send(usize::MAX);
    world.send(usize::MAX);
    let sent: Vec<BTreeSet<Dot>> = world.wire.iter().map(|delta| dots_of(&delta.unit)).collect();
    let alone = |actor, n| BTreeSet::from([Dot::new(actor, n)]);
    assert_eq!(sent, [alone(OWN, 1), alone(NEAR, 1), alone(OWN, 2)]);
    world.settle();
}

#[test]
fn a_relayed_unit_is_held_back_only_for_a_peer_that_is_linked_with_its_origin() {
    let mut world = World::new();
    world.run(Step::Write { by: 1, saw_all: false, together: false });
    world.send(usize::MAX);
    assert_eq!(world.wire.len(), 1, "the peer reports no link with Near");
    world.run(Step::LinkNear { up: true });
    world.run(Step::Write { by: 1, saw_all: false, together: false });
    world.send(usize::MAX);
    assert_eq!(world.wire.len(), 1, "Near will send it");
    assert_eq!(world.progress.release_held(HOLD_MS - 1), Some(HOLD_MS));
    world.run(Step::PassTime { ms: HOLD_MS });
    world.send(usize::MAX);
    assert_eq!(world.wire.len(), 2, "it was not heard of in time");
}

#[test]
fn an_exchange_sends_what_was_held_back() {
    let mut world = World::new();
    world.run(Step::LinkNear { up: true });
    world.run(Step::Write { by: 1, saw_all: false, together: false });
    world.send(usize::MAX);
    assert!(world.wire.is_empty(), "Near will send it");
    world.run(Step::Exchange);
    world.send(usize::MAX);
    assert_eq!(world.wire.len(), 1, "somebody waits for it");
    world.run(Step::Write { by: 1, saw_all: true, together: false });
    world.send(usize::MAX);
    assert_eq!(world.wire.len(), 1, "what comes later is held back as ever");
}

#[test]
fn a_held_unit_that_the_peer_got_meanwhile_is_not_sent() {
    let mut world = World::new();
    world.run(Step::LinkNear { up: true });
    world.run(Step::Write { by: 1, saw_all: false, together: false });
    world.send(usize::MAX);
    world.apply(&unit(NEAR, 1));
    world.ack();
    world.run(Step::PassTime { ms: HOLD_MS });
    world.send(usize::MAX);
    assert!(world.wire.is_empty());
}

#[test]
fn the_window_closes_until_frames_are_answered() {
    let mut world = World::new();
    for _ in 0..20 {
        world.run(Step::Write { by: 0, saw_all: true, together: false });
        world.send(1);
    }
    assert_eq!(world.wire.len() as u64, WINDOW_FRAMES);
    for _ in 0..WINDOW_FRAMES {
        world.deliver(true);
    }
    world.ack();
    world.send(1);
    assert_eq!(world.wire.len(), 1, "an answer opens the window");
}

#[test]
fn a_repair_bars_the_way_until_the_peer_covers_it() {
    let mut world = World::new();
    world.run(Step::Repair { writes: 3 });
    world.run(Step::Write { by: 0, saw_all: true, together: false });
    world.send(usize::MAX);
    assert!(world.wire.is_empty());
    assert_eq!(world.progress.serving(u64::MAX), Serving::TooOld);
    world.run(Step::GainRepaired);
    world.ack();
    world.send(usize::MAX);
    assert_eq!(world.wire.len(), 1);
}

#[test]
fn a_peer_below_the_trimmed_log_is_not_served() {
    let mut world = World::new();
    for _ in 0..200 {
        world.run(Step::Write { by: 0, saw_all: true, together: false });
    }
    let all = world.log.end().clone();
    world.log.trim_covered(&all, u64::MAX).expect("something can go");
    world.progress.log_was_trimmed(&world.log);
    assert_eq!(world.progress.serving(u64::MAX), Serving::TooOld);
}
