//! Waiting for a condition, with a deadline: the only sleep of the workspace.

use std::time::Duration;

use tokio::time::Instant;

/// Between two looks.
const POLL: Duration = Duration::from_millis(10);

/// Asks `condition` until it gives an answer, at most for `limit`.
///
/// `None` when the time is up.
pub fn eventually<T>(limit: Duration, condition: impl FnMut() -> Option<T>) -> Option<T> {
    eventually_every(POLL, limit, condition)
}

/// The same for a condition that is dear to ask: with `pause` between two looks.
pub fn eventually_every<T>(
    pause: Duration,
    limit: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = condition() {
            return Some(answer);
        }
        if Instant::now() >= end {
            return None;
        }
        sleep(pause);
    }
}

#[expect(clippy::disallowed_methods, reason = "here is the deadline that others wait with")]
fn sleep(pause: Duration) {
    std::thread::sleep(pause);
}
