//! The operator's figures.
//!
//! Labels are bounded: controllers, verbs, kinds and reasons are closed sets; no name
//! of a group, pod or namespace is a label.

use std::collections::BTreeMap;

use coppice_api::v1alpha1::ConditionReason;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Buckets of a reconcile, in seconds: one without a write takes a millisecond, one that
/// waits for a slow API server its time-outs.
const RECONCILE_BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// Why a group is not ready that was not looked at yet.
pub(crate) const UNKNOWN_REASON: &str = "Unknown";

/// All but the certificates' and the webhook's.
#[derive(Clone, Debug)]
pub struct Metrics {
    reconciles: IntCounterVec,
    reconcile_seconds: HistogramVec,
    backing_off: IntGaugeVec,
    watch_errors: IntCounterVec,
    api_requests: IntCounterVec,
    leader: IntGauge,
    groups: IntGaugeVec,
    pods: IntGaugeVec,
    events: IntCounterVec,
    polls: IntCounterVec,
    retries: IntCounter,
}

/// How pods that opted in stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodCounts {
    /// With the sidecar, and its agent started.
    pub started: i64,
    /// With the sidecar, and its agent not started.
    pub starting: i64,
    /// Without the sidecar.
    pub uninjected: i64,
}

impl Metrics {
    /// Metrics that `registry` shows.
    ///
    /// # Errors
    ///
    /// If the registry has them already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let shows = Shows { registry };
        let info = shows.gauges("build_info", "Always 1.", &["version"])?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        #[cfg(target_os = "linux")]
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let reconcile_seconds = HistogramVec::new(
            HistogramOpts::new(
                "coppice_operator_reconcile_duration_seconds",
                "From the start of a reconcile to its end.",
            )
            .buckets(RECONCILE_BUCKETS.to_vec()),
            &["controller"],
        )?;
        registry.register(Box::new(reconcile_seconds.clone()))?;
        let leader = IntGauge::new("coppice_operator_leader", "1: this replica leads.")?;
        registry.register(Box::new(leader.clone()))?;
        let retries = IntCounter::new(
            "coppice_operator_denied_retries_total",
            "Workloads that were asked to try again after a denial.",
        )?;
        registry.register(Box::new(retries.clone()))?;
        Ok(Self {
            reconciles: shows.counters(
                "reconciles_total",
                "Reconciles that ended, by result.",
                &["controller", "result"],
            )?,
            reconcile_seconds,
            backing_off: shows.gauges(
                "backing_off",
                "Keys whose last reconcile failed and that wait to be tried again.",
                &["controller"],
            )?,
            watch_errors: shows.counters(
                "watch_errors_total",
                "Watches that failed and were started again.",
                &["kind"],
            )?,
            api_requests: shows.counters(
                "api_requests_total",
                "Requests to the API server, by verb and the first digit of the status (0: none came).",
                &["verb", "status"],
            )?,
            leader,
            groups: shows.gauges(
                "groups",
                "ReplicationGroups that this leader looks after, by their condition Ready and its reason.",
                &["ready", "reason"],
            )?,
            pods: shows.gauges(
                "pods",
                "Running or pending pods that opted in, by how they stand.",
                &["state"],
            )?,
            events: shows.counters(
                "events_total",
                "Events that were written, by reason.",
                &["reason"],
            )?,
            polls: shows.counters(
                "agent_polls_total",
                "Agents that were asked how they are, by result.",
                &["result"],
            )?,
            retries,
        })
    }

    /// A reconcile of `controller` ended.
    pub(crate) fn reconciled(&self, controller: &'static str, is_good: bool, seconds: f64) {
        let result = if is_good { "ok" } else { "error" };
        self.reconciles.with_label_values(&[controller, result]).inc();
        self.reconcile_seconds.with_label_values(&[controller]).observe(seconds);
    }

    /// So many keys of `controller` wait after a failure.
    pub(crate) fn backing_off(&self, controller: &'static str, keys: usize) {
        self.backing_off
            .with_label_values(&[controller])
            .set(i64::try_from(keys).unwrap_or(i64::MAX));
    }

    /// A watch of `kind` failed.
    pub(crate) fn watch_failed(&self, kind: &'static str) {
        self.watch_errors.with_label_values(&[kind]).inc();
    }

    /// The API server was asked; `class` is the first digit of its status.
    pub(crate) fn api_requested(&self, verb: &'static str, class: &'static str) {
        self.api_requests.with_label_values(&[verb, class]).inc();
    }

    /// Whether this replica leads.
    pub(crate) fn leads(&self, leads: bool) {
        self.leader.set(leads.into());
        if !leads {
            // Another replica counts them now.
            self.groups.reset();
            self.pods.reset();
        }
    }

    /// So many groups are ready, and so many are not for each of these reasons.
    pub(crate) fn groups(&self, ready: usize, not_ready: &BTreeMap<&'static str, usize>) {
        let set = |ready: &str, reason: &str, count: usize| {
            let gauge = self.groups.with_label_values(&[ready, reason]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        };
        set("true", ConditionReason::AllMembersReady.name(), ready);
        // Every one, so that what is no more goes to 0.
        let reasons = ConditionReason::ALL.iter().map(|reason| reason.name());
        for reason in reasons.chain([UNKNOWN_REASON]) {
            set("false", reason, not_ready.get(reason).copied().unwrap_or_default());
        }
    }

    /// The pods that opted in.
    pub(crate) fn pods(&self, counts: PodCounts) {
        for (state, count) in [
            ("started", counts.started),
            ("starting", counts.starting),
            ("uninjected", counts.uninjected),
        ] {
            self.pods.with_label_values(&[state]).set(count);
        }
    }

    /// An event was written.
    pub(crate) fn event(&self, reason: &str) {
        self.events.with_label_values(&[reason]).inc();
    }

    /// An agent was asked how it is.
    pub(crate) fn polled(&self, result: &'static str) {
        self.polls.with_label_values(&[result]).inc();
    }

    /// A workload was asked to try again.
    pub(crate) fn retried(&self) {
        self.retries.inc();
    }
}

