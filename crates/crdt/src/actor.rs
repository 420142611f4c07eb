//! Who writes.
//!
//! An actor is one opening of one store: 128 random bits minted when a store is
//! opened and first used by the first write after that opening. A later opening
//! of the same store, or of a copy of it, is another actor, so a cloned,
//! restored or rolled-back disk can never use a dot a second time.
//!
//! Pure: the random bits come from the caller.

use std::fmt;

/// The identity of one writer: one opening of a store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorId([u8; 16]);

impl ActorId {
    /// An actor from its 16 bytes. The caller draws them at random, once per
    /// opening of a store.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes of this actor, as they stand in frames and records.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Eight hex digits tell actors apart in a trace.
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_reads_as_its_bytes_and_short_in_traces() {
        let mut bytes = [0; 16];
        bytes[..5].copy_from_slice(&[0x00, 0x0a, 0xb0, 0xff, 0x31]);
        let actor = ActorId::from_bytes(bytes);
        assert_eq!(actor.to_string(), "000ab0ff310000000000000000000000");
        assert_eq!(format!("{actor:?}"), "000ab0ff");
    }
}
