//! What is rendered, seen as objects.

use std::collections::BTreeSet;

use serde_json::Value;

use super::helm::{PRESETS, helm, items, named, of_kind, rendered, texts};

/// Kinds that belong to no namespace.
const CLUSTER_KINDS: [&str; 5] = [
    "ClusterRole",
    "ClusterRoleBinding",
    "MutatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
];

fn container(objects: &[Value]) -> &Value {
    &named(objects, "Deployment", "coppice-operator")["spec"]["template"]["spec"]["containers"][0]
}

#[test]
#[ignore = "needs Helm: make chart"]
fn helm_finds_no_fault_with_any_preset() {
    for (preset, flags) in PRESETS {
        let mut arguments = vec!["lint", "charts/coppice"];
        arguments.extend(flags);
        assert_eq!(helm(&arguments), Ok(String::new()), "{preset}");
    }
    assert_eq!(helm(&["lint", "charts/coppice-crds"]), Ok(String::new()));
}

#[test]
#[ignore = "needs Helm: make chart"]
fn objects_are_whole_distinct_and_where_they_belong() {
    for (preset, flags) in PRESETS {
        let objects = rendered(flags);
        let mut seen = BTreeSet::new();
        for object in &objects {
            let kind = object["kind"].as_str().expect("an object has a kind");
            let name = object["metadata"]["name"].as_str().expect("an object has a name");
            let namespace = object["metadata"]["namespace"].as_str();
            assert!(object["apiVersion"].is_string(), "{preset}: {kind} {name}");
            assert!(seen.insert((kind, name, namespace)), "{preset}: {kind} {name} is there twice");
            assert_eq!(
                namespace.is_none(),
                CLUSTER_KINDS.contains(&kind),
                "{preset}: {kind} {name}"
            );
            assert_eq!(
                object["metadata"]["labels"]["app.kubernetes.io/name"], "coppice",
                "{preset}: {kind} {name} carries the chart's labels"
            );
        }
    }
}

#[test]
#[ignore = "needs Helm: make chart"]
fn images_are_named_by_values_only() {
    let digest = format!("@sha256:{}", "0".repeat(64));
    for (tag, end) in [("v7", ":v7".to_owned()), (digest.as_str(), digest.clone())] {
        let set = format!("image.registry=registry.example/team,image.tag={tag}");
        let objects = rendered(&["--set", &set]);
        let agent = format!("--agent-image=registry.example/team/coppice-agent{end}");
        assert!(texts(&container(&objects)["args"]).contains(&agent.as_str()), "{agent}");
        let operator = format!("registry.example/team/coppice-operator{end}");
        assert_eq!(container(&objects)["image"], operator.as_str());
    }
}

#[test]
#[ignore = "needs Helm: make chart"]
fn the_operator_is_as_confined_as_a_pod_can_be() {
    for (preset, flags) in PRESETS {
        let objects = rendered(flags);
        let pod = &named(&objects, "Deployment", "coppice-operator")["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{preset}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{preset}");
        for field in ["hostNetwork", "hostPID", "hostIPC", "volumes"] {
            assert!(pod[field].is_null(), "{preset}: {field}");
        }
        for container in items(&pod["containers"]) {
            let context = &container["securityContext"];
            assert_eq!(context["allowPrivilegeEscalation"], false, "{preset}");
            assert_eq!(context["readOnlyRootFilesystem"], true, "{preset}");
            assert_eq!(texts(&context["capabilities"]["drop"]), ["ALL"], "{preset}");
            for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
                assert!(container[probe].is_object(), "{preset}: {probe}");
            }
            assert!(container["resources"]["requests"].is_object(), "{preset}");
        }
    }
}

