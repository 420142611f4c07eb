//! What one commit writes, in order.

use std::ops::Range;

use super::Table;

/// Writes to apply as one: all of them or none, in the order they were added.
///
/// Keys and values are copied into one buffer that [`clear`](Batch::clear)
/// keeps, so a writer that uses one batch for all its commits allocates
/// nothing once the buffer has grown.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    steps: Vec<Step>,
    /// Keys and values, one after the other; `steps` point into it.
    bytes: Vec<u8>,
}

/// One write of a [`Batch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write<'a> {
    /// Sets the value under a key, whether or not there was one.
    Put {
        /// Where.
        table: Table,
        /// Its key; may be empty.
        key: &'a [u8],
        /// Its value; may be empty, which is not the same as absent.
        value: &'a [u8],
    },
    /// Takes a key away; no error if it is absent.
    Delete {
        /// Where.
        table: Table,
        /// Its key.
        key: &'a [u8],
    },
    /// Takes away every key from `from` to before `to`.
    DeleteRange {
        /// Where.
        table: Table,
        /// The first key to go.
        from: &'a [u8],
        /// The first key to stay.
        to: &'a [u8],
    },
}

#[derive(Clone, Debug)]
struct Step {
    kind: Kind,
    table: Table,
    /// Key, or start of the range.
    first: Range<usize>,
    /// Value, or end of the range.
    second: Range<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Put,
    Delete,
    DeleteRange,
}

// === impl Batch ===

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the value under `key`.
    pub fn put(&mut self, table: Table, key: &[u8], value: &[u8]) {
        self.push(Kind::Put, table, key, value);
    }

    /// Takes `key` away; no error if it is absent.
    pub fn delete(&mut self, table: Table, key: &[u8]) {
        self.push(Kind::Delete, table, key, &[]);
    }

    /// Takes away every key from `from` to before `to`, those put earlier in
    /// this batch included. Does nothing if `to <= from`.
    ///
    /// It costs the writer the same whatever is in the range, but every read
    /// near it until the engine has tidied up: for a few known keys, `delete`
    /// each.
    pub fn delete_range(&mut self, table: Table, from: &[u8], to: &[u8]) {
        if from < to {
            self.push(Kind::DeleteRange, table, from, to);
        }
    }

    /// Adds the writes of `other` after those here.
    pub fn append(&mut self, other: &Batch) {
        for write in other.iter() {
            match write {
                Write::Put { table, key, value } => self.put(table, key, value),
                Write::Delete { table, key } => self.delete(table, key),
                Write::DeleteRange { table, from, to } => self.delete_range(table, from, to),
            }
        }
    }

    /// The writes, in order.
    pub fn iter(&self) -> impl Iterator<Item = Write<'_>> {
        self.steps.iter().map(|step| {
            let (first, second) =
                (&self.bytes[step.first.clone()], &self.bytes[step.second.clone()]);
            let table = step.table;
            match step.kind {
                Kind::Put => Write::Put { table, key: first, value: second },
                Kind::Delete => Write::Delete { table, key: first },
                Kind::DeleteRange => Write::DeleteRange { table, from: first, to: second },
            }
        })
    }

    /// How many writes it holds.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Bytes of all keys and values in it: what a writer limits a commit by.
    pub fn byte_size(&self) -> usize {
        self.bytes.len()
    }

    /// Takes all writes out, and keeps the buffers.
    pub fn clear(&mut self) {
        self.steps.clear();
        self.bytes.clear();
    }

    fn push(&mut self, kind: Kind, table: Table, first: &[u8], second: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(first);
        let middle = self.bytes.len();
        self.bytes.extend_from_slice(second);
        let end = self.bytes.len();
        self.steps.push(Step { kind, table, first: start..middle, second: middle..end });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_come_out_in_the_order_they_went_in() {
        let mut batch = Batch::new();
        batch.put(Table::Log, b"k", b"");
        batch.delete(Table::Meta, b"");
        batch.delete_range(Table::Entries, b"a", b"b");

        let writes: Vec<_> = batch.iter().collect();

        assert_eq!(
            writes,
            [
                Write::Put { table: Table::Log, key: b"k", value: b"" },
                Write::Delete { table: Table::Meta, key: b"" },
                Write::DeleteRange { table: Table::Entries, from: b"a", to: b"b" },
            ]
        );
        assert_eq!(batch.byte_size(), 3);
    }

    #[test]
    fn a_reversed_range_is_left_out() {
        let mut batch = Batch::new();
        batch.delete_range(Table::Log, b"b", b"a");
        batch.delete_range(Table::Log, b"b", b"b");
        assert!(batch.is_empty());
    }

    #[test]
    fn a_cleared_batch_holds_nothing() {
        let mut batch = Batch::new();
        batch.put(Table::Log, b"k", b"v");
        batch.clear();
        assert_eq!((batch.len(), batch.byte_size()), (0, 0));
    }
}
