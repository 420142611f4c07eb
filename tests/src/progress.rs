//! What a program that runs for more than two seconds tells who waits.

use std::io::Write as _;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

/// Between two lines of something that takes its time.
const PERIOD: Duration = Duration::from_secs(2);

/// Prints one line, at once. A reader that is gone is no reason to fail.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Runs `work`; every two seconds prints how long it has been, and `state`.
pub fn during<T>(state: impl Fn() -> String + Sync, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    // Dropping the sender, also when `work` panics, ends the thread.
    let (done, is_done) = sync_channel::<()>(0);
    thread::scope(|scope| {
        let state = &state;
        scope.spawn(move || {
            while is_done.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                say(&format!("    {} s: {}", started.elapsed().as_secs(), state()));
            }
        });
        let done = done;
        let answer = work();
        drop(done);
        answer
    })
}
