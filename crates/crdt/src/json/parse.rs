//! From bytes to [`Json`]: `serde_json` does the grammar, this file the limits.

use std::cell::Cell;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};

use super::{Json, JsonError, by_code_units};

/// Integers of more digits than this fit no 64 bits, and the parser would round
/// them: those of 21 nines to 1e21, whose canonical form is not an integer's.
const MAX_DIGITS: usize = 20;

/// From here on the canonical form of a double has an exponent.
const FIRST_WITH_EXPONENT: f64 = 1e21;

/// 2^53.
const MAX_INTEGER: f64 = 9_007_199_254_740_992.0;

pub(super) fn parse(bytes: &[u8]) -> Result<Json, JsonError> {
    let text = std::str::from_utf8(bytes).map_err(|_| JsonError::NotUtf8)?;
    check_numbers(text)?;
    let refused = Cell::new(None);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let parsed = Value { depth: 0, refused: &refused }
        .deserialize(&mut deserializer)
        .and_then(|json| deserializer.end().map(|()| json));
    parsed.map_err(|error| {
        refused.take().unwrap_or_else(|| JsonError::Syntax { reason: error.to_string() })
    })
}

/// Refuses numbers by how they are written, which the parsed value does not tell:
/// a long integer literal is rounded, one past a double's range is an error like
/// any other. What is no number at all is left to the parser.
fn check_numbers(text: &str) -> Result<(), JsonError> {
    let mut rest = text;
    while let Some(at) = rest.find(['"', '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) {
        let (_, found) = rest.split_at(at);
        if let Some(string) = found.strip_prefix('"') {
            rest = behind_string(string);
            continue;
        }
        let is_part = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
        let (literal, behind) = found.split_at(found.find(|c| !is_part(c)).unwrap_or(found.len()));
        rest = behind;
        let digits = literal.strip_prefix('-').unwrap_or(literal);
        if digits.bytes().all(|byte| byte.is_ascii_digit()) {
            if digits.len() > MAX_DIGITS {
                return Err(JsonError::HugeInteger);
            }
        } else if literal.parse().is_ok_and(f64::is_infinite) {
            return Err(JsonError::NumberOutOfRange);
        }
    }
    Ok(())
}

/// What stands behind the string whose opening quote stands before `text`.
fn behind_string(text: &str) -> &str {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => {
                chars.next();
            }
            _ => {}
        }
    }
    chars.as_str()
}

/// Reads one value at a depth; leaves the reason in `refused` if it is a limit.
#[derive(Clone, Copy)]
struct Value<'a> {
    depth: usize,
    refused: &'a Cell<Option<JsonError>>,
}

impl Value<'_> {
    fn refuse<E: Error>(self, reason: JsonError) -> E {
        let error = E::custom(&reason);
        self.refused.set(Some(reason));
        error
    }

    /// For the values inside this one.
    fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.depth == Json::MAX_DEPTH {
            return Err(self.refuse(JsonError::TooDeep));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        Ok(integer(value, false))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        Ok(integer(value.unsigned_abs(), value.is_negative()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        let size = value.abs();
        if size > MAX_INTEGER && size < FIRST_WITH_EXPONENT {
            return Ok(Json::HugeInteger { is_negative: value.is_sign_negative() });
        }
        Ok(Json::Number(if size == 0.0 { 0.0 } else { value }))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let inner = self.deeper()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            array.push(item);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let inner = self.deeper()?;
        let mut object = Vec::new();
        while let Some(name) = members.next_key::<String>()? {
            object.push((name, members.next_value_seed(inner)?));
        }
        object.sort_by(|(a, _), (b, _)| by_code_units(a, b));
        let twice = object.windows(2).find_map(|pair| match pair {
            [(first, _), (second, _)] if first == second => Some(first.clone()),
            _ => None,
        });
        match twice {
            Some(name) => Err(self.refuse(JsonError::DuplicateMember { name })),
            None => Ok(Json::Object(object)),
        }
    }
}

fn integer(size: u64, is_negative: bool) -> Json {
    if size > Json::MAX_INTEGER {
        return Json::HugeInteger { is_negative };
    }
    #[expect(clippy::cast_precision_loss, reason = "at most 2^53, where doubles have no gaps")]
    let number = size as f64;
    Json::Number(if is_negative { -number } else { number })
}
