//! Picks up changed TLS files. They are compared by content, since mounted
//! secrets change by a symbolic link, not by a file's time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::files::{Raw, TlsFiles, read};
use super::{TlsConfigs, TlsError};
use crate::peer::PeerMetrics;

/// What the reloading task works on.
pub(in crate::peer) struct Watched {
    pub(in crate::peer) files: TlsFiles,
    /// What is in force.
    pub(in crate::peer) raw: Raw,
    pub(in crate::peer) current: watch::Sender<Option<Arc<TlsConfigs>>>,
    pub(in crate::peer) metrics: PeerMetrics,
}

/// Looks at the files every `poll` until `shutdown`.
///
/// New connections use what was loaded last; existing ones go on with what they
/// proved. Files that can not be used, which is also how they look half-way
/// through being replaced, change nothing and are looked at again.
pub(in crate::peer) async fn watch_files(
    mut watched: Watched,
    poll: Duration,
    shutdown: CancellationToken,
) {
    let mut ticks = interval(poll);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_complaint = String::new();
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            _now = ticks.tick() => {}
        }
        let complaint = match watched.look().await {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        };
        if !complaint.is_empty() && complaint != last_complaint {
            warn!(error = complaint, "TLS files changed and are not used; the last ones stay");
        }
        last_complaint = complaint;
    }
}

// === impl Watched ===

impl Watched {
    async fn look(&mut self) -> Result<(), TlsError> {
        let raw = read(&self.files).await?;
        if raw == self.raw {
            return Ok(());
        }
        let configs = raw.configs()?;
        info!(not_after = configs.not_after, "TLS files reloaded");
        configs.tell_refusal();
        self.metrics.certificate_expires(configs.not_after);
        self.current.send_replace(Some(Arc::new(configs)));
        self.raw = raw;
        Ok(())
    }
}
