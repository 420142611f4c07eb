//! What an object's value is, worked out from who had seen what.
//!
//! The most obvious way to say the semantics: an operation gives parts of a value
//! and takes parts that it saw; what was given and not taken by an operation that
//! saw it is there. No dots, no contexts, no deltas, no cells.

use std::collections::{BTreeMap, BTreeSet};

use crate::{CrdtType, HybridTimestamp, Operation};

/// An object's value, or a map field's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing there.
    Absent,
    /// Of a counter.
    Counter(i128),
    /// Of a flag.
    Flag(bool),
    /// Of a register: its bytes.
    Register(Vec<u8>),
    /// Of a set: its elements' canonical texts.
    Set(Vec<String>),
    /// Of a map: by field the visible type, its value, the other types.
    Map(BTreeMap<String, (CrdtType, Value, Vec<CrdtType>)>),
}

/// What an operation should do where it is issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It is refused with this status.
    Refused(u16),
    /// It changes nothing and takes no dot.
    Nothing,
    /// It takes a dot.
    Dot,
}

/// Everything that happened to one object, anywhere.
#[derive(Clone, Debug)]
pub struct Oracle {
    crdt_type: CrdtType,
    events: Vec<Event>,
}

#[derive(Clone, Debug)]
struct Event {
    operation: Operation,
    saw: BTreeSet<usize>,
    stamp: (HybridTimestamp, [u8; 16]),
    deadline_ms: Option<u64>,
    gives: Vec<Piece>,
}

/// Where a part of a value is: a map's field, or the object itself.
type Place = Option<(String, CrdtType)>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Existence(Place),
    Count(Place, i128),
    Element(Place, String),
    Enabled(Place),
    Written(Place, Vec<u8>),
}

impl Piece {
    fn place(&self) -> &Place {
        match self {
            Self::Existence(place)
            | Self::Count(place, _)
            | Self::Element(place, _)
            | Self::Enabled(place)
            | Self::Written(place, _) => place,
        }
    }
}

impl Oracle {
    /// Of an object that nothing happened to.
    #[must_use]
    pub const fn new(crdt_type: CrdtType) -> Self {
        Self { crdt_type, events: Vec::new() }
    }

