//! Parts of the cluster taken away: what goes on, what waits, and what recovers alone.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coppice_tests::cluster::{
    Cluster, Environment, Failure, Kubectl, Namespace, OPERATOR_NAMESPACE, OperatorAway, Workload,
    break_ca_bundles, ca_bundles, run_command, test, test_labelled, until,
};
use coppice_tests::eventually::eventually;
use coppice_tests::progress::say;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::groups::{group, is, ready};
use super::lives::replicates;
use super::workloads::{event, reason};

const SOON: Duration = Duration::from_mins(1);
/// Within this time of recovery a denied workload runs.
const RECOVERY: Duration = Duration::from_secs(30);
/// Within this time of a leader's death another writes.
const TAKEOVER: Duration = Duration::from_secs(15);

/// Kills the agent of a pod, and waits until it has started again.
fn restart_agent(space: &Namespace, kill: &Environment, pod: &str) -> Result<(), Failure> {
    let restarts = || -> Result<Value, Failure> {
        let pod = space.kubectl.get("pod", pod)?;
        Ok(pod["status"]["initContainerStatuses"][0].clone())
    };
    let before = restarts()?["restartCount"].clone();
    kill.run(&format!("{}/{pod}/coppice-agent", space.name))?;
    until(&format!("the agent of {pod} is started again"), SOON, || {
        let state = restarts()?;
        let is_back = state["restartCount"] != before && state["started"] == true;
        if is_back { Ok(()) } else { Err(Failure(state.to_string())) }
    })
    .map(|_| ())
}

/// One of each kind that makes pods by itself.
fn late_workloads() -> Vec<Workload> {
    let workload = |kind: &'static str| {
        let mut workload = Workload::deployment(&format!("late-{}", kind.to_lowercase()), 1);
        workload.kind = kind;
        if kind == "DaemonSet" || kind == "Job" {
            workload.replicas = None;
        }
        if kind == "Job" {
            workload.pod["restartPolicy"] = json!("Never");
        }
        workload
    };
    ["Deployment", "StatefulSet", "DaemonSet", "Job"].map(workload).into()
}

/// How many pods a workload is to have: a `DaemonSet` has one on each node that takes it.
fn pods_wanted(kubectl: &Kubectl, workload: &Workload) -> Result<usize, Failure> {
    if workload.kind != "DaemonSet" {
        return Ok(1);
    }
    let set = kubectl.get("daemonset", &workload.name)?;
    let wanted = set["status"]["desiredNumberScheduled"].as_u64().filter(|count| *count > 0);
    let wanted = wanted.ok_or_else(|| Failure(set["status"].to_string()))?;
    Ok(usize::try_from(wanted).unwrap_or(usize::MAX))
}

/// Waits until the pods of a workload that opted in itself are denied, in the policy's words.
fn denied(kubectl: &Kubectl, workload: &Workload) -> Result<(), Failure> {
    until(&format!("{} is denied its pod", workload.name), SOON, || {
        let events = kubectl.json(&["get", "events", "--field-selector", "reason=FailedCreate"])?;
        let mut all = events["items"].as_array().into_iter().flatten();
        let is_told = all.any(|event| {
            let about = event["involvedObject"]["name"].as_str().unwrap_or_default();
            let message = event["message"].as_str().unwrap_or_default();
            about.starts_with(&workload.name) && message.contains("no coppice-agent sidecar")
        });
        if is_told { Ok(()) } else { Err(Failure(events["items"].to_string())) }
    })
    .map(|_| ())
}

