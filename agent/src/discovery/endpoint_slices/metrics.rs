//! What discovery tells Prometheus.

use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

use crate::discovery::Listed;

/// Discovery's metrics; cheap to clone.
#[derive(Clone, Debug)]
pub struct SliceMetrics {
    endpoints: IntGauge,
    synced: IntGauge,
    errors: IntCounterVec,
}

impl SliceMetrics {
    /// Registers them.
    ///
    /// # Errors
    ///
    /// If they are registered already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let endpoints = IntGauge::new(
            "coppice_discovery_endpoints",
            "Peers' addresses that discovery lists, of all groups served here.",
        )?;
        let synced = IntGauge::new(
            "coppice_discovery_synced",
            "1 while EndpointSlices are followed, 0 while the API server refuses or does not answer.",
        )?;
        let errors = IntCounterVec::new(
            Opts::new(
                "coppice_discovery_errors_total",
                "Failures to list or watch EndpointSlices.",
            ),
            &["reason"],
        )?;
        registry.register(Box::new(endpoints.clone()))?;
        registry.register(Box::new(synced.clone()))?;
        registry.register(Box::new(errors.clone()))?;
        Ok(Self { endpoints, synced, errors })
    }

    pub(super) fn found(&self, listed: &Listed) {
        self.endpoints.set(i64::try_from(listed.addresses.len()).unwrap_or(i64::MAX));
    }

    pub(super) fn works(&self, is_synced: bool) {
        self.synced.set(i64::from(is_synced));
    }

    pub(super) fn failed(&self, reason: &str) {
        self.errors.with_label_values(&[reason]).inc();
    }
}
