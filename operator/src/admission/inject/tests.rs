//! Pods in, properties of the pods that come out.

use coppice_api::cluster::AGENT_CONTAINER;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn settings() -> InjectionSettings {
    let resources = json!({
        "requests": {"cpu": "25m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "256Mi"},
    });
    InjectionSettings {
        image: "registry.example/coppice-agent:1".to_owned(),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        pull_secrets: vec!["registry".to_owned()],
        resources: serde_json::from_value(resources).unwrap(),
        version: "1.2.3".to_owned(),
    }
}

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

/// A group that selects `app: web`, made on the `day` of a month, with more of a spec.
fn group(name: &str, day: u8, spec: &str) -> ReplicationGroup {
    let mut object = json!({
        "apiVersion": "coppice.dev/v1alpha1",
        "kind": "ReplicationGroup",
        "metadata": {"name": name, "creationTimestamp": format!("2026-01-{day:02}T00:00:00Z")},
        "spec": {"crdt": {"type": "GSet"}, "selector": {"matchLabels": {"app": "web"}}},
    });
    if let (Value::Object(more), Value::Object(into)) = (yaml(spec), &mut object["spec"]) {
        into.extend(more);
    }
    serde_json::from_value(object).unwrap()
}

const WEB: &str = "
metadata: {generateName: web-, labels: {app: web, coppice.dev/inject: 'true'}}
spec: {containers: [{name: app, image: app:1}]}
";

/// `WEB` with other fields in its `spec`.
fn web(spec: &str) -> Value {
    let mut pod = yaml(WEB);
    if let (Value::Object(more), Value::Object(into)) = (yaml(spec), &mut pod["spec"]) {
        into.extend(more);
    }
    pod
}

fn outcome(pod: &Value, groups: &[ReplicationGroup]) -> Outcome {
    let groups: Vec<&ReplicationGroup> = groups.iter().collect();
    inject(pod.clone(), &groups, &settings()).unwrap()
}

/// The pod as the API server makes it of the patch, and what was told.
fn injected(pod: &Value, groups: &[ReplicationGroup]) -> (Value, Injected) {
    let Outcome::Injected(injected) = outcome(pod, groups) else {
        panic!("not injected: {:?}", outcome(pod, groups))
    };
    let mut result = pod.clone();
    json_patch::patch(&mut result, &injected.patch).unwrap();
    (result, injected)
}

fn agent(pod: &Value) -> &Value {
    let agent = &pod["spec"]["initContainers"][0];
    assert_eq!(agent["name"], AGENT_CONTAINER, "the sidecar starts before all others");
    agent
}

fn named<'a>(list: &'a Value, name: &str) -> Option<&'a Value> {
    list.as_array()?.iter().find(|item| item["name"] == name)
}

fn facts(pod: &Value) -> InjectionFacts {
    let annotation = pod["metadata"]["annotations"][INJECTION_ANNOTATION].as_str().unwrap();
    InjectionFacts::read(annotation).unwrap()
}

fn denied(pod: &Value, groups: &[ReplicationGroup]) -> String {
    match outcome(pod, groups) {
        Outcome::Denied(obstacle) => format!("{}: {obstacle}", obstacle.name()),
        other => panic!("not denied: {other:?}"),
    }
}

#[test]
fn a_pod_gets_the_sidecar_with_all_that_it_needs() {
    let (pod, injected) = injected(&yaml(WEB), &[group("views", 1, "{}")]);
    let agent = agent(&pod);
    assert_eq!(agent["restartPolicy"], "Always", "a native sidecar");
    assert_eq!(agent["args"], json!(["--cluster", "/etc/coppice"]));
    assert_eq!(agent["image"], "registry.example/coppice-agent:1");
    assert_eq!(agent["imagePullPolicy"], "IfNotPresent");
    assert!(agent.get("readinessProbe").is_none(), "it would be the pod's");
    assert_eq!(agent["startupProbe"]["httpGet"], json!({"path": "/startupz", "port": 4439}));
    assert_eq!(agent["livenessProbe"]["httpGet"], json!({"path": "/livez", "port": 4439}));
    let limit = named(&agent["env"], "COPPICE_DATA_LIMIT").unwrap();
    assert_eq!(limit["value"], ((1_u64 << 30) / 5 * 4).to_string(), "four fifths of 1Gi");
    for (variable, field) in [
        ("COPPICE_POD_NAME", "metadata.name"),
        ("COPPICE_POD_NAMESPACE", "metadata.namespace"),
        ("COPPICE_POD_UID", "metadata.uid"),
        ("COPPICE_POD_IPS", "status.podIPs"),
    ] {
        let variable = named(&agent["env"], variable).unwrap();
        assert_eq!(variable["valueFrom"]["fieldRef"]["fieldPath"], field);
    }
    for mount in agent["volumeMounts"].as_array().unwrap() {
        let name = mount["name"].as_str().unwrap();
        assert!(named(&pod["spec"]["volumes"], name).is_some(), "{name} is mounted, not declared");
    }
    assert_eq!(pod["metadata"]["labels"]["coppice.dev/injected"], "true");
    assert_eq!(pod["spec"]["imagePullSecrets"], json!([{"name": "registry"}]));
    assert_eq!(injected.groups, ["views"]);
    assert_eq!(injected.notices, [], "nothing is out of the ordinary");
}

