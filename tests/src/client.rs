//! A small blocking HTTP/1.1 client over one kept connection.
//!
//! It exists because a ledger needs to know what most clients hide: whether a
//! request that failed can have reached the agent. It never repeats a request.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longer than an agent takes for anything that it answers at all.
const TIMEOUT: Duration = Duration::from_secs(15);

/// One client with one connection, opened when first needed.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    host: String,
    connection: Option<BufReader<TcpStream>>,
}

/// What an agent answered.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The header `ETag`.
    pub etag: Option<String>,
    /// The header `Content-Type`.
    pub content_type: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens, or the agent is still opening its store: the request was
    /// not sent, or changed nothing.
    #[error("cannot connect: {0}")]
    NotSent(#[source] io::Error),
    /// It was sent, in part or whole, and may have been carried out.
    #[error("no answer: {0}")]
    NoAnswer(#[source] io::Error),
}

/// What is sent in a body: its content type and its bytes.
pub type Content<'a> = (&'a str, &'a [u8]);

// === impl Client ===

impl Client {
    /// A client of the agent at `address`.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address, host: "127.0.0.1".to_owned(), connection: None }
    }

    /// The same, which asks for another `Host`.
    #[must_use]
    pub fn naming(self, host: &str) -> Self {
        Self { host: host.to_owned(), ..self }
    }

    /// Sends one request and waits for its answer.
    ///
    /// # Errors
    ///
    /// [`ClientError`]: whether the request can have been carried out.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        content: Option<Content<'_>>,
    ) -> Result<Response, ClientError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().map_err(ClientError::NotSent)?,
        };
        let answer = exchange(&mut connection, &self.head(method, path, content), content);
        let (response, keep) = answer.map_err(ClientError::NoAnswer)?;
        if keep {
            self.connection = Some(connection);
        }
        Ok(response)
    }

    /// As [`send`](Self::send), with a JSON body.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_json(
        &mut self,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Result<Response, ClientError> {
        self.send(method, path, Some(("application/json", body.to_string().as_bytes())))
    }

    /// Reads `path`.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn get(&mut self, path: &str) -> Result<Response, ClientError> {
        self.send("GET", path, None)
    }

    fn head(&self, method: &str, path: &str, content: Option<Content<'_>>) -> String {
        let content = match content {
            Some((kind, body)) => {
                format!("content-type: {kind}\r\ncontent-length: {}\r\n", body.len())
            }
            None => String::new(),
        };
        format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n{content}\r\n", self.host)
    }

    fn connect(&self) -> io::Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect_timeout(&self.address, TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(BufReader::new(stream))
    }

    /// Whether the agent serves its app now.
    pub fn finds_it_serving(&mut self) -> bool {
        self.get("/v1/health").is_ok_and(|answer| answer.is_success())
    }
}

// === impl Response ===

impl Response {
    /// The answer, unless it is that the agent still opens its store.
    ///
    /// # Errors
    ///
    /// [`ClientError::NotSent`] in that case: nothing was done.
    pub fn once_open(self) -> Result<Self, ClientError> {
        let is_opening =
            self.status == 503 && self.json()["type"] == "urn:coppice:problem:store-unavailable";
        if is_opening {
            return Err(ClientError::NotSent(io::Error::other("the store is being opened")));
        }
        Ok(self)
    }

    /// Whether the agent did what was asked.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as JSON; null if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The body as text, for messages.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One request and its answer, and whether the connection can be used again.
fn exchange(
    connection: &mut BufReader<TcpStream>,
    head: &str,
    content: Option<Content<'_>>,
) -> io::Result<(Response, bool)> {
    let mut request = head.as_bytes().to_vec();
    request.extend(content.map(|(_, body)| body).unwrap_or_default());
    connection.get_mut().write_all(&request)?;

    let status = line(connection)?;
    let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
    let mut response = Response {
        status: status.ok_or(io::ErrorKind::InvalidData)?,
        etag: None,
        content_type: None,
        body: Vec::new(),
    };
    let (mut length, mut keep) = (0, true);
    loop {
        let line = line(connection)?;
        let Some((name, value)) = line.split_once(':') else { break };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().map_err(|_| io::ErrorKind::InvalidData)?,
            "etag" => response.etag = Some(value.to_owned()),
            "content-type" => response.content_type = Some(value.to_owned()),
            "connection" if value.eq_ignore_ascii_case("close") => keep = false,
            // Agents know how long their answers are.
            "transfer-encoding" => return Err(io::ErrorKind::Unsupported.into()),
            _ => {}
        }
    }
    response.body.resize(length, 0);
    connection.read_exact(&mut response.body)?;
    Ok((response, keep))
}

fn line(connection: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    if connection.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}
