//! What signals do. One test in a process of its own: a signal reaches all who listen.

use std::pin::pin;
use std::time::Duration;

use coppice_process::on_signal;
use futures_util::poll;
use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[tokio::test(start_paused = true)]
async fn hang_ups_do_nothing_and_a_second_request_to_stop_ends_at_once() {
    let stop = CancellationToken::new();
    let mut listening = pin!(on_signal(stop.clone(), "nothing is read again"));
    assert!(poll!(&mut listening).is_pending(), "no signal came");
    let mut also_interrupted = signal(SignalKind::interrupt()).unwrap();
    let mut also_hung_up = signal(SignalKind::hangup()).unwrap();
    let send = |signal| kill_process(getpid(), signal).unwrap();

    send(Signal::HUP);
    also_hung_up.recv().await;
    assert!(poll!(&mut listening).is_pending(), "a hang-up ends nothing");
    assert!(!stop.is_cancelled(), "nor does it stop anything");

    send(Signal::TERM);
    tokio::select! {
        ended = &mut listening => panic!("it only began to stop: {ended:?}"),
        () = stop.cancelled() => {}
    }
    send(Signal::INT);
    also_interrupted.recv().await;
    assert!(poll!(&mut listening).is_pending(), "one request may come as two signals");

    tokio::time::advance(Duration::from_secs(1)).await;
    send(Signal::INT);
    listening.await.unwrap();
}
