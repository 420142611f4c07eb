//! Certificates and authorities that are replaced while they are used.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coppice_tests::cluster::{
    Failure, Kubectl, OPERATOR_NAMESPACE, Workload, ca_bundles, request, test, until,
};
use coppice_tests::progress::say;
use serde_json::json;
use tokio::time::Instant;

use super::groups::{group, is, operate, ready};
use super::workloads::has_sidecar;

const SOON: Duration = Duration::from_mins(1);
/// The suite installs the operator with short waits between the steps of a rotation.
const ROTATION: Duration = Duration::from_mins(5);
const SECRET: &str = "coppice-authorities";
/// Of the group whose peers get another authority: what a write may take at most.
const SYNC_INTERVAL: Duration = Duration::from_secs(2);

/// Asks for another authority.
fn rotate(which: &str) -> Result<(), Failure> {
    let operator = Kubectl::within(OPERATOR_NAMESPACE);
    let stamp = coppice_tests::cluster::fresh_suffix();
    let annotations = json!({"coppice.dev/rotate": format!("{which}={stamp}")});
    operator.patch("secret", SECRET, &json!({"metadata": {"annotations": annotations}}))?;
    Ok(())
}

/// The certificates of a bundle.
fn certificates(pem: &str) -> Vec<String> {
    let parts = pem.split("-----BEGIN CERTIFICATE-----").skip(1);
    parts.map(|part| part.split("-----END").next().unwrap_or_default().trim().to_owned()).collect()
}

#[test]
fn the_webhooks_authority_is_replaced_and_no_pod_creation_fails() -> Result<(), Failure> {
    test("serving", |cluster, space| {
        space.kubectl.apply(&group("hits", "PNCounter", "web"))?;
        let bundle = || -> Result<Vec<String>, Failure> {
            let bundles = ca_bundles(&cluster.kubectl)?;
            let pem = STANDARD.decode(bundles.first().ok_or("no caBundle")?)?;
            Ok(certificates(&String::from_utf8_lossy(&pem)))
        };
        let before = bundle()?;
        let mut pod = Workload::deployment("web", 1).manifest(cluster)["spec"]["template"].clone();
        (pod["apiVersion"], pod["kind"]) = (json!("v1"), json!("Pod"));
        // No node gets it: this is about how pods are made, not about how they run.
        pod["spec"]["schedulerName"] = json!("none");
        let (is_over, made) = (AtomicBool::new(false), AtomicU64::new(0));
        let failed = thread::scope(|scope| -> Result<Option<String>, Failure> {
            let stream = scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    let number = made.fetch_add(1, Ordering::SeqCst);
                    let mut pod = pod.clone();
                    pod["metadata"]["name"] = json!(format!("stream-{number}"));
                    match space.kubectl.create(&pod) {
                        Ok(pod) if has_sidecar(&pod) => {}
                        Ok(pod) => return Some(format!("pod {number} has no sidecar: {pod}")),
                        Err(error) => return Some(format!("pod {number}: {error}")),
                    }
                }
                None
            });
            let replaced = rotate("serving").and_then(|()| {
                until("both authorities are trusted", ROTATION, || {
                    let now = bundle()?;
                    is(&json!(now.len()), &json!(before.len() + 1))
                })?;
                until("only the new one is", ROTATION, || {
                    let now = bundle()?;
                    let is_new = now.len() == before.len() && now != before;
                    if is_new {
                        Ok(())
                    } else {
                        Err(Failure(format!("{} in the bundle", now.len())))
                    }
                })
            });
            is_over.store(true, Ordering::SeqCst);
            let failed = stream.join().map_err(|_| "the stream of pods panicked")?;
            let ((), elapsed) = replaced?;
            say(&format!("    the old authority is gone {elapsed:.1?} after both were trusted"));
            Ok(failed)
        })?;
        let made = made.into_inner();
        assert_eq!(failed, None, "of {made} pods one failed");
        assert!(made > 50, "only {made} pods were made meanwhile");
        say(&format!("    {made} pods made meanwhile, none failed"));
        Ok(())
    })
}

#[test]
fn the_peers_authority_is_replaced_under_writes_and_nothing_stalls() -> Result<(), Failure> {
    test("rotation", |cluster, space| {
        let kubectl = &space.kubectl;
        let app = Workload::deployment("web", 2);
        let mut hits = group("hits", "PNCounter", "web");
        hits["spec"]["sync"] = json!({"interval": format!("{}s", SYNC_INTERVAL.as_secs())});
        kubectl.apply(&hits)?;
        app.apply(cluster, space)?;
        let (pods, _) = until("two pods", SOON, || app.running(kubectl, 2))?;
        ready(kubectl, "hits", "2/2")?;
        let bundle = || -> Result<Vec<String>, Failure> {
            let published = kubectl.get("configmap", "coppice-groups")?;
            Ok(certificates(
                published["data"]["peers-authorities.pem"].as_str().unwrap_or_default(),
            ))
        };
        let before = bundle()?;
        rotate("peers")?;
        let (begun, mut count, mut slowest) = (Instant::now(), 0, Duration::ZERO);
        let mut was_double = false;
        loop {
            // One write at one, read at the other. That `kubectl` takes part of a second for
            // each is in it.
            let path = format!("/v1/groups/hits/objects/{count}");
            let asked = Instant::now();
            operate(kubectl, &pods[count % 2], &path, &json!({"op": "increment"}))?;
            until(&format!("write {count} is at the other"), Duration::from_secs(10), || {
                match request(kubectl, &pods[(count + 1) % 2], ("GET", &path), None)? {
                    (200, body) => is(&body["value"], &json!(1)),
                    (status, body) => Err(Failure(format!("{status} {body}"))),
                }
            })?;
            (count, slowest) = (count + 1, slowest.max(asked.elapsed()));
            let now = bundle()?;
            was_double |= now.len() > before.len();
            if was_double && now.len() == before.len() && now != before {
                break;
            }
            assert!(begun.elapsed() < ROTATION, "the authority was not replaced: {}", now.len());
        }
        say(&format!(
            "    {count} writes in {:.0?}, the slowest seen elsewhere after {slowest:.1?}",
            begun.elapsed()
        ));
        assert!(slowest < SYNC_INTERVAL, "a write was seen only after {slowest:?}");
        Ok(())
    })
}