/// What has to hold while the operator is away, and after it is back.
fn outage(
    (cluster, space): (&Cluster, &Namespace),
    kill: &Environment,
    take_away: impl FnOnce() -> Result<OperatorAway, Failure>,
) -> Result<(), Failure> {
    let kubectl = &space.kubectl;
    let app = Workload::deployment("web", 2);
    kubectl.apply(&group("hits", "PNCounter", "web"))?;
    app.apply(cluster, space)?;
    let (pods, _) = until("two pods", SOON, || app.running(kubectl, 2))?;
    ready(kubectl, "hits", "2/2")?;
    replicates(kubectl, (&pods[0], &pods[1]), "hits", "before")?;

    let away = take_away()?;
    replicates(kubectl, (&pods[0], &pods[1]), "hits", "running")?;
    restart_agent(space, kill, &pods[1])?;
    replicates(kubectl, (&pods[0], &pods[1]), "hits", "restarted")?;
    let late = late_workloads();
    for workload in &late {
        workload.apply(cluster, space)?;
        denied(kubectl, workload)?;
    }
    let opted = json!({"coppice.dev/inject": "true"});
    let other = Namespace::labelled(cluster, "opted", &opted)?;
    other.kubectl.apply(&group("hits", "PNCounter", "web"))?;
    let mut admitted = Workload::deployment("web", 1);
    admitted.labels = json!({});
    admitted.apply(cluster, &other)?;
    until("a pod of an opted-in namespace is admitted", SOON, || {
        let pods = admitted.pods(&other.kubectl)?;
        let phase = pods.first().map(|pod| pod["status"]["phase"].clone());
        is(&json!(phase), &json!("Running"))
    })?;

    away.come_back()?;
    let recovered = Instant::now();
    for workload in &late {
        let left = RECOVERY.saturating_sub(recovered.elapsed());
        until(&format!("the denied pod of {}", workload.name), left, || {
            workload.running(kubectl, pods_wanted(kubectl, workload)?)
        })?;
        let elapsed = recovered.elapsed();
        say(&format!("    the denied pod of {} runs {elapsed:.1?} after recovery", workload.name));
    }
    let message = reason(&other.kubectl, "hits", ("Injected", "SidecarMissing"))?;
    assert!(message.contains("web-"), "which pods: {message}");
    event(&other.kubectl, "ReplicationGroup", "SidecarMissing")?;
    Ok(())
}

#[test]
fn pods_run_on_and_recover_alone_when_the_operator_is_down() -> Result<(), Failure> {
    test("down", |cluster, space| {
        let Some(kill) = Environment::needed("COPPICE_KILL_CONTAINER", "operator down") else {
            return Ok(());
        };
        outage((cluster, space), &kill, OperatorAway::down)
    })
}

#[test]
fn pods_run_on_and_recover_alone_when_the_operator_hangs() -> Result<(), Failure> {
    test("hung", |cluster, space| {
        let Some(kill) = Environment::needed("COPPICE_KILL_CONTAINER", "operator hung") else {
            return Ok(());
        };
        outage((cluster, space), &kill, || OperatorAway::hung(&cluster.images.app))
    })
}

#[test]
fn pods_run_on_and_recover_alone_behind_a_wrong_ca_bundle() -> Result<(), Failure> {
    test("cabundle", |cluster, space| {
        let Some(kill) = Environment::needed("COPPICE_KILL_CONTAINER", "wrong caBundle") else {
            return Ok(());
        };
        // A certificate of no use here: that of the API server's own authority.
        let others = Kubectl::within("kube-system").get("configmap", "kube-root-ca.crt")?;
        let others = others["data"]["ca.crt"].as_str().unwrap_or_default().to_owned();
        let wrong = STANDARD.encode(others);
        outage((cluster, space), &kill, || {
            let away = OperatorAway::down()?;
            break_ca_bundles(&cluster.kubectl, &wrong)?;
            Ok(away)
        })?;
        // And with the operator there, it is mended at once.
        break_ca_bundles(&cluster.kubectl, &wrong)?;
        let ((), elapsed) = until("the caBundle is mended", RECOVERY, || {
            let bundles = ca_bundles(&cluster.kubectl)?;
            if bundles.contains(&wrong) { Err(Failure("still wrong".to_owned())) } else { Ok(()) }
        })?;
        say(&format!("    mended after {elapsed:.1?}"));
        Ok(())
    })
}

