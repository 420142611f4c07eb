//! What a parser says of a wrong shape, in the words of who wrote the file.
//!
//! The parser names Rust's types. What it says otherwise, and what is not known
//! here, stays as it is.

/// The message, with YAML's words in place of Rust's.
pub(super) fn plain(message: &str) -> String {
    if message.contains("UUID parsing failed") {
        let place = message.rsplit_once(" at line ").map(|(_, place)| format!(" at line {place}"));
        let example = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
        return format!("is not a UUID such as {example}{}", place.unwrap_or_default());
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        return format!("unknown value {rest}");
    }
    let mistaken = ["invalid type: ", "invalid value: "];
    let mistaken = mistaken.iter().find_map(|prefix| message.strip_prefix(prefix));
    // What was found may hold any text; what was expected holds none of the file's.
    let Some((found, expected)) = mistaken.and_then(|rest| rest.rsplit_once(", expected ")) else {
        return message.to_owned();
    };
    let (expected, place) = match expected.split_once(" at line ") {
        Some((expected, place)) => (expected, format!(" at line {place}")),
        None => (expected, String::new()),
    };
    format!("expected {}, and this is {}{place}", wanted(expected), shown(found))
}

/// The message about the field at `path`, with what only the file's text tells: where
/// a field stands twice, and a tab that nobody sees.
pub(super) fn in_text(message: String, path: &str, text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let twice = message.strip_prefix("duplicate field `").and_then(|rest| rest.split_once('`'));
    if let (Some((field, _)), true) = (twice, path.is_empty()) {
        let is_field = |line: &str| {
            line.strip_prefix(field).is_some_and(|rest| rest.trim_start().starts_with(':'))
        };
        let lines = text.lines().zip(1..).filter(|(line, _)| is_field(line));
        let lines: Vec<_> = lines.map(|(_, number): (_, usize)| number.to_string()).collect();
        if lines.len() > 1 {
            return format!("`{field}` is there more than once, on lines {}", lines.join(" and "));
        }
    }
    let is_tab = |line: &str| line[..line.len() - line.trim_start().len()].contains('\t');
    let place = message
        .rsplit_once(" at line ")
        .and_then(|(_, place)| place.split(' ').next()?.parse().ok());
    let tab = text.lines().zip(1usize..).find(|(line, _)| is_tab(line)).map(|(_, number)| number);
    match (place, tab) {
        (Some(place), Some(tab)) if tab.abs_diff(place) <= 1 => {
            format!("{message}; line {tab} is indented with a tab, and YAML allows spaces only")
        }
        _ => message,
    }
}

fn wanted(expected: &str) -> &str {
    match expected {
        "a sequence" => "a list",
        "a map" => "fields (name: value)",
        "a boolean" => "true or false",
        "path string" => "a path",
        "u16" | "u32" | "u64" | "usize" => "a whole number from 0 on",
        other if other.starts_with("struct ") => "fields (name: value)",
        other => other,
    }
}

fn shown(found: &str) -> &str {
    match found {
        "sequence" => "a list",
        "map" => "fields (name: value)",
        "unit value" => "empty",
        other => {
            let text = other.strip_prefix("string ").unwrap_or(other);
            let number = text.split_once('`').and_then(|(_, rest)| rest.split_once('`'));
            number.filter(|_| !text.starts_with('"')).map_or(text, |(number, _)| number)
        }
    }
}
