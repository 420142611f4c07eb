//! A port of a pod, on this machine's loopback.

use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::thread;

use super::{Failure, Kubectl};

/// `kubectl port-forward`, ended when dropped.
#[derive(Debug)]
pub struct PortForward {
    child: Child,
    /// Where it listens here.
    pub address: SocketAddr,
}

impl PortForward {
    /// Forwards to a port of `target` (`pod/web-0`).
    ///
    /// # Errors
    ///
    /// If `kubectl` does not come to forward it.
    pub fn to(kubectl: &Kubectl, target: &str, port: u16) -> Result<Self, Failure> {
        let mut command = kubectl.command(&["port-forward", target, &format!(":{port}")]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut line = String::new();
        if let Some(said) = child.stdout.take() {
            let mut said = BufReader::new(said);
            said.read_line(&mut line)?;
            // It tells of each connection, and ends if nobody listens to that.
            thread::spawn(move || io::copy(&mut said, &mut io::sink()));
        }
        let mut words = line.split_whitespace();
        let address = words.find_map(|word| word.parse::<SocketAddr>().ok());
        let Some(address) = address else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Failure(format!("kubectl port-forward {target} {port}: {line:?}")));
        };
        Ok(Self { child, address })
    }
}

impl Drop for PortForward {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