#[test]
fn the_sidecar_meets_the_restricted_standard_by_itself() {
    for (security, user) in [
        ("{}", Value::Null),
        ("{runAsUser: 1000}", Value::Null),
        ("{runAsUser: 0}", 65_532.into()),
        ("{runAsNonRoot: false, runAsUser: 0, fsGroup: 0}", 65_532.into()),
    ] {
        let pod = web(&format!("{{securityContext: {security}}}"));
        let (pod, _) = injected(&pod, &[]);
        let context = &agent(&pod)["securityContext"];
        assert_eq!(context["runAsNonRoot"], true, "{security}");
        assert_eq!(context["allowPrivilegeEscalation"], false, "{security}");
        assert_eq!(context["readOnlyRootFilesystem"], true, "{security}");
        assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}), "{security}");
        assert_eq!(context["seccompProfile"], json!({"type": "RuntimeDefault"}), "{security}");
        assert_eq!(context["runAsUser"], user, "{security}: else the pod's or the image's user");
    }
}

#[test]
fn every_other_container_learns_the_url_unless_it_knows_one() {
    let pod = web("
initContainers: [{name: migrate, image: m}]
containers:
  - {name: app, image: a, env: [{name: PEERS, value: $(COPPICE_URL)/v1}]}
  - {name: own, image: b, env: [{name: COPPICE_URL, value: 'http://elsewhere'}]}
");
    let (pod, _) = injected(&pod, &[]);
    let url = json!({"name": "COPPICE_URL", "value": "http://127.0.0.1:4437"});
    assert_eq!(pod["spec"]["initContainers"][1]["env"], json!([url]), "after the sidecar");
    assert_eq!(pod["spec"]["containers"][0]["env"][0], url, "where later ones can refer to it");
    assert_eq!(pod["spec"]["containers"][1]["env"].as_array().unwrap().len(), 1);
    assert!(named(&agent(&pod)["env"], "COPPICE_URL").is_none());
}

#[test]
fn volumes_are_of_the_kind_that_the_group_asks_for() {
    let data = |pod: &Value| named(&pod["spec"]["volumes"], "coppice-data").cloned();
    let (pod, _) = injected(&yaml(WEB), &[group("a", 1, "storage: {size: 2Gi}")]);
    assert_eq!(data(&pod).unwrap()["emptyDir"], json!({"sizeLimit": "3Gi"}), "half as much again");

    let claim = "storage: {volume: EphemeralClaim, size: 5Gi, storageClassName: fast}";
    let (pod, _) = injected(&yaml(WEB), &[group("a", 1, claim)]);
    let spec = &data(&pod).unwrap()["ephemeral"]["volumeClaimTemplate"]["spec"];
    assert_eq!(spec["resources"]["requests"]["storage"], "5Gi");
    assert_eq!(spec["storageClassName"], "fast");
    assert_eq!(spec["accessModes"], json!(["ReadWriteOnce"]));

    let declared = web("volumes: [{name: disk, persistentVolumeClaim: {claimName: disk-0}}]");
    let spec = "storage: {volume: PodVolume, volumeName: disk}";
    let (pod, _) = injected(&declared, &[group("a", 1, spec)]);
    assert_eq!(data(&pod), None, "it is the pod's own");
    let mounts = &agent(&pod)["volumeMounts"];
    assert_eq!(named(mounts, "disk").unwrap()["mountPath"], "/var/lib/coppice");
    assert_eq!(facts(&pod).volume.unwrap().volume_name.as_deref(), Some("disk"));
}

#[test]
fn a_claim_gets_a_group_that_the_agent_can_write_as() {
    let pvc = "volumes: [{name: disk, persistentVolumeClaim: {claimName: disk-0}}]";
    let claim = "storage: {volume: EphemeralClaim}";
    let own = "storage: {volume: PodVolume, volumeName: disk}";
    let cases = [
        (web("{}"), claim, json!(65_532), json!("OnRootMismatch"), true),
        (web(pvc), own, json!(65_532), json!("OnRootMismatch"), true),
        (web("volumes: [{name: disk, emptyDir: {}}]"), own, Value::Null, Value::Null, false),
        (
            web("volumes: [{name: disk, hostPath: {path: /d}}]"),
            own,
            Value::Null,
            Value::Null,
            false,
        ),
        (web("securityContext: {fsGroup: 7}"), claim, json!(7), Value::Null, false),
        (
            web("securityContext: {fsGroupChangePolicy: Always}"),
            claim,
            json!(65_532),
            json!("Always"),
            true,
        ),
        (web("{}"), "storage: {volume: EmptyDir}", Value::Null, Value::Null, false),
    ];
    for (pod, spec, fs_group, policy, told) in cases {
        let (result, injected) = injected(&pod, &[group("a", 1, spec)]);
        let context = &result["spec"]["securityContext"];
        assert_eq!(context["fsGroup"], fs_group, "{pod} {spec}");
        assert_eq!(context["fsGroupChangePolicy"], policy, "{pod} {spec}");
        let said = injected.notices.iter().any(|n| n.reason == NoticeReason::FsGroupAdded);
        assert_eq!(said, told, "{pod} {spec}");
    }
}

#[test]
fn a_deployments_owner_is_told_that_its_next_pods_find_no_data_on_the_claim() {
    let on_claim = "storage: {volume: PodVolume, volumeName: data}";
    let claim = "volumes: [{name: data, persistentVolumeClaim: {claimName: disk}}]";
    let empty = "volumes: [{name: data, emptyDir: {}}]";
    for (spec, hash, expected) in
        [(claim, Some("5d"), true), (claim, None, false), (empty, Some("5d"), false)]
    {
        let mut pod = web(&format!("{{{spec}}}"));
        if let Some(hash) = hash {
            pod["metadata"]["labels"]["pod-template-hash"] = json!(hash);
        }
        let (_, injected) = injected(&pod, &[group("a", 1, on_claim)]);
        let mut notices = injected.notices.iter();
        let told = notices.find(|notice| notice.reason == NoticeReason::DataStaysBehind);
        assert_eq!(told.is_some(), expected, "{spec} {hash:?}");
        assert!(told.is_none_or(|told| told.message.contains("StatefulSet")));
    }
}

#[test]
fn groups_of_one_pod_share_its_agent_and_the_oldest_has_its_way() {
    let groups = [
        group("young", 9, "storage: {volume: EphemeralClaim, size: 3Gi}\nagent: {logLevel: debug}"),
        group(
            "old",
            1,
            "storage: {size: 1Gi}\nagent: {image: 'a:old', resources: {requests: {cpu: 50m}}}",
        ),
        group("same-day", 1, "agent: {image: 'a:other', resources: {limits: {memory: 1Gi}}}"),
        group("elsewhere", 1, "selector: {matchLabels: {app: other}}\nstorage: {size: 9Gi}"),
        group("halfway", 1, "selector: {matchLabels: {app: web, tier: gold}}"),
    ];
    let (pod, injected) = injected(&yaml(WEB), &groups);
    assert_eq!(injected.groups, ["old", "same-day", "young"], "by age, then by name");
    let data = named(&pod["spec"]["volumes"], "coppice-data").unwrap();
    assert_eq!(data["emptyDir"]["sizeLimit"], "7680Mi", "1Gi + 1Gi + 3Gi, half as much again");
    let agent = agent(&pod);
    assert_eq!(agent["image"], "a:old");
    assert_eq!(named(&agent["env"], "COPPICE_LOG_LEVEL").unwrap()["value"], "debug");
    assert_eq!(
        agent["resources"],
        json!({
            "requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "1Gi"},
        })
    );
    let told: Vec<_> = injected.notices.iter().map(|n| (n.reason, n.message.as_str())).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|(reason, _)| *reason == NoticeReason::SelectorConflict));
    assert!(told[0].1.contains("young") && told[0].1.contains("EphemeralClaim"), "{told:?}");
    assert!(told[1].1.contains("same-day") && told[1].1.contains("a:old"), "{told:?}");
    let facts = facts(&pod);
    assert_eq!(facts.groups, injected.groups);
    assert_eq!(facts.size.unwrap().to_string(), "5Gi");
    assert_eq!(facts.version, "1.2.3");
}

