//! One object held whole: its context and all of its entries.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use super::oracle::Value;
use crate::{
    CrdtType, Entries, Entry, EntryKey, EntryRange, EtagKey, FieldHeader, Header, ObjectDelta,
    VersionVector, query,
};

/// The key under which test objects stand, for etags.
pub const OBJECT_KEY: &str = "object";

const ETAG_KEY: EtagKey = EtagKey::new([7; 16]);

/// The whole state of one object at one replica. Equal states are equal values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    context: VersionVector,
    entries: BTreeMap<EntryKey, Entry>,
    header: Header,
    fields: BTreeMap<String, FieldHeader>,
}

impl Object {
    /// An object of which nothing was ever seen.
    #[must_use]
    pub fn new(crdt_type: CrdtType) -> Self {
        Self {
            context: VersionVector::new(),
            entries: BTreeMap::new(),
            header: Header::new(crdt_type),
            fields: BTreeMap::new(),
        }
    }

    /// What was seen of it.
    #[must_use]
    pub const fn context(&self) -> &VersionVector {
        &self.context
    }

    /// All of its entries.
    #[must_use]
    pub const fn entries(&self) -> &BTreeMap<EntryKey, Entry> {
        &self.entries
    }

    /// Applies what an operation, or a group of them, changed. `covers` is what
    /// has been seen afterwards.
    pub fn apply(&mut self, delta: &ObjectDelta, covers: &VersionVector) {
        for (key, change) in &delta.entries {
            let old = self.entries.get(key).cloned();
            let new = change.apply(key.owner(), old, &self.context);
            self.put(key, new);
        }
        for removal in &delta.removals {
            let taken = self.entries.clone();
            for (key, entry) in taken {
                let left = removal.survivors(&key, entry);
                self.put(&key, left);
            }
        }
        self.context.join(covers);
    }

    /// Joins the whole state of another replica.
    pub fn join(&mut self, other: &Self) {
        let keys: BTreeSet<&EntryKey> = self.entries.keys().chain(other.entries.keys()).collect();
        for key in keys.into_iter().cloned().collect::<Vec<_>>() {
            let joined = Entry::join(
                key.owner(),
                (self.entries.get(&key), &self.context),
                (other.entries.get(&key), &other.context),
            );
            self.put(&key, joined);
        }
        self.context.join(&other.context);
    }

    /// The header, worked out anew from all entries.
    #[must_use]
    pub fn recounted(&self) -> Self {
        let mut recounted = Self::new(self.header.crdt_type);
        for (key, entry) in &self.entries {
            recounted.put(key, Some(entry.clone()));
        }
        recounted.context = self.context.clone();
        recounted
    }

    fn put(&mut self, key: &EntryKey, new: Option<Entry>) {
        let old = self.entries.remove(key);
        let name = key.field().map(|field| field.name.into_owned());
        let mut field = name.as_ref().map(|name| self.fields.remove(name).unwrap_or_default());
        self.header.update(
            ETAG_KEY,
            (OBJECT_KEY, key),
            field.as_mut(),
            (old.as_ref(), new.as_ref()),
        );
        if let Some((name, header)) = name.zip(field).filter(|(_, header)| header.exists()) {
            self.fields.insert(name, header);
        }
        if let Some(new) = new {
            self.entries.insert(key.clone(), new);
        }
    }
}

impl Entries for Object {
    type Error = Infallible;

    fn header(&self) -> Result<Option<Header>, Infallible> {
        Ok((!self.entries.is_empty()).then_some(self.header))
    }

    fn field(&self, name: &str) -> Result<FieldHeader, Infallible> {
        Ok(self.fields.get(name).cloned().unwrap_or_default())
    }

    fn entry(&self, key: &EntryKey) -> Result<Option<Entry>, Infallible> {
        Ok(self.entries.get(key).cloned())
    }

    fn scan(
        &self,
        range: &EntryRange,
        after: Option<&EntryKey>,
        limit: usize,
    ) -> Result<Vec<(EntryKey, Entry)>, Infallible> {
        let found = self
            .entries
            .iter()
            .filter(|(key, _)| range.contains(key.as_bytes()))
            .filter(|(key, _)| after.is_none_or(|after| *key > after));
        Ok(found.take(limit).map(|(key, entry)| (key.clone(), entry.clone())).collect())
    }
}

/// What readers see of the object at `now_ms`, read by `query` alone.
#[must_use]
pub fn value_of(object: &Object, now_ms: u64) -> Value {
    let Ok(exists) = query::exists(object, now_ms);
    if !exists {
        return Value::Absent;
    }
    let texts = |elements: Vec<crate::Element>| {
        elements.iter().map(|element| element.as_str().to_owned()).collect()
    };
    let value = match object.header.crdt_type {
        CrdtType::GCounter | CrdtType::PNCounter => {
            let Ok(value) = query::counter(object);
            value.map(Value::Counter)
        }
        CrdtType::EWFlag => {
            let Ok(value) = query::flag(object);
            value.map(Value::Flag)
        }
        CrdtType::LWWRegister => {
            let Ok(version) = query::register(object, now_ms);
            version.map(|version| Value::Register(version.bytes.into()))
        }
        CrdtType::GSet | CrdtType::ORSet => {
            let Ok(page) = query::elements(object, None, usize::MAX);
            page.map(|page| Value::Set(texts(page.items)))
        }
        CrdtType::ORMap => {
            let Ok(page) = query::fields(object, None, usize::MAX);
            page.map(|page| {
                let fields = page.items.into_iter().map(|field| {
                    let value = match field.value {
                        query::FieldValue::Counter(value) => Value::Counter(value),
                        query::FieldValue::Flag(value) => Value::Flag(value),
                        query::FieldValue::Register(version) => {
                            Value::Register(version.bytes.into())
                        }
                        query::FieldValue::Set { elements, .. } => Value::Set(texts(elements)),
                    };
                    (field.name.into(), (field.crdt_type, value, field.conflicts))
                });
                Value::Map(fields.collect())
            })
        }
    };
    value.unwrap_or(Value::Absent)
}
