//! What an object's value should be, from who had seen what.
//!
//! An operation gives parts of a value and takes parts that its issuer had seen;
//! what was given, and not taken by an operation that had seen it, is there. No
//! dots, no vectors, no contexts, no cells: only numbers of operations.

use std::collections::{BTreeMap, BTreeSet};

use coppice_crdt::{ActorId, CrdtType, EntryKey, HybridTimestamp, Operation, Part};

use super::seen::Seen;

/// An object's value, or a map field's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Absent,
    Counter(i128),
    Flag(bool),
    Register(Vec<u8>),
    Set(Vec<String>),
    /// By field: the visible type, its value, the other types.
    Map(BTreeMap<String, (CrdtType, Value, Vec<CrdtType>)>),
}

/// What an operation should do where it is issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// It is refused with this status.
    Refused(u16),
    /// It changes nothing.
    Nothing,
    /// It changes something, and is seen from then on.
    Change,
}

/// All that happened to one object, anywhere.
#[derive(Clone, Debug)]
pub(super) struct Model {
    crdt_type: CrdtType,
    events: Vec<Event>,
    pieces: Vec<Given>,
}

#[derive(Clone, Debug)]
struct Event {
    /// Who issued it: the opening of a store.
    by: ActorId,
    stamp: (HybridTimestamp, ActorId),
    deadline_ms: Option<u64>,
}

/// Where a part of a value is: a map's field, or the object itself.
type Place = Option<(String, CrdtType)>;

/// A part of a value, who gave it, and who took it.
#[derive(Clone, Debug)]
struct Given {
    by: usize,
    place: Place,
    piece: Piece,
    takers: Vec<usize>,
}

/// Parts of a value that one unit takes.
#[derive(Debug)]
pub(super) struct Pieces(Vec<usize>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Existence,
    Count(i128),
    Element(String),
    Enabled,
    Written(Vec<u8>),
}

impl Model {
    pub(super) const fn new(crdt_type: CrdtType) -> Self {
        Self { crdt_type, events: Vec::new(), pieces: Vec::new() }
    }

    /// What `operation` should do where `saw` was seen, at `now_ms`.
    pub(super) fn expect(&self, operation: &Operation, saw: &Seen, now_ms: u64) -> Expected {
        let exists = || self.value(saw, now_ms) != Value::Absent;
        let some =
            |mut alive: Box<dyn Iterator<Item = &Given> + '_>| change(alive.next().is_some());
        let alive = || self.alive(saw);
        match operation {
            Operation::Delete | Operation::RemoveField { .. } if !exists() => {
                Expected::Refused(404)
            }
            Operation::Clear if self.crdt_type == CrdtType::ORMap && !exists() => {
                Expected::Refused(404)
            }
            Operation::Delete => Expected::Change,
            Operation::Purge => change(!exists() && alive().next().is_some()),
            Operation::RemoveField { field } => {
                some(Box::new(alive().filter(|given| given.is_of(field))))
            }
            Operation::Clear if self.crdt_type == CrdtType::ORMap => {
                some(Box::new(alive().filter(|given| given.place.is_some())))
            }
            Operation::Update { field, crdt_type, operation } => {
                match self.visible_type(saw, field) {
                    Some(visible) if visible != *crdt_type => Expected::Refused(409),
                    _ => self.expect_at(operation, &Some((field.to_string(), *crdt_type)), saw),
                }
            }
            other => self.expect_at(other, &None, saw),
        }
    }

    fn expect_at(&self, operation: &Operation, place: &Place, saw: &Seen) -> Expected {
        let here: Vec<&Given> = self.alive(saw).filter(|given| given.place == *place).collect();
        let exists = here.iter().any(|given| given.piece == Piece::Existence);
        match operation {
            Operation::Increment { by } | Operation::Decrement { by } => change(*by > 0 || !exists),
            Operation::Remove { .. } | Operation::Clear if here.is_empty() => {
                Expected::Refused(404)
            }
            Operation::Remove { .. } | Operation::Clear => {
                change(here.iter().any(|given| takes_at(operation, place, given)))
            }
            Operation::Disable => {
                change(!exists || here.iter().any(|given| given.piece == Piece::Enabled))
            }
            _ => Expected::Change,
        }
    }

