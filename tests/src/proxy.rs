//! A TCP proxy that counts bytes and can be cut: the network between agents.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::{fmt, io};

/// Passes connections on to one address until it is dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    cut: AtomicBool,
    closed: AtomicBool,
    bytes: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

// === impl Proxy ===

impl Proxy {
    /// Listens on a free port of loopback, for `target`.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn to(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        let acceptor = thread::Builder::new()
            .name("proxy".into())
            .spawn(move || accept(&listener, target, &accepting))?;
        Ok(Self { address, shared, acceptor: Some(acceptor) })
    }

    /// Where to connect instead of the target.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes passed on so far, both ways.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Breaks what is connected, and refuses what comes, until
    /// [`heal`](Self::heal). No byte passes once this has returned.
    pub fn cut(&self) {
        self.shared.cut.store(true, Ordering::SeqCst);
        self.shared.break_connections();
    }

    /// Passes connections on again.
    pub fn heal(&self) {
        self.shared.cut.store(false, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        self.shared.break_connections();
        // Wakes the acceptor, which then sees that it is over.
        let woken = TcpStream::connect(self.address).is_ok();
        if let Some(acceptor) = self.acceptor.take().filter(|_| woken) {
            let _ = acceptor.join();
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("address", &self.address).finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    /// Keeps a handle by which the connection can be broken. Refuses it, under
    /// the same lock that breaking takes, when the line is cut.
    fn admit(&self, near: &TcpStream, far: &TcpStream) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (Ok(near), Ok(far)) = (near.try_clone(), far.try_clone()) else { return false };
        if self.cut.load(Ordering::SeqCst) || self.closed.load(Ordering::SeqCst) {
            return false;
        }
        open.extend([near, far]);
        true
    }

    fn break_connections(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in open.drain(..) {
            // It may be broken already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, target: SocketAddr, shared: &Arc<Shared>) {
    for near in listener.incoming() {
        if shared.closed.load(Ordering::SeqCst) {
            return;
        }
        let Ok(near) = near else { continue };
        if shared.cut.load(Ordering::SeqCst) {
            continue;
        }
        let Ok(far) = TcpStream::connect(target) else { continue };
        if shared.admit(&near, &far) {
            let _ = near.set_nodelay(true);
            let _ = far.set_nodelay(true);
            pump(&near, &far, shared);
            pump(&far, &near, shared);
        }
    }
}

/// Copies one direction on a thread of its own, until either side ends.
fn pump(from: &TcpStream, to: &TcpStream, shared: &Arc<Shared>) {
    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
    let shared = Arc::clone(shared);
    let copy = move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if shared.cut.load(Ordering::SeqCst) || to.write_all(&buffer[..length]).is_err() {
                break;
            }
            shared.bytes.fetch_add(length as u64, Ordering::Relaxed);
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    };
    // Without a thread the connection hangs, and its peers find that out.
    let _ = thread::Builder::new().name("proxy pump".into()).spawn(copy);
}
