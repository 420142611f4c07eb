//! JSON values as clients send them: I-JSON, with limits, in one canonical form.
//!
//! Elements and register values are compared and ordered by their canonical form,
//! so what has no unambiguous one is refused: duplicate member names, lone
//! surrogates, numbers that a double does not hold. Numbers beyond 2^53, where
//! doubles have gaps, are kept apart as [`Json::HugeInteger`] while a document is
//! parsed, however they are written, so that each use can say what its own bound
//! is; they have no canonical form. From 10^21 on, where canonical forms have an
//! exponent, a number with an exponent and the digits of a double is a double.
//!
//! Pure: no clock, no IO, no randomness.
//! Sources: RFC 7493 (I-JSON), RFC 8785 (JSON Canonicalization Scheme).

use std::cmp::Ordering;

mod parse;

/// A JSON value that passed the limits of [`Json::parse`].
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A finite number, never -0: at most 2^53 away from 0, or 10^21 and more, and
    /// written with an exponent and at most 17 digits.
    Number(f64),
    /// Any other number beyond 2^53, which has no canonical form: two that differ
    /// could be rounded to one.
    HugeInteger {
        /// Whether it is below 0.
        is_negative: bool,
    },
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Json>),
    /// An object: its members by name in canonical order, each name once.
    Object(Vec<(String, Json)>),
}

/// Why bytes are not a value that can be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The bytes are not UTF-8.
    #[error("the JSON text is not UTF-8")]
    NotUtf8,
    /// The bytes are no JSON text, or one with something behind it, or one with
    /// a lone surrogate. Says what is wrong, and where.
    #[error("not a JSON text: {reason}")]
    Syntax {
        /// What is wrong, with line and column.
        reason: String,
    },
    /// Arrays and objects stand in each other too deeply.
    #[error("JSON nested deeper than {} levels", Json::MAX_DEPTH)]
    TooDeep,
    /// An object has two members of one name.
    #[error("the member {name:?} is given twice in one object")]
    DuplicateMember {
        /// The name.
        name: String,
    },
    /// A number is beyond 2^53, and no double of 10^21 or more.
    #[error("a number beyond 2^53 is not exact in JSON: send it as a string")]
    HugeInteger,
    /// A number is outside the range of a double.
    #[error("a number is outside the range of a double: send it as a string")]
    NumberOutOfRange,
}

// === impl Json ===

impl Json {
    /// How deeply arrays and objects may stand in each other.
    pub const MAX_DEPTH: usize = 64;

    /// The greatest integer that is taken, 2^53; its negative is the least.
    pub const MAX_INTEGER: u64 = 1 << 53;

    /// The value that `bytes` are the text of.
    ///
    /// # Errors
    ///
    /// Any [`JsonError`]; [`JsonError::HugeInteger`] here only for an integer of more
    /// than 308 digits. The client is told (400).
    pub fn parse(bytes: &[u8]) -> Result<Self, JsonError> {
        parse::parse(bytes)
    }

    /// The canonical text: no blanks, members sorted by UTF-16 code units, numbers
    /// as ECMAScript writes them. Equal values have equal texts.
    ///
    /// # Errors
    ///
    /// [`JsonError::HugeInteger`] if the value holds one.
    pub fn canonical(&self) -> Result<String, JsonError> {
        let mut text = String::new();
        self.write(&mut text)?;
        Ok(text)
    }

    /// The member `name`, if this is an object that has it.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        members.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Takes the member `name` out, if this is an object that has it.
    pub fn take_member(&mut self, name: &str) -> Option<Self> {
        let Self::Object(members) = self else { return None };
        let at = members.iter().position(|(known, _)| known == name)?;
        Some(members.remove(at).1)
    }

    /// The string, if this is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    fn write(&self, text: &mut String) -> Result<(), JsonError> {
        match self {
            Self::Null => text.push_str("null"),
            Self::Bool(true) => text.push_str("true"),
            Self::Bool(false) => text.push_str("false"),
            Self::Number(number) => text.push_str(ryu_js::Buffer::new().format(*number)),
            Self::HugeInteger { .. } => return Err(JsonError::HugeInteger),
            Self::String(string) => write_string(text, string),
            Self::Array(items) => {
                text.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        text.push(',');
                    }
                    item.write(text)?;
                }
                text.push(']');
            }
            Self::Object(members) => {
                text.push('{');
                for (at, (name, value)) in members.iter().enumerate() {
                    if at > 0 {
                        text.push(',');
                    }
                    write_string(text, name);
                    text.push(':');
                    value.write(text)?;
                }
                text.push('}');
            }
        }
        Ok(())
    }
}

/// The canonical order of member names: by UTF-16 code units, RFC 8785 section 3.2.3.
fn by_code_units(a: &str, b: &str) -> Ordering {
    a.encode_utf16().cmp(b.encode_utf16())
}

/// Writes `string` with its quotes, escaping what must be escaped and nothing
/// else: RFC 8785 section 3.2.2.2.
pub(crate) fn write_string(text: &mut String, string: &str) {
    const HEX: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    text.push('"');
    for c in string.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\u{8}' => text.push_str("\\b"),
            '\t' => text.push_str("\\t"),
            '\n' => text.push_str("\\n"),
            '\u{c}' => text.push_str("\\f"),
            '\r' => text.push_str("\\r"),
            '\0'..='\u{1f}' => {
                let code = c as usize;
                text.push_str("\\u00");
                text.extend([HEX[code >> 4], HEX[code & 0xf]]);
            }
            other => text.push(other),
        }
    }
    text.push('"');
}
