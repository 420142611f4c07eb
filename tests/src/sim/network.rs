//! Connections between replicas: ordered, delayed, broken, blocked, slow.

use std::collections::VecDeque;
use std::rc::Rc;

use coppice_replication::{LinkId, Message, RepairPart};

use super::ledger::PartAtHand;
use super::recorded::{Shipped, Visible};
use super::world::{Event, World};
use super::wrong::Wrong;

/// One connection. Side 0 dialled.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) ends: [usize; 2],
    pub(super) sides: [Side; 2],
    /// Frames on their way to each side, in order.
    towards: [VecDeque<Packet>; 2],
    last_due_ms: [u64; 2],
    pub(super) slow: bool,
    /// What is sent from now on is lost; each side notices by itself.
    broken: bool,
    pub(super) doubling: Doubling,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Opening,
    Up,
    Down,
}

/// Whether a frame arrives twice, which this transport never does by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubling {
    Never,
    /// The next delta does.
    Next,
    /// One did.
    Done,
}

/// What goes with a frame, of which the replicas know nothing.
#[derive(Debug)]
enum Beside {
    Nothing,
    /// With a part of a repair, what its snapshot has seen.
    Snapshot(RepairPart, Rc<Visible>),
    /// With a frame of deltas, its operations.
    Operations(Rc<Shipped>),
}

#[derive(Debug)]
struct Packet {
    frame: Vec<u8>,
    beside: Beside,
}

impl Connection {
    /// What the parts of repairs that are on their way have seen.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Visible> {
        let packets = self.towards.iter().flatten();
        packets.filter_map(|packet| match &packet.beside {
            Beside::Snapshot(_, visible) => Some(&**visible),
            Beside::Nothing | Beside::Operations(_) => None,
        })
    }
}

/// The link that a side of a connection knows it by.
pub(super) const fn link(connection: u64, side: usize) -> LinkId {
    LinkId(connection * 2 + side as u64)
}

pub(super) fn side_of(link: LinkId) -> (u64, usize) {
    (link.0 / 2, usize::from(link.0 % 2 == 1))
}

/// The first byte of a frame of deltas, of a repair's request and of its part.
const DELTA: u8 = 2;
const REPAIR_REQUEST: u8 = 6;
const REPAIR_PART: u8 = 7;

