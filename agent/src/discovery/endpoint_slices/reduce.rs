//! From a namespace's slices to the peers of each group.
//!
//! A slice is one address family of one group's `Service`, or a part of it. A pod is
//! one peer, however many slices name it, and is dialled by one address. Whether it is
//! ready is not asked: an agent that starts is a peer too.
//!
//! Invariant: a group loses peers only while its slices name this pod as a member.
//! Who is not listed itself sees a group that was deleted, or that its own labels
//! left, or one that Kubernetes is still making up: what it knew stays, for such a
//! pod goes on replicating.
//!
//! Pure: no clock, no IO.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::discovery::{Listed, PeerAddress, Scope};
use crate::peer::GroupName;

/// What is kept of one slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) group: GroupName,
    pub(super) endpoints: Vec<Endpoint>,
}

/// A pod, as one slice names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// The pod's UID; its address, if what made the slice gave none.
    pub(super) pod: Arc<str>,
    pub(super) address: SocketAddr,
}

/// Which pod this is.
#[derive(Clone, Debug)]
pub(super) struct Own {
    pub(super) uid: String,
    /// Its own addresses' family comes first among its peers' too.
    pub(super) prefers_v6: bool,
}

/// The peers of the groups that are served here, by what was known before.
pub(super) fn reduce<'a>(
    slices: impl Iterator<Item = &'a Slice>,
    served: &BTreeSet<GroupName>,
    own: &Own,
    last: &Listed,
) -> Listed {
    let mut complete = BTreeSet::new();
    let mut pods: BTreeMap<&str, (BTreeSet<SocketAddr>, BTreeSet<GroupName>)> = BTreeMap::new();
    for slice in slices.filter(|slice| served.contains(&slice.group)) {
        for Endpoint { pod, address } in &slice.endpoints {
            if **pod == *own.uid {
                complete.insert(slice.group.clone());
                continue;
            }
            let (addresses, groups) = pods.entry(pod).or_default();
            addresses.insert(*address);
            groups.insert(slice.group.clone());
        }
    }
    let mut found: BTreeMap<PeerAddress, BTreeSet<GroupName>> = BTreeMap::new();
    for (addresses, groups) in pods.into_values() {
        let best = addresses.into_iter().min_by_key(|address| address.is_ipv6() != own.prefers_v6);
        if let Some(best) = best {
            found.entry(best.into()).or_default().extend(groups);
        }
    }
    for (address, scope) in &last.addresses {
        let stays = |group: &&GroupName| !complete.contains(group) && scope.covers(group);
        let groups: Vec<GroupName> = served.iter().filter(stays).cloned().collect();
        if !groups.is_empty() {
            found.entry(address.clone()).or_default().extend(groups);
        }
    }
    let addresses = found.into_iter().map(|(address, groups)| (address, Scope::Groups(groups)));
    Listed { addresses: addresses.collect(), complete: Scope::Groups(complete) }
}

