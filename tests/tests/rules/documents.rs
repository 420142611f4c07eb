//! Every alert has a page, and every page an alert; dashboards are as Grafana takes them.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::prometheus::root;

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What follows `key` at the start of lines of the rules.
fn in_rules(key: &str) -> Vec<String> {
    let text = read("charts/coppice/rules/coppice.yaml");
    text.lines().filter_map(|line| line.trim().strip_prefix(key)).map(str::to_owned).collect()
}

#[test]
fn every_alert_has_a_page_and_every_page_an_alert() {
    let alerts = in_rules("- alert: ");
    assert!(!alerts.is_empty(), "the rules have alerts");
    let pages: Vec<_> = alerts.iter().map(|alert| format!("docs/runbooks/{alert}.md")).collect();
    assert_eq!(in_rules("runbook_url: "), pages, "each alert names its own page");

    let there: BTreeSet<_> = fs::read_dir(root().join("docs/runbooks"))
        .expect("there are pages")
        .map(|file| file.expect("it is readable").file_name().to_string_lossy().into_owned())
        .filter(|name| name != "README.md")
        .map(|name| format!("docs/runbooks/{name}"))
        .collect();
    assert_eq!(there, pages.iter().cloned().collect(), "pages, and alerts");

    let index = read("docs/runbooks/README.md");
    for (alert, page) in alerts.iter().zip(&pages) {
        let text = read(page);
        assert!(text.starts_with(&format!("# {alert}\n")), "{page} begins with its name");
        for part in ["## What it means", "## What to look at", "## How to mend it"] {
            assert!(text.contains(&format!("\n{part}\n")), "{page} lacks {part:?}");
        }
        assert!(index.contains(&format!("({alert}.md)")), "the index lacks {alert}");
    }
}

#[test]
fn every_alert_says_how_severe_it_is_and_what_it_is() {
    let alerts = in_rules("- alert: ").len();
    for key in ["severity: ", "summary: ", "description: "] {
        assert_eq!(in_rules(key).len(), alerts, "one {key:?} for each alert");
    }
    let severities: BTreeSet<_> = in_rules("severity: ").into_iter().collect();
    assert!(
        severities
            .iter()
            .all(|severity| ["critical", "warning", "info"].contains(&severity.as_str()))
    );
}

#[test]
fn dashboards_take_their_data_source_from_a_variable() {
    for name in ["groups", "operator"] {
        let dashboard: Value =
            serde_json::from_str(&read(&format!("charts/coppice/dashboards/{name}.json")))
                .expect("JSON");
        assert_eq!(dashboard["templating"]["list"][0]["type"], "datasource", "{name}");
        let panels = dashboard["panels"].as_array().expect("it has panels");
        let mut ids = BTreeSet::new();
        for panel in panels {
            let title = &panel["title"];
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{name}: {title}");
            assert!(ids.insert(panel["id"].to_string()), "{name}: {title}: its id is there twice");
            assert!(panel["targets"][0]["expr"].is_string(), "{name}: {title}");
        }
    }
}

#[test]
fn every_figure_is_one_that_a_program_shows() {
    let mut sources = String::new();
    for folder in ["agent/src", "operator/src"] {
        gather(&root().join(folder), &mut sources);
    }
    let mut shown = read("charts/coppice/rules/coppice.yaml");
    for name in ["groups", "operator"] {
        shown.push_str(&read(&format!("charts/coppice/dashboards/{name}.json")));
    }
    let names: BTreeSet<_> = shown
        .split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| word.starts_with("coppice_"))
        .map(|word| {
            let suffixes = ["_bucket", "_sum", "_count"];
            suffixes.iter().find_map(|suffix| word.strip_suffix(suffix)).unwrap_or(word)
        })
        .collect();
    assert!(names.len() > 30, "{names:?}");
    for name in names {
        // The operator puts its prefix before most of its own.
        let short = name.strip_prefix("coppice_operator_").unwrap_or(name);
        let is_there = |name: &str| sources.contains(&format!("\"{name}\""));
        assert!(is_there(name) || is_there(short), "nobody shows {name}");
    }
}

/// Adds the text of all Rust files below `folder`.
fn gather(folder: &std::path::Path, text: &mut String) {
    for file in fs::read_dir(folder).expect("it is a folder") {
        let path = file.expect("it is readable").path();
        if path.is_dir() {
            gather(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).expect("it is text"));
        }
    }
}
