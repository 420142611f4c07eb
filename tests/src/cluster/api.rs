//! Many requests at once: the API by `kubectl proxy`, for what would take one `kubectl`
//! each.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::{Failure, Kubectl};

/// How many requests are on their way at one time.
const LANES: usize = 8;

/// One request: method, path, content type and body.
pub type Call = (Method, String, &'static str, Value);

/// A proxy to the API server with the rights of the test; ended when dropped.
#[derive(Debug)]
pub struct ApiProxy {
    child: Child,
    address: SocketAddr,
    runtime: Runtime,
}

impl ApiProxy {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// If `kubectl` does not come to serve.
    pub fn start(kubectl: &Kubectl) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut command = kubectl.command(&["proxy", "--port=0"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut line = String::new();
        if let Some(said) = child.stdout.take() {
            BufReader::new(said).read_line(&mut line)?;
        }
        let mut words = line.split_whitespace();
        let address = words.find_map(|word| word.parse::<SocketAddr>().ok());
        let Some(address) = address else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Failure(format!("kubectl proxy: {line:?}")));
        };
        Ok(Self { child, address, runtime })
    }

    /// Makes all these calls, several at a time.
    ///
    /// # Errors
    ///
    /// The first that is not answered with success.
    pub fn all(&self, calls: Vec<Call>) -> Result<(), Failure> {
        let calls = Arc::new(Mutex::new(calls.into_iter()));
        let address = self.address;
        self.runtime.block_on(async move {
            let mut lanes = JoinSet::new();
            for _ in 0..LANES {
                lanes.spawn(lane(address, Arc::clone(&calls)));
            }
            while let Some(ended) = lanes.join_next().await {
                ended.map_err(|error| error.to_string())??;
            }
            Ok(())
        })
    }
}

impl Drop for ApiProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes calls on one connection until none is left.
async fn lane(
    address: SocketAddr,
    calls: Arc<Mutex<std::vec::IntoIter<Call>>>,
) -> Result<(), Failure> {
    let tcp = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await?;
    let mut driving = JoinSet::new();
    driving.spawn(connection);
    loop {
        let Some((method, path, content, body)) = calls.lock().await.next() else { return Ok(()) };
        let request = Request::builder()
            .method(method)
            .uri(&path)
            .header("host", address.to_string())
            .header("content-type", content)
            .body(Full::new(Bytes::from(body.to_string())))?;
        sender.ready().await?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let said = answer.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            return Err(Failure(format!("{path}: {status}: {}", String::from_utf8_lossy(&said))));
        }
    }
}
