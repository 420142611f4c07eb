//! When to stop: SIGTERM or SIGINT; a second one ends the process at once.

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
    for attempt in 0.. {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        if attempt == 0 {
            info!("a signal came: stopping");
            stop.cancel();
        } else {
            warn!("a second signal came: ending at once");
            break;
        }
    }
    Ok(())
}
