//! The share of the volume that local writes may use.
//!
//! Kubernetes evicts a whole pod whose volume outgrows its limit, the app with it. So
//! local writes are refused while the store is larger than it may be; what peers send
//! is taken all the same, and so is what only removes, for it makes room. The size is
//! that of the store's files, looked at once a second: between two looks the store may
//! grow beyond the limit, which leaves room for that.
//!
//! What was removed is gone from the disk only when the engine has merged its files, so
//! writing goes on somewhat below the limit, and not at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use prometheus::{IntGauge, Registry};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::store::Reader;

const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Writing goes on below this part of the limit, in percent.
const BACK_PERCENT: u64 = 95;

/// How large the store is and may be; shared by those who measure and those who write.
#[derive(Debug, Default)]
pub struct DiskLimit {
    /// 0: there is none.
    limit: u64,
    bytes: AtomicU64,
    is_over: AtomicBool,
}

/// Keeps measuring a store.
#[derive(Debug)]
pub struct DiskWatch<R> {
    limit: Arc<DiskLimit>,
    reader: R,
    reached: IntGauge,
}

// === impl DiskLimit ===

impl DiskLimit {
    /// A store that was not measured yet.
    #[must_use]
    pub fn new(limit: Option<u64>) -> Self {
        Self { limit: limit.unwrap_or(0), ..Self::default() }
    }

    /// The limit that keeps local writes out, while it does.
    #[must_use]
    pub fn refuses(&self) -> Option<u64> {
        self.is_over.load(Ordering::Relaxed).then_some(self.limit)
    }

    /// The limit, if there is one.
    #[must_use]
    pub fn limit(&self) -> Option<u64> {
        (self.limit > 0).then_some(self.limit)
    }

    /// The store's size when it was last measured.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Takes a size; whether writes are kept out from now on, if that changed.
    pub(crate) fn measured(&self, bytes: u64) -> Option<bool> {
        self.bytes.store(bytes, Ordering::Relaxed);
        let was_over = self.is_over.load(Ordering::Relaxed);
        let back_at = u128::from(self.limit) * u128::from(BACK_PERCENT) / 100;
        let is_over = self.limit > 0
            && if was_over { u128::from(bytes) >= back_at } else { bytes >= self.limit };
        self.is_over.store(is_over, Ordering::Relaxed);
        (is_over != was_over).then_some(is_over)
    }
}

// === impl DiskWatch ===

impl<R: Reader> DiskWatch<R> {
    /// Registers its metrics.
    ///
    /// # Errors
    ///
    /// If they are registered already.
    pub fn register(
        registry: &Registry,
        limit: Arc<DiskLimit>,
        reader: R,
    ) -> prometheus::Result<Self> {
        let shown = IntGauge::new(
            "coppice_store_limit_bytes",
            "Bytes of the store from which on local writes are refused; 0: no limit is set.",
        )?;
        let reached = IntGauge::new(
            "coppice_store_limit_reached",
            "1 while local writes are refused because the store is as large as it may be.",
        )?;
        shown.set(i64::try_from(limit.limit).unwrap_or(i64::MAX));
        registry.register(Box::new(shown))?;
        registry.register(Box::new(reached.clone()))?;
        Ok(Self { limit, reader, reached })
    }

    /// Measures once a second until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(POLL_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let reader = self.reader.clone();
            // The disk may not answer, and nobody waits for it then but this task.
            let measuring = tokio::task::spawn_blocking(move || reader.bytes_on_disk());
            let measured = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                measured = measuring => measured,
            };
            let Ok(bytes) = measured else { continue };
            let limit = self.limit.limit;
            match self.limit.measured(bytes) {
                Some(true) => {
                    warn!(
                        bytes,
                        limit,
                        "the store is as large as it may be: local writes are \
                        refused until it is smaller; remove data, or give the group's pods more \
                        `storage.size`"
                    );
                }
                Some(false) => info!(bytes, limit, "the store is small enough: writes are taken"),
                None => continue,
            }
            self.reached.set(i64::from(self.limit.refuses().is_some()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_kept_out_at_the_limit_and_taken_again_somewhat_below() {
        let limit = DiskLimit::new(Some(1_000));
        for (bytes, changed, refuses) in [
            (999, None, None),
            (1_000, Some(true), Some(1_000)),
            (960, None, Some(1_000)),
            (950, None, Some(1_000)),
            (949, Some(false), None),
            (960, None, None),
            (2_000, Some(true), Some(1_000)),
            (0, Some(false), None),
        ] {
            assert_eq!(limit.measured(bytes), changed, "{bytes}");
            assert_eq!((limit.refuses(), limit.bytes()), (refuses, bytes));
        }
    }

    #[test]
    fn without_a_limit_nothing_is_kept_out() {
        let limit = DiskLimit::new(None);
        assert_eq!(limit.measured(u64::MAX), None);
        assert_eq!((limit.refuses(), limit.limit()), (None, None));
        let largest = DiskLimit::new(Some(u64::MAX));
        assert_eq!(largest.measured(u64::MAX), Some(true), "no overflow");
    }
}
