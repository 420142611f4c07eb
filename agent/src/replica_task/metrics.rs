//! What the writer tells Prometheus.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coppice_crdt::VersionVector;
use coppice_replication::{Counters, MemberView};
use prometheus::core::Collector;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use super::former::former;
use crate::engine::GroupFigures;

/// The writer's metrics; clones share them.
#[derive(Clone, Debug)]
pub struct WriterMetrics {
    deltas_sent: IntCounterVec,
    deltas_received: IntCounterVec,
    deltas_merged: IntCounterVec,
    digest_mismatches: IntCounterVec,
    repairs: IntCounterVec,
    trims: IntCounterVec,
    purges: IntCounterVec,
    peers: IntGaugeVec,
    lag_deltas: IntGaugeVec,
    lag_seconds: GaugeVec,
    skew_seconds: GaugeVec,
    objects: IntGaugeVec,
    actors: IntGaugeVec,
    log_bytes: IntGaugeVec,
    commit_seconds: Histogram,
    commit_operations: Histogram,
    /// Frames taken from links.
    pub(super) frames_received: IntCounter,
    /// 1 while the store is failed and writes are refused.
    pub(super) stopped: IntGauge,
    last: Arc<Mutex<BTreeMap<String, Counters>>>,
    behind: Arc<Mutex<BTreeMap<String, BTreeMap<String, Behind>>>>,
}

/// What one peer was last found to lack.
#[derive(Debug)]
struct Behind {
    /// What was here.
    target: VersionVector,
    since_ms: u64,
}

/// The members of a group as people count them: one peer by name.
struct Members<'a> {
    /// Those that had a link here. Of two that are both linked under one name the
    /// one that lacks more is shown.
    by_name: BTreeMap<&'a str, &'a MemberView>,
    connected: u64,
    disconnected: u64,
    indirect: u64,
    former: u64,
}

impl<'a> Members<'a> {
    const STATES: [&'static str; 4] = ["connected", "disconnected", "indirect", "former"];

    fn of(members: &'a [MemberView], own: &str) -> Self {
        let gone = former(members, own);
        let mut of = Self {
            by_name: BTreeMap::new(),
            connected: 0,
            disconnected: 0,
            indirect: 0,
            former: 0,
        };
        for view in members {
            if gone.contains(&view.opening) {
                of.former += 1;
                continue;
            }
            if !view.member.said_hello {
                of.indirect += 1;
                continue;
            }
            let linked = view.member.link.is_some();
            of.connected += u64::from(linked);
            of.disconnected += u64::from(!linked);
            let shown = of.by_name.entry(&*view.member.name).or_insert(view);
            if shown.lag_deltas < view.lag_deltas {
                *shown = view;
            }
        }
        of
    }

    fn counts(&self) -> [(&'static str, u64); 4] {
        let [connected, disconnected, indirect, former] = Self::STATES;
        [
            (connected, self.connected),
            (disconnected, self.disconnected),
            (indirect, self.indirect),
            (former, self.former),
        ]
    }
}

impl WriterMetrics {
    /// Whether the store is failed and writes are refused.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.get() != 0
    }

    /// Registers them.
    ///
    /// # Errors
    ///
    /// If they are registered already.
    #[expect(clippy::too_many_lines, reason = "one line of code per metric, and its text")]
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name, help, labels: &[&str]| {
            registered(registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let gauge = |name, help, labels: &[&str]| {
            registered(registry, IntGaugeVec::new(Opts::new(name, help), labels))
        };
        let seconds = |name, help| {
            registered(registry, GaugeVec::new(Opts::new(name, help), &["group", "peer"]))
        };
        let histogram = |name, help, buckets| {
            registered(
                registry,
                Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)),
            )
        };
        let frames_received =
            IntCounter::new("coppice_frames_received_total", "Frames taken from peers.");
        let stopped = IntGauge::new(
            "coppice_writer_stopped",
            "1 while the store is failed and writes are refused.",
        );
        Ok(Self {
            deltas_sent: counter("coppice_deltas_sent_total", "Writes sent to peers.", &["group"])?,
            deltas_received: counter(
                "coppice_deltas_received_total",
                "Writes received from peers, known ones included.",
                &["group"],
            )?,
            deltas_merged: counter(
                "coppice_deltas_merged_total",
                "Writes received from peers and joined.",
                &["group"],
            )?,
            digest_mismatches: counter(
                "coppice_digest_mismatches_total",
                "Times a peer with the same vector had another digest.",
                &["group"],
            )?,
            repairs: counter(
                "coppice_repairs_total",
                "Repairs by state, completed here or served to peers.",
                &["group", "kind"],
            )?,
            trims: counter("coppice_log_trims_total", "Times the log was trimmed.", &["group"])?,
            purges: counter("coppice_purges_total", "Expired registers removed.", &["group"])?,
            peers: gauge("coppice_peers", "Other members, by state.", &["group", "state"])?,
            lag_deltas: gauge(
                "coppice_peer_lag_deltas",
                "Writes that a peer has not reported to have.",
                &["group", "peer"],
            )?,
            lag_seconds: seconds(
                "coppice_peer_lag_seconds",
                "For how long a peer has lacked something that is here.",
            )?,
            skew_seconds: seconds(
                "coppice_hlc_skew_seconds",
                "A peer's wall clock ahead of ours.",
            )?,
            objects: gauge("coppice_objects", "Objects that exist.", &["group"])?,
            actors: gauge(
                "coppice_actors",
                "Actors in the vector, by state.",
                &["group", "state"],
            )?,
            log_bytes: gauge("coppice_log_bytes", "Bytes of the arrival log.", &["group"])?,
            commit_seconds: histogram(
                "coppice_commit_duration_seconds",
                "Time of a commit that held local writes, fsync included.",
                prometheus::exponential_buckets(0.000_05, 2.0, 16)?,
            )?,
            commit_operations: histogram(
                "coppice_commit_operations",
                "Local operations in one commit.",
                prometheus::exponential_buckets(1.0, 2.0, 11)?,
            )?,
            frames_received: registered(registry, frames_received)?,
            stopped: registered(registry, stopped)?,
            last: Arc::default(),
            behind: Arc::default(),
        })
    }

