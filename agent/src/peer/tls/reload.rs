//! Picks up changed TLS files. They are compared by content, since mounted
//! secrets change by a symbolic link, not by a file's time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::TlsError;
use super::files::{Raw, TlsFiles, read};
use crate::peer::PeerMetrics;
use crate::peer::shared::Security;

/// What the reloading task works on.
pub(in crate::peer) struct Watched {
    pub(in crate::peer) files: TlsFiles,
    /// What is in force; `None`: nothing yet.
    pub(in crate::peer) raw: Option<Raw>,
    pub(in crate::peer) current: watch::Sender<Security>,
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
            if watched.raw.is_some() {
                warn!(error = complaint, "TLS files changed and are not used; the last ones stay");
            } else {
                debug!(error = complaint, "no TLS files that can be used yet");
            }
        }
        last_complaint = complaint;
    }
}

// === impl Watched ===

impl Watched {
    /// Loads the files, if they are not as they were.
    pub(in crate::peer) async fn look(&mut self) -> Result<(), TlsError> {
        let raw = Some(read(&self.files).await?);
        if raw == self.raw {
            return Ok(());
        }
        let configs = raw.as_ref().map(Raw::configs).transpose()?;
        let Some(configs) = configs else { return Ok(()) };
        if self.raw.is_some() {
            info!(not_after = configs.not_after, "TLS files reloaded");
        }
        configs.tell_refusal();
        self.metrics.certificate_expires(configs.not_after);
        self.current.send_replace(Security::Tls(Arc::new(configs)));
        self.raw = raw;
        Ok(())
    }
}
