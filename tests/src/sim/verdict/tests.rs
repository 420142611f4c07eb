//! What the verdict accepts, and that it rejects what it is there to reject.
//!
//! Histories are told by who wrote and who heard of it, and ends are made by hand:
//! no replica, no dot, no vector.

use coppice_crdt::RegisterWrite;
use coppice_crdt::{ActorId, CrdtType, Element, EtagKey, HybridTimestamp, Json, Operation};

use super::super::ledger::{Ledger, OpNumber};
use super::super::model::Value;
use super::super::recorded::Visible;
use super::{End, judge};

const NOW_MS: u64 = 1_000;

/// Two replicas with two objects, and what each has seen.
struct Story {
    ledger: Ledger,
    seen: [Visible; 2],
}

impl Story {
    fn new(crdt_type: CrdtType) -> Self {
        let keys = vec!["one".into(), "two".into()];
        let ledger = Ledger::new(crdt_type, keys, EtagKey::new([7; 16]));
        let nothing = ledger.nothing_seen().visible;
        Self { ledger, seen: [nothing.clone(), nothing] }
    }

    fn batch(&mut self, at: usize, operations: &[(usize, Operation)]) -> Vec<OpNumber> {
        let held = self.all();
        let done = self.ledger.submit(operations, (&mut self.seen[at], &held), (actor(at), NOW_MS));
        done.expect("not refused").operations
    }

    /// One operation on the first object that changes something.
    fn write(&mut self, at: usize, operation: Operation) -> OpNumber {
        self.batch(at, &[(0, operation)])[0]
    }

    /// All that anybody has.
    fn all(&self) -> Visible {
        let mut all = self.seen[0].clone();
        for (all, seen) in all.iter_mut().zip(&self.seen[1]) {
            all.join(seen);
        }
        all
    }

    fn exchange(&mut self) {
        let all = self.all();
        self.seen = [all.clone(), all];
    }

    /// What both replicas should be that have seen this.
    fn ends(&self, visible: &Visible) -> [End; 2] {
        let value = |object: usize| self.ledger.model(object).value(&visible[object], NOW_MS);
        [3, 5].map(|at| End {
            at,
            visible: visible.clone(),
            values: vec![value(0), value(1)],
            etags: vec![Some(1), Some(2)],
            digest: Some(9),
            mismatches: 0,
        })
    }

    fn verdict(&self, ends: &[End]) -> Result<(), String> {
        self.verdict_of(&self.all(), ends)
    }

    fn verdict_of(&self, held: &Visible, ends: &[End]) -> Result<(), String> {
        judge(&self.ledger, held, ends, NOW_MS).map_err(|wrong| wrong.text)
    }

    /// The first object must be `right` everywhere, and may be none of `wrong`, at
    /// both or at one of the replicas.
    fn must_be(&self, right: &Value, wrong: &[Value]) {
        let with = |values: [&Value; 2]| {
            let mut ends = self.ends(&self.all());
            for (end, value) in ends.iter_mut().zip(values) {
                end.values[0] = value.clone();
            }
            self.verdict(&ends)
        };
        assert_eq!(with([right, right]), Ok(()));
        for wrong in wrong {
            for values in [[wrong, wrong], [right, wrong], [wrong, right]] {
                let verdict = with(values).expect_err("a wrong value");
                assert!(verdict.contains("instead of"), "{verdict}");
            }
        }
    }
}

fn actor(at: usize) -> ActorId {
    ActorId::from_bytes([1 + u8::try_from(at).expect("one of two"); 16])
}

fn increment(by: u64) -> Operation {
    Operation::Increment { by }
}

fn elements(numbers: &[u32]) -> Vec<Element> {
    let element = |&number: &u32| Element::new(&Json::Number(f64::from(number)));
    numbers.iter().map(|number| element(number).expect("a number")).collect()
}

fn add(numbers: &[u32]) -> Operation {
    Operation::Add { elements: elements(numbers) }
}

fn remove(numbers: &[u32]) -> Operation {
    Operation::Remove { elements: elements(numbers) }
}

