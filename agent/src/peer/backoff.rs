//! How long to wait before the next attempt.

use std::time::Duration;

use rand::RngExt;

/// Doubles the wait with each failure, up to a limit, and jitters it, so that
/// agents that lost the same peer do not all come back at once.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    first: Duration,
    last: Duration,
    next: Duration,
}

// === impl Backoff ===

impl Backoff {
    pub(super) fn new(first: Duration, last: Duration) -> Self {
        Self { first, last, next: first }
    }

    /// The wait for one more failure: half of the full wait to all of it.
    pub(super) fn next(&mut self) -> Duration {
        let full = self.next;
        self.next = full.saturating_mul(2).min(self.last);
        full.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// Makes the next failure a first one.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_start_again_after_a_reset() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(50), ms(300));
        for full in [50, 100, 200, 300, 300] {
            let wait = backoff.next();
            assert!(wait >= ms(full / 2) && wait <= ms(full), "{wait:?} of {full} ms");
        }
        backoff.reset();
        assert!(backoff.next() <= ms(50));
    }
}
