//! Accepting connections on a port, and so many at a time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;
use tracing::warn;

/// After a failure to accept, which is mostly a lack of file descriptors.
const RETRY: Duration = Duration::from_millis(100);

/// A bound port with a limit of connections.
///
/// At the limit it stops accepting: the system's queue holds the next ones, and
/// whoever dials waits.
#[derive(Debug)]
pub(crate) struct Acceptor {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

/// A connection, and the place that it takes until this is dropped.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) remote: SocketAddr,
    pub(crate) place: OwnedSemaphorePermit,
}

impl Acceptor {
    pub(crate) fn new(listener: TcpListener, connections: usize) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(connections)) }
    }

    /// The next connection. Nothing is lost when the future is dropped.
    pub(crate) async fn accept(&self) -> Accepted {
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
            // The semaphore is never closed.
            return std::future::pending().await;
        };
        let (stream, remote) = accept(&self.listener).await;
        Accepted { stream, remote, place }
    }
}

/// The next connection to a port, with small writes sent at once. Nothing is lost
/// when the future is dropped.
pub(crate) async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            // A frame or an answer is one small write: waiting to fill a segment
            // only delays it. Where that fails, the client is gone already.
            Ok((stream, remote)) if stream.set_nodelay(true).is_ok() => return (stream, remote),
            Ok(_) => {}
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                sleep(RETRY).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn at_the_limit_the_next_connection_waits_for_a_place() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = Acceptor::new(listener, 1);
        let _first = TcpStream::connect(address).await.unwrap();
        let second = TcpStream::connect(address).await.unwrap();
        let taken = acceptor.accept().await;
        let next = acceptor.accept();
        tokio::select! {
            biased;
            _ = next => panic!("there is only one place"),
            () = std::future::ready(()) => {}
        }
        drop(taken);
        let taken = acceptor.accept().await;
        assert_eq!(taken.remote, second.local_addr().unwrap());
    }
}
