//! When to stop: SIGTERM or SIGINT; a later one ends the process at once. SIGHUP does
//! nothing.
//!
//! One request to stop can come as several signals: a terminal sends SIGINT to all of
//! a job, and its leader passes its own on; a service manager signals a whole group of
//! processes. So what follows the first within a second is the same request.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How long after the first a signal is no second request.
const SAME_REQUEST: Duration = Duration::from_secs(1);

/// Cancels `stop` at the first SIGTERM or SIGINT. At a SIGHUP it says that it does
/// nothing, and `hang_up`: why.
///
/// Returns at a signal a second or more after the first: whoever sends one does not want
/// to wait, and the caller ends the process. Must be called inside a runtime.
///
/// # Errors
///
/// If the system gives no signal handler.
pub async fn on_signal(stop: CancellationToken, hang_up: &str) -> std::io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hung_up = signal(SignalKind::hangup())?;
    let mut stopping_since: Option<Instant> = None;
    loop {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
            _ = hung_up.recv() => {
                info!("SIGHUP does nothing: {hang_up}");
                continue;
            }
        }
        match stopping_since {
            Some(since) if since.elapsed() < SAME_REQUEST => continue,
            Some(_) => {
                warn!("a second signal came: ending at once");
                return Ok(());
            }
            None => stopping_since = Some(Instant::now()),
        }
        info!("a signal came: stopping");
        stop.cancel();
    }
}
