//! `?view=state`: the entries that an object is made of, for those who wonder.
//!
//! Not a format to build on: it shows what replicas exchange, dead counter cells
//! and concurrent register versions included.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coppice_crdt::{Dot, Entry, EntryKey, EntryRange};

use super::json::JsonBuffer;
use super::problem::{Answer, Problem};
use super::value::{Cursor, Object, PAGE_BYTES, Window};

/// Writes the members `entries` and `next`.
pub(crate) fn write(json: &mut JsonBuffer, object: &Object<'_>, window: &Window) -> Answer<()> {
    let after = match &window.after {
        Some(Cursor(last)) => {
            let key = STANDARD.decode(last).ok().and_then(|bytes| EntryKey::parse(&bytes).ok());
            let malformed =
                "the parameter \"after\" is not the `next` of this view: pass that unchanged";
            Some(key.ok_or_else(|| Problem::malformed(malformed))?)
        }
        None => None,
    };
    let found = object.scan(&EntryRange::all(), after.as_ref(), window.limit + 1)?;
    json.name("entries");
    json.open(b'[');
    let mut shown = 0_usize;
    for (key, entry) in found.iter().take(window.limit) {
        json.item();
        json.open(b'{');
        json.text("entry", &format!("{key:?}"));
        write_entry(json, entry);
        json.close(b'}');
        shown += 1;
        if json.len() > PAGE_BYTES {
            break;
        }
    }
    json.close(b']');
    if let Some((last, _)) = found.get(shown.saturating_sub(1)).filter(|_| shown < found.len()) {
        Cursor::write_next(json, &STANDARD.encode(last.as_bytes()));
    }
    Ok(())
}

fn write_entry(json: &mut JsonBuffer, entry: &Entry) {
    match entry {
        Entry::Dots(dots) => array(json, "dots", dots, |json, dot| json.string(&text(dot))),
        Entry::Versions(versions) => array(json, "versions", versions, |json, version| {
            json.open(b'{');
            json.text("dot", &text(&version.dot));
            json.text("stamp", &version.stamp.to_string());
            if let Some(deadline_ms) = version.deadline_ms {
                json.name("deadlineMs");
                json.number(deadline_ms);
            }
            json.text("contentType", &version.content_type);
            json.name("bytes");
            json.number(version.bytes.len());
            json.close(b'}');
        }),
        Entry::Cells(cells) => array(json, "cells", cells, |json, cell| {
            json.open(b'{');
            for (name, figure) in [
                ("birth", cell.birth),
                ("last", cell.last),
                ("up", cell.amounts.up),
                ("down", cell.amounts.down),
                ("floorUp", cell.floor.up),
                ("floorDown", cell.floor.down),
            ] {
                json.name(name);
                json.number(figure);
            }
            json.close(b'}');
        }),
    }
}

fn text(dot: &Dot) -> String {
    format!("{}:{}", dot.actor, dot.n)
}

fn array<T>(json: &mut JsonBuffer, name: &str, items: &[T], write: impl Fn(&mut JsonBuffer, &T)) {
    json.name(name);
    json.open(b'[');
    for item in items {
        json.item();
        write(json, item);
    }
    json.close(b']');
}
