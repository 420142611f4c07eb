//! A TCP proxy that can be cut and frozen: the network's faults.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What the proxy does with its connections.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Passes all bytes on.
    Pass,
    /// Keeps connections open and passes nothing.
    Freeze,
    /// Closes what is open; new ones pass in the next mode.
    Cut,
}

pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    mode: watch::Sender<Mode>,
    _tasks: JoinSet<()>,
}

// === impl Proxy ===

impl Proxy {
    pub(super) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mode = watch::Sender::new(Mode::Pass);
        let watched = mode.subscribe();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut pumps = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(target).await else { continue };
                let (near, far) = (near.into_split(), far.into_split());
                pumps.spawn(pump(near.0, far.1, watched.clone()));
                pumps.spawn(pump(far.0, near.1, watched.clone()));
            }
        });
        Self { address, mode, _tasks: tasks }
    }

    pub(super) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut mode: watch::Receiver<Mode>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let current = *mode.borrow_and_update();
        if current == Mode::Cut {
            return;
        }
        tokio::select! {
            _changed = mode.changed() => {}
            read = from.read(&mut buffer), if current == Mode::Pass => match read {
                Ok(length) if length > 0 => if to.write_all(&buffer[..length]).await.is_err() {
                    return;
                },
                _ => return,
            },
        }
    }
}
