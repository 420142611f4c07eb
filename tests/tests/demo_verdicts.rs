//! The demo passes, fails when it must, and leaves nothing behind.

use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use coppice_tests::agents::program;
use coppice_tests::eventually::eventually;
use coppice_tests::trio::Failure;
use rustix::process::{Pid, Signal, kill_process};

const LIMIT: Duration = Duration::from_mins(2);

/// A demo with a folder for temporary files of its own.
struct Demo {
    command: Command,
    temporary: tempfile::TempDir,
}

// === impl Demo ===

impl Demo {
    fn new() -> Result<Self, Failure> {
        let temporary = tempfile::tempdir()?;
        let mut command = Command::new(program("coppice-demo")?);
        command.env("TMPDIR", temporary.path()).env_remove("DEMO_SABOTAGE");
        Ok(Self { command, temporary })
    }

    fn is_tidy(&self) -> Result<bool, Failure> {
        Ok(fs::read_dir(self.temporary.path())?.next().is_none())
    }

    fn run(&mut self) -> Result<Output, Failure> {
        Ok(self.command.output()?)
    }
}

#[test]
fn every_type_is_judged_correct() -> Result<(), Failure> {
    let mut demo = Demo::new()?;
    let output = demo.run()?;
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}");
    let judged = shown.lines().filter(|line| line.contains("  correct: ")).count();
    assert_eq!(judged, 7, "{shown}");
    assert!(demo.is_tidy()?);
    Ok(())
}

#[test]
fn a_record_that_one_agent_lost_is_noticed() -> Result<(), Failure> {
    let mut demo = Demo::new()?;
    demo.command.env("DEMO_SABOTAGE", "1");
    let output = demo.run()?;
    let shown = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    let wrong: Vec<_> = shown.lines().filter(|line| line.contains("  WRONG: ")).collect();
    assert_eq!(wrong.len(), 1, "{shown}");
    assert!(wrong[0].starts_with("ORSet "), "{shown}");
    assert!(shown.contains("at a, kept"), "the ledger names what is missing: {shown}");
    assert!(demo.is_tidy()?);
    Ok(())
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() -> Result<(), Failure> {
    let mut demo = Demo::new()?;
    // It waits long enough to be met in the middle.
    demo.command.env("DEMO_SABOTAGE", "1").stdout(Stdio::null()).stderr(Stdio::null());
    let mut running = demo.command.spawn()?;
    let temporary = demo.temporary.path().to_owned();
    let begun = || {
        let folder = fs::read_dir(&temporary).ok()?.next()?.ok()?.path();
        let data = ["a", "b", "c"].map(|name| folder.join(name).join("db").exists());
        data.iter().all(|exists| *exists).then_some(folder)
    };
    let folder = eventually(LIMIT, begun).ok_or("it does not begin")?;
    let folder = folder.to_string_lossy().into_owned();
    assert!(is_used(&folder)?, "agents run in it");

    kill_process(Pid::from_child(&running), Signal::INT)?;
    let status = eventually(LIMIT, || running.try_wait().ok().flatten()).ok_or("it goes on")?;

    assert_eq!(status.code(), Some(1));
    assert!(demo.is_tidy()?);
    assert!(!is_used(&folder)?, "no agent is left");
    Ok(())
}

/// Whether a process runs that has `folder` on its command line.
fn is_used(folder: &str) -> Result<bool, Failure> {
    for process in fs::read_dir("/proc")? {
        let command_line = fs::read(process?.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&command_line).contains(folder) {
            return Ok(true);
        }
    }
    Ok(false)
}
