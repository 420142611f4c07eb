//! What the ports answer while the store is opened.
//!
//! The agent runs in this process, over a store whose opening waits for the test.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use coppice_agent::args::Args;
use coppice_agent::cli;
use coppice_agent::config::{self, ConfigSource};
use coppice_agent::run::{self, Opened};
use coppice_tests::agents::Ports;
use coppice_tests::client::Client;
use coppice_tests::eventually::eventually;
use coppice_tests::trio::Failure;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{HITS, LIMIT};

/// Runs an agent over a store that is opened once something is sent, while `test`
/// asks it; then stops it.
fn while_opening(
    test: impl FnOnce(Ports, &SyncSender<()>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let ports = Ports::free()?;
    let words = [
        "coppice-agent".to_owned(),
        "--group=hits=PNCounter".to_owned(),
        format!("--data-dir={}", folder.path().join("data").display()),
        format!("--listen-app={}", ports.app),
        format!("--listen-peers={}", ports.peers),
        format!("--listen-operations={}", ports.operations),
    ];
    let args = Args::read(words).map_err(|error| error.to_string())?;
    let source = ConfigSource { source: args.source, overrides: args.overrides };
    let configuration = config::load(&source)?;
    let served = configuration.clone();
    let (open, opened) = sync_channel(0);
    let stop = CancellationToken::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = thread::scope(|scope| {
        let agent = scope.spawn(|| {
            let running = run::run(
                (source, configuration),
                move |configuration| {
                    // It fails once nobody is left to send.
                    let _ = opened.recv();
                    Ok(Opened { store: cli::open_rocksdb(configuration)?, snapshots: None })
                },
                stop.clone(),
            );
            runtime.block_on(running)
        });
        let tested = test(ports, &open);
        stop.cancel();
        // The store is opened all the same, and has to be closed.
        drop(open);
        let ended = agent.join().map_err(|_| "the agent panicked")?;
        tested.and(ended.map_err(Failure::from))
    });
    runtime.shutdown_background();
    cli::open_rocksdb(&served).map_err(|error| format!("it is still open: {error}"))?;
    ended
}

#[test]
fn the_ports_answer_while_the_store_is_opened() -> Result<(), Failure> {
    while_opening(|ports, open| {
        let (mut app, mut operations) = (Client::new(ports.app), Client::new(ports.operations));
        eventually(LIMIT, || {
            operations.get("/livez").is_ok_and(|live| live.is_success()).then_some(())
        })
        .ok_or("it does not say that it is alive")?;
        for probe in ["/startupz", "/readyz"] {
            let answer = operations.get(probe)?;
            assert_eq!((answer.status, &*answer.text()), (503, "the store is being opened"));
        }
        assert_eq!(operations.get("/status")?.json()["phase"], "opening");
        let metrics = operations.get("/metrics")?;
        assert!(metrics.is_success() && metrics.text().contains("coppice_build_info"));
        assert_eq!(operations.send("POST", "/snapshots", None)?.status, 503);

        for path in ["/v1/health", "/v1/groups", HITS] {
            let answer = app.get(path)?;
            assert_eq!(answer.status, 503, "{path}: {}", answer.text());
            assert_eq!(answer.json()["type"], "urn:coppice:problem:store-unavailable");
        }
        let increment = json!({"op": "increment"});
        assert_eq!(app.send_json("POST", HITS, &increment)?.status, 503);

        open.send(())?;
        eventually(LIMIT, || {
            app.get("/v1/health").is_ok_and(|health| health.is_success()).then_some(())
        })
        .ok_or("it does not serve")?;
        assert_eq!(app.send_json("POST", HITS, &increment)?.json()["result"], 1, "none was kept");
        assert!(operations.get("/metrics")?.text().contains("coppice_store_bytes"));
        Ok(())
    })
}

#[test]
fn an_agent_that_is_stopped_while_it_opens_ends_well() -> Result<(), Failure> {
    while_opening(|ports, _never| {
        let mut operations = Client::new(ports.operations);
        let answered = eventually(LIMIT, || operations.get("/livez").ok());
        answered.ok_or("it does not say that it is alive")?;
        Ok(())
    })
}
