//! Named conflicts, one table per type: what two replicas did without having
//! seen each other, and what both show once they have.
//!
//! Expected results are those of the literature for the type, and of Coppice's
//! own rule that a removal takes what it saw and no more.

use coppice_crdt::testing::{Step, Value, World, value_of};
use coppice_crdt::{CrdtType, Json, Operation};

/// A conflict: what replica A does alone at first and B then sees, what each does
/// without the other, and the value on both after they exchange all.
struct Scenario {
    name: &'static str,
    before: &'static [&'static str],
    a: &'static [&'static str],
    b: &'static [&'static str],
    value: Value,
}

const A: usize = 0;
const B: usize = 1;

fn operate(world: &mut World, replica: usize, crdt_type: CrdtType, text: &str, stamp: u8) {
    let json = Json::parse(text.as_bytes()).expect("scenarios are JSON");
    let operation = Operation::from_json(crdt_type, &json).expect("scenarios are operations");
    world.run(&Step::Operate { replica, operation, stamp });
}

fn exchange(world: &mut World, grouped: bool) {
    for (from, to) in [(A, B), (B, A)] {
        world.run(&Step::Deliver { from, to, limit: usize::MAX, grouped });
    }
}

/// Runs each scenario by single deltas, by delta-groups, and by whole states, and
/// each also with the sides swapped. B's clock is behind A's.
fn check(crdt_type: CrdtType, scenarios: &[Scenario]) {
    for scenario in scenarios {
        for (first, second) in [(A, B), (B, A)] {
            for exchange_by in ["deltas", "groups", "states"] {
                let mut world = World::new(crdt_type, 2);
                for text in scenario.before {
                    operate(&mut world, first, crdt_type, text, 5);
                }
                exchange(&mut world, false);
                for text in scenario.a {
                    operate(&mut world, first, crdt_type, text, 9);
                }
                for text in scenario.b {
                    operate(&mut world, second, crdt_type, text, 2);
                }
                match exchange_by {
                    "states" => world.converge(),
                    by => exchange(&mut world, by == "groups"),
                }
                for replica in [A, B] {
                    let value = value_of(&world.replicas[replica].object, 10);
                    let name = scenario.name;
                    assert_eq!(value, scenario.value, "{name}, by {exchange_by}, at {replica}");
                }
            }
        }
    }
}

fn set(elements: &[&str]) -> Value {
    Value::Set(elements.iter().map(|&element| element.to_owned()).collect())
}

fn map(fields: &[(&str, CrdtType, Value)]) -> Value {
    let field = |(name, of, value): &(&str, CrdtType, Value)| {
        ((*name).to_owned(), (*of, value.clone(), Vec::new()))
    };
    Value::Map(fields.iter().map(field).collect())
}

fn register(value: &str) -> Value {
    Value::Register(value.as_bytes().to_vec())
}

const DELETE: &str = r#"{"op":"delete"}"#;
const CLEAR: &str = r#"{"op":"clear"}"#;
const ADD_X: &str = r#"{"op":"add","element":"x"}"#;
const ADD_Y: &str = r#"{"op":"add","element":"y"}"#;
const REMOVE_X: &str = r#"{"op":"remove","element":"x"}"#;
const PLUS_5: &str = r#"{"op":"increment","by":5}"#;
const PLUS_3: &str = r#"{"op":"increment","by":3}"#;
const MINUS_2: &str = r#"{"op":"decrement","by":2}"#;
const PLUS_0: &str = r#"{"op":"increment","by":0}"#;
const ENABLE: &str = r#"{"op":"enable"}"#;
const DISABLE: &str = r#"{"op":"disable"}"#;
const SET_1: &str = r#"{"op":"set","value":1}"#;
const SET_2: &str = r#"{"op":"set","value":2}"#;

