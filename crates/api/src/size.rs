//! Sizes in bytes as people write them: `1Mi`, `64Mi`, `4096`.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const UNITS: [(&str, u64); 4] =
    [("Ti", 1 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];

/// A number of bytes, written plainly or with the units `Ki`, `Mi`, `Gi`, `Ti`.
///
/// ```
/// use coppice_api::ByteSize;
///
/// assert_eq!("64Mi".parse::<ByteSize>()?.get(), 64 * 1024 * 1024);
/// # Ok::<(), coppice_api::SizeError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

/// The text is no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no size: write a whole number of bytes, or one with Ki, Mi, Gi or Ti, as in 64Mi"
)]
pub struct SizeError {
    text: String,
}

impl ByteSize {
    /// `count` bytes.
    #[must_use]
    pub const fn bytes(count: u64) -> Self {
        Self(count)
    }

    /// `count` times 2^20 bytes.
    #[must_use]
    pub const fn mebibytes(count: u64) -> Self {
        Self(count << 20)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let scaled =
            UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
        let (number, factor) = scaled.unwrap_or((text, 1));
        let all_digits = number.bytes().all(|byte| byte.is_ascii_digit());
        let count = number.parse::<u64>().ok().filter(|_| all_digits);
        count
            .and_then(|count| count.checked_mul(factor))
            .map(Self)
            .ok_or_else(|| SizeError { text: text.to_owned() })
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS.iter().find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor));
        match whole {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

/// Takes a plain number as well as text: both are natural in a file.
struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = ByteSize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as 64Mi")
    }

    fn visit_u64<E: de::Error>(self, count: u64) -> Result<ByteSize, E> {
        Ok(ByteSize(count))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_survive_their_text() {
        for text in ["0", "1", "1000", "1Ki", "64Mi", "3Gi", "2Ti"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
        assert_eq!("1024".parse::<ByteSize>().unwrap().to_string(), "1Ki");
    }

    #[test]
    fn text_that_is_no_size_is_refused_with_an_example() {
        for text in ["", "Mi", "-1", "+1", "1.5Mi", "1 Mi", "1MB", "1mi", "99999999999Ti"] {
            let error = text.parse::<ByteSize>().unwrap_err().to_string();
            assert!(error.contains("as in 64Mi"), "{error}");
        }
    }
}
