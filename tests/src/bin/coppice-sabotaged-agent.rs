//! The agent, over a store that loses one record: the demo must notice.
//!
//! All is as in `coppice-agent` but one commit: the first add to the `ORSet` that
//! `COPPICE_SABOTAGED_OBJECT` names is answered and shipped to peers, but the
//! record that holds its state is not written.

use std::process::ExitCode;

use coppice_agent::args::Args;
use coppice_agent::cli;
use coppice_agent::store::rocksdb::RocksStore;
use coppice_agent::store::{
    Batch, Durability, Item, KeyRange, Limit, Page, Read, Store, StoreError, Table, Write, keys,
};
use coppice_api::AgentConfig;
use coppice_crdt::CrdtType;

/// A store that drops one put.
struct ForgetfulStore {
    inner: RocksStore,
    /// Where the slots of the `ORSet` groups are kept.
    slot_keys: Vec<Vec<u8>>,
    /// What the keys of those groups' records begin with.
    prefixes: Vec<Vec<u8>>,
    /// The key of the object to forget.
    object: String,
    has_forgotten: bool,
}

// === impl ForgetfulStore ===

impl ForgetfulStore {
    fn open(config: &AgentConfig) -> Result<Self, StoreError> {
        let sets = config.groups.iter().filter(|group| group.crdt.crdt_type == CrdtType::ORSet);
        let slot_keys = sets.map(|group| keys::group(group.effective_id().as_bytes())).collect();
        let object = std::env::var("COPPICE_SABOTAGED_OBJECT").unwrap_or_default();
        let inner = cli::open_rocksdb(config)?;
        Ok(Self { inner, slot_keys, prefixes: Vec::new(), object, has_forgotten: false })
    }

    /// Whether this put is the one to lose.
    fn forgets(&mut self, table: Table, key: &[u8], value: &[u8]) -> bool {
        if table == Table::Meta && self.slot_keys.iter().any(|at| at == key) {
            self.prefixes.push(value.to_vec());
        }
        // Small objects are in one record with their entries.
        let is_object = table == Table::Objects
            && self.prefixes.iter().any(|prefix| key.starts_with(prefix))
            && keys::object_key(key) == Some(&self.object);
        let forgets = is_object && !self.has_forgotten;
        self.has_forgotten |= forgets;
        forgets
    }
}

impl Read for ForgetfulStore {
    type Cursor<'a> = <RocksStore as Read>::Cursor<'a>;

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<bytes::Bytes>, StoreError> {
        self.inner.get(table, key)
    }

    fn get_many(&self, keys: &[(Table, &[u8])]) -> Result<Vec<Option<bytes::Bytes>>, StoreError> {
        self.inner.get_many(keys)
    }

    fn scan(&self, table: Table, range: KeyRange<'_>, limit: Limit) -> Result<Page, StoreError> {
        self.inner.scan(table, range, limit)
    }

    fn first_in(&self, table: Table, range: KeyRange<'_>) -> Result<Option<Item>, StoreError> {
        self.inner.first_in(table, range)
    }

    fn last_in(&self, table: Table, range: KeyRange<'_>) -> Result<Option<Item>, StoreError> {
        self.inner.last_in(table, range)
    }

    fn cursor(&self, table: Table, range: KeyRange<'_>) -> Result<Self::Cursor<'_>, StoreError> {
        self.inner.cursor(table, range)
    }
}

impl Store for ForgetfulStore {
    type Reader = <RocksStore as Store>::Reader;

    fn commit(&mut self, batch: &Batch, durability: Durability) -> Result<(), StoreError> {
        let mut kept = Batch::new();
        for write in batch.iter() {
            match write {
                Write::Put { table, key, value } => {
                    if !self.forgets(table, key, value) {
                        kept.put(table, key, value);
                    }
                }
                Write::Delete { table, key } => kept.delete(table, key),
                Write::DeleteRange { table, from, to } => kept.delete_range(table, from, to),
            }
        }
        self.inner.commit(&kept, durability)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.inner.sync()
    }

    fn reader(&self) -> Self::Reader {
        self.inner.reader()
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        self.inner.reopen()
    }

    fn close(self) -> Result<(), StoreError> {
        self.inner.close()
    }
}

fn main() -> ExitCode {
    match Args::read(std::env::args_os()) {
        Ok(args) => cli::serve(args, ForgetfulStore::open),
        Err(nothing) => nothing.tell(),
    }
}
