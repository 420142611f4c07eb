//! From bytes to [`Json`]: `serde_json` does the grammar, this file the limits.
//!
//! Numbers are judged twice, because the parser rounds: as they are written, by
//! [`find_huge`] before the parse, and as doubles when it meets them.

use std::cell::Cell;
use std::cmp::Ordering;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};

use super::{Json, JsonError, by_code_units};

/// 2^53 in digits: beyond it doubles have gaps.
const MAX_INTEGER: &[u8] = b"9007199254740992";

/// Digits before the point from which on the canonical form of a double has an
/// exponent: those of 10^21.
const FIRST_WITH_EXPONENT: i64 = 22;

/// So many significant digits tell any double from all others; whoever writes more
/// means more than a double.
const DOUBLE_DIGITS: usize = 17;

pub(super) fn parse(bytes: &[u8]) -> Result<Json, JsonError> {
    let text = std::str::from_utf8(bytes).map_err(|_| JsonError::NotUtf8)?;
    let numbers = Numbers { huge: find_huge(text)?, met: Cell::new(0) };
    let refused = Cell::new(None);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let parsed = Value { depth: 0, refused: &refused, numbers: &numbers }
        .deserialize(&mut deserializer)
        .and_then(|json| deserializer.end().map(|()| json));
    parsed.map_err(|error| {
        refused.take().unwrap_or_else(|| JsonError::Syntax { reason: plain(&error, text) })
    })
}

/// What the parser says, in JSON's words.
fn plain(error: &serde_json::Error, text: &str) -> String {
    if text.trim_ascii().is_empty() {
        return "it is empty".to_owned();
    }
    error
        .to_string()
        .replace("EOF while parsing a list", "it ends within an array")
        .replace("EOF while parsing", "it ends within")
        .replace("expected ident", "expected true, false or null")
}

/// Which of a text's numbers are huge, told while they are parsed in their order.
#[derive(Debug)]
struct Numbers {
    /// By place among all numbers, ascending.
    huge: Vec<usize>,
    met: Cell<usize>,
}

impl Numbers {
    /// Whether the number that the parser meets now is huge.
    fn next_is_huge(&self) -> bool {
        let met = self.met.get();
        self.met.set(met + 1);
        self.huge.binary_search(&met).is_ok()
    }
}

/// Finds the numbers that would be rounded to another integer: which of all they
/// are. What is no number at all is left to the parser.
fn find_huge(text: &str) -> Result<Vec<usize>, JsonError> {
    let mut huge = Vec::new();
    let mut met = 0;
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
        let is_small = literal.len() < MAX_INTEGER.len() && !literal.contains(['e', 'E']);
        let is_huge = !is_small && is_huge(literal);
        if !is_small && literal.parse().is_ok_and(f64::is_infinite) {
            return Err(if is_huge { JsonError::HugeInteger } else { JsonError::NumberOutOfRange });
        }
        if is_huge {
            huge.push(met);
        }
        met += 1;
    }
    Ok(huge)
}

/// Whether a number is beyond 2^53 and no double of 10^21 or more, written as one:
/// with an exponent, and no more digits than a double has.
fn is_huge(literal: &str) -> bool {
    let unsigned = literal.strip_prefix('-').unwrap_or(literal);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    let significant = digits.trim_start_matches('0');
    let zeros = digits.len() - significant.len();
    let significant = significant.trim_end_matches('0').as_bytes();
    if significant.is_empty() {
        return false;
    }
    // Digits before the point once the exponent moved it; a long exponent's own
    // digits fit no integer.
    let shift = exponent.map_or(0, |exponent| {
        let far = if exponent.starts_with('-') { i64::MIN } else { i64::MAX };
        exponent.parse().unwrap_or(far)
    });
    let length = |digits: usize| i64::try_from(digits).unwrap_or(i64::MAX);
    let before_point = shift.saturating_add(length(whole.len())).saturating_sub(length(zeros));
    let is_beyond = match before_point.cmp(&length(MAX_INTEGER.len())) {
        Ordering::Less => false,
        Ordering::Equal => significant > MAX_INTEGER,
        Ordering::Greater => true,
    };
    let is_double = exponent.is_some()
        && before_point >= FIRST_WITH_EXPONENT
        && significant.len() <= DOUBLE_DIGITS;
    is_beyond && !is_double
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
    numbers: &'a Numbers,
}

impl Value<'_> {
    fn refuse<E: Error>(self, reason: JsonError) -> E {
        let error = E::custom(&reason);
        self.refused.set(Some(reason));
        error
    }

    /// The number that was met; where it was rounded, it is huge.
    fn number(self, value: f64) -> Json {
        if self.numbers.next_is_huge() {
            return Json::HugeInteger { is_negative: value.is_sign_negative() };
        }
        Json::Number(value)
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

    #[expect(clippy::cast_precision_loss, reason = "none up to 2^53, and beyond it is huge")]
    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        Ok(self.number(value as f64))
    }

    #[expect(clippy::cast_precision_loss, reason = "none up to 2^53, and beyond it is huge")]
    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        Ok(self.number(value as f64))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        Ok(self.number(value))
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
