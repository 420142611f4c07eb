//! What is asked of Prometheus, from rules and dashboards.

use std::fmt;
use std::fs;
use std::path::Path;

use coppice_tests::trio::Failure;
use serde_json::Value;

/// Figures of agents that only those in a cluster show, beside the operator's.
const IN_CLUSTERS_ONLY: [&str; 7] = [
    "coppice_operator_",
    "coppice_orphaned_groups",
    "coppice_refused_groups",
    "coppice_published_problems",
    "coppice_discovery_",
    "coppice_certificate_requests_total",
    "coppice_store_limit_",
];

/// Something that must have data.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// Where it stands: an alert, or a panel.
    pub(crate) place: String,
    /// What Prometheus is asked, without variables.
    pub(crate) expression: String,
}

impl Figure {
    /// Whether no agent on loopback could show it.
    pub(crate) fn is_of_clusters_only(&self) -> bool {
        let named = |name: &&str| self.expression.contains(*name);
        // The operator's certificates carry their name.
        IN_CLUSTERS_ONLY.iter().any(named) || self.expression.contains("certificate!=")
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.expression)
    }
}

/// The figures of alerts, by name and expression.
pub(crate) fn of_rules(alerts: Vec<(String, String)>) -> Vec<Figure> {
    let figures = |(name, expression): (String, String)| {
        let parts = figures_of(&expression);
        assert!(!parts.is_empty(), "{name} has no bound: {expression}");
        parts.into_iter().map(move |expression| Figure { place: name.clone(), expression })
    };
    alerts.into_iter().flat_map(figures).collect()
}

/// The expressions of all panels of the dashboards in a folder, with all variables
/// standing for everything.
pub(crate) fn of_dashboards(folder: &Path) -> Result<Vec<Figure>, Failure> {
    let mut all = Vec::new();
    for file in fs::read_dir(folder)? {
        let dashboard: Value = serde_json::from_str(&fs::read_to_string(file?.path())?)?;
        for panel in dashboard["panels"].as_array().into_iter().flatten() {
            let place = format!("{} / {}", dashboard["title"], panel["title"]);
            for target in panel["targets"].as_array().into_iter().flatten() {
                let written = target["expr"].as_str().unwrap_or_default();
                let expression = ["$namespace", "$group"]
                    .iter()
                    .fold(written.to_owned(), |text, name| text.replace(name, ".*"))
                    .replace("$__rate_interval", "1m");
                assert!(!expression.contains('$'), "{place}: a variable that nobody replaces");
                all.push(Figure { place: place.clone(), expression });
            }
        }
    }
    Ok(all)
}

/// What stands before each bound of an alert: `a > 1 and b < 2` is about `a` and `b`.
fn figures_of(expression: &str) -> Vec<String> {
    let mut figures = Vec::new();
    let mut depth = 0_usize;
    let mut in_quotes = false;
    let mut figure = String::new();
    let mut bounded = false;
    for word in expression.split_inclusive([' ', '\n']) {
        let outside = depth == 0 && !in_quotes;
        match word.trim() {
            "and" if outside => bounded = false,
            "<" | ">" | "==" | "!=" | "<=" | ">=" if outside => {
                figures.push(std::mem::take(&mut figure).trim().to_owned());
                bounded = true;
            }
            _ if bounded => {}
            _ => figure.push_str(word),
        }
        for letter in word.chars() {
            match letter {
                '"' => in_quotes = !in_quotes,
                '(' | '{' | '[' if !in_quotes => depth += 1,
                ')' | '}' | ']' if !in_quotes => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
    }
    figures
}

#[test]
fn a_figure_is_what_stands_before_a_bound() {
    assert_eq!(figures_of("sum(a{b=\"c > d\"}) > 1"), ["sum(a{b=\"c > d\"})"]);
    assert_eq!(figures_of("a < 1\n  and sum by (x) (b) > 0"), ["a", "sum by (x) (b)"]);
    assert_eq!(figures_of("a / (b > 0) > 0.8"), ["a / (b > 0)"], "a filter within is no bound");
    assert!(figures_of("absent(a)").is_empty());
}
