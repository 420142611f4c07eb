//! Groups and the pods that they select.

use std::collections::BTreeSet;
use std::time::Duration;

use coppice_tests::cluster::{Failure, Kubectl, Ledger, Workload, elements, request, test, until};
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
    // A kubelet may take more than a minute to tell running pods of a new group.
    until(&what, Duration::from_mins(2), look).map(|((), elapsed)| elapsed)
}

/// The value of an object, as the app of a pod reads it.
pub(crate) fn value_at(kubectl: &Kubectl, pod: &str, path: &str) -> Result<Value, Failure> {
    match request(kubectl, pod, ("GET", path), None)? {
        (200, body) => Ok(body["value"].clone()),
        (status, body) => Err(Failure(format!("{status} {body}"))),
    }
}

/// One operation on an object, by the app of a pod; it has to be acknowledged.
pub(crate) fn operate(
    kubectl: &Kubectl,
    pod: &str,
    path: &str,
    operation: &Value,
) -> Result<Value, Failure> {
    match request(kubectl, pod, ("POST", path), Some(operation))? {
        (200, body) => Ok(body),
        (status, body) => Err(Failure(format!("{operation}: {status} {body}"))),
    }
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
        let limit = Duration::from_mins(1);
        let (pods, _) = until("three pods with sidecars", limit, || app.running(kubectl, 3))?;
        let injected = begun.elapsed();
        ready(kubectl, "page-views", "3/3")?;
        let all = begun.elapsed();
        say(&format!("    sidecars after {injected:.1?}, Ready and 3/3 after {all:.1?}"));
        say(&kubectl.run(&["get", "rg"])?);
        assert!(all < Duration::from_secs(30), "Ready and 3/3 only after {all:?}");

        let path = "/v1/groups/page-views/objects/home";
        operate(kubectl, &pods[0], path, &json!({"op": "increment", "by": 5}))?;
        for pod in &pods {
            let read = || value_at(kubectl, pod, path).and_then(|value| is(&value, &json!(5)));
            let ((), elapsed) = until(&format!("{pod} has the write"), limit, read)?;
            say(&format!("    {pod} has it after {elapsed:.1?}"));
        }
        Ok(())
    })
}

/// Every element of the ledger is in the set of every one of these pods.
fn all_there(kubectl: &Kubectl, pods: &[String], acked: &BTreeSet<String>) -> Result<(), Failure> {
    for pod in pods {
        let there = elements(kubectl, pod, "ledger", "all")?;
        let missing: Vec<_> = acked.difference(&there).collect();
        if !missing.is_empty() {
            let some = &missing[..missing.len().min(5)];
            return Err(Failure(format!(
                "{pod} lacks {} of {}: {some:?}",
                missing.len(),
                acked.len()
            )));
        }
    }
    Ok(())
}

#[test]
fn scaling_a_restart_and_deletions_lose_nothing_acknowledged() -> Result<(), Failure> {
    test("ledger", |cluster, space| {
        let kubectl = &space.kubectl;
        let app = Workload::deployment("web", 3).doing(&["write", "ledger", "all", "50"]);
        kubectl.apply(&group("ledger", "GSet", "web"))?;
        app.apply(cluster, space)?;
        let ledger = Ledger::follow(space, &app);
        let limit = Duration::from_mins(2);
        until("three pods", limit, || app.running(kubectl, 3))?;

        for (count, limit) in [(6, limit), (1, limit), (3, limit)] {
            let before = ledger.len();
            kubectl.run(&["scale", "deployment/web", &format!("--replicas={count}")])?;
            let (_, elapsed) =
                until(&format!("{count} pods"), limit, || app.running(kubectl, count))?;
            say(&format!(
                "    {count} pods after {elapsed:.1?}, {} writes meanwhile",
                ledger.len() - before
            ));
        }
        kubectl.run(&["rollout", "restart", "deployment/web"])?;
        kubectl.run(&["rollout", "status", "deployment/web", "--timeout=120s"])?;
        let (pods, _) = until("the restarted pods", limit, || app.running(kubectl, 3))?;
        kubectl.run(&["delete", "pod", &pods[0]])?;
        let (pods, _) = until("a pod in its place", limit, || app.running(kubectl, 3))?;

        // Killed at once: what it had not yet told its peers is lost with its EmptyDir.
        let killed = pods[0].clone();
        kubectl.run(&["delete", "pod", &killed, "--grace-period=0", "--force"])?;
        let (pods, _) = until("a pod in its place", limit, || app.running(kubectl, 3))?;
        ready(kubectl, "ledger", "3/3")?;

        let mut by_pod = ledger.acked();
        let of_killed = by_pod.remove(&killed).unwrap_or_default();
        let acked: BTreeSet<_> = by_pod.into_values().flatten().collect();
        assert!(acked.len() > 200, "only {} writes were acknowledged", acked.len());
        until("all acknowledged writes are everywhere", limit, || {
            all_there(kubectl, &pods, &acked)
        })?;
        let there = elements(kubectl, &pods[0], "ledger", "all")?;
        let lost = of_killed.difference(&there).count();
        say(&format!(
            "    {} acknowledged writes are everywhere; of {} of the killed pod {lost} are lost",
            acked.len(),
            of_killed.len()
        ));
        Ok(())
    })
}