#[test]
fn a_pod_without_a_group_waits_for_one() {
    let (pod, injected) = injected(&yaml(WEB), &[]);
    let data = named(&pod["spec"]["volumes"], "coppice-data").unwrap();
    assert_eq!(data["emptyDir"]["sizeLimit"], "1536Mi");
    assert_eq!(injected.notices[0].reason, NoticeReason::NoGroup);
    assert_eq!(injected.groups, Vec::<String>::new());
}

#[test]
fn nodes_may_go_although_the_pod_has_local_volumes_of_ours() {
    const KEY: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";
    let annotated = |value: &str| {
        let mut pod = yaml(WEB);
        pod["metadata"]["annotations"] = json!({KEY: value});
        pod
    };
    let claim = "storage: {volume: EphemeralClaim}";
    for (pod, spec, expected) in [
        (yaml(WEB), "{}", "coppice-data,coppice-identity"),
        (yaml(WEB), claim, "coppice-identity"),
        (annotated("cache, tmp"), "{}", "cache,tmp,coppice-data,coppice-identity"),
        (annotated("coppice-data"), "{}", "coppice-data,coppice-identity"),
        (annotated(""), claim, "coppice-identity"),
    ] {
        let (pod, _) = injected(&pod, &[group("a", 1, spec)]);
        assert_eq!(pod["metadata"]["annotations"][KEY], expected, "{spec}");
    }
}