fn set(text: &str) -> Operation {
    let bytes = text.as_bytes().into();
    Operation::Set(RegisterWrite { content_type: "text/plain".into(), bytes, ttl_ms: None })
}

fn set_of(elements: &[&str]) -> Value {
    Value::Set(elements.iter().map(|&element| element.into()).collect())
}

fn register(text: &str) -> Value {
    Value::Register(text.into())
}

fn stamp(ms: u64, actor: u8) -> (HybridTimestamp, ActorId) {
    (HybridTimestamp::new(ms, 0), ActorId::from_bytes([actor; 16]))
}

/// What a map's field is, what it shows, and as what else it was written.
type Field = (CrdtType, Value, Vec<CrdtType>);

#[test]
fn a_growing_counter_is_the_sum_of_all_that_was_not_deleted() {
    let mut story = Story::new(CrdtType::GCounter);
    story.write(0, increment(3));
    story.exchange();
    story.write(0, Operation::Delete);
    story.write(1, increment(4));
    // 7: what the deletion took counts again. 0 and 3: what it had not seen is lost.
    let wrong = [7, 3, 0, 8].map(Value::Counter);
    story.must_be(&Value::Counter(4), &wrong);
    story.must_be(&Value::Counter(4), &[Value::Absent]);
}

#[test]
fn a_counter_counts_both_ways() {
    let mut story = Story::new(CrdtType::PNCounter);
    story.write(0, increment(5));
    story.write(1, Operation::Decrement { by: 7 });
    story.must_be(&Value::Counter(-2), &[5, -7, 12, 0].map(Value::Counter));
}

#[test]
fn an_add_to_a_growing_set_is_not_lost() {
    let mut story = Story::new(CrdtType::GSet);
    story.write(0, add(&[1]));
    story.write(1, add(&[2]));
    story.must_be(&set_of(&["1", "2"]), &[set_of(&["1"]), set_of(&["2"]), Value::Absent]);
}

#[test]
fn a_removed_element_does_not_come_back() {
    let mut story = Story::new(CrdtType::ORSet);
    story.write(0, add(&[1, 2]));
    story.exchange();
    story.write(0, remove(&[1]));
    story.must_be(&set_of(&["2"]), &[set_of(&["1", "2"]), set_of(&["1"]), set_of(&[])]);
}

#[test]
fn an_add_that_the_removal_had_not_seen_stays() {
    let mut story = Story::new(CrdtType::ORSet);
    story.write(0, add(&[1]));
    story.exchange();
    story.write(0, remove(&[1]));
    story.write(1, add(&[1]));
    story.must_be(&set_of(&["1"]), &[set_of(&[]), Value::Absent]);
}

#[test]
fn an_emptied_set_is_there_and_a_deleted_one_is_not() {
    let mut story = Story::new(CrdtType::ORSet);
    story.write(0, add(&[1]));
    story.write(0, Operation::Clear);
    story.must_be(&set_of(&[]), &[Value::Absent, set_of(&["1"])]);
    story.write(0, Operation::Delete);
    story.must_be(&Value::Absent, &[set_of(&[]), set_of(&["1"])]);
}

#[test]
fn a_flag_stays_enabled_beside_a_disable_that_had_not_seen_it() {
    let mut story = Story::new(CrdtType::EWFlag);
    story.write(0, Operation::Enable);
    story.write(1, Operation::Disable);
    story.must_be(&Value::Flag(true), &[Value::Flag(false), Value::Absent]);
    story.exchange();
    story.write(1, Operation::Disable);
    story.must_be(&Value::Flag(false), &[Value::Flag(true), Value::Absent]);
}

/// Equal everywhere and of the later stamp, and wrong all the same.
#[test]
fn a_value_that_a_write_had_seen_and_replaced_is_gone() {
    let mut story = Story::new(CrdtType::LWWRegister);
    let old = story.write(0, set("old"));
    story.ledger.stamp(old, stamp(90, 2));
    story.exchange();
    let new = story.write(1, set("new"));
    story.ledger.stamp(new, stamp(10, 1));
    story.must_be(&register("new"), &[register("old"), Value::Absent]);
}

