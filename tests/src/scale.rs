//! `make scale`: a set of a million elements and a group of a million objects,
//! on one agent that has 256 MiB.
//!
//! Everything that is answered is checked against what was written; the figures
//! are printed, and those that have a bound are held to it by [`Report::missed`].

mod cgroup;
mod contents;
mod load;
mod pages;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::agents::{Agent, AgentError, AgentSpec};
use crate::bench::{Probe, Process, results_folder};
use crate::client::{Client, ClientError, Response};
use crate::interrupt::{Interrupt, Interrupted};
use crate::progress::say;
use crate::trio::{read, with_configuration, write_configuration};
use cgroup::Cgroup;
use contents::{OBJECTS, SET, element, is_removed, member, object, object_key};
use load::{Latencies, p99};

/// What an agent may have.
const MEMORY_BYTES: u64 = 256 << 20;
const P99_BOUND_US: u32 = 50_000;
const RATE_BOUND: f64 = 1_000.0;
/// The most that one request may change.
const BATCH: u64 = 1_000;
const PROBE: Duration = Duration::from_secs(2);
/// How often membership is asked for.
const ASKED: u64 = 1_000;

/// How large, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Elements of the set, and objects of the group; a multiple of 1,000.
    pub count: u64,
    /// How long reads and writes go on beside the paging.
    pub load: Duration,
}

/// What was measured.
#[derive(Debug)]
pub struct Report {
    plan: Plan,
    confined: Result<u8, String>,
    rows: Vec<Row>,
    latencies: Latencies,
    sync_p99_us: u32,
}

/// One step of the run.
#[derive(Debug)]
struct Row {
    what: String,
    took: Duration,
    /// As the process has it after the step, and had it at most since its start.
    resident_kib: u64,
    peak_kib: u64,
}

/// What ends a run early. Nothing is left behind, in any case.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Failure(#[from] Cause);

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(error.into())
    }
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    #[error("a request was refused: {0} {1}")]
    Refused(u16, String),
    #[error("{0}")]
    Wrong(String),
    #[error("a connection's thread panicked")]
    Panicked,
}

// === impl Plan ===

impl Plan {
    /// A million, and half a minute.
    #[must_use]
    pub fn full() -> Self {
        Self { count: 1_000_000, load: Duration::from_secs(30) }
    }
}

/// Runs the plan and says what it measured; the agent's data is in cargo's
/// target folder meanwhile, where a sync is a sync.
///
/// # Errors
///
/// If an answer is wrong, a request is refused, or on interruption.
pub fn run(plan: Plan, interrupt: &Interrupt) -> Result<Report, Failure> {
    Ok(Run::start(plan, interrupt)?.all()?)
}

/// An agent that is being filled.
struct Run<'a> {
    plan: Plan,
    interrupt: &'a Interrupt,
    rows: Vec<Row>,
    client: Client,
    // The agent ends before its group and its folder are removed.
    agent: Agent,
    confined: Result<Cgroup, String>,
    folder: tempfile::TempDir,
}

impl<'a> Run<'a> {
    fn start(plan: Plan, interrupt: &'a Interrupt) -> Result<Self, Cause> {
        let results = results_folder();
        std::fs::create_dir_all(&results)?;
        let folder = tempfile::Builder::new().prefix("scale-").tempdir_in(&results)?;
        let confined = Cgroup::with_memory(MEMORY_BYTES).map_err(|error| error.to_string());
        let agent = spec(folder.path(), confined.as_ref().ok())?.start()?;
        let client = agent.client();
        Ok(Self { plan, interrupt, rows: Vec::new(), client, agent, confined, folder })
    }

    fn all(mut self) -> Result<Report, Cause> {
        let count = self.plan.count;
        self.step("add the elements", |run| run.change("tags", "add", |_| true))?;
        self.step("remove a tenth of them", |run| run.change("tags", "remove", is_removed))?;
        self.step("ask for 1,000 there and 1,000 removed", Self::membership)?;
        self.step("page through the set", |run| run.page(SET, true))?;
        self.step("make the objects", |run| run.change("hits", "increment", |_| true))?;
        self.step("delete a tenth of them", |run| run.change("hits", "delete", is_removed))?;
        self.step("read 1,000 there and 1,000 deleted", Self::objects)?;
        self.step("page through the objects", |run| run.page(OBJECTS, false))?;
        let mut latencies = Latencies::default();
        self.step("16 connections beside one that pages", |run| {
            latencies = load::run(run.agent.spec().ports.app, &run.plan)?;
            Ok(())
        })?;
        let mut probe = Probe::new(self.folder.path())?;
        probe.run(PROBE)?;
        let size = self.size()?;
        self.step("kill and restart", Self::restart)?;
        if size < count - count / contents::REMOVED_OF || self.size()? != size {
            return Err(Cause::Wrong(format!("the set had {size} elements before the restart")));
        }
        self.step("page through the set", |run| run.page(SET, true))?;
        self.step("page through the objects", |run| run.page(OBJECTS, false))?;
        self.step("clear the set", Self::clear)?;
        self.step("add to it and read it", Self::begin_again)?;
        Ok(Report {
            plan: self.plan,
            confined: self.confined.as_ref().map(Cgroup::version).map_err(Clone::clone),
            rows: self.rows,
            latencies,
            sync_p99_us: p99(&probe.take()),
        })
    }

