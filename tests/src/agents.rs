//! Real agents: processes of this workspace's binary, on loopback.
//!
//! An agent is killed when its [`Agent`] is dropped, so a test or a demo that
//! fails, panics or is interrupted leaves no process behind.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use crate::client::Client;
use crate::eventually::eventually;

/// How long a start may take, with recovery, on a busy machine.
const START: Duration = Duration::from_secs(30);

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

/// Why an agent does not run.
#[derive(Debug, thiserror::Error)]
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
    /// It ended or does not answer.
    #[error("agent {name} did not start; its log ends with:\n{log}")]
    NotReady {
        /// Its name.
        name: String,
        /// The end of its log.
        log: String,
    },
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

fn free_port() -> io::Result<SocketAddr> {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes at work at the same time begin at different places.
    let start = u16::try_from(std::process::id().wrapping_mul(97) % u32::from(COUNT)).unwrap_or(0);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + start.wrapping_add(step) % COUNT;
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
        let mut client = self.client();
        let served = eventually(START, || {
            if self.ended() {
                return Some(false);
            }
            client.get("/v1/health").is_ok_and(|answer| answer.is_success()).then_some(true)
        });
        self.ready(served == Some(true))
    }

    /// Waits until every group had its first exchange with its peers.
    ///
    /// # Errors
    ///
    /// [`AgentError::NotReady`] if it ended or the time is up.
    pub fn wait_until_ready(&mut self) -> Result<(), AgentError> {
        let mut client = self.operations();
        let ready = eventually(START, || {
            if self.ended() {
                return Some(false);
            }
            client.get("/readyz").is_ok_and(|answer| answer.is_success()).then_some(true)
        });
        self.ready(ready == Some(true))
    }

    /// Ends it as a crash does: SIGKILL, and it is gone on return.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Waits until it ends by itself, at most for `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let child = self.child.as_mut()?;
        eventually(limit, || child.try_wait().ok().flatten())
    }

    /// The end of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.spec.log()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// Whether it is no longer running.
    pub fn ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }

    fn ready(&self, is_ready: bool) -> Result<(), AgentError> {
        if is_ready {
            return Ok(());
        }
        Err(AgentError::NotReady { name: self.spec.name.clone(), log: self.log_tail() })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}