fn counter_scenarios() -> Vec<Scenario> {
    let rows: Vec<Row> = vec![
        ("both increments count", &[], &[PLUS_5], &[PLUS_3], Value::Counter(8)),
        ("a delete takes what it saw", &[PLUS_5], &[DELETE], &[PLUS_3], Value::Counter(3)),
        ("a delete that saw all", &[PLUS_5, PLUS_3], &[DELETE], &[], Value::Absent),
        ("two deletes", &[PLUS_5], &[DELETE], &[DELETE], Value::Absent),
        ("a count after a delete", &[PLUS_5], &[DELETE, PLUS_3], &[PLUS_3], Value::Counter(6)),
        (
            "deleted, counted, deleted",
            &[PLUS_5],
            &[DELETE, PLUS_3, DELETE],
            &[PLUS_3],
            Value::Counter(3),
        ),
        ("nothing added to a deleted counter", &[PLUS_5], &[DELETE], &[PLUS_0], Value::Absent),
        ("created with nothing", &[], &[PLUS_0], &[], Value::Counter(0)),
        ("created with nothing, and counted", &[], &[PLUS_0], &[PLUS_3], Value::Counter(3)),
    ];
    rows.into_iter().map(scenario).collect()
}

type Row = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    &'static [&'static str],
    Value,
);

fn scenario((name, before, a, b, value): Row) -> Scenario {
    Scenario { name, before, a, b, value }
}

#[test]
fn g_counter() {
    check(CrdtType::GCounter, &counter_scenarios());
}

