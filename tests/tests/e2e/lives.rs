//! The lives of groups under pods that run: made late, changed, deleted, made anew.

use std::time::Duration;

use coppice_tests::cluster::{Failure, Kubectl, Workload, holds_for, request, test, until};
use coppice_tests::progress::say;
use serde_json::{Value, json};

use super::groups::{condition, group, is, operate, ready, value_at};

/// How long a mounted change may take to reach an agent.
const MOUNTED: Duration = Duration::from_mins(2);
const SOON: Duration = Duration::from_mins(1);

/// How often a pod's agent was started again, and since when it runs.
fn agent_start(kubectl: &Kubectl, pod: &str) -> Result<(Value, Value), Failure> {
    let pod = kubectl.get("pod", pod)?;
    let mut states = pod["status"]["initContainerStatuses"].as_array().into_iter().flatten();
    let agent = states.find(|state| state["name"] == "coppice-agent").cloned();
    let agent = agent.ok_or_else(|| Failure("the pod has no agent".to_owned()))?;
    Ok((agent["restartCount"].clone(), agent["state"]["running"]["startedAt"].clone()))
}

/// A write at one pod is read at another.
pub(crate) fn replicates(
    kubectl: &Kubectl,
    (from, to): (&str, &str),
    group: &str,
    key: &str,
) -> Result<Duration, Failure> {
    let path = format!("/v1/groups/{group}/objects/{key}");
    operate(kubectl, from, &path, &json!({"op": "increment", "by": 2}))?;
    let read = || value_at(kubectl, to, &path).and_then(|value| is(&value, &json!(2)));
    until(&format!("{key} is at {to}"), SOON, read).map(|((), elapsed)| elapsed)
}

#[test]
fn a_pod_serves_every_group_that_selects_it() -> Result<(), Failure> {
    test("two", |cluster, space| {
        let kubectl = &space.kubectl;
        let app = Workload::deployment("web", 2);
        kubectl.apply(&group("hits", "PNCounter", "web"))?;
        kubectl.apply(&group("misses", "GCounter", "web"))?;
        kubectl.apply(&group("other", "GCounter", "another"))?;
        app.apply(cluster, space)?;
        let (pods, _) = until("two pods", SOON, || app.running(kubectl, 2))?;
        for name in ["hits", "misses"] {
            ready(kubectl, name, "2/2")?;
            replicates(kubectl, (&pods[0], &pods[1]), name, "a")?;
        }
        let (status, body) = request(kubectl, &pods[0], ("GET", "/v1/groups/other/objects"), None)?;
        assert_eq!(status, 404, "a group that does not select the pod: {body}");
        Ok(())
    })
}

#[test]
fn a_group_made_after_the_pods_run_is_served_by_them() -> Result<(), Failure> {
    test("late", |cluster, space| {
        let kubectl = &space.kubectl;
        let app = Workload::deployment("web", 2);
        app.apply(cluster, space)?;
        let (pods, _) = until("two pods of no group", SOON, || app.running(kubectl, 2))?;
        kubectl.apply(&group("hits", "PNCounter", "web"))?;
        for pod in &pods {
            let ((), elapsed) = until(&format!("{pod} serves it"), MOUNTED, || {
                match request(kubectl, pod, ("GET", "/v1/groups/hits/objects"), None)? {
                    (200, _) => Ok(()),
                    (status, body) => Err(Failure(format!("{status} {body}"))),
                }
            })?;
            say(&format!("    {pod} serves it after {elapsed:.1?}"));
        }
        replicates(kubectl, (&pods[0], &pods[1]), "hits", "a")?;
        ready(kubectl, "hits", "2/2")?;
        Ok(())
    })
}

