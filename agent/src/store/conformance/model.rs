//! Random batches against a map that cannot be wrong.

use std::collections::BTreeMap;

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use super::{Factory, items};
use crate::store::{
    Batch, Durability, Item, KeyRange, Limit, Page, Read, Reader, Store, Table, Write,
};

/// What one commit of a run does.
#[derive(Clone, Debug)]
enum Step {
    Put(usize, Vec<u8>, Vec<u8>),
    Delete(usize, Vec<u8>),
    DeleteRange(usize, Vec<u8>, Vec<u8>),
}

/// What happens in a run, one after the other.
#[derive(Clone, Debug)]
enum Event {
    Commit(Vec<Step>, bool),
    Snapshot,
    Restart,
    Reopen,
    Sync,
}

type Model = [BTreeMap<Vec<u8>, Vec<u8>>; Table::ALL.len()];

/// Commits, snapshots, restarts and reopenings leave what the model says, and
/// every snapshot what it said then.
pub fn random_batches_behave_as_a_map<F: Factory>(factory: &F) {
    let mut runner = TestRunner::new(Config { cases: 24, ..Config::default() });
    let runs = prop::collection::vec(event(), 1..40);
    runner
        .run(&runs, |events| {
            run(factory, &events);
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

fn run<F: Factory>(factory: &F, events: &[Event]) {
    let mut store = factory.create();
    let mut model = Model::default();
    let mut kept = Vec::new();
    for event in events {
        match event {
            Event::Commit(steps, sync) => {
                let batch = batch(steps);
                apply(&mut model, &batch);
                let durability = if *sync { Durability::Sync } else { Durability::NoSync };
                store.commit(&batch, durability).unwrap();
            }
            Event::Snapshot => kept.push((store.reader().snapshot().unwrap(), model.clone())),
            Event::Restart => {
                kept.clear();
                store = factory.restart(store);
            }
            Event::Reopen => {
                kept.clear();
                store.reopen().unwrap();
            }
            Event::Sync => store.sync().unwrap(),
        }
    }
    check(&store, &model);
    for (snapshot, model) in &kept {
        check(snapshot, model);
    }
}

fn check<R: Read>(view: &R, model: &Model) {
    for table in Table::ALL {
        let model = &model[table.index()];
        let expected: Vec<Item> =
            model.iter().map(|(k, v)| (k.clone().into(), v.clone().into())).collect();
        assert_eq!(items(view, table), expected);
        let (from, to) = (&b"\x01"[..], &b"\x03"[..]);
        let inside = || model.range(from.to_vec()..to.to_vec()).map(|(key, _)| key.as_slice());
        let range = KeyRange::new(from, to);
        let Page { items, next } = view.scan(table, range, Limit::items(2)).unwrap();
        assert!(items.iter().map(|(key, _)| &key[..]).eq(inside().take(2)));
        assert_eq!(next.as_deref(), inside().nth(2));
        let last = view.last_in(table, range).unwrap();
        assert_eq!(last.as_ref().map(|(key, _)| &key[..]), inside().next_back());
    }
}

fn apply(model: &mut Model, batch: &Batch) {
    for write in batch.iter() {
        match write {
            Write::Put { table, key, value } => {
                model[table.index()].insert(key.to_vec(), value.to_vec());
            }
            Write::Delete { table, key } => {
                model[table.index()].remove(key);
            }
            Write::DeleteRange { table, from, to } => {
                model[table.index()].retain(|key, _| key.as_slice() < from || key.as_slice() >= to);
            }
        }
    }
}

fn batch(steps: &[Step]) -> Batch {
    let mut batch = Batch::new();
    for step in steps {
        match step {
            Step::Put(table, key, value) => batch.put(Table::ALL[*table], key, value),
            Step::Delete(table, key) => batch.delete(Table::ALL[*table], key),
            Step::DeleteRange(table, from, to) => batch.delete_range(Table::ALL[*table], from, to),
        }
    }
    batch
}

fn event() -> impl Strategy<Value = Event> {
    let commit = (prop::collection::vec(step(), 0..30), any::<bool>());
    prop_oneof![
        20 => commit.prop_map(|(steps, sync)| Event::Commit(steps, sync)),
        4 => Just(Event::Snapshot),
        1 => Just(Event::Restart),
        1 => Just(Event::Reopen),
        1 => Just(Event::Sync),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let table = 0..Table::ALL.len();
    let value = prop::collection::vec(any::<u8>(), 0..50);
    prop_oneof![
        6 => (table.clone(), key(), value).prop_map(|(t, k, v)| Step::Put(t, k, v)),
        2 => (table.clone(), key()).prop_map(|(t, k)| Step::Delete(t, k)),
        1 => (table, key(), key()).prop_map(|(t, from, to)| Step::DeleteRange(t, from, to)),
    ]
}

/// Short keys of few different bytes, so that writes meet.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![0..4_u8, Just(255)], 0..4)
}
