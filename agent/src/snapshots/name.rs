//! Names of snapshots: when, and which.

use std::{fmt, str::FromStr, time::SystemTime};

use time::{Date, Month, OffsetDateTime, Time, UtcDateTime};

/// The name of a snapshot, as `20261121T101530Z-42`: when it was taken, in
/// UTC, and its number. Numbers rise by one in each data directory, so they
/// tell the order where a clock went back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotName {
    taken_at: UtcDateTime,
    number: u64,
}

/// A text that is no name of a snapshot.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no snapshot's name: they look like 20261121T101530Z-42")]
pub struct NotASnapshotName(String);

// === impl SnapshotName ===

impl SnapshotName {
    pub(super) fn new(taken_at: SystemTime, number: u64) -> Self {
        let taken_at = OffsetDateTime::from(taken_at).to_utc();
        let second = Time::from_hms(taken_at.hour(), taken_at.minute(), taken_at.second());
        let second = second.expect("the parts of a time are a time");
        Self { taken_at: taken_at.replace_time(second), number }
    }

    /// When it was taken, to the second.
    pub fn taken_at(&self) -> SystemTime {
        OffsetDateTime::from(self.taken_at).into()
    }

    /// Which it is, of its data directory.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (date, time) = (self.taken_at.date(), self.taken_at.time());
        let (year, month, day) = date.to_calendar_date();
        let (hour, minute, second) = time.as_hms();
        let month = u8::from(month);
        write!(f, "{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z-{}", self.number)
    }
}

impl FromStr for SnapshotName {
    type Err = NotASnapshotName;

    fn from_str(text: &str) -> Result<Self, NotASnapshotName> {
        let name = parse(text).filter(|name| name.to_string() == text);
        name.ok_or_else(|| NotASnapshotName(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<SnapshotName> {
    let (date, rest) = text.split_once('T')?;
    let (time, number) = rest.split_once("Z-")?;
    let part = |text: &str, from: usize, to: usize| text.get(from..to)?.parse::<u8>().ok();
    let month = Month::try_from(part(date, 4, 6)?).ok()?;
    let date =
        Date::from_calendar_date(date.get(..4)?.parse().ok()?, month, part(date, 6, 8)?).ok()?;
    let time = Time::from_hms(part(time, 0, 2)?, part(time, 2, 4)?, part(time, 4, 6)?).ok()?;
    Some(SnapshotName { taken_at: UtcDateTime::new(date, time), number: number.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_name_says_when_and_which() {
        let taken_at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_256_130_900);
        let name = SnapshotName::new(taken_at, 42);
        assert_eq!(name.to_string(), "20261121T101530Z-42");
        assert_eq!(name.to_string().parse(), Ok(name));
        assert_eq!(name.taken_at(), taken_at - Duration::from_millis(900));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            "20261121T101530Z",
            "20261121T101530Z-",
            "20261121T101530Z-042",
            "20261321T101530Z-1",
            "20261121T106030Z-1",
            "é0261121T101530Z-1",
            "20261121T101530Z-1/..",
            ".unfinished-20261121T101530Z-1",
        ] {
            assert!(text.parse::<SnapshotName>().is_err(), "{text:?}");
        }
    }
}
