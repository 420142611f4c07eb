//! Frames that no correct peer sends: `docs/protocol.md`, section 11.

use std::time::Duration;

use coppice_crdt::{
    ActorId, CrdtType, Dot, EntryDelta, EntryKey, ObjectDelta, Part, VersionVector,
};
use coppice_replication::{Base, Cover, Delta, Hello, MAX_FRAME_BYTES, Message, RepairPart, Unit};
use coppice_tests::agents::{Agent, AgentSpec, groups};
use coppice_tests::eventually::eventually;
use coppice_tests::trio::{Failure, batch, read};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{State, closed, writes_seen};
use coppice_tests::rogue::{Heard, Link, Rogue, hello_to, opening};

const LIMIT: Duration = Duration::from_secs(30);
const GROUP: &str = "tags";

/// What a rogue says on a link, and the reason for which that closes it.
struct Case {
    what: &'static str,
    /// Before its own Hello, or after.
    greets: bool,
    said: Said,
    reason: &'static str,
}

enum Said {
    /// One whole frame.
    Frame(Vec<u8>),
    /// Bytes that need not be one.
    Raw(Vec<u8>),
    /// Bytes, and then the end of the stream.
    RawThenEnd(Vec<u8>),
}

#[test]
fn bad_frames_close_the_link_are_counted_and_change_nothing() -> Result<(), Failure> {
    let pair = Pair::start()?;
    let mut number = 0;
    for step in 0.. {
        // Another opening each time, as a peer has that was restarted.
        number += 1;
        let mut rogue = Rogue::connect(pair.victim.spec().ports.peers)?;
        let mut link = rogue.open(GROUP)?;
        let theirs = link.hear_hello()?;
        let mut cases = cases_before_hello(&theirs, number);
        cases.extend(cases_after_hello(&theirs, number));
        let Some(case) = cases.into_iter().nth(step) else { break };
        check(&pair.victim, &mut link, &hello_to(&theirs, number), case)?;
    }
    pair.still_replicates()?;

    // The one that all the damaged ones were made of: it is taken.
    let mut rogue = Rogue::connect(pair.victim.spec().ports.peers)?;
    let mut link = rogue.open(GROUP)?;
    let theirs = link.hear_hello()?;
    link.send(&Message::Hello(hello_to(&theirs, number)).encode())?;
    link.send(&good_delta(number).encode())?;
    pair.victim_shows("rogue")
}

fn check(victim: &Agent, link: &mut Link<'_>, hello: &Hello, case: Case) -> Result<(), Failure> {
    let Case { what, greets, said, reason } = case;
    let (state, count) = (State::of(victim, GROUP)?, closed(victim, reason)?);
    if greets {
        link.send(&Message::Hello(hello.clone()).encode())?;
    }
    match said {
        Said::Frame(frame) => link.send(&frame)?,
        Said::Raw(bytes) => link.send_raw(&bytes),
        Said::RawThenEnd(bytes) => {
            link.send_raw(&bytes);
            link.end();
        }
    }
    let farewell = link.farewell().map_err(|error| format!("{what}: {error}"))?;
    assert_eq!(farewell.as_deref(), Some(reason), "{what}");
    let counted = || closed(victim, reason).ok().filter(|closed| *closed > count);
    assert_eq!(eventually(LIMIT, counted), Some(count + 1), "{what}: counted as {reason}");
    assert_eq!(State::of(victim, GROUP)?, state, "{what}");
    Ok(())
}

fn cases_before_hello(theirs: &Hello, number: u64) -> Vec<Case> {
    let case = |what, said, reason| Case { what, greets: false, said, reason };
    let hello = || hello_to(theirs, number);
    let with = |hello: Hello| Said::Frame(Message::Hello(hello).encode());
    let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    vec![
        case("random bytes", Said::Frame(noise(200)), "unsupported-version"),
        case("random bytes of version 1", Said::Frame(noise_of_version_1()), "malformed-frame"),
        case("no frame at all", Said::Raw(noise(5000)), "oversized-frame"),
        case("a frame of nothing", Said::Frame(Vec::new()), "malformed-frame"),
        case("a frame of one byte", Said::Frame(vec![1]), "malformed-frame"),
        case(
            "a length above the limit",
            Said::Raw(length(MAX_FRAME_BYTES + 1).to_vec()),
            "oversized-frame",
        ),
        case(
            "an end inside a frame",
            Said::RawThenEnd([&length(100)[..], &[1; 50]].concat()),
            "malformed-frame",
        ),
        case("an end inside a length", Said::RawThenEnd(vec![0, 0]), "malformed-frame"),
        case(
            "a Hello of version 0",
            Said::Frame(of_version(0, Message::Hello(hello()).encode())),
            "unsupported-version",
        ),
        case(
            "a peer that speaks no higher version than 0",
            with(Hello { protocol: 0, ..hello() }),
            "unsupported-version",
        ),
        case(
            "a group of another id",
            with(Hello { group_id: [7; 16], ..hello() }),
            "group-mismatch",
        ),
        case(
            "a group of another type",
            with(Hello { crdt_type: CrdtType::GSet, ..hello() }),
            "type-mismatch",
        ),
        case("the agent's own opening", with(Hello { opening: theirs.opening, ..hello() }), "self"),
        case(
            "a name of 300 bytes",
            with(Hello { name: "x".repeat(300).into(), ..hello() }),
            "oversized-frame",
        ),
        case(
            "a delta before the Hello",
            Said::Frame(good_delta(number).encode()),
            "unexpected-message",
        ),
    ]
}

