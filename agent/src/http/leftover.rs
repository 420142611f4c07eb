//! What of a request's body nobody read.
//!
//! An answer that refuses a request may be ready long before the request is sent
//! whole. To close the connection then would reset it, and with it the answer that
//! is on its way (RFC 9112, section 9.6). So the rest is read and thrown away, up
//! to a bound, before the answer goes out.

use std::mem;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::EXPECT;
use axum::http::{Request, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Shorter ones are here together with their head, or wait in the system's buffers.
const SHORT_BYTES: u64 = 16 << 10;

/// How much is thrown away: twice the longest body that is ever taken.
const MOST_BYTES: usize = 16 << 20;

/// For how long.
const PATIENCE: Duration = Duration::from_secs(2);

/// Receives the rest of a body once its reader drops it.
#[derive(Debug)]
pub(super) struct Leftover(oneshot::Receiver<Incoming>);

/// A body that hands itself back when it is dropped before its end.
#[derive(Debug)]
struct Returning {
    body: Option<Incoming>,
    to: Option<oneshot::Sender<Incoming>>,
}

impl Leftover {
    /// The request as it is answered; and what is left of its body, if that can matter.
    ///
    /// It does not over HTTP/2, where a stream is ended alone, nor while the client
    /// waits to be told to go on.
    pub(super) fn of(request: Request<Incoming>) -> (Request<Body>, Option<Self>) {
        let is_short = request.body().size_hint().upper().is_some_and(|most| most <= SHORT_BYTES);
        let is_sent =
            request.version() < Version::HTTP_2 && !request.headers().contains_key(EXPECT);
        if is_short || !is_sent {
            return (request.map(Body::new), None);
        }
        let (to, receiver) = oneshot::channel();
        let returning = |body| Body::new(Returning { body: Some(body), to: Some(to) });
        (request.map(returning), Some(Self(receiver)))
    }

    /// Throws away what is left, as far as the bounds go.
    pub(super) async fn discard(self) {
        let Ok(body) = self.0.await else { return };
        let mut body = pin!(body);
        let all = async {
            let mut bytes = 0;
            while let Some(Ok(frame)) = body.frame().await
                && bytes <= MOST_BYTES
            {
                bytes += frame.data_ref().map_or(0, Bytes::len);
            }
        };
        // Behind it the client may miss its answer.
        let _ = timeout(PATIENCE, all).await;
    }
}

impl HttpBody for Returning {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}

impl Drop for Returning {
    fn drop(&mut self) {
        if !self.is_end_stream()
            && let (Some(body), Some(to)) = (self.body.take(), mem::take(&mut self.to))
        {
            let _ = to.send(body); // The connection may be gone.
        }
    }
}