#[test]
fn changed_settings_reach_every_running_agent() -> Result<(), Failure> {
    test("settings", |cluster, space| {
        let kubectl = &space.kubectl;
        let app = Workload::deployment("web", 3);
        let mut hits = group("hits", "PNCounter", "web");
        hits["spec"]["sync"] = json!({"interval": "1h", "eager": false});
        hits["spec"]["snapshot"] = json!({"interval": "24h"});
        kubectl.apply(&hits)?;
        app.apply(cluster, space)?;
        let (pods, _) = until("three pods", SOON, || app.running(kubectl, 3))?;
        ready(kubectl, "hits", "3/3")?;
        let starts: Vec<_> =
            pods.iter().map(|pod| agent_start(kubectl, pod)).collect::<Result<_, _>>()?;
        let path = |pod: &str| format!("/v1/groups/hits/objects/of-{pod}");
        for pod in &pods {
            operate(kubectl, pod, &path(pod), &json!({"op": "increment", "by": 2}))?;
        }

        hits["spec"]["sync"] = json!({"interval": "500ms", "eager": false});
        hits["spec"]["snapshot"] = json!({"interval": "2s", "retain": 2});
        hits["spec"]["limits"] = json!({"objects": 3});
        kubectl.apply(&hits)?;
        for (index, pod) in pods.iter().enumerate() {
            let from = &pods[(index + 1) % pods.len()];
            let ((), synced) =
                until(&format!("{from} told {pod} by the new interval"), MOUNTED, || {
                    value_at(kubectl, pod, &path(from)).and_then(|value| is(&value, &json!(2)))
                })?;
            let ((), limited) = until(&format!("the new limit at {pod}"), MOUNTED, || {
                let fourth = "/v1/groups/hits/objects/fourth";
                let increment = json!({"op": "increment", "by": 0});
                match request(kubectl, pod, ("POST", fourth), Some(&increment))? {
                    (422, _) => Ok(()),
                    (status, body) => {
                        request(kubectl, pod, ("DELETE", fourth), None)?;
                        Err(Failure(format!("{status} {body}")))
                    }
                }
            })?;
            let ((), snapped) = until(&format!("the new snapshots at {pod}"), MOUNTED, || {
                let metrics = "http://127.0.0.1:4439/metrics";
                let command = ["coppice-test-app", "request", "GET", metrics];
                let text = kubectl.exec(pod, &command)?;
                let mut ages = text.lines().filter_map(|line| {
                    line.strip_prefix("coppice_snapshot_age_seconds")?.rsplit(' ').next()
                });
                match ages.next().and_then(|age| age.parse::<f64>().ok()) {
                    Some(age) if age < 10.0 => Ok(()),
                    age => Err(Failure(format!("the age of the last snapshot: {age:?}"))),
                }
            })?;
            say(&format!(
                "    {pod}: sync {synced:.1?}, limit {limited:.1?}, snapshot {snapped:.1?} later"
            ));
        }
        for (pod, start) in pods.iter().zip(starts) {
            assert_eq!(agent_start(kubectl, pod)?, start, "{pod}: the agent was started again");
        }
        Ok(())
    })
}

