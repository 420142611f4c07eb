//! What is said in the log of who is connected.
//!
//! "connected to peer" and "lost peer", once per change and not per link: of two
//! links to a peer one is closed, and a peer that comes and goes for ever is not to
//! fill the log. So a change is said once it has held for a while, and longer with
//! each one that was said before.

use std::collections::{BTreeMap, BTreeSet};

/// How long a loss has held when it is said at first: a link takes another's place.
const FIRST_HOLD_MS: u64 = 1_000;

/// How long a change has held at most when it is said.
const LAST_HOLD_MS: u64 = 300_000;

/// After how long without a change a peer is one that never changed.
const CALM_MS: u64 = 600_000;

/// The peers of a group by name.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    by_name: BTreeMap<String, Neighbour>,
    /// Whether anybody was ever connected.
    pub(super) had_any: bool,
}

#[derive(Debug)]
struct Neighbour {
    /// As it was said.
    is_connected: bool,
    is_linked: bool,
    /// Since when it is.
    since_ms: u64,
    hold_ms: u64,
}

/// What is to be said of a peer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It is connected.
    Connected(String),
    /// It is not any more.
    Lost(String),
}

impl Neighbours {
    /// Takes notice of who is linked at `now_ms` of the steady clock; what is new.
    pub(super) fn note<'a>(
        &mut self,
        linked: impl Iterator<Item = &'a str>,
        now_ms: u64,
    ) -> Vec<News> {
        let mut linked: BTreeSet<&str> = linked.collect();
        self.had_any |= !linked.is_empty();
        let mut news = Vec::new();
        for (name, neighbour) in &mut self.by_name {
            let is_linked = linked.remove(name.as_str());
            if neighbour.changes(is_linked, now_ms) {
                let name = name.clone();
                news.push(if is_linked { News::Connected(name) } else { News::Lost(name) });
            }
        }
        for name in linked {
            self.by_name.insert(name.to_owned(), Neighbour::connected(now_ms));
            news.push(News::Connected(name.to_owned()));
        }
        // Lost for long: who comes back then is as good as new.
        self.by_name.retain(|_, of| of.is_connected || of.is_linked || !of.is_calm(now_ms));
        news
    }
}

impl Neighbour {
    fn connected(now_ms: u64) -> Self {
        Self { is_connected: true, is_linked: true, since_ms: now_ms, hold_ms: 0 }
    }

    fn is_calm(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.since_ms) >= CALM_MS
    }

    /// Whether it is to be said that it is linked, or not any more.
    fn changes(&mut self, is_linked: bool, now_ms: u64) -> bool {
        if is_linked != self.is_linked {
            if self.is_calm(now_ms) {
                self.hold_ms = 0;
            }
            (self.is_linked, self.since_ms) = (is_linked, now_ms);
        }
        let least = if is_linked { 0 } else { FIRST_HOLD_MS };
        let has_held = now_ms.saturating_sub(self.since_ms) >= self.hold_ms.max(least);
        if is_linked == self.is_connected || !has_held {
            return false;
        }
        if !is_linked {
            self.hold_ms = (2 * self.hold_ms).clamp(FIRST_HOLD_MS, LAST_HOLD_MS);
        }
        self.is_connected = is_linked;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: usize = 50;

    /// What is said while `b` is linked as `is_linked` says, at each tick.
    fn said(
        neighbours: &mut Neighbours,
        (from_ms, to_ms): (u64, u64),
        is_linked: impl Fn(u64) -> bool,
    ) -> Vec<(u64, News)> {
        let mut said = Vec::new();
        for now_ms in (from_ms..to_ms).step_by(TICK) {
            let linked = is_linked(now_ms).then_some("b").into_iter();
            said.extend(neighbours.note(linked, now_ms).into_iter().map(|news| (now_ms, news)));
        }
        said
    }

    fn connected() -> News {
        News::Connected("b".to_owned())
    }

    fn lost() -> News {
        News::Lost("b".to_owned())
    }

    #[test]
    fn a_peer_is_said_to_come_and_to_go_and_to_be_back() {
        let mut neighbours = Neighbours::default();
        assert_eq!(said(&mut neighbours, (0, 1_000), |_| false), []);
        assert!(!neighbours.had_any);
        let is_linked = |ms| !(20_000..23_000).contains(&ms);
        let seen = said(&mut neighbours, (1_000, 60_000), is_linked);
        assert_eq!(seen, [(1_000, connected()), (21_000, lost()), (24_000, connected())]);
        assert!(neighbours.had_any);
    }

    #[test]
    fn a_link_that_takes_anothers_place_is_no_news() {
        let mut neighbours = Neighbours::default();
        let seen = said(&mut neighbours, (0, 60_000), |ms| ms % 5_000 > 500);
        assert_eq!(seen, [(550, connected())]);
    }

    #[test]
    fn one_that_comes_and_goes_for_ever_is_soon_not_said_again() {
        let mut neighbours = Neighbours::default();
        let seen = said(&mut neighbours, (0, 3_600_000), |ms| ms % 10_000 < 5_000);
        assert!((2..10).contains(&seen.len()), "{seen:?}");
        // It stays away then.
        let seen = said(&mut neighbours, (3_600_000, 7_200_000), |_| false);
        assert!(seen.iter().all(|(_, news)| *news == lost()), "{seen:?}");
        assert!(neighbours.by_name.is_empty(), "{neighbours:?}");
        let seen = said(&mut neighbours, (7_200_000, 7_200_001), |_| true);
        assert_eq!(seen, [(7_200_000, connected())]);
    }
}
