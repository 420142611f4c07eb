//! What the transport counts.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::{CloseReason, GroupName};

/// The transport's metrics; cheap to clone.
///
/// Labels are bounded: groups are the configured ones, reasons a closed list.
#[derive(Clone, Debug)]
pub struct PeerMetrics {
    bytes_sent: IntCounterVec,
    bytes_received: IntCounterVec,
    links_closed: IntCounterVec,
    certificate_expiry: IntGauge,
}

// === impl PeerMetrics ===

impl PeerMetrics {
    /// Makes the metrics and enters them in `registry`.
    ///
    /// # Errors
    ///
    /// When the registry already has one of these names: they are made once.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, label: &str| {
            let counter = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let certificate_expiry = IntGauge::new(
            "coppice_certificate_expiry_timestamp_seconds",
            "When the certificate in use for peers expires, in seconds since 1970; 0 without TLS",
        )?;
        registry.register(Box::new(certificate_expiry.clone()))?;
        Ok(Self {
            bytes_sent: counter(
                "coppice_peer_bytes_sent_total",
                "Bytes of frames and their prefixes sent to peers",
                "group",
            )?,
            bytes_received: counter(
                "coppice_peer_bytes_received_total",
                "Bytes of frames and their prefixes received from peers",
                "group",
            )?,
            links_closed: counter(
                "coppice_links_closed_total",
                "Links to peers that ended, or were refused once connected",
                "reason",
            )?,
            certificate_expiry,
        })
    }

    pub(super) fn sent(&self, group: &GroupName) -> IntCounter {
        self.bytes_sent.with_label_values(&[group.as_str()])
    }

    pub(super) fn received(&self, group: &GroupName) -> IntCounter {
        self.bytes_received.with_label_values(&[group.as_str()])
    }

    pub(super) fn link_closed(&self, reason: CloseReason) {
        self.links_closed.with_label_values(&[reason.label()]).inc();
    }

    pub(super) fn certificate_expires(&self, unix_seconds: i64) {
        self.certificate_expiry.set(unix_seconds);
    }

    /// How many links ended for `reason`.
    pub fn links_closed(&self, reason: CloseReason) -> u64 {
        self.links_closed.with_label_values(&[reason.label()]).get()
    }

    /// When the certificate in use expires, in Unix seconds; 0 without TLS.
    pub fn certificate_expiry(&self) -> i64 {
        self.certificate_expiry.get()
    }
}