    pub(super) fn committed(&self, operations: usize, took: Duration) {
        self.commit_seconds.observe(took.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "at most some thousands")]
        self.commit_operations.observe(operations as f64);
    }

    /// Shows the figures of a group of the replica `own`, at `now_ms` of the steady
    /// clock.
    pub(super) fn publish(&self, (group, own): (&str, &str), figures: &GroupFigures, now_ms: u64) {
        let gauge = |gauges: &IntGaugeVec, labels: &[&str], value: u64| {
            gauges.with_label_values(labels).set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        gauge(&self.objects, &[group], figures.totals.objects);
        gauge(&self.actors, &[group, "listed"], figures.actors as u64);
        gauge(&self.log_bytes, &[group], figures.log_bytes);
        let members = Members::of(&figures.members, own);
        for (state, count) in members.counts() {
            gauge(&self.peers, &[group, state], count);
        }
        self.keep_peers(group, &members.by_name.keys().copied().collect());
        for (name, view) in &members.by_name {
            let labels = [group, name];
            gauge(&self.lag_deltas, &labels, view.lag_deltas);
            self.lag(labels, (&figures.vector, &view.member.seen), now_ms);
            #[expect(clippy::cast_precision_loss, reason = "a skew of years is still exact enough")]
            let skew = view.member.skew_ms as f64 / 1e3;
            self.skew_seconds.with_label_values(&labels).set(skew);
        }
        self.count(group, &figures.counters);
    }

    /// For how long a peer has lacked something that was here; 0 for one that has
    /// everything. A peer that keeps up with steady writes always lacks the
    /// latest, so it is the same writes that are looked for each time.
    fn lag(
        &self,
        labels: [&str; 2],
        (here, theirs): (&VersionVector, &VersionVector),
        now_ms: u64,
    ) {
        let [group, peer] = labels;
        let mut behind = self.behind();
        let peers = behind.entry(group.to_owned()).or_default();
        let known = peers.get(peer).filter(|known| !known.target.is_covered_by(theirs));
        let since_ms = known.map_or(now_ms, |known| known.since_ms);
        if known.is_none() {
            peers.insert(peer.to_owned(), Behind { target: here.clone(), since_ms });
        }
        let seconds = Duration::from_millis(now_ms.saturating_sub(since_ms)).as_secs_f64();
        self.lag_seconds.with_label_values(&labels).set(seconds);
    }

    /// Shows these peers of a group, and no others any more.
    fn keep_peers(&self, group: &str, names: &BTreeSet<&str>) {
        let mut behind = self.behind();
        let Some(peers) = behind.get_mut(group) else { return };
        peers.retain(|peer, _| {
            let stays = names.contains(peer.as_str());
            if !stays {
                // It may not have been shown by each of them.
                let _ = self.lag_deltas.remove_label_values(&[group, peer]);
                let _ = self.lag_seconds.remove_label_values(&[group, peer]);
                let _ = self.skew_seconds.remove_label_values(&[group, peer]);
            }
            stays
        });
    }

    /// Shows no figures of a group that is no longer served; what was counted
    /// stays.
    pub(super) fn forget(&self, group: &str) {
        self.keep_peers(group, &BTreeSet::new());
        let alone: [(&IntGaugeVec, &[&str]); 3] =
            [(&self.objects, &[]), (&self.log_bytes, &[]), (&self.actors, &["listed"])];
        let by_state = Members::STATES.map(|state| (&self.peers, state));
        for (gauges, more) in alone {
            let _ = gauges.remove_label_values(&[&[group], more].concat());
        }
        for (gauges, state) in by_state {
            let _ = gauges.remove_label_values(&[group, state]);
        }
    }

    fn behind(&self) -> MutexGuard<'_, BTreeMap<String, BTreeMap<String, Behind>>> {
        self.behind.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what was counted since the last call; a replica opened anew counts
    /// from 0.
    fn count(&self, group: &str, counters: &Counters) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.insert(group.to_owned(), *counters).unwrap_or_default();
        let add = |total: &IntCounterVec, labels: &[&str], now: u64, before: u64| {
            let risen = if now >= before { now - before } else { now };
            total.with_label_values(labels).inc_by(risen);
        };
        add(&self.deltas_sent, &[group], counters.deltas_sent, before.deltas_sent);
        add(&self.deltas_received, &[group], counters.deltas_received, before.deltas_received);
        add(&self.deltas_merged, &[group], counters.deltas_merged, before.deltas_merged);
        add(
            &self.digest_mismatches,
            &[group],
            counters.digest_mismatches,
            before.digest_mismatches,
        );
        let (done, known) = (counters.repairs_completed, before.repairs_completed);
        add(&self.repairs, &[group, "completed"], done, known);
        add(&self.repairs, &[group, "served"], counters.repairs_served, before.repairs_served);
        add(&self.trims, &[group], counters.trims, before.trims);
        add(&self.purges, &[group], counters.purges, before.purges);
    }
}

