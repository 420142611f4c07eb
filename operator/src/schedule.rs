//! Which key is reconciled when, and running it.
//!
//! A key waits at most once, runs at most once at a time, and runs again if it was asked
//! for while it ran. What fails is tried again with growing delay, each key by itself.
//!
//! (Not `kube::runtime::Controller`: a namespace's reconciler has no object as its key,
//! a failed key needs a delay of its own, and both share the stores that the webhook
//! reads.)

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::metrics::Metrics;

/// Keys that may be asked for before who asks has to wait.
const REQUESTS: usize = 1024;
/// The first delay after a failure.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// The longest.
const LAST_BACKOFF: Duration = Duration::from_mins(1);

/// Asks for keys to be reconciled. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Requests<K> {
    sender: mpsc::Sender<K>,
    /// Requests of one key within this time become one run.
    settle: Duration,
}

/// What [`Requests`] go to.
#[derive(Debug)]
pub struct Runner<K> {
    name: &'static str,
    receiver: mpsc::Receiver<K>,
    settle: Duration,
    concurrency: usize,
    metrics: Metrics,
}

/// When a key that ran well runs again, if nobody asks before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// After this time.
    After(Duration),
    /// Not before it is asked for.
    WhenAsked,
}

/// Keys and when they are due.
#[derive(Debug)]
struct Schedule<K> {
    waiting: BTreeMap<K, Instant>,
    /// Those that run; `true`: asked for meanwhile.
    running: BTreeMap<K, bool>,
    failures: BTreeMap<K, u32>,
}

/// Requests, and the runner that serves them: up to `concurrency` keys at once.
#[must_use]
pub fn runner<K>(
    name: &'static str,
    concurrency: usize,
    settle: Duration,
    metrics: Metrics,
) -> (Requests<K>, Runner<K>) {
    let (sender, receiver) = mpsc::channel(REQUESTS);
    (Requests { sender, settle }, Runner { name, receiver, settle, concurrency, metrics })
}

// === impl Requests ===

impl<K> Requests<K> {
    /// Asks for a key. Waits while very many have been asked for; once the runner is gone,
    /// nothing happens.
    pub async fn ask(&self, key: K) {
        // A runner that is gone was stopped, and whoever asks will be.
        let _ = self.sender.send(key).await;
    }

    /// How long requests of one key are collected.
    #[must_use]
    pub fn settle(&self) -> Duration {
        self.settle
    }
}

// === impl Runner ===

impl<K: Ord + Clone + Send + std::fmt::Debug + 'static> Runner<K> {
    /// Runs `reconcile` for the keys that are asked for, until `stop`; then waits for
    /// those that run. Dropped, they are dropped where they are.
    pub async fn run<F, Fut, E>(mut self, reconcile: F, stop: CancellationToken)
    where
        F: Fn(K) -> Fut,
        Fut: Future<Output = Result<Again, E>> + Send + 'static,
        E: std::fmt::Display + Send + 'static,
    {
        let mut schedule = Schedule::<K>::default();
        let mut work = JoinSet::new();
        loop {
            while work.len() < self.concurrency
                && let Some(key) = schedule.start(Instant::now())
            {
                let run = reconcile(key.clone());
                let metrics = self.metrics.clone();
                let name = self.name;
                work.spawn(async move {
                    let started = Instant::now();
                    let ended = run.await;
                    metrics.reconciled(name, ended.is_ok(), started.elapsed().as_secs_f64());
                    (key, ended)
                });
            }
            let next = schedule.next().filter(|_| work.len() < self.concurrency);
            tokio::select! {
                () = stop.cancelled() => break,
                asked = self.receiver.recv() => match asked {
                    Some(key) => schedule.ask(key, Instant::now() + self.settle),
                    None => break,
                },
                Some(ended) = work.join_next() => self.ended(ended, &mut schedule),
                () = sleep_until(next) => {}
            }
        }
        while let Some(ended) = work.join_next().await {
            self.ended(ended, &mut schedule);
        }
    }

    fn ended<E: std::fmt::Display>(
        &self,
        ended: Result<(K, Result<Again, E>), tokio::task::JoinError>,
        schedule: &mut Schedule<K>,
    ) {
        let now = Instant::now();
        match ended {
            Ok((key, Ok(Again::After(delay)))) => schedule.succeeded(&key, Some(now + delay)),
            Ok((key, Ok(Again::WhenAsked))) => schedule.succeeded(&key, None),
            Ok((key, Err(error))) => {
                warn!(controller = self.name, ?key, %error, "the reconcile failed, and is tried again");
                schedule.failed(key, now);
            }
            // A bug: the key would never be free again.
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
        self.metrics.backing_off(self.name, schedule.failures.len());
    }
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

// === impl Schedule ===

impl<K> Default for Schedule<K> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), running: BTreeMap::new(), failures: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Schedule<K> {
    /// The key is asked for: it runs at `due`, or when it was to run anyway, if that is
    /// sooner. One that failed keeps its delay only while nobody asks.
    fn ask(&mut self, key: K, due: Instant) {
        if let Some(asked) = self.running.get_mut(&key) {
            *asked = true;
            return;
        }
        let at = self.waiting.entry(key).or_insert(due);
        *at = due.min(*at);
    }

