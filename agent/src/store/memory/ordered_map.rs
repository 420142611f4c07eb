//! An ordered map of byte strings whose clones share what neither has changed.
//!
//! Sorted chunks of at most [`CHUNK`] items under one list. A clone copies one
//! pointer; the first write after it copies the list of chunks and the chunk
//! it touches, and later ones only chunks not touched yet. Without a clone in
//! the way every write is in place.
//!
//! Invariant: chunks are never empty, and their items rise over all chunks.

use std::sync::Arc;

use bytes::Bytes;

use crate::store::{Item, KeyRange};

/// Items in a chunk before it is split: small enough to copy, large enough to
/// keep the list of chunks short.
const CHUNK: usize = 64;

#[derive(Clone, Debug, Default)]
pub(super) struct OrderedMap {
    chunks: Arc<Vec<Arc<Vec<Item>>>>,
    /// Of all keys and values.
    bytes: usize,
}

/// A place between items: before the item `item` of the chunk `chunk`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    chunk: usize,
    item: usize,
}

// === impl OrderedMap ===

impl OrderedMap {
    pub(super) fn get(&self, key: &[u8]) -> Option<&Bytes> {
        self.at(self.lower_bound(key)).filter(|(found, _)| found == key).map(|(_, value)| value)
    }

    /// Bytes of all keys and values.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Before the first item whose key is at or after `key`.
    pub(super) fn lower_bound(&self, key: &[u8]) -> Position {
        let chunk =
            self.chunks.partition_point(|chunk| chunk.last().is_some_and(|(last, _)| last < key));
        let item = self
            .chunks
            .get(chunk)
            .map_or(0, |chunk| chunk.partition_point(|(found, _)| found < key));
        Position { chunk, item }
    }

    /// The item after `position`.
    pub(super) fn at(&self, position: Position) -> Option<&Item> {
        self.chunks.get(position.chunk)?.get(position.item)
    }

    /// The position after the item that follows `position`.
    pub(super) fn after(&self, position: Position) -> Position {
        let Position { chunk, item } = position;
        match self.chunks.get(chunk) {
            Some(items) if item + 1 < items.len() => Position { chunk, item: item + 1 },
            Some(_) => Position { chunk: chunk + 1, item: 0 },
            None => position,
        }
    }

    /// The item before `position`.
    pub(super) fn before(&self, position: Position) -> Option<&Item> {
        match position {
            Position { chunk: 0, item: 0 } => None,
            Position { chunk, item: 0 } => self.chunks.get(chunk - 1)?.last(),
            Position { chunk, item } => self.chunks.get(chunk)?.get(item - 1),
        }
    }

    /// Where `range` ends.
    pub(super) fn end_of(&self, range: KeyRange<'_>) -> Position {
        match range.to {
            Some(to) => self.lower_bound(to),
            None => Position { chunk: self.chunks.len(), item: 0 },
        }
    }

    pub(super) fn insert(&mut self, key: Bytes, value: Bytes) {
        let Position { chunk, item } = self.lower_bound(&key);
        // A key after all others goes to the end of the last chunk.
        let (chunk, item) = match self.chunks.len().checked_sub(1) {
            Some(last) if chunk > last => (last, self.chunks[last].len()),
            _ => (chunk, item),
        };
        self.bytes += value.len();
        let chunks = Arc::make_mut(&mut self.chunks);
        if chunks.is_empty() {
            self.bytes += key.len();
            chunks.push(Arc::new(vec![(key, value)]));
            return;
        }
        let items = Arc::make_mut(&mut chunks[chunk]);
        match items.get_mut(item) {
            Some((found, old)) if *found == key => {
                self.bytes -= old.len();
                *old = value;
            }
            _ => {
                self.bytes += key.len();
                items.insert(item, (key, value));
            }
        }
        if items.len() > CHUNK {
            let upper = items.split_off(CHUNK / 2);
            chunks.insert(chunk + 1, Arc::new(upper));
        }
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        let position = self.lower_bound(key);
        let Some((_, value)) = self.at(position).filter(|(found, _)| found == key) else { return };
        self.bytes -= key.len() + value.len();
        let chunks = Arc::make_mut(&mut self.chunks);
        let items = Arc::make_mut(&mut chunks[position.chunk]);
        items.remove(position.item);
        if items.is_empty() {
            chunks.remove(position.chunk);
        }
    }

    /// Takes away every key from `from` to before `to`.
    pub(super) fn remove_range(&mut self, from: &[u8], to: &[u8]) {
        let (start, end) = (self.lower_bound(from), self.lower_bound(to));
        if start >= end {
            return;
        }
        let mut freed = 0;
        let chunks = Arc::make_mut(&mut self.chunks);
        let last = end.chunk.min(chunks.len() - 1);
        for (index, chunk) in chunks.iter_mut().enumerate().take(last + 1).skip(start.chunk) {
            let from = if index == start.chunk { start.item } else { 0 };
            let to = if index == end.chunk { end.item } else { chunk.len() };
            let gone = Arc::make_mut(chunk).drain(from..to);
            freed += gone.map(|(key, value)| key.len() + value.len()).sum::<usize>();
        }
        chunks.retain(|chunk| !chunk.is_empty());
        self.bytes -= freed;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u16, u8),
        Remove(u16),
        RemoveRange(u16, u16),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (0..600_u16, any::<u8>()).prop_map(|(key, value)| Step::Insert(key, value)),
            3 => (0..600_u16).prop_map(Step::Remove),
            1 => (0..600_u16, 0..80_u16).prop_map(|(from, n)| Step::RemoveRange(from, from + n)),
        ];
        prop::collection::vec(step, 0..600)
    }

    fn items(map: &OrderedMap) -> Vec<Item> {
        let mut items = Vec::new();
        let mut position = map.lower_bound(&[]);
        while let Some(item) = map.at(position) {
            items.push(item.clone());
            position = map.after(position);
        }
        items
    }

    fn apply(map: &mut OrderedMap, model: &mut BTreeMap<Vec<u8>, Vec<u8>>, step: &Step) {
        match *step {
            Step::Insert(key, value) => {
                let value = vec![value; usize::from(value % 5)];
                map.insert(Bytes::copy_from_slice(&key.to_be_bytes()), value.clone().into());
                model.insert(key.to_be_bytes().to_vec(), value);
            }
            Step::Remove(key) => {
                map.remove(&key.to_be_bytes());
                model.remove(key.to_be_bytes().as_slice());
            }
            Step::RemoveRange(from, to) => {
                let (from, to) = (from.to_be_bytes(), to.to_be_bytes());
                map.remove_range(&from, &to);
                model.retain(|key, _| {
                    key.as_slice() < from.as_slice() || key.as_slice() >= to.as_slice()
                });
            }
        }
    }

    proptest! {
        #[test]
        fn behaves_as_a_tree_and_its_clones_do_not_change(steps in steps()) {
            let (mut map, mut model) = (OrderedMap::default(), BTreeMap::new());
            let mut kept = Vec::new();
            for (index, step) in steps.iter().enumerate() {
                if index % 100 == 0 {
                    kept.push((map.clone(), items(&map)));
                }
                apply(&mut map, &mut model, step);
            }
            let expected: Vec<Item> =
                model.iter().map(|(k, v)| (k.clone().into(), v.clone().into())).collect();
            prop_assert_eq!(map.bytes(), expected.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>());
            prop_assert_eq!(items(&map), expected);
            for (clone, was) in kept {
                prop_assert_eq!(items(&clone), was);
            }
        }
    }
}
