//! From the text of a file to fields: the only file that knows the YAML parser.
//!
//! A parser stops at the first field whose shape is wrong. People want all mistakes
//! of a file at once, so such a field is taken out and what is left is read again.
//! What then is missing only because it was taken out is no mistake of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use coppice_api::{AgentConfig, FieldProblem};
use serde_yaml::Value;

use super::wording;

/// Mistakes of shape that are looked for in one file.
const MOST: usize = 100;

/// What a text says.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// The fields whose shape is right; `None` if there is no telling.
    config: Option<AgentConfig>,
    shapes: Vec<FieldProblem>,
    /// What was taken out, by its path in the text.
    gone: BTreeSet<String>,
    /// The items that were taken out of each list, by its path.
    items: BTreeMap<String, BTreeSet<usize>>,
}

pub(super) fn parse(text: &[u8]) -> Parsed {
    // An empty file is a configuration of defaults, not YAML's null.
    if text.iter().all(u8::is_ascii_whitespace) {
        return Parsed { config: Some(AgentConfig::default()), ..Parsed::default() };
    }
    let mut parsed = Parsed::default();
    let whole = serde_path_to_error::deserialize(serde_yaml::Deserializer::from_slice(text));
    let first = match whole {
        Ok(config) => return Parsed { config: Some(config), ..parsed },
        // Only this one knows its line and column.
        Err(error) => {
            let mistake = shape(error);
            FieldProblem {
                message: wording::in_text(mistake.message, &mistake.path, text),
                ..mistake
            }
        }
    };
    let Ok(mut left) = serde_yaml::from_slice::<Value>(text) else {
        parsed.shapes.push(first);
        return parsed;
    };
    let mut next = first;
    while parsed.shapes.len() < MOST {
        if !parsed.take_out(&mut left, next) {
            return parsed;
        }
        // As text again, which is read as the file was: a number may stand for a word.
        let Ok(text) = serde_yaml::to_string(&left) else { return parsed };
        match serde_path_to_error::deserialize(serde_yaml::Deserializer::from_str(&text)) {
            Ok(config) => {
                parsed.config = Some(config);
                return parsed;
            }
            Err(error) => next = without_line(shape(error)),
        }
    }
    parsed
}

// === impl Parsed ===

impl Parsed {
    /// The fields whose shape is right, as they stand in the text.
    pub(super) fn fields(self) -> Option<AgentConfig> {
        self.config
    }

    /// The configuration as `finish` completes it, or all that is wrong: with the
    /// shape of fields, and with the values of those whose shape is right.
    pub(super) fn judged(
        self,
        finish: impl FnOnce(&mut AgentConfig),
    ) -> Result<AgentConfig, Vec<FieldProblem>> {
        let Self { config, mut shapes, gone, items } = self;
        let Some(mut config) = config else { return Err(shapes) };
        finish(&mut config);
        let values = config
            .problems()
            .into_iter()
            .map(|problem| FieldProblem { path: in_text(&problem.path, &items), ..problem });
        shapes.extend(values.filter(|problem| !depends_on(&problem.path, &gone)));
        if shapes.is_empty() { Ok(config) } else { Err(shapes) }
    }

    /// Takes the field of a mistake out of what is left of the text; whether that
    /// could be done.
    fn take_out(&mut self, left: &mut Value, mistake: FieldProblem) -> bool {
        let at = mistake.path.clone();
        let path = in_text(&at, &self.items);
        let is_inside = |gone: &String| {
            gone.strip_prefix(&path).is_some_and(|rest| rest.starts_with(['.', '[']))
        };
        if !self.gone.iter().any(is_inside) {
            self.shapes.push(FieldProblem { path: path.clone(), ..mistake });
        }
        let taken = remove(left, &at);
        if taken && let Some((list, index)) = item(&path) {
            self.items.entry(list.to_owned()).or_default().insert(index);
        }
        self.gone.insert(path);
        taken
    }
}

/// A mistake as its writer is told of it. The path is empty for the whole text.
fn shape(error: serde_path_to_error::Error<serde_yaml::Error>) -> FieldProblem {
    let path = error.path().to_string();
    let message = error.into_inner().to_string();
    // The parser begins some messages with a shorter path of its own.
    let message = match message.split_once(": ") {
        Some((shorter, rest)) if path.starts_with(shorter) => rest.to_owned(),
        _ => message,
    };
    // Text that is no YAML has a place, but there is no field.
    let path = path.trim_end_matches('?').trim_end_matches('.').to_owned();
    FieldProblem { path, message: wording::plain(&message) }
}

/// The same, of a text that is not the file.
fn without_line(mistake: FieldProblem) -> FieldProblem {
    match mistake.message.rsplit_once(" at line ") {
        Some((said, _)) => FieldProblem { message: said.to_owned(), ..mistake },
        None => mistake,
    }
}

/// The list and the index, if a path ends with one: `groups[2]`.
fn item(path: &str) -> Option<(&str, usize)> {
    let (list, index) = path.strip_suffix(']')?.rsplit_once('[')?;
    Some((list, index.parse().ok()?))
}

/// Takes the field at a path out.
fn remove(value: &mut Value, path: &str) -> bool {
    if let Some((list, index)) = item(path) {
        let list = at(value, list).and_then(Value::as_sequence_mut);
        return list.filter(|list| index < list.len()).map(|list| list.remove(index)).is_some();
    }
    let (inside, name) = path.rsplit_once('.').unwrap_or(("", path));
    let inside = at(value, inside).and_then(Value::as_mapping_mut);
    inside.and_then(|inside| inside.shift_remove(name)).is_some()
}

fn at<'a>(value: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    if path.is_empty() {
        return Some(value);
    }
    if let Some((list, index)) = item(path) {
        return at(value, list)?.as_sequence_mut()?.get_mut(index);
    }
    let (inside, name) = path.rsplit_once('.').unwrap_or(("", path));
    at(value, inside)?.as_mapping_mut()?.get_mut(name)
}

/// The path in the text of what stands at `path` in what is left of it.
fn in_text(path: &str, items: &BTreeMap<String, BTreeSet<usize>>) -> String {
    let mut known = String::new();
    for part in path.split_inclusive(']') {
        let Some((before, mut index)) = item(part) else {
            known.push_str(part);
            continue;
        };
        known.push_str(before);
        for gone in items.get(&known).into_iter().flatten() {
            index += usize::from(*gone <= index);
        }
        let _ = write!(known, "[{index}]");
    }
    known
}

/// Whether a value may be wrong only because of what was taken out.
fn depends_on(path: &str, gone: &BTreeSet<String>) -> bool {
    let of = |path: &str, field: &str| path == field || path.starts_with(&format!("{field}."));
    if of(path, "listen") && gone.iter().any(|gone| of(gone, "listen")) {
        return true;
    }
    // What stands under no name that is known may have been meant for these.
    let for_peers =
        |gone: &String| of(gone, "tls") || of(gone, "insecurePeers") || !gone.contains(['.', '[']);
    (path == "listen.peers" || of(path, "discovery")) && gone.iter().any(for_peers)
}

#[cfg(test)]
mod tests {
    use crate::args::Overrides;
    use crate::config::resolve;

    #[test]
    fn what_is_written_is_read_back() {
        let read = |text: &[u8]| resolve(text, &Overrides::default()).unwrap();
        let config = read(include_bytes!("../../../examples/agent.yaml"));
        let text = serde_yaml::to_string(&config).unwrap();
        assert_eq!(read(text.as_bytes()), config, "{text}");
    }
}
