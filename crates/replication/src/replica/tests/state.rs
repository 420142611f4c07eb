//! What operations leave in the store is what its entries, read from the start,
//! add up to.

use std::collections::{BTreeMap, BTreeSet};

use coppice_crdt::testing::operations;
use coppice_crdt::{CrdtType, Element, Entry, FieldHeader, Header, Operation, picked};
use proptest::collection::vec;
use proptest::prelude::*;

use super::node::{NO_LIMITS, Node, at};
use super::stored::entries;
use crate::INLINE_BYTES;
use crate::record::{FieldRecord, ObjectRecord, RANGES, RecordKey, Totals};
use crate::replica::WriteLimits;
use crate::unit::ObjectKey;

/// Some operations in one submission, and whether one is added that is refused.
type Submitted = (Vec<(u8, Operation)>, bool, u8);

fn submissions(crdt_type: CrdtType) -> impl Strategy<Value = Vec<Submitted>> {
    // Elements that make an object outgrow its header record soon.
    let large = (0..6_u8, any::<bool>()).prop_map(move |(letter, adds)| {
        let json = format!("\"{}\"", char::from(b'a' + letter).to_string().repeat(300));
        let elements = vec![Element::parse(json.as_bytes()).expect("it is JSON")];
        let operation =
            if adds { Operation::Add { elements } } else { Operation::Remove { elements } };
        match crdt_type {
            CrdtType::ORMap => Operation::Update {
                field: "b".into(),
                crdt_type: CrdtType::ORSet,
                operation: Box::new(operation),
            },
            _ => operation,
        }
    });
    let operation = match crdt_type {
        CrdtType::ORSet | CrdtType::ORMap => {
            prop_oneof![3 => operations(crdt_type), 2 => large].boxed()
        }
        other => operations(other),
    };
    let submission = (vec((0..2_u8, operation), 1..4), prop::bool::weighted(0.2), 0..4_u8);
    vec(submission, 1..30)
}

fn name(key: u8) -> ObjectKey {
    format!("object {key}").into()
}

/// Works everything derived out from the entries alone, and compares.
pub(super) fn check(node: &Node) {
    let etag_key = node.replica.identity.etag_key();
    let crdt_type = node.replica.identity.crdt_type;
    let mut headers: BTreeMap<ObjectKey, Header> = BTreeMap::new();
    let mut fields: BTreeMap<(ObjectKey, String), FieldHeader> = BTreeMap::new();
    let mut deadlines: BTreeSet<(u64, ObjectKey)> = BTreeSet::new();
    for (key, name, entry) in entries(&node.records) {
        let header = headers.entry(key.clone()).or_insert_with(|| Header::new(crdt_type));
        let field = name.field().map(|field| (key.clone(), field.name.into_owned()));
        let field = field.map(|field| fields.entry(field).or_default());
        header.update(etag_key, (&key, &name), field, (None, Some(&entry)));
        if let (Entry::Versions(versions), None) = (&entry, name.field()) {
            let deadline = picked(versions).and_then(|version| version.deadline_ms);
            deadlines.extend(deadline.map(|ms| (ms, key.clone())));
        }
    }
    check_records(node, &headers, &fields, &deadlines);

    let mut totals = Totals::default();
    let mut digests = [0_u128; RANGES];
    for (key, header) in &headers {
        totals.objects += u64::from(header.exists());
        totals.entries += header.summary.entries + u64::from(header.summary.existence);
        let range = usize::from(node.replica.set.range_of(key));
        digests[range] = digests[range].wrapping_add(header.etag);
    }
    assert_eq!(node.replica.set.totals(), totals);
    assert_eq!(*node.replica.set.digests(), digests);
}

