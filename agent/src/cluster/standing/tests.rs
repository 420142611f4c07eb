//! A table of what may be published, labelled and remembered.

use coppice_api::cluster::CONTRACT_VERSION;
use coppice_api::{CrdtSpec, Limits, Snapshot, Storage, Sync};
use coppice_crdt::CrdtType;

use super::*;

/// What is published, and the pod's labels.
type Step = (Option<Published>, Option<Labels>);

/// A group that selects `app=web`; the same number gives the same id.
fn group(name: &str, id: u128) -> PublishedGroup {
    PublishedGroup {
        version: CONTRACT_VERSION,
        name: name.to_owned(),
        id: Uuid::from_u128(id),
        match_labels: labels("web"),
        crdt: CrdtSpec { crdt_type: CrdtType::PNCounter },
        sync: Sync::default(),
        snapshot: Snapshot::default(),
        storage: Storage::default(),
        limits: Limits::default(),
    }
}

fn labels(app: &str) -> Labels {
    Labels::from([("app".to_owned(), app.to_owned())])
}

fn published(groups: Vec<PublishedGroup>) -> Published {
    let groups = groups.into_iter().map(|group| (group.name.clone(), Ok(group))).collect();
    Published { groups, ..Published::default() }
}

fn broken(name: &str) -> Published {
    let groups = BTreeMap::from([(name.to_owned(), Err(format!("{name} is broken")))]);
    Published { groups, ..Published::default() }
}

/// Each group that is served: name, id, `!` for an orphan.
fn shown(standing: &Standing) -> String {
    let line = |(name, kept): (&String, &Kept)| {
        format!("{name}{}{}", kept.group.id.as_u128(), if kept.orphan { "!" } else { "" })
    };
    standing.kept.iter().map(line).collect::<Vec<_>>().join(" ")
}

fn after(steps: &[Step]) -> Standing {
    let next = |standing: Standing, (published, labels): &Step| {
        standing.next(published.as_ref(), labels.as_ref())
    };
    steps.iter().fold(Standing::default(), next)
}

#[test]
fn what_is_served_follows_from_what_is_published_labelled_and_remembered() {
    let web = || Some(labels("web"));
    let other = || Some(labels("api"));
    let a1 = || Some(published(vec![group("a", 1)]));
    let none = || Some(published(vec![]));
    let cases: Vec<(&str, Vec<Step>, &str)> = vec![
        ("nothing is there", vec![(None, None)], ""),
        ("labels are not known yet", vec![(a1(), None)], ""),
        ("it selects the pod", vec![(a1(), web())], "a1"),
        ("it does not", vec![(a1(), other())], ""),
        ("the folder vanishes", vec![(a1(), web()), (None, web())], "a1"),
        ("the labels vanish", vec![(a1(), web()), (none(), None)], "a1"),
        ("its key is gone", vec![(a1(), web()), (none(), web())], "a1!"),
        ("the labels left it", vec![(a1(), web()), (a1(), other())], "a1!"),
        ("it is broken", vec![(a1(), web()), (Some(broken("a")), web())], "a1"),
        (
            "an orphan's key is broken",
            vec![(a1(), web()), (none(), web()), (Some(broken("a")), web())],
            "a1!",
        ),
        ("it is back", vec![(a1(), web()), (none(), web()), (a1(), web())], "a1"),
        ("labels are back", vec![(a1(), web()), (a1(), other()), (a1(), web())], "a1"),
        (
            "made anew with another id",
            vec![(a1(), web()), (Some(published(vec![group("a", 2)])), web())],
            "a1!",
        ),
        (
            "made anew, and then with the old id",
            vec![(a1(), web()), (Some(published(vec![group("a", 2)])), web()), (a1(), web())],
            "a1",
        ),
        (
            "two of one id: the first name has it",
            vec![(Some(published(vec![group("a", 1), group("b", 1)])), web())],
            "a1",
        ),
        (
            "an id that is another group's",
            vec![(a1(), web()), (Some(published(vec![group("a", 1), group("b", 1)])), web())],
            "a1",
        ),
        (
            "renamed, with its id",
            vec![(a1(), web()), (Some(published(vec![group("b", 1)])), web())],
            "b1",
        ),
        (
            "one more",
            vec![(a1(), web()), (Some(published(vec![group("a", 1), group("b", 2)])), web())],
            "a1 b2",
        ),
    ];
    for (what, steps, expected) in cases {
        let standing = after(&steps);
        assert_eq!(shown(&standing), expected, "{what}");
        let again = steps
            .last()
            .map(|(published, labels)| standing.next(published.as_ref(), labels.as_ref()));
        assert_eq!(again.as_ref().map(|again| &again.kept), Some(&standing.kept), "{what}: again");
    }
}

#[test]
fn other_data_by_a_known_name_is_refused_and_both_ids_are_told() {
    let web = Some(labels("web"));
    let standing = after(&[
        (Some(published(vec![group("a", 1)])), web.clone()),
        (Some(published(vec![group("a", 2)])), web.clone()),
    ]);
    let (offered, held) = (Uuid::from_u128(2), Uuid::from_u128(1));
    assert_eq!(standing.refused, [RefusedGroup { name: "a".to_owned(), offered, held }]);
    let left = standing.next(Some(&published(vec![group("a", 2)])), Some(&labels("api")));
    assert!(left.refused.is_empty(), "it does not ask for this pod");
    assert_eq!(shown(&left), "a1!");
}

#[test]
fn settings_are_followed_but_not_those_of_an_orphan() {
    let web = labels("web");
    let mut changed = group("a", 1);
    changed.limits.objects = 7;
    let objects = |standing: &Standing| standing.kept["a"].group.limits.objects;
    let first = after(&[(Some(published(vec![group("a", 1)])), Some(web.clone()))]);
    let followed = first.next(Some(&published(vec![changed.clone()])), Some(&web));
    assert_eq!(objects(&followed), 7);
    let left = first.next(Some(&published(vec![changed])), Some(&labels("api")));
    assert_eq!(objects(&left), Limits::default().objects);
}

#[test]
fn what_cannot_be_used_is_told() {
    let web = labels("web");
    let first = after(&[(Some(published(vec![group("a", 1)])), Some(web.clone()))]);
    let mut retyped = group("a", 1);
    retyped.crdt.crdt_type = CrdtType::GSet;
    for (next, expected) in [
        (published(vec![retyped]), "its type is published as GSet"),
        (published(vec![group("a", 1), group("b", 1)]), "is that of group a"),
        (broken("b"), "b is broken"),
    ] {
        let next = first.next(Some(&next), Some(&web));
        assert_eq!(next.unused.len(), 1, "{:?}", next.unused);
        assert!(
            next.unused.values().any(|problem| problem.contains(expected)),
            "{:?}",
            next.unused
        );
        assert_eq!(next.kept["a"].group, group("a", 1), "nothing changed");
    }
}

#[test]
fn a_certificate_names_what_is_served_and_what_is_asked_for_is_known() {
    let web = labels("web");
    let standing = after(&[
        (Some(published(vec![group("a", 1)])), Some(web.clone())),
        (Some(published(vec![group("b", 2)])), Some(web)),
    ]);
    let ids = BTreeMap::from([(Uuid::from_u128(1), false), (Uuid::from_u128(2), true)]);
    assert_eq!(standing.ids(), ids);
}
