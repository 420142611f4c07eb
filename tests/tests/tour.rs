//! The README held against the agent: its tour is run as it stands, its table
//! of settings lists exactly the settings there are, its examples are accepted.
//!
//! The tour's blocks run in one shell, on free ports in place of those it names.
//! In expected output `<word>` stands for a run of letters, digits, dots, colons
//! and hyphens, and for the same run wherever it stands in that block.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use coppice_api::AgentConfig;
use serde_json::Value;

/// The ports that the tour names; the first three are the agent's defaults.
const PORTS: [&str; 6] = ["4437", "4438", "4439", "5437", "5438", "5439"];

/// Stands in the output between two blocks.
const MARK: &str = "=== end of block ===";

/// A block of commands and what it prints.
struct Block {
    commands: String,
    expected: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a member's folder").to_owned()
}

/// The section of the README under this heading.
fn section(heading: &str) -> String {
    let readme = fs::read_to_string(root().join("README.md")).expect("there is a README");
    let begin = format!("\n## {heading}\n");
    let (_, rest) = readme.split_once(&begin).expect("the README has the section");
    rest.split("\n## ").next().unwrap_or_default().to_owned()
}

/// The agent's binary, which cargo builds beside the folder of this test's.
fn agent() -> PathBuf {
    let this = std::env::current_exe().expect("a program knows where it is");
    let folder = this.ancestors().nth(2).expect("target/<profile>/deps/<test>");
    let agent = folder.join("coppice-agent");
    assert!(agent.exists(), "{} is missing: run `make build` first", agent.display());
    agent
}

/// The blocks of commands in `text`, each with the block of output behind it.
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut fences = text.split("\n```").skip(1);
    // Fences open and close in turns.
    while let (Some(opened), Some(_closed)) = (fences.next(), fences.next()) {
        let (language, inside) = opened.split_once('\n').expect("a fence is a line");
        match (language, blocks.last_mut()) {
            ("sh", _) => {
                blocks.push(Block { commands: inside.to_owned(), expected: String::new() });
            }
            ("text", Some(block)) => inside.clone_into(&mut block.expected),
            _ => {}
        }
    }
    blocks
}

/// Ports that were free a moment ago, one for each that the tour names.
fn free_ports() -> Vec<String> {
    let bind = || TcpListener::bind(("127.0.0.1", 0)).expect("loopback has free ports");
    let taken: Vec<TcpListener> = PORTS.iter().map(|_| bind()).collect();
    let port = |listener: &TcpListener| listener.local_addr().expect("it is bound").port();
    taken.iter().map(|listener| port(listener).to_string()).collect()
}

/// `text` with other ports. In two steps, since a new port may look like an old.
fn with_ports(text: &str, ports: &[String]) -> String {
    let mut text = text.to_owned();
    for (index, port) in PORTS.iter().enumerate() {
        text = text.replace(port, &format!("\u{1}{index}"));
    }
    for (index, port) in ports.iter().enumerate() {
        text = text.replace(&format!("\u{1}{index}"), port);
    }
    text
}

/// Runs the blocks in one shell, and gives what each printed.
fn run(blocks: &[Block], ports: &[String], folder: &Path) -> Vec<String> {
    // Whatever happens, no agent stays behind.
    let mut script = "trap 'kill -9 $(jobs -p) 2> /dev/null' EXIT\n".to_owned();
    for block in blocks {
        let commands = with_ports(&block.commands, ports);
        let _ = write!(script, "{commands}\necho '{MARK}'\n");
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let agent = agent();
    let beside = agent.parent().expect("a binary is in a folder").display();
    let output = Command::new("timeout")
        .args(["--kill-after=5", "120", "bash", "-c", &script])
        .current_dir(folder)
        .env("PATH", format!("{beside}:{path}"))
        // The first agent of the tour listens where agents do by default.
        .env("COPPICE_LISTEN_APP", format!("127.0.0.1:{}", ports[0]))
        .env("COPPICE_LISTEN_PEERS", format!("127.0.0.1:{}", ports[1]))
        .env("COPPICE_LISTEN_OPERATIONS", format!("127.0.0.1:{}", ports[2]))
        .stdin(Stdio::null())
        .output()
        .expect("bash and timeout are installed");
    let printed = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the tour ended with {}:\n{printed}\n{said}", output.status);
    printed.split(&format!("{MARK}\n")).map(str::to_owned).collect()
}

/// Splits `text` behind its first `<word>`: what stands before it, and the word.
fn next_placeholder(text: &str) -> Option<(&str, &str, &str)> {
    let is_word = |word: &str| {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !word.is_empty() && word.bytes().all(allowed)
    };
    let (before, rest) = text.split_once('<')?;
    let (word, after) = rest.split_once('>')?;
    is_word(word).then_some((before, word, after))
}

/// Whether `found` is what `expected` says, given what its words stood for above.
fn matches<'a>(
    mut expected: &'a str,
    mut found: &'a str,
    words: &mut BTreeMap<&'a str, &'a str>,
) -> bool {
    while let Some((before, word, after)) = next_placeholder(expected) {
        let Some(rest) = found.strip_prefix(before) else { return false };
        let stands = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-');
        let (value, rest) = rest.split_at(rest.find(|c| !stands(c)).unwrap_or(rest.len()));
        if value.is_empty() || *words.entry(word).or_insert(value) != value {
            return false;
        }
        (expected, found) = (after, rest);
    }
    expected == found
}

