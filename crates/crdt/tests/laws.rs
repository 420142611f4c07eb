//! The laws of every type, and of maps of them, over random concurrent histories.
//!
//! Each step of a history is checked against the oracle of recorded visibility
//! (see `coppice_crdt::testing`); here are the laws over what it leaves behind.

use coppice_crdt::testing::{Object, Step, World, check_laws, histories};
use coppice_crdt::{
    ActorId, CrdtType, Dot, EntryDelta, EntryKey, HybridTimestamp, ObjectDelta, Part, Version,
    VersionVector,
};
use proptest::test_runner::{Config, TestRunner};

/// Cases per type unless `PROPTEST_CASES` says otherwise.
const CASES: u32 = 64;

const STEPS: usize = 40;

fn for_all_histories(crdt_type: CrdtType, law: impl Fn(World)) {
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    let mut runner = TestRunner::new(config);
    let outcome = runner.run(&histories(crdt_type, STEPS), |(replicas, steps)| {
        law(world_after(crdt_type, replicas, &steps));
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{crdt_type}: {error}");
    }
}

fn world_after(crdt_type: CrdtType, replicas: u8, steps: &[Step]) -> World {
    let mut world = World::new(crdt_type, replicas);
    for step in steps {
        world.run(step);
    }
    world
}

fn states(world: &World) -> impl Fn(usize) -> Object {
    let states: Vec<Object> = world.replicas.iter().map(|replica| replica.object.clone()).collect();
    move |at| states[at % states.len()].clone()
}

fn joins_obey_the_laws(crdt_type: CrdtType) {
    for_all_histories(crdt_type, |world| {
        let state = states(&world);
        check_laws(&state(0), &state(1), &state(2));
        check_laws(&state(1), &state(2), &state(3));
    });
}

/// Joining another's state is the same as applying its units.
fn deltas_merge_as_states_do(crdt_type: CrdtType) {
    for_all_histories(crdt_type, |world| {
        for (from, source) in world.replicas.iter().enumerate() {
            for (to, target) in world.replicas.iter().enumerate() {
                let mut by_deltas = target.object.clone();
                for unit in &source.log {
                    if unit.base.is_covered_by(by_deltas.context()) {
                        let dot = VersionVector::from_iter([(unit.dot.actor, unit.dot.n)]);
                        by_deltas.apply(&unit.delta, &dot);
                    }
                }
                let mut by_state = target.object.clone();
                by_state.join(&source.object);
                // A replica that joined a state has no units of what it took.
                if by_deltas.context() == by_state.context() {
                    assert_eq!(by_deltas, by_state, "units of {from} and its state, at {to}");
                }
            }
        }
    });
}

/// Deltas join to the same group whatever their order and grouping.
fn deltas_join_in_any_order(crdt_type: CrdtType) {
    let join = |a: &ObjectDelta, b: &ObjectDelta| {
        let mut joined = a.clone();
        joined.join(b.clone());
        joined
    };
    for_all_histories(crdt_type, |world| {
        let deltas: Vec<_> = world
            .replicas
            .iter()
            .flat_map(|replica| replica.log.iter().map(|unit| &unit.delta))
            .collect();
        for window in deltas.windows(3).take(30) {
            let [a, b, c] = window else { continue };
            assert_eq!(join(a, b), join(b, a), "order");
            assert_eq!(join(&join(a, b), c), join(a, &join(b, c)), "grouping");
            assert_eq!(&&join(a, a), a, "repetition");
        }
    });
}

fn replicas_converge_to_the_oracle(crdt_type: CrdtType) {
    for_all_histories(crdt_type, |mut world| world.converge());
}

macro_rules! laws_of {
    ($($module:ident: $crdt_type:ident,)*) => {$(
        mod $module {
            use coppice_crdt::CrdtType;

            #[test]
            fn joins_obey_the_laws() {
                super::joins_obey_the_laws(CrdtType::$crdt_type);
            }

            #[test]
            fn deltas_merge_as_states_do() {
                super::deltas_merge_as_states_do(CrdtType::$crdt_type);
            }

            #[test]
            fn deltas_join_in_any_order() {
                super::deltas_join_in_any_order(CrdtType::$crdt_type);
            }

            #[test]
            fn replicas_converge_to_the_oracle() {
                super::replicas_converge_to_the_oracle(CrdtType::$crdt_type);
            }
        }
    )*};
}

laws_of! {
    g_counter: GCounter,
    pn_counter: PNCounter,
    g_set: GSet,
    or_set: ORSet,
    ew_flag: EWFlag,
    lww_register: LWWRegister,
    or_map: ORMap,
}

#[test]
#[should_panic(expected = "a ⊔ b = b ⊔ a")]
fn a_broken_law_is_noticed() {
    // Two values under one dot, which only a store that was cloned could have made.
    let written = |bytes: &[u8]| {
        let dot = Dot::new(ActorId::from_bytes([1; 16]), 1);
        let version = Version {
            dot,
            stamp: HybridTimestamp::new(1, 0),
            deadline_ms: None,
            content_type: "text/plain".into(),
            bytes: bytes.into(),
        };
        let change = EntryDelta::Versions { written: vec![version], removed: Vec::new() };
        let entries = [(EntryKey::of_object(Part::Value), change)].into();
        let mut object = Object::new(CrdtType::LWWRegister);
        let covers = VersionVector::from_iter([(dot.actor, dot.n)]);
        object.apply(&ObjectDelta { entries, removals: Vec::new() }, &covers);
        object
    };
    check_laws(&written(b"a"), &written(b"b"), &Object::new(CrdtType::LWWRegister));
}