    /// Takes notice of an operation that changes something where `saw` was
    /// seen. Returns its number, and whether it conflicts with something of
    /// `held`.
    pub(super) fn record(
        &mut self,
        operation: &Operation,
        (saw, held): (&Seen, &Seen),
        (issuer, now_ms): (ActorId, u64),
    ) -> (usize, bool) {
        let number = self.events.len();
        let conflicts = self.would_conflict(operation, saw, held);
        let (place, at) = place_of(operation);
        let mut gives = gifts(at).into_iter().map(|piece| (place.clone(), piece)).collect();
        if !matches!(operation, Operation::Delete | Operation::Purge) {
            self.give_existence(&place, saw, &mut gives);
        }
        let deadline_ms = match at {
            Operation::Set(write) => write.ttl_ms.map(|ttl| now_ms + ttl),
            _ => None,
        };
        let seen = self.pieces.iter_mut().filter(|given| saw.contains(given.by));
        for given in seen.filter(|given| takes(self.crdt_type, operation, given)) {
            given.takers.push(number);
        }
        self.add_event(issuer, deadline_ms, gives);
        (number, conflicts)
    }

    fn add_event(
        &mut self,
        by: ActorId,
        deadline_ms: Option<u64>,
        gives: Vec<(Place, Piece)>,
    ) -> usize {
        let number = self.events.len();
        let stamp = (HybridTimestamp::default(), ActorId::from_bytes([0; 16]));
        self.events.push(Event { by, stamp, deadline_ms });
        for (place, piece) in gives {
            self.pieces.push(Given { by: number, place, piece, takers: Vec::new() });
        }
        number
    }

    /// What a removal in steps that began where `begun` was seen takes before its
    /// last unit, unit by unit: counters, in the order of their names, so many
    /// entries each at most, and of fields all or nothing if they are no more than
    /// that; nothing if they have no more than so many cells.
    pub(super) fn steps(
        &self,
        operation: &Operation,
        begun: &Seen,
        (most_cells, per_unit): (u64, usize),
    ) -> Vec<Pieces> {
        let mut entries: BTreeMap<EntryKey, Vec<usize>> = BTreeMap::new();
        for (at, given) in self.pieces.iter().enumerate() {
            let is_taken = given.lives(begun) && takes(self.crdt_type, operation, given);
            if let Some(name) = self.entry_of_counter(given).filter(|_| is_taken) {
                entries.entry(name).or_default().push(at);
            }
        }
        let cells = entries.keys().filter(|name| matches!(name.part(), Part::Cell(_))).count();
        if cells as u64 <= most_cells {
            return Vec::new();
        }
        let mut left: Vec<(EntryKey, Vec<usize>)> = entries.into_iter().collect();
        let mut units = Vec::new();
        while left.len() >= per_unit {
            let unit = left.drain(..whole_fields(&left, per_unit).unwrap_or(per_unit));
            units.push(Pieces(unit.flat_map(|(_, pieces)| pieces).collect()));
        }
        units
    }

    /// The entry that holds a part of a counter, which all that one opening adds
    /// to it shares.
    fn entry_of_counter(&self, given: &Given) -> Option<EntryKey> {
        let part = match given.piece {
            Piece::Count(_) => Part::Cell(self.events[given.by].by),
            Piece::Existence => Part::Existence,
            _ => return None,
        };
        match &given.place {
            Some((field, of)) if of.is_counter() => Some(EntryKey::of_field(field, *of, part)),
            None if matches!(part, Part::Cell(_)) => Some(EntryKey::of_object(part)),
            _ => None,
        }
    }

    /// Takes notice of a unit of a removal in steps that is not its last.
    pub(super) fn record_step(&mut self, Pieces(taken): &Pieces, issuer: ActorId) -> usize {
        let number = self.add_event(issuer, None, Vec::new());
        for &at in taken {
            self.pieces[at].takers.push(number);
        }
        number
    }

