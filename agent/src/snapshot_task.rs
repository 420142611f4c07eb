//! Takes a running agent's snapshots: by policy, on request, and on a clean stop.
//!
//! The policy follows the configuration. Whatever waits for the disk runs on a
//! thread for blocking work, beside the store's writer and never in its way. One
//! snapshot at a time, since this task is the only one that takes them.

mod metrics;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use coppice_api::AgentConfig;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

pub use self::metrics::SnapshotMetrics;
use crate::clock::Clock;
use crate::snapshots::{Policy, SnapshotError, SnapshotInfo, SnapshotSource};
use crate::store::StoreError;

/// Requests that may wait for the one that is being answered.
const WAITING_REQUESTS: usize = 4;

type Ticket = oneshot::Sender<Result<SnapshotInfo, SnapshotError>>;

/// Asks the task for snapshots.
#[derive(Clone, Debug)]
pub struct SnapshotRequests(mpsc::Sender<Ticket>);

/// Takes snapshots until it is stopped.
pub struct SnapshotTask {
    source: Arc<dyn SnapshotSource>,
    configs: watch::Receiver<Arc<AgentConfig>>,
    clock: Arc<dyn Clock>,
    metrics: SnapshotMetrics,
    requests: mpsc::Receiver<Ticket>,
    /// When one was last taken, skipped or failed.
    last: Instant,
    /// The store's last write of the newest snapshot that was taken here.
    written: Option<u64>,
}

/// What came of an attempt.
enum Outcome {
    Taken(SnapshotInfo, u64),
    /// Nothing was written since the last.
    Unchanged,
}

// === impl SnapshotRequests ===

impl SnapshotRequests {
    /// Takes one now, whether or not something was written since the last.
    /// `None`: the agent is stopping, or others are waiting already.
    ///
    /// # Errors
    ///
    /// Why none was taken.
    pub async fn take(&self) -> Option<Result<SnapshotInfo, SnapshotError>> {
        let (ticket, answer) = oneshot::channel();
        self.0.try_send(ticket).ok()?;
        answer.await.ok()
    }
}

// === impl SnapshotTask ===

impl SnapshotTask {
    /// A task that follows `configs`, and the way to ask it.
    #[must_use]
    pub fn new(
        source: Arc<dyn SnapshotSource>,
        configs: watch::Receiver<Arc<AgentConfig>>,
        clock: Arc<dyn Clock>,
        metrics: SnapshotMetrics,
    ) -> (Self, SnapshotRequests) {
        let (sender, requests) = mpsc::channel(WAITING_REQUESTS);
        let last = Instant::now();
        let task = Self { source, configs, clock, metrics, requests, last, written: None };
        (task, SnapshotRequests(sender))
    }

    /// Takes what is due until `shutdown` fires; then a last one, if the policy
    /// asks for it and something was written.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut age_at_start = self.find_newest().await;
        loop {
            let policy = self.policy();
            let since_last = self.last.elapsed().saturating_add(age_at_start);
            let due = policy.wait(since_last).and_then(|wait| Instant::now().checked_add(wait));
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(ticket) = self.requests.recv() => {
                    let taken = self.take(policy.keep, false).await;
                    // Who asked may be gone; the snapshot stays.
                    let _ = ticket.send(taken.transpose().unwrap_or_else(|| Err(ended())));
                }
                Ok(()) = self.configs.changed() => continue,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    // Said and counted where it failed; tried again when due.
                    let _ = self.take(policy.keep, true).await;
                }
            }
            age_at_start = Duration::ZERO;
        }
        let policy = self.policy();
        if policy.on_shutdown {
            let _ = self.take(policy.keep, true).await;
        }
    }

    fn policy(&mut self) -> Policy {
        let config = self.configs.borrow_and_update();
        Policy::of(config.groups.iter().map(|group| &group.snapshot))
    }

    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.clock.now_ms())
    }

    /// How old the newest snapshot of an earlier run is; zero without one.
    async fn find_newest(&self) -> Duration {
        let source = Arc::clone(&self.source);
        let newest = match spawn_blocking(move || source.newest()).await {
            Ok(Ok(newest)) => newest,
            Ok(Err(error)) => {
                error!(%error, "the snapshots cannot be listed");
                None
            }
            Err(_) => None,
        };
        let Some(newest) = newest else { return Duration::ZERO };
        self.metrics.newest_is(newest);
        self.now().duration_since(newest).unwrap_or_default()
    }

    /// Takes one and removes the oldest beyond `keep`. `None` if nothing was
    /// written since the last and `only_if_written`.
    async fn take(
        &mut self,
        keep: usize,
        only_if_written: bool,
    ) -> Result<Option<SnapshotInfo>, SnapshotError> {
        self.last = Instant::now();
        let unless = self.written.filter(|_| only_if_written);
        let (source, now) = (Arc::clone(&self.source), self.now());
        let attempt = spawn_blocking(move || attempt(&*source, now, unless));
        let outcome = attempt.await.unwrap_or_else(|lost| Err(unexpected(lost)));
        match outcome {
            Ok(Outcome::Taken(taken, written)) => {
                self.written = Some(written);
                self.metrics.taken(taken.name.taken_at());
                info!(snapshot = %taken.name, bytes = taken.bytes, took = ?self.last.elapsed(), "a snapshot was taken");
                self.remove_old(keep).await;
                Ok(Some(taken))
            }
            Ok(Outcome::Unchanged) => {
                self.metrics.skipped();
                Ok(None)
            }
            Err(error) => {
                self.metrics.failed();
                error!(error = &error as &dyn std::error::Error, "no snapshot was taken");
                Err(error)
            }
        }
    }

    async fn remove_old(&self, keep: usize) {
        if keep == 0 {
            return;
        }
        let source = Arc::clone(&self.source);
        let removed = spawn_blocking(move || source.retain(keep)).await;
        if let Err(error) = removed.unwrap_or_else(|lost| Err(unexpected(lost))) {
            self.metrics.failed();
            error!(error = &error as &dyn std::error::Error, "old snapshots were not removed");
        }
    }
}

impl fmt::Debug for SnapshotTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotTask").field("source", &self.source).finish_non_exhaustive()
    }
}

/// Takes one, unless the store's last write is `unless`.
fn attempt(
    source: &dyn SnapshotSource,
    now: SystemTime,
    unless: Option<u64>,
) -> Result<Outcome, SnapshotError> {
    // Before the snapshot: a write between the two makes another one due.
    let written = source.last_write()?;
    if unless == Some(written) {
        return Ok(Outcome::Unchanged);
    }
    source.take(now).map(|taken| Outcome::Taken(taken, written))
}

fn unexpected(lost: tokio::task::JoinError) -> SnapshotError {
    StoreError::Io { attempt: "take a snapshot", source: io::Error::other(lost) }.into()
}

fn ended() -> SnapshotError {
    StoreError::Closed.into()
}

#[cfg(test)]
mod tests;
