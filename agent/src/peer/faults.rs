//! What was said of faults that stand, so that they are no line per attempt.
//!
//! Whoever cannot be spoken with is tried again every few seconds, for ever. A fault
//! is said when it is new, again when it is back after it was over, and else once in
//! a long while, with the number of times since.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::GroupName;

/// How long a fault that was said is not said again.
const REPEAT: Duration = Duration::from_mins(10);

/// Faults kept in mind. Who connects chooses some of what names them.
const CAPACITY: usize = 1024;

/// The faults of a transport.
#[derive(Debug, Default)]
pub(super) struct Faults {
    noted: Mutex<HashMap<Key, Noted>>,
}

/// Something that went wrong, once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault<'a> {
    /// The listed address, or the host that a connection came from.
    pub(super) place: &'a str,
    /// The group, if it is of one.
    pub(super) group: Option<&'a GroupName>,
    /// What of several things.
    pub(super) kind: &'static str,
    /// From which time on it is said: what stops or starts fails once.
    pub(super) from: u64,
    /// Whether it is said again while it stands.
    pub(super) repeats: bool,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    place: String,
    group: Option<GroupName>,
    kind: &'static str,
}

#[derive(Debug)]
struct Noted {
    /// How often since it was said.
    times: u64,
    said: Option<Instant>,
    last: Instant,
}

// === impl Fault ===

impl<'a> Fault<'a> {
    /// One that is said at once and then rarely.
    pub(super) fn new(place: &'a str, group: Option<&'a GroupName>, kind: &'static str) -> Self {
        Self { place, group, kind, from: 1, repeats: true }
    }
}

// === impl Faults ===

impl Faults {
    /// Whether this is to be said: then how often it happened since it last was.
    pub(super) fn note(&self, fault: Fault<'_>) -> Option<u64> {
        let now = Instant::now();
        let Fault { place, group, kind, from, repeats } = fault;
        let key = Key { place: place.to_owned(), group: group.cloned(), kind };
        let mut noted = self.lock();
        if noted.len() >= CAPACITY && !noted.contains_key(&key) {
            noted.retain(|_, known| now - known.last < REPEAT);
            if noted.len() >= CAPACITY {
                return None;
            }
        }
        let known = noted.entry(key).or_insert(Noted { times: 0, said: None, last: now });
        known.times += 1;
        known.last = now;
        let is_due = match known.said {
            None => known.times >= from,
            Some(said) => repeats && now - said >= REPEAT,
        };
        is_due.then(|| {
            known.said = Some(now);
            std::mem::take(&mut known.times)
        })
    }

    /// This one is over: the next is a new one.
    pub(super) fn over(&self, place: &str, group: Option<&GroupName>, kind: &str) {
        let is_it =
            |key: &Key| key.place == place && key.group.as_ref() == group && key.kind == kind;
        self.lock().retain(|key, _| !is_it(key));
    }

    /// All of this place and group are over.
    pub(super) fn all_over(&self, place: &str, group: Option<&GroupName>) {
        self.lock().retain(|key, _| key.place != place || key.group.as_ref() != group);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Noted>> {
        // No holder can panic half-way through a change.
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The host of an address with a port.
pub(super) fn host_of(remote: &str) -> &str {
    remote.rsplit_once(':').map_or(remote, |(host, _port)| host)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn group() -> GroupName {
        GroupName::parse("g").unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_that_stands_is_said_once_and_then_rarely_with_its_number() {
        let (faults, group) = (Faults::default(), group());
        let fault = Fault::new("10.0.0.7", Some(&group), "tls");
        assert_eq!(faults.note(fault), Some(1));
        for _ in 0..119 {
            advance(Duration::from_secs(5)).await;
            assert_eq!(faults.note(fault), None);
        }
        advance(Duration::from_secs(5)).await;
        assert_eq!(faults.note(fault), Some(120));
        advance(Duration::from_secs(5)).await;
        assert_eq!(faults.note(fault), None);
    }

    #[tokio::test(start_paused = true)]
    async fn another_cause_and_a_fault_that_was_over_are_news() {
        let (faults, group) = (Faults::default(), group());
        let refused = Fault { repeats: false, ..Fault::new("a:1", None, "refused") };
        assert_eq!(faults.note(refused), Some(1));
        advance(REPEAT * 2).await;
        assert_eq!(faults.note(refused), None, "it is said once");
        assert_eq!(faults.note(Fault::new("a:1", None, "tls")), Some(1));
        assert_eq!(faults.note(Fault::new("a:1", Some(&group), "tls")), Some(1));

        faults.over("a:1", Some(&group), "other");
        assert_eq!(faults.note(Fault::new("a:1", Some(&group), "tls")), None);
        faults.over("a:1", Some(&group), "tls");
        assert_eq!(faults.note(Fault::new("a:1", Some(&group), "tls")), Some(1));
        faults.all_over("a:1", None);
        assert_eq!(faults.note(refused), Some(1));
        assert_eq!(faults.note(Fault::new("a:1", Some(&group), "tls")), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_happen_once_is_said_from_the_second_time_on() {
        let faults = Faults::default();
        let fault = Fault { from: 2, ..Fault::new("a:1", None, "protocol") };
        assert_eq!([faults.note(fault), faults.note(fault)], [None, Some(2)]);
        faults.all_over("a:1", None);
        assert_eq!(faults.note(fault), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_from_everywhere_fills_neither_memory_nor_the_log() {
        let faults = Faults::default();
        let hosts: Vec<_> = (0..2 * CAPACITY).map(|n| n.to_string()).collect();
        let said = hosts.iter().filter(|host| faults.note(Fault::new(host, None, "tls")).is_some());
        assert_eq!(said.count(), CAPACITY);
        assert_eq!(faults.lock().len(), CAPACITY);
        advance(REPEAT).await;
        assert_eq!(faults.note(Fault::new("another", None, "tls")), Some(1));
    }
}
