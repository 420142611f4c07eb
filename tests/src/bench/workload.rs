//! What is asked of both servers, as bytes of each one's protocol.
//!
//! Both are asked for the same: the same keys, drawn with the same numbers, in
//! the same order on each connection.

use std::fmt::Write as _;

use crate::rng::Rng;

/// Which protocol a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// The agent's.
    Http,
    /// Redis'.
    Resp,
}

/// Operations that a connection asks for one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Workload {
    /// Increments of a counter drawn from this many.
    Increments {
        /// How many counters.
        keys: u64,
    },
    /// Changes of one set that keep its size: of four, two add an element that
    /// is there, one adds a new one, one removes that again.
    SetChanges {
        /// How many elements.
        size: u64,
    },
}

/// The requests of one connection.
#[derive(Debug)]
pub(super) struct Requests {
    protocol: Protocol,
    workload: Workload,
    random: Rng,
    connection: usize,
    step: u64,
    body: String,
    text: String,
}

/// The group of the agent's counters.
pub(super) const COUNTERS: &str = "counters";
/// The group of the agent's sets.
pub(super) const SETS: &str = "sets";

/// Elements of one request that fills a set.
const FILLED_AT_ONCE: u64 = 1_000;

// === impl Workload ===

impl Workload {
    /// The requests that make a set what its workload expects.
    pub(super) fn fill(self, protocol: Protocol) -> Vec<Vec<u8>> {
        let Self::SetChanges { size } = self else { return Vec::new() };
        let key = set_key(size);
        let starts = (0..size).step_by(usize::try_from(FILLED_AT_ONCE).unwrap_or(1));
        let request = |start: u64| {
            let elements = (start..size.min(start + FILLED_AT_ONCE)).map(present);
            let mut request = String::new();
            match protocol {
                Protocol::Http => {
                    let quoted: Vec<_> = elements.map(|name| format!("\"{name}\"")).collect();
                    let body = format!("{{\"op\":\"add\",\"elements\":[{}]}}", quoted.join(","));
                    http(&mut request, SETS, &key, &body);
                }
                Protocol::Resp => {
                    let words = ["SADD".to_owned(), key.clone()].into_iter().chain(elements);
                    let words: Vec<_> = words.collect();
                    let words: Vec<_> = words.iter().map(String::as_str).collect();
                    resp(&mut request, &words);
                }
            }
            request.into_bytes()
        };
        starts.map(request).collect()
    }

    /// What its table row is called.
    pub(super) fn name(self) -> String {
        match self {
            Self::Increments { keys: 1 } => "increments, one hot key".into(),
            Self::Increments { keys } => format!("increments, {} keys", grouped(keys)),
            Self::SetChanges { size } => format!("set of {} elements", grouped(size)),
        }
    }
}

/// A number with its thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn set_key(size: u64) -> String {
    format!("set-{size}")
}

/// An element that a set has from the beginning.
fn present(number: u64) -> String {
    format!("element-{number:08}")
}

// === impl Requests ===

impl Requests {
    /// Those of connection number `connection` in round number `round`.
    pub(super) fn new(
        protocol: Protocol,
        workload: Workload,
        connection: usize,
        round: u64,
    ) -> Self {
        let random = Rng::new(round << 32 | connection as u64);
        let (body, text) = (String::new(), String::new());
        Self { protocol, workload, random, connection, step: 0, body, text }
    }

    /// The next one.
    pub(super) fn next(&mut self) -> &[u8] {
        self.text.clear();
        match self.workload {
            Workload::Increments { keys } => self.increment(keys),
            Workload::SetChanges { size } => self.change(size),
        }
        self.step += 1;
        self.text.as_bytes()
    }

    fn increment(&mut self, keys: u64) {
        let key = format!("counter-{:06}", self.random.below(keys));
        match self.protocol {
            Protocol::Http => {
                http(&mut self.text, COUNTERS, &key, r#"{"op":"increment","by":1}"#);
            }
            Protocol::Resp => resp(&mut self.text, &["INCR", &key]),
        }
    }

    fn change(&mut self, size: u64) {
        let is_new = self.step % 2 == 1;
        let element = if is_new {
            // Removed two steps later, by the connection that added it.
            format!("new-{:03}-{:08}", self.connection, self.step / 4)
        } else {
            present(self.random.below(size))
        };
        let removes = self.step % 4 == 3;
        match self.protocol {
            Protocol::Http => {
                let op = if removes { "remove" } else { "add" };
                self.body.clear();
                let _ = write!(self.body, r#"{{"op":"{op}","element":"{element}"}}"#);
                http(&mut self.text, SETS, &set_key(size), &self.body);
            }
            Protocol::Resp => {
                let command = if removes { "SREM" } else { "SADD" };
                resp(&mut self.text, &[command, &set_key(size), &element]);
            }
        }
    }
}

fn http(request: &mut String, group: &str, key: &str, body: &str) {
    // Writing to a string does not fail.
    let _ = write!(
        request,
        "POST /v1/groups/{group}/objects/{key} HTTP/1.1\r\nhost: 127.0.0.1\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
}

fn resp(request: &mut String, words: &[&str]) {
    let _ = write!(request, "*{}\r\n", words.len());
    for word in words {
        let _ = write!(request, "${}\r\n{word}\r\n", word.len());
    }
}
