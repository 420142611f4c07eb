//! Query parameters: each is known where it is used, given once, and refused
//! elsewhere, so that a promise is never ignored in silence.

use std::borrow::Cow;
use std::time::Duration;

use coppice_api::TextDuration;
use percent_encoding::percent_decode_str;

use super::problem::{Answer, Problem};

/// What a later version offers.
const NOT_OFFERED: [&str; 4] = ["ack", "timeout", "wait", "context"];

/// The parameters of one request, percent-decoded (a `+` is a plus).
#[derive(Debug)]
pub(crate) struct Params<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Params<'a> {
    /// The parameters in `query`, all of them among `known`.
    pub(crate) fn parse(query: Option<&'a str>, known: &[&str]) -> Answer<Self> {
        let mut params: Vec<(Cow<'a, str>, Cow<'a, str>)> = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name)?;
            if !known.contains(&&*name) {
                return Err(unknown(&name, known));
            }
            if params.iter().any(|(given, _)| *given == name) {
                return Err(Problem::malformed(format!("the parameter {name:?} is given twice")));
            }
            params.push((name, decode(value)?));
        }
        Ok(Self(params))
    }

    /// The value of `name`, if it is given.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| &**value)
    }

    /// Whether `name` is `true` (or given without a value).
    pub(crate) fn flag(&self, name: &str) -> Answer<bool> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true" | "") => Ok(true),
            Some(other) => Err(Problem::malformed(format!(
                "the parameter {name:?} is {other:?}: write true or false"
            ))),
        }
    }

    /// `wait`: up to a minute.
    pub(crate) fn wait(&self) -> Answer<Option<Duration>> {
        const MOST: Duration = Duration::from_mins(1);
        let Some(text) = self.get("wait") else { return Ok(None) };
        let wait = text.parse::<TextDuration>().ok().map(TextDuration::get);
        wait.filter(|wait| *wait <= MOST).map(Some).ok_or_else(|| {
            let mend = "write a duration of at most 1m, such as 500ms or 2s";
            Problem::malformed(format!("the parameter \"wait\" is {text:?}: {mend}"))
        })
    }

    /// `limit`: 1 to 1,000, by default 100.
    pub(crate) fn limit(&self) -> Answer<usize> {
        const MOST: usize = 1_000;
        let Some(text) = self.get("limit") else { return Ok(100) };
        let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let limit = digits.and_then(|digits| digits.parse().ok());
        let limit = limit.filter(|limit| (1..=MOST).contains(limit));
        limit.ok_or_else(|| {
            Problem::malformed(format!("the parameter \"limit\" is {text:?}: write 1 to {MOST}"))
        })
    }
}

fn decode(text: &str) -> Answer<Cow<'_, str>> {
    percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| Problem::malformed("the query is not UTF-8 after percent-decoding"))
}

fn unknown(name: &str, known: &[&str]) -> Problem {
    if NOT_OFFERED.contains(&name) {
        return Problem::not_offered(&format!("the parameter {name:?}"));
    }
    let expected = match known {
        [] => "this request takes none".to_owned(),
        known => format!("expected one of {}", known.join(", ")),
    };
    Problem::malformed(format!("unknown parameter {name:?}: {expected}"))
}
