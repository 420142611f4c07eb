//! When to stop: SIGTERM or SIGINT; a second one ends the process at once. SIGHUP
//! does nothing.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// A token that the first SIGTERM or SIGINT cancels.
///
/// Returns at a second signal: whoever sends one does not want to wait for the
/// hand-over, and the caller ends the process. Must be called inside a runtime.
///
/// # Errors
///
/// If the system gives no signal handler.
pub async fn on_signal(stop: CancellationToken) -> std::io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut is_stopping = false;
    loop {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
            _ = hang_up.recv() => {
                info!("SIGHUP does nothing: changes of the configuration file are followed");
                continue;
            }
        }
        if std::mem::replace(&mut is_stopping, true) {
            warn!("a second signal came: ending at once");
            return Ok(());
        }
        info!("a signal came: stopping");
        stop.cancel();
    }
}
