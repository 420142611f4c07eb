//! The sending half of a link as HTTP sees it: a body made of what is queued,
//! ended by a trailer that says why.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame};
use prometheus::IntCounter;

use super::outbound::{Chunk, Queue};

/// The trailer with the label of the reason for which a side ends.
pub(super) const FAREWELL: HeaderName = HeaderName::from_static("coppice-close");

/// How many bytes HTTP gets at a time: with its own small buffer, all that a
/// slow peer makes it hold.
const CHUNK_BYTES: usize = 64 * 1024;

/// A request's or response's body.
#[derive(Debug)]
pub(super) enum OutboundBody {
    /// Of a response that refuses.
    Empty,
    /// Of an answer that is all there.
    Whole(Bytes),
    /// Of a link.
    Link(LinkBody),
}

/// Sends one link's queue; dropped, it takes the queue out of use.
pub(super) struct LinkBody {
    queue: Arc<Queue>,
    sent: IntCounter,
}

/// The stream is reset: what was queued is not sent.
#[derive(Debug, thiserror::Error)]
#[error("the link was closed before all was sent")]
pub(super) struct Aborted;

// === impl LinkBody ===

impl LinkBody {
    pub(super) fn new(queue: Arc<Queue>, sent: IntCounter) -> Self {
        Self { queue, sent }
    }
}

impl std::fmt::Debug for LinkBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkBody").finish_non_exhaustive()
    }
}

impl Drop for LinkBody {
    fn drop(&mut self) {
        self.queue.end();
    }
}

// === impl OutboundBody ===

impl OutboundBody {
    /// A body of these bytes.
    pub(super) fn whole(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Empty } else { Self::Whole(bytes) }
    }
}

impl Body for OutboundBody {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        let this = self.get_mut();
        let link = match this {
            Self::Link(link) => link,
            Self::Empty => return Poll::Ready(None),
            Self::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                *this = Self::Empty;
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
        };
        match link.queue.next_chunk(CHUNK_BYTES, cx.waker()) {
            Chunk::Data(data) => {
                link.sent.inc_by(data.len() as u64);
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Chunk::Farewell(reason) => {
                let label = HeaderValue::from_static(reason.label());
                let trailers = HeaderMap::from_iter([(FAREWELL, label)]);
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Chunk::End => Poll::Ready(None),
            Chunk::Abort => Poll::Ready(Some(Err(Aborted))),
            Chunk::Wait => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Empty)
    }
}
