//! `If-Match` and `If-None-Match`: on reads checked here, on writes by the writer.
//!
//! Source: RFC 9110, sections 8.8.3 and 13.1.

use axum::http::HeaderMap;
use axum::http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH, IF_UNMODIFIED_SINCE};

use super::problem::{Answer, Kind, Problem};
use crate::etag::EtagText;
use crate::replica_task::Precondition;

/// The condition of a request, if it has one.
pub(crate) fn condition(headers: &HeaderMap) -> Answer<Option<Precondition>> {
    let matches = tags(headers, &IF_MATCH, false)?;
    let none = tags(headers, &IF_NONE_MATCH, true)?;
    match (matches, none) {
        (None, None) => Ok(None),
        (Some(tags), None) => Ok(Some(Precondition::Matches(tags))),
        (None, Some(tags)) => Ok(Some(Precondition::MatchesNone(tags))),
        (Some(_), Some(_)) => Err(Problem::malformed("give If-Match or If-None-Match, not both")),
    }
}

/// Refuses a write that depends on when the object was changed: objects have no such
/// time, and to write all the same would overwrite what the client has not seen.
///
/// With `If-Match` beside it the time does not count, and on reads it may be left out
/// (RFC 9110, section 13.1).
pub(crate) fn refuse_times(headers: &HeaderMap) -> Answer<()> {
    if headers.contains_key(IF_UNMODIFIED_SINCE) && !headers.contains_key(IF_MATCH) {
        return Err(Problem::malformed(
            "objects have no time of modification: send If-Match with the etag in place of If-Unmodified-Since",
        ));
    }
    Ok(())
}

/// The etags of a header; none for `*`. A weak one counts where `weak` is set,
/// and elsewhere is kept as it is, which no etag here equals.
fn tags(headers: &HeaderMap, name: &HeaderName, weak: bool) -> Answer<Option<Vec<String>>> {
    if !headers.contains_key(name) {
        return Ok(None);
    }
    let malformed = || {
        let mend = "write etags with their quotes, separated by commas, or *";
        Problem::malformed(format!("the header {name} is malformed: {mend}"))
    };
    let mut tags = Vec::new();
    for value in headers.get_all(name) {
        let mut rest = value.to_str().map_err(|_| malformed())?.trim();
        if rest == "*" {
            return if headers.get_all(name).iter().count() == 1 {
                Ok(Some(Vec::new()))
            } else {
                Err(malformed())
            };
        }
        while !rest.is_empty() {
            let is_weak = rest.starts_with("W/");
            let opaque = rest.trim_start_matches("W/").strip_prefix('"').ok_or_else(malformed)?;
            let end = opaque.find('"').ok_or_else(malformed)?;
            let mark = if is_weak && !weak { "W/" } else { "" };
            tags.push(format!("{mark}\"{}\"", &opaque[..end]));
            rest = opaque[end + 1..].trim_start();
            rest = match rest.strip_prefix(',') {
                Some(more) => more.trim_start(),
                None if rest.is_empty() => rest,
                None => return Err(malformed()),
            };
        }
    }
    if tags.is_empty() { Err(malformed()) } else { Ok(Some(tags)) }
}

/// What a read with a condition gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Proceed,
    NotModified,
}

/// Judges the condition of a read of an object that exists.
pub(crate) fn judge(condition: Option<&Precondition>, etag: &EtagText) -> Answer<Verdict> {
    let listed = |tags: &[String]| tags.is_empty() || tags.iter().any(|tag| tag == etag.as_str());
    match condition {
        Some(Precondition::MatchesNone(tags)) if listed(tags) => Ok(Verdict::NotModified),
        Some(Precondition::Matches(tags)) if !listed(tags) => Err(Problem::new(
            Kind::PreconditionFailed,
            format!("the object's etag is {etag}: read it again"),
        )),
        _ => Ok(Verdict::Proceed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn conditions_are_lists_of_tags_or_a_star() {
        let list = condition(&headers(IF_MATCH, r#""a", W/"b" ,"c,d""#)).unwrap();
        let tags = [r#""a""#, r#"W/"b""#, r#""c,d""#].map(str::to_owned).to_vec();
        assert_eq!(list, Some(Precondition::Matches(tags)), "a weak tag never matches strongly");

        let list = condition(&headers(IF_NONE_MATCH, r#"W/"b""#)).unwrap();
        assert_eq!(list, Some(Precondition::MatchesNone(vec![r#""b""#.to_owned()])));

        let star = condition(&headers(IF_NONE_MATCH, "*")).unwrap();
        assert_eq!(star, Some(Precondition::MatchesNone(Vec::new())));
    }

    #[test]
    fn what_is_no_list_of_tags_is_refused() {
        for value in ["", "a", "\"a", "\"a\" \"b\"", "*, \"a\"", "\"a\", *"] {
            assert!(condition(&headers(IF_MATCH, value)).is_err(), "{value}");
        }
    }
}
