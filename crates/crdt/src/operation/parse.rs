//! From the JSON that a client sends to an [`Operation`].
//!
//! `{"op":"increment","by":5}`: `op` names the operation, the other members are
//! its own, and one that it does not know is refused: a misspelt `by` must not
//! count 1.

use crate::{CrdtType, Element, ElementError, Json, JsonError, Operation, RegisterWrite};

/// The media type of a value that came as JSON.
const JSON_TYPE: &str = "application/json";

/// Why a JSON value is no operation on an object of the type it was sent to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// It is not an object.
    #[error(
        "an operation is a JSON object with the member \"op\": {} has {}",
        .crdt_type.with_article(), known(*.crdt_type)
    )]
    NotAnObject {
        /// The object's or field's type.
        crdt_type: CrdtType,
    },
    /// The object does not say which operation it is, or says it with something else
    /// than a string.
    #[error(
        "the member \"op\" must name an operation: {} has {}",
        .crdt_type.with_article(), known(*.crdt_type)
    )]
    Unnamed {
        /// The object's or field's type.
        crdt_type: CrdtType,
    },
    /// A member is missing.
    #[error("{operation:?} needs the member {member:?}")]
    MissingMember {
        /// The operation.
        operation: &'static str,
        /// What is missing.
        member: &'static str,
    },
    /// No element is given.
    #[error("{operation:?} needs the member \"element\", or \"elements\" with an array")]
    NoElements {
        /// The operation.
        operation: &'static str,
    },
    /// A member is not known.
    #[error("{operation:?} has no member {member:?}: it has {}", listed(known))]
    UnknownMember {
        /// The operation.
        operation: &'static str,
        /// What was given.
        member: String,
        /// What it could be.
        known: &'static [&'static str],
    },
    /// A member's value is of the wrong kind.
    #[error("the member {member:?} must be {expected}")]
    WrongValue {
        /// The member.
        member: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// The type has no such operation.
    #[error("{crdt_type} has no operation {operation:?}: it has {}", known(*.crdt_type))]
    UnknownOperation {
        /// What was given.
        operation: String,
        /// The object's or field's type.
        crdt_type: CrdtType,
    },
    /// `by` is negative.
    #[error("`by` must not be negative{}", instead_of(*.instead))]
    Negative {
        /// The operation that does what was meant, if the type has one.
        instead: Option<&'static str>,
    },
    /// `by` is past its bound.
    #[error("`by` is past its bound: 2^53 for a number, 2^63 - 1 for a decimal string")]
    AmountTooLarge,
    /// The type of a map's field is not known.
    #[error(transparent)]
    UnknownType(#[from] crate::UnknownCrdtType),
    /// A map's field was to be a map.
    #[error("a map's field cannot be an ORMap: fields are counters, sets, flags and registers")]
    MapInMap,
    /// The name of a map's field is too long.
    #[error(
        "a field's name may have {} bytes, and this one has {bytes}",
        Operation::MAX_FIELD_BYTES
    )]
    FieldTooLong {
        /// Its length.
        bytes: usize,
    },
    /// An element cannot be one.
    #[error("element: {0}")]
    Element(#[from] ElementError),
    /// A register's value has no canonical form.
    #[error("value: {0}")]
    Value(JsonError),
}

impl OperationError {
    /// The HTTP status that tells a client this.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::UnknownOperation { .. }
            | Self::Negative { .. }
            | Self::AmountTooLarge
            | Self::MapInMap => 422,
            Self::Element(error) => error.status(),
            Self::NotAnObject { .. }
            | Self::Unnamed { .. }
            | Self::MissingMember { .. }
            | Self::NoElements { .. }
            | Self::UnknownMember { .. }
            | Self::WrongValue { .. }
            | Self::UnknownType(_)
            | Self::FieldTooLong { .. }
            | Self::Value(_) => 400,
        }
    }
}

fn instead_of(operation: Option<&'static str>) -> String {
    operation.map_or_else(
        || ": a GCounter only grows".to_owned(),
        |operation| format!(": use the operation {operation:?}"),
    )
}

/// The members of an operation beside `op`, for messages.
fn listed(members: &[&str]) -> String {
    match members {
        [] => "none beside \"op\"".to_owned(),
        members => members.join(", "),
    }
}

