//! Which resource a path names.
//!
//! Keys hold any text, so the raw path is split here, before percent-decoding:
//! everything behind `/objects/` is one key. Templates are the metrics' bounded
//! labels.

use super::key;
use super::problem::{Answer, Kind, Problem};

/// A resource of the app's API, borrowed from the raw path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    Health,
    Groups,
    Group(&'a str, GroupRoute<'a>),
    Unknown,
}

/// A resource of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupRoute<'a> {
    Objects,
    /// The key as it stands in the path.
    Object(&'a str),
    Read,
    Batch,
    Sync,
    Members,
}

impl<'a> Route<'a> {
    pub(crate) fn parse(path: &'a str) -> Self {
        let Some(rest) = path.strip_prefix("/v1/") else { return Self::Unknown };
        match rest {
            "health" => return Self::Health,
            "groups" => return Self::Groups,
            _ => {}
        }
        let in_group = rest.strip_prefix("groups/").and_then(|rest| rest.split_once('/'));
        let Some((group, rest)) = in_group else { return Self::Unknown };
        let route = match rest {
            "objects" => GroupRoute::Objects,
            "read" => GroupRoute::Read,
            "batch" => GroupRoute::Batch,
            "sync" => GroupRoute::Sync,
            "members" => GroupRoute::Members,
            _ => match rest.strip_prefix("objects/") {
                Some(key) => GroupRoute::Object(key),
                None => return Self::Unknown,
            },
        };
        Self::Group(group, route)
    }

    /// The path with names in place of what clients choose.
    pub(crate) const fn template(self) -> &'static str {
        match self {
            Self::Health => "/v1/health",
            Self::Groups => "/v1/groups",
            Self::Group(_, GroupRoute::Objects) => "/v1/groups/{group}/objects",
            Self::Group(_, GroupRoute::Object(_)) => "/v1/groups/{group}/objects/{key}",
            Self::Group(_, GroupRoute::Read) => "/v1/groups/{group}/read",
            Self::Group(_, GroupRoute::Batch) => "/v1/groups/{group}/batch",
            Self::Group(_, GroupRoute::Sync) => "/v1/groups/{group}/sync",
            Self::Group(_, GroupRoute::Members) => "/v1/groups/{group}/members",
            Self::Unknown => "unknown",
        }
    }
}

/// 404 for a path that names nothing.
pub(crate) fn unknown_path() -> Problem {
    Problem::new(
        Kind::UnknownPath,
        "there is nothing at this path: objects are at /v1/groups/{group}/objects/{key}",
    )
}

/// The key that a raw path holds.
pub(crate) fn decode_key(raw: &str) -> Answer<std::borrow::Cow<'_, str>> {
    if !raw.contains('%') {
        key::check(raw)?;
        return Ok(raw.into());
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        match (digit(rest.next()), digit(rest.next())) {
            (Some(high), Some(low)) => bytes.push(u8::try_from(high << 4 | low).unwrap_or(0)),
            _ => {
                return Err(Problem::malformed(
                    "the key holds a % without two hexadecimal digits: write a literal % as %25",
                ));
            }
        }
    }
    let decoded = String::from_utf8(bytes);
    let decoded = decoded.map_err(|_| Problem::malformed("the key is not UTF-8"))?;
    key::check(&decoded)?;
    Ok(decoded.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_resources_and_the_rest_is_the_key() {
        let object = |key| Route::Group("g", GroupRoute::Object(key));
        for (path, route) in [
            ("/v1/health", Route::Health),
            ("/v1/groups", Route::Groups),
            ("/v1/groups/g/objects", Route::Group("g", GroupRoute::Objects)),
            ("/v1/groups/g/objects/", object("")),
            ("/v1/groups/g/objects/a", object("a")),
            ("/v1/groups/g/objects/a/b%2Fc/", object("a/b%2Fc/")),
            ("/v1/groups/g/objects/objects/x", object("objects/x")),
            ("/v1/groups/g/sync", Route::Group("g", GroupRoute::Sync)),
            ("/v1/groups/g", Route::Unknown),
            ("/v1/groups/g/nothing", Route::Unknown),
            ("/v2/groups", Route::Unknown),
            ("/", Route::Unknown),
        ] {
            assert_eq!(Route::parse(path), route, "{path}");
        }
    }

    #[test]
    fn keys_are_decoded_once() {
        for (raw, key) in [
            ("a/b", "a/b"),
            ("a%2Fb", "a/b"),
            ("a%252Fb", "a%2Fb"),
            ("%C3%A9", "é"),
            ("a+b", "a+b"),
        ] {
            assert_eq!(decode_key(raw).unwrap(), key);
        }
    }
}
