//! Serves one port: HTTP/1.1 and HTTP/2 with prior knowledge, told apart by the
//! first bytes.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::activity::{Activity, OpenBody, Watched};
use super::connections::Connections;
use super::leftover::Leftover;
use crate::acceptor;

/// The most bytes of a request's head; hyper refuses more with an empty 431.
///
/// A key of 512 bytes, an element of 4 KiB, percent-encoded, and a long list of etags
/// fit many times. hyper's own limit is six times as much, for each connection.
const HEAD_BYTES: u32 = 64 << 10;

/// How often a connection that waits for a place looks for one that makes room.
const ROOM_POLL: Duration = Duration::from_millis(100);

/// What one port may use.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Connections at a time; for more, those that are idle make room.
    pub connections: usize,
    /// How long open requests may take to end after shutdown.
    pub grace: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self { connections: 1_024, grace: Duration::from_secs(1) }
    }
}

/// A port, bound and not yet served.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    limits: ServerLimits,
    marks_local: bool,
    over_limit: IntCounter,
}

/// Marks a request that came from this machine: from loopback, or from the
/// address that it was sent to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalClient;

impl Server {
    /// A server on a bound port, which counts connections over the limit.
    #[must_use]
    pub const fn new(listener: TcpListener, limits: ServerLimits, over_limit: IntCounter) -> Self {
        Self { listener, limits, marks_local: false, over_limit }
    }

    /// Marks requests from this machine, for those who answer them.
    #[must_use]
    pub fn marking_local_clients(self) -> Self {
        Self { marks_local: true, ..self }
    }

    /// Answers requests with `answer` until `shutdown` fires; then accepts no
    /// more, and gives open requests `grace` to end.
    ///
    /// A request whose answer began is never cut off before that.
    pub async fn run<F, A>(self, answer: F, shutdown: CancellationToken)
    where
        F: Fn(Request<Body>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Response> + Send + 'static,
    {
        let Self { listener, limits, marks_local, over_limit } = self;
        let address = listener.local_addr().ok();
        let mut connections = Connections::new(address, limits.connections, over_limit);
        // Accepted, and without a place.
        let mut waiting = None;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(()) = connections.ended() => {}
                (stream, _) = acceptor::accept(&listener), if waiting.is_none() => {
                    connections.came();
                    waiting = Some(stream);
                }
                () = sleep(ROOM_POLL), if waiting.is_some() => {}
            }
            if let Some(stream) = waiting.take_if(|_| connections.make_room()) {
                let local = (marks_local && is_local(&stream)).then_some(LocalClient);
                let activity = Activity::new();
                let serving = (activity.clone(), shutdown.clone());
                connections.open(activity, serve(stream, local, answer.clone(), serving));
            }
        }
        drop((listener, waiting));
        let ended = async { while connections.ended().await.is_some() {} };
        if tokio::time::timeout(limits.grace, ended).await.is_err() {
            debug!("connections were cut off at the end of the grace period");
        }
    }
}

fn is_local(stream: &TcpStream) -> bool {
    let (Ok(client), Ok(server)) = (stream.peer_addr(), stream.local_addr()) else { return false };
    let client = client.ip().to_canonical();
    client.is_loopback() || client == server.ip().to_canonical()
}