    /// Takes notice of the last unit of a removal that began where `begun` was
    /// seen, and ends where `saw` is.
    pub(super) fn record_last_step(
        &mut self,
        operation: &Operation,
        (begun, saw): (&Seen, &Seen),
        issuer: ActorId,
    ) -> usize {
        let mut gives = Vec::new();
        if *operation != Operation::Delete {
            self.give_existence(&place_of(operation).0, saw, &mut gives);
        }
        let number = self.add_event(issuer, None, gives);
        let seen = self.pieces.iter_mut().filter(|given| begun.contains(given.by));
        for given in seen.filter(|given| takes(self.crdt_type, operation, given)) {
            given.takers.push(number);
        }
        number
    }

    /// Whether something that somebody holds happened to the same thing, and was
    /// not seen: a value that `operation` gives too, or would have taken.
    pub(super) fn would_conflict(&self, operation: &Operation, saw: &Seen, held: &Seen) -> bool {
        let (place, at) = place_of(operation);
        let gifts = gifts(at);
        let concurrent = |given: &&Given| held.contains(given.by) && !saw.contains(given.by);
        self.pieces.iter().filter(concurrent).any(|given| {
            let same = gifts.contains(&given.piece) || matches!(given.piece, Piece::Count(_));
            same && given.place == place || takes(self.crdt_type, operation, given)
        })
    }

    fn give_existence(&self, place: &Place, saw: &Seen, gives: &mut Vec<(Place, Piece)>) {
        for place in BTreeSet::from([None, place.clone()]) {
            let crdt_type = place.as_ref().map_or(self.crdt_type, |(_, of)| *of);
            let mut here = self.alive(saw).filter(|given| given.place == place);
            let exists = here.any(|given| given.piece == Piece::Existence);
            if crdt_type != CrdtType::LWWRegister && !exists {
                gives.push((place, Piece::Existence));
            }
        }
    }

    /// By what readers choose among concurrent values.
    pub(super) fn set_stamp(&mut self, number: usize, stamp: (HybridTimestamp, ActorId)) {
        self.events[number].stamp = stamp;
    }

    /// The value where `seen` was seen, at `now_ms`.
    pub(super) fn value(&self, seen: &Seen, now_ms: u64) -> Value {
        let alive: Vec<&Given> = self.alive(seen).collect();
        if self.crdt_type != CrdtType::ORMap {
            return self.value_at(&None, self.crdt_type, &alive, now_ms);
        }
        if alive.is_empty() {
            return Value::Absent;
        }
        let places = alive.iter().filter_map(|given| given.place.as_ref());
        let names: BTreeSet<&String> = places.map(|(name, _)| name).collect();
        let fields = names.into_iter().filter_map(|name| {
            let mut types = self.types(seen, name);
            let visible = self.visible_type(seen, name)?;
            types.remove(&visible);
            let place = Some((name.clone(), visible));
            let value = self.value_at(&place, visible, &alive, now_ms);
            Some((name.clone(), (visible, value, types.into_iter().collect())))
        });
        Value::Map(fields.collect())
    }

    fn value_at(&self, place: &Place, crdt_type: CrdtType, alive: &[&Given], now_ms: u64) -> Value {
        let here = || alive.iter().filter(|given| given.place == *place);
        if here().next().is_none() {
            return Value::Absent;
        }
        match crdt_type {
            CrdtType::GCounter | CrdtType::PNCounter => {
                Value::Counter(here().map(|given| given.piece.count()).sum())
            }
            CrdtType::EWFlag => Value::Flag(here().any(|given| given.piece == Piece::Enabled)),
            CrdtType::GSet | CrdtType::ORSet => {
                let elements = here().filter_map(|given| match &given.piece {
                    Piece::Element(element) => Some(element.clone()),
                    _ => None,
                });
                Value::Set(elements.collect::<BTreeSet<_>>().into_iter().collect())
            }
            CrdtType::LWWRegister => {
                let latest = here().max_by_key(|given| self.events[given.by].stamp);
                let lives = |given: &Given| {
                    self.events[given.by].deadline_ms.is_none_or(|deadline| deadline > now_ms)
                };
                match latest {
                    Some(given) if lives(given) => given.piece.written(),
                    _ => Value::Absent,
                }
            }
            CrdtType::ORMap => Value::Absent,
        }
    }

