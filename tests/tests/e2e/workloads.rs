//! The kinds of pods that get a sidecar, and those that do not.

use std::time::Duration;

use coppice_tests::cluster::{Failure, Kubectl, LocalVolume, Workload, test, test_labelled, until};
use coppice_tests::progress::say;
use serde_json::{Value, json};

use super::groups::{condition, group, is, operate, ready, value_at};

const SOON: Duration = Duration::from_mins(1);
const OBJECT: &str = "/v1/groups/hits/objects/a";

/// The pod is served by its own agent.
fn serves(kubectl: &Kubectl, pod: &str) -> Result<(), Failure> {
    operate(kubectl, pod, OBJECT, &json!({"op": "increment", "by": 0})).map(|_| ())
}

/// Waits for a condition of the group with this reason; its message.
pub(crate) fn reason(
    kubectl: &Kubectl,
    name: &str,
    (kind, wanted): (&str, &str),
) -> Result<String, Failure> {
    let what = format!("{kind} of {name} says {wanted}");
    let found = until(&what, SOON, || {
        let group = kubectl.get("replicationgroup", name)?;
        let (_, reason, message) = condition(&group, kind);
        if reason == wanted { Ok(message) } else { Err(Failure(group["status"].to_string())) }
    });
    found.map(|(message, _)| message)
}

/// Waits for an event with this reason about an object of this kind; its message.
pub(crate) fn event(kubectl: &Kubectl, kind: &str, wanted: &str) -> Result<String, Failure> {
    let found = until(&format!("an event {wanted} of a {kind}"), SOON, || {
        let events = kubectl.json(&["get", "events.events.k8s.io"])?;
        let mut all = events["items"].as_array().into_iter().flatten();
        let found =
            all.find(|event| event["reason"] == wanted && event["regarding"]["kind"] == kind);
        found.map(|event| event["note"].to_string()).ok_or_else(|| {
            let reasons = events["items"].as_array().into_iter().flatten();
            let reasons: Vec<_> = reasons.map(|event| event["reason"].to_string()).collect();
            Failure(format!("there are {}", reasons.join(", ")))
        })
    });
    found.map(|(message, _)| message)
}

/// Whether a pod was injected.
pub(crate) fn has_sidecar(pod: &Value) -> bool {
    let mut containers = pod["spec"]["initContainers"].as_array().into_iter().flatten();
    containers.any(|container| container["name"] == "coppice-agent")
}

#[test]
fn a_stateful_sets_volume_keeps_the_data_for_a_new_actor() -> Result<(), Failure> {
    test("podvolume", |cluster, space| {
        let kubectl = &space.kubectl;
        let volume = LocalVolume::new(cluster)?;
        let mut hits = group("hits", "PNCounter", "db");
        hits["spec"]["storage"] = json!({"volume": "PodVolume", "volumeName": "data"});
        kubectl.apply(&hits)?;
        let mut app = Workload::deployment("db", 1);
        app.kind = "StatefulSet";
        app.fields = json!({"serviceName": "db", "volumeClaimTemplates": [{
            "metadata": {"name": "data"},
            "spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": volume.name,
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }]});
        app.container = json!({"volumeMounts": [{"name": "data", "mountPath": "/data"}]});
        app.apply(cluster, space)?;
        until("the pod", SOON, || app.running(kubectl, 1))?;
        ready(kubectl, "hits", "1/1")?;
        operate(kubectl, "db-0", OBJECT, &json!({"op": "increment", "by": 7}))?;
        let actors = || -> Result<usize, Failure> {
            let url = "http://127.0.0.1:4439/status";
            let status = kubectl.exec("db-0", &["coppice-test-app", "request", "GET", url])?;
            let status: Value = serde_json::from_str(status.trim_start_matches("200 "))?;
            Ok(status["groups"][0]["seen"].as_object().map_or(0, serde_json::Map::len))
        };
        assert_eq!(actors()?, 1, "one actor has written");

        let before = kubectl.get("pod", "db-0")?["metadata"]["uid"].clone();
        kubectl.run(&["delete", "pod", "db-0"])?;
        until("another pod of the same name", SOON, || {
            app.running(kubectl, 1)?;
            let uid = kubectl.get("pod", "db-0")?["metadata"]["uid"].clone();
            if uid == before { Err(Failure("the same pod".to_owned())) } else { Ok(()) }
        })?;
        until("the data", SOON, || {
            value_at(kubectl, "db-0", OBJECT).and_then(|it| is(&it, &json!(7)))
        })?;
        operate(kubectl, "db-0", OBJECT, &json!({"op": "increment", "by": 1}))?;
        is(&value_at(kubectl, "db-0", OBJECT)?, &json!(8))?;
        assert_eq!(actors()?, 2, "the new opening writes as a new actor");
        Ok(())
    })
}

