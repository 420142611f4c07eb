//! What every store must do, as one suite of named cases.
//!
//! An engine passes it by naming a [`Factory`]:
//!
//! ```ignore
//! coppice_agent::store_conformance!(MyFactory::new());
//! ```
//!
//! Each case makes its own store; what it asserts is in [`Store`]'s contract.

#![allow(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a case fails by a panic, as any test does"
)]

pub mod model;
pub mod reads;
pub mod snapshots;
pub mod writes;

use bytes::Bytes;

use super::{Batch, Durability, Item, KeyRange, Limit, Read, Store, Table};

/// Makes stores of one engine for the suite.
pub trait Factory {
    /// The engine.
    type Store: Store;

    /// A store on a new, empty disk.
    fn create(&self) -> Self::Store;

    /// The store as it is found when the process that held `store` is gone and
    /// a new one opens the same disk. Nothing is synced in between.
    fn restart(&self, store: Self::Store) -> Self::Store;
}

/// Makes a `#[test]` of each case of the suite, for one engine.
#[macro_export]
macro_rules! store_conformance {
    ($factory:expr) => {
        $crate::store_conformance! { @each $factory;
            reads::absent_is_not_an_error,
            reads::empty_keys_and_values_are_kept,
            reads::large_values_are_kept,
            reads::tables_are_apart,
            reads::many_reads_come_in_the_order_asked,
            reads::scans_are_in_the_order_of_bytes,
            reads::pages_show_a_range_once,
            reads::a_page_gets_on_however_small_its_limit,
            reads::a_range_has_a_first_and_a_last,
            reads::a_reversed_range_is_empty,
            reads::a_cursor_keeps_to_its_range,
            reads::a_cursor_walks_a_hundred_thousand_keys,
            writes::a_batch_applies_in_its_order,
            writes::a_range_deletion_spares_its_end,
            writes::an_empty_batch_does_nothing,
            writes::a_commit_is_whole_over_all_tables,
            writes::fsyncs_are_counted,
            writes::a_restart_finds_every_commit,
            writes::reopening_keeps_every_commit,
            snapshots::a_snapshot_does_not_change,
            snapshots::a_snapshot_outlives_what_it_shows,
            snapshots::snapshots_are_read_on_any_thread,
            snapshots::many_snapshots_live_at_once,
            snapshots::reopening_ends_snapshots_and_not_readers,
            snapshots::closing_ends_readers,
            model::random_batches_behave_as_a_map,
        }
    };
    (@each $factory:expr; $($module:ident :: $case:ident),* $(,)?) => {
        $(
            #[test]
            fn $case() {
                $crate::store::conformance::$module::$case(&$factory);
            }
        )*
    };
}

/// Commits one `put`, unsynced.
fn put<S: Store>(store: &mut S, table: Table, key: &[u8], value: &[u8]) {
    let mut batch = Batch::new();
    batch.put(table, key, value);
    commit(store, &batch);
}

/// Commits `batch`, unsynced.
fn commit<S: Store>(store: &mut S, batch: &Batch) {
    store.commit(batch, Durability::NoSync).expect("commit");
}

/// The value under `key` as text.
fn text<R: Read>(view: &R, table: Table, key: &[u8]) -> Option<String> {
    let value = view.get(table, key).expect("get")?;
    Some(String::from_utf8(value.to_vec()).expect("the suite writes text here"))
}

/// All keys and values of a table.
fn items<R: Read>(view: &R, table: Table) -> Vec<Item> {
    view.scan(table, KeyRange::ALL, Limit::NONE).expect("scan").items
}

/// All keys of a range, as one text.
fn keys<R: Read>(view: &R, table: Table, range: KeyRange<'_>) -> String {
    let page = view.scan(table, range, Limit::NONE).expect("scan");
    let keys: Vec<Bytes> = page.items.into_iter().map(|(key, _)| key).collect();
    String::from_utf8(keys.concat()).expect("the suite's keys are text here")
}

/// A store that holds `letters` as keys of [`Table::Entries`].
fn holding<F: Factory>(factory: &F, letters: &str) -> F::Store {
    let mut store = factory.create();
    let mut batch = Batch::new();
    for letter in letters.chars() {
        batch.put(Table::Entries, letter.to_string().as_bytes(), b"v");
    }
    commit(&mut store, &batch);
    store
}
