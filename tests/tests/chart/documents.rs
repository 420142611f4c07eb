//! What stands beside the templates is as they are.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use serde_json::Value;

use super::helm::{CHART, root, run};

const START: &str = "<!-- values: start -->\n";
const END: &str = "<!-- values: end -->";

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// One value: its path, default and comment.
struct Described {
    path: String,
    default: String,
    comment: String,
}

/// The values of `values.yaml`, as far down as they are described: below a comment
/// that nothing deeper adds to, a value is shown whole.
fn described_values() -> Vec<Described> {
    let text = read(&format!("{CHART}/values.yaml"));
    let mut found: Vec<Described> = Vec::new();
    let mut comment = String::new();
    let mut parents: Vec<(usize, String)> = Vec::new();
    for line in text.lines() {
        let trimmed = line.trim();
        if let Some(words) = trimmed.strip_prefix('#') {
            comment = format!("{comment} {}", words.trim());
            continue;
        }
        if trimmed.is_empty() {
            comment.clear();
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        parents.retain(|(depth, _)| *depth < indent);
        let (key, value) = trimmed.split_once(':').expect("a line of values.yaml has a key");
        parents.push((indent, key.to_owned()));
        let path: Vec<_> = parents.iter().map(|(_, key)| key.as_str()).collect();
        found.push(Described {
            path: path.join("."),
            default: value.trim().to_owned(),
            comment: std::mem::take(&mut comment).trim().to_owned(),
        });
    }
    found
}

/// What the chart's README says of the values.
fn table() -> String {
    let mut table = "| value | default | what |\n|---|---|---|\n".to_owned();
    let mut section = String::new();
    for value in described_values() {
        if value.default.is_empty() {
            // A part without a comment of its own belongs to what is around it.
            if !value.comment.is_empty() {
                section = value.comment;
            }
            continue;
        }
        let comment = if value.comment.is_empty() { &section } else { &value.comment };
        // Writing to a string does not fail.
        let _ = writeln!(table, "| `{}` | `{}` | {comment} |", value.path, value.default);
    }
    table
}

#[test]
fn every_value_is_described() {
    let mut section = (String::new(), false);
    for value in described_values() {
        let is_described = !value.comment.is_empty();
        if value.default.is_empty() {
            let inherits = value.path.starts_with(&format!("{}.", section.0)) && section.1;
            assert!(is_described || inherits, "{} has no comment in values.yaml", value.path);
            if is_described {
                section = (value.path, true);
            }
            continue;
        }
        let inherits = value.path.starts_with(&format!("{}.", section.0));
        assert!(is_described || inherits, "{} has no comment in values.yaml", value.path);
    }
}

#[test]
fn the_readme_lists_the_values() {
    let path = root().join(CHART).join("README.md");
    let text = fs::read_to_string(&path).expect("the chart has a README");
    let (before, rest) = text.split_once(START).expect("the README has a place for values");
    let (listed, after) = rest.split_once(END).expect("the README's values end");
    let expected = table();
    if std::env::var("COPPICE_UPDATE").is_ok_and(|value| value == "1") {
        fs::write(&path, format!("{before}{START}{expected}{END}{after}")).expect("it is writable");
        return;
    }
    assert_eq!(listed, expected, "`make manifests` writes the list anew");
}

#[test]
fn the_schema_knows_each_value_and_no_other() {
    let schema: Value =
        serde_json::from_str(&read(&format!("{CHART}/values.schema.json"))).expect("JSON");
    for value in described_values() {
        let mut place = &schema;
        for key in value.path.split('.') {
            if let Some(name) =
                place["$ref"].as_str().and_then(|name| name.strip_prefix("#/$defs/"))
            {
                place = &schema["$defs"][name];
            }
            let is_map = place["additionalProperties"].is_object();
            place = if is_map { &place["additionalProperties"] } else { &place["properties"][key] };
            assert!(!place.is_null(), "values.schema.json does not know {} of {}", key, value.path);
        }
    }
    assert_strict(&schema, "");
}

/// Where properties are listed, others are refused; but what is Kubernetes' own is not
/// repeated.
fn assert_strict(schema: &Value, path: &str) {
    let is_open = schema["properties"].is_object()
        && schema["additionalProperties"] != Value::Bool(false)
        && !path.ends_with("/podSecurityContext");
    assert!(!is_open, "{path} of values.schema.json allows what it does not list");
    if let Some(object) = schema.as_object() {
        for (key, inner) in object {
            assert_strict(inner, &format!("{path}/{key}"));
        }
    }
}

#[test]
fn both_charts_are_of_this_release_and_ask_for_the_same_kubernetes() {
    let lines = |path: &str| -> BTreeSet<String> {
        let wanted = ["version:", "appVersion:", "kubeVersion:"];
        let text = read(path);
        let lines = text.lines().filter(|line| wanted.iter().any(|key| line.starts_with(key)));
        lines.map(str::to_owned).collect()
    };
    let release = env!("CARGO_PKG_VERSION");
    let expected = BTreeSet::from([
        format!("version: {release}"),
        format!("appVersion: {release}"),
        "kubeVersion: \">=1.33.0-0\"".to_owned(),
    ]);
    for chart in [CHART, "charts/coppice-crds"] {
        assert_eq!(lines(&format!("{chart}/Chart.yaml")), expected, "{chart}");
    }
}

#[test]
#[ignore = "needs Helm: make chart"]
fn the_plain_manifests_are_those_of_the_chart() {
    let rendered = run("scripts/manifests", &[], "").unwrap_or_else(|error| panic!("{error}"));
    assert!(
        rendered == read("deploy/coppice.yaml"),
        "`make manifests` writes deploy/coppice.yaml anew"
    );
}

#[test]
fn images_are_built_by_the_pinned_toolchain_from_all_members() {
    let pinned = read("rust-toolchain.toml");
    let channel = pinned
        .lines()
        .find_map(|line| line.strip_prefix("channel = \"")?.strip_suffix('"'))
        .expect("a toolchain is pinned");
    let dockerfile = read("Dockerfile");
    let builder = format!("\nARG BUILDER_IMAGE=rust:{channel}-bookworm\n");
    assert!(dockerfile.contains(&builder), "Dockerfile builds with rust {channel}");
    let named = dockerfile.lines().filter(|line| line.starts_with("FROM "));
    for line in named {
        let image = line.split_whitespace().nth(1).expect("FROM has an image");
        let is_stage = ["build", "runtime"].contains(&image);
        assert!(is_stage || image.starts_with("${"), "{line}: images are arguments, at the top");
    }
    let manifest = read("Cargo.toml");
    let members = manifest.lines().find(|line| line.starts_with("members = ")).expect("members");
    let sent = read(".dockerignore");
    for member in members.split('"').skip(1).step_by(2) {
        let folder = member.split('/').next().expect("a first part");
        assert!(sent.contains(&format!("\n!{folder}\n")), ".dockerignore keeps {folder} away");
    }
}
