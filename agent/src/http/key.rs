//! What a key may be.

use super::problem::{Answer, Problem};

/// The longest key, in bytes.
pub(crate) const MAX_BYTES: usize = 512;

/// Checks a decoded key, from a path or from JSON.
///
/// Segments `.` and `..` are refused because clients and proxies resolve them
/// before they send: such a key could be written and never be read.
pub(crate) fn check(key: &str) -> Answer<()> {
    if key.is_empty() {
        return Err(Problem::malformed("the key is empty: keys have 1 to 512 bytes"));
    }
    if key.len() > MAX_BYTES {
        return Err(Problem::malformed(format!(
            "the key has {} bytes: keys have 1 to {MAX_BYTES}",
            key.len()
        )));
    }
    if key.as_bytes().contains(&b'.') && key.split('/').any(|part| matches!(part, "." | "..")) {
        return Err(Problem::malformed(
            "the key has a segment \".\" or \"..\", which clients resolve before they send: use another name",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_short_and_have_no_dot_segments() {
        for key in ["a", "a.b", "...", "a/.b", "a//b", "/", "\0", &"a".repeat(512)] {
            assert!(check(key).is_ok(), "{key}");
        }
        for key in ["", ".", "..", "a/.", "../a", "a/../b", "a/./b", &"é".repeat(257)] {
            assert!(check(key).is_err(), "{key}");
        }
    }
}
