//! The registry of metrics.
//!
//! Each component has a struct of its metrics and registers them once; labels
//! are bounded: route templates, methods, status codes, never a key or a name
//! that a client chose.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{
    Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry, TextEncoder,
};

/// Buckets of request durations, in seconds: a write that waits for no disk
/// takes some 100 µs, one that waits for a slow disk 100 ms.
const REQUEST_BUCKETS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// The text of all metrics, in the Prometheus exposition format.
///
/// # Errors
///
/// If two components registered one name with different types: a bug, shown
/// to the scraper.
pub fn encode_metrics(registry: &Registry) -> prometheus::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(16 * 1024);
    TextEncoder::new().encode(&registry.gather(), &mut text)?;
    Ok(text)
}

/// Registers `coppice_build_info`, and on Linux the process's own figures.
///
/// # Errors
///
/// If the registry has them already.
pub fn register_build_info(registry: &Registry) -> prometheus::Result<()> {
    let info = GaugeVec::new(Opts::new("coppice_build_info", "Always 1."), &["version"])?;
    info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
    registry.register(Box::new(info))?;
    #[cfg(target_os = "linux")]
    registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
    Ok(())
}

/// What the app's port answers.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    requests: IntCounterVec,
    durations: HistogramVec,
}

impl HttpMetrics {
    /// Metrics that `registry` shows.
    ///
    /// # Errors
    ///
    /// If the registry has them already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let labels = ["route", "method", "status"];
        let requests = IntCounterVec::new(
            Opts::new("coppice_http_requests_total", "Requests answered on the app's port."),
            &labels,
        )?;
        let durations = HistogramVec::new(
            HistogramOpts::new(
                "coppice_http_request_duration_seconds",
                "From the request's head to the answer's head, on the app's port.",
            )
            .buckets(REQUEST_BUCKETS.to_vec()),
            &labels,
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(durations.clone()))?;
        Ok(Self { requests, durations })
    }

    /// Counts one answer; `labels` are route template, method and status.
    pub(crate) fn answered(&self, labels: [&str; 3], seconds: f64) {
        self.requests.with_label_values(&labels).inc();
        self.durations.with_label_values(&labels).observe(seconds);
    }
}

/// The connections of the app's and the operations port.
#[derive(Clone, Debug)]
pub struct ConnectionMetrics {
    over_limit: IntCounterVec,
}

impl ConnectionMetrics {
    /// Metrics that `registry` shows.
    ///
    /// # Errors
    ///
    /// If the registry has them already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let over_limit = IntCounterVec::new(
            Opts::new(
                "coppice_http_connections_over_limit_total",
                "Connections that came when the port had all that it takes.",
            ),
            &["port"],
        )?;
        registry.register(Box::new(over_limit.clone()))?;
        Ok(Self { over_limit })
    }

    /// Counts the connections over the limit of `port`.
    pub(crate) fn over_limit(&self, port: &'static str) -> IntCounter {
        self.over_limit.with_label_values(&[port])
    }
}

/// What became of edits of the configuration.
#[derive(Clone, Debug)]
pub struct ConfigMetrics {
    reloads: IntCounterVec,
    current: IntGauge,
    in_force: Arc<Mutex<InForce>>,
}

/// Of what the file holds, by who judges it.
#[derive(Debug)]
struct InForce {
    file: bool,
    groups: bool,
}

impl ConfigMetrics {
    /// Metrics that `registry` shows.
    ///
    /// # Errors
    ///
    /// If the registry has them already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let reloads = IntCounterVec::new(
            Opts::new("coppice_config_reloads_total", "Edits of the configuration, by result."),
            &["result"],
        )?;
        registry.register(Box::new(reloads.clone()))?;
        for result in ["applied", "refused"] {
            reloads.with_label_values(&[result]).reset();
        }
        let current = IntGauge::new(
            "coppice_config_current",
            "1: what is in the configuration's file is in force; 0: it is refused, not readable, or waits for a restart.",
        )?;
        registry.register(Box::new(current.clone()))?;
        current.set(1);
        let in_force = Arc::new(Mutex::new(InForce { file: true, groups: true }));
        Ok(Self { reloads, current, in_force })
    }

    /// Whether the file could be read and used, and nothing in it waits for the next start.
    pub(crate) fn file_is_current(&self, is_current: bool) {
        self.show(|in_force| in_force.file = is_current);
    }

    /// Whether all groups are served as the file lists them.
    pub(crate) fn groups_are_current(&self, are_current: bool) {
        self.show(|in_force| in_force.groups = are_current);
    }

    fn show(&self, change: impl FnOnce(&mut InForce)) {
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut in_force);
        self.current.set((in_force.file && in_force.groups).into());
    }

    /// An edit took effect.
    pub(crate) fn applied(&self) {
        self.reloads.with_label_values(&["applied"]).inc();
    }

    /// An edit was broken; what ran before goes on.
    pub(crate) fn refused(&self) {
        self.reloads.with_label_values(&["refused"]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_shown_under_the_names_that_the_reference_gives() {
        let registry = Registry::new();
        register_build_info(&registry).unwrap();
        let http = HttpMetrics::new(&registry).unwrap();
        let config = ConfigMetrics::new(&registry).unwrap();
        config.refused();
        config.groups_are_current(false);
        config.file_is_current(true);
        ConnectionMetrics::new(&registry).unwrap().over_limit("app");
        http.answered(["/v1/health", "GET", "200"], 0.002);

        let text = String::from_utf8(encode_metrics(&registry).unwrap()).unwrap();
        for line in [
            "coppice_build_info{version=",
            "coppice_http_requests_total{method=\"GET\",route=\"/v1/health\",status=\"200\"} 1",
            "coppice_http_request_duration_seconds_count{",
            "coppice_http_connections_over_limit_total{port=\"app\"} 0",
            "coppice_config_reloads_total{result=\"refused\"} 1",
            "coppice_config_reloads_total{result=\"applied\"} 0",
            "coppice_config_current 0",
        ] {
            assert!(text.contains(line), "{line} is missing in:\n{text}");
        }
    }
}
