//! Groups and the pods that they select.

use std::time::Duration;

use coppice_tests::cluster::{Failure, Kubectl, Workload, test, until};
use coppice_tests::progress::say;
use serde_json::{Value, json};
use tokio::time::Instant;

/// A group of one type whose members are the pods of one app.
pub(crate) fn group(name: &str, crdt_type: &str, app: &str) -> Value {
    json!({
        "apiVersion": "coppice.dev/v1alpha1", "kind": "ReplicationGroup",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": app}},
            "crdt": {"type": crdt_type},
            "sync": {"interval": "1s"},
        },
    })
}

/// A condition of a group: status, reason and message.
pub(crate) fn condition(group: &Value, name: &str) -> (String, String, String) {
    let mut conditions = group["status"]["conditions"].as_array().into_iter().flatten();
    let found = conditions.find(|condition| condition["type"] == name).cloned().unwrap_or_default();
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"), text("message"))
}

/// Waits until the group is ready with so many members.
pub(crate) fn ready(kubectl: &Kubectl, name: &str, members: &str) -> Result<Duration, Failure> {
    let what = format!("group {name} is ready with {members}");
    let look = || -> Result<(), Failure> {
        let group = kubectl.get("replicationgroup", name)?;
        let is_ready = condition(&group, "Ready").0 == "True";
        if is_ready && group["status"]["members"] == members {
            return Ok(());
        }
        Err(Failure(group["status"].to_string()))
    };
    until(&what, Duration::from_secs(60), look).map(|((), elapsed)| elapsed)
}

/// The value of an object, as the app of a pod reads it.
pub(crate) fn value_at(kubectl: &Kubectl, pod: &str, path: &str) -> Result<Value, Failure> {
    let answer = kubectl.exec(pod, &["coppice-test-app", "request", "GET", path])?;
    let body: Value = serde_json::from_str(answer.strip_prefix("200 ").unwrap_or_default())?;
    Ok(body["value"].clone())
}

/// That a value is what it should be.
pub(crate) fn is(found: &Value, wanted: &Value) -> Result<(), Failure> {
    if found == wanted { Ok(()) } else { Err(Failure(format!("{found}, not {wanted}"))) }
}

#[test]
fn an_applied_group_replicates_between_the_pods_of_a_deployment() -> Result<(), Failure> {
    test("first", |cluster, space| {
        let kubectl = &space.kubectl;
        let app = Workload::deployment("web", 3);
        let begun = Instant::now();
        kubectl.apply(&group("page-views", "PNCounter", "web"))?;
        app.apply(cluster, space)?;
        let limit = Duration::from_secs(60);
        let (pods, _) = until("three pods with sidecars", limit, || app.running(kubectl, 3))?;
        let injected = begun.elapsed();
        ready(kubectl, "page-views", "3/3")?;
        let all = begun.elapsed();
        say(&format!("    sidecars after {injected:.1?}, Ready and 3/3 after {all:.1?}"));
        say(&kubectl.run(&["get", "rg"])?);
        assert!(all < Duration::from_secs(30), "Ready and 3/3 only after {all:?}");

        let path = "/v1/groups/page-views/objects/home";
        let increment = r#"{"op":"increment","by":5}"#;
        kubectl.exec(&pods[0], &["coppice-test-app", "request", "POST", path, increment])?;
        for pod in &pods {
            let read = || value_at(kubectl, pod, path).and_then(|value| is(&value, &json!(5)));
            let (_, elapsed) = until(&format!("{pod} has the write"), limit, read)?;
            say(&format!("    {pod} has it after {elapsed:.1?}"));
        }
        Ok(())
    })
}