/// The address of an endpoint of a slice with this port.
pub(super) fn address(text: &str, port: u16) -> Option<SocketAddr> {
    text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str) -> GroupName {
        GroupName::parse(name).unwrap()
    }

    fn slice(of: &str, endpoints: &[(&str, &str)]) -> Slice {
        let endpoint = |(pod, ip): &(&str, &str)| Endpoint {
            pod: (*pod).into(),
            address: address(ip, 4438).unwrap(),
        };
        Slice { group: group(of), endpoints: endpoints.iter().map(endpoint).collect() }
    }

    fn own(prefers_v6: bool) -> Own {
        Own { uid: "me".to_owned(), prefers_v6 }
    }

    /// Each address with its groups, as text, and the groups that are complete.
    fn shown(listed: &Listed) -> (Vec<String>, Vec<String>) {
        let names = |scope: &Scope| match scope {
            Scope::AllGroups => panic!("slices name groups"),
            Scope::Groups(groups) => groups.iter().map(ToString::to_string).collect::<Vec<_>>(),
        };
        let line = |(address, scope): (&PeerAddress, &Scope)| {
            format!("{address} {}", names(scope).join("+"))
        };
        (listed.addresses.iter().map(line).collect(), names(&listed.complete))
    }

    fn reduced(slices: &[Slice], served: &[&str], last: &Listed) -> Listed {
        let served = served.iter().map(|name| group(name)).collect();
        reduce(slices.iter(), &served, &own(false), last)
    }

    #[test]
    fn a_pod_of_two_groups_is_one_address_for_both() {
        let slices = [
            slice("a", &[("me", "10.0.0.1"), ("p", "10.0.0.2")]),
            slice("b", &[("me", "10.0.0.1"), ("p", "10.0.0.2"), ("q", "10.0.0.3")]),
        ];
        let (addresses, complete) = shown(&reduced(&slices, &["a", "b"], &Listed::unknown()));
        assert_eq!(addresses, ["10.0.0.2:4438 a+b", "10.0.0.3:4438 b"]);
        assert_eq!(complete, ["a", "b"]);
    }

    #[test]
    fn groups_that_are_not_served_here_are_passed_over() {
        let slices = [slice("a", &[("me", "10.0.0.1")]), slice("b", &[("p", "10.0.0.2")])];
        let (addresses, complete) = shown(&reduced(&slices, &["a"], &Listed::unknown()));
        assert_eq!((addresses.len(), complete), (0, vec!["a".to_owned()]));
    }

    #[test]
    fn a_pod_with_two_address_families_is_one_peer_by_our_own_family() {
        let slices = [
            slice("a", &[("me", "10.0.0.1"), ("p", "10.0.0.2"), ("q", "10.0.0.3")]),
            slice("a", &[("me", "fd00::1"), ("p", "fd00::2")]),
        ];
        let served = BTreeSet::from([group("a")]);
        for (prefers_v6, expected) in [
            (false, ["10.0.0.2:4438 a", "10.0.0.3:4438 a"]),
            (true, ["10.0.0.3:4438 a", "[fd00::2]:4438 a"]),
        ] {
            let found = reduce(slices.iter(), &served, &own(prefers_v6), &Listed::unknown());
            assert_eq!(shown(&found).0, expected, "prefers_v6: {prefers_v6}");
        }
    }

    #[test]
    fn a_peer_that_is_gone_is_dropped_while_this_pod_is_listed() {
        let two = [slice("a", &[("me", "10.0.0.1"), ("p", "10.0.0.2"), ("q", "10.0.0.3")])];
        let before = reduced(&two, &["a"], &Listed::unknown());
        let one = [slice("a", &[("me", "10.0.0.1"), ("q", "10.0.0.3")])];
        assert_eq!(shown(&reduced(&one, &["a"], &before)).0, ["10.0.0.3:4438 a"]);
    }

    #[test]
    fn a_group_that_does_not_list_this_pod_loses_no_peer() {
        let two = [slice("a", &[("me", "10.0.0.1"), ("p", "10.0.0.2"), ("q", "10.0.0.3")])];
        let before = reduced(&two, &["a"], &Listed::unknown());
        for (left, expected) in [
            (vec![], vec!["10.0.0.2:4438 a", "10.0.0.3:4438 a"]),
            (
                vec![slice("a", &[("q", "10.0.0.3"), ("r", "10.0.0.4")])],
                vec!["10.0.0.2:4438 a", "10.0.0.3:4438 a", "10.0.0.4:4438 a"],
            ),
        ] {
            let (addresses, complete) = shown(&reduced(&left, &["a"], &before));
            assert_eq!(
                (addresses, complete.len()),
                (expected.iter().map(ToString::to_string).collect(), 0)
            );
        }
    }

    #[test]
    fn whether_peers_are_to_be_expected_is_known_once_this_pod_is_listed() {
        let found = |slices: &[Slice]| reduced(slices, &["a"], &Listed::unknown());
        assert!(Listed::unknown().expects_peers(&group("a")), "nothing was listed yet");
        assert!(found(&[]).expects_peers(&group("a")), "not even this pod is listed");
        let alone = found(&[slice("a", &[("me", "10.0.0.1")])]);
        assert!(!alone.expects_peers(&group("a")), "it is the only one");
        assert!(alone.expects_peers(&group("b")), "nothing is known of that group");
        let two = found(&[slice("a", &[("me", "10.0.0.1"), ("p", "10.0.0.2")])]);
        assert!(two.expects_peers(&group("a")));
    }
}
