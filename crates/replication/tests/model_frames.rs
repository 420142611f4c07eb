//! Frames with a base: how does a receiver know that it has all that a frame's
//! units had seen, whatever was relayed, passed over, coalesced, lost, trimmed?
//!
//! The rule that holds:
//! - A frame is applied, in one commit, only if its base is covered. The base is
//!   the sender's vector before the frame's first entry: floor and log up to
//!   there, units passed over included, whatever the peer is believed to have.
//! - Inside a frame only units are left out that the peer has; a frame ends where
//!   one is passed over, and what follows is a frame of its own.
//! - Units of one frame are joined: the last keeps what the earlier ones removed,
//!   and their dots are named. A received frame stays one unit in the log.
//! - A handshake replaces what was known of the peer.
//! - The log is trimmed at what every member has on disk; then no member is ever
//!   below a floor, crashes included, as long as no cap cuts the log.
//!
//! The rules that fail, and what breaks:
//! - consecutive dots of each origin instead of a base; a base without the units
//!   passed over; a frame that goes on behind one: at a third replica a removal
//!   overtakes what it removes, which then comes back;
//! - the last unit alone, the earlier ones only named: what they removed stays;
//! - the peer's vector joined over connections: a peer that lost its tail is
//!   never sent it again;
//! - trimmed at what is acknowledged: after a crash the log does not reach back
//!   (not unsafe, as the base covers the floor, but a repair that need not be).
//!
//! Bounds: three replicas, two or three writes of one key, every split of the
//! logs into frames (of one entry where there are three origins), every order of sending, one crash that loses what is not
//! synced (the actor is new afterwards), reconnections at any time.

#[path = "model/frames.rs"]
mod frames;
#[path = "model/verdict.rs"]
mod verdict;

use frames::Write::{Delete, Put};
use frames::{ENDS_EQUAL, Frames, LOG_REACHES_BACK, NO_CAUSAL_GAP, Rule, STATE_IS_VECTOR};
use verdict::{assert_holds, assert_refuted};

/// One replica puts, a second deletes, a third relays.
fn frames(rule: Rule) -> Frames {
    Frames {
        rule,
        writes: [&[Put], &[Delete], &[]],
        crashing: 3,
        handshakes: 0,
        frame: 3,
        trimming: false,
    }
}

#[test]
fn a_base_keeps_the_causal_order() {
    let two_puts = Frames { writes: [&[Put, Put], &[Delete], &[]], ..frames(Rule::Sound) };

    assert_holds("two puts and a delete", two_puts);
}

#[test]
fn a_base_keeps_the_causal_order_of_three_origins() {
    let writes: [&[_]; 3] = [&[Put], &[Put], &[Delete]];
    let three_origins = Frames { writes, frame: 1, ..frames(Rule::Sound) };

    assert_holds("three origins", three_origins);
}

#[test]
fn a_lost_tail_is_sent_again() {
    let origin = Frames { crashing: 0, handshakes: 2, ..frames(Rule::Sound) };
    let receiver = Frames { crashing: 1, ..origin.clone() };

    assert_holds("the origin crashes", origin);
    assert_holds("a receiver crashes", receiver);
}

#[test]
fn a_log_trimmed_at_what_is_durable_serves_every_member() {
    let receiver = Frames { crashing: 1, trimming: true, ..frames(Rule::Sound) };

    assert_holds("trimmed at what is on every disk", receiver);
}

#[test]
fn less_than_the_base_lets_a_removal_overtake() {
    let consecutive = frames(Rule::ConsecutiveDots);
    let passed_over = frames(Rule::BaseWithoutPassedOver);
    let across = frames(Rule::FrameAcrossPassedOver);

    assert_refuted("consecutive dots", &consecutive, NO_CAUSAL_GAP);
    assert_refuted("consecutive dots", &consecutive, STATE_IS_VECTOR);
    assert_refuted("base without what is passed over", &passed_over, NO_CAUSAL_GAP);
    assert_refuted("a frame across what is passed over", &across, NO_CAUSAL_GAP);
}

#[test]
fn coalescing_keeps_what_the_earlier_unit_removed() {
    let newest = Frames { writes: [&[Put, Put], &[Put], &[]], ..frames(Rule::NewestOnly) };

    assert_refuted("the newest unit alone", &newest, STATE_IS_VECTOR);
}

#[test]
fn a_handshake_replaces_the_peers_vector() {
    let joined = Frames { crashing: 1, handshakes: 1, ..frames(Rule::PeerVectorJoined) };

    assert_refuted("peer's vector joined", &joined, ENDS_EQUAL);
}

#[test]
fn an_acknowledged_unit_may_be_asked_for_again() {
    let acked = Frames { crashing: 1, trimming: true, ..frames(Rule::TrimmedAtAcked) };

    assert_refuted("trimmed at what is acknowledged", &acked, LOG_REACHES_BACK);
}
