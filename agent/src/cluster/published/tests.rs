//! What is read of a mounted `ConfigMap`.

use super::*;

const ID: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
const OPERATOR: &str =
    r#"{"version":1,"cluster":"c","address":"10.0.0.1:443","serverName":"coppice-operator"}"#;

fn files(entries: &[(&str, &str)]) -> Files {
    entries.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
}

fn group_json(more: &str) -> String {
    format!(
        r#"{{"version":1,"name":"a","id":"{ID}","matchLabels":{{"app":"web"}},"crdt":{{"type":"GSet"}}{more}}}"#
    )
}

#[test]
fn without_the_operators_key_there_is_no_config_map() {
    assert_eq!(Published::from(&files(&[])), None);
    assert_eq!(Published::from(&files(&[("group.a.json", &group_json(""))])), None);
}

#[test]
fn groups_and_operator_are_read_with_defaults() {
    let published =
        Published::from(&files(&[(OPERATOR_KEY, OPERATOR), ("group.a.json", &group_json(""))]));
    let published = published.unwrap();
    assert_eq!(published.operator.unwrap().server_name, "coppice-operator");
    let group = published.groups["a"].clone().unwrap();
    assert_eq!((group.sync, group.limits), (Sync::default(), Limits::default()));
    assert_eq!((published.problems.len(), published.unknown_fields), (0, 0));
}

#[test]
fn fields_of_a_newer_operator_are_ignored_and_counted() {
    let newer = group_json(
        r#","sync":{"interval":"2s","jitter":"1s"},"limits":{"objects":5,"more":{"a":1}},"novel":[1]"#,
    );
    let operator = OPERATOR.replacen('{', r#"{"region":"x","#, 1);
    let published =
        Published::from(&files(&[(OPERATOR_KEY, &operator), ("group.a.json", &newer)])).unwrap();
    let group = published.groups["a"].clone().unwrap();
    assert_eq!(group.sync.interval, "2s".parse().unwrap());
    assert_eq!(group.limits.objects, 5);
    assert_eq!(group.match_labels.len(), 1, "labels are nobody's fields");
    assert_eq!(published.unknown_fields, 4);
}

#[test]
fn a_broken_key_is_told_and_takes_nothing_from_the_others() {
    let other = group_json("").replace("\"a\"", "\"b\"");
    for (broken, expected) in [
        ("not json".to_owned(), "group.a.json: expected"),
        (group_json(r#","limits":{"objects":0}"#), "group.a.json: limits.objects: 0 is out of"),
        (group_json(r#","sync":{"interval":5}"#), "group.a.json: sync.interval: "),
        (group_json("").replace("GSet", "Counter"), "group.a.json: crdt.type: unknown CRDT type"),
        (other.clone(), "group.a.json: is of a group \"b\""),
        (group_json("").replace(ID, "x"), "group.a.json: id: "),
    ] {
        let all = files(&[
            (OPERATOR_KEY, OPERATOR),
            ("group.a.json", &broken),
            ("group.b.json", &other),
            ("notes.txt", "not ours"),
        ]);
        let published = Published::from(&all).unwrap();
        let error = published.groups["a"].clone().unwrap_err();
        assert!(error.starts_with(expected), "expected {expected:?}, found {error:?}");
        assert!(published.groups["b"].is_ok() && published.groups.len() == 2);
    }
}

#[test]
fn a_broken_operator_or_authority_is_told_and_the_groups_are_read() {
    let all = files(&[
        (OPERATOR_KEY, "{}"),
        (PEERS_AUTHORITIES_KEY, "nonsense"),
        ("group.a.json", &group_json("")),
    ]);
    let published = Published::from(&all).unwrap();
    assert!(published.operator.is_none() && published.peers_authorities.is_none());
    assert_eq!(published.problems.len(), 2, "{:?}", published.problems);
    assert!(published.groups["a"].is_ok());
}

/// As Kubernetes mounts it.
#[test]
fn files_are_read_through_the_link_that_is_swapped() {
    let folder = tempfile::tempdir().unwrap();
    let version = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join(OPERATOR_KEY), text).unwrap();
        let link = folder.path().join("..tmp");
        std::os::unix::fs::symlink(name, &link).unwrap();
        std::fs::rename(link, folder.path().join(CURRENT)).unwrap();
    };
    version("..1", "one");
    std::os::unix::fs::symlink("..data/operator.json", folder.path().join(OPERATOR_KEY)).unwrap();
    assert_eq!(read(folder.path()).unwrap()[OPERATOR_KEY], b"one");
    version("..2", "two");
    assert_eq!(read(folder.path()).unwrap()[OPERATOR_KEY], b"two");
    assert!(read(&folder.path().join("nowhere")).is_err());
}
