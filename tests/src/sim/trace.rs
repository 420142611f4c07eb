//! What happened last, for whoever has to find out why a run failed, and a digest
//! of all that happened, by which two runs are compared.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{Hash, Hasher};

/// So many events are kept.
const KEPT: usize = 60;

/// The last events of a run.
#[derive(Debug, Default)]
pub(super) struct Trace {
    events: VecDeque<Event>,
    prints: bool,
    all: Fnv,
}

/// Tells runs apart, no more: 64 bits of FNV-1a (Fowler, Noll, Vo).
#[derive(Debug)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// Two numbers say what it was about; what they are depends on the event.
#[derive(Clone, Copy, Debug, Hash)]
struct Event {
    at_ms: u64,
    replica: usize,
    what: &'static str,
    about: (u64, u64),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at_ms, replica, what, about: (first, second) } = self;
        write!(f, "{at_ms:>8} ms  replica {replica:<3} {what} {first} {second}")
    }
}

impl Trace {
    /// `prints`: events are printed as they happen, too.
    pub(super) fn new(prints: bool) -> Self {
        Self { events: VecDeque::new(), prints, all: Fnv::default() }
    }

    /// Takes something into the digest that is too much to be kept.
    pub(super) fn digest_of(&mut self, what: impl Hash) {
        what.hash(&mut self.all);
    }

    /// Of all that happened so far.
    pub(super) fn digest(&self) -> u64 {
        self.all.finish()
    }

    pub(super) fn note(
        &mut self,
        at_ms: u64,
        replica: usize,
        what: &'static str,
        about: (u64, u64),
    ) {
        let event = Event { at_ms, replica, what, about };
        event.hash(&mut self.all);
        if self.prints {
            eprintln!("{event}");
        }
        if self.events.len() == KEPT {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.events.iter().try_for_each(|event| writeln!(f, "{event}"))
    }
}
