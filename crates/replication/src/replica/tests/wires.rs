//! Wires between replicas: frames that flow, and that are lost.

use super::node::{Node, at};
use crate::replica::Now;
use crate::{LinkId, Message};

/// Links two nodes, `link` being its id on both sides.
pub(super) fn connect(a: &mut Node, b: &mut Node, link: LinkId, now: Now) {
    for (node, dialled) in [(&mut *a, true), (&mut *b, false)] {
        node.replica.link_up(link, dialled, now);
        node.commit(now);
    }
}

/// Two nodes, and the link's id on both.
pub(super) type Wire = (usize, usize, LinkId);

/// Links nodes by new wires.
pub(super) fn wire_up(nodes: &mut [Node], wires: &[Wire], now: Now) {
    for &(a, b, link) in wires {
        for (at, dialled) in [(a, true), (b, false)] {
            nodes[at].replica.link_up(link, dialled, now);
            nodes[at].commit(now);
        }
    }
    flow(nodes, wires, now);
}

/// Cuts wires on both sides.
pub(super) fn cut(nodes: &mut [Node], wires: &[Wire]) {
    for &(a, b, link) in wires {
        nodes[a].replica.link_down(link);
        nodes[b].replica.link_down(link);
    }
}

/// Lets time pass and frames flow, every 100 ms until a time.
pub(super) fn run(nodes: &mut [Node], wires: &[Wire], ms: std::ops::RangeInclusive<u64>) {
    for ms in ms.step_by(100) {
        for node in nodes.iter_mut() {
            node.drop_floors(at(ms));
        }
        flow(nodes, wires, at(ms));
    }
}

/// Lets frames flow until none is left.
pub(super) fn flow(nodes: &mut [Node], wires: &[Wire], now: Now) {
    flow_but(nodes, wires, now, |_, _| false);
}

/// Lets frames flow until none is left, but for those that are lost: by who sent
/// them, and what they are.
pub(super) fn flow_but(
    nodes: &mut [Node],
    wires: &[Wire],
    now: Now,
    mut is_lost: impl FnMut(usize, &Message) -> bool,
) {
    loop {
        let mut frames = Vec::new();
        for (at, node) in nodes.iter_mut().enumerate() {
            node.send_log(now);
            for (link, frame) in std::mem::take(&mut node.sent) {
                let wire = wires.iter().find(|(a, b, id)| *id == link && (*a == at || *b == at));
                let lost = is_lost(at, &Message::decode(&frame).unwrap());
                let arriving = wire.filter(|_| !lost);
                frames.extend(arriving.map(|(a, b, _)| (a + b - at, link, frame)));
            }
        }
        if frames.is_empty() {
            return;
        }
        for (to, link, frame) in frames {
            nodes[to].replica.receive(link, &frame, now);
            nodes[to].work(now);
            nodes[to].commit(now);
        }
    }
}

/// Lets frames flow between two nodes until none is left.
pub(super) fn exchange(a: &mut Node, b: &mut Node, now: Now) {
    loop {
        a.send_log(now);
        b.send_log(now);
        let (from_a, from_b) = (std::mem::take(&mut a.sent), std::mem::take(&mut b.sent));
        if from_a.is_empty() && from_b.is_empty() {
            return;
        }
        for (node, frames) in [(&mut *b, from_a), (&mut *a, from_b)] {
            for (link, frame) in frames {
                node.replica.receive(link, &frame, now);
            }
            node.work(now);
            node.commit(now);
        }
    }
}