    fn step(
        &mut self,
        what: &str,
        work: impl FnOnce(&mut Self) -> Result<(), Cause>,
    ) -> Result<(), Cause> {
        self.interrupt.check()?;
        let before = Instant::now();
        work(self)?;
        let took = before.elapsed();
        let pid = self.agent.pid().ok_or_else(|| Cause::Wrong("the agent is gone".to_owned()))?;
        let memory = Process::new(pid).memory()?;
        let (resident_kib, peak_kib) = (memory.resident_kib, memory.peak_kib);
        let row = Row { what: what.to_owned(), took, resident_kib, peak_kib };
        say(&row.line());
        self.rows.push(row);
        Ok(())
    }

    /// Does `op` with every number that `takes` part, 1,000 a request.
    fn change(&mut self, group: &str, op: &str, takes: fn(u64) -> bool) -> Result<(), Cause> {
        let numbers: Vec<_> = (0..self.plan.count).filter(|number| takes(*number)).collect();
        for numbers in numbers.chunks(usize::try_from(BATCH).unwrap_or(usize::MAX)) {
            self.interrupt.check()?;
            let (path, body) = if group == "tags" {
                let elements: Vec<_> = numbers.iter().map(|number| element(*number)).collect();
                (SET.to_owned(), json!({"op": op, "elements": elements}))
            } else {
                let one = |number: &u64| json!({"key": object_key(*number), "op": op});
                let operations: Vec<_> = numbers.iter().map(one).collect();
                (format!("/v1/groups/{group}/batch"), json!({"operations": operations}))
            };
            done(&self.client.send_json("POST", &path, &body)?)?;
        }
        Ok(())
    }

    fn restart(&mut self) -> Result<(), Cause> {
        self.agent.restart()?;
        self.client = self.agent.client();
        Ok(())
    }

    fn membership(&mut self) -> Result<(), Cause> {
        for number in self.some_numbers() {
            let shown = done(&self.client.get(&member(&element(number)))?)?;
            if shown["present"] != !is_removed(number) {
                return Err(Cause::Wrong(format!("element {number}: {shown}")));
            }
        }
        let expected = self.plan.count - self.plan.count / contents::REMOVED_OF;
        match self.size()? {
            size if size == expected => Ok(()),
            size => Err(Cause::Wrong(format!("{size} elements instead of {expected}"))),
        }
    }

    fn objects(&mut self) -> Result<(), Cause> {
        for number in self.some_numbers() {
            let shown = read(&mut self.client, &object(&object_key(number)));
            let value = shown.as_ref().map(|shown| shown["value"].clone());
            if value != (!is_removed(number)).then(|| Value::from(1)) {
                return Err(Cause::Wrong(format!("object {number}: {value:?}")));
            }
        }
        Ok(())
    }

    /// As many that are removed as that are there, from all over.
    fn some_numbers(&self) -> impl Iterator<Item = u64> + use<> {
        let tens = self.plan.count / contents::REMOVED_OF;
        let stride = (tens / ASKED).max(1) * contents::REMOVED_OF;
        (0..tens.min(ASKED)).flat_map(move |step| [step * stride, step * stride + 1 + step % 9])
    }

    fn page(&mut self, path: &str, of_set: bool) -> Result<(), Cause> {
        let interrupt = self.interrupt.clone();
        let mut goes_on = |_| !interrupt.is_raised();
        pages::check(&mut self.client, path, self.plan.count, of_set, &mut goes_on)?;
        Ok(self.interrupt.check()?)
    }

    /// Empty at once.
    fn clear(&mut self) -> Result<(), Cause> {
        done(&self.client.send_json("POST", SET, &json!({"op": "clear"}))?)?;
        let size = self.size()?;
        let page = done(&self.client.get(&format!("{SET}?limit=1000"))?)?;
        if size != 0 || page["value"] != json!([]) {
            return Err(Cause::Wrong(format!("{size} elements are left by a clear: {page}")));
        }
        Ok(())
    }