#[test]
fn what_cannot_be_injected_is_denied_only_if_the_pod_itself_asked() {
    let lost = group("carts", 1, "storage: {volume: PodVolume, volumeName: disk}");
    let cases = [
        (web("hostNetwork: true"), "HostNetwork", "hostNetwork"),
        (web("{}"), "VolumeNotFound", "ReplicationGroup carts"),
        (web("volumes: [{name: disk, configMap: {name: c}}]"), "VolumeNotFound", "ConfigMap"),
        (
            web("volumes: [{name: disk, persistentVolumeClaim: {claimName: c, readOnly: true}}]"),
            "VolumeNotFound",
            "persistentVolumeClaim with readOnly: true",
        ),
        (
            web("volumes: [{name: disk, csi: {driver: d, readOnly: true}}]"),
            "VolumeNotFound",
            "csi with readOnly: true",
        ),
        (web("containers: [{name: coppice-agent, image: x}]"), "NameTaken", "coppice-agent"),
        (web("initContainers: [{name: coppice-agent, image: x}]"), "NameTaken", "coppice-agent"),
        (
            web("initContainers: [{name: coppice-agent, image: x, restartPolicy: Always}]"),
            "NameTaken",
            "coppice-agent",
        ),
        (web("volumes: [{name: coppice-identity, emptyDir: {}}]"), "NameTaken", "coppice-identity"),
        (
            web("containers: [{name: a, image: x, ports: [{containerPort: 4438}]}]"),
            "PortTaken",
            "4438",
        ),
        (
            web("initContainers: [{name: a, image: x, ports: [{containerPort: 4437}]}]"),
            "PortTaken",
            "4437",
        ),
    ];
    for (pod, reason, words) in cases {
        let groups = [lost.clone()];
        let message = denied(&pod, &groups);
        assert!(message.starts_with(reason) && message.contains(words), "{message}");

        let mut by_namespace = pod.clone();
        by_namespace["metadata"]["labels"] = json!({"app": "web"});
        let Outcome::Skipped(obstacle, patch) = outcome(&by_namespace, &groups) else {
            panic!("its author asked for nothing: {reason}")
        };
        assert_eq!(obstacle.name(), reason);
        json_patch::patch(&mut by_namespace, &patch).unwrap();
        assert_eq!(facts(&by_namespace).skipped.as_deref(), Some(reason), "its annotation says so");
        let said = facts(&by_namespace).message.unwrap();
        assert_eq!(format!("{reason}: {said}"), message, "in the same words");
        assert_eq!(by_namespace["spec"], pod["spec"], "nothing else is touched");
        assert!(by_namespace["metadata"]["labels"].get("coppice.dev/injected").is_none());
        let Outcome::Skipped(_, again) = outcome(&by_namespace, &groups) else { panic!("again") };
        assert!(again.0.is_empty(), "once is enough");
    }
}

