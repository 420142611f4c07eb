//! The tables of a store: one per kind of record.

/// A kind of record, kept apart from the others: its own order of keys, and
/// its own files where the engine has files.
///
/// The names are in the files of every agent, so they never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Few and small: the store's identity and former actors, groups, vectors,
    /// ranges, the clock's bound.
    Meta,
    /// One header per object: type, size, `ETag`, existence; small objects whole.
    Objects,
    /// The entries of objects: counter cells, elements, fields, births.
    Entries,
    /// The arrival log: written at its end, trimmed at its start.
    Log,
    /// What falls due, in order of time: expiry of values.
    Deadlines,
    /// What removals saw of counter cells that are still alive.
    Floors,
}

// === impl Table ===

impl Table {
    /// Every table, in the order of their [`index`](Table::index).
    pub const ALL: [Self; 6] =
        [Self::Meta, Self::Objects, Self::Entries, Self::Log, Self::Deadlines, Self::Floors];

    /// The name in files and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Objects => "objects",
            Self::Entries => "entries",
            Self::Log => "log",
            Self::Deadlines => "deadlines",
            Self::Floors => "floors",
        }
    }

    /// The place in [`ALL`](Table::ALL), for arrays with a slot per table.
    pub const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn a_table_stands_at_its_index() {
        for (position, table) in Table::ALL.into_iter().enumerate() {
            assert_eq!(table.index(), position);
        }
    }
}
