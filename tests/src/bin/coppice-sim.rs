//! Runs the simulation over many seeds, or replays one.
//!
//! `SIM_SEEDS=n`: the seeds 0 to n-1 (default 1000). `SIM_SEED=n`: that one
//! alone, exactly as before. Two threads share the seeds; each seed's run is its
//! own. Prints totals, and fails if a run fails or a total is zero.
//!
//! `SIM_MUTANT=all`, or the name of one: wrong protocols run instead, and it
//! fails if one of them is not caught. With `SIM_SEED`: that seed alone. Needs
//! the feature `mutants`, see `make sim-mutants`.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use coppice_tests::sim::{self, Failure, Totals};

const THREADS: usize = 2;
const DEFAULT_SEEDS: u64 = 1_000;

/// After so many failures the rest tells nothing new.
const FAILURES_SHOWN: usize = 5;

fn main() -> ExitCode {
    match simulate() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("coppice-sim: {error}");
            ExitCode::from(2)
        }
    }
}

fn simulate() -> io::Result<bool> {
    if let Some(argument) = env::args().nth(1) {
        let text = format!("{argument}: no arguments are taken; set SIM_SEEDS or SIM_SEED");
        return Err(io::Error::other(text));
    }
    if let Some(wanted) = env::var_os("SIM_MUTANT") {
        return mutants(&wanted.to_string_lossy());
    }
    if let Some(seed) = number("SIM_SEED")? {
        return replay(seed);
    }
    let seeds = number("SIM_SEEDS")?.unwrap_or(DEFAULT_SEEDS);
    let (totals, failures) = run_all(seeds);
    let mut out = io::stdout().lock();
    for (seed, failure) in failures.iter().take(FAILURES_SHOWN) {
        show(&mut out, *seed, failure)?;
    }
    write!(out, "{totals}")?;
    writeln!(out, "{seeds} seeds, {} failed", failures.len())?;
    let missing: Vec<_> = totals.missing().collect();
    if !missing.is_empty() {
        writeln!(out, "never happened: {}", missing.join(", "))?;
    }
    if !failures.is_empty() {
        let seeds: Vec<_> = failures.iter().map(|(seed, _)| seed.to_string()).collect();
        writeln!(out, "failing seeds: {}", seeds.join(" "))?;
    }
    let (crashes, lossy) = (totals.get("crashes"), totals.get("crashes that lost commits"));
    if 5 * lossy < crashes {
        writeln!(out, "{lossy} of {crashes} crashes lost commits: less than a fifth")?;
    }
    Ok(failures.is_empty() && missing.is_empty() && 5 * lossy >= crashes)
}

fn number(variable: &str) -> io::Result<Option<u64>> {
    let Some(text) = env::var_os(variable) else { return Ok(None) };
    let parsed = text.to_str().and_then(|text| text.parse().ok());
    parsed.map(Some).ok_or_else(|| io::Error::other(format!("{variable} is not a number")))
}

fn replay(seed: u64) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match sim::run(seed, env::var_os("SIM_TRACE").is_some()) {
        Ok(run) => {
            write!(out, "{}", run.totals)?;
            writeln!(out, "seed {seed} passed, digest {:016x}", run.digest)?;
            Ok(true)
        }
        Err(failure) => {
            show(&mut out, seed, &failure)?;
            Ok(false)
        }
    }
}

#[cfg(not(feature = "mutants"))]
fn mutants(_: &str) -> io::Result<bool> {
    Err(io::Error::other("built without the feature `mutants`: use `make sim-mutants`"))
}

/// Shows that seeds catch wrong protocols, and that the right one passes the same.
#[cfg(feature = "mutants")]
fn mutants(wanted: &str) -> io::Result<bool> {
    use coppice_crdt::mutant::{self, Mutant};

    let known = || Mutant::ALL.into_iter();
    let chosen: Vec<Mutant> =
        known().filter(|one| wanted == "all" || wanted == one.name()).collect();
    if chosen.is_empty() && wanted != "none" {
        let names: Vec<_> = known().map(Mutant::name).collect();
        let text = format!("SIM_MUTANT={wanted}: choose all, none, {}", names.join(", "));
        return Err(io::Error::other(text));
    }
    // A panic is one way to be caught, and told with the others.
    std::panic::set_hook(Box::new(|_| {}));
    if let (Some(seed), [one]) = (number("SIM_SEED")?, &chosen[..]) {
        mutant::choose(Some(*one));
        return replay(seed);
    }
    let seeds = number("SIM_SEEDS")?.unwrap_or(sim::mutants::SEEDS);
    let (mut tried, mut caught) = (0, 0);
    for &one in &chosen {
        let share = sim::mutants::share_of(Some(one), seeds, THREADS);
        tried = tried.max(share.tried);
        caught += usize::from(share.is_caught());
        show_share(one.name(), one.description(), &share)?;
    }
    let right = sim::mutants::share_of(None, if tried > 0 { tried } else { seeds }, THREADS);
    show_share("none", "the right protocol over the same seeds", &right)?;
    println(format_args!("{caught} of {} wrong protocols caught", chosen.len()))?;
    Ok(caught == chosen.len() && right.caught.is_empty())
}

#[cfg(feature = "mutants")]
fn show_share(name: &str, description: &str, share: &sim::mutants::Share) -> io::Result<()> {
    use std::collections::BTreeMap;

    let mut ways = BTreeMap::<_, usize>::new();
    for (_, failure) in &share.caught {
        *ways.entry(failure.noticed).or_default() += 1;
    }
    let ways = ways.iter().map(|(way, count)| format!("{} {count}", way.name()));
    let ways = ways.collect::<Vec<_>>().join(", ");
    let (caught, tried) = (share.caught.len(), share.tried);
    println(format_args!("{name:<25} {caught:>2} of {tried:>4} seeds  {description}  ({ways})"))?;
    if let Some((seed, failure)) = share.caught.first() {
        let error: String = failure.error.chars().take(200).collect();
        println(format_args!("{:<25} first: seed {seed}: {error}", ""))?;
    }
    Ok(())
}

#[cfg(feature = "mutants")]
fn println(line: std::fmt::Arguments<'_>) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}

fn show(out: &mut impl Write, seed: u64, failure: &Failure) -> io::Result<()> {
    let Failure { noticed, error, trace, plan } = failure;
    writeln!(out, "SIM_SEED={seed} failed ({}): {error}\n{plan}\n{trace}", noticed.name())
}

fn run_all(seeds: u64) -> (Totals, Vec<(u64, Failure)>) {
    let next = AtomicU64::new(0);
    let done = Mutex::new((Totals::default(), Vec::new()));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let outcome = sim::run(seed, false);
                    let Ok(mut done) = done.lock() else { return };
                    match outcome {
                        Ok(run) => done.0.join(&run.totals),
                        Err(failure) => done.1.push((seed, failure)),
                    }
                    if seed % 100 == 99 {
                        eprintln!("{} of {seeds} seeds, {} failed", seed + 1, done.1.len());
                    }
                }
            });
        }
    });
    let (totals, mut failures) = done.into_inner().unwrap_or_default();
    failures.sort_by_key(|(seed, _)| *seed);
    (totals, failures)
}
