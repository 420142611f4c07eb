//! What snapshots tell Prometheus.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{Gauge, IntCounterVec, Opts, Registry};

use crate::clock::Clock;
use crate::http::StatusSource;

/// Counts snapshots, and shows how old the newest is.
///
/// One age for all groups, since each snapshot holds all of them.
#[derive(Clone, Debug)]
pub struct SnapshotMetrics {
    snapshots: IntCounterVec,
    age: Gauge,
    /// Milliseconds since 1970; 0: there is none.
    newest_ms: Arc<AtomicU64>,
    clock: Arc<dyn Clock>,
}

impl SnapshotMetrics {
    /// Registers them.
    ///
    /// # Errors
    ///
    /// If they are registered already.
    pub fn register(registry: &Registry, clock: Arc<dyn Clock>) -> prometheus::Result<Self> {
        let snapshots = IntCounterVec::new(
            Opts::new("coppice_snapshots_total", "Snapshots that were due or asked for."),
            &["result"],
        )?;
        let age = Gauge::new(
            "coppice_snapshot_age_seconds",
            "Age of the newest snapshot; NaN while there is none.",
        )?;
        registry.register(Box::new(snapshots.clone()))?;
        registry.register(Box::new(age.clone()))?;
        for result in ["taken", "skipped", "failed"] {
            snapshots.with_label_values(&[result]).reset();
        }
        Ok(Self { snapshots, age, newest_ms: Arc::default(), clock })
    }

    pub(super) fn newest_is(&self, taken_at: SystemTime) {
        let since = taken_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.newest_ms.store(ms, Ordering::Relaxed);
    }

    pub(super) fn taken(&self, taken_at: SystemTime) {
        self.newest_is(taken_at);
        self.count("taken");
    }

    pub(super) fn skipped(&self) {
        self.count("skipped");
    }

    pub(super) fn failed(&self) {
        self.count("failed");
    }

    fn count(&self, result: &str) {
        self.snapshots.with_label_values(&[result]).inc();
    }
}

impl StatusSource for SnapshotMetrics {
    fn refresh(&self) {
        let age_seconds = match self.newest_ms.load(Ordering::Relaxed) {
            0 => f64::NAN,
            newest_ms => {
                let age_ms = self.clock.now_ms().saturating_sub(newest_ms);
                std::time::Duration::from_millis(age_ms).as_secs_f64()
            }
        };
        self.age.set(age_seconds);
    }
}
