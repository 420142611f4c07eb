//! Paging through everything, and checking that it is everything.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::Cause;
use super::contents::{element, is_removed, object_key};
use crate::client::Client;

/// The most that a page may hold.
const LIMIT: &str = "limit=1000";

/// Pages through the set or the listing at `path`, whose content has numbers
/// below `count`; what is removed may or may not be there, all else is there
/// once, in order. `took` hears how long each page took and whether to go on;
/// false is answered if it is not.
///
/// # Errors
///
/// If something is missing, comes twice or out of order, or a page cannot be had.
pub(super) fn check(
    client: &mut Client,
    path: &str,
    count: u64,
    of_set: bool,
    took: &mut impl FnMut(Duration) -> bool,
) -> Result<bool, Cause> {
    let mut expected = (0..count).filter(|number| !is_removed(*number)).peekable();
    let mut after = String::new();
    loop {
        let before = Instant::now();
        let answer = client.get(&format!("{path}?{LIMIT}{after}"))?;
        let latency = before.elapsed();
        if !answer.is_success() {
            return Err(Cause::Refused(answer.status, answer.text()));
        }
        let page = answer.json();
        let items = page[if of_set { "value" } else { "items" }].as_array();
        for item in items.into_iter().flatten() {
            let name = if of_set { item.as_str() } else { item["key"].as_str() };
            let name = name.unwrap_or_default();
            let wanted = expected.peek().map(|number| named(*number, of_set));
            if wanted.as_deref() == Some(name) {
                expected.next();
            } else if number(name).is_some_and(|number| !is_removed(number)) {
                let wanted = wanted.unwrap_or_else(|| "the end".to_owned());
                return Err(Cause::Wrong(format!("paging: {name} where {wanted} has to come")));
            }
        }
        if !took(latency) {
            return Ok(false);
        }
        match &page["next"] {
            Value::String(next) => after = format!("&after={next}"),
            _ => break,
        }
    }
    match expected.next() {
        None => Ok(true),
        Some(number) => Err(Cause::Wrong(format!("paging never showed {}", named(number, of_set)))),
    }
}

fn named(number: u64, of_set: bool) -> String {
    if of_set { element(number) } else { object_key(number) }
}

/// The number of what was there from the beginning.
fn number(name: &str) -> Option<u64> {
    name.strip_prefix("element-").or(name.strip_prefix("object-"))?.parse().ok()
}
