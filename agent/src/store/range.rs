//! Ranges of keys, and pages of what is in them.

use bytes::Bytes;

/// A key and its value.
pub type Item = (Bytes, Bytes);

/// Keys from `from`, inclusive, to `to`, exclusive; without `to`, to the end
/// of the table. A range that ends before it starts is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRange<'a> {
    /// The first key that may be in the range.
    pub from: &'a [u8],
    /// The first key after the range.
    pub to: Option<&'a [u8]>,
}

/// How much a page may hold. It always holds one item if there is one, so
/// that a reader gets on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Items at most; 0 counts as 1.
    pub items: usize,
    /// Bytes of keys and values at most; only a first item may be larger.
    pub bytes: usize,
}

/// A part of a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Keys and values, in the order of keys.
    pub items: Vec<Item>,
    /// The first key left out, from which the next page starts; `None` at the
    /// end of the range.
    pub next: Option<Bytes>,
}

/// The first key after all keys that start with `prefix`: the `to` of their
/// range. `None` if there is none (`prefix` is empty or all `0xff`).
pub fn end_of_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

// === impl KeyRange ===

impl<'a> KeyRange<'a> {
    /// The whole table.
    pub const ALL: KeyRange<'static> = KeyRange { from: &[], to: None };

    /// From `from` to before `to`.
    pub const fn new(from: &'a [u8], to: &'a [u8]) -> Self {
        Self { from, to: Some(to) }
    }

    /// Everything from `from` on.
    pub const fn starting_at(from: &'a [u8]) -> Self {
        Self { from, to: None }
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.from <= key && self.to.is_none_or(|to| key < to)
    }

    /// Whether no key can lie in the range.
    pub fn is_empty(&self) -> bool {
        self.to.is_some_and(|to| to <= self.from)
    }
}

// === impl Limit ===

impl Limit {
    /// No limit: for ranges whose size the caller knows.
    pub const NONE: Self = Self { items: usize::MAX, bytes: usize::MAX };

    /// At most `items` items, however large.
    pub const fn items(items: usize) -> Self {
        Self { items, bytes: usize::MAX }
    }
}

// === impl Page ===

impl Page {
    /// Adds the item unless `limit` is reached: then it becomes `next`, and
    /// the page is full (`false`). `bytes` counts what is in the page.
    pub(super) fn offer(
        &mut self,
        key: &[u8],
        value: impl FnOnce() -> Bytes,
        limit: Limit,
        bytes: &mut usize,
    ) -> bool {
        let fits_items = self.items.len() < limit.items.max(1);
        let value = if fits_items { value() } else { Bytes::new() };
        let after = bytes.saturating_add(key.len()).saturating_add(value.len());
        if !self.items.is_empty() && (!fits_items || after > limit.bytes) {
            self.next = Some(Bytes::copy_from_slice(key));
            return false;
        }
        *bytes = after;
        self.items.push((Bytes::copy_from_slice(key), value));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_the_first_key_without_it() {
        assert_eq!(end_of_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(end_of_prefix(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(end_of_prefix(b"\xff\xff"), None, "every later key starts with it too");
        assert_eq!(end_of_prefix(b""), None, "every key starts with nothing");
    }

    #[test]
    fn a_reversed_range_is_empty() {
        let range = KeyRange::new(b"b", b"a");
        assert!(range.is_empty());
        assert!(!range.contains(b"a") && !range.contains(b"b"));
    }
}