#[test]
#[ignore = "needs Helm: make chart"]
fn network_policies_select_nothing_but_the_operator() {
    for (preset, flags) in PRESETS {
        let objects = rendered(flags);
        let labels = &named(&objects, "Deployment", "coppice-operator")["spec"]["template"]["metadata"]
            ["labels"];
        for policy in of_kind(&objects, "NetworkPolicy") {
            assert_eq!(policy["metadata"]["namespace"], "coppice-system", "{preset}");
            let selected = policy["spec"]["podSelector"]["matchLabels"].as_object();
            let selected = selected.expect("it selects by labels");
            assert!(!selected.is_empty(), "{preset}: an empty selector selects all pods");
            assert!(selected.iter().all(|(key, value)| labels[key] == *value), "{preset}");
        }
    }
}

#[test]
#[ignore = "needs Helm: make chart"]
fn the_webhook_fails_open_and_leaves_its_own_namespace_alone() {
    for (preset, flags) in PRESETS {
        let objects = rendered(flags);
        let webhooks =
            &named(&objects, "MutatingWebhookConfiguration", "coppice-injector")["webhooks"];
        assert_eq!(items(webhooks).len(), 2, "{preset}: one for pods' labels, one for namespaces'");
        for webhook in items(webhooks) {
            assert_eq!(webhook["failurePolicy"], "Ignore", "{preset}");
            assert!(
                webhook["clientConfig"]["caBundle"].is_null(),
                "{preset}: the operator writes it"
            );
            let excluded = items(&webhook["namespaceSelector"]["matchExpressions"])
                .iter()
                .find(|expression| expression["operator"] == "NotIn")
                .expect("namespaces are excluded");
            for namespace in ["coppice-system", "kube-system", "kube-public", "kube-node-lease"] {
                assert!(texts(&excluded["values"]).contains(&namespace), "{preset}: {namespace}");
            }
        }
    }
}

#[test]
#[ignore = "needs Helm: make chart"]
fn presets_are_what_their_names_say() {
    let ha = rendered(PRESETS[1].1);
    assert_eq!(named(&ha, "Deployment", "coppice-operator")["spec"]["replicas"], 3);
    assert_eq!(named(&ha, "PodDisruptionBudget", "coppice-operator")["spec"]["minAvailable"], 2);
    for kind in ["ServiceMonitor", "PodMonitor", "PrometheusRule"] {
        assert_eq!(of_kind(&ha, kind).len(), 1, "{kind}");
        assert!(
            of_kind(&rendered(&[]), kind).is_empty(),
            "{kind} needs a CRD that may not be there"
        );
    }

    let some = rendered(PRESETS[2].1);
    let arguments = texts(&container(&some)["args"]);
    for namespace in ["shop", "blog"] {
        assert!(arguments.contains(&format!("--watch-namespaces={namespace}").as_str()));
    }
    for webhook in
        items(&named(&some, "MutatingWebhookConfiguration", "coppice-injector")["webhooks"])
    {
        let expressions = items(&webhook["namespaceSelector"]["matchExpressions"]);
        let within = expressions.iter().find(|expression| expression["operator"] == "In");
        assert_eq!(texts(&within.expect("it is limited")["values"]), ["shop", "blog"]);
    }

    let least = rendered(PRESETS[4].1);
    let binding = named(&least, "ValidatingAdmissionPolicyBinding", "coppice-injected");
    assert_eq!(texts(&binding["spec"]["validationActions"]), ["Warn", "Audit"]);
    let binding = named(&least, "ValidatingAdmissionPolicyBinding", "coppice-injected-label");
    assert_eq!(
        texts(&binding["spec"]["validationActions"]),
        ["Deny", "Audit"],
        "whoever may run without the sidecar may still not pass itself off as a peer"
    );
}

#[test]
#[ignore = "needs Helm: make chart"]
fn notes_say_what_is_less_safe_than_the_default() {
    let notes = |flags: &[&str]| {
        let mut arguments = vec!["template", "coppice", "charts/coppice", "--notes"];
        arguments.extend(flags);
        helm(&arguments).unwrap_or_else(|error| panic!("{error}"))
    };
    assert!(!notes(&[]).contains("NOTE"));
    let least = notes(PRESETS[4].1);
    assert_eq!(least.matches("NOTE").count(), 2, "{least}");
}