#[test]
fn a_missing_volume_of_a_younger_group_does_not_stop_a_pod() {
    let groups = [
        group("old", 1, "{}"),
        group("young", 2, "storage: {volume: PodVolume, volumeName: disk}"),
    ];
    let (pod, injected) = injected(&yaml(WEB), &groups);
    assert!(named(&pod["spec"]["volumes"], "coppice-data").is_some());
    assert_eq!(injected.notices[0].reason, NoticeReason::SelectorConflict);
}

#[test]
fn ports_of_other_protocols_are_free() {
    let pod =
        web("containers: [{name: a, image: x, ports: [{containerPort: 4438, protocol: UDP}]}]");
    injected(&pod, &[]);
}

#[test]
fn some_pods_are_left_alone() {
    let with = |path: &str, value: Value| {
        let mut pod = yaml(WEB);
        let patch = json!([{"op": "add", "path": path, "value": value}]);
        json_patch::patch(&mut pod, &serde_json::from_value::<Patch>(patch).unwrap()).unwrap();
        pod
    };
    let os = |values: Value| {
        json!({"matchExpressions": [
            {"key": "zone", "operator": "Exists"},
            {"key": "kubernetes.io/os", "operator": "In", "values": values},
        ]})
    };
    let (windows, either) = (os(json!(["windows"])), os(json!(["windows", "linux"])));
    let affinity = |terms: Value| {
        let required = json!({"nodeSelectorTerms": terms});
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}})
    };
    let cases = [
        (with("/metadata/labels/coppice.dev~1inject", "false".into()), Untouched::OptedOut),
        (
            with("/metadata/annotations", json!({"kubernetes.io/config.mirror": "x"})),
            Untouched::Mirror,
        ),
        (with("/spec/os", json!({"name": "windows"})), Untouched::Windows),
        (with("/spec/nodeSelector", json!({"kubernetes.io/os": "windows"})), Untouched::Windows),
        (with("/spec/affinity", affinity(json!([windows]))), Untouched::Windows),
        (with("/spec/affinity", affinity(json!([windows, windows]))), Untouched::Windows),
    ];
    for (pod, reason) in cases {
        assert_eq!(outcome(&pod, &[]), Outcome::Untouched(reason));
    }
    for terms in [json!([]), json!([windows, either]), json!([windows, {}])] {
        injected(&with("/spec/affinity", affinity(terms)), &[]);
    }
}

#[test]
fn asked_again_it_adds_what_a_later_webhook_left_out() {
    let (mut pod, _) = injected(&yaml(WEB), &[group("a", 1, "{}")]);
    let late = json!({"name": "mesh", "image": "m"});
    pod["spec"]["containers"].as_array_mut().unwrap().push(late);
    pod["spec"]["initContainers"].as_array_mut().unwrap().insert(0, json!({"name": "net"}));
    pod["spec"]["initContainers"][1].as_object_mut().unwrap().remove("restartPolicy");
    pod["metadata"]["labels"].as_object_mut().unwrap().remove("coppice.dev/injected");
    pod["spec"]["volumes"].as_array_mut().unwrap().retain(|v| v["name"] != "coppice-api");

    let (pod, injected) = injected(&pod, &[group("a", 1, "{}")]);
    assert!(injected.repaired);
    let containers = &pod["spec"]["initContainers"];
    assert_eq!(containers[1]["name"], AGENT_CONTAINER, "nobody is moved: they would move back");
    assert_eq!(containers[1]["restartPolicy"], "Always");
    assert!(named(&containers[0]["env"], "COPPICE_URL").is_some());
    assert!(named(&pod["spec"]["containers"][1]["env"], "COPPICE_URL").is_some());
    assert_eq!(pod["metadata"]["labels"]["coppice.dev/injected"], "true");
    assert!(named(&pod["spec"]["volumes"], "coppice-api").is_some());
}

#[test]
fn what_was_decided_stays_when_groups_change_before_the_second_question() {
    let (pod, _) = injected(&yaml(WEB), &[group("a", 1, "storage: {volume: EphemeralClaim}")]);
    assert_eq!(outcome(&pod, &[]), Outcome::Untouched(Untouched::Complete));
    let declared = web("volumes: [{name: disk, emptyDir: {}}]");
    let spec = "storage: {volume: PodVolume, volumeName: disk}";
    let (pod, _) = injected(&declared, &[group("a", 1, spec)]);
    assert_eq!(outcome(&pod, &[]), Outcome::Untouched(Untouched::Complete), "no stray volume");
}

