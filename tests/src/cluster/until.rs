//! Waiting for what a cluster does, with the reason why it has not come yet.

use std::time::Duration;

use tokio::time::Instant;

use super::Failure;
use crate::eventually::eventually_every;

/// Between two looks: each starts a `kubectl`.
const PAUSE: Duration = Duration::from_millis(400);

/// Looks until `look` finds something, at most for `limit`; what, and how long that took.
///
/// # Errors
///
/// What was waited for, and why the last look did not find it.
pub fn until<T, E: Into<Failure>>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<T, E>,
) -> Result<(T, Duration), Failure> {
    let begun = Instant::now();
    let mut last = String::new();
    let found =
        eventually_every(PAUSE, limit, || look().map_err(|error| last = error.into().0).ok());
    match found {
        Some(found) => Ok((found, begun.elapsed())),
        None => Err(Failure(format!("{what}: not within {} s: {last}", limit.as_secs()))),
    }
}

/// Looks again and again for all of `time`.
///
/// # Errors
///
/// What the first look that found something wrong says.
pub fn holds_for<E: Into<Failure>>(
    what: &str,
    time: Duration,
    mut look: impl FnMut() -> Result<(), E>,
) -> Result<(), Failure> {
    match eventually_every(PAUSE, time, || look().err()) {
        Some(error) => Err(Failure(format!("{what}: {}", error.into().0))),
        None => Ok(()),
    }
}