#[test]
fn a_minute_without_the_api_server_stops_no_replication() -> Result<(), Failure> {
    test("api", |cluster, space| {
        let name = "a_minute_without_the_api_server_stops_no_replication";
        let (Some(stop), Some(start), Some(kill)) = (
            Environment::needed("COPPICE_STOP_COMPONENT", name),
            Environment::needed("COPPICE_START_COMPONENT", name),
            Environment::needed("COPPICE_KILL_CONTAINER", name),
        ) else {
            return Ok(());
        };
        let kubectl = &space.kubectl;
        let app = Workload::deployment("web", 3).doing(&["write", "ledger", "all", "250"]);
        kubectl.apply(&group("ledger", "GSet", "web"))?;
        app.apply(cluster, space)?;
        let (pods, _) = until("three pods", SOON, || app.running(kubectl, 3))?;
        ready(kubectl, "ledger", "3/3")?;

        stop.run("apiserver")?;
        let killed = pods[2].clone();
        let is_killed = kill.run(&format!("{}/{killed}/coppice-agent", space.name));
        // A while, so that the agent that was killed is back, and nothing that was under
        // way at the stop is counted.
        let _ = eventually(Duration::from_secs(15), || None::<()>);
        let from = timestamp();
        let _ = eventually(Duration::from_secs(45), || None::<()>);
        let to = timestamp();
        start.run("apiserver")?;
        is_killed?;
        let (from, to) = (from?, to?);
        until("the API server answers", Duration::from_mins(2), || kubectl.run(&["get", "pods"]))?;
        until("three pods", SOON, || app.running(kubectl, 3))?;

        // What each app saw in the last 45 s of that minute, by its own log.
        let mut grown = BTreeMap::new();
        for pod in &pods {
            let log = kubectl.run(&["logs", pod, "--container", "app", "--timestamps"])?;
            let (own, size) = writes_and_growth(&log, (&from, &to));
            say(&format!("    {pod}: {own} own writes acknowledged, the set grew by {size}"));
            grown.insert(pod.clone(), (own, size));
        }
        for (pod, (own, size)) in &grown {
            assert!(*own > 0, "{pod}: no write was acknowledged");
            assert!(size > &(own * 2), "{pod}: it saw {size} new elements and wrote {own} itself");
        }
        // The kubelet tells what happened meanwhile in its own time.
        until(&format!("the agent of {killed} was started again once"), SOON, || {
            let pod = kubectl.get("pod", &killed)?;
            is(&pod["status"]["initContainerStatuses"][0]["restartCount"], &json!(1))
        })?;
        ready(kubectl, "ledger", "3/3")?;
        settle(cluster, space)
    })
}

/// Waits until the control plane makes pods again: after an outage each of its
/// controllers comes back in its own time, and the next test is not about them.
fn settle(cluster: &Cluster, space: &Namespace) -> Result<(), Failure> {
    let limit = Duration::from_mins(3);
    for kind in ["Deployment", "StatefulSet"] {
        let mut probe = Workload::deployment(&kind.to_lowercase(), 1);
        probe.kind = kind;
        probe.apply(cluster, space)?;
        let ((), elapsed) = until(&format!("a pod of a new {kind}"), limit, || {
            probe.running(&space.kubectl, 1).map(|_| ())
        })?;
        say(&format!("    a pod of a new {kind} runs {elapsed:.1?} after it was asked for"));
    }
    Ok(())
}

/// The time of day as logs have it, in UTC: text that sorts as time does.
fn timestamp() -> Result<String, Failure> {
    let time = run_command(Command::new("date").args(["--utc", "+%Y-%m-%dT%H:%M:%S"]))?;
    Ok(time.trim().to_owned())
}

