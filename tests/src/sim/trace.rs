//! What happened last, for whoever has to find out why a run failed.

use std::collections::VecDeque;
use std::fmt;

/// So many events are kept.
const KEPT: usize = 60;

/// The last events of a run.
#[derive(Debug, Default)]
pub(super) struct Trace {
    events: VecDeque<Event>,
    prints: bool,
}

/// Two numbers say what it was about; what they are depends on the event.
#[derive(Clone, Copy, Debug)]
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
    pub(super) const fn new(prints: bool) -> Self {
        Self { events: VecDeque::new(), prints }
    }

    pub(super) fn note(
        &mut self,
        at_ms: u64,
        replica: usize,
        what: &'static str,
        about: (u64, u64),
    ) {
        let event = Event { at_ms, replica, what, about };
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
