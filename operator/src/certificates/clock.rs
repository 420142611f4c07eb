//! The only place here that reads the wall clock.
//!
//! Certificates are valid by wall time, so timers count for nothing: a machine that
//! slept, or whose clock was set, looks here again each minute.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use time::OffsetDateTime;

/// Wall time; a handle, cheap to clone.
#[derive(Clone)]
pub struct WallClock(Source);

#[derive(Clone)]
enum Source {
    System,
    /// Seconds since 1970, set by hand.
    Manual(Arc<AtomicI64>),
}

// === impl WallClock ===

impl WallClock {
    /// The machine's clock.
    #[must_use]
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until it is set.
    #[must_use]
    pub fn manual(now: OffsetDateTime) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(now.unix_timestamp()))))
    }

    /// Sets a manual clock; the machine's stays as it is.
    pub fn set(&self, now: OffsetDateTime) {
        if let Source::Manual(seconds) = &self.0 {
            seconds.store(now.unix_timestamp(), Ordering::Relaxed);
        }
    }

    /// The time, in whole seconds: certificates know no others.
    #[must_use]
    pub fn now(&self) -> OffsetDateTime {
        let seconds = match &self.0 {
            Source::System => OffsetDateTime::now_utc().unix_timestamp(),
            Source::Manual(seconds) => seconds.load(Ordering::Relaxed),
        };
        OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WallClock({})", self.now())
    }
}