fn registered<M: Collector + Clone + 'static>(
    registry: &Registry,
    made: Result<M, prometheus::Error>,
) -> Result<M, prometheus::Error> {
    let metric = made?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

#[cfg(test)]
mod tests {
    use coppice_crdt::ActorId;
    use coppice_replication::Totals;

    use super::super::former::tests::member;
    use super::*;

    const ANN: ActorId = ActorId::from_bytes([1; 16]);

    fn upto(n: u64) -> VersionVector {
        [(ANN, n)].into_iter().collect()
    }

    #[test]
    fn a_peer_that_keeps_up_with_steady_writes_does_not_lag_more_and_more() {
        let metrics = WriterMetrics::register(&Registry::new()).unwrap();
        let lag = |here, theirs, now_ms| {
            metrics.lag(["g", "b"], (&upto(here), &upto(theirs)), now_ms);
            metrics.lag_seconds.with_label_values(&["g", "b"]).get()
        };
        for round in 0..100 {
            let seconds = lag(10 * round + 10, 10 * round, 100 * round);
            assert!(seconds <= 0.1, "it lacks only the latest: {seconds} s in round {round}");
        }
        assert!(lag(2_000, 995, 10_000) < 0.2);
        assert!(lag(3_000, 995, 70_000) > 59.0, "it has taken nothing for a minute");
        assert!(lag(3_000, 3_000, 70_050) < f64::EPSILON, "it has everything");
    }

    #[test]
    fn the_old_opening_of_an_agent_that_lost_its_disk_is_not_its_lag() {
        let registry = Registry::new();
        let metrics = WriterMetrics::register(&registry).unwrap();
        let figures = |members| GroupFigures {
            vector: upto(9),
            bootstrapping: false,
            started: true,
            totals: Totals::default(),
            log_bytes: 0,
            actors: 1,
            members,
            counters: Counters::default(),
            digest: 0,
        };
        let (old, new) = (member(("b", 1), false, 5, 9), member(("b", 2), true, 9, 2));
        for members in [vec![old.clone(), new.clone()], vec![new, old]] {
            metrics.publish(("g", "a"), &figures(members), 10);
            assert_eq!(metrics.lag_deltas.with_label_values(&["g", "b"]).get(), 2);
            let peers = |state| metrics.peers.with_label_values(&["g", state]).get();
            assert_eq!(Members::STATES.map(peers), [1, 0, 0, 1], "connected, and a former one");
        }
    }

    #[test]
    fn what_is_gone_is_not_shown() {
        let registry = Registry::new();
        let metrics = WriterMetrics::register(&registry).unwrap();
        for peer in ["b", "c"] {
            metrics.lag(["g", peer], (&upto(1), &upto(0)), 0);
        }
        metrics.objects.with_label_values(&["g"]).set(1);
        let shown = |name: &str| {
            let families = registry.gather();
            let family = families.iter().find(|family| family.name() == name);
            family.map_or(0, |family| family.get_metric().len())
        };
        metrics.keep_peers("g", &["b"].into());
        assert_eq!(shown("coppice_peer_lag_seconds"), 1, "c is no member any more");
        metrics.forget("g");
        assert_eq!((shown("coppice_peer_lag_seconds"), shown("coppice_objects")), (0, 0));
    }
}
