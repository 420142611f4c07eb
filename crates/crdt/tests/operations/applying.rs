//! What operations change and answer on one replica, and where their bounds are.

use coppice_crdt::testing::Object;
use coppice_crdt::{
    ActorId, Amounts, Applied, CrdtType, Dot, EntryRange, HybridTimestamp, Operation,
    OperationContext, Outcome, Refusal, RegisterWrite, RemovalLimits, VersionVector, apply, query,
};

use super::parse;

const LIMIT: u64 = 100;

/// One replica on its own.
struct Alone {
    crdt_type: CrdtType,
    object: Object,
    now_ms: u64,
    ranges: Vec<EntryRange>,
}

impl Alone {
    fn new(crdt_type: CrdtType) -> Self {
        let object = Object::new(crdt_type);
        Self { crdt_type, object, now_ms: 1_000, ranges: vec![EntryRange::all()] }
    }

    fn try_as(&mut self, actor: u8, operation: &Operation) -> Result<Applied, Refusal> {
        let actor = ActorId::from_bytes([actor; 16]);
        let context = self.object.context().clone();
        let dot = Dot::new(actor, context.get(&actor) + 1);
        let seen: Vec<_> =
            self.ranges.iter().map(|range| (range.clone(), context.clone())).collect();
        let context = OperationContext {
            dot,
            stamp: HybridTimestamp::new(self.now_ms, 0),
            now_ms: self.now_ms,
            seen: &seen,
            value_bytes_limit: LIMIT,
            is_littered: false,
            removals: RemovalLimits::default(),
        };
        let Ok(applied) = apply(operation, self.crdt_type, &self.object, &context);
        let applied = applied?;
        if !applied.delta.is_empty() {
            let covers = VersionVector::from_iter([(actor, dot.n)]);
            self.object.apply(&applied.delta, &covers);
        }
        Ok(applied)
    }

    fn run(&mut self, operation: &Operation) -> Result<Applied, Refusal> {
        self.try_as(1, operation)
    }

    fn outcome(&mut self, text: &str) -> Result<Outcome, Refusal> {
        let operation = parse(self.crdt_type, text).expect("tests send operations");
        self.run(&operation).map(|applied| applied.outcome)
    }
}

#[test]
fn a_share_of_a_counter_stays_below_two_to_the_63() {
    let most = Operation::Increment { by: (1 << 63) - 1 };
    let mut counter = Alone::new(CrdtType::PNCounter);
    assert!(counter.run(&most).is_ok());
    let refused = counter.run(&Operation::Increment { by: 1 });
    assert_eq!(refused, Err(Refusal::AmountLimit));
    assert_eq!(Refusal::AmountLimit.status(), 422);
    assert_eq!(counter.run(&Operation::Increment { by: u64::MAX }), Err(Refusal::AmountLimit));
    let lowered = counter.run(&Operation::Decrement { by: 1 }).map(|applied| applied.outcome);
    assert_eq!(lowered, Ok(Outcome::Counter((1 << 63) - 2)), "the other direction has its own");
    let rest = Operation::Decrement { by: (1 << 63) - 2 };
    assert!(counter.run(&rest).is_ok());
    assert_eq!(counter.run(&Operation::Decrement { by: 1 }), Err(Refusal::AmountLimit));
    let others = counter.try_as(2, &most).map(|applied| applied.outcome);
    assert_eq!(others, Ok(Outcome::Counter((1 << 63) - 1)), "so has another replica");
    assert!(counter.run(&Operation::Delete).is_ok());
    let again = counter.run(&most).map(|applied| applied.outcome);
    assert_eq!(again, Ok(Outcome::Counter((1 << 63) - 1)), "a delete starts again");
}

