//! Reads and writes on many connections while somebody pages through everything.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::contents::{OBJECTS, SET, element, member, object, object_key, stays};
use super::{Cause, Plan, pages};
use crate::client::{Client, ClientError, Response};
use crate::rng::Rng;

/// Closed loops, each a read and a write in turns.
const CONNECTIONS: u64 = 16;

/// How long requests took, in microseconds, sorted.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    pub(super) reads: Vec<u32>,
    pub(super) writes: Vec<u32>,
    pub(super) pages: Vec<u32>,
    /// Reads and writes per second.
    pub(super) rate: f64,
    /// How often everything was paged through, in full.
    pub(super) rounds: u64,
}

/// Puts the load on the agent at `address`.
///
/// # Errors
///
/// With the first request that was not done, or the first page that lacks an
/// element, or shows one twice.
pub(super) fn run(address: SocketAddr, plan: &Plan) -> Result<Latencies, Cause> {
    let end = Instant::now() + plan.load;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let pager = scope.spawn(|| page_until(address, plan, &over));
        let loops: Vec<_> = (0..CONNECTIONS)
            .map(|number| scope.spawn(move || one_loop(address, number, plan, end)))
            .collect();
        let mut all = Latencies::default();
        let mut failure = None;
        for ended in loops {
            match ended.join() {
                Ok(Ok((reads, writes))) => {
                    all.reads.extend(reads);
                    all.writes.extend(writes);
                }
                Ok(Err(error)) => failure = failure.or(Some(error)),
                Err(_) => failure = failure.or(Some(Cause::Panicked)),
            }
        }
        over.store(true, Ordering::SeqCst);
        let (pages, rounds) = pager.join().map_err(|_| Cause::Panicked)??;
        if let Some(failure) = failure {
            return Err(failure);
        }
        let count = u32::try_from(all.reads.len() + all.writes.len()).unwrap_or(u32::MAX);
        all.rate = f64::from(count) / plan.load.as_secs_f64();
        all.pages = pages;
        all.rounds = rounds;
        for latencies in [&mut all.reads, &mut all.writes, &mut all.pages] {
            latencies.sort_unstable();
        }
        Ok(all)
    })
}

/// The value that 99 of 100 do not exceed, of a sorted list.
pub(super) fn p99(sorted: &[u32]) -> u32 {
    sorted.get(sorted.len().saturating_sub(1) * 99 / 100).copied().unwrap_or(0)
}

fn one_loop(
    address: SocketAddr,
    number: u64,
    plan: &Plan,
    end: Instant,
) -> Result<(Vec<u32>, Vec<u32>), Cause> {
    let (mut client, mut random) = (Client::new(address), Rng::new(number + 1));
    let (mut reads, mut writes) = (Vec::new(), Vec::new());
    for step in 0.. {
        if Instant::now() >= end {
            break;
        }
        reads.push(timed(|| read(&mut client, random.below(plan.count), step))?);
        writes.push(timed(|| write(&mut client, &mut random, (number, step), plan))?);
    }
    Ok((reads, writes))
}

fn timed(request: impl FnOnce() -> Result<Response, ClientError>) -> Result<u32, Cause> {
    let before = Instant::now();
    let answer = request()?;
    let took = before.elapsed().as_micros();
    if answer.is_success() {
        return Ok(u32::try_from(took).unwrap_or(u32::MAX));
    }
    Err(Cause::Refused(answer.status, answer.text()))
}

/// Whether an element is there, or an object's value.
fn read(client: &mut Client, drawn: u64, step: u64) -> Result<Response, ClientError> {
    match step % 2 {
        0 => client.get(&member(&element(drawn))),
        _ => client.get(&object(&object_key(stays(drawn)))),
    }
}

/// Adds an element again, adds a new one and removes it two turns later, or
/// increments a counter: what the pager expects to find stays.
fn write(
    client: &mut Client,
    random: &mut Rng,
    (number, step): (u64, u64),
    plan: &Plan,
) -> Result<Response, ClientError> {
    let drawn = stays(random.below(plan.count));
    let new = |turn: u64| format!("new-{number:02}-{turn:08}");
    let body = match step % 6 {
        0 => json!({"op": "add", "element": element(drawn)}),
        2 => json!({"op": "add", "element": new(step / 6)}),
        4 => json!({"op": "remove", "element": new(step / 6)}),
        _ => {
            return client.send_json(
                "POST",
                &object(&object_key(drawn)),
                &json!({"op": "increment"}),
            );
        }
    };
    client.send_json("POST", SET, &body)
}

/// Pages through the set and the objects, again and again.
fn page_until(
    address: SocketAddr,
    plan: &Plan,
    over: &AtomicBool,
) -> Result<(Vec<u32>, u64), Cause> {
    let mut client = Client::new(address);
    let (mut latencies, mut rounds) = (Vec::new(), 0);
    loop {
        for (path, of_set) in [(SET, true), (OBJECTS, false)] {
            let mut took = |latency: Duration| {
                latencies.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
                !over.load(Ordering::SeqCst)
            };
            let whole = pages::check(&mut client, path, plan.count, of_set, &mut took)?;
            if !whole {
                return Ok((latencies, rounds));
            }
        }
        rounds += 1;
    }
}
