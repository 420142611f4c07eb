//! What is measured of the webhook.

use prometheus::{Histogram, HistogramOpts, IntCounterVec, Opts, Registry};

/// Buckets in seconds: most pods take a millisecond; the API server gives up after 5 s.
const BUCKETS: [f64; 9] = [0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

/// Requests of the webhook.
#[derive(Clone, Debug)]
pub struct AdmissionMetrics {
    requests: IntCounterVec,
    duration: Histogram,
    events: IntCounterVec,
}

// === impl AdmissionMetrics ===

impl AdmissionMetrics {
    /// Registers them.
    ///
    /// # Errors
    ///
    /// If the registry has them already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            requests: IntCounterVec::new(
                Opts::new(
                    "coppice_operator_injection_requests_total",
                    "Pods that the API server asked about, by what was done and why.",
                ),
                &["result", "reason"],
            )?,
            duration: Histogram::with_opts(
                HistogramOpts::new(
                    "coppice_operator_injection_duration_seconds",
                    "From a request of the webhook to its answer.",
                )
                .buckets(BUCKETS.to_vec()),
            )?,
            events: IntCounterVec::new(
                Opts::new(
                    "coppice_operator_injection_events_total",
                    "Events about injection, by what became of them.",
                ),
                &["result"],
            )?,
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.events.clone()))?;
        Ok(metrics)
    }

    pub(super) fn answered(&self, result: &str, reason: &str, seconds: f64) {
        self.requests.with_label_values(&[result, reason]).inc();
        self.duration.observe(seconds);
    }

    pub(super) fn event(&self, result: &str) {
        self.events.with_label_values(&[result]).inc();
    }

    #[cfg(test)]
    pub(super) fn requests(&self, result: &str, reason: &str) -> u64 {
        self.requests.with_label_values(&[result, reason]).get()
    }
}