#[test]
fn answers_tell_what_changed() {
    let set = |changed, size| Ok(Outcome::Set { changed, size });
    let mut object = Alone::new(CrdtType::ORSet);
    assert_eq!(object.outcome(r#"{"op":"remove","element":1}"#), Err(Refusal::Absent));
    assert_eq!(object.outcome(r#"{"op":"clear"}"#), Err(Refusal::Absent));
    assert_eq!(object.outcome(r#"{"op":"delete"}"#), Err(Refusal::Absent));
    assert_eq!(object.outcome(r#"{"op":"add","elements":[1,2,1.0,1e0]}"#), set(true, 2));
    assert_eq!(object.outcome(r#"{"op":"add","element":1}"#), set(false, 2));
    assert_eq!(object.outcome(r#"{"op":"add","elements":[2,3]}"#), set(true, 3));
    assert_eq!(object.outcome(r#"{"op":"remove","elements":[9,3,3]}"#), set(true, 2));
    assert_eq!(object.outcome(r#"{"op":"remove","element":9}"#), set(false, 2));
    assert_eq!(object.outcome(r#"{"op":"clear"}"#), set(true, 0));
    assert_eq!(object.outcome(r#"{"op":"clear"}"#), set(false, 0));
    assert_eq!(object.outcome(r#"{"op":"delete"}"#), Ok(Outcome::Deleted));
    assert_eq!(Refusal::Absent.status(), 404);
}

#[test]
fn answers_of_a_map_tell_of_map_and_field() {
    let update = |field: &str, of: &str, operation: &str| {
        format!(r#"{{"op":"update","field":"{field}","type":"{of}","operation":{operation}}}"#)
    };
    let map = |changed, size, field: Option<Outcome>| {
        Ok(Outcome::Map { changed, size, field: field.map(Box::new) })
    };
    let mut object = Alone::new(CrdtType::ORMap);
    assert_eq!(object.outcome(r#"{"op":"remove","field":"n"}"#), Err(Refusal::Absent));
    let increment = update("n", "PNCounter", r#"{"op":"increment","by":2}"#);
    assert_eq!(object.outcome(&increment), map(true, 1, Some(Outcome::Counter(2))));
    let nothing = update("n", "PNCounter", r#"{"op":"increment","by":0}"#);
    assert_eq!(object.outcome(&nothing), map(false, 1, Some(Outcome::Counter(2))));
    assert_eq!(object.outcome(&increment), map(true, 1, Some(Outcome::Counter(4))));
    let enable = update("f", "EWFlag", r#"{"op":"enable"}"#);
    assert_eq!(object.outcome(&enable), map(true, 2, Some(Outcome::Flag(true))));
    assert_eq!(object.outcome(&enable), map(false, 2, Some(Outcome::Flag(true))));
    let disable = update("f", "EWFlag", r#"{"op":"disable"}"#);
    assert_eq!(object.outcome(&disable), map(true, 2, Some(Outcome::Flag(false))));
    assert_eq!(object.outcome(&disable), map(false, 2, Some(Outcome::Flag(false))));
    let wrong = object.outcome(&update("f", "ORSet", r#"{"op":"add","element":1}"#));
    let refusal = Refusal::FieldOfAnotherType {
        field: "f".into(),
        visible: CrdtType::EWFlag,
        requested: CrdtType::ORSet,
    };
    assert_eq!(refusal.status(), 409);
    assert!(refusal.to_string().contains("is an EWFlag, not an ORSet"), "{refusal}");
    assert_eq!(wrong, Err(refusal));
    let absent = object.outcome(&update("s", "ORSet", r#"{"op":"clear"}"#));
    assert_eq!(absent, Err(Refusal::FieldAbsent { field: "s".into() }));
    let expiring = update("r", "LWWRegister", r#"{"op":"set","value":1,"ttl":"1s"}"#);
    assert_eq!(object.outcome(&expiring), Err(Refusal::TtlInMap));
    assert_eq!(object.outcome(r#"{"op":"remove","field":"s"}"#), map(false, 2, None));
    assert_eq!(object.outcome(r#"{"op":"remove","field":"n"}"#), map(true, 1, None));
    assert_eq!(object.outcome(r#"{"op":"clear"}"#), map(true, 0, None));
    assert_eq!(object.outcome(r#"{"op":"clear"}"#), map(false, 0, None));
}

#[test]
fn operations_of_another_type_are_refused() {
    let mut counter = Alone::new(CrdtType::GCounter);
    for operation in [
        Operation::Decrement { by: 1 },
        Operation::Clear,
        Operation::Enable,
        Operation::Purge,
        Operation::RemoveField { field: "f".into() },
        Operation::Update {
            field: "f".into(),
            crdt_type: CrdtType::GCounter,
            operation: Box::new(Operation::Increment { by: 1 }),
        },
    ] {
        let refusal = counter.run(&operation).unwrap_err();
        assert_eq!(refusal.status(), 422, "{refusal}");
    }
    let nested = Operation::Update {
        field: "f".into(),
        crdt_type: CrdtType::ORMap,
        operation: Box::new(Operation::Clear),
    };
    assert_eq!(Alone::new(CrdtType::ORMap).run(&nested), Err(Refusal::MapInMap));
}

fn write(bytes: usize, ttl_ms: Option<u64>) -> Operation {
    let bytes = vec![b'x'; bytes].into();
    Operation::Set(RegisterWrite { content_type: "text/plain".into(), bytes, ttl_ms })
}

#[test]
fn register_values_are_bounded() {
    let mut register = Alone::new(CrdtType::LWWRegister);
    assert!(register.run(&write(100, None)).is_ok());
    let refusal = Refusal::ValueTooLarge { bytes: 101, limit: LIMIT };
    assert_eq!(refusal.status(), 413);
    assert_eq!(register.run(&write(101, None)), Err(refusal));
}

#[test]
fn expired_registers_are_absent_until_purged_or_written() {
    let mut register = Alone::new(CrdtType::LWWRegister);
    assert!(register.run(&write(1, Some(10))).is_ok());
    let purge = |register: &mut Alone| register.run(&Operation::Purge).map(|a| a.outcome);
    register.now_ms += 9;
    assert_eq!(query::exists(&register.object, register.now_ms), Ok(true));
    assert_eq!(purge(&mut register), Ok(Outcome::Purged(false)));
    register.now_ms += 1;
    assert_eq!(query::exists(&register.object, register.now_ms), Ok(false));
    assert_eq!(query::register(&register.object, register.now_ms), Ok(None));
    assert_eq!(register.run(&Operation::Delete), Err(Refusal::Absent));
    assert_eq!(purge(&mut register), Ok(Outcome::Purged(true)));
    assert!(register.object.entries().is_empty());
    assert_eq!(purge(&mut register), Ok(Outcome::Purged(false)));

    assert!(register.run(&write(1, Some(u64::MAX))).is_ok(), "a deadline past all clocks");
    assert!(register.run(&write(1, None)).is_ok());
    assert_eq!(register.object.entries().len(), 1);
}

#[test]
fn removals_name_dots_where_no_one_context_tells_what_was_seen() {
    let mut set = Alone::new(CrdtType::ORSet);
    let all: Vec<String> = (0..65).map(|number| number.to_string()).collect();
    assert!(set.outcome(&format!(r#"{{"op":"add","elements":[{}]}}"#, all.join(","))).is_ok());
    let middle: Box<[u8]> = b"\x053".as_slice().into();
    set.ranges = vec![
        EntryRange { from: Box::default(), to: Some(middle.clone()) },
        EntryRange { from: middle, to: None },
    ];
    let applied = set.run(&Operation::Clear).unwrap();
    assert!(applied.delta.removals.is_empty());
    assert_eq!(applied.delta.entries.len(), 65, "its existence stays as it is");
    assert_eq!(set.object.entries().len(), 1);
}

#[test]
fn small_removals_name_dots() {
    let mut set = Alone::new(CrdtType::ORSet);
    let all: Vec<String> = (0..64).map(|number| number.to_string()).collect();
    assert!(set.outcome(&format!(r#"{{"op":"add","elements":[{}]}}"#, all.join(","))).is_ok());
    let applied = set.run(&Operation::Clear).unwrap();
    assert!(applied.delta.removals.is_empty());
    assert_eq!(applied.delta.entries.len(), 64);
}

/// A map of counters and sets, each field counted by `actors` replicas.
fn map_of_counters(actors: u8, fields: usize) -> Alone {
    let mut map = Alone::new(CrdtType::ORMap);
    for field in 0..fields {
        let update = |crdt_type, operation| Operation::Update {
            field: format!("{field:04}").into(),
            crdt_type,
            operation: Box::new(operation),
        };
        for actor in 1..=actors {
            let increment = update(CrdtType::PNCounter, Operation::Increment { by: 2 });
            assert!(map.try_as(actor, &increment).is_ok());
        }
    }
    map
}

#[test]
fn large_removals_record_the_floor_of_each_counter_cell() {
    for removal in [Operation::Clear, Operation::Delete] {
        let mut map = map_of_counters(3, 70);
        let applied = map.run(&removal).unwrap();
        assert_eq!(applied.delta.removals.len(), 1);
        let floors = applied.delta.entries.values().filter_map(|change| match change {
            coppice_crdt::EntryDelta::Cells { floors, .. } => Some(floors),
            _ => None,
        });
        let amounts: Vec<Amounts> = floors.flatten().map(|floor| floor.amounts).collect();
        assert_eq!(amounts, vec![Amounts { up: 2, down: 0 }; 210]);
        assert_eq!(map.object, map.object.recounted());
        assert_eq!(
            query::fields(&map.object, None, 10).unwrap().map(|page| page.items.len()),
            (removal == Operation::Clear).then_some(0)
        );
    }
}

#[test]
fn fields_are_listed_in_order_by_page() {
    let mut map = map_of_counters(1, 5);
    assert!(map.run(&Operation::RemoveField { field: "0002".into() }).is_ok());
    let mut after: Option<String> = None;
    let mut names = Vec::new();
    loop {
        let page = query::fields(&map.object, after.as_deref(), 2).unwrap().unwrap();
        after = page.items.last().map(|field| field.name.to_string());
        names.extend(page.items.into_iter().map(|field| field.name));
        if !page.more {
            break;
        }
    }
    assert_eq!(names, ["0000", "0001", "0003", "0004"].map(Box::from));
    assert_eq!(query::size(&map.object), Ok(Some(4)));
}