fn cases_after_hello(theirs: &Hello, number: u64) -> Vec<Case> {
    let case = |what, said, reason| Case { what, greets: true, said: Said::Frame(said), reason };
    let good = good_delta(number).encode();
    let body_end = good.len() - 4;
    let unit =
        |cover: Cover, dot: Dot| delta(Base::Exact(VersionVector::new()), cover, dot).encode();
    let (own, next) = (theirs.opening, theirs.vector.get(&theirs.opening) + 1);
    let rogue = opening(number);
    let run = |actor, after, upto| Cover { actor, after, upto };
    let hello = Message::Hello(hello_to(theirs, number));
    vec![
        case("a second Hello", hello.encode(), "unexpected-message"),
        case("a delta cut in the middle", good[..good.len() / 2].to_vec(), "malformed-frame"),
        case(
            "a delta cut in the middle, checksum mended",
            sealed(good[..body_end / 2].to_vec()),
            "malformed-frame",
        ),
        case(
            "bytes behind the end",
            sealed([&good[..body_end], &[0; 3]].concat()),
            "malformed-frame",
        ),
        case("a bit flipped", flipped(good.clone()), "malformed-frame"),
        case("a delta of version 9", of_version(9, good.clone()), "unsupported-version"),
        case(
            "an unknown kind",
            sealed([&[200, 1], &good[2..body_end]].concat()),
            "malformed-frame",
        ),
        case(
            "a count far beyond the frame",
            sealed(vec![2, 1, 0xff, 0xff, 0xff, 0xff, 0x0f]),
            "oversized-frame",
        ),
        case(
            "a write outside its runs",
            unit(run(rogue, 0, 1), Dot::new(rogue, 2)),
            "damaged-unit",
        ),
        case("an empty run", unit(run(rogue, 1, 1), Dot::new(rogue, 1)), "damaged-unit"),
        case("a run behind its base", unit(run(rogue, 3, 4), Dot::new(rogue, 4)), "damaged-unit"),
        case(
            "writes that the agent never made",
            delta(
                Base::Exact([(own, next - 1)].into_iter().collect()),
                run(own, next - 1, next),
                Dot::new(own, next),
            )
            .encode(),
            "damaged-unit",
        ),
        case("a change of another type", delta_of_another_type(number).encode(), "damaged-unit"),
    ]
}

/// A unit whose base never comes is kept for a while and asked for again; with
/// its link it is forgotten. So is a part of a repair that nobody asked for.
#[test]
fn what_cannot_be_applied_yet_waits_without_effect() -> Result<(), Failure> {
    let pair = Pair::start()?;
    let state = State::of(&pair.victim, GROUP)?;
    let mut rogue = Rogue::connect(pair.victim.spec().ports.peers)?;
    let mut link = rogue.open(GROUP)?;
    let theirs = link.hear_hello()?;
    link.send(&Message::Hello(hello_to(&theirs, 1)).encode())?;

    link.send(
        &Message::RepairPart(RepairPart {
            vector: [(opening(1), 5)].into_iter().collect(),
            range: 0,
            from: None,
            to: None,
            objects: Vec::new(),
        })
        .encode(),
    )?;
    let never = ActorId::from_bytes(*b"nobody's opening");
    let base = Base::Exact([(never, 5)].into_iter().collect());
    let cover = Cover { actor: opening(1), after: 0, upto: 1 };
    // More than are kept.
    for _ in 0..400 {
        link.send(&delta(base.clone(), cover, Dot::new(opening(1), 1)).encode())?;
    }

    let want = loop {
        match link.hear()? {
            Heard::Message(Message::Want(want)) => break want,
            Heard::Message(_) => {}
            Heard::End(reason) => return Err(format!("it ended the link: {reason:?}").into()),
        }
    };
    assert_eq!(want.vector.get(&never), 0, "it asks for what it lacks");
    assert_eq!(State::of(&pair.victim, GROUP)?, state, "nothing of it was applied");
    drop(rogue);
    pair.still_replicates()?;
    assert!(!pair.victim_has("rogue")?, "and nothing came of it later");
    Ok(())
}

