//! Random operations on few objects, elements and fields, so that they conflict.

use coppice_crdt::{CrdtType, Element, Json, Operation, RegisterWrite};

use crate::rng::Rng;

/// A random operation for an object of type `crdt_type`.
pub(super) fn random(rng: &mut Rng, crdt_type: CrdtType) -> Operation {
    if rng.percent(6) {
        return Operation::Delete;
    }
    match crdt_type {
        CrdtType::ORMap => match rng.below(20) {
            0 => Operation::Clear,
            1..4 => Operation::RemoveField { field: field(rng) },
            _ => update(rng),
        },
        other => at_place(rng, other, true),
    }
}

/// Whether an operation takes more than it names.
pub(super) const fn takes_all(operation: &Operation) -> bool {
    matches!(operation, Operation::Delete | Operation::Clear | Operation::RemoveField { .. })
}

/// Whether an operation may be refused as one of a batch, and take steps alone.
pub(super) fn may_take_steps(operation: &Operation) -> bool {
    let within = match operation {
        Operation::Update { operation, .. } => operation,
        other => other,
    };
    takes_all(within)
}

/// Makes elements and values so long that few of them outgrow an object's record.
pub(super) fn enlarge(operation: &mut Operation) {
    const BYTES: usize = 160;
    match operation {
        Operation::Add { elements } | Operation::Remove { elements } => {
            for element in elements {
                let text = format!("{:.<BYTES$}", element.as_str());
                if let Ok(long) = Element::new(&Json::String(text)) {
                    *element = long;
                }
            }
        }
        Operation::Set(write) => {
            let text = String::from_utf8_lossy(&write.bytes);
            write.bytes = format!("{text:<BYTES$}").into_bytes().into();
        }
        Operation::Update { operation, .. } => enlarge(operation),
        _ => {}
    }
}

fn update(rng: &mut Rng) -> Operation {
    const TYPES: [CrdtType; 6] = [
        CrdtType::GCounter,
        CrdtType::PNCounter,
        CrdtType::GSet,
        CrdtType::ORSet,
        CrdtType::EWFlag,
        CrdtType::LWWRegister,
    ];
    let field = field(rng);
    // Mostly one type a field, so that few updates are refused.
    let usual = TYPES[usize::from(field.as_bytes()[0] - b'a') % TYPES.len()];
    let crdt_type = if rng.percent(10) { rng.pick(&TYPES) } else { usual };
    let operation = Box::new(at_place(rng, crdt_type, false));
    Operation::Update { field, crdt_type, operation }
}

fn field(rng: &mut Rng) -> Box<str> {
    rng.pick(&["a", "b", "c", "d", "e", "f", "b", "d"]).into()
}

fn at_place(rng: &mut Rng, crdt_type: CrdtType, object: bool) -> Operation {
    match crdt_type {
        CrdtType::PNCounter if rng.percent(40) => Operation::Decrement { by: rng.below(6) },
        CrdtType::GCounter | CrdtType::PNCounter => Operation::Increment { by: rng.below(6) },
        CrdtType::GSet => Operation::Add { elements: elements(rng) },
        CrdtType::ORSet => match rng.below(12) {
            0 => Operation::Clear,
            1..5 => Operation::Remove { elements: elements(rng) },
            _ => Operation::Add { elements: elements(rng) },
        },
        CrdtType::EWFlag if rng.percent(50) => Operation::Disable,
        CrdtType::EWFlag => Operation::Enable,
        CrdtType::LWWRegister | CrdtType::ORMap => {
            let ttl_ms = (object && rng.percent(20)).then(|| rng.between(100, 5_000));
            let bytes = rng.below(1_000_000).to_string().into_bytes().into();
            Operation::Set(RegisterWrite { content_type: "application/json".into(), bytes, ttl_ms })
        }
    }
}

/// One to three of eight elements; now and then so many that removing them all
/// takes a range.
fn elements(rng: &mut Rng) -> Vec<Element> {
    let numbers: Vec<u32> = if rng.percent(2) {
        (0..70).collect()
    } else {
        (0..rng.between(1, 3)).map(|_| u32::try_from(rng.below(8)).unwrap_or(0)).collect()
    };
    let element = |number| Element::new(&Json::Number(f64::from(number)));
    numbers.into_iter().filter_map(|number| element(number).ok()).collect()
}