fn check_records(
    node: &Node,
    headers: &BTreeMap<ObjectKey, Header>,
    fields: &BTreeMap<(ObjectKey, String), FieldHeader>,
    deadlines: &BTreeSet<(u64, ObjectKey)>,
) {
    let mut stored = (BTreeSet::new(), BTreeSet::new());
    let mut apart = BTreeSet::new();
    let (mut generations, mut swept) = (BTreeMap::new(), BTreeMap::new());
    for (key, bytes) in &node.records {
        match key {
            RecordKey::Object(id) => {
                let record = ObjectRecord::decode(bytes).unwrap();
                let nothing = Header::new(record.header.crdt_type);
                assert_eq!(record.header, *headers.get(&id.key).unwrap_or(&nothing), "{}", id.key);
                swept.insert(id.key.clone(), record.hidden.is_empty());
                if record.inline.is_some() {
                    assert!(bytes.len() <= INLINE_BYTES);
                } else {
                    apart.insert(id.key.clone());
                }
                generations.insert(id.key.clone(), record.generation);
                if record.hidden.is_empty() || headers.contains_key(&id.key) {
                    stored.0.insert(id.key.clone());
                }
            }
            RecordKey::Deadline(ms, id) => {
                stored.1.insert((*ms, id.key.clone()));
            }
            _ => {}
        }
    }
    assert_eq!(stored.0, headers.keys().cloned().collect(), "objects without entries");
    assert_eq!(stored.1, *deadlines);
    let mut field_records = BTreeMap::new();
    for (key, bytes) in &node.records {
        match key {
            RecordKey::Entry(id, _) => assert!(apart.contains(&id.key), "an entry left behind"),
            RecordKey::Field(id, name) => {
                assert!(apart.contains(&id.key), "a field left behind");
                let field = FieldRecord::decode(bytes).unwrap();
                if field.generation < generations[&id.key] {
                    assert!(!swept[&id.key], "an old field's record left behind");
                    continue;
                }
                let field = field.header;
                if !field.types.is_empty() {
                    field_records.insert((id.key.clone(), name.to_string()), field);
                }
            }
            _ => {}
        }
    }
    let of_those_apart = |(key, field): &(&(ObjectKey, String), &FieldHeader)| {
        apart.contains(&key.0) && !field.types.is_empty()
    };
    let expected = fields.iter().filter(of_those_apart);
    assert_eq!(field_records, expected.map(|(k, v)| (k.clone(), v.clone())).collect());
}

fn run(crdt_type: CrdtType, submissions: Vec<Submitted>) {
    let mut node = Node::new(1, crdt_type);
    let refused = WriteLimits { objects: 0, ..NO_LIMITS };
    for (step, (operations, refuse, forget)) in (0..).zip(submissions) {
        let mut operations: Vec<_> =
            operations.into_iter().map(|(key, operation)| (name(key), operation)).collect();
        let before = (node.replica.set.totals(), *node.replica.set.digests());
        let seen = node.replica.seen().clone();
        let done = if refuse {
            operations.push(("absent".into(), Operation::Delete));
            node.submit(&operations, NO_LIMITS, at(step))
        } else {
            let limits = if step % 7 == 6 { refused } else { NO_LIMITS };
            node.submit(&operations, limits, at(step))
        };
        if done.is_err() {
            assert_eq!(before, (node.replica.set.totals(), *node.replica.set.digests()));
            assert_eq!(&seen, node.replica.seen());
            if node.replica.pending.is_empty() {
                assert!(!node.replica.set.is_dirty(), "what was refused is to be written");
            }
        }
        if forget > 0 {
            // Else the next submission joins this one in a commit.
            node.keeps_loaded = forget == 1;
            node.commit(at(step));
            check(&node);
        }
    }
    node.commit(at(1_000));
    check(&node);
    let reopened = Node::open(2, crdt_type, node.records.clone());
    assert_eq!(reopened.replica.set.totals(), node.replica.set.totals());
    assert_eq!(reopened.replica.set.digests(), node.replica.set.digests());
    assert_eq!(reopened.replica.visible(), node.replica.visible());
    check(&reopened);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn figures_of_sets_are_those_of_their_entries(steps in submissions(CrdtType::ORSet)) {
        run(CrdtType::ORSet, steps);
    }

    #[test]
    fn figures_of_maps_are_those_of_their_entries(steps in submissions(CrdtType::ORMap)) {
        run(CrdtType::ORMap, steps);
    }

    #[test]
    fn figures_of_counters_are_those_of_their_entries(steps in submissions(CrdtType::PNCounter)) {
        run(CrdtType::PNCounter, steps);
    }

    #[test]
    fn figures_of_registers_are_those_of_their_entries(
        steps in submissions(CrdtType::LWWRegister),
    ) {
        run(CrdtType::LWWRegister, steps);
    }
}

#[test]
fn an_object_that_outgrew_its_record_is_small_again_once_it_was_gone() {
    let mut node = Node::new(1, CrdtType::ORSet);
    let element = |n: u32| Element::parse(format!("\"{n:0>300}\"").as_bytes()).unwrap();
    let add = |n| Operation::Add { elements: vec![element(n)] };
    let apart =
        |node: &Node| node.records.keys().filter(|key| matches!(key, RecordKey::Entry(..))).count();
    node.write("set", add(1), at(0));
    assert_eq!(apart(&node), 0);
    for n in 2..6 {
        node.write("set", add(n), at(0));
    }
    assert_eq!(apart(&node), 6, "five elements and the existence");
    node.write("set", Operation::Remove { elements: (2..6).map(element).collect() }, at(0));
    assert_eq!(apart(&node), 2, "it stays apart");
    node.write("set", Operation::Delete, at(0));
    assert!(entries(&node.records).is_empty());
    assert!(!node.records.keys().any(|key| matches!(key, RecordKey::Object(_))));
    node.write("set", add(1), at(0));
    assert_eq!(apart(&node), 0);
    check(&node);
}