/// Fails if a block did not print what the README shows.
fn compare(block: &Block, printed: &str) {
    let mut words = BTreeMap::new();
    let expected: Vec<&str> = block.expected.lines().collect();
    let found: Vec<&str> = printed.lines().collect();
    for (line, found) in expected.iter().zip(&found) {
        assert!(
            matches(line, found, &mut words),
            "the README shows\n  {line}\nand the agent answers\n  {found}\nto one of\n{}",
            block.commands
        );
    }
    assert_eq!(found.len(), expected.len(), "{}\nprinted\n{printed}", block.commands);
}

#[test]
fn tour_prints_what_the_readme_shows() {
    let blocks = blocks(&section("Tour"));
    assert!(blocks.len() > 5, "the tour has blocks of commands");
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tour-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("the target folder is ours");
    let ports = free_ports();
    let printed = run(&blocks, &ports, &folder);
    for (block, printed) in blocks.iter().zip(&printed) {
        compare(block, printed);
    }
    assert_eq!(printed.len(), blocks.len() + 1, "each block came to its end");
    fs::remove_dir(&folder).expect("the tour leaves nothing behind");
}

#[test]
fn words_stand_for_one_value_in_a_block() {
    let agree = |expected, found| matches(expected, found, &mut BTreeMap::new());
    assert!(agree(r#"{"etag":"<e>"} <e>"#, r#"{"etag":"a1"} a1"#));
    assert!(!agree(r#"{"etag":"<e>"} <e>"#, r#"{"etag":"a1"} a2"#));
    assert!(!agree("<e>", ""), "a word stands for something");
    assert!(!agree("x <e>", "x a b"), "and for no more than a run");
}

/// The fields of a configuration with their values, lists by their first item.
fn fields(path: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let dot = if path.is_empty() { "" } else { "." };
                fields(&format!("{path}{dot}{name}"), value, found);
            }
        }
        Value::Array(items) if items.first().is_some_and(Value::is_object) => {
            fields(&format!("{path}[]"), &items[0], found);
        }
        Value::String(text) => _ = found.insert(path.to_owned(), text.clone()),
        other => _ = found.insert(path.to_owned(), other.to_string()),
    }
}

#[test]
fn table_of_settings_lists_what_there_is_with_its_defaults() {
    let given = r#"{"tls": {"ca": "", "certificate": "", "key": ""}, "groups": [{"name": "a",
        "id": "7d2f0f52-6a6c-4f0e-9a59-0f6a2c1f4b11", "crdt": {"type": "GSet"}}]}"#;
    let config: AgentConfig = serde_json::from_str(given).expect("all else has defaults");
    let mut actual = BTreeMap::new();
    fields("", &serde_json::to_value(config).expect("it can be written"), &mut actual);

    let table = section("Configuration");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let listed: BTreeMap<String, String> = rows
        .filter_map(|row| {
            let (field, rest) = row.split_once("` | ")?;
            let (default, _) = rest.split_once(" |")?;
            Some((field.to_owned(), default.to_owned()))
        })
        .collect();

    let names = |fields: &BTreeMap<String, String>| fields.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&listed), names(&actual), "the README's fields, and the agent's");
    for (field, default) in &listed {
        // What is not in backticks is no value: "required", "the host's name".
        if let Some(value) = default.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')) {
            assert_eq!(value, actual[field], "the default of {field}");
        }
    }
}

#[test]
fn examples_are_accepted() {
    let examples = fs::read_dir(root().join("examples")).expect("there are examples");
    for example in examples {
        let path = example.expect("the folder can be read").path();
        // What is for Kubernetes is held against its definition, in crates/api and on a cluster.
        let is_manifest = |text: String| text.lines().any(|line| line.starts_with("apiVersion:"));
        if path.is_dir() || fs::read_to_string(&path).is_ok_and(is_manifest) {
            continue;
        }
        let checked = Command::new(agent()).arg("check-config").arg(&path).output();
        let checked = checked.expect("the agent can be run");
        let said = String::from_utf8_lossy(&checked.stderr);
        // The certificates of an example are the reader's to make.
        let lacks_files = |line: &str| line.contains("tls.") && line.contains(": cannot read ");
        let is_good = checked.status.success() || said.lines().all(lacks_files);
        assert!(is_good, "{}: {said}", path.display());
    }
}
