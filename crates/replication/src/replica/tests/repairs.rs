//! Repairs by state that are interrupted, refused, late, and given up.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::message::{RepairPart, RepairRequest};
use crate::record::{MAX_INTERVALS, Position};

/// One node in the middle, linked to others that know nothing of each other.
struct Star {
    hub: Node,
    leaves: Vec<Node>,
    links: BTreeMap<LinkId, usize>,
    last_link: u64,
    now: Now,
}

impl Star {
    /// Leaves that have the same elements of one set, and each one more, and
    /// whose logs do not reach back; a hub that has nothing.
    fn new(leaves: u8, elements: usize) -> Self {
        let mut first = Node::new(100, CrdtType::ORSet);
        for element in 0..elements {
            first.write("set", add(&element.to_string()), at(0));
        }
        let leaves = (0..leaves).map(|number| {
            let mut leaf = Node::open(number + 1, CrdtType::ORSet, first.records.clone());
            leaf.write("set", add(&format!("\"of {number}\"")), at(0));
            leaf.replica.set_settings(ReplicaSettings { log_bytes: 0, ..leaf.replica.settings });
            leaf.replica.tick(at(0));
            leaf.commit(at(0));
            assert!(leaf.replica.counters.trims > 0, "the log has to be too short");
            leaf
        });
        let leaves = leaves.collect();
        let hub = Node::new(101, CrdtType::ORSet);
        Self { hub, leaves, links: BTreeMap::new(), last_link: 0, now: at(0) }
    }

    fn link(&mut self, leaf: usize) -> LinkId {
        self.last_link += 1;
        let link = LinkId(self.last_link);
        connect(&mut self.hub, &mut self.leaves[leaf], link, self.now);
        self.links.insert(link, leaf);
        link
    }

    fn unlink(&mut self, link: LinkId) {
        let Some(leaf) = self.links.remove(&link) else { return };
        for node in [&mut self.hub, &mut self.leaves[leaf]] {
            node.replica.link_down(link);
            node.sent.retain(|(over, _)| *over != link);
            node.work(self.now);
        }
    }

    /// All that is on its way arrives; whether that was something.
    fn pass(&mut self) -> bool {
        self.hub.send_log(self.now);
        let mut passed = false;
        for (link, frame) in std::mem::take(&mut self.hub.sent) {
            let Some(&leaf) = self.links.get(&link) else { continue };
            self.leaves[leaf].replica.receive(link, &frame, self.now);
            passed = true;
        }
        for leaf in &mut self.leaves {
            leaf.work(self.now);
            leaf.send_log(self.now);
            for (link, frame) in std::mem::take(&mut leaf.sent) {
                if self.links.contains_key(&link) {
                    self.hub.replica.receive(link, &frame, self.now);
                    passed = true;
                }
            }
        }
        self.hub.work(self.now);
        passed
    }

    /// Time passes, and what is said meanwhile arrives.
    fn wait(&mut self, ms: u64) {
        self.now = at(self.now.steady_ms + ms);
        for node in self.leaves.iter_mut().chain([&mut self.hub]) {
            node.replica.tick(self.now);
            node.work(self.now);
        }
        while self.pass() {}
    }

    /// Repairs from a leaf for so many frames, then loses it.
    fn repair_for(&mut self, leaf: usize, frames: usize) {
        let link = self.link(leaf);
        for _ in 0..frames {
            self.pass();
        }
        self.unlink(link);
        assert!(self.intervals() <= MAX_INTERVALS);
    }

    /// The most intervals of a range.
    fn intervals(&self) -> usize {
        let ranges = self.hub.replica.repair.ranges.iter();
        ranges.map(|(_, intervals)| intervals.len()).max().unwrap_or(0)
    }

    fn elements(node: &Node) -> BTreeSet<String> {
        let elements = entries(&node.records).into_iter();
        let element = |name: &[u8]| String::from_utf8(name[1..].to_vec()).unwrap();
        let elements = elements.map(|(_, name, _)| element(name.as_bytes()));
        elements.filter(|element| !element.is_empty()).collect()
    }

    /// As `settle`, where all or some are linked.
    fn settle_linked(&mut self) -> BTreeSet<String> {
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for link in links {
            self.unlink(link);
        }
        self.settle()
    }