#[test]
fn of_values_set_at_once_the_later_stamp_and_then_the_higher_actor_is_read() {
    for (left, right) in [(stamp(5, 9), stamp(6, 1)), (stamp(6, 1), stamp(6, 2))] {
        let mut story = Story::new(CrdtType::LWWRegister);
        let (winner, loser) = (story.write(0, set("wins")), story.write(1, set("loses")));
        story.ledger.stamp(winner, right);
        story.ledger.stamp(loser, left);
        story.must_be(&register("wins"), &[register("loses"), Value::Absent]);
    }
}

#[test]
fn a_register_is_read_until_its_deadline() {
    let mut story = Story::new(CrdtType::LWWRegister);
    let Operation::Set(write) = set("brief") else { unreachable!() };
    let number = story.write(0, Operation::Set(RegisterWrite { ttl_ms: Some(50), ..write }));
    story.ledger.stamp(number, stamp(1, 1));
    story.must_be(&register("brief"), &[Value::Absent]);
    let seen = &story.all()[0];
    let value_at = |ms| story.ledger.model(0).value(seen, NOW_MS + ms);
    assert_eq!(value_at(49), register("brief"));
    assert_eq!(value_at(50), Value::Absent);
}

#[test]
fn a_map_keeps_what_no_removal_had_seen_field_by_field() {
    let update = |field: &str, crdt_type, operation| Operation::Update {
        field: field.into(),
        crdt_type,
        operation: Box::new(operation),
    };
    let count = |by| (CrdtType::GCounter, Value::Counter(by), vec![]);
    let elements = |all| (CrdtType::ORSet, set_of(all), vec![]);
    let map = |fields: &[(&str, Field)]| {
        Value::Map(fields.iter().map(|(name, field)| ((*name).into(), field.clone())).collect())
    };
    let mut story = Story::new(CrdtType::ORMap);
    story.write(0, update("hits", CrdtType::GCounter, increment(2)));
    story.write(0, update("tags", CrdtType::ORSet, add(&[1])));
    story.exchange();
    story.write(0, Operation::RemoveField { field: "hits".into() });
    story.write(0, update("tags", CrdtType::ORSet, remove(&[1])));
    story.write(1, update("hits", CrdtType::GCounter, increment(3)));
    story.must_be(
        &map(&[("hits", count(3)), ("tags", elements(&[]))]),
        &[
            map(&[("hits", count(5)), ("tags", elements(&[]))]),
            map(&[("tags", elements(&[]))]),
            map(&[("hits", count(3))]),
            map(&[("hits", count(3)), ("tags", elements(&["1"]))]),
            map(&[]),
            Value::Absent,
        ],
    );
    // A field that became two types at once says so.
    story.write(0, update("name", CrdtType::GCounter, increment(1)));
    story.write(1, update("name", CrdtType::ORSet, add(&[7])));
    let both = |others: &[CrdtType]| (CrdtType::GCounter, Value::Counter(1), others.to_vec());
    let with = |name| map(&[("hits", count(3)), ("name", name), ("tags", elements(&[]))]);
    story.must_be(&with(both(&[CrdtType::ORSet])), &[with(both(&[])), with(elements(&["7"]))]);
}

/// Two adds of each replica, all exchanged.
fn told() -> (Story, [OpNumber; 2]) {
    let mut story = Story::new(CrdtType::ORSet);
    let first = story.write(0, add(&[1]));
    story.exchange();
    let second = story.write(1, add(&[2]));
    story.exchange();
    (story, [first, second])
}

fn seen_of(story: &Story, numbers: &[OpNumber]) -> Visible {
    let mut visible = story.ledger.nothing_seen().visible;
    for &number in numbers {
        story.ledger.see(number, &mut visible);
    }
    visible
}

#[track_caller]
fn assert_rejected(verdict: Result<(), String>, why: &str) {
    let text = verdict.expect_err("a wrong end");
    assert!(text.contains(why), "{text}");
}

