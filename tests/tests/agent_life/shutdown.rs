//! From SIGTERM to exit code 0.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use coppice_tests::agents::{Agent, AgentSpec, Signal};
use coppice_tests::client::ClientError;
use coppice_tests::eventually::eventually;
use coppice_tests::progress::say;
use coppice_tests::trio::{Failure, with_configuration, write_configuration};
use serde_json::json;
use tokio::time::Instant;

use super::{HITS, LIMIT, increment, metrics_of, value, wait_for};

/// What the design allows, from the signal to the end.
const STOP: Duration = Duration::from_secs(5);

/// Two agents that know each other, of a counter group with these settings.
fn pair(folder: &Path, settings: &str) -> Result<[Agent; 2], Failure> {
    pair_of(folder, &format!("{{name: hits, crdt: {{type: PNCounter}}, {settings}}}"))
}

/// Two agents that know each other, of these groups.
fn pair_of(folder: &Path, groups: &str) -> Result<[Agent; 2], Failure> {
    let text = format!("groups: [{groups}]\n");
    let file = write_configuration(folder, "agent.yaml", &text)?;
    let mut a = AgentSpec::new("a", folder, with_configuration(&file))?;
    let mut b = AgentSpec::new("b", folder, with_configuration(&file))?;
    a.peers.push(b.ports.peers);
    b.peers.push(a.ports.peers);
    let mut agents = [a.spawn()?, b.spawn()?];
    agents.iter_mut().try_for_each(Agent::wait_until_ready)?;
    Ok(agents)
}

/// Waits for the end, and checks how it ended.
fn ends_well(agent: &mut Agent) -> Result<(), Failure> {
    let status = agent.wait(STOP).ok_or("it did not end within 5 s")?;
    if status.success() { Ok(()) } else { Err(format!("{status}: {}", agent.log_tail()).into()) }
}

#[test]
fn a_stopping_agent_hands_over_what_only_it_has() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let [mut a, b] = pair(folder.path(), "sync: {eager: false, interval: 1h}")?;
    for _ in 0..50 {
        assert_eq!(increment(&a, HITS)?, 200);
    }
    // The first exchange of a link that comes up late may bring the first of them.
    assert_ne!(value(&b, HITS), json!(50), "the interval has not passed");
    a.signal(Signal::TERM)?;
    ends_well(&mut a)?;
    wait_for(&b, HITS, 50)
}

#[test]
fn signals_that_come_together_are_one_request_to_stop() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let [mut a, b] = pair(folder.path(), "sync: {eager: false, interval: 1h}")?;
    assert_eq!(increment(&a, HITS)?, 200);
    // Two of one kind could reach it as one.
    a.signal(Signal::INT)?;
    a.signal(Signal::TERM)?;
    ends_well(&mut a)?;
    wait_for(&b, HITS, 1)
}

#[test]
fn a_hang_up_ends_nothing() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let [mut a, _b] = pair(folder.path(), "sync: {interval: 1s}")?;
    a.signal(Signal::HUP)?;
    let said = || a.log_tail().contains("SIGHUP does nothing").then_some(());
    eventually(LIMIT, said).ok_or("it says nothing")?;
    assert_eq!(increment(&a, HITS)?, 200);
    a.signal(Signal::TERM)?;
    ends_well(&mut a)
}

#[test]
fn until_the_end_reads_are_answered_and_writes_refused() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let [mut a, b] = pair(folder.path(), "sync: {eager: false, interval: 1h}")?;
    assert_eq!(increment(&a, HITS)?, 200);
    b.signal(Signal::STOP)?; // It takes nothing, so the hand-over lasts.
    a.signal(Signal::TERM)?;
    let mut client = a.client();
    let mut writes = 1; // The signal takes a moment to arrive.
    let refused = eventually(LIMIT, || {
        let answer = client.send_json("POST", HITS, &json!({"op": "increment"})).ok()?;
        writes += u64::from(answer.status == 200);
        (answer.status == 503).then_some(answer)
    });
    let refused = refused.ok_or("no write was refused")?;
    assert_eq!(refused.json()["type"], "urn:coppice:problem:shutting-down");
    assert_eq!(a.operations().get("/readyz")?.status, 503, "it wants no more traffic");
    assert_eq!(a.operations().get("/livez")?.status, 200);
    let mut reads = 0;
    let ended = eventually(LIMIT, || match client.get(HITS) {
        Ok(answer) => {
            reads += 1;
            (answer.status != 200).then_some(Err(answer.text()))
        }
        Err(ClientError::NotSent(_)) => Some(Ok(())),
        // A kept connection that was closed between two requests.
        Err(ClientError::NoAnswer(_)) => None,
    });
    ended.ok_or("it did not end")??;
    assert!(reads > 10, "{reads} reads in the two seconds of a hand-over");
    ends_well(&mut a)?;
    let log = a.log_tail();
    let (only_here, lacking) = (format!("only_here={writes}"), format!("b lacks {writes}"));
    let words = ["WARN", "not handed over", "group=hits", &only_here, &lacking];
    assert!(log.lines().any(|line| words.iter().all(|word| line.contains(word))), "{log}");
    b.signal(Signal::CONT)?;
    Ok(())
}

