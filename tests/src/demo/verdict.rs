//! The table: what was done, how long it took, and whether it came out right.

use std::time::Duration;

use coppice_crdt::CrdtType;

use super::Failure;
use super::cluster::{AGENTS, Objects};
use super::convergence::{self, Convergence};
use super::request::{type_of, value_of};
use super::scene::Scene;
use crate::ledger::{Fate, Ledger};
use crate::progress::say;

/// The fewest answered writes per agent and type, and conflicts per side.
const MIN_WRITES: usize = 100;
const MIN_CONFLICTS: usize = 10;
/// Contradictions shown per type; the rest is counted.
const SHOWN: usize = 5;

/// What the acts found out.
#[derive(Debug, Default)]
pub(super) struct Report {
    convergences: Vec<(&'static str, Convergence)>,
    /// The epoch of the cut.
    pub(super) cut_epoch: u32,
    /// Whether the two sides did differ while they were cut.
    pub(super) held: bool,
}

/// What is said of one type.
#[derive(Debug, Default)]
struct Verdict {
    judged: usize,
    decided: usize,
    wrong: Vec<String>,
}

// === impl Report ===

impl Report {
    pub(super) fn converged(&mut self, act: &'static str, convergence: Convergence) {
        self.convergences.push((act, convergence));
    }

    /// Prints the table; whether everything was as it must be.
    pub(super) fn conclude(&self, scene: &Scene) -> Result<bool, Failure> {
        let acts = self.convergences.iter().map(|(act, _)| format!("{:>9}", format!("·{act}")));
        say(&format!(
            "\n{:<12}{:>8}{:>9}{:>10}{}{:>10}  verdict (from the ledger)",
            "type",
            "writes",
            "unknown",
            "conflicts",
            acts.collect::<String>(),
            "KiB sent",
        ));
        let mut all_well = self.held;
        for kind in CrdtType::ALL {
            let ledger = scene.ledger(kind).clone();
            let verdict = self.judge(scene, &ledger)?;
            say(&self.row(scene, &ledger, &verdict));
            for wrong in verdict.wrong.iter().take(SHOWN) {
                say(&format!("    {wrong}"));
            }
            if let more @ 1.. = verdict.wrong.len().saturating_sub(SHOWN) {
                say(&format!("    and {more} more"));
            }
            all_well &= verdict.wrong.is_empty();
        }
        let proxied = kibibytes(scene.cluster.proxied_bytes());
        say(&format!(
            "\nwrites: answered, over all agents · unknown: in flight when their agent was killed\n\
             conflicts: per side of the cut · times: until all agents were equal after each act\n\
             decided exactly: values that every order of the writes leaves the same; of the others\n\
             the ledger knows which ones are right\n\
             {proxied} KiB passed the proxies, heartbeats and HTTP/2 included"
        ));
        if !self.held {
            say("The cut did not hold: the sides never differed");
        }
        Ok(all_well)
    }

    fn row(&self, scene: &Scene, ledger: &Ledger, verdict: &Verdict) -> String {
        let kind = ledger.crdt_type();
        let times = self.convergences.iter().map(|(_, convergence)| {
            let time = convergence.get(&kind).map(Duration::as_millis);
            format!("{:>9}", time.map_or("never".to_owned(), |ms| format!("{ms} ms")))
        });
        let Verdict { judged, decided, wrong } = verdict;
        let outcome = if wrong.is_empty() { "correct" } else { "WRONG" };
        format!(
            "{:<12}{:>8}{:>9}{:>10}{}{:>10}  {outcome}: {judged} values, {decided} decided exactly",
            kind.name(),
            ledger.count(Fate::Acknowledged),
            ledger.count(Fate::Unknown),
            ledger.conflicts(self.cut_epoch),
            times.collect::<String>(),
            kibibytes(scene.frame_bytes(kind)),
        )
    }

    fn judge(&self, scene: &Scene, ledger: &Ledger) -> Result<Verdict, Failure> {
        let kind = ledger.crdt_type();
        let mut verdict = Verdict::default();
        let shown: Result<Vec<Objects>, _> =
            (0..AGENTS).map(|agent| scene.cluster.objects(agent, kind)).collect();
        let shown = shown?;
        for target in ledger.targets() {
            let expectation = ledger.expect(&target, type_of(&target, kind));
            verdict.judged += 1;
            verdict.decided += usize::from(expectation.is_decided());
            for (agent, objects) in shown.iter().enumerate() {
                let value = value_of(objects, &target, kind);
                if let Some(wrong) = expectation.contradiction(value) {
                    let field = target.field.as_deref().unwrap_or_default();
                    let name = scene.name(agent);
                    verdict.wrong.push(format!("at {name}, {} {field} {wrong}", target.key));
                }
            }
        }
        let known = ledger.targets();
        for key in shown.iter().flat_map(Objects::keys) {
            if !known.iter().any(|target| target.key == *key) {
                verdict.wrong.push(format!("{key} is there, and nobody wrote it"));
            }
        }
        if !convergence::are_equal(&scene.cluster, kind)? {
            verdict.wrong.push("the agents differ".to_owned());
        }
        self.check_amount(ledger, &mut verdict);
        Ok(verdict)
    }

    /// A demo that did too little proves nothing.
    fn check_amount(&self, ledger: &Ledger, verdict: &mut Verdict) {
        let fewest = (0..AGENTS).map(|agent| ledger.acknowledged_by(agent)).min();
        if fewest.unwrap_or(0) < MIN_WRITES {
            verdict.wrong.push(format!("only {fewest:?} answered writes at one agent"));
        }
        let conflicts = ledger.conflicts(self.cut_epoch);
        if conflicts < MIN_CONFLICTS {
            verdict.wrong.push(format!("only {conflicts} conflicts per side"));
        }
    }
}

fn kibibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1024)
}
