//! A register whose readers get the last write.
//!
//! State: the versions that no write, removal or purge has seen, each with its
//! payload. A write replaces all it saw, whatever the clocks say; only among
//! concurrent ones does the greatest (stamp, actor) decide what readers get.
//! The losers stay hidden until a write that saw them.
//!
//! A TTL is an absolute deadline in the value. If the version that readers would
//! get is expired the register is absent: hidden losers do not come back.
//!
//! Sources: Shapiro, Preguiça, Baquero, Zawirski, INRIA RR-7506 (2011),
//! section 3.2 (LWW-Register, MV-Register); Almeida, Shoker,
//! Baquero, arXiv:1603.01529, section 7 (MVRegister over a dot function).

use crate::operation::{Applied, Outcome, Place, Step, Stop, Work};
use crate::{
    Entries, Entry, EntryDelta, ObjectDelta, Part, Refusal, RegisterWrite, Version, picked,
};

/// Writes a value, replacing all versions seen. Always takes a dot.
pub(crate) fn set<E: Entries + ?Sized>(
    place: Place<'_>,
    write: &RegisterWrite,
    work: &Work<'_, E>,
) -> Step<Applied, E> {
    if matches!(place, Place::Field { .. }) && write.ttl_ms.is_some() {
        return Err(Stop::Refused(Refusal::TtlInMap));
    }
    let (bytes, limit) = (write.bytes.len() as u64, work.context.value_bytes_limit);
    if bytes > limit {
        return Err(Stop::Refused(Refusal::ValueTooLarge { bytes, limit }));
    }
    let key = place.key(Part::Value);
    let removed = versions(work.entry(&key)?).iter().map(|version| version.dot).collect();
    let version = Version {
        dot: work.dot(),
        stamp: work.context.stamp,
        deadline_ms: write.ttl_ms.map(|ttl| work.context.now_ms.saturating_add(ttl)),
        content_type: write.content_type.clone(),
        bytes: write.bytes.clone(),
    };
    let mut delta = ObjectDelta::default();
    delta.entries.insert(key, EntryDelta::Versions { written: vec![version.clone()], removed });
    Ok(Applied { delta, outcome: Outcome::Register(version) })
}

/// Removes the register object; it has to be there for readers.
pub(crate) fn delete<E: Entries + ?Sized>(work: &Work<'_, E>) -> Step<Applied, E> {
    let key = Place::Object.key(Part::Value);
    let seen = versions(work.entry(&key)?);
    match picked(&seen) {
        Some(version) if !version.is_expired(work.context.now_ms) => {}
        _ => return Err(Stop::Refused(Refusal::Absent)),
    }
    Ok(Applied { delta: taking(key, &seen), outcome: Outcome::Deleted })
}

/// Removes the register object if what readers would get is expired.
pub(crate) fn purge<E: Entries + ?Sized>(work: &Work<'_, E>) -> Step<Applied, E> {
    let key = Place::Object.key(Part::Value);
    let seen = versions(work.entry(&key)?);
    match picked(&seen) {
        Some(version) if version.is_expired(work.context.now_ms) => {
            Ok(Applied { delta: taking(key, &seen), outcome: Outcome::Purged(true) })
        }
        _ => Ok(Applied::unchanged(Outcome::Purged(false))),
    }
}

fn versions(entry: Option<Entry>) -> Vec<Version> {
    match entry {
        Some(Entry::Versions(versions)) => versions,
        _ => Vec::new(),
    }
}

fn taking(key: crate::EntryKey, seen: &[Version]) -> ObjectDelta {
    let removed = seen.iter().map(|version| version.dot).collect();
    let mut delta = ObjectDelta::default();
    delta.entries.insert(key, EntryDelta::Versions { written: Vec::new(), removed });
    delta
}
