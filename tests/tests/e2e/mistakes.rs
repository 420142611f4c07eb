//! What people get wrong: each is told by condition, reason, event and message, and
//! stops nothing else.

use std::time::Duration;

use coppice_tests::cluster::{Cluster, Failure, Kubectl, Namespace, Workload, test, until};
use serde_json::{Value, json};

use super::groups::{group, ready};
use super::workloads::{event, reason};

const SOON: Duration = Duration::from_mins(1);

/// A group that is told so by condition and by event, with these words in both.
fn told(
    kubectl: &Kubectl,
    name: &str,
    (kind, wanted): (&str, &str),
    words: &[&str],
) -> Result<(), Failure> {
    let message = reason(kubectl, name, (kind, wanted))?;
    let said = event(kubectl, "ReplicationGroup", wanted)?;
    for word in words {
        assert!(message.contains(word), "{wanted}: a message with {word:?}, not {message:?}");
        assert!(said.contains(word), "{wanted}: an event with {word:?}, not {said:?}");
    }
    Ok(())
}

/// A healthy group beside the mistake, and its pods, come to be ready all the same.
fn others_go_on((cluster, space): (&Cluster, &Namespace), app: &Workload) -> Result<(), Failure> {
    space.kubectl.apply(&group("healthy", "GCounter", &app.name))?;
    app.apply(cluster, space)?;
    let members = format!("{0}/{0}", app.replicas.unwrap_or(1));
    ready(&space.kubectl, "healthy", &members).map(|_| ())
}

#[test]
fn settings_that_conflict_are_told_and_the_older_group_wins() -> Result<(), Failure> {
    test("conflict", |cluster, space| {
        let kubectl = &space.kubectl;
        kubectl.apply(&group("older", "PNCounter", "web"))?;
        // Creation times are in whole seconds.
        let _ = coppice_tests::eventually::eventually(Duration::from_millis(1200), || None::<()>);
        let mut younger = group("younger", "PNCounter", "web");
        younger["spec"]["storage"] = json!({"volume": "EphemeralClaim"});
        kubectl.apply(&younger)?;
        let app = Workload::deployment("web", 1);
        others_go_on((cluster, space), &app)?;
        let (pods, _) =
            until("the pod is injected all the same", SOON, || app.running(kubectl, 1))?;
        told(kubectl, "younger", ("Ready", "SelectorConflict"), &["older", "volume"])?;
        ready(kubectl, "older", "1/1")?;
        let pod = kubectl.get("pod", &pods[0])?;
        let mut volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
        let data = volumes.find(|volume| volume["name"] == "coppice-data").cloned();
        let is_empty_dir = data.as_ref().is_some_and(|data| data["emptyDir"].is_object());
        assert!(is_empty_dir, "the older group's kind: {data:?}");
        Ok(())
    })
}

#[test]
fn a_volume_that_is_not_there_is_told() -> Result<(), Failure> {
    test("novolume", |cluster, space| {
        let kubectl = &space.kubectl;
        let mut hits = group("hits", "PNCounter", "web");
        hits["spec"]["storage"] = json!({"volume": "PodVolume", "volumeName": "absent"});
        kubectl.apply(&hits)?;
        Workload::deployment("web", 1).apply(cluster, space)?;
        told(kubectl, "hits", ("Ready", "VolumeNotFound"), &["absent", "volumes"])?;
        others_go_on((cluster, space), &Workload::deployment("other", 1))
    })
}

#[test]
fn an_image_that_does_not_exist_is_told() -> Result<(), Failure> {
    test("noimage", |cluster, space| {
        let kubectl = &space.kubectl;
        let mut hits = group("hits", "PNCounter", "web");
        hits["spec"]["agent"] = json!({"image": "coppice-agent:never-built"});
        kubectl.apply(&hits)?;
        Workload::deployment("web", 1).apply(cluster, space)?;
        told(kubectl, "hits", ("Ready", "ImageUnavailable"), &["coppice-agent:never-built"])?;
        others_go_on((cluster, space), &Workload::deployment("other", 1))
    })
}

#[test]
fn a_selector_that_selects_nothing_or_no_opted_in_pod_is_told() -> Result<(), Failure> {
    test("selector", |cluster, space| {
        let kubectl = &space.kubectl;
        kubectl.apply(&group("nothing", "PNCounter", "nobody"))?;
        told(kubectl, "nothing", ("Ready", "NoPodsMatch"), &["app=nobody", "kubectl"])?;
        let mut plain = Workload::deployment("plain", 1);
        plain.labels = json!({});
        plain.apply(cluster, space)?;
        kubectl.apply(&group("plain", "PNCounter", "plain"))?;
        told(kubectl, "plain", ("Ready", "NotOptedIn"), &["coppice.dev/inject", "kubectl"])?;
        others_go_on((cluster, space), &Workload::deployment("web", 1))
    })
}

/// The resource definition, with a schema that lets anything in; put back when dropped.
struct PermissiveDefinition<'a> {
    kubectl: &'a Kubectl,
    schema: Value,
}

const DEFINITION: &str = "replicationgroups.coppice.dev";
const SCHEMA: &str = "/spec/versions/0/schema/openAPIV3Schema";

impl<'a> PermissiveDefinition<'a> {
    fn new(kubectl: &'a Kubectl) -> Result<Self, Failure> {
        let definition = kubectl.get("customresourcedefinition", DEFINITION)?;
        let schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
        let permissive = Self { kubectl, schema };
        permissive.set(&json!({
            "type": "object",
            "properties": {
                "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            },
        }))?;
        Ok(permissive)
    }

    fn set(&self, schema: &Value) -> Result<(), Failure> {
        let patch = json!([{"op": "replace", "path": SCHEMA, "value": schema}]).to_string();
        let patch =
            ["patch", "customresourcedefinition", DEFINITION, "--type", "json", "--patch", &patch];
        self.kubectl.run(&patch)?;
        Ok(())
    }
}

impl Drop for PermissiveDefinition<'_> {
    fn drop(&mut self) {
        let _ = self.set(&self.schema);
    }
}

#[test]
fn a_malformed_resource_in_the_store_is_told_and_stops_no_other() -> Result<(), Failure> {
    test("malformed", |cluster, space| {
        let kubectl = &space.kubectl;
        let permissive = PermissiveDefinition::new(&cluster.kubectl)?;
        let mut broken = group("broken", "PNCounter", "web");
        broken["spec"]["sync"] = json!("often");
        until("it is stored", SOON, || kubectl.apply(&broken))?;
        // Of this one not even the status can be written: the definition's rule that a
        // type never changes cannot be computed, so the API server refuses any write.
        let mut typeless = group("typeless", "PNCounter", "web");
        typeless["spec"]["crdt"] = json!({"type": 42});
        kubectl.apply(&typeless)?;
        drop(permissive);

        told(kubectl, "broken", ("Ready", "InvalidSpec"), &["spec.sync"])?;
        until("an event about the other", SOON, || {
            let events = kubectl.json(&["get", "events.events.k8s.io"])?;
            let mut all = events["items"].as_array().into_iter().flatten();
            let told = all.any(|event| {
                event["reason"] == "InvalidSpec"
                    && event["regarding"]["name"] == "typeless"
                    && event["note"].as_str().is_some_and(|note| note.contains("spec.crdt.type"))
            });
            if told { Ok(()) } else { Err(Failure(format!("{} events", events["items"]))) }
        })?;
        others_go_on((cluster, space), &Workload::deployment("web", 2))?;
        kubectl.run(&["delete", "replicationgroup", "broken", "typeless"])?;
        Ok(())
    })
}
