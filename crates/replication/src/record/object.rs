//! The records that an object's state is kept in.

use coppice_crdt::{Entry, EntryKey, FieldHeader, Header, RangeRemoval, Summary, TypeSummary};

use super::{opened, sealed, take_type};
use crate::codec::{DecodeError, Decoder, Encoder};
use crate::state_codec::{
    put_entry, put_entry_key, put_removal, take_entry, take_entry_key, take_removal,
};

/// An object's header record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRecord {
    /// The derived figures.
    pub header: Header,
    /// All entries, ascending by name, while they fit; `None`: they stand apart.
    pub inline: Option<Vec<(EntryKey, Entry)>>,
    /// Large removals whose entries are hidden and not deleted yet.
    pub hidden: Vec<RangeRemoval>,
    /// How often all fields were removed as a whole: records of fields of an
    /// earlier generation count as absent.
    pub generation: u64,
}

/// A map field's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRecord {
    /// The object's generation when it was written.
    pub generation: u64,
    /// The field's summaries.
    pub header: FieldHeader,
}

impl ObjectRecord {
    /// The record's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let inline = self.inline.as_ref().map(|entries| {
            let entries = entries.iter();
            (entries.len(), entries.map(|(name, entry)| (name, entry)))
        });
        encode_object(&self.header, (&self.hidden, self.generation), inline)
    }

    /// Reads the record's bytes.
    ///
    /// # Errors
    ///
    /// If they are damaged or of a newer version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut body = opened(bytes)?;
        let crdt_type = take_type(&mut body)?;
        let summary = take_summary(&mut body)?;
        let (fields, dead) = (body.varint()?, body.varint()?);
        let header = Header { crdt_type, summary, fields, dead, etag: body.fixed128()? };
        let generation = body.varint()?;
        let hidden = body.list("hidden ranges", 3, take_removal)?;
        let inline = if body.truth()? {
            Some(body.list("entries", 3, |body| Ok((take_entry_key(body)?, take_entry(body)?)))?)
        } else {
            None
        };
        body.end()?;
        Ok(Self { header, inline, hidden, generation })
    }
}

impl FieldRecord {
    /// The summaries, unless the object is of a later generation.
    #[must_use]
    pub fn of_generation(self, generation: u64) -> Option<FieldHeader> {
        (self.generation >= generation).then_some(self.header)
    }

    /// The record's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.varint(self.generation);
        out.count(self.header.types.len());
        for of in &self.header.types {
            out.byte(of.crdt_type.byte());
            put_summary(&mut out, &of.summary);
            out.fixed128(of.etag);
        }
        sealed(out)
    }

    /// Reads the record's bytes.
    ///
    /// # Errors
    ///
    /// If the bytes are damaged or of a newer version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut body = opened(bytes)?;
        let generation = body.varint()?;
        let types = body.list("types", 20, |body| {
            let (crdt_type, summary) = (take_type(body)?, take_summary(body)?);
            Ok(TypeSummary { crdt_type, summary, etag: body.fixed128()? })
        })?;
        body.end()?;
        Ok(Self { generation, header: FieldHeader { types } })
    }
}

/// The bytes of an object's header record, its parts taken where they stand;
/// `inline`: how many entries, and each.
pub(crate) fn encode_object<'a>(
    header: &Header,
    (hidden, generation): (&[RangeRemoval], u64),
    inline: Option<(usize, impl Iterator<Item = (&'a EntryKey, &'a Entry)>)>,
) -> Vec<u8> {
    let mut out = Encoder::new();
    out.byte(header.crdt_type.byte());
    put_summary(&mut out, &header.summary);
    out.varint(header.fields);
    out.varint(header.dead);
    out.fixed128(header.etag);
    out.varint(generation);
    out.count(hidden.len());
    for removal in hidden {
        put_removal(&mut out, removal);
    }
    match inline {
        Some((count, entries)) => {
            out.byte(1);
            out.count(count);
            for (name, entry) in entries {
                put_entry_key(&mut out, name);
                put_entry(&mut out, entry);
            }
        }
        None => out.byte(0),
    }
    sealed(out)
}

/// The bytes of a record that holds one entry.
#[must_use]
pub fn encode_entry(entry: &Entry) -> Vec<u8> {
    let mut out = Encoder::new();
    put_entry(&mut out, entry);
    sealed(out)
}

/// Reads a record that holds one entry.
///
/// # Errors
///
/// If the bytes are damaged or of a newer version.
pub fn decode_entry(bytes: &[u8]) -> Result<Entry, DecodeError> {
    let mut body = opened(bytes)?;
    let entry = take_entry(&mut body)?;
    body.end()?;
    Ok(entry)
}

fn put_summary(out: &mut Encoder, summary: &Summary) {
    out.byte(u8::from(summary.existence));
    out.varint(summary.entries);
    out.signed(summary.sum);
}

fn take_summary(body: &mut Decoder<'_>) -> Result<Summary, DecodeError> {
    let existence = body.truth()?;
    Ok(Summary { existence, entries: body.varint()?, sum: body.signed()? })
}
