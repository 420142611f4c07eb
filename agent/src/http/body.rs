//! Request bodies: checked for type and size before anything is parsed.

use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, TRANSFER_ENCODING};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use super::problem::{Answer, Kind, Problem};

/// The most bytes of a body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    bytes: usize,
    /// What sets it, for messages.
    setting: &'static str,
}

impl Limit {
    /// That of JSON.
    const JSON: Self = Self { bytes: 1 << 20, setting: "" };

    /// That of a value, which the group's configuration sets.
    pub(crate) fn of_value(bytes: u64) -> Self {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        Self { bytes, setting: " (`limits.valueBytes`)" }
    }
}

/// How long a client may take to send a body.
const PATIENCE: Duration = Duration::from_secs(30);

/// The body as JSON text: type, size and time are checked, the text is not.
pub(crate) async fn read_json(headers: &HeaderMap, body: Body) -> Answer<Bytes> {
    let content_type = content_type(headers)?.unwrap_or_default();
    if !essence(content_type).eq_ignore_ascii_case("application/json") {
        return Err(Problem::new(
            Kind::UnsupportedMediaType,
            "send JSON, with the header Content-Type: application/json",
        ));
    }
    refuse_other_charset(content_type)?;
    read(headers, body, Limit::JSON).await
}

/// Refuses JSON that is announced in another encoding than UTF-8, the only one that
/// it has (RFC 8259, section 8.1).
pub(crate) fn refuse_other_charset(content_type: &str) -> Answer<()> {
    let params = content_type.split(';').skip(1).filter_map(|param| param.split_once('='));
    let mut charsets = params.filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
    // ASCII is UTF-8.
    let known = ["utf-8", "utf8", "us-ascii"];
    let is_known = |charset: &str| known.iter().any(|known| charset.eq_ignore_ascii_case(known));
    match charsets.find(|(_, charset)| !is_known(charset.trim().trim_matches('"'))) {
        None => Ok(()),
        Some((_, other)) => Err(Problem::new(
            Kind::UnsupportedMediaType,
            format!("JSON is UTF-8, and the header Content-Type says {:?}", other.trim()),
        )),
    }
}

/// Refuses a body that is framed in a way that is not known: where it ends, and so
/// where the next request begins, could be read in two ways (RFC 9112, section 6.1).
pub(crate) fn refuse_unknown_framing(headers: &HeaderMap) -> Answer<()> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_known = codings
        .next()
        .is_none_or(|coding| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
    if is_known && codings.next().is_none() { Ok(()) } else { Err(Problem::unknown_framing()) }
}

/// The body, at most `limit` of it.
pub(crate) async fn read(headers: &HeaderMap, body: Body, limit: Limit) -> Answer<Bytes> {
    let mut encodings = headers.get_all(CONTENT_ENCODING).iter();
    if encodings.any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Problem::encoded());
    }
    let Limit { bytes: limit, setting } = limit;
    let too_large =
        || Problem::too_large(format!("the body is over the limit of {limit} bytes{setting}"));
    // A length that is announced is judged before a byte is read.
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let collected = tokio::time::timeout(PATIENCE, Limited::new(body, limit).collect()).await;
    match collected {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) => {
            let cause: &(dyn std::error::Error + 'static) = &*error;
            if cause.is::<LengthLimitError>()
                || cause.source().is_some_and(<dyn std::error::Error>::is::<LengthLimitError>)
            {
                Err(too_large())
            } else {
                Err(Problem::malformed("the body was cut off: send it whole"))
            }
        }
        Err(_) => Err(Problem::new(
            Kind::RequestTimeout,
            format!("the body did not arrive within {} s", PATIENCE.as_secs()),
        )),
    }
}

/// Refuses a body where none is expected.
pub(crate) fn refuse(body: &Body) -> Answer<()> {
    if body.is_end_stream() || body.size_hint().exact() == Some(0) {
        Ok(())
    } else {
        Err(Problem::malformed("this request takes no body: leave it out"))
    }
}

/// The media type of a body, if one is given.
pub(crate) fn content_type(headers: &HeaderMap) -> Answer<Option<&str>> {
    /// RFC 6838 allows 127 on each side of the slash.
    const MAX_CONTENT_TYPE_BYTES: usize = 255;
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::malformed("the header Content-Type is given twice: leave one out"));
    }
    let text = value.to_str().ok().filter(|text| {
        let essence = essence(text);
        let token = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte))
        };
        text.len() <= MAX_CONTENT_TYPE_BYTES
            && essence.split_once('/').is_some_and(|(kind, name)| token(kind) && token(name))
    });
    let mend = "write a media type such as text/plain, of at most 255 bytes";
    let malformed = || Problem::malformed(format!("the header Content-Type is malformed: {mend}"));
    text.ok_or_else(malformed).map(Some)
}

/// A media type without its parameters.
fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Whether a value of this media type is JSON.
pub(crate) fn is_json(content_type: &str) -> bool {
    let essence = essence(content_type);
    let bytes = essence.as_bytes();
    let ends = bytes.len() > 5 && bytes[bytes.len() - 5..].eq_ignore_ascii_case(b"+json");
    ends || essence.eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_utf_8() {
        for utf_8 in
            ["application/json", "application/json; charset=UTF-8", "a/b;charset=\"utf-8\""]
        {
            assert!(refuse_other_charset(utf_8).is_ok(), "{utf_8}");
        }
        for other in
            ["application/json;charset=utf-16", "a/b; v=1; Charset = latin1", "a/b;charset="]
        {
            assert!(refuse_other_charset(other).is_err(), "{other}");
        }
    }

    #[test]
    fn json_comes_under_several_media_types() {
        for json in ["application/json", "Application/JSON; charset=utf-8", "application/ld+json"] {
            assert!(is_json(json), "{json}");
        }
        for other in ["text/plain", "application/jsonl", "application/json-seq", "+json", ""] {
            assert!(!is_json(other), "{other}");
        }
    }
}