    /// What `operation` should do where `saw` was seen, at `now_ms`.
    #[must_use]
    pub fn expect(&self, operation: &Operation, saw: &BTreeSet<usize>, now_ms: u64) -> Expected {
        let changes = |change: bool| if change { Expected::Dot } else { Expected::Nothing };
        let exists = self.value(saw, now_ms) != Value::Absent;
        match operation {
            Operation::Delete | Operation::Clear | Operation::RemoveField { .. } if !exists => {
                Expected::Refused(404)
            }
            Operation::Delete => Expected::Dot,
            Operation::Purge => changes(
                self.crdt_type == CrdtType::LWWRegister && !exists && !self.alive(saw).is_empty(),
            ),
            Operation::RemoveField { field } => {
                changes(self.alive(saw).iter().any(|(_, piece)| named(piece, field)))
            }
            Operation::Clear if self.crdt_type == CrdtType::ORMap => {
                changes(self.alive(saw).iter().any(|(_, piece)| piece.place().is_some()))
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

    fn expect_at(&self, operation: &Operation, place: &Place, saw: &BTreeSet<usize>) -> Expected {
        let alive = self.alive(saw);
        let here = || alive.iter().map(|(_, piece)| piece).filter(|piece| piece.place() == place);
        let has_existence = here().any(|piece| matches!(piece, Piece::Existence(_)));
        let changes = |change: bool| if change { Expected::Dot } else { Expected::Nothing };
        match operation {
            Operation::Increment { by } | Operation::Decrement { by } => {
                changes(*by > 0 || !has_existence)
            }
            Operation::Remove { .. } | Operation::Clear if here().next().is_none() => {
                Expected::Refused(404)
            }
            Operation::Remove { .. } | Operation::Clear => {
                changes(here().any(|piece| takes_at(operation, place, piece)))
            }
            Operation::Disable => {
                changes(!has_existence || here().any(|piece| matches!(piece, Piece::Enabled(_))))
            }
            Operation::Set(write) if place.is_some() && write.ttl_ms.is_some() => {
                Expected::Refused(422)
            }
            _ => Expected::Dot,
        }
    }

    /// Takes notice of an operation that takes a dot. Returns its number.
    pub fn record(
        &mut self,
        operation: &Operation,
        saw: &BTreeSet<usize>,
        stamp: (HybridTimestamp, [u8; 16]),
        now_ms: u64,
    ) -> usize {
        let (place, at) = match operation {
            Operation::Update { field, crdt_type, operation } => {
                (Some((field.to_string(), *crdt_type)), &**operation)
            }
            other => (None, other),
        };
        let mut gives = match at {
            Operation::Increment { by } => {
                vec![Piece::Count(place.clone(), i128::from(*by))]
            }
            Operation::Decrement { by } => {
                vec![Piece::Count(place.clone(), -i128::from(*by))]
            }
            Operation::Add { elements } => elements
                .iter()
                .map(|element| Piece::Element(place.clone(), element.to_string()))
                .collect(),
            Operation::Enable => vec![Piece::Enabled(place.clone())],
            Operation::Set(write) => vec![Piece::Written(place.clone(), write.bytes.to_vec())],
            _ => Vec::new(),
        };
        if !matches!(operation, Operation::Delete | Operation::Purge) {
            for place in BTreeSet::from([None, place]) {
                let alive = self.alive(saw);
                let is_register =
                    place.as_ref().map_or(self.crdt_type, |(_, of)| *of) == CrdtType::LWWRegister;
                let is_there = |piece: &Piece| *piece == Piece::Existence(place.clone());
                if !is_register && !alive.iter().any(|(_, piece)| is_there(piece)) {
                    gives.push(Piece::Existence(place));
                }
            }
        }
        let deadline_ms = match at {
            Operation::Set(write) => write.ttl_ms.map(|ttl| now_ms + ttl),
            _ => None,
        };
        let operation = operation.clone();
        self.events.push(Event { operation, saw: saw.clone(), stamp, deadline_ms, gives });
        self.events.len() - 1
    }

    /// The value where `seen` was seen, at `now_ms`.
    #[must_use]
    pub fn value(&self, seen: &BTreeSet<usize>, now_ms: u64) -> Value {
        let alive = self.alive(seen);
        if self.crdt_type != CrdtType::ORMap {
            return self.value_at(&None, self.crdt_type, &alive, now_ms);
        }
        if alive.is_empty() {
            return Value::Absent;
        }
        let names: BTreeSet<&String> = alive
            .iter()
            .filter_map(|(_, piece)| piece.place().as_ref())
            .map(|(name, _)| name)
            .collect();
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

    fn value_at(
        &self,
        place: &Place,
        crdt_type: CrdtType,
        alive: &[(usize, Piece)],
        now_ms: u64,
    ) -> Value {
        let here: Vec<_> = alive.iter().filter(|(_, piece)| piece.place() == place).collect();
        if here.is_empty() {
            return Value::Absent;
        }
        match crdt_type {
            CrdtType::GCounter | CrdtType::PNCounter => {
                Value::Counter(here.iter().map(|(_, piece)| count(piece)).sum())
            }
            CrdtType::EWFlag => {
                Value::Flag(here.iter().any(|(_, piece)| matches!(piece, Piece::Enabled(_))))
            }
            CrdtType::GSet | CrdtType::ORSet => {
                let elements: BTreeSet<String> = here
                    .iter()
                    .filter_map(|(_, piece)| match piece {
                        Piece::Element(_, element) => Some(element.clone()),
                        _ => None,
                    })
                    .collect();
                Value::Set(elements.into_iter().collect())
            }
            CrdtType::LWWRegister => {
                let latest = here.iter().max_by_key(|(event, _)| self.events[*event].stamp);
                match latest {
                    Some((event, Piece::Written(_, bytes)))
                        if self.events[*event].deadline_ms.is_none_or(|at| at > now_ms) =>
                    {
                        Value::Register(bytes.clone())
                    }
                    _ => Value::Absent,
                }
            }
            CrdtType::ORMap => Value::Absent,
        }
    }

    /// What was given by an operation in `seen` and taken by none there that saw it.
    fn alive(&self, seen: &BTreeSet<usize>) -> Vec<(usize, Piece)> {
        let mut alive = Vec::new();
        for &giver in seen {
            for piece in &self.events[giver].gives {
                let taken = seen.iter().any(|&taker| {
                    let taker = &self.events[taker];
                    taker.saw.contains(&giver) && self.takes(&taker.operation, piece)
                });
                if !taken {
                    alive.push((giver, piece.clone()));
                }
            }
        }
        alive
    }

    fn takes(&self, operation: &Operation, piece: &Piece) -> bool {
        match operation {
            Operation::Delete | Operation::Purge => true,
            Operation::RemoveField { field } => named(piece, field),
            Operation::Clear if self.crdt_type == CrdtType::ORMap => piece.place().is_some(),
            Operation::Update { field, crdt_type, operation } => {
                takes_at(operation, &Some((field.to_string(), *crdt_type)), piece)
            }
            other => takes_at(other, &None, piece),
        }
    }

    fn types(&self, seen: &BTreeSet<usize>, name: &str) -> BTreeSet<CrdtType> {
        let alive = self.alive(seen);
        let places = alive.iter().filter_map(|(_, piece)| piece.place().as_ref());
        places.filter(|(known, _)| known == name).map(|(_, of)| *of).collect()
    }

    fn visible_type(&self, seen: &BTreeSet<usize>, name: &str) -> Option<CrdtType> {
        self.types(seen, name).into_iter().min_by_key(|of| of.name())
    }
}

fn takes_at(operation: &Operation, place: &Place, piece: &Piece) -> bool {
    let takes = match (operation, piece) {
        (Operation::Clear, Piece::Element(..))
        | (Operation::Disable, Piece::Enabled(_))
        | (Operation::Set(_), Piece::Written(..)) => true,
        (Operation::Remove { elements }, Piece::Element(_, element)) => {
            elements.iter().any(|removed| removed.as_str() == element)
        }
        _ => false,
    };
    takes && piece.place() == place
}

fn named(piece: &Piece, field: &str) -> bool {
    piece.place().as_ref().is_some_and(|(name, _)| name == field)
}

fn count(piece: &Piece) -> i128 {
    match piece {
        Piece::Count(_, by) => *by,
        _ => 0,
    }
}
