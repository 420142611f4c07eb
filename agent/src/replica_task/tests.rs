//! The writer over a store that fails.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use coppice_crdt::{CrdtType, Operation};
use prometheus::Registry;

use super::*;
use crate::clock::SystemClock;
use crate::engine::GroupSettings;
use crate::store::failing::Failing;

/// A writer of one counter group, and how many of its next commits fail.
async fn writer() -> (WriterHandle, GroupHandle, Arc<AtomicU32>) {
    let store = Failing::default();
    let commits = Arc::clone(&store.commits);
    let (writer, group) = started(store, &Registry::new()).await;
    (writer, group, commits)
}

/// A writer of one counter group that expects no peers.
async fn started(store: Failing, registry: &Registry) -> (WriterHandle, GroupHandle) {
    limited(store, registry, Arc::default()).await
}

async fn limited(
    store: Failing,
    registry: &Registry,
    disk: Arc<DiskLimit>,
) -> (WriterHandle, GroupHandle) {
    let start = WriterStart {
        store,
        name: "a".into(),
        clock: Arc::new(SystemClock::new()),
        metrics: WriterMetrics::register(registry).unwrap(),
        disk,
        random: rand::random::<[u8; 32]>,
    };
    let writer = super::start(start).unwrap();
    let group = served(&writer, spec()).await;
    (writer, group)
}

async fn served(writer: &WriterHandle, spec: GroupSpec) -> GroupHandle {
    let mut served = writer.serve(vec![spec]).await.unwrap();
    served.pop().unwrap().1
}

fn spec() -> GroupSpec {
    let (name, id, crdt_type) = ("hits".into(), [1; 16], CrdtType::PNCounter);
    GroupSpec { name, id, crdt_type, settings: settings(false) }
}

fn settings(expects_peers: bool) -> GroupSettings {
    let mut settings = GroupSettings::small();
    settings.replica.expects_peers = expects_peers;
    settings
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
async fn a_store_that_is_as_large_as_it_may_be_takes_only_removals() {
    let disk = Arc::new(DiskLimit::new(Some(1_000)));
    let (writer, group) = limited(Failing::default(), &Registry::new(), Arc::clone(&disk)).await;
    increment(&group).await.unwrap();
    disk.measured(1_000);
    let refused = increment(&group).await.unwrap_err();
    assert!(matches!(refused, SubmitError::DataLimit { limit: 1_000 }), "{refused}");
    let request = |operations: Vec<Operation>| WriteRequest {
        operations: operations.into_iter().map(|operation| ("k".into(), operation)).collect(),
        precondition: None,
        allow_incomplete: true,
    };
    let both = request(vec![Operation::Delete, Operation::Increment { by: 1 }]);
    let refused = group.write(both).await.unwrap_err();
    assert!(matches!(refused, SubmitError::DataLimit { .. }), "it does not only remove: {refused}");
    group.write(request(vec![Operation::Delete])).await.unwrap();
    disk.measured(900);
    increment(&group).await.unwrap();
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

#[tokio::test]
async fn only_operations_that_were_carried_out_are_counted() {
    let registry = Registry::new();
    let (writer, group) = started(Failing::default(), &registry).await;
    increment(&group).await.unwrap();
    let refused = vec![
        ("k".into(), Operation::Increment { by: 1 }),
        ("k".into(), Operation::Increment { by: 1 << 63 }),
    ];
    let batch = WriteRequest { operations: refused, precondition: None, allow_incomplete: true };
    group.write(batch).await.unwrap_err();
    increment(&group).await.unwrap();
    writer.stop().await; // It counts after it has answered.

    let families = registry.gather();
    let named = families.iter().find(|family| family.name() == "coppice_commit_operations");
    let histogram = named.unwrap().get_metric()[0].get_histogram().clone();
    assert!((histogram.get_sample_sum() - 2.0).abs() < f64::EPSILON, "{histogram:?}");
    assert_eq!(histogram.get_sample_count(), 2, "a commit of nothing but refusals is none");
}

#[tokio::test]
async fn a_hand_over_says_what_is_left() {
    let (writer, group, commits) = writer().await;
    increment(&group).await.unwrap();
    assert_eq!(writer.hand_over().await, HandedOver::Everything, "it has no peers at all");
    commits.store(u32::MAX, Ordering::SeqCst);
    increment(&group).await.unwrap_err();
    assert_eq!(writer.hand_over().await, HandedOver::StoreFailed);
    writer.stop().await;

    let (writer, group) = started(Failing::default(), &Registry::new()).await;
    let spec = GroupSpec { settings: settings(true), ..spec() };
    served(&writer, spec).await;
    assert_eq!(writer.hand_over().await, HandedOver::Everything, "there is nothing yet");
    increment(&group).await.unwrap();
    let left = NotHandedOver { group: "hits".into(), peers: Vec::new(), only_here: 1 };
    assert_eq!(writer.hand_over().await, HandedOver::Not(vec![left]));
    writer.stop().await;
}
