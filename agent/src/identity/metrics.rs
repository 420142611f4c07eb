//! What identity tells Prometheus.

use prometheus::{IntCounterVec, Opts, Registry};

/// Metrics of the certificate; cheap to clone. When it ends is the transport's to say.
#[derive(Clone, Debug)]
pub struct IdentityMetrics {
    requests: IntCounterVec,
}

impl IdentityMetrics {
    /// Registers them.
    ///
    /// # Errors
    ///
    /// If they are registered already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let requests = IntCounterVec::new(
            Opts::new(
                "coppice_certificate_requests_total",
                "Certificates asked of the operator, by how that ended.",
            ),
            &["result"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        Ok(Self { requests })
    }

    pub(super) fn asked(&self, result: &str) {
        self.requests.with_label_values(&[result]).inc();
    }
}
