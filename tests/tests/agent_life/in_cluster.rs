//! An agent with what a pod is given, and nobody else there: no API server, no
//! operator.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use coppice_api::cluster::{GROUPS_DIR, LABELS_FILE, OPERATOR_KEY, key_of_group};
use coppice_tests::agents::{Agent, AgentSpec, Signal};
use coppice_tests::eventually::eventually;
use coppice_tests::trio::Failure;
use serde_json::{Value, json};

use super::{HITS, LIMIT, increment, metrics_of, wait_for};

const ID: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
const OTHER_ID: &str = "11111111-9dad-11d1-80b4-00c04fd430c8";

/// A pod's mounts, and its agent.
struct Pod {
    _folder: tempfile::TempDir,
    mounts: PathBuf,
    agent: Agent,
}

impl Pod {
    fn start() -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let mounts = folder.path().join("mounts");
        std::fs::create_dir_all(mounts.join(GROUPS_DIR))?;
        std::fs::create_dir_all(mounts.join("pod"))?;
        label(&mounts, "web")?;
        let arguments = vec!["--cluster".into(), mounts.clone().into_os_string()];
        let mut spec = AgentSpec::new("web-0", folder.path(), arguments)?;
        let identity = folder.path().join("identity").into_os_string();
        spec.environment = [
            ("COPPICE_POD_NAME", "web-0".into()),
            ("COPPICE_POD_NAMESPACE", "shop".into()),
            ("COPPICE_POD_UID", "11111111-2222-3333-4444-555555555555".into()),
            ("COPPICE_POD_IPS", "127.0.0.1".into()),
            ("COPPICE_IDENTITY_DIR", identity),
            // Nobody's: there is no API server.
            ("KUBECONFIG", folder.path().join("no-kubeconfig").into_os_string()),
        ]
        .map(|(name, value): (&str, OsString)| (name.into(), value))
        .to_vec();
        let agent = spec.start()?;
        Ok(Self { _folder: folder, mounts, agent })
    }

    fn groups(&self) -> PathBuf {
        self.mounts.join(GROUPS_DIR)
    }

    fn publish(&self, id: &str) -> Result<(), Failure> {
        let operator = json!({
            "version": 1, "cluster": "c", "address": "127.0.0.1:9", "serverName": "operator",
        });
        std::fs::write(self.groups().join(OPERATOR_KEY), operator.to_string())?;
        let group = json!({
            "version": 1, "name": "hits", "id": id, "matchLabels": {"app": "web"},
            "crdt": {"type": "PNCounter"},
        });
        std::fs::write(self.groups().join(key_of_group("hits")), group.to_string())?;
        Ok(())
    }

    /// Waits until `/status` shows this of the cluster.
    fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value, Failure> {
        let mut last = Value::Null;
        let found = eventually(LIMIT, || {
            let text = self.agent.operations().get("/status").ok()?.text();
            last = serde_json::from_str(&text).ok()?;
            holds(&last["cluster"]).then(|| last["cluster"].clone())
        });
        found.ok_or_else(|| format!("{what}: {last}").into())
    }
}

fn label(mounts: &Path, app: &str) -> Result<(), Failure> {
    Ok(std::fs::write(mounts.join(LABELS_FILE), format!("app=\"{app}\"\n"))?)
}

#[test]
fn a_pods_agent_serves_what_is_published_and_goes_on_when_all_of_it_is_gone() -> Result<(), Failure>
{
    let mut pod = Pod::start()?;
    let text = pod.agent.operations().get("/status")?.text();
    assert!(text.contains("\"groups\":[]"), "nothing is published: {text}");

    pod.publish(ID)?;
    let served = eventually(LIMIT, || (increment(&pod.agent, HITS).ok()? == 200).then_some(()));
    served.ok_or("the published group is served")?;
    pod.until("why there is no certificate", |cluster| {
        cluster["certificate"]["problem"].as_str().is_some_and(|problem| !problem.is_empty())
    })?;

    // Remembered within two seconds or so.
    let memory = pod.agent.spec().data().join("cluster.json");
    let written = eventually(LIMIT, || {
        std::fs::read_to_string(&memory).ok().filter(|text| text.contains(ID)).map(drop)
    });
    written.ok_or("it is remembered")?;
    std::fs::remove_dir_all(&pod.mounts)?;
    pod.agent.kill();
    pod.agent.restart()?;
    wait_for(&pod.agent, HITS, 1)?;
    assert_eq!(increment(&pod.agent, HITS)?, 200);
    Ok(())
}

#[test]
fn a_group_that_leaves_is_served_on_and_one_made_anew_is_refused() -> Result<(), Failure> {
    let pod = Pod::start()?;
    pod.publish(ID)?;
    let served = eventually(LIMIT, || (increment(&pod.agent, HITS).ok()? == 200).then_some(()));
    served.ok_or("the published group is served")?;

    label(&pod.mounts, "api")?;
    pod.until("an orphan", |cluster| cluster["orphans"] == json!(["hits"]))?;
    assert_eq!(increment(&pod.agent, HITS)?, 200);
    assert!(metrics_of(&pod.agent)?.contains("coppice_orphaned_groups 1\n"));
    label(&pod.mounts, "web")?;
    pod.until("no orphan", |cluster| cluster["orphans"] == json!([]))?;

    pod.publish(OTHER_ID)?;
    let cluster = pod.until("a refusal", |cluster| {
        cluster["refused"].as_array().is_some_and(|refused| refused.len() == 1)
    })?;
    assert_eq!(cluster["refused"][0], json!({"name": "hits", "offered": OTHER_ID, "held": ID}));
    wait_for(&pod.agent, HITS, 2)?;
    assert!(pod.agent.log_tail().contains(&format!("spec.id: {ID}")), "the log says what to do");
    pod.publish(ID)?;
    pod.until("adopted", |cluster| cluster["refused"] == json!([]))?;
    Ok(())
}

#[test]
fn an_agent_that_never_opened_its_store_says_why_with_its_last_word() -> Result<(), Failure> {
    let mut pod = Pod::start()?;
    pod.agent.kill();
    let data = pod.agent.spec().data();
    std::fs::remove_dir_all(&data)?;
    std::fs::write(&data, "in the way")?;
    pod.agent.spawn_again()?;
    let said = || pod.agent.log_tail().contains("cannot be opened yet").then_some(());
    eventually(LIMIT, said).ok_or("it waits for its store")?;
    // As the kubelet does when the start-up probe has failed for too long.
    pod.agent.signal(Signal::TERM)?;
    let status = pod.agent.wait(LIMIT).ok_or("it ends")?;
    assert_eq!(status.code(), Some(1), "{}", pod.agent.log_tail());
    let log = pod.agent.log_tail();
    let last = log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    assert!(last.starts_with("coppice-agent: dataDir: "), "{log}");
    Ok(())
}
