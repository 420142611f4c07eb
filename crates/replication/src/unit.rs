//! What is applied whole or not at all: some writes and what they changed.
//!
//! A local batch makes a unit of consecutive dots. A frame joins many units into
//! one; it is applied in one commit and stays one unit at the receiver.

use std::collections::BTreeMap;
use std::sync::Arc;

use coppice_crdt::{
    ActorId, CrdtType, Dot, EntryDelta, EntryKey, ObjectDelta, Part, RangeRemoval, Reach,
    VersionVector,
};

/// An object's key: 1 to 512 bytes of UTF-8.
pub type ObjectKey = Arc<str>;

/// The longest object key, in bytes.
pub const MAX_KEY_BYTES: usize = 512;

/// The largest encoded unit, in bytes: a constant of the protocol, no setting.
pub const MAX_UNIT_BYTES: usize = 16 << 20;

/// A run of dots of one actor: `after < n <= upto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cover {
    /// Whose writes.
    pub actor: ActorId,
    /// The last write before the run.
    pub after: u64,
    /// The last write of the run.
    pub upto: u64,
}

/// Some writes and what they changed, joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// Which writes these are, one run per actor, ascending by actor.
    pub covers: Vec<Cover>,
    /// What they changed, by object.
    pub objects: BTreeMap<ObjectKey, ObjectDelta>,
}

/// A unit says something that no correct replica says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the unit is damaged: {0}")]
pub struct DamagedUnit(pub &'static str);

impl Unit {
    /// Whether `vector` covers every write of this unit.
    #[must_use]
    pub fn is_covered_by(&self, vector: &VersionVector) -> bool {
        self.covers.iter().all(|cover| cover.upto <= vector.get(&cover.actor))
    }

    /// Raises `vector` to what it is once this unit is applied.
    pub fn raise(&self, vector: &mut VersionVector) {
        for cover in &self.covers {
            vector.raise(cover.actor, cover.upto);
        }
    }

    /// The last of its writes that `actor` issued.
    #[must_use]
    pub fn issued_by(&self, actor: ActorId) -> Option<u64> {
        self.covers.iter().find(|cover| cover.actor == actor).map(|cover| cover.upto)
    }

    /// How many writes this unit holds.
    #[must_use]
    pub fn writes(&self) -> u64 {
        let runs = self.covers.iter().map(|cover| cover.upto.saturating_sub(cover.after));
        runs.fold(0, u64::saturating_add)
    }

    /// Whether the runs of this unit and those of another touch or overlap, so that
    /// no write is missing between them.
    #[must_use]
    pub fn reaches(&self, other: &Self) -> bool {
        other.covers.iter().all(|cover| {
            let at = self.covers.binary_search_by_key(&cover.actor, |known| known.actor);
            at.map_or(true, |at| {
                let known = self.covers[at];
                cover.after <= known.upto && known.after <= cover.upto
            })
        })
    }

    /// Joins a later unit of the same log into this one, which reaches it: the
    /// coalescing of a frame. A run that continues one of this unit's extends it.
    pub fn join(&mut self, later: Self) {
        for cover in later.covers {
            match self.covers.iter_mut().find(|known| known.actor == cover.actor) {
                Some(known) => {
                    known.after = known.after.min(cover.after);
                    known.upto = known.upto.max(cover.upto);
                }
                None => self.covers.push(cover),
            }
        }
        self.covers.sort_by_key(|cover| cover.actor);
        for (key, delta) in later.objects {
            self.objects.entry(key).or_default().join(delta);
        }
    }

    /// Checks what a peer sent: that runs are runs, keys are keys, that each
    /// change has the shape that its entry has in a group of `crdt_type`, and that
    /// what it adds was added by one of its writes.
    ///
    /// # Errors
    ///
    /// [`DamagedUnit`] with what is wrong; nothing of the unit may be applied.
    pub fn check(&self, crdt_type: CrdtType) -> Result<(), DamagedUnit> {
        if !self.covers.is_sorted_by(|a, b| a.actor < b.actor) {
            return Err(DamagedUnit("its runs are not in order"));
        }
        if self.covers.iter().any(|cover| cover.upto <= cover.after) {
            return Err(DamagedUnit("a run of writes is empty"));
        }
        for (key, delta) in &self.objects {
            if key.is_empty() || key.len() > MAX_KEY_BYTES {
                return Err(DamagedUnit("a key is not 1 to 512 bytes long"));
            }
            if !delta.entries.iter().all(|(name, change)| fits(crdt_type, name, change)) {
                return Err(DamagedUnit("a change does not fit the group's type"));
            }
            let known = |removal: &RangeRemoval| Reach::of(&removal.range, crdt_type).is_some();
            if !delta.removals.iter().all(known) {
                return Err(DamagedUnit("a large removal has a range that none has"));
            }
            if !delta.entries.iter().all(|(name, change)| self.wrote(name, change)) {
                return Err(DamagedUnit("a change is none of its writes"));
            }
        }
        Ok(())
    }

    /// Whether everything that `change` adds stands under a write of this unit.
    /// Otherwise the state would hold what no vector here covers.
    fn wrote(&self, name: &EntryKey, change: &EntryDelta) -> bool {
        let within = |dot: &Dot| {
            let at = self.covers.binary_search_by_key(&dot.actor, |cover| cover.actor);
            at.is_ok_and(|at| self.covers[at].after < dot.n && dot.n <= self.covers[at].upto)
        };
        match change {
            EntryDelta::Dots { added, .. } => added.iter().all(within),
            EntryDelta::Versions { written, .. } => {
                written.iter().all(|version| within(&version.dot))
            }
            EntryDelta::Cells { raised, .. } => name.owner().is_some_and(|owner| {
                raised.iter().all(|raise| within(&Dot::new(owner, raise.last)))
            }),
        }
    }

    /// Whether all that its large removals saw is covered by `vector`.
    pub(crate) fn removals_are_covered_by(&self, vector: &VersionVector) -> bool {
        let removals = self.objects.values().flat_map(|delta| &delta.removals);
        removals.into_iter().all(|removal| removal.context.is_covered_by(vector))
    }
}

/// Whether an entry can be named `name` in an object of `crdt_type`.
#[must_use]
pub fn name_fits(crdt_type: CrdtType, name: &EntryKey) -> bool {
    let inner = match (crdt_type, name.field()) {
        (CrdtType::ORMap, None) => return name.part() == Part::Existence,
        (CrdtType::ORMap, Some(field)) if field.crdt_type == CrdtType::ORMap => return false,
        (CrdtType::ORMap, Some(field)) => field.crdt_type,
        (_, Some(_)) => return false,
        (own, None) => own,
    };
    match name.part() {
        Part::Existence => inner != CrdtType::LWWRegister,
        Part::Value => inner == CrdtType::LWWRegister,
        Part::Enabled => inner == CrdtType::EWFlag,
        Part::Cell(_) => inner.is_counter(),
        Part::Element(_) => inner.is_set(),
    }
}

fn fits(crdt_type: CrdtType, name: &EntryKey, change: &EntryDelta) -> bool {
    let shape_fits = matches!(
        (name.part(), change),
        (Part::Existence | Part::Enabled | Part::Element(_), EntryDelta::Dots { .. })
            | (Part::Value, EntryDelta::Versions { .. })
            | (Part::Cell(_), EntryDelta::Cells { .. })
    );
    shape_fits && name_fits(crdt_type, name)
}
