//! Real agents: processes of this workspace's binary, on loopback.
//!
//! An agent is killed when its [`Agent`] is dropped, so a test or a demo that
//! fails, panics or is interrupted leaves no process behind.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

use crate::client::Client;
use crate::eventually::eventually;

/// How long a start may take, with recovery. A machine that builds something
/// beside its tests can be twenty times slower than an idle one, which needs
/// less than a second.
const START: Duration = Duration::from_mins(2);

/// Lines at the end of a log that tell why an agent ended.
const LOG_LINES: usize = 40;

/// Where an agent listens.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// The app's API.
    pub app: SocketAddr,
    /// Peers.
    pub peers: SocketAddr,
    /// Metrics and probes.
    pub operations: SocketAddr,
}

/// What an agent is started with.
#[derive(Clone, Debug)]
pub struct AgentSpec {
    /// The program.
    pub program: PathBuf,
    /// Its name among its peers, and of its log file.
    pub name: String,
    /// The folder with its data folder and its log.
    pub folder: PathBuf,
    /// Where it listens.
    pub ports: Ports,
    /// What it dials.
    pub peers: Vec<SocketAddr>,
    /// Groups or configuration, as on the command line.
    pub arguments: Vec<OsString>,
    /// Added to its environment.
    pub environment: Vec<(OsString, OsString)>,
}

/// A running agent, killed when dropped.
#[derive(Debug)]
pub struct Agent {
    spec: AgentSpec,
    child: Option<Child>,
}

/// Why an agent does not run. Its `Debug` is its text, for that is what a test
/// that returns it prints.
#[derive(thiserror::Error)]
pub enum AgentError {
    /// The program is not where cargo puts it.
    #[error("{} is missing: build it with 'cargo build --workspace --bins'", .0.display())]
    NotBuilt(PathBuf),
    /// The system does not start it.
    #[error("start {program}: {source}")]
    Spawn {
        /// Its path.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It ended.
    #[error("agent {name} ended ({status}) instead of starting; its log ends with:\n{log}")]
    Ended {
        /// Its name.
        name: String,
        /// How.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// It runs and does not say that it is ready.
    #[error(
        "agent {name} was not ready after {} s ({last}); its log ends with:\n{log}",
        START.as_secs()
    )]
    NotReady {
        /// Its name.
        name: String,
        /// What came of the last question.
        last: String,
        /// The end of its log.
        log: String,
    },
}

impl fmt::Debug for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// === impl Ports ===

impl Ports {
    /// Three ports of loopback that nobody listens on.
    ///
    /// They are below the ports that the system gives to clients, so that no
    /// connection takes one while its agent is down.
    ///
    /// # Errors
    ///
    /// If the system has no port left.
    pub fn free() -> io::Result<Self> {
        Ok(Self { app: free_port()?, peers: free_port()?, operations: free_port()? })
    }

    /// The default ports, moved up by `offset`.
    #[must_use]
    pub fn default_plus(offset: u16) -> Self {
        let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port + offset));
        Self { app: at(4437), peers: at(4438), operations: at(4439) }
    }
}

/// Ports that are this process's own, so that none is taken by another one's
/// agent while the agent that it belongs to is down.
struct Block {
    first: u16,
    next: AtomicU16,
    /// The name that stands for the block is free again when this is closed.
    _held: UnixListener,
}

impl Block {
    const PORTS: u16 = 200;
    const FIRST_PORT: u16 = 10_000;
    const COUNT: u16 = 100;

    /// The first that no other process has. Names of this kind are known where
    /// the ports are: in one network namespace.
    fn take() -> Option<Self> {
        (0..Self::COUNT).find_map(|number| {
            let name = format!("coppice-test-ports-{number}");
            let address = UnixAddress::from_abstract_name(name).ok()?;
            let held = UnixListener::bind_addr(&address).ok()?;
            let first = Self::FIRST_PORT + number * Self::PORTS;
            Some(Self { first, next: AtomicU16::new(0), _held: held })
        })
    }
}