    /// A key that is due, which from now on runs.
    fn start(&mut self, now: Instant) -> Option<K> {
        let (key, _) =
            self.waiting.iter().filter(|(_, due)| **due <= now).min_by_key(|(_, due)| **due)?;
        let key = key.clone();
        self.waiting.remove(&key);
        self.running.insert(key.clone(), false);
        Some(key)
    }

    /// When the next key is due.
    fn next(&self) -> Option<Instant> {
        self.waiting.values().min().copied()
    }

    fn succeeded(&mut self, key: &K, again: Option<Instant>) {
        self.failures.remove(key);
        if let Some(due) = self.finished(key).or(again) {
            self.waiting.insert(key.clone(), due);
        }
    }

    fn failed(&mut self, key: K, now: Instant) {
        self.finished(&key);
        let failures = self.failures.entry(key.clone()).or_insert(0);
        let delay = FIRST_BACKOFF.saturating_mul(1 << (*failures).min(10)).min(LAST_BACKOFF);
        *failures += 1;
        self.waiting.insert(key, now + delay);
    }

    /// When the key runs again because it was asked for while it ran.
    fn finished(&mut self, key: &K) -> Option<Instant> {
        self.running.remove(key).filter(|asked| *asked).map(|_| Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use prometheus::Registry;

    use super::*;

    const SETTLE: Duration = Duration::from_millis(100);

    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_asked_for_while_it_runs_runs_again() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.ask("a", now);
        schedule.ask("a", now);
        assert_eq!(schedule.start(now), Some("a"));
        assert_eq!(schedule.start(now), None, "both were one");
        schedule.ask("a", now);
        assert_eq!(schedule.start(now), None, "it runs");
        schedule.succeeded(&"a", None);
        assert_eq!(schedule.start(Instant::now()), Some("a"));
        schedule.succeeded(&"a", None);
        assert_eq!(schedule.next(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_of_one_key_delay_no_other() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        let mut delays = Vec::new();
        for _ in 0..8 {
            schedule.waiting.remove("bad");
            schedule.running.insert("bad", false);
            schedule.failed("bad", now);
            delays.push((schedule.waiting["bad"] - now).as_secs());
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60]);
        schedule.ask("good", now);
        assert_eq!(schedule.start(now), Some("good"));
        schedule.ask("bad", now);
        assert_eq!(schedule.start(now), Some("bad"), "a change may mend it: it runs at once");
        schedule.succeeded(&"bad", None);
        assert!(schedule.failures.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_waits_for_what_runs() {
        let metrics = Metrics::new(&Registry::new()).unwrap();
        let (requests, runner) = runner("test", 2, SETTLE, metrics);
        let (begun, ended) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let stop = CancellationToken::new();
        for key in 0..3_u32 {
            requests.ask(key).await;
        }
        let (run_begun, run_ended) = (begun.clone(), ended.clone());
        let running = runner.run(
            move |_| {
                let (begun, ended) = (run_begun.clone(), run_ended.clone());
                async move {
                    begun.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    ended.fetch_add(1, Ordering::Relaxed);
                    Ok::<_, String>(Again::WhenAsked)
                }
            },
            stop.clone(),
        );
        let stopping = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert_eq!(begun.load(Ordering::Relaxed), 2, "two at once");
            stop.cancel();
        };
        tokio::join!(running, stopping);
        assert_eq!(ended.load(Ordering::Relaxed), 2, "what began is finished");
        assert_eq!(begun.load(Ordering::Relaxed), 2, "and nothing else begins");
    }
}