    fn alive<'a>(&'a self, seen: &'a Seen) -> impl Iterator<Item = &'a Given> + 'a {
        self.pieces.iter().filter(|given| given.lives(seen))
    }

    fn types(&self, seen: &Seen, name: &str) -> BTreeSet<CrdtType> {
        let places = self.alive(seen).filter_map(|given| given.place.as_ref());
        places.filter(|(known, _)| known == name).map(|(_, of)| *of).collect()
    }

    fn visible_type(&self, seen: &Seen, name: &str) -> Option<CrdtType> {
        self.types(seen, name).into_iter().min_by_key(|of| of.name())
    }
}

impl Given {
    fn lives(&self, seen: &Seen) -> bool {
        seen.contains(self.by) && !self.takers.iter().any(|&taker| seen.contains(taker))
    }

    fn is_of(&self, field: &str) -> bool {
        self.place.as_ref().is_some_and(|(name, _)| name == field)
    }
}

impl Piece {
    const fn count(&self) -> i128 {
        match self {
            Self::Count(by) => *by,
            _ => 0,
        }
    }

    fn written(&self) -> Value {
        match self {
            Self::Written(bytes) => Value::Register(bytes.clone()),
            _ => Value::Absent,
        }
    }
}

const fn change(change: bool) -> Expected {
    if change { Expected::Change } else { Expected::Nothing }
}

/// The most entries up to `most` after which another field begins.
fn whole_fields(entries: &[(EntryKey, Vec<usize>)], most: usize) -> Option<usize> {
    let field = |at: usize| entries[at].0.field().map(|field| field.name);
    let mut ends = (1..entries.len().min(most + 1)).rev();
    ends.find(|&end| field(end - 1) != field(end))
}

fn place_of(operation: &Operation) -> (Place, &Operation) {
    match operation {
        Operation::Update { field, crdt_type, operation } => {
            (Some((field.to_string(), *crdt_type)), operation)
        }
        other => (None, other),
    }
}

fn gifts(operation: &Operation) -> Vec<Piece> {
    match operation {
        Operation::Increment { by } if *by > 0 => vec![Piece::Count(i128::from(*by))],
        Operation::Decrement { by } if *by > 0 => vec![Piece::Count(-i128::from(*by))],
        Operation::Add { elements } => {
            elements.iter().map(|element| Piece::Element(element.to_string())).collect()
        }
        Operation::Enable => vec![Piece::Enabled],
        Operation::Set(write) => vec![Piece::Written(write.bytes.to_vec())],
        _ => Vec::new(),
    }
}

fn takes(crdt_type: CrdtType, operation: &Operation, given: &Given) -> bool {
    match operation {
        Operation::Delete | Operation::Purge => true,
        Operation::RemoveField { field } => given.is_of(field),
        Operation::Clear if crdt_type == CrdtType::ORMap => given.place.is_some(),
        Operation::Update { field, crdt_type, operation } => {
            takes_at(operation, &Some((field.to_string(), *crdt_type)), given)
        }
        other => takes_at(other, &None, given),
    }
}

fn takes_at(operation: &Operation, place: &Place, given: &Given) -> bool {
    let takes = match (operation, &given.piece) {
        (Operation::Clear, Piece::Element(_))
        | (Operation::Disable, Piece::Enabled)
        | (Operation::Set(_), Piece::Written(_)) => true,
        (Operation::Remove { elements }, Piece::Element(element)) => {
            elements.iter().any(|removed| removed.as_str() == element)
        }
        _ => false,
    };
    takes && given.place == *place
}
