//! What the store tells Prometheus.

use prometheus::{IntCounter, IntGauge, Registry};

use crate::http::StatusSource;
use crate::store::Reader;

/// Figures of the store, read when someone looks.
#[derive(Debug)]
pub struct StoreMetrics<R> {
    reader: R,
    fsyncs: IntCounter,
    bytes: IntGauge,
}

impl<R: Reader> StoreMetrics<R> {
    /// Registers them.
    ///
    /// # Errors
    ///
    /// If they are registered already.
    pub fn register(registry: &Registry, reader: R) -> Result<Self, prometheus::Error> {
        let fsyncs = IntCounter::new("coppice_fsyncs_total", "Times the store was put on disk.")?;
        let bytes = IntGauge::new("coppice_store_bytes", "Bytes of the store on its volume.")?;
        registry.register(Box::new(fsyncs.clone()))?;
        registry.register(Box::new(bytes.clone()))?;
        Ok(Self { reader, fsyncs, bytes })
    }
}

impl<R: Reader> StatusSource for StoreMetrics<R> {
    fn refresh(&self) {
        let counted = self.reader.fsyncs();
        self.fsyncs.inc_by(counted.saturating_sub(self.fsyncs.get()));
        self.bytes.set(i64::try_from(self.reader.bytes_on_disk()).unwrap_or(i64::MAX));
    }
}