/// The operations a client can send to a type, for messages.
fn known(crdt_type: CrdtType) -> &'static str {
    match crdt_type {
        CrdtType::GCounter => "increment",
        CrdtType::PNCounter => "increment, decrement",
        CrdtType::GSet => "add",
        CrdtType::ORSet => "add, remove, clear",
        CrdtType::EWFlag => "enable, disable",
        CrdtType::LWWRegister => "set",
        CrdtType::ORMap => "update, remove, clear",
    }
}

impl Operation {
    /// The operation that `json` asks of an object of type `crdt_type`.
    ///
    /// Members that belong to the request and not to the operation, such as a
    /// batch's `key`, have to be taken out before.
    ///
    /// # Errors
    ///
    /// [`OperationError`]: the client is told, with [`OperationError::status`].
    pub fn from_json(crdt_type: CrdtType, json: &Json) -> Result<Self, OperationError> {
        let Json::Object(given) = json else {
            return Err(OperationError::NotAnObject { crdt_type });
        };
        let op = json.member("op").and_then(Json::as_str);
        let op = op.ok_or(OperationError::Unnamed { crdt_type })?;
        let members = |operation: &'static str, known: &'static [&'static str]| {
            let unknown = given
                .iter()
                .map(|(name, _)| name)
                .find(|name| *name != "op" && !known.contains(&name.as_str()));
            match unknown {
                Some(member) => {
                    Err(OperationError::UnknownMember { operation, member: member.clone(), known })
                }
                None => Ok(Members { operation, json }),
            }
        };
        match (crdt_type, op) {
            (CrdtType::GCounter | CrdtType::PNCounter, "increment") => {
                let by = members("increment", &["by"])?
                    .by((crdt_type == CrdtType::PNCounter).then_some("decrement"))?;
                Ok(Self::Increment { by })
            }
            (CrdtType::PNCounter, "decrement") => {
                Ok(Self::Decrement { by: members("decrement", &["by"])?.by(Some("increment"))? })
            }
            (CrdtType::GSet | CrdtType::ORSet, "add") => {
                Ok(Self::Add { elements: members("add", &["element", "elements"])?.elements()? })
            }
            (CrdtType::ORSet, "remove") => {
                let elements = members("remove", &["element", "elements"])?.elements()?;
                Ok(Self::Remove { elements })
            }
            (CrdtType::ORSet | CrdtType::ORMap, "clear") => {
                members("clear", &[]).map(|_| Self::Clear)
            }
            (CrdtType::EWFlag, "enable") => members("enable", &[]).map(|_| Self::Enable),
            (CrdtType::EWFlag, "disable") => members("disable", &[]).map(|_| Self::Disable),
            (CrdtType::LWWRegister, "set") => members("set", &["value", "ttl"])?.write(),
            (CrdtType::ORMap, "update") => {
                members("update", &["field", "type", "operation"])?.update()
            }
            (CrdtType::ORMap, "remove") => {
                Ok(Self::RemoveField { field: members("remove", &["field"])?.field()? })
            }
            (_, "delete") => members("delete", &[]).map(|_| Self::Delete),
            (crdt_type, op) => {
                Err(OperationError::UnknownOperation { operation: op.to_owned(), crdt_type })
            }
        }
    }
}

/// The members of one operation.
#[derive(Clone, Copy)]
struct Members<'a> {
    operation: &'static str,
    json: &'a Json,
}

