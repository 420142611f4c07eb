//! Whole groups against what people are told of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coppice_api::cluster::{HELD_DATABASE, INJECTED_LABEL};
use coppice_api::v1alpha1::{ConditionReason as Reason, ConditionType as Type, ReplicationGroup};
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::facts::Bystander;
use super::*;
use crate::admission::Obstacle as Skip;
use crate::denials::Denial;
use crate::groups::SeenGroup;
use crate::pods::{AgentContainer, DataVolume, Owner, PassedOver, SeenPod, Waiting};
use crate::reports::GroupView;

fn read(name: &str, change: impl FnOnce(&mut Value)) -> Arc<ReplicationGroup> {
    let mut object = json!({
        "apiVersion": "coppice.dev/v1alpha1", "kind": "ReplicationGroup",
        "metadata": {
            "name": name, "namespace": "shop", "generation": 3,
            "uid": "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        },
        "spec": {"crdt": {"type": "GSet"}, "selector": {"matchLabels": {"app": "web"}}},
    });
    change(&mut object);
    Arc::new(serde_json::from_value(object).unwrap())
}

fn member(name: &str) -> SeenPod {
    SeenPod {
        namespace: "shop".into(),
        name: name.into(),
        uid: format!("uid of {name}"),
        labels: [("app", "web"), (INJECTED_LABEL, "true"), ("pod-template-hash", "5d")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        owner: Some(Owner {
            api_version: "apps/v1".into(),
            kind: "ReplicaSet".into(),
            name: "web-5d".into(),
            uid: "r".into(),
        }),
        agent: Some(AgentContainer {
            image: "coppice-agent:1".into(),
            started: true,
            waiting: None,
            last_words: None,
            volume: Some(DataVolume::EmptyDir),
            data_limit: Some(858_993_459),
        }),
        ..SeenPod::default()
    }
}

/// A group as it should be: two members that agree.
fn healthy() -> Facts {
    Facts {
        seen: Arc::new(SeenGroup::Read(read("views", |_| {}))),
        operator_namespace: "platform".to_owned(),
        rejection: None,
        publication: Publication::Current,
        pods: vec![Arc::new(member("web-1")), Arc::new(member("web-2"))],
        bystanders: Vec::new(),
        denials: Vec::new(),
        view: Some(GroupView {
            asked: 2,
            answered: 2,
            agreement: Some(Agreement::Agree),
            ..GroupView::default()
        }),
        untold: Vec::new(),
        is_new: false,
        older: Vec::new(),
    }
}

fn view(facts: &mut Facts) -> &mut GroupView {
    facts.view.get_or_insert_default()
}

fn change_pods(facts: &mut Facts, change: impl Fn(&mut SeenPod)) {
    for pod in &mut facts.pods {
        change(Arc::make_mut(pod));
    }
}

fn uninject(pod: &mut SeenPod) {
    pod.agent = None;
    pod.labels.remove(INJECTED_LABEL);
}

fn waits(pod: &mut SeenPod, reason: &str, message: &str) {
    let agent = pod.agent.as_mut().unwrap();
    agent.started = false;
    agent.waiting = Some(Waiting { reason: reason.into(), message: message.into() });
}

fn says(pod: &mut SeenPod, words: &str) {
    pod.agent.as_mut().unwrap().last_words = Some(words.to_owned());
}

fn respec(facts: &mut Facts, change: impl FnOnce(&mut Value)) {
    facts.seen = Arc::new(SeenGroup::Read(read("views", change)));
}

fn holds_old_data(facts: &mut Facts) {
    let pods = BTreeSet::from(["web-1".to_owned()]);
    view(facts).refused = BTreeMap::from([(Uuid::from_u128(7), pods)]);
}

fn denied(message: &str) -> Denial {
    Denial {
        owner: member("web-1").owner.unwrap(),
        namespace: "shop".into(),
        workload: "deployment/web".into(),
        labels: BTreeMap::new(),
        message: message.into(),
    }
}

fn of(facts: &Facts, about: Type) -> Finding {
    let found = findings(facts);
    assert_eq!(found.len(), Type::ALL.len(), "every condition, each time");
    found.into_iter().find(|finding| finding.about == about).unwrap()
}

#[test]
fn all_is_well_with_a_healthy_group() {
    let found = findings(&healthy());
    let bad: Vec<_> = found.iter().filter(|finding| finding.holds != Some(true)).collect();
    assert!(bad.is_empty(), "{bad:?}");
    let types: Vec<_> = found.iter().map(|finding| finding.about).collect();
    assert_eq!(types, Type::ALL, "in the order of their types");
}

/// What is wrong, the condition that says so, its reason, and words of its message.
type Case = (fn(&mut Facts), Type, Reason, &'static [&'static str]);

const CASES: &[Case] = &[
    (
        |f| f.pods.clear(),
        Type::Ready,
        Reason::NoPodsMatch,
        &["app=web", "kubectl get pods -n shop"],
    ),
    (
        |f| {
            f.pods.clear();
            let workload = "deployment/plain".to_owned();
            f.bystanders = vec![Bystander { name: "plain-1".into(), workload }];
        },
        Type::Ready,
        Reason::NotOptedIn,
        &["plain-1", "kubectl patch deployment/plain -n shop", "coppice.dev/inject"],
    ),
    (
        |f| {
            f.pods.clear();
            let workload = "job/nightly-1".to_owned();
            f.bystanders = vec![Bystander { name: "nightly-1-x".into(), workload }];
        },
        Type::Ready,
        Reason::NotOptedIn,
        &["delete job/nightly-1 and make it anew", "kubectl get cronjob -n shop"],
    ),
    (
        |f| change_pods(f, uninject),
        Type::Ready,
        Reason::SidecarMissing,
        &["web-1, web-2", "kubectl rollout restart deployment/web -n shop"],
    ),
    (
        |f| uninject(Arc::make_mut(&mut f.pods[0])),
        Type::Injected,
        Reason::SidecarMissing,
        &["web-1", "kubectl rollout restart deployment/web -n shop"],
    ),
    (
        |f| {
            change_pods(f, uninject);
            change_pods(f, |pod| pod.passed_over = Some(PassedOver::from(Skip::HostNetwork)));
        },
        Type::Injected,
        Reason::HostNetwork,
        &["web-1", "take hostNetwork off", "coppice.dev/inject=\"false\"", "deployment/web"],
    ),
    (
        |f| {
            change_pods(f, uninject);
            let taken = Skip::PortTaken { container: "app".into(), port: 4438 };
            Arc::make_mut(&mut f.pods[1]).passed_over = Some(taken.into());
        },
        Type::Injected,
        Reason::PortTaken,
        &["web-2 were", "4438", "have it listen elsewhere; kubectl edit deployment/web -n shop"],
    ),
    (
        |f| {
            change_pods(f, uninject);
            change_pods(f, |pod| {
                let name = "coppice-agent".to_owned();
                pod.passed_over = Some(Skip::NameTaken { what: "container", name }.into());
                pod.owner = None;
            });
        },
        Type::Ready,
        Reason::NameTaken,
        &["web-1, web-2", "call it something else; mend it and make pod/web-1 anew"],
    ),
    (
        |f| {
            f.pods.clear();
            f.denials = vec![denied("exceeded quota: small")];
        },
        Type::Injected,
        Reason::AdmissionRejected,
        &["deployment/web", "exceeded quota: small", "kubectl describe replicaset/web-5d -n shop"],
    ),
    (
        |f| {
            f.pods.clear();
            let words = "webhook denied the request: VolumeNotFound: there is no \"data\"";
            f.denials = vec![denied(words)];
        },
        Type::Ready,
        Reason::VolumeNotFound,
        &["there is no \"data\"", "volumes", "kubectl edit deployment/web -n shop"],
    ),
    (
        |f| {
            respec(f, |g| {
                g["spec"]["storage"] = json!({"volume": "PodVolume", "volumeName": "data"});
            });
            change_pods(f, uninject);
        },
        Type::Injected,
        Reason::VolumeNotFound,
        &["web-1", "\"data\"", "volumeClaimTemplates", "deployment/web"],
    ),
    (
        |f| change_pods(f, |pod| waits(pod, "ImagePullBackOff", "not found")),
        Type::Ready,
        Reason::ImageUnavailable,
        &[
            "coppice-agent:1",
            "not found",
            "spec.agent.image",
            "kubectl describe pod web-1 -n shop",
            "kubectl rollout restart deployment/web -n shop",
        ],
    ),
    (
        |f| waits(Arc::make_mut(&mut f.pods[1]), "CrashLoopBackOff", "back-off 10s"),
        Type::Ready,
        Reason::AgentFailing,
        &["web-2", "kubectl logs web-2 -n shop -c coppice-agent"],
    ),
    (
        |f| {
            let pod = Arc::make_mut(&mut f.pods[1]);
            waits(pod, "CrashLoopBackOff", "back-off 10s");
            says(pod, "coppice-agent: /etc/coppice: not a folder");
        },
        Type::Ready,
        Reason::AgentFailing,
        &["web-2", "/etc/coppice: not a folder"],
    ),
    (
        |f| {
            let pod = Arc::make_mut(&mut f.pods[1]);
            pod.agent.as_mut().unwrap().started = false;
            says(pod, "coppice-agent: dataDir: /d: permission denied; give the folder");
        },
        Type::Ready,
        Reason::AgentFailing,
        &["web-2", "permission denied", "kubectl logs web-2 -n shop"],
    ),
    (
        |f| {
            let pod = Arc::make_mut(&mut f.pods[1]);
            waits(pod, "CrashLoopBackOff", "back-off 10s");
            says(pod, &format!("coppice-agent: the data directory /d {HELD_DATABASE}: stop"));
        },
        Type::StorageHealthy,
        Reason::VolumeShared,
        &["web-2", "/d is held", "kubectl get pods -n shop"],
    ),
    (
        |f| waits(Arc::make_mut(&mut f.pods[1]), "PodInitializing", ""),
        Type::Ready,
        Reason::MembersStarting,
        &["1 of 2", "web-2", "kubectl get pods -n shop -l app=web"],
    ),
    (
        |f| {
            f.older = vec![read("older", |g| {
                g["spec"]["storage"] = json!({"volume": "EphemeralClaim"});
            })];
        },
        Type::Ready,
        Reason::SelectorConflict,
        &["older", "volume", "kubectl get replicationgroup older views -n shop"],
    ),
    (
        |f| {
            let image = |name: &str| json!({"image": name});
            respec(f, |g| g["spec"]["agent"] = image("b"));
            f.older = vec![read("older", |g| g["spec"]["agent"] = image("a"))];
        },
        Type::Ready,
        Reason::SelectorConflict,
        &["older", "image"],
    ),
    (
        |f| respec(f, |g| g["spec"]["storage"] = json!({"size": "2Gi"})),
        Type::Progressing,
        Reason::RestartRequired,
        &["web-1, web-2", "kubectl rollout restart deployment/web -n shop"],
    ),
    (
        |f| respec(f, |g| g["spec"]["storage"] = json!({"volume": "EphemeralClaim"})),
        Type::Progressing,
        Reason::RestartRequired,
        &["web-1"],
    ),
    (
        |f| respec(f, |g| g["spec"]["agent"] = json!({"image": "coppice-agent:2"})),
        Type::Progressing,
        Reason::RestartRequired,
        &["web-1, web-2", "image", "kubectl rollout restart deployment/web -n shop"],
    ),
    (
        |f| holds_old_data(f),
        Type::Ready,
        Reason::OrphanedData,
        &[
            "web-1",
            "spec.id: 00000000-0000-0000-0000-000000000007",
            "kubectl rollout restart deployment/web -n shop",
        ],
    ),
    (
        |f| {
            holds_old_data(f);
            change_pods(f, |pod| {
                pod.agent.as_mut().unwrap().volume = Some(DataVolume::PodVolume("data".into()));
            });
        },
        Type::Ready,
        Reason::OrphanedData,
        &["volume data", "coppice/web-1", "kubectl get pvc -n shop"],
    ),
    (
        |f| f.rejection = Some(Rejection::Malformed("missing field `crdt`".into())),
        Type::Ready,
        Reason::InvalidSpec,
        &["missing field", "spec", "kubectl edit replicationgroup views -n shop"],
    ),
    (
        |f| f.rejection = Some(Rejection::Invalid(vec!["spec.a: b".into(), "spec.c: d".into()])),
        Type::Ready,
        Reason::InvalidSpec,
        &["spec.a: b; spec.c: d"],
    ),
    (
        |f| f.rejection = Some(Rejection::NameTaken("nobody's".into())),
        Type::Ready,
        Reason::NameTaken,
        &["kubectl delete service coppice-g-views -n shop"],
    ),
    (
        |f| f.rejection = Some(Rejection::Refused("services is forbidden".into())),
        Type::Progressing,
        Reason::ApiRefused,
        &["services is forbidden", "kubectl describe clusterrole"],
    ),
    (
        |f| f.rejection = Some(Rejection::Paused),
        Type::Progressing,
        Reason::Paused,
        &["kubectl patch replicationgroup views -n shop", "\"paused\":false"],
    ),
    (
        |f| view(f).unserved = BTreeSet::from(["web-2".to_owned()]),
        Type::Ready,
        Reason::MembersStarting,
        &["web-2 run", "76 s", "kubectl logs -n shop web-2"],
    ),
    (|f| f.untold = vec!["web-1".to_owned()], Type::Ready, Reason::MembersStarting, &["web-1 run"]),
    (
        |f| {
            f.pods.clear();
            f.is_new = true;
        },
        Type::Ready,
        Reason::MembersStarting,
        &["app=web", "kubectl get pods -n shop"],
    ),
    (
        |f| {
            let pods = BTreeSet::from(["web-1".to_owned()]);
            view(f).unused = BTreeMap::from([("its type is published as GSet".to_owned(), pods)]);
        },
        Type::Ready,
        Reason::InvalidSpec,
        &["web-1", "published as GSet", "kubectl get replicationgroup views -n shop"],
    ),
    (
        |f| f.publication = Publication::RightsTaken,
        Type::Progressing,
        Reason::NameTaken,
        &["RoleBinding coppice-agents", "kubectl delete rolebinding coppice-agents -n shop"],
    ),
    (
        |f| {
            f.rejection = Some(Rejection::Paused);
            view(f).unserved = BTreeSet::from(["web-1".to_owned()]);
        },
        Type::Ready,
        Reason::Paused,
        &["kubectl patch replicationgroup views -n shop"],
    ),
    (
        |f| {
            f.publication = Publication::NameTaken;
            view(f).unserved = BTreeSet::from(["web-1".to_owned()]);
        },
        Type::Ready,
        Reason::NameTaken,
        &["ConfigMap coppice-groups"],
    ),
    (
        |f| f.publication = Publication::OperatorUnknown,
        Type::CertificatesReady,
        Reason::CertificatesPending,
        &["kubectl logs -n platform deployment/coppice-operator"],
    ),
    (
        |f| f.publication = Publication::OperatorUnknown,
        Type::Progressing,
        Reason::OperatorStarting,
        &["kubectl get service,secret -n platform"],
    ),
    (
        |f| f.publication = Publication::Refused("Too long: at most 1048576 bytes".to_owned()),
        Type::Progressing,
        Reason::ApiRefused,
        &["Too long", "namespace shop", "another namespace"],
    ),
    (
        |f| f.publication = Publication::NameTaken,
        Type::Progressing,
        Reason::NameTaken,
        &["kubectl delete configmap coppice-groups -n shop"],
    ),
    (
        |f| {
            view(f).failing = BTreeMap::from([("web-1".into(), "read-only file system".into())]);
        },
        Type::StorageHealthy,
        Reason::StorageFailed,
        &["web-1", "read-only file system", "kubectl logs web-1 -n shop"],
    ),
    (
        |f| view(f).full = BTreeSet::from(["web-1".into()]),
        Type::StorageHealthy,
        Reason::VolumeFull,
        &["web-1", "507", "kubectl rollout restart"],
    ),
    (
        |f| {
            view(f).agreement = Some(Agreement::Behind(["web-2".to_owned()].into()));
            view(f).alone = BTreeSet::from(["web-2".into()]);
        },
        Type::Converged,
        Reason::PeersUnreachable,
        &["web-2", "4438", "kubectl get networkpolicies -n shop"],
    ),
];

#[test]
fn each_mistake_is_told_with_its_mend() {
    for (change, about, reason, words) in CASES {
        let mut facts = healthy();
        change(&mut facts);
        let finding = of(&facts, *about);
        assert_eq!((finding.holds, finding.reason), (Some(false), *reason), "{}", finding.message);
        for word in *words {
            assert!(
                finding.message.contains(word),
                "{reason}: {word:?} is not in {:?}",
                finding.message
            );
        }
    }
}

#[test]
fn a_group_that_is_served_otherwise_than_asked_is_ready() {
    for change in [
        (|f: &mut Facts| respec(f, |g| g["spec"]["storage"] = json!({"size": "2Gi"})))
            as fn(&mut Facts),
        |f| f.rejection = Some(Rejection::Paused),
        |f| uninject(Arc::make_mut(&mut f.pods[0])),
        |f| f.publication = Publication::Pending,
    ] {
        let mut facts = healthy();
        change(&mut facts);
        assert_eq!(of(&facts, Type::Ready).holds, Some(true), "{facts:?}");
    }
}

#[test]
fn the_older_group_knows_nothing_of_a_conflict() {
    let mut facts = healthy();
    let mut disjoint =
        read("older", |g| g["spec"]["storage"] = json!({"volume": "EphemeralClaim"}));
    Arc::make_mut(&mut disjoint).spec.selector.match_labels =
        BTreeMap::from([("app".to_owned(), "api".to_owned())]);
    facts.older = vec![disjoint];
    assert_eq!(of(&facts, Type::Ready).holds, Some(true), "they share no pod");
    facts.older = vec![read("older", |_| {})];
    assert_eq!(of(&facts, Type::Ready).holds, Some(true), "they ask for the same");
}

#[test]
fn agents_that_do_not_answer_leave_it_unknown() {
    let mut facts = healthy();
    facts.view = Some(GroupView { asked: 2, ..GroupView::default() });
    for about in [Type::Converged, Type::CertificatesReady, Type::StorageHealthy] {
        let finding = of(&facts, about);
        assert_eq!((finding.holds, finding.reason), (None, Reason::AgentsUnreachable));
        assert!(finding.message.contains("4438"), "{}", finding.message);
    }
    assert_eq!(of(&facts, Type::Ready).holds, Some(true), "they have started");
}

#[test]
fn sizes_of_a_pods_groups_add_up() {
    let mut facts = healthy();
    facts.older = vec![read("older", |_| {})];
    let finding = of(&facts, Type::Progressing);
    assert_eq!(finding.reason, Reason::RestartRequired, "1Gi each does not fit into 1Gi");
    change_pods(&mut facts, |pod| pod.agent.as_mut().unwrap().data_limit = Some(1_717_986_918));
    assert_eq!(of(&facts, Type::Progressing).holds, Some(true));
}

#[test]
fn an_image_that_nobody_asks_for_anew_needs_no_restart() {
    let image = |name: &str| json!({"image": name});
    for (asked, has) in [
        (None, "mirror.example.com/coppice-agent:0"),
        (Some("coppice-agent:1"), "coppice-agent:1"),
        (Some("team/coppice-agent:1"), "mirror.example.com/all/coppice-agent:1"),
        (Some("coppice-agent:1"), "coppice-agent:1@sha256:abc"),
    ] {
        let mut facts = healthy();
        if let Some(asked) = asked {
            respec(&mut facts, |g| g["spec"]["agent"] = image(asked));
        }
        change_pods(&mut facts, |pod| pod.agent.as_mut().unwrap().image = has.to_owned());
        assert_eq!(of(&facts, Type::Progressing).holds, Some(true), "{asked:?} and {has}");
    }

    let mut facts = healthy();
    respec(&mut facts, |g| g["spec"]["agent"] = image("coppice-agent:1@sha256:def"));
    change_pods(&mut facts, |pod| {
        let agent = pod.agent.as_mut().unwrap();
        (agent.image, agent.data_limit) = ("coppice-agent:1@sha256:abc".to_owned(), None);
    });
    assert_eq!(of(&facts, Type::Progressing).reason, Reason::RestartRequired, "another digest");
    // It has no say: what the older one asks for is the older one's to tell.
    facts.older = vec![read("older", |g| g["spec"]["agent"] = image("coppice-agent:1@sha256:def"))];
    assert_eq!(of(&facts, Type::Progressing).holds, Some(true));
}