    /// Of use at once.
    fn begin_again(&mut self) -> Result<(), Cause> {
        done(&self.client.send_json("POST", SET, &json!({"op": "add", "element": "new"}))?)?;
        let page = done(&self.client.get(&format!("{SET}?limit=1000"))?)?;
        let left = done(&self.client.get(&member(&element(1)))?)?;
        if page["value"] != json!(["new"]) || left["present"] != false {
            return Err(Cause::Wrong(format!("after a clear and an add: {page}")));
        }
        Ok(())
    }

    fn size(&mut self) -> Result<u64, Cause> {
        let shown = done(&self.client.get(&format!("{SET}?size=true"))?)?;
        shown["size"].as_u64().ok_or_else(|| Cause::Wrong(format!("no size: {shown}")))
    }
}

fn done(answer: &Response) -> Result<Value, Cause> {
    if answer.is_success() {
        return Ok(answer.json());
    }
    Err(Cause::Refused(answer.status, answer.text()))
}

/// An agent alone, confined where that can be.
fn spec(folder: &Path, confined: Option<&Cgroup>) -> Result<AgentSpec, Cause> {
    let group = |name: &str, kind: &str| {
        format!("  - {{name: {name}, crdt: {{type: {kind}}}, storage: {{durability: Interval}}}}\n")
    };
    let text = ["groups:\n", &group("tags", "ORSet"), &group("hits", "PNCounter")].concat();
    let file = write_configuration(folder, "agent.yaml", &text)?;
    let mut spec = AgentSpec::new("a", folder, with_configuration(&file))?;
    if let Some(cgroup) = confined {
        // The shell goes in and becomes the agent, which so never was outside.
        let enter = r#"echo $$ > "$0" && exec "$@""#;
        let program = std::mem::replace(&mut spec.program, PathBuf::from("/bin/sh"));
        let before: [OsString; 4] =
            ["-c".into(), enter.into(), cgroup.entry().into(), program.into()];
        spec.arguments.splice(0..0, before);
    }
    Ok(spec)
}

// === impl Report ===

impl Report {
    /// The most memory that the agent had, in KiB.
    #[must_use]
    pub fn peak_kib(&self) -> u64 {
        self.rows.iter().map(|row| row.peak_kib).max().unwrap_or(0)
    }

    /// Whether it never had more than it may.
    #[must_use]
    pub fn fits_memory(&self) -> bool {
        self.peak_kib() < MEMORY_BYTES >> 10
    }

    /// The bounds that were missed.
    #[must_use]
    pub fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        if !self.fits_memory() {
            missed.push(format!("VmHWM: {} KiB", self.peak_kib()));
        }
        for (what, sorted) in [("reads", &self.latencies.reads), ("writes", &self.latencies.writes)]
        {
            if p99(sorted) >= P99_BOUND_US {
                missed.push(format!("p99 of {what}: {} us", p99(sorted)));
            }
        }
        if self.latencies.rate < RATE_BOUND {
            missed.push(format!("{:.0} requests/s", self.latencies.rate));
        }
        missed
    }

    /// What was measured, as a text.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        let Plan { count, load } = self.plan;
        let limit = MEMORY_BYTES >> 20;
        let confined = match &self.confined {
            Ok(version) => format!("in a cgroup (v{version}) of {limit} MiB"),
            Err(error) => format!("without a cgroup, for none can be made ({error})"),
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "\n{count} elements and {count} objects, {confined}");
        for row in &self.rows {
            let _ = writeln!(text, "{}", row.line());
        }
        let Latencies { reads, writes, pages, rate, rounds } = &self.latencies;
        let _ = writeln!(
            text,
            "{rate:.0} requests/s for {} s, beside {} pages of 1,000 ({rounds} times everything)",
            load.as_secs(),
            pages.len(),
        );
        let milliseconds = |us: u32| f64::from(us) / 1e3;
        let _ = writeln!(
            text,
            "p99: reads {:.1} ms, writes {:.1} ms, pages {:.1} ms; raw fdatasync {:.1} ms",
            milliseconds(p99(reads)),
            milliseconds(p99(writes)),
            milliseconds(p99(pages)),
            milliseconds(self.sync_p99_us),
        );
        let _ = write!(text, "VmHWM {} MiB of {limit}", self.peak_kib() >> 10);
        text
    }
}

impl Row {
    fn line(&self) -> String {
        let Self { what, took, resident_kib, peak_kib } = self;
        let (resident, peak) = (resident_kib >> 10, peak_kib >> 10);
        format!(
            "  {what:<40} {:>7.2} s  VmRSS {resident:>4} MiB  VmHWM {peak:>4} MiB",
            took.as_secs_f64()
        )
    }
}
