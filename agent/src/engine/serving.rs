//! Serving repairs: parts of one snapshot of this store.

use std::sync::Arc;

use coppice_crdt::{Entry, EntryKey};
use coppice_replication::{LinkId, Message, Position, RANGES, RepairPart};

use super::effect::{Effect, Serve, ServingStep};
use super::{Engine, EngineError};
use crate::records::{GroupRecords, RecordError, Visited};
use crate::store::{Read, Reader, Store};

/// A part holds about so many bytes, or one entry.
const PART_BYTES: usize = 1 << 20;

impl<S: Store, T> Engine<S, T> {
    pub(super) fn serve(&mut self, step: ServingStep) -> Result<(), EngineError> {
        let ServingStep { slot, link, what } = step;
        let Some(group) = self.groups.get_mut(&slot) else { return Ok(()) };
        match what {
            Serve::Open => {
                // What a receiver joins must not be lost here: it could never
                // again say that it has seen all that its own writes build upon.
                self.store.sync()?;
                let snapshot = self.store.reader().snapshot()?;
                group.serving.insert(link, (snapshot, group.replica.contexts()));
            }
            Serve::Part { range, from } => {
                let Some((snapshot, contexts)) = group.serving.get(&link) else { return Ok(()) };
                let records = GroupRecords { store: snapshot, slot };
                let (vector, end) = contexts.at(range, from.as_ref());
                let (objects, stopped) = read_part(records, range, (from.as_ref(), end.as_ref()))?;
                let to = stopped.or(end);
                let last = to.is_none() && usize::from(range) + 1 == RANGES;
                let part = Message::RepairPart(RepairPart { vector, range, from, to, objects });
                let frame = group.replica.encode_for(link, &part);
                self.effects.push_front(Effect::Send(link, frame));
                if last {
                    group.replica.repair_served(link);
                    group.serving.remove(&link);
                }
            }
            Serve::Drop => {
                group.serving.remove(&link);
            }
        }
        Ok(())
    }

    /// Forgets the snapshot of a link that is gone.
    pub fn forget_serving(&mut self, link: LinkId) {
        for group in self.groups.values_mut() {
            group.serving.remove(&link);
        }
    }
}

type PartObjects = Vec<(Arc<str>, Vec<(EntryKey, Entry)>)>;

fn read_part<R: Read>(
    records: GroupRecords<'_, R>,
    range: u8,
    bounds: (Option<&Position>, Option<&Position>),
) -> Result<(PartObjects, Option<Position>), RecordError> {
    let mut objects: PartObjects = Vec::new();
    let mut bytes = 0;
    let stopped = records.walk(range, bounds, |visited| match visited {
        Visited::Object(..) => bytes < PART_BYTES,
        Visited::Entry(key, name, entry) => {
            if bytes >= PART_BYTES {
                return false;
            }
            bytes += key.len() + name.as_bytes().len() + weight(entry);
            match objects.last_mut() {
                Some((last, entries)) if last == key => {
                    entries.push((name.clone(), entry.clone()));
                }
                _ => objects.push((Arc::clone(key), vec![(name.clone(), entry.clone())])),
            }
            true
        }
    })?;
    Ok((objects, stopped))
}

fn weight(entry: &Entry) -> usize {
    match entry {
        Entry::Dots(dots) => 20 * dots.len(),
        Entry::Versions(versions) => {
            versions.iter().map(|version| version.bytes.len() + 64).sum::<usize>()
        }
        Entry::Cells(cells) => 24 * cells.len(),
    }
}
