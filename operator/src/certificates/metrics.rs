//! What is measured of certificates.

use prometheus::{GaugeVec, IntCounterVec, IntGauge, Opts, Registry};
use time::OffsetDateTime;

/// Expiry, rotation and signing.
#[derive(Clone, Debug)]
pub(crate) struct CertificateMetrics {
    expiry: GaugeVec,
    steps: IntCounterVec,
    damaged: IntGauge,
    signed: IntCounterVec,
}

// === impl CertificateMetrics ===

impl CertificateMetrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            expiry: GaugeVec::new(
                Opts::new(
                    "coppice_certificate_expiry_timestamp_seconds",
                    "When a certificate in use ends, in seconds since 1970.",
                ),
                &["certificate"],
            )?,
            steps: IntCounterVec::new(
                Opts::new(
                    "coppice_operator_authority_rotation_steps_total",
                    "Steps taken by this replica to replace an authority.",
                ),
                &["authority", "step"],
            )?,
            damaged: IntGauge::new(
                "coppice_operator_authorities_damaged",
                "1 while the Secret of authorities cannot be used as it is.",
            )?,
            signed: IntCounterVec::new(
                Opts::new(
                    "coppice_operator_certificate_requests_total",
                    "Requests of agents for a certificate.",
                ),
                &["result", "reason"],
            )?,
        };
        registry.register(Box::new(metrics.expiry.clone()))?;
        registry.register(Box::new(metrics.steps.clone()))?;
        registry.register(Box::new(metrics.damaged.clone()))?;
        registry.register(Box::new(metrics.signed.clone()))?;
        Ok(metrics)
    }

    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit a double for ever")]
    pub(crate) fn expires(&self, certificate: &str, at: OffsetDateTime) {
        self.expiry.with_label_values(&[certificate]).set(at.unix_timestamp() as f64);
    }

    pub(crate) fn stepped(&self, authority: &str, step: &str) {
        self.steps.with_label_values(&[authority, step]).inc();
    }

    pub(crate) fn set_damaged(&self, damaged: bool) {
        self.damaged.set(damaged.into());
    }

    pub(crate) fn signing(&self, result: &str, reason: &str) {
        self.signed.with_label_values(&[result, reason]).inc();
    }

    #[cfg(test)]
    pub(crate) fn signed(&self, result: &str, reason: &str) -> u64 {
        self.signed.with_label_values(&[result, reason]).get()
    }
}
