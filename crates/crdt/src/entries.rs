//! What an operation or a query reads of one object.
//!
//! Types work on [`Entries`], one entry at a time, and never on a whole object,
//! so that a set of a million elements costs no more to add to than an empty
//! one. Two things implement it: the working set of a batch, in memory, and a
//! snapshot of the store.

use crate::{Entry, EntryKey, EntryRange, FieldHeader, Header};

/// Read access to one object by entry.
///
/// An error ends the operation or query that met it, and changes nothing. For a
/// working set it means "load this first, then run the operation again":
/// operations are functions of what they read, so the second run asks for the
/// same and one thing more. For a snapshot it is a failure of the store.
pub trait Entries {
    /// Why something could not be read.
    type Error;

    /// The object's header; `None` for an object that was never here.
    ///
    /// # Errors
    ///
    /// As the trait says.
    fn header(&self) -> Result<Option<Header>, Self::Error>;

    /// The header of the map field `name`; empty for one that is not here.
    ///
    /// # Errors
    ///
    /// As the trait says.
    fn field(&self, name: &str) -> Result<FieldHeader, Self::Error>;

    /// What stands under `key`.
    ///
    /// # Errors
    ///
    /// As the trait says.
    fn entry(&self, key: &EntryKey) -> Result<Option<Entry>, Self::Error>;

    /// The first `limit` entries in `range`, behind `after` if it is given, in
    /// the order of their keys. Fewer than `limit` only if there are no more.
    /// Counter cells may be dead.
    ///
    /// # Errors
    ///
    /// As the trait says.
    fn scan(
        &self,
        range: &EntryRange,
        after: Option<&EntryKey>,
        limit: usize,
    ) -> Result<Vec<(EntryKey, Entry)>, Self::Error>;
}
