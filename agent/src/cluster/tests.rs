//! A pod whose folder changes under it.

use coppice_api::cluster::OPERATOR_KEY;

use super::*;

const ID: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
const OTHER_ID: &str = "11111111-9dad-11d1-80b4-00c04fd430c8";

/// What is mounted into a pod.
struct Mounted {
    folder: tempfile::TempDir,
}

impl Mounted {
    /// With the operator's key and the labels `app=web`.
    fn new() -> Self {
        let mounted = Self { folder: tempfile::tempdir().unwrap() };
        for below in ["groups", "pod", "data"] {
            std::fs::create_dir(mounted.folder.path().join(below)).unwrap();
        }
        let operator =
            r#"{"version":1,"cluster":"c","address":"10.0.0.1:443","serverName":"operator"}"#;
        mounted.publish(OPERATOR_KEY, operator);
        mounted.label("web");
        mounted
    }

    fn publish(&self, key: &str, text: &str) {
        std::fs::write(self.folder.path().join("groups").join(key), text).unwrap();
    }

    fn publish_group(&self, name: &str, id: &str) {
        let text = format!(
            r#"{{"version":1,"name":"{name}","id":"{id}","matchLabels":{{"app":"web"}},"crdt":{{"type":"GSet"}}}}"#
        );
        self.publish(&format!("group.{name}.json"), &text);
    }

    fn take_back(&self, key: &str) {
        std::fs::remove_file(self.folder.path().join("groups").join(key)).unwrap();
    }

    fn label(&self, app: &str) {
        std::fs::write(self.folder.path().join(LABELS_FILE), format!("app=\"{app}\"\n")).unwrap();
    }

    /// The agent of the pod with this UID.
    fn cluster(&self, uid: &str) -> Cluster {
        let given = |text: &str| Some(text.to_owned());
        let pod = PodArgs {
            pod_name: given("web-0"),
            pod_namespace: given("shop"),
            pod_uid: given(uid),
            pod_ips: given("10.0.0.7"),
            identity_dir: Some(self.folder.path().join("identity")),
        };
        let data_dir = Some(self.folder.path().join("data"));
        let overrides = Overrides { data_dir, ..Overrides::default() };
        Cluster::open((self.folder.path(), &pod), overrides).unwrap()
    }
}

fn names(cluster: &Cluster) -> Vec<String> {
    cluster.config().groups.into_iter().map(|group| group.name).collect()
}

#[test]
fn a_pod_listens_to_its_peers_with_tls_and_to_its_app_on_loopback() {
    let mounted = Mounted::new();
    let config = mounted.cluster("u").config();
    assert_eq!(config.listen.app.to_string(), "127.0.0.1:4437");
    assert_eq!(config.listen.peers.to_string(), "0.0.0.0:4438");
    assert_eq!(config.listen.operations.to_string(), "0.0.0.0:4439");
    assert_eq!(config.replica.name.as_deref(), Some("web-0"));
    assert!(config.tls.is_some() && config.problems().is_empty(), "{:?}", config.problems());
}

#[test]
fn what_is_published_and_labelled_is_followed() {
    let mounted = Mounted::new();
    let mut cluster = mounted.cluster("u");
    assert!(names(&cluster).is_empty());
    mounted.publish_group("a", ID);
    assert!(cluster.look());
    assert_eq!(names(&cluster), ["a"]);
    assert!(!cluster.look(), "nothing changed");
    mounted.label("api");
    assert!(cluster.look());
    assert_eq!((names(&cluster), cluster.view().orphans), (vec!["a".into()], vec!["a".into()]));
}

#[test]
fn a_config_map_that_is_deleted_changes_nothing_and_a_key_that_is_gone_orphans() {
    let mounted = Mounted::new();
    mounted.publish_group("a", ID);
    let mut cluster = mounted.cluster("u");
    let operator = std::fs::read_to_string(mounted.folder.path().join("groups/operator.json"));
    mounted.take_back(OPERATOR_KEY);
    mounted.take_back("group.a.json");
    cluster.look();
    assert!(cluster.view().orphans.is_empty() && cluster.view().operator.is_some());
    mounted.publish(OPERATOR_KEY, &operator.unwrap());
    assert!(cluster.look());
    assert_eq!(cluster.view().orphans, ["a"]);
    std::fs::remove_dir_all(mounted.folder.path().join("groups")).unwrap();
    assert!(!cluster.look());
    assert_eq!(names(&cluster), ["a"]);
}

#[test]
fn a_restarted_container_comes_up_with_what_it_served_and_another_pod_does_not() {
    let mounted = Mounted::new();
    mounted.publish_group("a", ID);
    let cluster = mounted.cluster("u");
    cluster.memory.write(&mounted.folder.path().join("data")).unwrap();
    std::fs::remove_dir_all(mounted.folder.path().join("groups")).unwrap();
    std::fs::remove_dir_all(mounted.folder.path().join("pod")).unwrap();
    let again = mounted.cluster("u");
    assert_eq!(names(&again), ["a"]);
    assert_eq!(again.view().operator, cluster.view().operator);
    let other = mounted.cluster("v");
    assert!(names(&other).is_empty() && other.view().operator.is_none());
    assert!(other.forgotten.is_some(), "which is said");
}

#[test]
fn a_group_made_anew_is_refused_until_it_has_the_old_id() {
    let mounted = Mounted::new();
    mounted.publish_group("a", ID);
    let mut cluster = mounted.cluster("u");
    mounted.publish_group("a", OTHER_ID);
    cluster.look();
    let refused = cluster.view().refused;
    assert_eq!((refused.len(), refused[0].held.to_string()), (1, ID.to_owned()));
    assert_eq!(cluster.config().groups[0].effective_id().to_string(), ID, "its data is served");
    mounted.publish_group("a", ID);
    cluster.look();
    assert!(cluster.view().refused.is_empty() && cluster.view().orphans.is_empty());
}