fn free_port() -> io::Result<SocketAddr> {
    static OWN: OnceLock<Option<Block>> = OnceLock::new();
    let block = OWN.get_or_init(Block::take).as_ref().ok_or(io::ErrorKind::AddrInUse)?;
    for _ in 0..Block::PORTS {
        let step = block.next.fetch_add(1, Ordering::Relaxed);
        let port = block.first + step % Block::PORTS;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// The path of a program of this workspace, beside the running one.
///
/// # Errors
///
/// [`AgentError::NotBuilt`] with the command that builds it.
pub fn program(name: &str) -> Result<PathBuf, AgentError> {
    let running = std::env::current_exe().unwrap_or_default();
    // Tests are in `deps`, beside it.
    let folders = running.ancestors().skip(1).take(2);
    let mut paths = folders.map(|folder| folder.join(name));
    let found = paths.find(|path| path.is_file());
    found.ok_or_else(|| AgentError::NotBuilt(running.with_file_name(name)))
}

/// The arguments that serve `name=TYPE` groups with default settings.
pub fn groups<'a>(groups: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<OsString> {
    let flags = groups.into_iter();
    flags.flat_map(|(name, kind)| ["--group".into(), format!("{name}={kind}").into()]).collect()
}

// === impl AgentSpec ===

impl AgentSpec {
    /// An agent in `folder` that knows no peer, on free ports.
    ///
    /// # Errors
    ///
    /// If the program is not built, or no port is free.
    pub fn new(name: &str, folder: &Path, arguments: Vec<OsString>) -> Result<Self, AgentError> {
        let program = program("coppice-agent")?;
        let spawn = |source| AgentError::Spawn { program: program.display().to_string(), source };
        let ports = Ports::free().map_err(spawn)?;
        Ok(Self {
            program,
            name: name.to_owned(),
            folder: folder.to_owned(),
            ports,
            peers: Vec::new(),
            arguments,
            environment: Vec::new(),
        })
    }

    /// Where its data is.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    /// Where its log is.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    /// Starts it and does not wait for it.
    ///
    /// # Errors
    ///
    /// [`AgentError::Spawn`].
    pub fn spawn(self) -> Result<Agent, AgentError> {
        let mut agent = Agent { spec: self, child: None };
        agent.spawn_again()?;
        Ok(agent)
    }

    /// Starts it and waits until it serves its app.
    ///
    /// # Errors
    ///
    /// If it does not.
    pub fn start(self) -> Result<Agent, AgentError> {
        let mut agent = self.spawn()?;
        agent.wait_until_serving()?;
        Ok(agent)
    }

    fn command(&self) -> io::Result<Command> {
        let log = OpenOptions::new().create(true).append(true).open(self.log())?;
        let mut command = Command::new(&self.program);
        let address = |address: SocketAddr| OsString::from(address.to_string());
        command
            .args(&self.arguments)
            .args([OsStr::new("--replica-name"), self.name.as_ref()])
            .args([OsStr::new("--data-dir"), self.data().as_ref()])
            .args(["--listen-app".into(), address(self.ports.app)])
            .args(["--listen-peers".into(), address(self.ports.peers)])
            .args(["--listen-operations".into(), address(self.ports.operations)])
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C is for who started it, who then ends it.
            .process_group(0);
        for peer in &self.peers {
            command.args(["--peer".into(), address(*peer)]);
        }
        Ok(command)
    }
}

// === impl Agent ===

impl Agent {
    /// What it was started with.
    #[must_use]
    pub fn spec(&self) -> &AgentSpec {
        &self.spec
    }

    /// To change what it is started with the next time.
    pub fn spec_mut(&mut self) -> &mut AgentSpec {
        &mut self.spec
    }

    /// A client of its app's API.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.spec.ports.app)
    }

    /// A client of its operations port.
    #[must_use]
    pub fn operations(&self) -> Client {
        Client::new(self.spec.ports.operations)
    }

    /// The number of its process, while it has one.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Starts it again, on the same ports and data, and does not wait.
    ///
    /// # Errors
    ///
    /// [`AgentError::Spawn`].
    pub fn spawn_again(&mut self) -> Result<(), AgentError> {
        self.kill();
        let child = self.spec.command().and_then(|mut command| command.spawn());
        let program = self.spec.program.display().to_string();
        self.child = Some(child.map_err(|source| AgentError::Spawn { program, source })?);
        Ok(())
    }

    /// Starts it again and waits until it serves its app.
    ///
    /// # Errors
    ///
    /// If it does not.
    pub fn restart(&mut self) -> Result<(), AgentError> {
        self.spawn_again()?;
        self.wait_until_serving()
    }

    /// Waits until it serves its app; it may still wait for its peers.
    ///
    /// # Errors
    ///
    /// [`AgentError::NotReady`] if it ended or the time is up.
    pub fn wait_until_serving(&mut self) -> Result<(), AgentError> {
        let client = self.client();
        self.wait_for(client, "/v1/health")
    }

    /// Waits until every group had its first exchange with its peers.
    ///
    /// # Errors
    ///
    /// [`AgentError::NotReady`] if it ended or the time is up.
    pub fn wait_until_ready(&mut self) -> Result<(), AgentError> {
        let client = self.operations();
        self.wait_for(client, "/readyz")
    }

    fn wait_for(&mut self, mut client: Client, path: &str) -> Result<(), AgentError> {
        let mut last = String::from("it was not asked");
        let ready = eventually(START, || {
            if self.ended() {
                return Some(false);
            }
            match client.get(path) {
                Ok(answer) if answer.is_success() => return Some(true),
                Ok(answer) => last = format!("{path}: {} {}", answer.status, answer.text()),
                Err(error) => last = format!("{path}: {error}"),
            }
            None
        });
        let name = self.spec.name.clone();
        match ready {
            Some(true) => Ok(()),
            Some(false) => {
                let log = self.log_tail();
                Err(AgentError::Ended { name, status: self.status(), log })
            }
            None => Err(AgentError::NotReady { name, last, log: self.log_tail() }),
        }
    }

    /// Ends it as a crash does: SIGKILL, and it is gone on return.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends it a signal, such as `TERM`, as a supervisor does.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let child = self.child.as_ref().ok_or(io::ErrorKind::NotFound)?;
        Ok(kill_process(Pid::from_child(child), signal)?)
    }

    /// Waits until it ends by itself, at most for `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let child = self.child.as_mut()?;
        eventually(limit, || child.try_wait().ok().flatten())
    }

    /// The end of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let path = self.spec.log();
        // A device as /dev/full has no end.
        if !path.is_file() {
            return format!("{} is no file", path.display());
        }
        let log = std::fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// Whether it is no longer running.
    pub fn ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }

    fn status(&mut self) -> String {
        let status = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
        status.map_or_else(|| "killed by its test".to_owned(), |status| status.to_string())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}
