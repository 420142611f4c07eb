//! A redis server, killed when dropped.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::load::Target;
use super::process::Process;
use super::workload::Protocol;
use crate::agents::Ports;
use crate::eventually::eventually;

const PROGRAM: &str = "redis-server";
/// How long a start may take on a busy machine.
const START: Duration = Duration::from_secs(30);

/// What redis does for a write before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Persistence {
    /// Nothing.
    Off,
    /// It appends it to its file and syncs that.
    AppendAndSync,
}

/// A running server.
#[derive(Debug)]
pub(super) struct Redis {
    child: Child,
    address: SocketAddr,
}

/// Why redis does not run.
#[derive(Debug, thiserror::Error)]
pub(super) enum RedisError {
    /// It is not installed.
    #[error(
        "redis-server is missing: install the package redis-server (Debian, Ubuntu: apt-get install redis-server)"
    )]
    Missing,
    /// The system does not start it.
    #[error("start redis-server: {0}")]
    Spawn(#[from] io::Error),
    /// It ended or does not listen.
    #[error("redis-server did not start; its log ends with:\n{0}")]
    NotReady(String),
}

/// What it says of its version.
///
/// # Errors
///
/// [`RedisError::Missing`] if it is not installed.
pub(super) fn version() -> Result<String, RedisError> {
    let answer = Command::new(PROGRAM).arg("--version").output().map_err(spawn_error)?;
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    let number = text.split_whitespace().find_map(|word| word.strip_prefix("v="));
    Ok(number.unwrap_or("of unknown version").to_owned())
}

fn spawn_error(error: io::Error) -> RedisError {
    if error.kind() == io::ErrorKind::NotFound { RedisError::Missing } else { error.into() }
}

// === impl Redis ===

impl Redis {
    /// Starts one with its files in `folder` and waits until it listens.
    ///
    /// # Errors
    ///
    /// If it does not.
    pub(super) fn start(folder: &Path, persistence: Persistence) -> Result<Self, RedisError> {
        let address = Ports::free()?.app;
        let log_path = folder.join("redis.log");
        let log = File::create(&log_path)?;
        let persistence = match persistence {
            Persistence::Off => vec!["--appendonly", "no"],
            Persistence::AppendAndSync => vec!["--appendonly", "yes", "--appendfsync", "always"],
        };
        let child = Command::new(PROGRAM)
            .args([OsString::from("--dir"), folder.into()])
            .args(["--bind", "127.0.0.1", "--port", &address.port().to_string()])
            .args(["--save", "", "--daemonize", "no"])
            .args(persistence)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C is for who started it, who then ends it.
            .process_group(0)
            .spawn()
            .map_err(spawn_error)?;
        let mut redis = Self { child, address };
        let listens = eventually(START, || {
            if !matches!(redis.child.try_wait(), Ok(None)) {
                return Some(false);
            }
            TcpStream::connect(address).is_ok().then_some(true)
        });
        if listens == Some(true) {
            return Ok(redis);
        }
        let log = std::fs::read_to_string(log_path).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        Err(RedisError::NotReady(lines[lines.len().saturating_sub(5)..].join("\n")))
    }

    /// Where it is asked.
    pub(super) fn target(&self) -> Target {
        Target { address: self.address, protocol: Protocol::Resp }
    }

    /// Its process.
    pub(super) fn process(&self) -> Process {
        Process::new(self.child.id())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Its data is thrown away.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
