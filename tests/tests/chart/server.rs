//! What a real API server makes of what is rendered.

use std::env;

use serde_json::Value;

use super::helm::{CHART, PRESETS, helm, rendered, run};

/// Not sent to a server without the Prometheus Operator.
const NOT_KUBERNETES: &str = "monitoring.coreos.com/v1";

/// Whether there is a cluster; without one that is said, or fails where one is required.
fn has_cluster(test: &str) -> bool {
    if env::var_os("KUBECONFIG").is_some() {
        return true;
    }
    let is_required = env::var("COPPICE_REQUIRE_CLUSTER").is_ok_and(|value| value == "1");
    assert!(!is_required, "{test}: nothing was shown: KUBECONFIG names no cluster");
    coppice_tests::progress::say(&format!(
        "SKIPPED {test}: nothing was shown: KUBECONFIG names no cluster"
    ));
    false
}

fn kubectl(arguments: &[&str], input: &str) -> Result<String, String> {
    run("kubectl", arguments, input)
}

#[test]
#[ignore = "needs Helm: make chart"]
fn the_api_server_takes_every_object() {
    if !has_cluster("the_api_server_takes_every_object") {
        return;
    }
    for (preset, flags) in PRESETS {
        let mut objects = rendered(flags);
        objects.retain(|object| object["apiVersion"] != NOT_KUBERNETES);
        for object in &mut objects {
            // Nothing of a chart that is installed: an apply by another would be merged with it.
            let name = object["metadata"]["name"].as_str().expect("each has a name");
            object["metadata"]["name"] = Value::from(format!("{name}-dry"));
            // A namespace that is there: a dry run makes none.
            if object["metadata"]["namespace"].is_string() {
                object["metadata"]["namespace"] = Value::from("default");
            }
        }
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
        let apply = [
            "apply",
            "--server-side",
            "--dry-run=server",
            "--force-conflicts",
            "--validate=strict",
            "--field-manager=chart-test",
            "--filename=-",
        ];
        let said =
            kubectl(&apply, &list.to_string()).unwrap_or_else(|error| panic!("{preset}: {error}"));
        assert_eq!(said.lines().count(), objects.len(), "{preset}: {said}");
    }
}

#[test]
#[ignore = "needs Helm: make chart"]
fn an_older_kubernetes_is_refused() {
    if !has_cluster("an_older_kubernetes_is_refused") {
        return;
    }
    // No such server is at hand, so the chart is made to ask for one yet to come.
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("coppice");
    let copy = copy.to_str().expect("UTF-8");
    run("cp", &["-r", CHART, copy], "").expect("it is copied");
    let description = format!("{copy}/Chart.yaml");
    let text = std::fs::read_to_string(&description).expect("it is there");
    std::fs::write(&description, text.replace(">=1.33.0-0", ">=9.0.0-0")).expect("it is writable");

    let refusal =
        helm(&["install", "chart-test", copy, "--namespace", "default", "--dry-run", "server"]);
    let refusal = refusal.expect_err("the server is older than that");
    assert!(refusal.contains("requires kubeVersion: >=9.0.0-0"), "{refusal}");
}
