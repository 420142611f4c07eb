//! What is made of slices and failures; the API server itself is the end-to-end suite's.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::discovery::v1 as slices;
use kube::core::Status;

use super::*;

fn slice(ports: &[(&str, i32)], addresses: &[(&str, Option<&str>)]) -> EndpointSlice {
    let mut slice = EndpointSlice { address_type: "IPv4".to_owned(), ..EndpointSlice::default() };
    slice.metadata.name = Some("coppice-g-a-x1".to_owned());
    slice.labels_mut().insert(GROUP_LABEL.to_owned(), "a".to_owned());
    let port = |(name, port): &(&str, i32)| slices::EndpointPort {
        name: Some((*name).to_owned()),
        port: Some(*port),
        ..slices::EndpointPort::default()
    };
    slice.ports = Some(ports.iter().map(port).collect());
    let endpoint = |(address, uid): &(&str, Option<&str>)| slices::Endpoint {
        addresses: vec![(*address).to_owned()],
        target_ref: uid
            .map(|uid| ObjectReference { uid: Some(uid.to_owned()), ..ObjectReference::default() }),
        ..slices::Endpoint::default()
    };
    slice.endpoints = addresses.iter().map(endpoint).collect();
    slice
}

#[test]
fn a_slice_gives_its_pods_by_the_port_for_peers() {
    let of =
        slice(&[("http", 80), ("peers", 4438)], &[("10.0.0.2", Some("p")), ("10.0.0.3", None)]);
    let kept = pruned(&of).unwrap();
    let pods: Vec<_> = kept.endpoints.iter().map(|of| (&*of.pod, of.address.to_string())).collect();
    assert_eq!(pods, [("p", "10.0.0.2:4438".to_owned()), ("10.0.0.3", "10.0.0.3:4438".to_owned())]);
}

#[test]
fn what_is_no_slice_of_peers_is_passed_over() {
    assert!(pruned(&slice(&[("http", 80)], &[("10.0.0.2", None)])).is_none(), "no such port");
    assert!(pruned(&slice(&[("peers", 0)], &[("10.0.0.2", None)])).is_none(), "port 0");
    let mut unlabelled = slice(&[("peers", 4438)], &[("10.0.0.2", None)]);
    unlabelled.metadata.labels = None;
    assert!(pruned(&unlabelled).is_none(), "of no group");
    let names = slice(&[("peers", 4438)], &[("web-0.web", None), ("10.0.0.2", None)]);
    assert_eq!(pruned(&names).unwrap().endpoints.len(), 1, "a host name is no address");
}

#[test]
fn few_groups_are_asked_for_by_name_and_many_all_together() {
    let named = |count: usize| -> BTreeSet<GroupName> {
        (0..count).filter_map(|n| GroupName::parse(&format!("g{n}"))).collect()
    };
    assert_eq!(selector(&named(2)), "coppice.dev/group in (g0,g1)");
    assert_eq!(selector(&named(GROUPS_IN_SELECTOR + 1)), "coppice.dev/group");
}

#[test]
fn failures_are_told_apart() {
    let status = |code| Box::new(Status { code, ..Status::default() });
    for (code, expected) in [
        (403, "forbidden"),
        (401, "forbidden"),
        (410, "expired"),
        (429, "overloaded"),
        (400, "refused"),
    ] {
        assert_eq!(reason(&watcher::Error::WatchError(status(code))), expected, "{code}");
        let list = watcher::Error::InitialListFailed(kube::Error::Api(status(code)));
        assert_eq!(reason(&list), expected, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn waits_are_short_while_the_agent_starts_and_then_grow() {
    let mut failures = Failures::new(Duration::from_secs(10));
    assert!(failures.note("forbidden").0, "it is new");
    for _ in 0..20 {
        let (is_news, wait) = failures.note("forbidden");
        assert!(!is_news && wait <= FIRST_WAIT, "{wait:?}");
    }
    tokio::time::advance(Duration::from_secs(11)).await;
    let mut last = Duration::ZERO;
    for _ in 0..10 {
        last = failures.note("forbidden").1;
    }
    assert!(last >= LAST_WAIT / 2 && last <= LAST_WAIT, "{last:?}");
    assert_eq!(failures.over(), Some("forbidden"));
    assert!(failures.note("forbidden").1 <= FIRST_WAIT, "it begins again");
}