/// An agent, and a good peer of it.
struct Pair {
    victim: Agent,
    peer: Agent,
    _folder: TempDir,
}

impl Pair {
    fn start() -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let spec = |name| AgentSpec::new(name, folder.path(), groups([(GROUP, "ORSet")]));
        let victim = spec("victim")?.start()?;
        let mut peer = spec("peer")?;
        peer.peers.push(victim.spec().ports.peers);
        let peer = peer.start()?;
        let add = |element: &str| json!({"key": "x", "op": "add", "element": element});
        batch(&mut victim.client(), GROUP, &[add("one"), add("two")])?;
        batch(&mut peer.client(), GROUP, &[add("three")])?;
        let pair = Self { victim, peer, _folder: folder };
        pair.has_seen(3)?;
        Ok(pair)
    }

    /// The victim has seen so many writes, and says it.
    fn has_seen(&self, writes: u64) -> Result<(), Failure> {
        let mut last = None;
        let seen = eventually(LIMIT, || {
            last = writes_seen(&self.victim, GROUP);
            (last == Some(writes)).then_some(())
        });
        seen.ok_or_else(|| format!("it has seen {last:?} writes, and not {writes}").into())
    }

    fn victim_has(&self, element: &str) -> Result<bool, Failure> {
        has(&self.victim, element)
    }

    fn victim_shows(&self, element: &str) -> Result<(), Failure> {
        shows(&self.victim, element)
    }

    /// Both ways, with the two writes made now, which are all that is new.
    fn still_replicates(&self) -> Result<(), Failure> {
        for (from, to, element) in
            [(&self.victim, &self.peer, "there"), (&self.peer, &self.victim, "back")]
        {
            let add = json!({"key": "x", "op": "add", "element": element});
            batch(&mut from.client(), GROUP, &[add])?;
            shows(to, element)?;
        }
        self.has_seen(5)
    }
}

fn shows(agent: &Agent, element: &str) -> Result<(), Failure> {
    let seen = eventually(LIMIT, || has(agent, element).ok().filter(|shown| *shown));
    seen.map(drop).ok_or_else(|| format!("{element} never came").into())
}

fn has(agent: &Agent, element: &str) -> Result<bool, Failure> {
    let path = format!("/v1/groups/{GROUP}/objects/x?element=%22{element}%22");
    let shown = read(&mut agent.client(), &path).ok_or("the object is there")?;
    Ok(shown["present"] == Value::Bool(true))
}

/// Adds "rogue" to the object, as the rogue's first write.
fn good_delta(number: u64) -> Message {
    let cover = Cover { actor: opening(number), after: 0, upto: 1 };
    delta(Base::Exact(VersionVector::new()), cover, Dot::new(opening(number), 1))
}

fn delta(base: Base, cover: Cover, dot: Dot) -> Message {
    let name = EntryKey::of_object(Part::Element(b"\"rogue\""));
    changing(base, cover, name, EntryDelta::Dots { added: vec![dot], removed: Vec::new() })
}

/// Enables a flag, where there are sets.
fn delta_of_another_type(number: u64) -> Message {
    let cover = Cover { actor: opening(number), after: 0, upto: 1 };
    let added = vec![Dot::new(opening(number), 1)];
    let change = EntryDelta::Dots { added, removed: Vec::new() };
    let name = EntryKey::of_object(Part::Enabled);
    changing(Base::Exact(VersionVector::new()), cover, name, change)
}

fn changing(base: Base, cover: Cover, name: EntryKey, change: EntryDelta) -> Message {
    let changed = ObjectDelta { entries: [(name, change)].into(), removals: Vec::new() };
    let unit = Unit { covers: vec![cover], objects: [("x".into(), changed)].into() };
    Message::Delta(Delta { epoch: 0, base, unit })
}

/// With the checksum of what it says, so that what it says is looked at.
fn sealed(mut content: Vec<u8>) -> Vec<u8> {
    let checksum = crc32c::crc32c(&content).to_be_bytes();
    content.extend(checksum);
    content
}

fn of_version(version: u8, mut frame: Vec<u8>) -> Vec<u8> {
    frame.truncate(frame.len() - 4);
    frame[1] = version;
    sealed(frame)
}

fn flipped(mut frame: Vec<u8>) -> Vec<u8> {
    let middle = frame.len() / 2;
    frame[middle] ^= 0x10;
    frame
}

/// Bytes that look like nothing; they begin with 0xff.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    [vec![0xff; 4], (4..length).map(next).collect()].concat()
}

fn noise_of_version_1() -> Vec<u8> {
    let mut noise = noise(200);
    noise[..2].copy_from_slice(&[2, 1]);
    noise
}
