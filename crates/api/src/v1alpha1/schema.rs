//! The schema of single fields: shape and bounds.
//!
//! Bounds are those of [`crate::agent_config::bounds`], so that what the API server
//! lets through is what agents accept. A pattern says to tools what the rule beside
//! it says to people, with what to write instead.

use coppice_crdt::CrdtType;
use schemars::{Schema, SchemaGenerator, json_schema};

use super::{VolumeKind, rules};
use crate::agent_config::bounds;
use crate::{ByteSize, Durability, LogLevel, TextDuration};

/// The longest text of a duration or size that makes sense.
const MAX_TEXT: u32 = 48;
/// A label's value.
const LABEL_VALUE: &str = "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$";

/// Signature of what `schema_with` takes.
type Generator<'a> = &'a mut SchemaGenerator;

// === Durations and sizes

fn duration((least, most): (TextDuration, TextDuration)) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 2,
        "maxLength": MAX_TEXT,
        "pattern": rules::DURATION,
        "x-kubernetes-validations": rules::duration_between(&least.to_string(), &most.to_string()),
    })
}

fn size((least, most): (ByteSize, ByteSize)) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "maxLength": MAX_TEXT,
        "pattern": rules::SIZE,
        "x-kubernetes-validations": rules::size_between(&least.to_string(), &most.to_string()),
    })
}

fn number((least, most): (u64, u64)) -> Schema {
    json_schema!({ "type": "integer", "format": "int64", "minimum": least, "maximum": most })
}

pub(crate) fn sync_interval(_: Generator) -> Schema {
    duration(bounds::SYNC_INTERVAL)
}

pub(crate) fn snapshot_interval(_: Generator) -> Schema {
    duration(bounds::SNAPSHOT_INTERVAL)
}

pub(crate) fn snapshot_retain(_: Generator) -> Schema {
    number(bounds::SNAPSHOT_RETAIN)
}

pub(crate) fn fsync_interval(_: Generator) -> Schema {
    duration(bounds::FSYNC_INTERVAL)
}

pub(crate) fn entries(_: Generator) -> Schema {
    number(bounds::ENTRIES)
}

pub(crate) fn value_bytes(_: Generator) -> Schema {
    size(bounds::VALUE_BYTES)
}

pub(crate) fn log_bytes(_: Generator) -> Schema {
    size(bounds::LOG_BYTES)
}

pub(crate) fn log_age(_: Generator) -> Schema {
    duration(bounds::LOG_AGE)
}

pub(super) fn volume_size(_: Generator) -> Schema {
    size(bounds::VOLUME_SIZE)
}

// === Words

fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> Schema {
    let words: Vec<_> = words.into_iter().collect();
    json_schema!({ "type": "string", "enum": words })
}

pub(crate) fn crdt_type(_: Generator) -> Schema {
    let mut schema = one_of(CrdtType::ALL.iter().map(|crdt_type| crdt_type.name()));
    schema.insert("x-kubernetes-validations".to_owned(), rules::type_stays());
    schema
}

pub(super) fn volume_kind(_: Generator) -> Schema {
    let mut schema = one_of(VolumeKind::ALL.iter().map(|kind| kind.name()));
    schema.insert("x-kubernetes-validations".to_owned(), rules::volume_stays());
    schema
}

pub(super) fn durability(_: Generator) -> Schema {
    one_of(Durability::ALL.iter().map(|durability| durability.name()))
}

pub(super) fn log_level(_: Generator) -> Schema {
    one_of(LogLevel::NAMES.iter().map(|(name, _)| *name))
}

// === Text

pub(super) fn id(_: Generator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 36,
        "pattern": rules::UUID,
        "x-kubernetes-validations": rules::id(),
    })
}

/// That a label's key is one is a rule: a schema has no pattern for keys.
pub(super) fn match_labels(_: Generator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": { "type": "string", "maxLength": 63, "pattern": LABEL_VALUE },
        "minProperties": 1,
        "maxProperties": 16,
        "x-kubernetes-validations": rules::match_labels(),
    })
}

pub(super) fn storage_class_name(_: Generator) -> Schema {
    let pattern = "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$";
    json_schema!({ "type": "string", "maxLength": 253, "pattern": pattern })
}

pub(super) fn volume_name(_: Generator) -> Schema {
    let pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
    json_schema!({ "type": "string", "maxLength": 63, "pattern": pattern })
}

pub(super) fn image(_: Generator) -> Schema {
    json_schema!({ "type": "string", "maxLength": 512, "pattern": r"^[^\s]+$" })
}

/// Requests and limits. Claims of devices are left out: an agent has no use for them.
pub(super) fn resources(_: Generator) -> Schema {
    let quantities = |description: &str| {
        json_schema!({
            "description": description,
            "type": "object",
            "maxProperties": 16,
            "additionalProperties": {
                "x-kubernetes-int-or-string": true,
                "maxLength": MAX_TEXT,
                "pattern": rules::AMOUNT,
            },
            "x-kubernetes-validations": rules::amounts(),
        })
    };
    json_schema!({
        "type": "object",
        "properties": {
            "requests": quantities("What the scheduler keeps for it."),
            "limits": quantities("What it may use at most."),
        },
        "x-kubernetes-validations": rules::resources(),
    })
}