    /// Links all, waits until all are equal, and returns what they hold.
    fn settle(&mut self) -> BTreeSet<String> {
        for leaf in 0..self.leaves.len() {
            self.link(leaf);
        }
        for _ in 0..600 {
            self.wait(250);
            let vector = self.hub.replica.visible();
            let equal = |leaf: &Node| leaf.replica.visible() == vector;
            if !self.hub.replica.is_under_repair() && self.leaves.iter().all(equal) {
                break;
            }
        }
        let held = Self::elements(&self.hub);
        for node in self.leaves.iter().chain([&self.hub]) {
            assert_eq!(node.closed, [], "nobody said anything wrong");
            assert!(!node.replica.is_under_repair(), "every repair comes to an end");
            assert_eq!(Self::elements(node), held);
            assert_eq!(node.replica.digest(), self.hub.replica.digest());
            state::check(node);
        }
        self.wait(31_000);
        assert!(self.leaves.iter().all(|leaf| leaf.snapshots.is_empty()), "none is needed");
        assert!(self.leaves.iter().all(|leaf| leaf.replica.pinned().is_none()));
        held
    }

    fn all(&self, elements: usize) -> BTreeSet<String> {
        let own = (0..self.leaves.len()).map(|leaf| format!("\"of {leaf}\""));
        (0..elements).map(|element| element.to_string()).chain(own).collect()
    }
}

fn requests(frames: impl IntoIterator<Item = (LinkId, Vec<u8>)>) -> Vec<RepairRequest> {
    let request = |(_, frame): (LinkId, Vec<u8>)| match Message::decode(&frame) {
        Ok(Message::RepairRequest(request)) => Some(request),
        _ => None,
    };
    frames.into_iter().filter_map(request).collect()
}