#[test]
fn an_ephemeral_claim_holds_the_data() -> Result<(), Failure> {
    test("claim", |cluster, space| {
        let kubectl = &space.kubectl;
        let volume = LocalVolume::new(cluster)?;
        let mut hits = group("hits", "PNCounter", "web");
        let class = json!(volume.name);
        hits["spec"]["storage"] =
            json!({"volume": "EphemeralClaim", "size": "100Mi", "storageClassName": class});
        kubectl.apply(&hits)?;
        let app = Workload::deployment("web", 1);
        app.apply(cluster, space)?;
        let (pods, _) = until("the pod", SOON, || app.running(kubectl, 1))?;
        serves(kubectl, &pods[0])?;
        ready(kubectl, "hits", "1/1")?;
        let pod = kubectl.get("pod", &pods[0])?;
        assert_eq!(pod["spec"]["securityContext"]["fsGroup"], 65532, "{}", pod["spec"]);
        let claim = kubectl.get("persistentvolumeclaim", &format!("{}-coppice-data", pods[0]))?;
        assert_eq!(claim["status"]["phase"], "Bound", "{claim}");
        Ok(())
    })
}

#[test]
fn a_job_completes_with_its_sidecar() -> Result<(), Failure> {
    test("job", |cluster, space| {
        let kubectl = &space.kubectl;
        let reader = Workload::deployment("web", 1);
        let mut ledger = group("ledger", "GSet", "web");
        // The job's pods are members too: both carry the label that is selected.
        ledger["spec"]["selector"] = json!({"matchLabels": {"shares": "ledger"}});
        kubectl.apply(&ledger)?;
        let labels = json!({"coppice.dev/inject": "true", "shares": "ledger"});
        let reader = Workload { labels: labels.clone(), ..reader };
        reader.apply(cluster, space)?;
        until("the reader", SOON, || reader.running(kubectl, 1))?;
        let mut job =
            Workload::deployment("batch", 1).doing(&["write", "ledger", "all", "10", "40"]);
        (job.kind, job.replicas, job.labels) = ("Job", None, labels);
        job.pod = json!({"restartPolicy": "Never"});
        job.apply(cluster, space)?;
        kubectl.run(&["wait", "--for", "condition=Complete", "job/batch", "--timeout=60s"])?;
        let pods = reader.running(kubectl, 1)?;
        let ((), elapsed) = until("all that the job wrote is at the reader", SOON, || {
            let path = "/v1/groups/ledger/objects/all?size=true";
            let (_, body) =
                coppice_tests::cluster::request(kubectl, &pods[0], ("GET", path), None)?;
            is(&body["size"], &json!(40))
        })?;
        say(&format!("    handed over {elapsed:.1?} after the job was complete"));
        Ok(())
    })
}

#[test]
fn restricted_rooted_and_arbitrary_users_are_served() -> Result<(), Failure> {
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    test_labelled("restricted", &labels, |cluster, space| {
        let kubectl = &space.kubectl;
        kubectl.apply(&group("hits", "PNCounter", "web"))?;
        let mut app = Workload::deployment("web", 1);
        app.container = json!({"securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": true, "runAsUser": 12345, "seccompProfile": {"type": "RuntimeDefault"},
        }});
        app.apply(cluster, space)?;
        let (pods, _) = until("a pod in a restricted namespace", SOON, || app.running(kubectl, 1))?;
        serves(kubectl, &pods[0])
    })?;
    test("users", |cluster, space| {
        let kubectl = &space.kubectl;
        for (name, context) in [
            ("root", json!({"runAsUser": 0})),
            ("arbitrary", json!({"runAsUser": 1_000_650_000, "runAsNonRoot": true})),
            ("grouped", json!({"runAsUser": 2000, "runAsGroup": 3000, "fsGroup": 4000})),
        ] {
            kubectl.apply(&group("hits", "PNCounter", name))?;
            let mut app = Workload::deployment(name, 1);
            app.pod["securityContext"] = context;
            app.pod["automountServiceAccountToken"] = json!(false);
            app.apply(cluster, space)?;
            let (pods, _) = until(&format!("a pod as {name}"), SOON, || app.running(kubectl, 1))?;
            until("the group", Duration::from_mins(2), || serves(kubectl, &pods[0]))?;
            kubectl.run(&["delete", "replicationgroup", "hits"])?;
            kubectl.run(&["delete", "deployment", name])?;
        }
        Ok(())
    })
}