#[test]
fn pn_counter() {
    check(CrdtType::PNCounter, &counter_scenarios());
    let rows: Vec<Row> = vec![
        ("both directions count", &[], &[PLUS_5], &[MINUS_2], Value::Counter(3)),
        ("below zero", &[], &[MINUS_2], &[MINUS_2], Value::Counter(-4)),
        ("a delete beside a decrement", &[PLUS_5], &[DELETE], &[MINUS_2], Value::Counter(-2)),
        (
            "at zero it exists",
            &[PLUS_5, MINUS_2],
            &[MINUS_2],
            &[r#"{"op":"decrement"}"#],
            Value::Counter(0),
        ),
        (
            "a delete at zero",
            &[MINUS_2, r#"{"op":"increment","by":2}"#],
            &[DELETE],
            &[PLUS_3],
            Value::Counter(3),
        ),
    ];
    check(CrdtType::PNCounter, &rows.into_iter().map(scenario).collect::<Vec<_>>());
}

#[test]
fn g_set() {
    let rows: Vec<Row> = vec![
        ("both adds stay", &[], &[ADD_X], &[ADD_Y], set(&[r#""x""#, r#""y""#])),
        ("an add twice is one", &[], &[ADD_X], &[ADD_X], set(&[r#""x""#])),
        ("a delete takes what it saw", &[ADD_X], &[DELETE], &[ADD_Y], set(&[r#""y""#])),
        ("a re-add survives a delete", &[ADD_X], &[DELETE], &[ADD_X], set(&[r#""x""#])),
        ("a delete that saw all", &[ADD_X, ADD_Y], &[DELETE], &[], Value::Absent),
    ];
    check(CrdtType::GSet, &rows.into_iter().map(scenario).collect::<Vec<_>>());
}

#[test]
fn or_set() {
    let rows: Vec<Row> = vec![
        ("an add wins over a remove", &[ADD_X], &[REMOVE_X], &[ADD_X], set(&[r#""x""#])),
        ("an add wins over a clear", &[ADD_X, ADD_Y], &[CLEAR], &[ADD_X], set(&[r#""x""#])),
        ("an add wins over a delete", &[ADD_X, ADD_Y], &[DELETE], &[ADD_Y], set(&[r#""y""#])),
        ("a remove takes what it saw", &[ADD_X], &[REMOVE_X], &[ADD_Y], set(&[r#""y""#])),
        ("two removes", &[ADD_X], &[REMOVE_X], &[REMOVE_X], set(&[])),
        ("emptied, not gone", &[ADD_X], &[CLEAR], &[], set(&[])),
        ("a remove beside a delete", &[ADD_X], &[REMOVE_X], &[DELETE], Value::Absent),
        ("added and removed meanwhile", &[ADD_X], &[REMOVE_X], &[ADD_X, REMOVE_X], set(&[])),
        (
            "added and removed beside a delete",
            &[ADD_X],
            &[DELETE],
            &[ADD_Y, "{\"op\":\"remove\",\"element\":\"y\"}"],
            Value::Absent,
        ),
    ];
    check(CrdtType::ORSet, &rows.into_iter().map(scenario).collect::<Vec<_>>());
}

#[test]
fn ew_flag() {
    let rows: Vec<Row> = vec![
        ("enable wins", &[ENABLE], &[DISABLE], &[ENABLE], Value::Flag(true)),
        ("enable wins on a new flag", &[], &[DISABLE], &[ENABLE], Value::Flag(true)),
        ("two disables", &[ENABLE], &[DISABLE], &[DISABLE], Value::Flag(false)),
        ("a disable creates a flag", &[], &[DISABLE], &[], Value::Flag(false)),
        ("enable wins over a delete", &[ENABLE], &[DELETE], &[ENABLE], Value::Flag(true)),
        ("a delete beside a disable", &[ENABLE], &[DELETE], &[DISABLE], Value::Absent),
    ];
    check(CrdtType::EWFlag, &rows.into_iter().map(scenario).collect::<Vec<_>>());
}

#[test]
fn lww_register() {
    const SET_3: &str = r#"{"op":"set","value":3}"#;
    const BRIEF: &str = r#"{"op":"set","value":3,"ttl":"1ms"}"#;
    let rows: Vec<Row> = vec![
        ("the later stamp is read", &[], &[SET_1], &[SET_2], register("1")),
        ("a write replaces what it saw whatever the clock", &[SET_1], &[], &[SET_2], register("2")),
        ("a delete takes what it saw", &[SET_1], &[DELETE], &[SET_2], register("2")),
        ("two deletes", &[SET_1], &[DELETE], &[DELETE], Value::Absent),
        ("written again after a delete", &[SET_1], &[DELETE, SET_2], &[DELETE], register("2")),
        ("the last of several", &[SET_1], &[SET_2, SET_3], &[SET_1], register("3")),
        ("an expired pick hides the loser", &[], &[BRIEF], &[SET_2], Value::Absent),
        ("a loser that expired", &[], &[SET_1], &[BRIEF], register("1")),
    ];
    check(CrdtType::LWWRegister, &rows.into_iter().map(scenario).collect::<Vec<_>>());
}

const LIKES_5: &str =
    r#"{"op":"update","field":"likes","type":"PNCounter","operation":{"op":"increment","by":5}}"#;
const LIKES_3: &str =
    r#"{"op":"update","field":"likes","type":"PNCounter","operation":{"op":"increment","by":3}}"#;
const REMOVE_LIKES: &str = r#"{"op":"remove","field":"likes"}"#;
const TAGS_X: &str =
    r#"{"op":"update","field":"tags","type":"ORSet","operation":{"op":"add","element":"x"}}"#;
const TAGS_NOT_X: &str =
    r#"{"op":"update","field":"tags","type":"ORSet","operation":{"op":"remove","element":"x"}}"#;
const NAME_1: &str =
    r#"{"op":"update","field":"name","type":"LWWRegister","operation":{"op":"set","value":1}}"#;
const NAME_2: &str =
    r#"{"op":"update","field":"name","type":"LWWRegister","operation":{"op":"set","value":2}}"#;

#[test]
fn or_map() {
    use CrdtType::{LWWRegister, ORSet, PNCounter};
    let likes = |value| map(&[("likes", PNCounter, Value::Counter(value))]);
    let tags = |elements: &[&str]| map(&[("tags", ORSet, set(elements))]);
    let rows: Vec<Row> = vec![
        ("both updates of a field", &[], &[LIKES_5], &[LIKES_3], likes(8)),
        ("an update survives as itself", &[LIKES_5], &[REMOVE_LIKES], &[LIKES_3], likes(3)),
        ("the same by clear", &[LIKES_5], &[CLEAR], &[LIKES_3], likes(3)),
        ("the same by delete", &[LIKES_5], &[DELETE], &[LIKES_3], likes(3)),
        ("removed and counted again", &[LIKES_5], &[REMOVE_LIKES, LIKES_3], &[LIKES_3], likes(6)),
        ("two removals", &[LIKES_5], &[REMOVE_LIKES], &[REMOVE_LIKES], map(&[])),
        ("cleared, not gone", &[LIKES_5], &[CLEAR], &[], map(&[])),
        ("a delete that saw all", &[LIKES_5, TAGS_X], &[DELETE], &[], Value::Absent),
        ("a nested add wins", &[TAGS_X], &[TAGS_NOT_X], &[TAGS_X], tags(&[r#""x""#])),
        ("a nested set emptied stays", &[TAGS_X], &[TAGS_NOT_X], &[], tags(&[])),
        (
            "another field is not concerned",
            &[LIKES_5],
            &[REMOVE_LIKES],
            &[TAGS_X],
            tags(&[r#""x""#]),
        ),
        (
            "a nested register",
            &[],
            &[NAME_1],
            &[NAME_2],
            map(&[("name", LWWRegister, register("1"))]),
        ),
        (
            "a nested register removed",
            &[NAME_1],
            &["{\"op\":\"remove\",\"field\":\"name\"}"],
            &[NAME_2],
            map(&[("name", LWWRegister, register("2"))]),
        ),
    ];
    check(CrdtType::ORMap, &rows.into_iter().map(scenario).collect::<Vec<_>>());
}

#[test]
fn map_field_of_two_types_shows_the_first_name_and_the_conflict() {
    let flag = r#"{"op":"update","field":"f","type":"EWFlag","operation":{"op":"enable"}}"#;
    let count = r#"{"op":"update","field":"f","type":"PNCounter","operation":{"op":"increment"}}"#;
    let both = (CrdtType::EWFlag, Value::Flag(true), vec![CrdtType::PNCounter]);
    let removed = r#"{"op":"remove","field":"f"}"#;

    let mut world = World::new(CrdtType::ORMap, 2);
    operate(&mut world, A, CrdtType::ORMap, count, 1);
    operate(&mut world, B, CrdtType::ORMap, flag, 1);
    exchange(&mut world, false);
    let value = value_of(&world.replicas[A].object, 0);
    assert_eq!(value, Value::Map([("f".to_owned(), both)].into()));

    operate(&mut world, A, CrdtType::ORMap, removed, 1);
    exchange(&mut world, false);
    let value = value_of(&world.replicas[B].object, 0);
    assert_eq!(value, map(&[]), "a removal takes the field with all its types");
}

#[test]
fn large_clear_keeps_what_it_had_not_seen() {
    let elements: Vec<String> = (0..1_000).map(|number| number.to_string()).collect();
    let add_all = format!(r#"{{"op":"add","elements":[{}]}}"#, elements.join(","));
    for removal in [CLEAR, DELETE] {
        for grouped in [false, true] {
            let mut world = World::new(CrdtType::ORSet, 2);
            operate(&mut world, A, CrdtType::ORSet, &add_all, 1);
            exchange(&mut world, grouped);
            operate(&mut world, A, CrdtType::ORSet, removal, 1);
            operate(&mut world, B, CrdtType::ORSet, r#"{"op":"add","element":7}"#, 1);
            let unit = world.replicas[A].log.last().expect("the removal took a dot");
            assert_eq!(unit.delta.removals.len(), 1, "it names a range");
            assert!(unit.delta.entries.len() <= 1, "and not its thousand dots");
            exchange(&mut world, grouped);
            for replica in &world.replicas {
                assert_eq!(value_of(&replica.object, 0), set(&["7"]));
            }
        }
    }
}
