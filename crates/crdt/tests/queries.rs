//! What readers see of sets and of maps' fields.

use coppice_crdt::query::{self, FieldValue, Page};
use coppice_crdt::testing::Object;
use coppice_crdt::{
    ActorId, Applied, CrdtType, Dot, Element, EntryRange, HybridTimestamp, Json, Operation,
    OperationContext, RegisterWrite, RemovalLimits, VersionVector, apply,
};

const A: ActorId = ActorId::from_bytes([1; 16]);
const B: ActorId = ActorId::from_bytes([2; 16]);

fn parsed(crdt_type: CrdtType, text: &str) -> Operation {
    let json = Json::parse(text.as_bytes()).expect("tests send JSON");
    Operation::from_json(crdt_type, &json).expect("tests send operations")
}

/// Carries an operation out, and says what it changed.
fn run(actor: ActorId, object: &mut Object, crdt_type: CrdtType, operation: &Operation) -> Applied {
    let context = object.context().clone();
    let dot = Dot::new(actor, context.get(&actor) + 1);
    let context = OperationContext {
        dot,
        stamp: HybridTimestamp::new(dot.n, 0),
        now_ms: 1,
        seen: &[(EntryRange::all(), context)],
        value_bytes_limit: 1_000,
        is_littered: false,
        removals: RemovalLimits::default(),
    };
    let Ok(applied) = apply(operation, crdt_type, object, &context);
    let applied = applied.expect("tests send what is allowed");
    if !applied.delta.is_empty() {
        object.apply(&applied.delta, &VersionVector::from_iter([(actor, dot.n)]));
    }
    applied
}

fn object_after(crdt_type: CrdtType, operations: &[&str]) -> Object {
    let mut object = Object::new(crdt_type);
    for text in operations {
        run(A, &mut object, crdt_type, &parsed(crdt_type, text));
    }
    object
}

fn element(text: &str) -> Element {
    Element::parse(text.as_bytes()).expect("tests send elements")
}

fn page(items: &[&str], more: bool) -> Page<Element> {
    Page { items: items.iter().map(|text| element(text)).collect(), more }
}

#[test]
fn membership_is_asked_of_a_set_that_exists() {
    let set = object_after(
        CrdtType::ORSet,
        &[r#"{"op":"add","elements":[1,2]}"#, r#"{"op":"remove","element":2}"#],
    );
    assert_eq!(query::contains(&set, &element("1")), Ok(Some(true)));
    assert_eq!(query::contains(&set, &element("2")), Ok(Some(false)));
    assert_eq!(query::contains(&Object::new(CrdtType::ORSet), &element("1")), Ok(None));
}

#[test]
fn a_page_says_whether_there_is_more() {
    let set = object_after(CrdtType::ORSet, &[r#"{"op":"add","elements":[1,2,3]}"#]);
    let of = |after: Option<&str>, limit| {
        query::elements(&set, after.map(element).as_ref(), limit).unwrap()
    };
    assert_eq!(of(None, 2), Some(page(&["1", "2"], true)));
    assert_eq!(of(None, 3), Some(page(&["1", "2", "3"], false)));
    assert_eq!(of(None, 4), Some(page(&["1", "2", "3"], false)));
    assert_eq!(of(Some("2"), 3), Some(page(&["3"], false)));
    assert_eq!(of(None, 0), Some(page(&[], true)));
    assert_eq!(query::elements(&Object::new(CrdtType::ORSet), None, 3), Ok(None));
}

fn update(field: &str, of: &str, operation: &str) -> String {
    format!(r#"{{"op":"update","field":"{field}","type":"{of}","operation":{operation}}}"#)
}

#[test]
fn the_elements_of_a_field_are_those_of_the_set_that_readers_see() {
    let map = object_after(
        CrdtType::ORMap,
        &[
            &update("tags", "ORSet", r#"{"op":"add","elements":[1,2,3]}"#),
            &update("tags2", "ORSet", r#"{"op":"add","elements":[4]}"#),
            &update("views", "PNCounter", r#"{"op":"increment"}"#),
        ],
    );
    let of = |name, after: Option<&str>, limit| {
        query::field_elements(&map, name, after.map(element).as_ref(), limit).unwrap()
    };
    assert_eq!(of("tags", None, 2), Some(page(&["1", "2"], true)));
    assert_eq!(of("tags", Some("2"), 2), Some(page(&["3"], false)));
    assert_eq!(of("views", None, 2), None, "a counter has no elements");
    assert_eq!(of("absent", None, 2), None);
}

#[test]
fn fields_read_as_json_alone_and_in_pages() {
    let mut map = object_after(
        CrdtType::ORMap,
        &[
            &update("empty", "ORSet", r#"{"op":"add","element":1}"#),
            &update("empty", "ORSet", r#"{"op":"clear"}"#),
            &update("flag", "EWFlag", r#"{"op":"enable"}"#),
            &update("json", "LWWRegister", r#"{"op":"set","value":{"a":[1]}}"#),
            &update("tags", "ORSet", r#"{"op":"add","elements":["x","y","z"]}"#),
            &update("views", "PNCounter", r#"{"op":"decrement","by":7}"#),
        ],
    );
    let content_type = "text/plain".into();
    let write = RegisterWrite { content_type, bytes: b"\"hi\"".as_slice().into(), ttl_ms: None };
    let operation = Operation::Update {
        field: "text".into(),
        crdt_type: CrdtType::LWWRegister,
        operation: Box::new(Operation::Set(write)),
    };
    run(A, &mut map, CrdtType::ORMap, &operation);
    let shown = |value: &FieldValue| {
        let mut text = String::new();
        value.write_json(&mut text);
        text
    };
    let expected = [
        ("empty", "[]"),
        ("flag", "true"),
        ("json", r#"{"a":[1]}"#),
        ("tags", r#"["x","y","z"]"#),
        ("text", r#""\"hi\"""#),
        ("views", "-7"),
    ];
    for (name, json) in expected {
        let field = query::field(&map, name).unwrap().expect("it is there");
        assert_eq!((&*field.name, &*shown(&field.value)), (name, json));
    }
    assert_eq!(query::field(&map, "absent"), Ok(None));
    let all = query::fields(&map, None, expected.len()).unwrap().unwrap();
    assert!(!all.more);
    let all: Vec<_> = all.items.iter().map(|field| (&*field.name, shown(&field.value))).collect();
    assert_eq!(all, expected.map(|(name, json)| (name, json.to_owned())));
}

#[test]
fn removing_what_is_not_there_makes_nothing_exist() {
    let add =
        |element: u8| parsed(CrdtType::ORSet, &format!(r#"{{"op":"add","element":{element}}}"#));
    let mut here = Object::new(CrdtType::ORSet);
    run(A, &mut here, CrdtType::ORSet, &add(1));
    let mut there = here.clone();
    run(A, &mut here, CrdtType::ORSet, &add(2));
    run(B, &mut there, CrdtType::ORSet, &Operation::Delete);
    here.join(&there);
    assert_eq!(
        query::elements(&here, None, 9).unwrap(),
        Some(page(&["2"], false)),
        "its existence is gone"
    );
    let remove = parsed(CrdtType::ORSet, r#"{"op":"remove","element":9}"#);
    assert!(run(A, &mut here, CrdtType::ORSet, &remove).delta.is_empty());
}
