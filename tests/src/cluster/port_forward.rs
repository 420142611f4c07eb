//! A port of a pod, on this machine's loopback.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};

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
            BufReader::new(said).read_line(&mut line)?;
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
