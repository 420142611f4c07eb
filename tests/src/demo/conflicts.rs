//! What the two sides of the cut do to the same things.

use coppice_crdt::CrdtType;

use super::scene::Step;
use crate::ledger::{Change, Target};

/// How many conflicts there are per type.
const CONFLICTS: usize = 15;

/// An object that gets one element of its own name, and is then left alone.
pub(super) const KEPT: &str = "kept";

/// Makes what is fought over, before the cut.
pub(super) fn seeds(crdt_type: CrdtType) -> Vec<Step> {
    let of_one = |number: usize| -> Vec<Step> {
        let object = Target::object(key(number));
        match crdt_type {
            CrdtType::GCounter | CrdtType::PNCounter => vec![(object, Change::Add(5))],
            CrdtType::GSet | CrdtType::ORSet => {
                vec![(object.clone(), put("x")), (object, put("y"))]
            }
            CrdtType::EWFlag => vec![(object, Change::Enable)],
            CrdtType::LWWRegister => vec![(object, Change::Write("before".into()))],
            CrdtType::ORMap => vec![
                (field(number, "count"), Change::Add(5)),
                (field(number, "tags"), put("x")),
                (field(number, "flag"), Change::Enable),
                (field(number, "text"), Change::Write("before".into())),
            ],
        }
    };
    let kept = (Target::object(KEPT), put(KEPT));
    let kept = (crdt_type == CrdtType::ORSet).then_some(kept);
    (0..CONFLICTS).flat_map(of_one).chain(kept).collect()
}

/// What either side does, in pairs that are about the same thing.
pub(super) fn steps(crdt_type: CrdtType) -> impl Iterator<Item = (Step, Step)> {
    (0..CONFLICTS).map(move |number| pair(crdt_type, number))
}

fn pair(crdt_type: CrdtType, number: usize) -> (Step, Step) {
    if crdt_type == CrdtType::ORMap {
        return in_map(number);
    }
    let (near, far) = match crdt_type {
        CrdtType::GCounter => match number % 4 {
            0 => (Change::Add(3), Change::Delete),
            1 => (Change::Delete, Change::Add(4)),
            2 => (Change::Add(2), Change::Add(6)),
            _ => (Change::Delete, Change::Delete),
        },
        CrdtType::PNCounter => match number % 4 {
            0 => (Change::Add(-3), Change::Delete),
            1 => (Change::Delete, Change::Add(4)),
            2 => (Change::Add(2), Change::Add(-6)),
            _ => (Change::Delete, Change::Add(-1)),
        },
        CrdtType::GSet => match number % 4 {
            0 => (put("x"), Change::Delete),
            1 => (Change::Delete, put("z")),
            2 => (put("z"), put("z")),
            _ => (Change::Delete, Change::Delete),
        },
        CrdtType::ORSet => match number % 5 {
            0 => (put("x"), take("x")),
            1 => (take("x"), put("x")),
            2 => (Change::Clear, put("y")),
            3 => (put("x"), Change::Delete),
            _ => (take("y"), take("y")),
        },
        CrdtType::EWFlag => match number % 4 {
            0 => (Change::Enable, Change::Disable),
            1 => (Change::Disable, Change::Enable),
            2 => (Change::Delete, Change::Enable),
            _ => (Change::Disable, Change::Disable),
        },
        CrdtType::LWWRegister | CrdtType::ORMap => match number % 4 {
            0 => (write("near", number), write("far", number)),
            1 => (write("near", number), Change::Delete),
            2 => (Change::Delete, write("far", number)),
            _ => (Change::Delete, Change::Delete),
        },
    };
    let object = Target::object(key(number));
    ((object.clone(), near), (object, far))
}

fn in_map(number: usize) -> (Step, Step) {
    let both = |name, near, far| ((field(number, name), near), (field(number, name), far));
    let map = Target::object(key(number));
    match number % 8 {
        0 => both("count", Change::Add(3), Change::Delete),
        1 => both("tags", Change::Delete, put("x")),
        2 => both("flag", Change::Disable, Change::Enable),
        3 => both("text", write("near", number), write("far", number)),
        4 => ((map, Change::Clear), (field(number, "count"), Change::Add(-2))),
        5 => ((field(number, "tags"), put("x")), (map, Change::Delete)),
        6 => both("tags", take("x"), put("x")),
        _ => both("count", Change::Add(2), Change::Add(4)),
    }
}

fn key(number: usize) -> String {
    format!("conflict-{number}")
}

fn field(number: usize, name: &str) -> Target {
    Target::field(key(number), name)
}

fn put(element: &str) -> Change {
    Change::Put(element.into())
}

fn take(element: &str) -> Change {
    Change::Take(element.into())
}

fn write(side: &str, number: usize) -> Change {
    Change::Write(format!("{side}-{number}"))
}
