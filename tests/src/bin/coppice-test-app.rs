//! An app beside a sidecar, for the tests of the cluster: it knows `COPPICE_URL` and
//! nothing else of Coppice.
//!
//! - `idle`: waits until it is told to end.
//! - `request METHOD PATH [JSON]`: sends one request and prints status and body. PATH may
//!   be a URL, of the agent's other ports.
//! - `elements GROUP KEY`: prints all elements of a set of strings, a line each.
//! - `hang PORT`: accepts connections and never answers.
//! - `write GROUP KEY MILLISECONDS [COUNT]`: adds elements of its own, one each so many
//!   milliseconds, and prints `acked ELEMENT` for each that was acknowledged, and how
//!   large the set is. Ends with 0 after COUNT, or when it is told to.

use std::env;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::process::ExitCode;
use std::time::Duration;

use coppice_tests::client::Client;
use coppice_tests::command::{complain, misused};
use coppice_tests::eventually::eventually;
use coppice_tests::interrupt::Interrupt;
use coppice_tests::progress::say;
use serde_json::json;

const NAME: &str = "coppice-test-app";
const USAGE: &str = "say one of: idle; request METHOD PATH [JSON]; elements GROUP KEY; \
                     write GROUP KEY MILLISECONDS [COUNT]; hang PORT";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["idle"] => idle(),
        ["request", method, path] => request(method, path, None),
        ["request", method, path, body] => request(method, path, Some(body)),
        ["elements", group, key] => elements(group, key),
        ["hang", port] => hang(port),
        ["write", group, key, pause] => write(group, key, pause, None),
        ["write", group, key, pause, count] => write(group, key, pause, count.parse().ok()),
        _ => return misused(NAME, USAGE),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain(NAME, &error);
            ExitCode::FAILURE
        }
    }
}

fn idle() -> Result<bool, String> {
    let interrupt = Interrupt::install().map_err(|error| error.to_string())?;
    while eventually(Duration::from_mins(1), || interrupt.is_raised().then_some(())).is_none() {}
    Ok(true)
}

/// The agent of this pod, by the URL that the app was given.
fn client() -> Result<Client, String> {
    let url = env::var("COPPICE_URL").map_err(|_| "COPPICE_URL is not set: is there a sidecar?")?;
    client_of(&url).map(|(client, _)| client)
}

/// Who answers at a URL, and the path of it.
fn client_of(url: &str) -> Result<(Client, String), String> {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address: SocketAddr = authority.parse().map_err(|error| format!("{url}: {error}"))?;
    Ok((Client::new(address), format!("/{path}")))
}

fn request(method: &str, path: &str, body: Option<&str>) -> Result<bool, String> {
    let content = body.map(|body| ("application/json", body.as_bytes()));
    let is_path = path.starts_with('/');
    let (mut client, path) = if is_path { (client()?, path.to_owned()) } else { client_of(path)? };
    let answer = client.send(method, &path, content).map_err(|error| error.to_string())?;
    say(&format!("{} {}", answer.status, answer.text()));
    Ok(true)
}

fn elements(group: &str, key: &str) -> Result<bool, String> {
    let mut client = client()?;
    let mut after = String::new();
    loop {
        let path = format!("/v1/groups/{group}/objects/{key}?limit=1000{after}");
        let answer = client.get(&path).map_err(|error| error.to_string())?;
        if !answer.is_success() {
            return Err(format!("{} {}", answer.status, answer.text()));
        }
        let page = answer.json();
        for element in page["value"].as_array().into_iter().flatten() {
            say(element.as_str().ok_or("an element that is no string")?);
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(true),
        }
    }
}

fn hang(port: &str) -> Result<bool, String> {
    let port: u16 = port.parse().map_err(|error| format!("{port}: {error}"))?;
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port));
    let listener = listener.or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)));
    let held: Vec<_> = listener.map_err(|error| error.to_string())?.incoming().collect();
    Ok(held.is_empty())
}

fn write(group: &str, key: &str, pause: &str, count: Option<u64>) -> Result<bool, String> {
    let pause = pause.parse().map(Duration::from_millis).map_err(|error| format!("{error}"))?;
    let interrupt = Interrupt::install().map_err(|error| error.to_string())?;
    // Of this process alone: a container that starts again has the same host name.
    let started = env::var("HOSTNAME").unwrap_or_default();
    let run = coppice_tests::cluster::fresh_suffix();
    let path = format!("/v1/groups/{group}/objects/{key}");
    let mut client = client()?;
    for number in 0.. {
        let is_over = interrupt.is_raised() || count.is_some_and(|count| number >= count);
        if is_over {
            break;
        }
        let element = format!("{started}/{run}/{number}");
        match client.send_json("POST", &path, &json!({"op": "add", "element": element})) {
            Ok(answer) if answer.is_success() => {
                say(&format!("acked {element}"));
                say(&format!("size {}", answer.json()["result"]["size"]));
            }
            Ok(answer) => say(&format!("refused {} {element}: {}", answer.status, answer.text())),
            Err(error) => say(&format!("unknown {element}: {error}")),
        }
        let _ = eventually(pause, || interrupt.is_raised().then_some(()));
    }
    Ok(true)
}
