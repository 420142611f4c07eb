//! What is in the large set and in the large group, by number.

/// The set.
pub(super) const SET: &str = "/v1/groups/tags/objects/million";
/// The group of counters.
pub(super) const OBJECTS: &str = "/v1/groups/hits/objects";
/// Of so many, the first is removed, and the others stay.
pub(super) const REMOVED_OF: u64 = 10;

/// An element of the set; they sort as their numbers do.
pub(super) fn element(number: u64) -> String {
    format!("element-{number:08}")
}

/// The key of an object; they sort as their numbers do.
pub(super) fn object_key(number: u64) -> String {
    format!("object-{number:08}")
}

/// The path of an object.
pub(super) fn object(key: &str) -> String {
    format!("{OBJECTS}/{key}")
}

/// The path that asks whether `element` is in the set.
pub(super) fn member(element: &str) -> String {
    format!("{SET}?element=%22{element}%22")
}

/// This number, or the next if this one is removed; the last of all stays.
pub(super) fn stays(number: u64) -> u64 {
    if is_removed(number) { number + 1 } else { number }
}

/// Whether what has this number is removed.
pub(super) fn is_removed(number: u64) -> bool {
    number.is_multiple_of(REMOVED_OF)
}
