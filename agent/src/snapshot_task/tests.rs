//! Due, skipped, asked for, failed, and the last one on a stop.

use std::sync::Mutex;

use coppice_api::{Group, TextDuration};
use coppice_crdt::CrdtType;
use prometheus::Registry;
use tokio::task::JoinSet;

use super::*;
use crate::clock::ManualClock;
use crate::http::StatusSource as _;
use crate::telemetry::encode_metrics;

/// A store that only counts.
#[derive(Debug, Default)]
struct Counting(Mutex<Counts>);

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    last_write: u64,
    taken: u64,
    kept: Option<usize>,
    fails: bool,
}

impl SnapshotSource for Counting {
    fn last_write(&self) -> Result<u64, StoreError> {
        Ok(self.0.lock().unwrap().last_write)
    }

    fn newest(&self) -> Result<Option<SystemTime>, SnapshotError> {
        Ok(None)
    }

    fn take(&self, _now: SystemTime) -> Result<SnapshotInfo, SnapshotError> {
        let mut counts = self.0.lock().unwrap();
        if counts.fails {
            return Err(StoreError::Closed.into());
        }
        counts.taken += 1;
        let name = format!("20261121T101530Z-{}", counts.taken).parse().unwrap();
        Ok(SnapshotInfo { name, path: "nowhere".into(), bytes: 1 })
    }

    fn retain(&self, keep: usize) -> Result<(), SnapshotError> {
        self.0.lock().unwrap().kept = Some(keep);
        Ok(())
    }
}

struct Running {
    source: Arc<Counting>,
    configs: watch::Sender<Arc<AgentConfig>>,
    requests: SnapshotRequests,
    stop: CancellationToken,
    task: JoinSet<()>,
    registry: Registry,
    metrics: SnapshotMetrics,
}

fn config(seconds: u64, retain: u32, on_shutdown: bool) -> Arc<AgentConfig> {
    let mut group = Group::new("g", CrdtType::GSet);
    group.snapshot.interval = TextDuration::from_secs(seconds);
    group.snapshot.retain = retain;
    group.snapshot.on_shutdown = on_shutdown;
    Arc::new(AgentConfig { groups: vec![group], ..AgentConfig::default() })
}

impl Running {
    fn start(first: Arc<AgentConfig>) -> Self {
        let source = Arc::new(Counting::default());
        let (configs, followed) = watch::channel(first);
        let registry = Registry::new();
        // 10 s after the time in the snapshots' names.
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(1_795_256_140_000));
        let metrics = SnapshotMetrics::register(&registry, Arc::clone(&clock)).unwrap();
        let asked: Arc<dyn SnapshotSource> = Arc::clone(&source) as _;
        let (task, requests) = SnapshotTask::new(asked, followed, clock, metrics.clone());
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        running.spawn(task.run(stop.clone()));
        Self { source, configs, requests, stop, task: running, registry, metrics }
    }

    fn write(&self) {
        self.source.0.lock().unwrap().last_write += 1;
    }

    fn counts(&self) -> Counts {
        *self.source.0.lock().unwrap()
    }

    /// Lets `seconds` pass, and what is due then happen.
    async fn pass(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    fn shows(&self, line: &str) -> bool {
        self.metrics.refresh();
        let text = encode_metrics(&self.registry).unwrap();
        String::from_utf8(text).unwrap().lines().any(|found| found == line)
    }
}

#[tokio::test(start_paused = true)]
async fn one_is_taken_when_due_and_only_if_something_was_written() {
    let running = Running::start(config(60, 3, false));
    running.pass(59).await;
    assert_eq!(running.counts().taken, 0);
    running.pass(2).await;
    assert_eq!((running.counts().taken, running.counts().kept), (1, Some(3)));
    running.pass(120).await;
    assert_eq!(running.counts().taken, 1, "nothing was written since");
    running.write();
    running.pass(60).await;
    assert_eq!(running.counts().taken, 2);
    assert!(running.shows("coppice_snapshots_total{result=\"taken\"} 2"));
    assert!(running.shows("coppice_snapshots_total{result=\"skipped\"} 2"));
    assert!(running.shows("coppice_snapshot_age_seconds 10"));
}

#[tokio::test(start_paused = true)]
async fn changes_of_the_configuration_take_force_at_once() {
    let running = Running::start(config(3600, 3, false));
    running.pass(100).await;
    running.configs.send_replace(config(60, 5, false));
    running.pass(1).await;
    assert_eq!(running.counts().kept, Some(5), "it was due by the new interval");
    running.configs.send_replace(config(60, 0, false));
    running.write();
    running.pass(3600).await;
    assert_eq!(running.counts().taken, 1, "no group wants any");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_counted_and_tried_again_when_due() {
    let running = Running::start(config(60, 3, false));
    running.source.0.lock().unwrap().fails = true;
    running.pass(61).await;
    assert!(running.requests.take().await.unwrap().is_err());
    assert!(running.shows("coppice_snapshots_total{result=\"failed\"} 2"));
    assert!(running.shows("coppice_snapshot_age_seconds NaN"));
    running.source.0.lock().unwrap().fails = false;
    running.pass(61).await;
    assert_eq!(running.counts().taken, 1);
}

#[tokio::test(start_paused = true)]
async fn who_asks_gets_one_though_nothing_was_written() {
    let running = Running::start(config(60, 0, false));
    for number in 1..=2 {
        let taken = running.requests.take().await.unwrap().unwrap();
        assert_eq!(taken.name.number(), number);
    }
    assert_eq!(running.counts().kept, None, "where no group keeps any, none is removed");
}

#[tokio::test(start_paused = true)]
async fn a_stop_takes_the_last_one_if_a_group_wants_it() {
    for (on_shutdown, expected) in [(true, 1), (false, 0)] {
        let mut running = Running::start(config(60, 3, on_shutdown));
        running.pass(1).await;
        running.stop.cancel();
        running.task.join_next().await.unwrap().unwrap();
        assert_eq!(running.counts().taken, expected);
        assert!(running.requests.take().await.is_none(), "nobody is left to ask");
    }
}
