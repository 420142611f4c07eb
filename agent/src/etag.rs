//! The text of an object's etag: 32 hexadecimal digits in quotes.
//!
//! One place, because the header, the JSON and the preconditions that the writer
//! checks compare this text byte by byte.

use std::fmt;

/// An etag as it stands in headers and JSON, quotes included.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EtagText([u8; 34]);

impl EtagText {
    /// The text of `etag`.
    #[must_use]
    pub fn new(etag: u128) -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'"'; 34];
        for (at, byte) in etag.to_be_bytes().into_iter().enumerate() {
            text[1 + 2 * at] = HEX[usize::from(byte >> 4)];
            text[2 + 2 * at] = HEX[usize::from(byte & 0xf)];
        }
        Self(text)
    }

    /// The text with its quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // The bytes are ASCII by construction.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for EtagText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for EtagText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_32_digits_in_quotes() {
        assert_eq!(EtagText::new(0xab).as_str(), "\"000000000000000000000000000000ab\"");
        assert_eq!(EtagText::new(u128::MAX).as_str(), format!("\"{}\"", "f".repeat(32)));
    }
}
