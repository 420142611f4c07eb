//! Whether this replica may get requests.
//!
//! Each part that must be there first holds a [`Part`] and marks it; `/readyz` names
//! those that are missing, and from the first signal to stop on it says so.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// All parts of one process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    parts: Arc<Mutex<Vec<Part>>>,
    stopping: Arc<AtomicBool>,
}

/// One thing that must be there. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Part {
    name: &'static str,
    ready: Arc<AtomicBool>,
}

impl Readiness {
    /// A part that is not ready yet.
    #[must_use]
    pub fn part(&self, name: &'static str) -> Part {
        let part = Part { name, ready: Arc::default() };
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).push(part.clone());
        part
    }

    /// From now on this replica is not ready.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Whether all is there, and if not, what is missing.
    ///
    /// # Errors
    ///
    /// A line per part that is missing.
    pub fn check(&self) -> Result<(), String> {
        if self.stopping.load(Ordering::Acquire) {
            return Err("stopping\n".to_owned());
        }
        let mut missing = String::new();
        for part in self.parts.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if !part.is_ready() {
                // Writing to a string does not fail.
                let _ = writeln!(missing, "not ready: {}", part.name);
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(missing) }
    }
}

impl Part {
    /// It is there, or not any more.
    pub fn set(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    /// Whether it is there.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_when_nothing_is_missing_and_nobody_stops() {
        let readiness = Readiness::default();
        assert_eq!(readiness.check(), Ok(()), "nothing was asked for");
        let groups = readiness.part("groups");
        readiness.part("pods").set(true);
        assert_eq!(readiness.check(), Err("not ready: groups\n".to_owned()));
        groups.set(true);
        assert_eq!(readiness.check(), Ok(()));
        readiness.stop();
        assert_eq!(readiness.check(), Err("stopping\n".to_owned()));
    }
}