#[test]
fn a_deleted_group_lives_on_in_its_pods_and_can_be_taken_over() -> Result<(), Failure> {
    test("orphan", |cluster, space| {
        let kubectl = &space.kubectl;
        let app = Workload::deployment("web", 2);
        let hits = group("hits", "PNCounter", "web");
        kubectl.apply(&hits)?;
        kubectl.apply(&group("other", "PNCounter", "web"))?;
        app.apply(cluster, space)?;
        let (pods, _) = until("two pods", SOON, || app.running(kubectl, 2))?;
        ready(kubectl, "hits", "2/2")?;
        replicates(kubectl, (&pods[0], &pods[1]), "hits", "before")?;
        let id = kubectl.get("replicationgroup", "hits")?["status"]["id"].clone();

        kubectl.run(&["delete", "replicationgroup", "hits"])?;
        until("the agents know that the group is gone", MOUNTED, || {
            let status = kubectl.exec(
                &pods[0],
                &["coppice-test-app", "request", "GET", "http://127.0.0.1:4439/status"],
            )?;
            if status.contains("\"orphans\":[\"hits\"]") { Ok(()) } else { Err(Failure(status)) }
        })?;
        replicates(kubectl, (&pods[1], &pods[0]), "hits", "orphaned")?;

        // Made anew: another id, so other data, which these pods do not serve.
        kubectl.apply(&hits)?;
        let (message, _) = until("the new group says whose data the pods hold", MOUNTED, || {
            let group = kubectl.get("replicationgroup", "hits")?;
            let (status, reason, message) = condition(&group, "Ready");
            let is_told = status == "False" && reason == "OrphanedData";
            if is_told { Ok(message) } else { Err(Failure(group["status"].to_string())) }
        })?;
        let id = id.as_str().unwrap_or_default();
        assert!(message.contains(id) && message.contains("spec.id"), "the mend: {message}");
        let before = "/v1/groups/hits/objects/before";
        assert_eq!(value_at(kubectl, &pods[0], before)?, json!(2), "the old data is served");

        // As the message says: made anew with the id of the data.
        kubectl.run(&["delete", "replicationgroup", "hits"])?;
        let mut adopted = hits.clone();
        adopted["spec"]["id"] = json!(id);
        kubectl.apply(&adopted)?;
        let ((), elapsed) = until("the group is ready again", MOUNTED, || {
            let group = kubectl.get("replicationgroup", "hits")?;
            let is_ready = condition(&group, "Ready").0 == "True" && group["status"]["id"] == id;
            if is_ready { Ok(()) } else { Err(Failure(group["status"].to_string())) }
        })?;
        say(&format!("    taken over after {elapsed:.1?}"));
        assert_eq!(value_at(kubectl, &pods[0], before)?, json!(2), "with its data");
        replicates(kubectl, (&pods[0], &pods[1]), "hits", "adopted")?;
        Ok(())
    })
}

#[test]
fn a_config_map_deleted_by_hand_comes_back_and_nothing_stops() -> Result<(), Failure> {
    test("configmap", |cluster, space| {
        let kubectl = &space.kubectl;
        let app = Workload::deployment("web", 2);
        kubectl.apply(&group("hits", "PNCounter", "web"))?;
        app.apply(cluster, space)?;
        let (pods, _) = until("two pods", SOON, || app.running(kubectl, 2))?;
        ready(kubectl, "hits", "2/2")?;
        let uid = |kubectl: &Kubectl| -> Result<Value, Failure> {
            Ok(kubectl.get("configmap", "coppice-groups")?["metadata"]["uid"].clone())
        };
        let before = uid(kubectl)?;
        kubectl.run(&["delete", "configmap", "coppice-groups"])?;
        let ((), elapsed) = until("another ConfigMap", SOON, || {
            if uid(kubectl)? == before { Err(Failure("the old one".to_owned())) } else { Ok(()) }
        })?;
        say(&format!("    there again after {elapsed:.1?}"));
        holds_for("the group is served", Duration::from_secs(20), || {
            match request(kubectl, &pods[0], ("GET", "/v1/groups/hits/objects"), None)? {
                (200, _) => Ok(()),
                (status, body) => Err(Failure(format!("{status} {body}"))),
            }
        })?;
        replicates(kubectl, (&pods[0], &pods[1]), "hits", "after")?;
        Ok(())
    })
}

#[test]
fn a_groups_type_and_volume_kind_cannot_be_changed() -> Result<(), Failure> {
    test("immutable", |_, space| {
        let kubectl = &space.kubectl;
        kubectl.apply(&group("hits", "PNCounter", "web"))?;
        for (patch, words) in [
            (json!({"spec": {"crdt": {"type": "GCounter"}}}), ["spec.crdt", "another name"]),
            (
                json!({"spec": {"storage": {"volume": "EphemeralClaim"}}}),
                ["spec.storage", "volume"],
            ),
        ] {
            let refused = kubectl.patch("replicationgroup", "hits", &patch);
            let said = refused.err().map(|error| error.said).unwrap_or_default();
            for word in words {
                assert!(said.contains(word), "{patch}: a message with {word:?}, not {said:?}");
            }
        }
        Ok(())
    })
}
