//! Helm, as `scripts/helm` runs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// The chart of the operator.
pub(crate) const CHART: &str = "charts/coppice";

/// Ways to install that are rendered, linted and applied: a name, and Helm's flags.
pub(crate) const PRESETS: [(&str, &[&str]); 5] = [
    ("default", &[]),
    ("ha", &["--values", "charts/coppice/values-ha.yaml"]),
    ("some namespaces", &["--set", "watchNamespaces={shop,blog}"]),
    ("monitored", &["--set", "monitoring.enabled=true"]),
    (
        "least",
        &[
            "--set",
            "replicas=1,podDisruptionBudget.enabled=false,networkPolicy.enabled=false,\
             injection.policy=Warn,injection.retryDenied=false",
        ],
    ),
];

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a member has a parent").to_owned()
}

/// Runs a program in the root, with `input`; what it printed, or its complaint.
pub(crate) fn run(program: &str, arguments: &[&str], input: &str) -> Result<String, String> {
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    // Written by a thread, so that neither side waits for the other.
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_owned();
    let writing =
        std::thread::spawn(move || std::io::Write::write_all(&mut stdin, input.as_bytes()));
    let output = child.wait_with_output().map_err(|error| format!("{program}: {error}"))?;
    // A program that ends without reading all has said why.
    let _ = writing.join();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{program} {}: {said}", arguments.join(" ")))
}

/// Runs Helm.
pub(crate) fn helm(arguments: &[&str]) -> Result<String, String> {
    run("scripts/helm", arguments, "")
}

/// The objects that the chart makes with these flags.
pub(crate) fn rendered(flags: &[&str]) -> Vec<Value> {
    let mut arguments = vec!["template", "coppice", CHART, "--output", "json"];
    arguments.extend(flags);
    let text = helm(&arguments).unwrap_or_else(|error| panic!("{error}"));
    serde_json::from_str(&text).expect("a list of objects")
}

/// Those of one kind.
pub(crate) fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// The one of this kind and name.
pub(crate) fn named<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let mut found = of_kind(objects, kind).into_iter();
    found
        .find(|object| object["metadata"]["name"] == name)
        .unwrap_or_else(|| panic!("no {kind} {name} is rendered"))
}

/// The items of a list.
pub(crate) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The texts of a list.
pub(crate) fn texts(value: &Value) -> Vec<&str> {
    items(value).iter().filter_map(Value::as_str).collect()
}
