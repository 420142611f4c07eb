//! Which members are what another member of their name was before, and which names
//! more than one agent has.
//!
//! An agent that lost its disk comes back under its name with a new store, and
//! nothing tells the others that the old one is gone for good: for the protocol it
//! stays a member, whose log is kept until nobody has heard it for long. People
//! count agents by name, and one lag by name: the old opening's, which can only
//! grow, is not the agent's. A replica's own earlier store is one of these too.
//!
//! Two agents of one name that are both connected are both members of their own
//! right: who gave them one name sees both.

use std::collections::{BTreeMap, BTreeSet};

use coppice_crdt::ActorId;
use coppice_replication::MemberView;

/// The openings without a link whose name somebody else has now: the replica itself,
/// which is called `own`, or a member that was heard later.
pub(super) fn former(members: &[MemberView], own: &str) -> BTreeSet<ActorId> {
    let heard =
        |view: &MemberView| (view.member.link.is_some(), view.member.heard_ms, view.opening);
    let mut last = BTreeMap::new();
    for view in members {
        let known = last.entry(&*view.member.name).or_insert_with(|| heard(view));
        *known = heard(view).max(*known);
    }
    let unlinked = members.iter().filter(|view| view.member.link.is_none());
    let gone = unlinked.filter(|view| {
        let name = &*view.member.name;
        name == own || last.get(name).is_some_and(|last| *last != heard(view))
    });
    gone.map(|view| view.opening).collect()
}

/// The names that more than one connected agent has, the replica itself included: its
/// name is `own`. Two openings of one store are one agent that was restarted.
pub(super) fn shared_names(members: &[MemberView], own: (&str, [u8; 16])) -> BTreeSet<String> {
    let mut first = BTreeMap::from([own]);
    let linked = members.iter().filter(|view| view.member.link.is_some());
    let shared = linked.filter(|view| {
        let (name, store) = (&*view.member.name, view.member.store);
        *first.entry(name).or_insert(store) != store
    });
    shared.map(|view| view.member.name.to_string()).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use coppice_crdt::VersionVector;
    use coppice_replication::{LinkId, Member, Traffic};

    use super::*;

    /// A member of this name, last heard at this time, that lacks so many writes.
    pub(in crate::replica_task) fn member(
        (name, opening): (&str, u8),
        linked: bool,
        heard_ms: i64,
        lag_deltas: u64,
    ) -> MemberView {
        let member = Member {
            store: [opening; 16],
            opening_number: 1,
            name: name.into(),
            seen: VersionVector::new(),
            durable: VersionVector::new(),
            report: 0,
            said_hello: true,
            link: linked.then_some(LinkId(u64::from(opening))),
            heard_ms,
            skew_ms: 0,
        };
        let opening = ActorId::from_bytes([opening; 16]);
        MemberView { opening, member, lag_deltas, traffic: Traffic::default() }
    }

    #[test]
    fn of_one_name_the_linked_or_the_last_heard_is_the_member() {
        for (members, expected) in [
            (vec![member(("b", 1), false, 5, 0), member(("c", 2), false, 9, 0)], vec![]),
            (vec![member(("b", 1), false, 9, 0), member(("b", 2), true, 5, 0)], vec![1]),
            (vec![member(("b", 1), false, 9, 0), member(("b", 2), false, 5, 0)], vec![2]),
            (vec![member(("b", 1), true, 9, 0), member(("b", 2), true, 5, 0)], vec![]),
            (vec![member(("a", 1), false, 9, 0), member(("b", 2), true, 5, 0)], vec![1]),
            (vec![member(("a", 1), true, 9, 0)], vec![]),
        ] {
            let found: Vec<_> = former(&members, "a").into_iter().collect();
            let expected: Vec<_> =
                expected.into_iter().map(|opening| ActorId::from_bytes([opening; 16])).collect();
            assert_eq!(found, expected, "{members:?}");
        }
    }

    #[test]
    fn a_name_is_shared_by_connected_agents_of_different_stores() {
        let restarted =
            |of: MemberView| MemberView { opening: ActorId::from_bytes([99; 16]), ..of };
        let b = || member(("b", 1), true, 9, 0);
        for (members, expected) in [
            (vec![b(), member(("c", 2), true, 9, 0)], &[][..]),
            (vec![b(), member(("b", 2), true, 9, 0)], &["b"]),
            (vec![b(), member(("b", 2), false, 9, 0)], &[]),
            (vec![b(), restarted(b())], &[]),
            (vec![b(), member(("a", 2), true, 9, 0)], &["a"]),
            (vec![member(("a", 7), true, 9, 0)], &[]),
        ] {
            let found: Vec<_> = shared_names(&members, ("a", [7; 16])).into_iter().collect();
            assert_eq!(found, expected, "{members:?}");
        }
    }
}
