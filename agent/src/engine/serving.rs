//! Serving repairs: parts of one snapshot of this store.

use std::sync::Arc;

use coppice_crdt::{Entry, EntryKey};
use coppice_replication::{MAX_FRAME_BYTES, Message, Position, RepairPart};

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
                let part = Message::RepairPart(RepairPart { vector, range, from, to, objects });
                let mut frame = group.replica.encode_for(link, &part);
                if frame.len() > MAX_FRAME_BYTES {
                    // One entry: concurrent values of a register, more than fit.
                    frame = group.replica.encode_for(link, &Message::RepairRefused);
                }
                self.effects.push_front(Effect::Send(link, frame));
            }
            Serve::Drop => {
                group.serving.remove(&link);
            }
        }
        Ok(())
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
            let more = key.len() + name.as_bytes().len() + weight(entry);
            if bytes > 0 && bytes + more > PART_BYTES {
                return false;
            }
            bytes += more;
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

/// About how many bytes an entry takes, in a part and while it is judged.
pub(crate) fn weight(entry: &Entry) -> usize {
    match entry {
        Entry::Dots(dots) => 20 * dots.len(),
        Entry::Versions(versions) => {
            versions.iter().map(|version| version.bytes.len() + 64).sum::<usize>()
        }
        Entry::Cells(cells) => 24 * cells.len(),
    }
}
