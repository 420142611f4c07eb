//! Hybrid logical clock values: wall time that never runs backwards.
//!
//! Pure: the caller passes `now`.
//! Source: Kulkarni et al., "Logical Physical Clocks and Consistent Snapshots
//! in Globally Distributed Databases", OPODIS 2014.

use std::fmt;

/// 48 bits of milliseconds since 1970 and a 16-bit counter, ordered as one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HybridTimestamp(u64);

impl HybridTimestamp {
    /// The largest number of milliseconds a stamp can hold.
    pub const MAX_MS: u64 = (1 << 48) - 1;

    /// A stamp of `ms` milliseconds (capped at [`Self::MAX_MS`]) and `counter`.
    #[must_use]
    pub const fn new(ms: u64, counter: u16) -> Self {
        let ms = if ms > Self::MAX_MS { Self::MAX_MS } else { ms };
        Self(ms << 16 | counter as u64)
    }

    /// The stamp whose 64 bits are `bits`.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The 64 bits: milliseconds above, counter below.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub const fn ms(self) -> u64 {
        self.0 >> 16
    }

    /// The counter among stamps of one millisecond.
    #[must_use]
    pub const fn counter(self) -> u16 {
        (self.0 & 0xffff) as u16
    }

    /// The smallest stamp after this one; a full counter carries into the
    /// milliseconds. The last stamp of all is its own successor.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for HybridTimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.ms(), self.counter())
    }
}

/// A clock that gives each local write a stamp greater than all before it.
///
/// Remote stamps are stored as they are; [`HybridClock::observe`] lets them
/// move this clock by at most [`HybridClock::MAX_LEAD_MS`] past wall time, so
/// that one wrong clock cannot drag the others along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HybridClock {
    last: HybridTimestamp,
}

impl HybridClock {
    /// How far past wall time a remote stamp can move this clock, in milliseconds.
    pub const MAX_LEAD_MS: u64 = 500;

    /// A clock that never gives a stamp at or below `bound`, the persisted upper
    /// bound of all stamps that it gave before a restart.
    #[must_use]
    pub const fn resume(bound: HybridTimestamp) -> Self {
        Self { last: bound }
    }

    /// The last stamp given or adopted.
    #[must_use]
    pub const fn last(&self) -> HybridTimestamp {
        self.last
    }

    /// A stamp for a local write at wall time `now_ms`.
    pub fn tick(&mut self, now_ms: u64) -> HybridTimestamp {
        self.last = self.last.next().max(HybridTimestamp::new(now_ms, 0));
        self.last
    }

    /// Takes notice of a remote stamp at wall time `now_ms`.
    pub fn observe(&mut self, remote: HybridTimestamp, now_ms: u64) {
        let lead = HybridTimestamp::new(now_ms.saturating_add(Self::MAX_LEAD_MS), u16::MAX);
        self.last = self.last.max(remote.min(lead));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_its_milliseconds_and_its_counter() {
        let stamp = HybridTimestamp::new(5, 7);
        assert_eq!((stamp.ms(), stamp.counter(), stamp.bits()), (5, 7, 5 << 16 | 7));
        assert_eq!(stamp.to_string(), "5.7");
    }

    #[test]
    fn stamps_grow_while_the_wall_clock_stands_or_falls() {
        let mut clock = HybridClock::default();
        let stamps: Vec<_> = [5, 5, 3, 6].map(|now_ms| clock.tick(now_ms)).into();
        let expected = [(5, 0), (5, 1), (5, 2), (6, 0)];
        assert_eq!(stamps, expected.map(|(ms, counter)| HybridTimestamp::new(ms, counter)));
        assert_eq!(clock.last(), HybridTimestamp::new(6, 0));
    }

    #[test]
    fn a_restart_goes_on_above_the_persisted_bound() {
        let bound = HybridTimestamp::new(100, 7);
        assert!(HybridClock::resume(bound).tick(50) > bound);
    }

    #[test]
    fn a_remote_stamp_moves_the_clock_by_a_bounded_lead() {
        let mut clock = HybridClock::default();
        clock.observe(HybridTimestamp::new(1_200, 3), 1_000);
        assert_eq!(clock.last(), HybridTimestamp::new(1_200, 3));
        clock.observe(HybridTimestamp::new(HybridTimestamp::MAX_MS, 0), 1_000);
        assert_eq!(clock.last().ms(), 1_500);
        clock.observe(HybridTimestamp::new(1, 0), u64::MAX);
        assert_eq!(clock.last().ms(), 1_500, "it never goes back");
    }

    #[test]
    fn a_full_counter_carries_and_the_last_stamp_stays() {
        let full = HybridTimestamp::new(9, u16::MAX);
        assert_eq!(full.next(), HybridTimestamp::new(10, 0));
        assert_eq!((full.ms(), full.counter()), (9, u16::MAX));
        let last = HybridTimestamp::new(u64::MAX, u16::MAX);
        assert_eq!((last.next(), last.ms()), (last, HybridTimestamp::MAX_MS));
        assert_eq!(HybridTimestamp::from_bits(full.bits()), full);
        assert_eq!(full.to_string(), "9.65535");
    }
}