impl<'a> Members<'a> {
    fn get(self, member: &'static str) -> Result<&'a Json, OperationError> {
        let missing = OperationError::MissingMember { operation: self.operation, member };
        self.json.member(member).ok_or(missing)
    }

    fn string(self, member: &'static str) -> Result<&'a str, OperationError> {
        let wrong = OperationError::WrongValue { member, expected: "a string" };
        self.get(member)?.as_str().ok_or(wrong)
    }

    fn by(self, instead: Option<&'static str>) -> Result<u64, OperationError> {
        let wrong = OperationError::WrongValue {
            member: "by",
            expected: "an integer, or a string of decimal digits",
        };
        match self.json.member("by") {
            None => Ok(1),
            Some(Json::HugeInteger { is_negative: true }) => {
                Err(OperationError::Negative { instead })
            }
            Some(Json::HugeInteger { is_negative: false }) => Err(OperationError::AmountTooLarge),
            Some(Json::Number(number)) if number.fract() != 0.0 => Err(wrong),
            Some(Json::Number(number)) if *number < 0.0 => {
                Err(OperationError::Negative { instead })
            }
            Some(Json::Number(number)) => whole(*number).ok_or(OperationError::AmountTooLarge),
            Some(Json::String(text)) => {
                let (is_negative, digits) = match text.strip_prefix('-') {
                    Some(digits) => (true, digits),
                    None => (false, text.as_str()),
                };
                if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(wrong);
                }
                if is_negative {
                    return Err(OperationError::Negative { instead });
                }
                let by = digits.parse::<i64>().map_err(|_| OperationError::AmountTooLarge)?;
                Ok(by.unsigned_abs())
            }
            Some(_) => Err(wrong),
        }
    }

    fn elements(self) -> Result<Vec<Element>, OperationError> {
        let wrong = OperationError::WrongValue {
            member: "elements",
            expected: "an array of at least one element",
        };
        match (self.json.member("element"), self.json.member("elements")) {
            (Some(element), None) => Ok(vec![Element::new(element)?]),
            (None, Some(Json::Array(elements))) if !elements.is_empty() => {
                let elements = elements.iter().map(Element::new);
                Ok(elements.collect::<Result<_, ElementError>>()?)
            }
            (None, Some(_)) => Err(wrong),
            (Some(_), Some(_)) => Err(OperationError::WrongValue {
                member: "elements",
                expected: "left out where `element` is given",
            }),
            (None, None) => Err(OperationError::NoElements { operation: self.operation }),
        }
    }

    fn write(self) -> Result<Operation, OperationError> {
        let value = self.get("value")?.canonical().map_err(OperationError::Value)?;
        let ttl_ms = match self.json.member("ttl") {
            None => None,
            Some(ttl) => {
                Some(ttl.as_str().and_then(parse_ttl).ok_or(OperationError::WrongValue {
                    member: "ttl",
                    expected: "a duration above zero such as \"500ms\", \"30s\", \"5m\" or \"1h\"",
                })?)
            }
        };
        let bytes = value.into_bytes().into();
        Ok(Operation::Set(RegisterWrite { content_type: JSON_TYPE.into(), bytes, ttl_ms }))
    }

    fn field(self) -> Result<Box<str>, OperationError> {
        let name = self.string("field")?;
        if name.len() > Operation::MAX_FIELD_BYTES {
            return Err(OperationError::FieldTooLong { bytes: name.len() });
        }
        Ok(name.into())
    }

    fn update(self) -> Result<Operation, OperationError> {
        let field = self.field()?;
        let crdt_type: CrdtType = self.string("type")?.parse()?;
        if crdt_type == CrdtType::ORMap {
            return Err(OperationError::MapInMap);
        }
        let operation = Operation::from_json(crdt_type, self.get("operation")?)?;
        if operation == Operation::Delete {
            let operation = operation.name().to_owned();
            return Err(OperationError::UnknownOperation { operation, crdt_type });
        }
        Ok(Operation::Update { field, crdt_type, operation: Box::new(operation) })
    }
}

/// A whole number from 0 to 2^53 as an integer.
fn whole(number: f64) -> Option<u64> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates, and what it changed is past the bound"
    )]
    let integer = number as u64;
    (integer <= Json::MAX_INTEGER).then_some(integer)
}

/// Milliseconds of a duration such as `500ms`, `30s` or `1h30m`, each unit at most
/// once and the larger first; `None` for what is none, or is zero, or too long for a
/// u64.
#[must_use]
pub fn parse_ttl(text: &str) -> Option<u64> {
    let mut units = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1_u64)].into_iter();
    let (mut rest, mut total) = (text, 0_u64);
    while !rest.is_empty() {
        let (number, behind) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let unit_end = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit_end);
        let (_, unit_ms) = units.find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(unit_ms)?)?;
        rest = behind;
    }
    (total > 0).then_some(total)
}
