//! Durations as people write them: `5s`, `100ms`, `1h30m`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Units from the largest to the smallest, in milliseconds.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A duration in whole milliseconds, written with the units `h`, `m`, `s` and `ms`.
///
/// ```
/// use coppice_api::TextDuration;
///
/// let interval: TextDuration = "1h30m".parse()?;
/// assert_eq!(interval.get().as_secs(), 5400);
/// assert_eq!(interval.to_string(), "1h30m");
/// # Ok::<(), coppice_api::DurationError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TextDuration(Duration);

/// The text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no duration: write whole numbers with h, m, s or ms, as in 5s, 100ms or 1h30m"
)]
pub struct DurationError {
    text: String,
}

impl TextDuration {
    /// A duration of `ms` milliseconds.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    /// A duration of `seconds` seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The duration.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

/// Milliseconds of `text`; each unit at most once, the larger first.
fn parse_millis(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0_u64;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, behind) = tail.split_at(unit_end);
        let (_, factor) = units.find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*factor)?)?;
        rest = behind;
    }
    (!text.is_empty()).then_some(total)
}

impl FromStr for TextDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        parse_millis(text)
            .map(Self::from_millis)
            .ok_or_else(|| DurationError { text: text.to_owned() })
    }
}

impl TryFrom<String> for TextDuration {
    type Error = DurationError;

    fn try_from(text: String) -> Result<Self, DurationError> {
        text.parse()
    }
}

impl From<TextDuration> for String {
    fn from(duration: TextDuration) -> Self {
        duration.to_string()
    }
}

impl fmt::Display for TextDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if left == 0 {
            return f.write_str("0s");
        }
        for (unit, factor) in UNITS {
            if left >= factor {
                write!(f, "{}{unit}", left / factor)?;
                left %= factor;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_survive_their_text() {
        for text in ["100ms", "5s", "1m", "1h", "1h30m", "24h", "1s500ms", "0s"] {
            assert_eq!(text.parse::<TextDuration>().unwrap().to_string(), text);
        }
        assert_eq!("90s".parse::<TextDuration>().unwrap().to_string(), "1m30s");
    }

    #[test]
    fn text_that_is_no_duration_is_refused_with_an_example() {
        for text in
            ["", "5", "s", "5 s", "-5s", "1.5s", "5sec", "5s5s", "5s1h", "99999999999999999h"]
        {
            let error = text.parse::<TextDuration>().unwrap_err().to_string();
            assert!(error.contains("as in 5s, 100ms"), "{error}");
        }
    }
}