#[test]
fn writes_that_are_on_one_disk_only_are_told_at_the_end() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let [mut a, mut b] = pair(folder.path(), "sync: {interval: 1s}")?;
    assert_eq!(increment(&a, HITS)?, 200);
    wait_for(&b, HITS, 1)?;
    b.kill();
    for _ in 0..3 {
        assert_eq!(increment(&a, HITS)?, 200);
    }
    let alone = "coppice_peers{group=\"hits\",state=\"connected\"} 0\n";
    let seen = || metrics_of(&a).is_ok_and(|text| text.contains(alone));
    eventually(LIMIT, || seen().then_some(())).ok_or("b is gone")?;
    a.signal(Signal::TERM)?;
    ends_well(&mut a)?;
    let log = a.log_tail();
    let words = ["WARN", "no peer is connected", "group=hits"];
    assert!(log.lines().any(|line| words.iter().all(|word| line.contains(word))), "{log}");
    Ok(())
}

#[test]
fn a_frozen_peer_and_half_sent_requests_do_not_hold_up_the_end() -> Result<(), Failure> {
    const BLOBS: usize = 128;
    const BLOB_BYTES: usize = 64 * 1024;
    let folder = tempfile::tempdir()?;
    let hits = "{name: hits, crdt: {type: PNCounter}}";
    let blobs = "{name: blobs, crdt: {type: LWWRegister}}";
    let [mut a, b] = pair_of(folder.path(), &format!("{hits}, {blobs}"))?;
    assert_eq!(increment(&a, HITS)?, 200);
    wait_for(&b, HITS, 1)?;
    b.signal(Signal::STOP)?;
    // More than what sockets and queues on the way to it hold.
    let (mut client, blob) = (a.client(), vec![b'x'; BLOB_BYTES]);
    for number in 0..BLOBS {
        let path = format!("/v1/groups/blobs/objects/{number}");
        let content = Some(("application/octet-stream", blob.as_slice()));
        assert_eq!(client.send("PUT", &path, content)?.status, 200);
    }
    let ports = a.spec().ports;
    let mut open = Vec::new();
    for _ in 0..16 {
        open.push(half_sent_body(ports.app, HITS)?);
        open.push(half_sent_head(ports.app)?);
        open.push(half_sent_head(ports.operations)?);
    }
    let since = Instant::now();
    a.signal(Signal::TERM)?;
    ends_well(&mut a)?;
    say(&format!("beside a frozen peer and half requests: ended in {:?}", since.elapsed()));
    // Kept open until here: it was the agent that ended them.
    drop(open);
    let log = a.log_tail();
    let words = ["WARN", "not handed over", "group=blobs"];
    assert!(log.lines().any(|line| words.iter().all(|word| line.contains(word))), "{log}");
    assert!(!log.contains("the store is not closed"), "{log}");
    b.signal(Signal::CONT)?;
    a.restart()?;
    let last = format!("/v1/groups/blobs/objects/{}", BLOBS - 1);
    let both = || {
        let has = |agent: &Agent| agent.client().get(&last).is_ok_and(|got| got.body == blob);
        (has(&a) && has(&b)).then_some(())
    };
    eventually(LIMIT, both).ok_or("what was not handed over is handed over later")?;
    assert_eq!(value(&a, HITS), 1, "half a request changes nothing");
    Ok(())
}

/// A request of which half the body never comes; the agent waits for it.
fn half_sent_body(address: SocketAddr, path: &str) -> Result<TcpStream, Failure> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let half = "{\"op\": \"incre";
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nexpect: 100-continue\r\n\r\n",
        2 * half.len()
    );
    stream.write_all(head.as_bytes())?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    assert_eq!(&answer, b"HTTP/1.1 100", "it reads the body now");
    stream.write_all(half.as_bytes())?;
    Ok(stream)
}

/// A request of which half the head never comes.
fn half_sent_head(address: SocketAddr) -> Result<TcpStream, Failure> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET /v1/groups HTTP/1.1\r\nhost: 127.0")?;
    Ok(stream)
}