#[test]
fn replicas_that_differ_in_anything_are_rejected() {
    let (story, [first, _]) = told();
    let all = story.all();
    assert_eq!(story.verdict(&story.ends(&all)), Ok(()));
    assert_rejected(story.verdict(&[]), "no replica");
    let changed = |change: &dyn Fn(&mut End)| {
        let mut ends = story.ends(&all);
        change(&mut ends[1]);
        story.verdict(&ends)
    };
    let behind = story.ends(&seen_of(&story, &[first]))[1].clone();
    assert_rejected(changed(&|end| *end = behind.clone()), "different writes");
    assert_rejected(changed(&|end| end.digest = Some(8)), "different digests");
    assert_rejected(changed(&|end| end.digest = None), "different digests");
    assert_rejected(changed(&|end| end.mismatches = 1), "another digest");
    assert_rejected(changed(&|end| end.etags[1] = None), "different etags");
    assert_rejected(changed(&|end| end.values[1] = set_of(&["1"])), "instead of");
}

#[test]
fn what_a_disk_held_is_not_gone_everywhere() {
    let (story, [first, _]) = told();
    let less = seen_of(&story, &[first]);
    assert_rejected(story.verdict(&story.ends(&less)), "some disk held");
}

#[test]
fn what_was_acknowledged_is_there_unless_a_fault_may_take_it() {
    let (mut story, [first, second]) = told();
    let less = seen_of(&story, &[first]);
    let ends = story.ends(&less);
    assert_eq!(story.verdict_of(&less, &ends), Ok(()));
    story.ledger.recordings[second].acknowledged = true;
    assert_rejected(story.verdict_of(&less, &ends), "was acknowledged and is gone");
    story.ledger.recordings[second].excused = true;
    assert_eq!(story.verdict_of(&less, &ends), Ok(()));
}

#[test]
fn a_write_is_not_there_without_what_its_issuer_had_seen() {
    let (story, [_, second]) = told();
    let later = seen_of(&story, &[second]);
    assert_rejected(story.verdict_of(&later, &story.ends(&later)), "came before");
}

#[test]
fn half_a_batch_is_rejected() {
    let mut story = Story::new(CrdtType::ORSet);
    let batch = story.batch(0, &[(0, add(&[1])), (1, add(&[2]))]);
    assert_eq!(story.verdict(&story.ends(&story.all())), Ok(()));
    let half = seen_of(&story, &batch[..1]);
    assert_rejected(story.verdict_of(&half, &story.ends(&half)), "only a part of the batch");
}

#[test]
fn a_refused_batch_is_as_if_it_had_never_been() {
    let mut story = Story::new(CrdtType::ORSet);
    let held = story.all();
    let batch = [(0, add(&[1])), (1, Operation::Delete)];
    let refused = story.ledger.submit(&batch, (&mut story.seen[0], &held), (actor(0), NOW_MS));
    assert_eq!(refused.err(), Some(404));
    assert_eq!(story.seen[0], held);
    // No conflict with what nobody has.
    story.write(1, add(&[1]));
    assert_eq!(story.ledger.conflicts, 0);
    story.must_be(&set_of(&["1"]), &[Value::Absent]);
}

#[test]
fn two_that_change_the_same_thing_unseen_by_each_other_conflict() {
    let conflicts = |crdt_type, first, second, heard| {
        let mut story = Story::new(crdt_type);
        story.write(0, first);
        if heard {
            story.exchange();
        }
        story.write(1, second);
        story.ledger.conflicts
    };
    for heard in [false, true] {
        let expected = u64::from(!heard);
        let set_type = CrdtType::ORSet;
        assert_eq!(conflicts(set_type, add(&[1]), add(&[2, 1]), heard), expected);
        assert_eq!(conflicts(set_type, add(&[1]), add(&[2]), heard), 0);
        assert_eq!(conflicts(CrdtType::PNCounter, increment(1), increment(2), heard), expected);
        assert_eq!(conflicts(CrdtType::LWWRegister, set("a"), set("b"), heard), expected);
        let (on, off) = (Operation::Enable, Operation::Disable);
        assert_eq!(conflicts(CrdtType::EWFlag, on, off, heard), expected);
    }
}
