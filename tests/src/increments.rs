//! Increments from many connections, counted as they are sent and answered.

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Scope;
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Client, ClientError, Response};
use crate::eventually::eventually;

/// The body of one increment.
static ONE: LazyLock<Value> = LazyLock::new(|| json!({"op": "increment"}));

/// How long an agent may be away.
const AWAY: Duration = Duration::from_secs(30);

/// What all connections did.
#[derive(Debug, Default)]
pub struct Increments {
    stopped: AtomicBool,
    attempted: AtomicU64,
    acknowledged: AtomicU64,
    /// Connections that are paced send nothing more once so many were attempted.
    pace: AtomicU64,
}

/// What each request of some connections is.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// The agent.
    pub address: SocketAddr,
    /// Where it is sent to.
    pub path: &'a str,
    /// Its body.
    pub body: &'a Value,
    /// The increments that it stands for.
    pub count: u64,
    /// Whether it waits for [`Increments::pace`].
    pub is_paced: bool,
}

/// The requests of one agent's connections that wait for an answer.
#[derive(Debug, Default)]
pub struct InFlight(AtomicU64);

// === impl Increments ===

impl Increments {
    /// Increments that may have reached an agent.
    pub fn attempted(&self) -> u64 {
        self.attempted.load(Ordering::SeqCst)
    }

    /// Increments that an agent answered.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Adds what `other` counted.
    pub fn include(&self, other: &Self) {
        self.attempted.fetch_add(other.attempted(), Ordering::SeqCst);
        self.acknowledged.fetch_add(other.acknowledged(), Ordering::SeqCst);
    }

    /// Lets connections that are paced go on until so many were attempted.
    pub fn pace(&self, attempted: u64) {
        self.pace.store(attempted, Ordering::SeqCst);
    }

    /// Ends all connections after their request.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// Whether that was asked for.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Opens connections that each send one increment of `path` after the
    /// other until [`stop`](Self::stop), and wait while their agent is away.
    pub fn connect<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        (address, path): (SocketAddr, &'env str),
        connections: (usize, &'env InFlight),
    ) {
        let body = &*ONE;
        self.send_on(scope, Load { address, path, body, count: 1, is_paced: false }, connections);
    }

    /// As [`connect`](Self::connect), with other requests than one increment.
    pub fn send_on<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        load: Load<'env>,
        (connections, in_flight): (usize, &'env InFlight),
    ) {
        for _ in 0..connections {
            scope.spawn(move || {
                let mut client = Client::new(load.address);
                while !self.is_stopped() {
                    if load.is_paced && self.attempted() >= self.pace.load(Ordering::SeqCst) {
                        self.wait_until(|| self.attempted() < self.pace.load(Ordering::SeqCst));
                        continue;
                    }
                    in_flight.0.fetch_add(1, Ordering::SeqCst);
                    let answer = self.send(&mut client, load.path, (load.body, load.count));
                    in_flight.0.fetch_sub(1, Ordering::SeqCst);
                    if answer.is_err() {
                        self.wait_until(|| client.finds_it_serving());
                    }
                }
            });
        }
    }

    /// Waits for `condition`, at most until all is stopped.
    fn wait_until(&self, mut condition: impl FnMut() -> bool) {
        eventually(AWAY, || (self.is_stopped() || condition()).then_some(()));
    }

    /// Sends one request that stands for `count` increments, and counts them.
    ///
    /// # Errors
    ///
    /// If there is no answer.
    pub fn send(
        &self,
        client: &mut Client,
        path: &str,
        (body, count): (&Value, u64),
    ) -> Result<Response, ClientError> {
        self.attempted.fetch_add(count, Ordering::SeqCst);
        let answer = client.send_json("POST", path, body).and_then(Response::once_open);
        match &answer {
            Ok(answer) if answer.is_success() => {
                self.acknowledged.fetch_add(count, Ordering::SeqCst);
            }
            Err(ClientError::NotSent(_)) => {
                self.attempted.fetch_sub(count, Ordering::SeqCst);
            }
            Ok(_) | Err(ClientError::NoAnswer(_)) => {}
        }
        answer
    }
}

// === impl InFlight ===

impl InFlight {
    /// How many requests wait for an answer now.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// Waits until so many wait at the same time.
    pub fn wait_for(&self, count: u64, limit: Duration) -> Option<u64> {
        eventually(limit, || Some(self.count()).filter(|now| *now >= count))
    }
}
