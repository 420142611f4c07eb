//! A peer that says what it is told to: whole HTTP/2, any bytes inside.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::trio::Failure;
use bytes::{Buf as _, Bytes, BytesMut};
use coppice_crdt::{ActorId, CrdtType, VersionVector};
use coppice_replication::{Hello, Message, PROTOCOL_VERSION};
use http::{Request, StatusCode};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Longer than an agent takes to say anything, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// One connection to an agent's peers' port.
#[derive(Debug)]
pub struct Rogue {
    runtime: Runtime,
    sender: SendRequest<Said>,
}

/// One group's stream on it.
#[derive(Debug)]
pub struct Link<'a> {
    runtime: &'a Runtime,
    say: mpsc::Sender<Bytes>,
    heard: Incoming,
    received: BytesMut,
}

/// What an agent said.
#[derive(Debug)]
pub enum Heard {
    /// A frame, decoded.
    Message(Message),
    /// Nothing more; why, in its word for it.
    End(Option<String>),
}

/// The body of a request: what is said, until nobody can say more.
struct Said(mpsc::Receiver<Bytes>);

impl Body for Said {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|said| said.map(|bytes| Ok(Frame::data(bytes))))
    }
}

// === impl Rogue ===

impl Rogue {
    /// Connects without TLS.
    ///
    /// # Errors
    ///
    /// If nobody accepts.
    pub fn connect(address: SocketAddr) -> Result<Self, Failure> {
        let runtime = runtime()?;
        let tcp = runtime.block_on(TcpStream::connect(address))?;
        Self::speak(runtime, tcp)
    }

    /// Connects with TLS, to an agent whose certificate is for `name`.
    ///
    /// # Errors
    ///
    /// If nobody accepts, or the handshake fails.
    pub fn connect_tls(
        address: SocketAddr,
        name: &str,
        config: Arc<ClientConfig>,
    ) -> Result<Self, Failure> {
        let runtime = runtime()?;
        let name = ServerName::try_from(name.to_owned())?;
        let stream = runtime.block_on(async {
            let tcp = TcpStream::connect(address).await?;
            TlsConnector::from(config).connect(name, tcp).await
        })?;
        Self::speak(runtime, stream)
    }

    fn speak(
        runtime: Runtime,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Self, Failure> {
        let shaken = runtime.block_on(async {
            let shaking = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
            timeout(PATIENCE, shaking).await
        });
        let (sender, connection) = shaken??;
        runtime.spawn(connection);
        Ok(Self { runtime, sender })
    }

    /// Opens the stream of `group`; an error if the agent has none.
    ///
    /// # Errors
    ///
    /// If the stream is refused.
    pub fn open(&mut self, group: &str) -> Result<Link<'_>, Failure> {
        let (say, said) = mpsc::channel(16);
        let uri = format!("http://coppice/v1/peer/groups/{group}");
        let request = Request::post(uri).body(Said(said))?;
        let asked = self.sender.send_request(request);
        let answer = self.runtime.block_on(async { timeout(PATIENCE, asked).await })??;
        if answer.status() != StatusCode::OK {
            return Err(format!("{group}: {}", answer.status()).into());
        }
        let (heard, received) = (answer.into_body(), BytesMut::new());
        Ok(Link { runtime: &self.runtime, say, heard, received })
    }
}

fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()
}

// === impl Link ===

impl Link<'_> {
    /// Says a frame, its length before it.
    ///
    /// # Errors
    ///
    /// If the link has ended.
    pub fn send(&self, frame: &[u8]) -> Result<(), Failure> {
        let length = u32::try_from(frame.len())?;
        self.send_raw(&[&length.to_be_bytes(), frame].concat());
        Ok(())
    }

    /// Says these bytes.
    pub fn send_raw(&self, bytes: &[u8]) {
        // A stream that the agent has ended takes no more; what it said tells.
        let _ = self.runtime.block_on(self.say.send(Bytes::copy_from_slice(bytes)));
    }

    /// Ends this side in order, wherever it is.
    pub fn end(&mut self) {
        self.say = mpsc::channel(1).0;
    }

    /// The agent's Hello, which is the first that it says.
    ///
    /// # Errors
    ///
    /// If something else is said, or nothing.
    pub fn hear_hello(&mut self) -> Result<Hello, Failure> {
        match self.hear()? {
            Heard::Message(Message::Hello(hello)) => Ok(hello),
            other => Err(format!("expected its Hello, heard {other:?}").into()),
        }
    }

    /// What the agent says next.
    ///
    /// # Errors
    ///
    /// If nothing is said for long.
    pub fn hear(&mut self) -> Result<Heard, Failure> {
        loop {
            if let Some(frame) = take_frame(&mut self.received) {
                return Ok(Heard::Message(Message::decode(&frame)?));
            }
            let heard = self.heard.frame();
            let heard = self.runtime.block_on(async { timeout(PATIENCE, heard).await })?;
            let Some(heard) = heard.transpose()? else { return Ok(Heard::End(None)) };
            match heard.into_data() {
                Ok(data) => self.received.extend_from_slice(&data),
                Err(other) => {
                    let trailers = other.into_trailers().unwrap_or_default();
                    let farewell = trailers.get("coppice-close").map(|value| value.to_str());
                    return Ok(Heard::End(farewell.transpose()?.map(str::to_owned)));
                }
            }
        }
    }

    /// Hears all there is until the agent ends the stream: why it does.
    ///
    /// # Errors
    ///
    /// If the link does not end.
    pub fn farewell(&mut self) -> Result<Option<String>, Failure> {
        loop {
            if let Heard::End(farewell) = self.hear()? {
                return Ok(farewell);
            }
        }
    }
}

fn take_frame(received: &mut BytesMut) -> Option<Bytes> {
    let length = usize::try_from(u32::from_be_bytes(*received.first_chunk()?)).ok()?;
    if received.len() < 4 + length {
        return None;
    }
    received.advance(4);
    Some(received.split_to(length).freeze())
}

/// The Hello of opening number `number` of the rogue's store, as a member of
/// the group that `theirs` speaks of. A later opening takes the place of the
/// one before it.
pub fn hello_to(theirs: &Hello, number: u64) -> Hello {
    Hello {
        protocol: PROTOCOL_VERSION,
        group_id: theirs.group_id,
        crdt_type: CrdtType::ORSet,
        store: *b"the rogue's disk",
        opening: opening(number),
        opening_number: number,
        name: "rogue".into(),
        vector: VersionVector::new(),
        durable: VersionVector::new(),
        clock_ms: theirs.clock_ms,
    }
}

/// As whom the rogue writes at opening number `number` of its store.
pub fn opening(number: u64) -> ActorId {
    let mut bytes = *b"rogue's opening.";
    bytes[15] = u8::try_from(number).unwrap_or(u8::MAX);
    ActorId::from_bytes(bytes)
}