/// Registers what it makes.
struct Shows<'a> {
    registry: &'a Registry,
}

impl Shows<'_> {
    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        let counters =
            IntCounterVec::new(Opts::new(format!("coppice_operator_{name}"), help), labels)?;
        self.registry.register(Box::new(counters.clone()))?;
        Ok(counters)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        let gauges = IntGaugeVec::new(Opts::new(format!("coppice_operator_{name}"), help), labels)?;
        self.registry.register(Box::new(gauges.clone()))?;
        Ok(gauges)
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder as _, TextEncoder};

    use super::*;

    #[test]
    fn metrics_are_shown_under_the_names_that_dashboards_use() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        metrics.reconciled("group", true, 0.01);
        metrics.backing_off("group", 2);
        metrics.watch_failed("pods");
        metrics.api_requested("apply", "2");
        metrics.leads(true);
        metrics.groups(3, &BTreeMap::from([("NoPodsMatch", 1)]));
        metrics.pods(PodCounts { started: 3, starting: 1, uninjected: 2 });
        metrics.event("SidecarMissing");
        metrics.polled("ok");
        metrics.retried();

        let mut text = Vec::new();
        TextEncoder::new().encode(&registry.gather(), &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        for line in [
            "coppice_operator_build_info{version=",
            "coppice_operator_reconciles_total{controller=\"group\",result=\"ok\"} 1",
            "coppice_operator_reconcile_duration_seconds_count{controller=\"group\"} 1",
            "coppice_operator_backing_off{controller=\"group\"} 2",
            "coppice_operator_watch_errors_total{kind=\"pods\"} 1",
            "coppice_operator_api_requests_total{status=\"2\",verb=\"apply\"} 1",
            "coppice_operator_leader 1",
            "coppice_operator_groups{ready=\"true\",reason=\"AllMembersReady\"} 3",
            "coppice_operator_groups{ready=\"false\",reason=\"NoPodsMatch\"} 1",
            "coppice_operator_groups{ready=\"false\",reason=\"NotOptedIn\"} 0",
            "coppice_operator_pods{state=\"uninjected\"} 2",
            "coppice_operator_events_total{reason=\"SidecarMissing\"} 1",
            "coppice_operator_agent_polls_total{result=\"ok\"} 1",
            "coppice_operator_denied_retries_total 1",
        ] {
            assert!(text.contains(line), "{line} is missing in:\n{text}");
        }

        metrics.leads(false);
        assert!(
            registry.gather().iter().all(|family| family.name() != "coppice_operator_pods"),
            "two replicas that show pods would count them twice"
        );
    }
}
