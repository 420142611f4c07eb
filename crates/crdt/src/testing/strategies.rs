//! Proptest strategies for operations and histories.
//!
//! Domains are small, so that concurrent operations meet: three elements, two
//! fields, stamps that tie.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::history::Step;
use crate::{CrdtType, Element, Json, Operation, RegisterWrite};

/// Operations on an object of type `crdt_type`, the common conflicts often.
pub fn operations(crdt_type: CrdtType) -> BoxedStrategy<Operation> {
    match crdt_type {
        CrdtType::ORMap => prop_oneof![
            12 => field_updates(),
            3 => field_names().prop_map(|field| Operation::RemoveField { field }),
            1 => Just(Operation::Clear),
            2 => Just(Operation::Delete),
        ]
        .boxed(),
        CrdtType::LWWRegister => prop_oneof![
            6 => writes(true),
            2 => Just(Operation::Delete),
            1 => Just(Operation::Purge),
        ]
        .boxed(),
        other => prop_oneof![6 => field_operations(other), 1 => Just(Operation::Delete)].boxed(),
    }
}

/// A number of replicas from 2 to 4, and up to `steps` steps of theirs.
pub fn histories(crdt_type: CrdtType, steps: usize) -> impl Strategy<Value = (u8, Vec<Step>)> {
    let replica = 0_usize..4;
    let step = prop_oneof![
        5 => (replica.clone(), operations(crdt_type), 0_u8..4).prop_map(
            |(replica, operation, stamp)| Step::Operate { replica, operation, stamp }
        ),
        4 => (replica.clone(), replica.clone(), 1_usize..6, any::<bool>()).prop_map(
            |(from, to, limit, grouped)| Step::Deliver { from, to, limit, grouped }
        ),
        1 => (replica.clone(), replica).prop_map(|(from, to)| Step::Merge { from, to }),
    ];
    (2_u8..=4, vec(step, 1..steps))
}

/// What an object and a map's field both know.
fn field_operations(crdt_type: CrdtType) -> BoxedStrategy<Operation> {
    let add = elements().prop_map(|elements| Operation::Add { elements });
    let increment = (0_u64..5).prop_map(|by| Operation::Increment { by });
    match crdt_type {
        CrdtType::GCounter => increment.boxed(),
        CrdtType::PNCounter => {
            let decrement = (0_u64..5).prop_map(|by| Operation::Decrement { by });
            prop_oneof![increment, decrement].boxed()
        }
        CrdtType::GSet => add.boxed(),
        CrdtType::ORSet => {
            let remove = elements().prop_map(|elements| Operation::Remove { elements });
            prop_oneof![4 => add, 4 => remove, 1 => Just(Operation::Clear)].boxed()
        }
        CrdtType::EWFlag => prop_oneof![Just(Operation::Enable), Just(Operation::Disable)].boxed(),
        CrdtType::LWWRegister | CrdtType::ORMap => writes(false),
    }
}

fn field_updates() -> BoxedStrategy<Operation> {
    let types = select(vec![
        CrdtType::GCounter,
        CrdtType::PNCounter,
        CrdtType::GSet,
        CrdtType::ORSet,
        CrdtType::EWFlag,
        CrdtType::LWWRegister,
    ]);
    // Mostly one type a field, so that updates are not all refused.
    let typed = (field_names(), types, 0..4).prop_map(|(field, of, other)| {
        let usual = if &*field == "a" { CrdtType::PNCounter } else { CrdtType::ORSet };
        (field, if other == 0 { of } else { usual })
    });
    typed
        .prop_flat_map(|(field, crdt_type)| {
            field_operations(crdt_type).prop_map(move |operation| Operation::Update {
                field: field.clone(),
                crdt_type,
                operation: Box::new(operation),
            })
        })
        .boxed()
}

fn field_names() -> impl Strategy<Value = Box<str>> {
    select(vec!["a", "b"]).prop_map(Box::from)
}

/// One or two of three elements; now and then so many that removing them all
/// takes a range.
fn elements() -> impl Strategy<Value = Vec<Element>> {
    prop_oneof![
        9 => vec(0_u32..3, 1..3),
        1 => Just((0..70).collect::<Vec<u32>>()),
    ]
    .prop_map(|numbers| {
        let element = |number| Element::new(&Json::Number(f64::from(number)));
        numbers.into_iter().filter_map(|number| element(number).ok()).collect()
    })
}

fn writes(expiring: bool) -> BoxedStrategy<Operation> {
    let ttl_ms = if expiring {
        prop_oneof![3 => Just(None), 1 => (1_u64..12).prop_map(Some)].boxed()
    } else {
        prop_oneof![9 => Just(None), 1 => Just(Some(5))].boxed()
    };
    (0_u8..5, ttl_ms)
        .prop_map(|(value, ttl_ms)| {
            let bytes = value.to_string().into_bytes().into();
            Operation::Set(RegisterWrite { content_type: "application/json".into(), bytes, ttl_ms })
        })
        .boxed()
}