/// Serves one connection until either side ends it, or another one needs its place;
/// on `shutdown`, until the requests on it are answered.
async fn serve<I, F, A>(
    stream: I,
    local: Option<LocalClient>,
    answer: F,
    (activity, shutdown): (Activity, CancellationToken),
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Body>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response> + Send + 'static,
{
    let begun = activity.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let open = begun.begin();
        if let Some(local) = local {
            request.extensions_mut().insert(local);
        }
        let (request, leftover) = Leftover::of(request);
        let answered = answer(request);
        async move {
            let response = answered.await;
            if let Some(leftover) = leftover {
                leftover.discard().await;
            }
            Ok::<_, Infallible>(response.map(|body| OpenBody::new(body, open)))
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // See `activity` for what is done in its place.
    builder.http1().header_read_timeout(None::<Duration>).max_buf_size(HEAD_BYTES as usize);
    let mut http2 = builder.http2();
    http2.timer(TokioTimer::new()).max_concurrent_streams(256).max_header_list_size(HEAD_BYTES);
    let stream = TokioIo::new(Watched::new(stream, activity.clone()));
    let mut connection = pin!(builder.serve_connection(stream, service));
    let mut idle = pin!(activity.idle());
    let ended = loop {
        tokio::select! {
            // First, so that a request that is here counts.
            biased;
            ended = connection.as_mut() => break ended,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                break connection.await;
            }
            () = idle.as_mut() => return debug!("an idle connection was ended"),
            () = activity.asked_to_leave() => {
                if activity.idle_for().is_some() {
                    return debug!("an idle connection was ended for another one");
                }
            }
        }
    };
    if let Err(error) = ended {
        debug!(error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::Instant;

    use super::super::activity::{FIRST_PATIENCE, IDLE_PATIENCE};
    use super::*;

    const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    /// A connection whose requests are answered after `took`.
    fn connection(took: Duration) -> (DuplexStream, impl Future<Output = ()>) {
        let (client, served) = duplex(4096);
        let answer = move |_| async move {
            sleep(took).await;
            Response::new(Body::from("done"))
        };
        (client, serve(served, None, answer, (Activity::new(), CancellationToken::new())))
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_body_is_read_to_its_end_before_the_answer() {
        let length = 4 << 20;
        let content = vec![b'x'; length];
        let counted = ("Content-Length: 4194304", "", "");
        let chunked = ("Transfer-Encoding: chunked", "400000\r\n", "\r\n0\r\n\r\n");
        for (framing, before, behind) in [counted, chunked] {
            let (mut client, served) = connection(Duration::ZERO);
            let send = async {
                let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{before}");
                for part in [head.as_bytes(), &content, behind.as_bytes()] {
                    client.write_all(part).await.expect("it is taken");
                }
                let mut answer = [0; 4096];
                let got = client.read(&mut answer).await.unwrap();
                drop(client);
                String::from_utf8_lossy(&answer[..got]).into_owned()
            };
            let ((), answer) = tokio::join!(served, send);
            assert!(answer.ends_with("done"), "{framing}: {answer:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_without_an_end_is_answered_all_the_same() {
        let (mut client, served) = connection(Duration::ZERO);
        let began = Instant::now();
        let send = async {
            let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";
            client.write_all(head.as_bytes()).await.unwrap();
            let mut answer = [0; 4096];
            let got = client.read(&mut answer).await.unwrap();
            drop(client);
            String::from_utf8_lossy(&answer[..got]).into_owned()
        };
        let ((), answer) = tokio::join!(served, send);
        assert!(
            answer.ends_with("done") && began.elapsed() < Duration::from_secs(10),
            "{answer:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_sent_whole_to_a_client_that_takes_it_slowly() {
        let (mut client, served) = duplex(4096);
        let content = vec![b'x'; 256 << 10];
        let length = content.len();
        let answer = move |_| std::future::ready(Response::new(Body::from(content.clone())));
        let serving = serve(served, None, answer, (Activity::new(), CancellationToken::new()));
        let take = async {
            client.write_all(HEAD).await.unwrap();
            let (mut taken, mut part) = (0, [0; 4096]);
            while taken < length {
                sleep(IDLE_PATIENCE / 4).await;
                match client.read(&mut part).await.unwrap() {
                    0 => break,
                    bytes => taken += bytes,
                }
            }
            drop(client);
            taken
        };
        let ((), taken) = tokio::join!(serving, take);
        assert!(taken >= length, "{taken} of {length}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_says_nothing_is_ended() {
        for said in [&b""[..], b"GET / HTT", b"PRI * HTTP/2.0\r\n"] {
            let (mut client, served) = connection(Duration::ZERO);
            client.write_all(said).await.unwrap();
            let began = Instant::now();
            served.await;
            assert!(began.elapsed() <= 2 * FIRST_PATIENCE, "{said:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_kept_while_it_is_used() {
        let (mut client, served) = connection(Duration::from_secs(1));
        let use_it = async {
            let mut answer = [0; 4096];
            for _ in 0..10 {
                client.write_all(HEAD).await.unwrap();
                assert!(client.read(&mut answer).await.unwrap() > 0, "it is kept");
                sleep(IDLE_PATIENCE.mul_f32(0.9)).await;
            }
            let quiet = Instant::now();
            while client.read(&mut answer).await.unwrap() > 0 {}
            quiet.elapsed()
        };
        let ((), quiet) = tokio::join!(served, use_it);
        assert!(quiet <= 2 * IDLE_PATIENCE, "and ended when it no longer is");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_answer_is_waited_for() {
        let (mut client, served) = connection(IDLE_PATIENCE * 10);
        let ask = async {
            client.write_all(HEAD).await.unwrap();
            let mut answer = [0; 4096];
            let got = client.read(&mut answer).await.unwrap();
            drop(client);
            String::from_utf8_lossy(&answer[..got]).into_owned()
        };
        let ((), answer) = tokio::join!(served, ask);
        assert!(answer.ends_with("done"), "{answer}");
    }
}