#[test]
fn odd_shapes_are_refused_and_nothing_panics() {
    for pod in [
        json!(null),
        json!([]),
        json!({}),
        json!({"spec": 7}),
        json!({"spec": {"containers": "x"}}),
        json!({"spec": {"containers": [7], "volumes": {}}}),
        json!({"metadata": 3, "spec": {"containers": []}}),
        json!({"metadata": {"labels": []}, "spec": {"initContainers": {}}}),
    ] {
        // Refused or injected: either way an answer.
        let _ = inject(pod, &[], &settings());
    }
}

prop_compose! {
    /// A container of any sort that can be met.
    fn container(name: &'static str)(
        env in proptest::option::of(0_u8..3),
        mounts in proptest::bool::ANY,
    ) -> Value {
        let mut container = json!({"name": name, "image": "i"});
        match env {
            Some(0) => container["env"] = json!([]),
            Some(1) => container["env"] = json!([{"name": "A", "value": "b"}]),
            Some(_) => container["env"] = json!([{"name": "COPPICE_URL", "value": "own"}]),
            None => {}
        }
        if mounts {
            container["volumeMounts"] = json!([{"name": "disk", "mountPath": "/d"}]);
        }
        container
    }
}

prop_compose! {
    fn any_pod()(
        app in container("app"),
        init in proptest::option::of(container("init")),
        volume in proptest::option::of(0_u8..3),
        security in proptest::option::of(0_u32..3),
        labels in 0_u8..3,
        annotations in proptest::option::of(proptest::bool::ANY),
    ) -> Value {
        let mut pod = yaml(WEB);
        pod["spec"]["containers"] = json!([app]);
        if let Some(init) = init {
            pod["spec"]["initContainers"] = json!([init]);
        }
        match volume {
            Some(0) => pod["spec"]["volumes"] = json!([]),
            Some(1) => pod["spec"]["volumes"] = json!([{"name": "disk", "emptyDir": {}}]),
            Some(_) => {
                let claim = json!({"claimName": "c"});
                pod["spec"]["volumes"] = json!([{"name": "disk", "persistentVolumeClaim": claim}]);
            }
            None => {}
        }
        if let Some(user) = security {
            pod["spec"]["securityContext"] = json!({"runAsUser": user});
        }
        match labels {
            0 => pod["metadata"]["labels"] = json!({"app": "web"}),
            1 => { pod["metadata"].as_object_mut().unwrap().remove("labels"); }
            _ => {}
        }
        if let Some(filled) = annotations {
            pod["metadata"]["annotations"] = if filled { json!({"a": "b"}) } else { json!(null) };
        }
        pod
    }
}

proptest! {
    #[test]
    fn what_was_injected_is_left_as_it_is(
        pod in any_pod(),
        kinds in proptest::collection::vec(0_u8..3, 0..4),
    ) {
        let groups: Vec<_> = kinds.iter().zip(1..).map(|(kind, day)| {
            let spec = match kind {
                0 => "{}",
                1 => "storage: {volume: EphemeralClaim}",
                _ => "storage: {volume: PodVolume, volumeName: disk}",
            };
            group(&format!("g{day}"), day, spec)
        }).collect();
        match outcome(&pod, &groups) {
            Outcome::Injected(injected) => {
                let mut result = pod.clone();
                json_patch::patch(&mut result, &injected.patch).unwrap();
                prop_assert_eq!(outcome(&result, &groups), Outcome::Untouched(Untouched::Complete));
                for (list, containers) in [("containers", &pod["spec"]["containers"])] {
                    for container in containers.as_array().into_iter().flatten() {
                        let name = container["name"].as_str().unwrap();
                        let mut after = named(&result["spec"][list], name).unwrap().clone();
                        let mut before = container.clone();
                        before.as_object_mut().unwrap().remove("env");
                        after.as_object_mut().unwrap().remove("env");
                        prop_assert_eq!(before, after, "a container of the app has changed");
                    }
                }
            }
            Outcome::Skipped(..) | Outcome::Denied(_) => {}
            Outcome::Untouched(reason) => prop_assert!(false, "{:?}", reason),
        }
    }
}
