//! The writer over a store that fails.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use coppice_crdt::{CrdtType, Operation};
use coppice_replication::{FRAME_BYTES, ReplicaSettings, WriteLimits};
use prometheus::Registry;

use super::*;
use crate::clock::SystemClock;
use crate::engine::{GroupDurability, GroupSettings};
use crate::store::memory::{MemoryCursor, MemoryReader, MemoryStore};
use crate::store::{Batch, Durability, Item, KeyRange, Limit, Page, Read, StoreError, Table};

/// A store in memory whose next commits fail, so many of them.
#[derive(Default)]
struct Failing {
    inner: MemoryStore,
    commits: Arc<AtomicU32>,
}

impl Read for Failing {
    type Cursor<'a> = MemoryCursor;

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.inner.get(table, key)
    }

    fn get_many(&self, keys: &[(Table, &[u8])]) -> Result<Vec<Option<Bytes>>, StoreError> {
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

    fn cursor(&self, table: Table, range: KeyRange<'_>) -> Result<MemoryCursor, StoreError> {
        self.inner.cursor(table, range)
    }
}

impl Store for Failing {
    type Reader = MemoryReader;

    fn commit(&mut self, batch: &Batch, durability: Durability) -> Result<(), StoreError> {
        let fails = |left: u32| left.checked_sub(1);
        if self.commits.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fails).is_ok() {
            return Err(StoreError::DiskFull(io::ErrorKind::StorageFull.into()));
        }
        self.inner.commit(batch, durability)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.inner.sync()
    }

    fn reader(&self) -> MemoryReader {
        self.inner.reader()
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        self.inner.reopen()
    }

    fn close(self) -> Result<(), StoreError> {
        self.inner.close()
    }
}

/// A writer of one counter group, and how many of its next commits fail.
async fn writer() -> (WriterHandle, GroupHandle, Arc<AtomicU32>) {
    let store = Failing::default();
    let commits = Arc::clone(&store.commits);
    let start = WriterStart {
        store,
        name: "a".into(),
        clock: Arc::new(SystemClock::new()),
        metrics: WriterMetrics::register(&Registry::new()).unwrap(),
        random: rand::random::<[u8; 32]>,
    };
    let writer = super::start(start).unwrap();
    let replica = ReplicaSettings {
        eager: true,
        interval_ms: 5_000,
        log_bytes: 1 << 20,
        log_age_ms: 3_600_000,
        startup_wait_ms: 0,
        expects_peers: false,
        frame_bytes: FRAME_BYTES,
    };
    let limits = WriteLimits { objects: 100, elements: 100, value_bytes: 100 };
    let settings = GroupSettings { replica, limits, durability: GroupDurability::None };
    let (name, id, crdt_type) = ("hits".into(), [1; 16], CrdtType::PNCounter);
    let spec = GroupSpec { name, id, crdt_type, settings };
    let (_, group) = writer.serve(spec).await.unwrap();
    (writer, group, commits)
}

async fn increment(group: &GroupHandle) -> Result<WriteAnswer, SubmitError> {
    let operations = vec![("k".into(), Operation::Increment { by: 1 })];
    group.write(WriteRequest { operations, precondition: None, allow_incomplete: true }).await
}

#[tokio::test]
async fn a_store_that_fails_again_while_it_is_opened_is_opened_once_more() {
    let (writer, group, commits) = writer().await;
    increment(&group).await.unwrap();
    // The write, and then the record of two openings.
    commits.store(3, Ordering::SeqCst);
    let unknown = increment(&group).await.unwrap_err();
    assert!(matches!(unknown, SubmitError::OutcomeUnknown), "{unknown}");
    let written = async {
        loop {
            match increment(&group).await {
                Ok(_) => break,
                Err(SubmitError::DiskFull) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(error) => panic!("the disk is full, and nothing else: {error}"),
            }
        }
    };
    tokio::select! {
        () = written => {}
        () = writer.ended() => panic!("a store that fails does not end the writer"),
    }
    assert_eq!(commits.load(Ordering::SeqCst), 0);
    writer.stop().await;
}

#[tokio::test]
async fn an_agent_whose_store_has_failed_can_be_stopped() {
    let (writer, group, commits) = writer().await;
    commits.store(u32::MAX, Ordering::SeqCst);
    increment(&group).await.unwrap_err();
    writer.hand_over().await;
    let refused = group.sync(Duration::from_mins(1)).await.unwrap_err();
    assert!(matches!(refused, SubmitError::WriterStopped), "{refused}");
    writer.stop().await;
    writer.ended().await;
}
