//! `make run`: three agents left running, and what to try with them.

use std::net::TcpListener;
use std::time::Duration;

use super::Failure;
use crate::agents::{Agent, AgentSpec, Ports, groups};
use crate::eventually::eventually;
use crate::interrupt::Interrupt;
use crate::progress::{during, say};

/// A group per type, named as someone may use it.
const GROUPS: [(&str, &str); 7] = [
    ("page-views", "PNCounter"),
    ("sign-ups", "GCounter"),
    ("visitors", "GSet"),
    ("tags", "ORSet"),
    ("features", "EWFlag"),
    ("sessions", "LWWRegister"),
    ("carts", "ORMap"),
];

/// Between the ports of two agents.
const STRIDE: u16 = 1000;

const TO_TRY: &str = "
Three agents are running. Write to one, read from another:

  curl -w '\\n' -X POST http://127.0.0.1:4437/v1/groups/page-views/objects/home -H 'Content-Type: application/json' -d '{\"op\":\"increment\",\"by\":5}'
  curl -w '\\n' http://127.0.0.1:5437/v1/groups/page-views/objects/home

  curl -w '\\n' -X POST http://127.0.0.1:4437/v1/groups/tags/objects/post-1 -H 'Content-Type: application/json' -d '{\"op\":\"add\",\"elements\":[\"news\",\"rust\"]}'
  curl -w '\\n' -X POST http://127.0.0.1:5437/v1/groups/tags/objects/post-1 -H 'Content-Type: application/json' -d '{\"op\":\"remove\",\"element\":\"news\"}'
  curl -w '\\n' http://127.0.0.1:6437/v1/groups/tags/objects/post-1

  curl -w '\\n' -X PUT 'http://127.0.0.1:6437/v1/groups/sessions/objects/ann?ttl=30s' -H 'Content-Type: text/plain' -d 'hello'
  curl -w '\\n' http://127.0.0.1:4437/v1/groups/sessions/objects/ann

  curl -w '\\n' http://127.0.0.1:4437/v1/groups      # the groups, one per type
  curl http://127.0.0.1:4439/metrics        # what an agent counts
";

/// Leaves three agents running on the default ports, and those 1,000 and 2,000
/// above, until `interrupt`; their data goes with them.
///
/// # Errors
///
/// If an agent does not start, or ends by itself.
pub fn stay(interrupt: &Interrupt) -> Result<(), Failure> {
    let folder = tempfile::Builder::new().prefix("coppice-run-").tempdir()?;
    let ports = [0, STRIDE, 2 * STRIDE].map(Ports::default_plus);
    for address in ports.iter().flat_map(|own| [own.app, own.peers, own.operations]) {
        // Else who holds it would answer in an agent's place.
        TcpListener::bind(address).map_err(|error| {
            format!("{address}: {error}: stop what listens there, maybe another `make run`")
        })?;
    }
    let mut agents = Vec::new();
    for (name, own) in ["a", "b", "c"].into_iter().zip(ports) {
        let mut spec = AgentSpec::new(name, folder.path(), groups(GROUPS))?;
        spec.ports = own;
        let others = ports.iter().map(|ports| ports.peers).filter(|peer| *peer != own.peers);
        spec.peers.extend(others);
        agents.push(spec.spawn()?);
    }
    during(
        || "starting three agents".into(),
        || agents.iter_mut().try_for_each(Agent::wait_until_ready),
    )?;
    say(TO_TRY);
    say(&format!("Data and logs: {}. Ctrl-C ends all, and removes that.", folder.path().display()));
    loop {
        let mut ended =
            || agents.iter_mut().find_map(|agent| agent.ended().then(|| agent.log_tail()));
        let over = eventually(Duration::from_mins(1), || {
            interrupt.is_raised().then_some(None).or_else(|| ended().map(Some))
        });
        match over {
            None => {}
            Some(None) => return Ok(()),
            Some(Some(log)) => return Err(format!("an agent ended:\n{log}").into()),
        }
    }
}
