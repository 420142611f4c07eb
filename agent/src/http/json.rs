//! Writes JSON answers straight into their bytes.
//!
//! An answer is some tens of bytes around values that are JSON already (stored
//! values, canonical elements), so it is written once, without a tree in between.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::Response;

/// JSON text in the making. The caller opens and closes what it writes; commas
/// come by themselves.
#[derive(Debug, Default)]
pub(crate) struct JsonBuffer(Vec<u8>);

impl JsonBuffer {
    /// Room for `bytes` before the first move.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// How much was written.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// `{` or `[`, as a value.
    pub(crate) fn open(&mut self, bracket: u8) {
        self.0.push(bracket);
    }

    /// `}` or `]`.
    pub(crate) fn close(&mut self, bracket: u8) {
        self.0.push(bracket);
    }

    /// The place of an array's next item: a comma unless it is the first.
    pub(crate) fn item(&mut self) {
        if !matches!(self.0.last(), Some(b'[' | b'{') | None) {
            self.0.push(b',');
        }
    }

    /// A member's name; its value comes next.
    pub(crate) fn name(&mut self, name: &str) {
        self.item();
        self.string(name);
        self.0.push(b':');
    }

    /// A string.
    pub(crate) fn string(&mut self, text: &str) {
        // Writing to memory does not fail.
        let _ = serde_json::to_writer(&mut self.0, text);
    }

    /// A string member.
    pub(crate) fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        self.string(text);
    }

    /// An integer.
    pub(crate) fn number(&mut self, number: impl itoa::Integer) {
        self.0.extend(itoa::Buffer::new().format(number).as_bytes());
    }

    /// `true` or `false`.
    pub(crate) fn bool(&mut self, value: bool) {
        self.raw(if value { b"true" } else { b"false" });
    }

    /// Bytes that are a JSON text.
    pub(crate) fn raw(&mut self, json: &[u8]) {
        self.0.extend(json);
    }

    /// An object of members that were written elsewhere.
    pub(crate) fn object(&mut self, members: Self) {
        self.0.push(b'{');
        self.0.extend(members.0);
        self.0.push(b'}');
    }

    /// The text.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// The text as a 200.
    pub(crate) fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.0));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_stand_between_and_nowhere_else() {
        let mut json = JsonBuffer::default();
        json.open(b'{');
        json.text("key", "a\"b");
        json.name("value");
        json.open(b'[');
        for number in 1..3 {
            json.item();
            json.number(number);
        }
        json.item();
        json.open(b'{');
        json.close(b'}');
        json.close(b']');
        json.name("more");
        json.bool(false);
        json.close(b'}');
        let text = String::from_utf8(json.into_bytes()).unwrap();
        assert_eq!(text, r#"{"key":"a\"b","value":[1,2,{}],"more":false}"#);
    }
}