/// How many writes a log says were acknowledged between two times, and by how much the
/// set grew between them.
fn writes_and_growth(log: &str, (from, to): (&str, &str)) -> (u64, u64) {
    let lines = log.lines().filter_map(|line| line.split_once(' '));
    let words = lines.filter_map(|(time, rest)| (time >= from && time < to).then_some(rest));
    let own = words.clone().filter(|line| line.starts_with("acked ")).count();
    let sizes: Vec<u64> =
        words.filter_map(|line| line.strip_prefix("size ")?.parse().ok()).collect();
    let grown = sizes.last().zip(sizes.first()).map_or(0, |(last, first)| last - first);
    (u64::try_from(own).unwrap_or(u64::MAX), grown)
}

/// Who leads, by its lease.
fn leader(operator: &Kubectl) -> Result<String, Failure> {
    let lease = operator.get("lease", "coppice-operator")?;
    let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
    if holder.is_empty() { Err(Failure(lease.to_string())) } else { Ok(holder.to_owned()) }
}

#[test]
fn another_leader_writes_within_15_s_of_the_ones_death() -> Result<(), Failure> {
    test("leader", |_, space| {
        let name = "another_leader_writes_within_15_s_of_the_ones_death";
        let Some(kill) = Environment::needed("COPPICE_KILL_CONTAINER", name) else { return Ok(()) };
        let operator = Kubectl::within(OPERATOR_NAMESPACE);
        let before = leader(&operator)?;
        let containers = operator.get("pod", &before)?["spec"]["containers"].clone();
        let container = containers[0]["name"].as_str().unwrap_or_default().to_owned();
        kill.run(&format!("{OPERATOR_NAMESPACE}/{before}/{container}"))?;
        let killed = Instant::now();
        // Started again in the same pod, it would be the same one, and go on with its lease.
        operator.run(&["delete", "pod", &before, "--force", "--grace-period=0"])?;
        let written = written_by_another(&operator, space, &before);
        let elapsed = killed.elapsed();
        let rollout = ["rollout", "status", "deployment", "coppice-operator", "--timeout=120s"];
        operator.run(&rollout)?;
        let after = written?;
        say(&format!("    written {elapsed:.1?} after the kill; leader {before}, then {after}"));
        assert!(elapsed < TAKEOVER, "it was written only {elapsed:?} after the kill");
        Ok(())
    })
}

/// Waits until another than `before` leads, and has written a new group's `Service`; who.
fn written_by_another(
    operator: &Kubectl,
    space: &Namespace,
    before: &str,
) -> Result<String, Failure> {
    let (after, _) = until("another leads", SOON, || {
        let now = leader(operator)?;
        if now == before { Err(Failure(format!("still {now}"))) } else { Ok(now) }
    })?;
    space.kubectl.apply(&group("hits", "PNCounter", "web"))?;
    until("its service is written", SOON, || space.kubectl.get("service", "coppice-g-hits"))?;
    Ok(after)
}

#[test]
fn an_opted_in_namespaces_pods_are_injected_again_after_an_outage() -> Result<(), Failure> {
    test_labelled("again", &json!({"coppice.dev/inject": "true"}), |cluster, space| {
        let kubectl = &space.kubectl;
        kubectl.apply(&group("hits", "PNCounter", "web"))?;
        let mut app = Workload::deployment("web", 1);
        app.labels = json!({});
        let away = OperatorAway::down()?;
        app.apply(cluster, space)?;
        until("a pod", SOON, || {
            if app.pods(kubectl)?.is_empty() { Err(Failure("none".to_owned())) } else { Ok(()) }
        })?;
        away.come_back()?;
        let message = reason(kubectl, "hits", ("Injected", "SidecarMissing"))?;
        assert!(message.contains("kubectl"), "what to do: {message}");
        kubectl.run(&["rollout", "restart", "deployment/web"])?;
        until("a pod with a sidecar", SOON, || app.running(kubectl, 1))?;
        ready(kubectl, "hits", "1/1").map(|_| ())
    })
}
