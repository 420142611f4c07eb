//! What is granted, read from what is rendered.

use std::collections::BTreeSet;

use serde_json::Value;

use super::helm::{PRESETS, items, named, of_kind, rendered, texts};

/// Each (group, resource, verb) of a role's rules that is not limited to names.
fn granted(role: &Value) -> BTreeSet<(String, String, String)> {
    let mut all = BTreeSet::new();
    for rule in items(&role["rules"]) {
        if !items(&rule["resourceNames"]).is_empty() {
            continue;
        }
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    all.insert((group.to_owned(), resource.to_owned(), verb.to_owned()));
                }
            }
        }
    }
    all
}

#[test]
#[ignore = "needs Helm: make chart"]
fn nothing_is_granted_by_a_wildcard() {
    for (preset, flags) in PRESETS {
        let objects = rendered(flags);
        for role in of_kind(&objects, "ClusterRole").into_iter().chain(of_kind(&objects, "Role")) {
            let text = role["rules"].to_string();
            assert!(!text.contains('*'), "{preset}: {}: {text}", role["metadata"]["name"]);
        }
    }
}

#[test]
#[ignore = "needs Helm: make chart"]
fn secrets_are_read_at_home_by_one_name_only() {
    for (preset, flags) in PRESETS {
        let objects = rendered(flags);
        for role in of_kind(&objects, "ClusterRole").into_iter().chain(of_kind(&objects, "Role")) {
            let name = &role["metadata"]["name"];
            for rule in items(&role["rules"]) {
                if !texts(&rule["resources"]).contains(&"secrets") {
                    continue;
                }
                assert_eq!(name, "coppice-operator-home", "{preset}");
                let by_name = texts(&rule["resourceNames"]) == ["coppice-authorities"];
                assert!(by_name || texts(&rule["verbs"]) == ["create"], "{preset}: {rule}");
            }
        }
    }
}

#[test]
#[ignore = "needs Helm: make chart"]
fn agents_get_endpoint_slices_and_nothing_else() {
    for (preset, flags) in PRESETS {
        let objects = rendered(flags);
        let rules = granted(named(&objects, "ClusterRole", "coppice-agent"));
        let expected: BTreeSet<_> = ["get", "list", "watch"]
            .map(|verb| {
                ("discovery.k8s.io".to_owned(), "endpointslices".to_owned(), verb.to_owned())
            })
            .into();
        assert_eq!(rules, expected, "{preset}");
        let bindings = of_kind(&objects, "ClusterRoleBinding");
        assert!(
            bindings.iter().all(|binding| binding["roleRef"]["name"] != "coppice-agent"),
            "{preset}"
        );
    }
}

#[test]
#[ignore = "needs Helm: make chart"]
fn with_namespaces_named_nothing_is_granted_elsewhere() {
    let objects = rendered(PRESETS[2].1);
    let everywhere = granted(named(&objects, "ClusterRole", "coppice-operator"));
    let expected: BTreeSet<_> = [
        ("authentication.k8s.io", "tokenreviews", "create"),
        ("", "namespaces", "get"),
        ("", "namespaces", "list"),
        ("", "namespaces", "watch"),
    ]
    .map(|(group, resource, verb)| (group.to_owned(), resource.to_owned(), verb.to_owned()))
    .into();
    assert_eq!(everywhere, expected, "what is not limited to names");

    let whole = rendered(&[]);
    let whole = granted(named(&whole, "ClusterRole", "coppice-operator"));
    let namespaces: Vec<_> = of_kind(&objects, "Role")
        .into_iter()
        .filter(|role| role["metadata"]["name"] == "coppice-operator")
        .map(|role| {
            assert!(granted(role).is_subset(&whole), "no right that it lacks otherwise");
            role["metadata"]["namespace"].as_str().expect("a role has a namespace").to_owned()
        })
        .collect();
    assert_eq!(namespaces, ["shop", "blog"]);
}

#[test]
#[ignore = "needs Helm: make chart"]
fn workloads_are_changed_only_if_they_are_to_be_retried() {
    let patches = |flags: &[&str]| {
        let objects = rendered(flags);
        let rules = granted(named(&objects, "ClusterRole", "coppice-operator"));
        let of_workloads = |group: &str| group == "apps" || group == "batch";
        rules.iter().filter(|(group, _, verb)| of_workloads(group) && verb == "patch").count()
    };
    assert_eq!(patches(&[]), 4, "replicasets, statefulsets, daemonsets, jobs");
    assert_eq!(patches(PRESETS[4].1), 0);
}