impl World<'_> {
    pub(super) fn dial(&mut self, from: usize, to: usize) -> Result<(), Wrong> {
        let id = self.next_connection;
        self.next_connection += 1;
        let connection = Connection {
            ends: [from, to],
            sides: [Side::Up, Side::Opening],
            towards: [VecDeque::new(), VecDeque::new()],
            last_due_ms: [0; 2],
            slow: false,
            broken: false,
            doubling: Doubling::Never,
        };
        self.connections.insert(id, connection);
        let delay_ms = self.rng.between(1, 20);
        self.after(delay_ms, Event::Accept(id));
        self.note(from, "dials", (to as u64, id));
        let now_ms = self.now_ms;
        let replica = &mut self.replicas[from];
        let (now, slot) = (replica.now(now_ms), replica.slot);
        if let Some(engine) = &mut replica.engine {
            engine.link_up(slot, link(id, 0), true, now);
        }
        self.round(from)
    }

    pub(super) fn accept(&mut self, id: u64) -> Result<(), Wrong> {
        let now_ms = self.now_ms;
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        let to = connection.ends[1];
        let replica = &mut self.replicas[to];
        let (now, slot) = (replica.now(now_ms), replica.slot);
        if connection.sides[1] != Side::Opening {
            return Ok(());
        }
        let Some(engine) = &mut replica.engine else {
            self.break_connection(id, true);
            return Ok(());
        };
        connection.sides[1] = Side::Up;
        engine.link_up(slot, link(id, 1), false, now);
        self.round(to)
    }

    /// Whether `link` takes another frame.
    pub(super) fn has_room(&self, link: LinkId) -> bool {
        let (id, side) = side_of(link);
        let Some(connection) = self.connections.get(&id) else { return false };
        let queued = connection.towards[1 - side].len();
        connection.sides[side] == Side::Up && queued < if connection.slow { 2 } else { 64 }
    }

    pub(super) fn send(&mut self, from: usize, by: LinkId, frame: Vec<u8>) {
        self.trace.digest_of((self.now_ms, by.0, &frame));
        let beside = self.beside(from, by, &frame);
        let (id, side) = side_of(by);
        let now_ms = self.now_ms;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.sides[side] != Side::Up || connection.broken {
            return;
        }
        let to = 1 - side;
        let delay_ms = match (connection.slow, self.rng.below(50)) {
            (true, _) => self.rng.between(100, 600),
            (false, 0) => self.rng.between(20, 300),
            (false, _) => self.rng.between(1, 12),
        };
        let due_ms = connection.last_due_ms[to].max(now_ms + delay_ms);
        connection.last_due_ms[to] = due_ms;
        connection.towards[to].push_back(Packet { frame, beside });
        self.totals.add("frames sent", 1);
        self.after(due_ms - now_ms, Event::Frame(id, to));
    }

    /// What goes with a frame. A repair's snapshot has seen what its source had
    /// seen when it sent the first part.
    fn beside(&mut self, from: usize, by: LinkId, frame: &[u8]) -> Beside {
        if !matches!(frame.first(), Some(&(DELTA | REPAIR_PART))) {
            return Beside::Nothing;
        }
        let replica = &mut self.replicas[from];
        match Message::decode(frame) {
            Ok(Message::Delta(delta)) => {
                Beside::Operations(Rc::new(replica.recorded.live.ship(delta.unit)))
            }
            Ok(Message::RepairPart(part)) => {
                let visible = replica.visible().clone();
                let serving = replica.serving.entry(by);
                let visible = serving.or_insert_with(|| Rc::new(visible));
                Beside::Snapshot(part, Rc::clone(visible))
            }
            _ => Beside::Nothing,
        }
    }

    /// The next frame of a connection reaches a side.
    pub(super) fn deliver(&mut self, id: u64, side: usize) -> Result<(), Wrong> {
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        let (from, to) = (connection.ends[1 - side], connection.ends[side]);
        if connection.sides[side] == Side::Opening || self.blocked.contains(&(from, to)) {
            self.after(25, Event::Frame(id, side));
            return Ok(());
        }
        let Some(packet) = connection.towards[side].pop_front() else { return Ok(()) };
        if connection.sides[side] != Side::Up {
            return Ok(());
        }
        let mut times = 1;
        if connection.doubling == Doubling::Next && packet.frame.first() == Some(&DELTA) {
            connection.doubling = Doubling::Done;
            times = 2;
            self.totals.add("faults: frame duplicated", 1);
        }
        let now_ms = self.now_ms;
        let replica = &mut self.replicas[to];
        let now = replica.now(now_ms);
        let by = link(id, side);
        match packet.beside {
            Beside::Nothing => {}
            Beside::Operations(shipped) => replica.arrivals.add(shipped),
            Beside::Snapshot(part, visible) => {
                replica.parts.retain(|(known, _)| *known != by);
                let (range, vector) = (part.range, part.vector);
                replica.parts.push((by, PartAtHand { range, vector, visible }));
            }
        }
        if packet.frame.first() == Some(&REPAIR_REQUEST)
            && let Ok(Message::RepairRequest(request)) = Message::decode(&packet.frame)
            && request.begin
        {
            replica.serving.remove(&by); // A new snapshot is taken for it.
        }
        let Some(engine) = &mut replica.engine else { return Ok(()) };
        for _ in 0..times {
            engine.receive(by, &packet.frame, now);
        }
        if self.rng.percent(70) {
            return self.round(to);
        }
        self.after(3, Event::Round(to));
        Ok(())
    }

    /// A connection breaks; what is on its way may be lost. Each side notices
    /// by itself.
    pub(super) fn break_connection(&mut self, id: u64, loses: bool) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.broken = true;
        let mut noticed = [0; 2];
        for (side, noticed_ms) in noticed.iter_mut().enumerate() {
            if loses {
                connection.towards[side].clear();
            }
            let last_ms = connection.last_due_ms[side].saturating_sub(self.now_ms);
            let late_ms = if self.rng.percent(20) { 2_000 } else { 60 };
            *noticed_ms = if loses { 0 } else { last_ms } + self.rng.below(late_ms);
        }
        for (side, delay_ms) in noticed.into_iter().enumerate() {
            self.after(delay_ms, Event::LinkDown(id, side));
        }
    }

    pub(super) fn link_down(&mut self, id: u64, side: usize) -> Result<(), Wrong> {
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        let (was, at) = (connection.sides[side], connection.ends[side]);
        connection.sides[side] = Side::Down;
        if was == Side::Up {
            self.forget_link(at, link(id, side));
            if let Some(engine) = &mut self.replicas[at].engine {
                engine.link_down(link(id, side));
            }
        }
        self.sweep(id);
        if was == Side::Up { self.round(at) } else { Ok(()) }
    }

    /// One side is closed by its owner; the other notices later.
    pub(super) fn closed_by(&mut self, id: u64, side: usize, loses: bool) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let at = connection.ends[side];
        connection.sides[side] = Side::Down;
        connection.towards[side].clear();
        if loses {
            connection.towards[1 - side].clear();
        }
        let last_ms = connection.last_due_ms[1 - side].saturating_sub(self.now_ms);
        let late_ms = if self.rng.percent(10) { 3_000 } else { 50 };
        let delay_ms = last_ms + self.rng.below(late_ms);
        self.after(delay_ms, Event::LinkDown(id, 1 - side));
        self.forget_link(at, link(id, side));
        self.sweep(id);
    }

    fn forget_link(&mut self, at: usize, by: LinkId) {
        let replica = &mut self.replicas[at];
        replica.serving.remove(&by);
        replica.parts.retain(|(known, _)| *known != by);
    }

    fn sweep(&mut self, id: u64) {
        let dead = |connection: &Connection| connection.sides == [Side::Down; 2];
        if self.connections.get(&id).is_some_and(dead) {
            self.connections.remove(&id);
        }
    }

    /// Whether a frame over this connection arrived twice.
    pub(super) fn was_doubled(&self, id: u64) -> bool {
        self.connections.get(&id).is_some_and(|connection| connection.doubling == Doubling::Done)
    }

    /// Dials the neighbours that `at` has no connection with.
    pub(super) fn dial_neighbours(&mut self, at: usize) -> Result<(), Wrong> {
        let Some(place) = self.order.iter().position(|&known| known == at) else { return Ok(()) };
        for neighbour in self.plan.neighbours(place, self.order.len()) {
            let to = self.order[neighbour];
            let connected = self.connections.values().any(|connection| {
                let mine = connection.ends.iter().position(|&end| end == at);
                mine.is_some_and(|side| {
                    connection.ends[1 - side] == to && connection.sides[side] != Side::Down
                })
            });
            let blocked = self.blocked.contains(&(at, to)) || self.blocked.contains(&(to, at));
            let again = self.rng.percent(1) && !self.healed;
            if self.replicas[to].is_up() && !blocked && (!connected || again) {
                self.dial(at, to)?;
                if !self.replicas[at].is_up() {
                    break;
                }
            }
        }
        Ok(())
    }
}
