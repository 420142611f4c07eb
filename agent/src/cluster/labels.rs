//! The pod's labels, as the downward API writes them: a line each, `key="value"`.
//!
//! The value is in double quotes, escaped as Go's `strconv.Quote` does. A legal label
//! needs no escape at all; an illegal one is read all the same, for other labels may
//! be the ones that matter.

use std::collections::BTreeMap;

/// A pod's labels.
pub(super) type Labels = BTreeMap<String, String>;

/// A line that is no `key="value"`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the pod's labels is not key=\"value\"")]
pub(super) struct BadLabels {
    line: usize,
}

/// Reads the file's text.
///
/// # Errors
///
/// [`BadLabels`] for the first line that cannot be read.
pub(super) fn parse(text: &str) -> Result<Labels, BadLabels> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(index, line)| label(line).ok_or(BadLabels { line: index + 1 })).collect()
}

fn label(line: &str) -> Option<(String, String)> {
    let (key, quoted) = line.split_once('=').filter(|(key, _)| !key.is_empty())?;
    let value = quoted.trim_end().strip_prefix('"')?.strip_suffix('"')?;
    Some((key.to_owned(), unescape(value)?))
}

/// The text between quotes; `None` if an escape is cut off or unknown.
fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        match next {
            '"' => return None,
            '\\' => out.push(match rest.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'a' => '\u{7}',
                'b' => '\u{8}',
                'f' => '\u{c}',
                'v' => '\u{b}',
                'x' => hexadecimal(&mut rest, 2)?,
                'u' => hexadecimal(&mut rest, 4)?,
                'U' => hexadecimal(&mut rest, 8)?,
                plain @ ('\\' | '"' | '\'') => plain,
                _ => return None,
            }),
            plain => out.push(plain),
        }
    }
    Some(out)
}

fn hexadecimal(rest: &mut std::str::Chars<'_>, digits: usize) -> Option<char> {
    let text: String = rest.take(digits).collect();
    if text.len() != digits || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u32::from_str_radix(&text, 16).ok().and_then(char::from_u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_a_line_each() {
        let text =
            "app=\"web\"\ncoppice.dev/inject=\"true\"\nempty=\"\"\npod-template-hash=\"5f\"\n";
        let labels = parse(text).unwrap();
        assert_eq!(labels.len(), 4);
        assert_eq!(labels["app"], "web");
        assert_eq!(labels["coppice.dev/inject"], "true");
        assert_eq!(labels["empty"], "");
        assert_eq!(parse("").unwrap(), Labels::new(), "a pod without labels");
    }

    #[test]
    fn values_are_unescaped() {
        for (quoted, value) in [
            (r#"a\"b"#, "a\"b"),
            (r"a\\b", "a\\b"),
            (r"a\nb\tc", "a\nb\tc"),
            (r"\u00e9\x41", "éA"),
            ("a=b", "a=b"),
        ] {
            assert_eq!(parse(&format!("k=\"{quoted}\"")).unwrap()["k"], value);
        }
    }

    #[test]
    fn what_is_half_written_is_refused() {
        for text in
            ["app=\"we", "app=web", "app", "=\"a\"", "app=\"a\"b\"", r#"app="\q""#, r#"app="\u12""#]
        {
            assert_eq!(parse(&format!("ok=\"1\"\n{text}")), Err(BadLabels { line: 2 }), "{text}");
        }
    }
}
