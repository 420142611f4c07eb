//! Many groups and pods, for the operator alone: the pods exist in the API server and on
//! no node, so no kubelet and no agent takes part.

use std::collections::BTreeMap;
use std::time::Duration;

use coppice_tests::client::Client;
use coppice_tests::cluster::{
    ApiProxy, Failure, Kubectl, OPERATOR_NAMESPACE, PortForward, Workload, test, until,
};
use coppice_tests::eventually::eventually;
use coppice_tests::progress::say;
use http::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::groups::{condition, group};

const GROUPS: usize = 200;
const PODS_PER_GROUP: usize = 10;
const REST: Duration = Duration::from_mins(1);
const JSON: &str = "application/json";

/// Sums of an operator's metrics, by name and by name with labels.
fn metrics(pod: &str) -> Result<BTreeMap<String, f64>, Failure> {
    let kubectl = Kubectl::within(OPERATOR_NAMESPACE);
    let forward = PortForward::to(&kubectl, &format!("pod/{pod}"), 8080)?;
    let answer = Client::new(forward.address).get("/metrics")?;
    let mut sums = BTreeMap::new();
    for line in answer.text().lines().filter(|line| !line.starts_with('#')) {
        let Some((name, value)) = line.rsplit_once(' ') else { continue };
        let value: f64 = value.parse().unwrap_or_default();
        *sums.entry(name.to_owned()).or_default() += value;
        if let Some((family, _)) = name.split_once('{') {
            *sums.entry(family.to_owned()).or_default() += value;
        }
    }
    Ok(sums)
}

fn pod(app: &Value, group: usize, number: usize) -> Value {
    let mut pod = app.clone();
    (pod["apiVersion"], pod["kind"]) = (json!("v1"), json!("Pod"));
    pod["metadata"]["name"] = json!(format!("p-{group}-{number}"));
    pod["metadata"]["labels"]["app"] = json!(format!("a-{group}"));
    pod["spec"]["schedulerName"] = json!("none");
    pod
}

fn status(group: usize, number: usize) -> Value {
    let ip = format!("10.{}.{group}.{number}", 200);
    let running = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
    let container = |name: &str| {
        json!({"name": name, "ready": true, "started": true, "restartCount": 0, "image": "x",
               "imageID": "x", "state": running})
    };
    json!({"status": {
        "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
        "conditions": [{"type": "Ready", "status": "True"}],
        "initContainerStatuses": [container("coppice-agent")],
        "containerStatuses": [container("app")],
    }})
}

/// What each operator holds and does in a minute at rest; how often they call the API in it.
fn at_rest() -> Result<f64, Failure> {
    let operators =
        Kubectl::within(OPERATOR_NAMESPACE).list("pods", "app.kubernetes.io/name=coppice")?;
    let names: Vec<String> = operators
        .iter()
        .filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned))
        .collect();
    let before: Vec<_> = names.iter().map(|pod| metrics(pod)).collect::<Result<_, _>>()?;
    let _ = eventually(REST, || None::<()>);
    let mut calls = 0.0;
    for (name, before) in names.iter().zip(&before) {
        let after = metrics(name)?;
        let get =
            |of: &BTreeMap<String, f64>, name: &str| of.get(name).copied().unwrap_or_default();
        let requests = "coppice_operator_api_requests_total";
        let mine = get(&after, requests) - get(before, requests);
        let memory = get(&after, "process_resident_memory_bytes") / f64::from(1 << 20);
        let count = get(&after, "coppice_operator_reconcile_duration_seconds_count");
        let sum = get(&after, "coppice_operator_reconcile_duration_seconds_sum");
        say(&format!(
            "    {name}: leader {}, {memory:.0} MiB, {mine:.0} API calls in a minute at rest, \
                 {count:.0} reconciles of {:.1} ms on average",
            get(&after, "coppice_operator_leader"),
            1000.0 * sum / count.max(1.0)
        ));
        assert!(memory > 1.0, "{name}: its memory is not shown");
        assert!(memory < 256.0, "{name}: {memory:.0} MiB are over the chart's limit");
        calls += mine;
    }
    Ok(calls)
}

#[test]
fn two_hundred_groups_and_two_thousand_pods_are_reconciled() -> Result<(), Failure> {
    test("scale", |cluster, space| {
        let kubectl = &space.kubectl;
        let proxy = ApiProxy::start(&cluster.kubectl)?;
        let groups =
            format!("/apis/coppice.dev/v1alpha1/namespaces/{}/replicationgroups", space.name);
        let pods = format!("/api/v1/namespaces/{}/pods", space.name);
        let app = Workload::deployment("web", 1).manifest(cluster)["spec"]["template"].clone();
        let each =
            || (0..GROUPS).flat_map(|group| (0..PODS_PER_GROUP).map(move |pod| (group, pod)));

        let begun = Instant::now();
        proxy.all(
            (0..GROUPS)
                .map(|number| {
                    let made = group(&format!("g-{number}"), "PNCounter", &format!("a-{number}"));
                    (Method::POST, groups.clone(), JSON, made)
                })
                .collect(),
        )?;
        let made = begun.elapsed();
        proxy.all(
            each().map(|(g, n)| (Method::POST, pods.clone(), JSON, pod(&app, g, n))).collect(),
        )?;
        let injected = begun.elapsed().saturating_sub(made);
        proxy.all(
            each()
                .map(|(g, n)| {
                    let path = format!("{pods}/p-{g}-{n}/status");
                    (Method::PATCH, path, "application/merge-patch+json", status(g, n))
                })
                .collect(),
        )?;
        let patched = Instant::now();
        let wanted = format!("{PODS_PER_GROUP}/{PODS_PER_GROUP}");
        until("every group counts its pods", Duration::from_mins(3), || {
            let all = kubectl.json(&["get", "replicationgroups"])?;
            let items = all["items"].as_array().cloned().unwrap_or_default();
            let right = items.iter().filter(|group| group["status"]["members"] == wanted).count();
            if right == GROUPS { Ok(()) } else { Err(Failure(format!("{right} of {GROUPS}"))) }
        })?;
        say(&format!(
            "    {GROUPS} groups made in {made:.1?}, {} pods injected in {injected:.1?}; \
             all counted {:.1?} after the last pod ran",
            GROUPS * PODS_PER_GROUP,
            patched.elapsed()
        ));

        // At rest is who has asked all of them once, in vain: there are no agents.
        until("every group's agents were asked", Duration::from_mins(5), || {
            let all = kubectl.json(&["get", "replicationgroups"])?;
            let items = all["items"].as_array().cloned().unwrap_or_default();
            let asked =
                items.iter().filter(|group| condition(group, "Converged").1 == "AgentsUnreachable");
            let asked = asked.count();
            if asked == GROUPS { Ok(()) } else { Err(Failure(format!("{asked} of {GROUPS}"))) }
        })?;
        let calls = at_rest()?;
        assert!(calls < 1200.0, "{calls} API calls in a minute at rest");
        Ok(())
    })
}