#[test]
fn a_full_list_of_intervals_is_worked_off_by_the_sources_that_filled_it() {
    let mut star = Star::new(11, 90);
    let expected = star.all(90);
    // Each brings what no other has, and gets less far than the one before.
    for leaf in 0..11 {
        star.repair_for(leaf, 66 + 24 - 2 * leaf);
    }
    assert_eq!(star.intervals(), MAX_INTERVALS, "the limit has to be reached");
    assert_eq!(star.settle(), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn repairs_given_up_anywhere_end_equal_and_bring_nothing_back(
        steps in proptest::collection::vec((0..4_usize, 0..110_usize, 0..90_usize), 0..14),
    ) {
        let mut star = Star::new(4, 70);
        let mut expected = star.all(70);
        for (number, (leaf, frames, removed)) in steps.into_iter().enumerate() {
            star.repair_for(leaf, frames);
            let element = removed.to_string();
            if Star::elements(&star.hub).contains(&element) {
                expected.remove(&element);
                star.hub.write("set", remove(&element), star.now);
            }
            let own = format!("\"own {number}\"");
            star.hub.write("set", add(&own), star.now);
            expected.insert(own);
            star.now = at(star.now.steady_ms + 2_100);
        }
        prop_assert_eq!(star.settle(), expected);
    }
}

#[test]
fn a_repair_goes_on_where_its_source_was_lost() {
    let mut star = Star::new(1, 90);
    let link = star.link(0);
    for _ in 0..70 {
        star.pass();
    }
    star.unlink(link);
    let held = Star::elements(&star.hub);
    assert!(!held.is_empty() && held.len() < 90, "it has to be half-way");
    star.link(0);
    for _ in 0..4 {
        for leaf in &mut star.leaves {
            leaf.work(star.now);
        }
        let asked = requests(star.hub.sent.iter().cloned());
        if let Some(first) = asked.first() {
            assert!(first.begin);
            assert!(first.range > 0, "the ranges before are here");
            assert_eq!(star.settle_linked(), star.all(90));
            return;
        }
        star.pass();
    }
    panic!("it does not go on");
}

#[test]
fn a_snapshot_ends_when_nobody_asks_for_parts_of_it() {
    let mut star = Star::new(1, 90);
    star.link(0);
    for _ in 0..10 {
        star.pass();
    }
    let asked = requests(std::mem::take(&mut star.hub.sent));
    let [RepairRequest { begin: false, range, from }] = &asked[..] else { panic!("{asked:?}") };
    let leaf = &mut star.leaves[0];
    assert!(leaf.snapshots.len() == 1 && leaf.replica.pinned().is_some());
    leaf.replica.tick(at(59_000));
    leaf.commit(at(59_000));
    assert_eq!(leaf.snapshots.len(), 1, "it may still be asked for");
    leaf.replica.tick(at(61_000));
    leaf.commit(at(61_000));
    assert!(leaf.snapshots.is_empty() && leaf.replica.pinned().is_none());

    leaf.sent.clear();
    let late = RepairRequest { begin: false, range: *range, from: from.clone() };
    leaf.replica.receive(LinkId(1), &Message::RepairRequest(late).encode(), at(61_001));
    leaf.commit(at(61_001));
    let (_, refused) = leaf.sent.pop_front().expect("an answer");
    assert_eq!(Message::decode(&refused), Ok(Message::RepairRefused));
    star.hub.replica.receive(LinkId(1), &refused, star.now);
    star.hub.commit(star.now);
    star.unlink(LinkId(1));
    assert_eq!(star.settle(), star.all(90), "it begins again");
}

#[test]
fn a_snapshot_ends_after_a_while_however_often_it_is_asked() {
    let mut star = Star::new(1, 90);
    star.link(0);
    for _ in 0..10 {
        star.pass();
    }
    let leaf = &mut star.leaves[0];
    let again = Message::RepairRequest(RepairRequest { begin: false, range: 1, from: None });
    for minute in 0..20 {
        leaf.replica.receive(LinkId(1), &again.encode(), at(minute * 50_000));
        leaf.replica.tick(at(minute * 50_000));
        leaf.commit(at(minute * 50_000));
        assert_eq!(leaf.snapshots.is_empty(), minute >= 12, "ten minutes, no longer");
    }
}

#[test]
fn the_log_keeps_what_came_after_the_first_snapshot_until_the_peer_has_caught_up() {
    let mut star = Star::new(1, 90);
    let link = star.link(0);
    for _ in 0..10 {
        star.pass();
    }
    let leaf = &mut star.leaves[0];
    let pinned = leaf.replica.pinned();
    assert!(pinned.is_some(), "it has to be served");
    leaf.write("set", add("\"later\""), at(1));
    let again = Message::RepairRequest(RepairRequest { begin: true, range: 0, from: None });
    leaf.replica.receive(link, &again.encode(), at(2));
    leaf.commit(at(2));
    assert_eq!(leaf.replica.pinned(), pinned, "it goes on from what the first one gave it");

    leaf.replica.receive(link, &Message::RepairEnd.encode(), at(3));
    leaf.commit(at(3));
    assert!(leaf.snapshots.is_empty(), "nothing more is read");
    for (ms, expected) in [(3, pinned), (29_000, pinned), (30_100, None)] {
        leaf.replica.tick(at(ms));
        leaf.commit(at(ms));
        assert_eq!(leaf.replica.pinned(), expected, "after {ms} ms");
    }
}

#[test]
fn a_part_that_comes_after_its_session_does_no_harm() {
    let mut star = Star::new(2, 90);
    let (first, _) = (star.link(0), star.link(1));
    for _ in 0..10 {
        star.pass();
    }
    let place = Position { key: "set".into(), entry: Box::default() };
    let late = RepairPart {
        vector: star.leaves[0].replica.visible().clone(),
        range: star.hub.replica.working_set().range_of("set"),
        from: Some(place),
        to: None,
        objects: Vec::new(),
    };
    let before = star.hub.replica.repair.clone();
    for link in [first, LinkId(2)] {
        let late = Message::RepairPart(late.clone()).encode();
        star.hub.replica.receive(link, &late, star.now);
        assert_eq!(star.hub.replica.repair, before, "it would remove what stays");
    }
    assert_eq!(star.settle_linked(), star.all(90));
}

#[test]
fn a_source_that_refuses_is_left_alone_for_longer_each_time() {
    let mut star = Star::new(1, 90);
    let link = star.link(0);
    let (_, hello) = star.leaves[0].sent.pop_front().expect("it greets");
    star.hub.replica.receive(link, &hello, star.now);
    let mut begun_ms = Vec::new();
    for step in 0..400 {
        star.now = at(step * 250);
        star.hub.replica.receive(link, &Message::TooOld.encode(), star.now);
        star.hub.replica.tick(star.now);
        star.hub.commit(star.now);
        let sent = std::mem::take(&mut star.hub.sent);
        if requests(sent).iter().any(|request| request.begin) {
            begun_ms.push(star.now.steady_ms);
            star.hub.replica.receive(link, &Message::RepairRefused.encode(), star.now);
            star.hub.commit(star.now);
        }
    }
    let pauses: Vec<u64> = begun_ms.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.len() >= 4 && pauses.len() <= 8, "{pauses:?}");
    assert!(pauses.windows(2).all(|pair| pair[1] > pair[0]), "{pauses:?}");
}