#[test]
fn an_account_whose_token_is_not_mounted_lets_the_agents_find_each_other() -> Result<(), Failure> {
    test("automount", |cluster, space| {
        let kubectl = &space.kubectl;
        kubectl.apply(&group("hits", "PNCounter", "web"))?;
        let mut app = Workload::deployment("web", 2);
        app.pod["automountServiceAccountToken"] = json!(false);
        app.apply(cluster, space)?;
        let (pods, _) = until("two pods", SOON, || app.running(kubectl, 2))?;
        operate(kubectl, &pods[0], OBJECT, &json!({"op": "increment", "by": 3}))?;
        until("it is at the other", SOON, || {
            value_at(kubectl, &pods[1], OBJECT).and_then(|value| is(&value, &json!(3)))
        })?;
        let token = "/var/run/secrets/kubernetes.io/serviceaccount/token";
        for pod in kubectl.list("pods", "app=web")? {
            let containers = pod["spec"]["containers"].to_string();
            assert!(!containers.contains("serviceaccount"), "the app has no token: {containers}");
            let agent = pod["spec"]["initContainers"][0]["volumeMounts"].to_string();
            assert!(
                agent.contains("kubernetes.io/serviceaccount"),
                "the agent has {token}: {agent}"
            );
        }
        Ok(())
    })
}

#[test]
fn a_limit_range_or_a_quota_that_refuses_the_agent_is_told() -> Result<(), Failure> {
    let limits = json!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small"},
        "spec": {"limits": [{"type": "Container", "max": {"memory": "64Mi"}}]},
    });
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"},
        "spec": {"hard": {"limits.memory": "64Mi"}},
    });
    for (short, object, words) in
        [("limitrange", limits, "maximum memory usage"), ("quota", quota, "exceeded quota")]
    {
        test(short, |cluster, space| {
            let kubectl = &space.kubectl;
            kubectl.apply(&object)?;
            kubectl.apply(&group("hits", "PNCounter", "web"))?;
            let mut app = Workload::deployment("web", 1);
            app.container = json!({"resources": {"limits": {"memory": "32Mi", "cpu": "1"}}});
            app.apply(cluster, space)?;
            let message = reason(kubectl, "hits", ("Injected", "AdmissionRejected"))?;
            assert!(message.contains(words), "the API server's words: {message}");
            let said = event(kubectl, "ReplicationGroup", "AdmissionRejected")?;
            assert!(said.contains(words), "the API server's words: {said}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn host_network_pods_are_refused_or_left_alone_and_told() -> Result<(), Failure> {
    test("hostnetwork", |cluster, space| {
        let kubectl = &space.kubectl;
        kubectl.apply(&group("hits", "PNCounter", "web"))?;
        let mut app = Workload::deployment("web", 1);
        app.pod["hostNetwork"] = json!(true);
        app.apply(cluster, space)?;
        let message = reason(kubectl, "hits", ("Injected", "AdmissionRejected"))?;
        assert!(message.contains("hostNetwork"), "why: {message}");
        Ok(())
    })?;
    test_labelled("hostnetwork2", &json!({"coppice.dev/inject": "true"}), |cluster, space| {
        let kubectl = &space.kubectl;
        kubectl.apply(&group("hits", "PNCounter", "web"))?;
        let mut app = Workload::deployment("web", 1);
        (app.labels, app.pod["hostNetwork"]) = (json!({}), json!(true));
        app.apply(cluster, space)?;
        until("a pod without a sidecar", SOON, || {
            let pods = app.pods(kubectl)?;
            let pod = pods.first().ok_or_else(|| Failure("no pod".to_owned()))?;
            assert!(!has_sidecar(pod), "its ports would clash on the node: {pod}");
            Ok::<_, Failure>(())
        })?;
        let message = reason(kubectl, "hits", ("Injected", "HostNetwork"))?;
        assert!(message.contains("web-"), "which pods: {message}");
        Ok(())
    })
}

#[test]
fn an_opted_in_namespace_spares_the_pod_that_opted_out() -> Result<(), Failure> {
    test_labelled("namespace", &json!({"coppice.dev/inject": "true"}), |cluster, space| {
        let kubectl = &space.kubectl;
        kubectl.apply(&group("hits", "PNCounter", "web"))?;
        let mut member = Workload::deployment("web", 2);
        member.labels = json!({});
        member.apply(cluster, space)?;
        let mut out = Workload::deployment("out", 1);
        out.labels = json!({"coppice.dev/inject": "false"});
        out.apply(cluster, space)?;
        let (pods, _) = until("two members", SOON, || member.running(kubectl, 2))?;
        ready(kubectl, "hits", "2/2")?;
        serves(kubectl, &pods[0])?;
        let (pods, _) = until("a pod that opted out", SOON, || {
            let pods = out.pods(kubectl)?;
            if pods.is_empty() { Err(Failure("no pod".to_owned())) } else { Ok(pods) }
        })?;
        assert!(!has_sidecar(&pods[0]), "it opted out: {}", pods[0]);
        Ok(())
    })
}
