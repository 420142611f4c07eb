//! Why an operation that was understood is not carried out.

use crate::CrdtType;

/// Why an operation was refused. Nothing was changed, and no dot was taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such object, and the operation would not create one.
    #[error("the object does not exist: nothing to remove")]
    Absent,
    /// There is no such field in the map, and the operation would not create one.
    #[error("the field {field:?} does not exist in this map: nothing to remove")]
    FieldAbsent {
        /// The field's name.
        field: Box<str>,
    },
    /// The map's field is visible with another type.
    #[error(
        "the field {field:?} is {}, not {}: remove the field first, or use another name",
        visible.with_article(), requested.with_article()
    )]
    FieldOfAnotherType {
        /// The field's name.
        field: Box<str>,
        /// The type readers see.
        visible: CrdtType,
        /// The type the operation gave.
        requested: CrdtType,
    },
    /// The object's or field's type has no such operation.
    #[error("{crdt_type} has no operation {operation:?} with these members")]
    NotOfThisType {
        /// The operation's name.
        operation: &'static str,
        /// The type.
        crdt_type: CrdtType,
    },
    /// A map's field was to be a map.
    #[error("a map's field cannot be an ORMap: fields are counters, sets, flags and registers")]
    MapInMap,
    /// What one replica added to the counter, or took from it, would reach 2^63.
    #[error(
        "this replica's share of the counter would reach 2^63: count by less, or delete the counter to start again"
    )]
    AmountLimit,
    /// A TTL was given for a map's field.
    #[error("a map's field cannot expire: leave out `ttl`, or use an LWWRegister object")]
    TtlInMap,
    /// The value is too large.
    #[error("the value has {bytes} bytes, and the limit is {limit} (`limits.valueBytes`)")]
    ValueTooLarge {
        /// The value's size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The removal takes more counter cells than one unit may, or has to look
    /// through too many entries for them: it is carried out in steps, and so
    /// cannot be part of a batch.
    #[error(
        "this removes too much for one step of a batch (more than {cells} counter cells, or some among very many entries): send it alone"
    )]
    NeedsSteps {
        /// The most cells one unit can take.
        cells: u64,
    },
}

impl Refusal {
    /// The HTTP status that tells a client this.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Absent | Self::FieldAbsent { .. } => 404,
            Self::FieldOfAnotherType { .. } => 409,
            Self::ValueTooLarge { .. } => 413,
            Self::NotOfThisType { .. }
            | Self::MapInMap
            | Self::AmountLimit
            | Self::TtlInMap
            | Self::NeedsSteps { .. } => 422,
        }
    }
}
