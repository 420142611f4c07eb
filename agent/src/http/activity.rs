//! What happens on one connection: whether a request is open, and since when none is.
//!
//! The connection's task counts requests here and ends itself; the port looks at
//! it from outside to find the connection that is idle longest.
//!
//! Invariant: a request is begun in the connection's own task, so what that task
//! finds idle has no request that is lost with it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, interval, sleep};

/// A connection whose first request's head is not here after so long is ended.
/// (hyper's own time-out for heads runs while a connection is kept, too, and would
/// arm a timer for each request.)
pub(super) const FIRST_PATIENCE: Duration = Duration::from_secs(30);

/// One on which no request is open or came for so long, looked at that often, is
/// ended: one that sends its next request's head that slowly too.
pub(super) const IDLE_PATIENCE: Duration = Duration::from_mins(1);

/// The requests on one connection.
#[derive(Clone, Debug)]
pub(super) struct Activity(Arc<Requests>);

#[derive(Debug)]
struct Requests {
    opened: Instant,
    begun: AtomicU64,
    ended: AtomicU64,
    /// When the last request ended, in ms after `opened`.
    quiet_since_ms: AtomicU64,
    /// Whether the client does not take what is written.
    stuck: AtomicBool,
    /// Bytes that it took: a long answer may still be on its way.
    written: AtomicU64,
    asked: Notify,
}

/// A request whose answer is not written whole.
#[derive(Debug)]
pub(super) struct OpenRequest(Activity);

impl Activity {
    /// Of a connection that was just opened.
    pub(super) fn new() -> Self {
        Self(Arc::new(Requests {
            opened: Instant::now(),
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            quiet_since_ms: AtomicU64::new(0),
            stuck: AtomicBool::new(false),
            written: AtomicU64::new(0),
            asked: Notify::new(),
        }))
    }

    pub(super) fn begin(&self) -> OpenRequest {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        OpenRequest(self.clone())
    }

    /// For how long nothing has been open or left to write; `None` while something is.
    pub(super) fn idle_for(&self) -> Option<Duration> {
        let Requests { opened, begun, ended, quiet_since_ms, stuck, .. } = &*self.0;
        // What ended is read first: it never passes what begun.
        let is_quiet = ended.load(Ordering::Acquire) == begun.load(Ordering::Relaxed);
        let since = Duration::from_millis(quiet_since_ms.load(Ordering::Relaxed));
        (is_quiet && !stuck.load(Ordering::Relaxed)).then(|| opened.elapsed().saturating_sub(since))
    }

    /// Asks the connection to end itself if it is idle.
    pub(super) fn ask_to_leave(&self) {
        self.0.asked.notify_one();
    }

    /// Waits until the connection is asked to leave.
    pub(super) async fn asked_to_leave(&self) {
        self.0.asked.notified().await;
    }

    /// Waits until the first request does not come, or until between two looks no
    /// request was open or came, and nothing of an answer was taken.
    pub(super) async fn idle(&self) {
        sleep(FIRST_PATIENCE).await;
        let mut seen = self.0.begun.load(Ordering::Relaxed);
        if seen == 0 {
            return;
        }
        let mut taken = self.0.written.load(Ordering::Relaxed);
        let mut looks = interval(IDLE_PATIENCE);
        looks.tick().await;
        loop {
            looks.tick().await;
            let begun = self.0.begun.load(Ordering::Relaxed);
            let written = self.0.written.load(Ordering::Relaxed);
            let is_open = self.0.ended.load(Ordering::Relaxed) != begun;
            if !is_open && (begun, written) == (seen, taken) {
                return;
            }
            (seen, taken) = (begun, written);
        }
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        let Requests { opened, ended, quiet_since_ms, .. } = &*self.0.0;
        let now_ms = u64::try_from(opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        quiet_since_ms.store(now_ms, Ordering::Relaxed);
        ended.fetch_add(1, Ordering::Release);
    }
}

/// The body of an answer, which keeps its request open until it is handed on.
#[derive(Debug)]
pub(super) struct OpenBody {
    body: Body,
    _open: OpenRequest,
}

impl OpenBody {
    pub(super) const fn new(body: Body, open: OpenRequest) -> Self {
        Self { body, _open: open }
    }
}

impl HttpBody for OpenBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection's stream, which notes while the client takes nothing: of an answer
/// that was handed on whole, much may still have to be sent.
#[derive(Debug)]
pub(super) struct Watched<I> {
    stream: I,
    activity: Activity,
}

impl<I> Watched<I> {
    pub(super) const fn new(stream: I, activity: Activity) -> Self {
        Self { stream, activity }
    }
}

impl<I: Unpin> Watched<I> {
    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.activity.0.stuck.store(written.is_pending(), Ordering::Relaxed);
        if let Poll::Ready(Ok(bytes)) = &written {
            self.activity.0.written.fetch_add(*bytes as u64, Ordering::Relaxed);
        }
        written
    }

    fn stream(self: Pin<&mut Self>) -> Pin<&mut I> {
        Pin::new(&mut self.get_mut().stream)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(context, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.as_mut().stream().poll_write(context, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.as_mut().stream().poll_write_vectored(context, parts);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }
}
