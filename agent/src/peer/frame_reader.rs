//! Cuts a stream's body into frames: a length, checked, then that many bytes.
//!
//! Invariant: nothing is allocated for a frame before its length is checked,
//! and then only for what has arrived, so a peer that announces much and sends
//! little costs little. Frames above [`LARGE_FRAME_BYTES`] are collected two at
//! a time in the whole agent.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use prometheus::IntCounter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::outbound::PREFIX_BYTES;
use super::outbound_body::FAREWELL;
use super::{CloseReason, MAX_FRAME_BYTES};

/// Above this a frame takes one of the places for large frames.
const LARGE_FRAME_BYTES: usize = 1024 * 1024;

/// How many large frames are collected at one time; with the frames being
/// collected by other links, that bounds what half-received frames cost.
pub(super) const LARGE_FRAMES: usize = 2;

/// The first allocation for a frame; it grows as bytes arrive.
const FIRST_ALLOCATION_BYTES: usize = 64 * 1024;

/// A frame may take this long, and a second more for each [`SLOWEST_BYTES`].
const FRAME_TIME: Duration = Duration::from_secs(30);

/// The slowest rate, in bytes a second, at which a frame may arrive.
const SLOWEST_BYTES: usize = 256 * 1024;

/// Reads the frames of one stream, in order.
pub(super) struct FrameReader<B> {
    body: B,
    /// Arrived and not yet looked at.
    chunk: Bytes,
    prefix: [u8; PREFIX_BYTES],
    prefix_length: usize,
    partial: Option<Partial>,
    large: Arc<Semaphore>,
    received: IntCounter,
}

/// A frame whose length is known and whose bytes are not all here.
struct Partial {
    length: usize,
    buffer: BytesMut,
    large: Option<OwnedSemaphorePermit>,
    deadline: Instant,
}

/// What a stream brought.
#[derive(Debug)]
pub(super) enum Read {
    /// One whole frame; keep `large` until the frame is handed on.
    Frame { frame: Bytes, large: Option<OwnedSemaphorePermit> },
    /// The peer ended its side in order; `farewell` is the label of its reason.
    End { farewell: Option<String> },
}

/// Why no more frames can be read from a stream.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// The length is above the limit. Nothing was allocated.
    #[error("a frame of {0} bytes was announced")]
    Oversized(u32),
    /// A frame has at least a kind and a version.
    #[error("an empty frame was announced")]
    Empty,
    /// The stream ended in order, but within a frame.
    #[error("the stream ended inside a frame")]
    Truncated,
    /// A frame that began did not end in time.
    #[error("a frame was begun and not finished in time")]
    Stalled,
    /// The stream or its connection broke.
    #[error("read from the stream")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
}

// === impl FrameReader ===

impl<B> FrameReader<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    pub(super) fn new(body: B, large: Arc<Semaphore>, received: IntCounter) -> Self {
        Self {
            body,
            chunk: Bytes::new(),
            prefix: [0; PREFIX_BYTES],
            prefix_length: 0,
            partial: None,
            large,
            received,
        }
    }

    /// Reads up to the end of the next frame.
    ///
    /// Cancel-safe: what was read is kept for the next call.
    ///
    /// # Errors
    ///
    /// After any [`ReadError`] the place of the next frame is unknown: the link
    /// is closed. What is left of the body may be read with [`Self::discard`].
    pub(super) async fn next(&mut self) -> Result<Read, ReadError> {
        loop {
            if self.partial.is_none() {
                self.read_prefix()?;
            }
            self.take_large_place().await;
            if let Some(frame) = self.read_partial() {
                return Ok(frame);
            }
            if let Some(end) = self.read_chunk().await? {
                return Ok(end);
            }
        }
    }

    /// Reads and drops what is left, until the stream ends or breaks.
    pub(super) async fn discard(&mut self) {
        while let Some(Ok(_)) = self.body.frame().await {}
    }

    fn read_prefix(&mut self) -> Result<(), ReadError> {
        let taken = self.chunk.len().min(PREFIX_BYTES - self.prefix_length);
        let end = self.prefix_length + taken;
        self.chunk.copy_to_slice(&mut self.prefix[self.prefix_length..end]);
        self.prefix_length = end;
        if end < PREFIX_BYTES {
            return Ok(());
        }
        let announced = u32::from_be_bytes(self.prefix);
        let length = usize::try_from(announced).unwrap_or(usize::MAX);
        if length == 0 {
            return Err(ReadError::Empty);
        }
        if length > MAX_FRAME_BYTES {
            return Err(ReadError::Oversized(announced));
        }
        self.prefix_length = 0;
        self.partial = Some(Partial::new(length));
        Ok(())
    }

    async fn take_large_place(&mut self) {
        let Some(partial) = &mut self.partial else { return };
        if partial.length > LARGE_FRAME_BYTES && partial.large.is_none() {
            // The semaphore is never closed.
            partial.large = Arc::clone(&self.large).acquire_owned().await.ok();
            partial.deadline = Partial::deadline(partial.length);
        }
    }

    fn read_partial(&mut self) -> Option<Read> {
        let partial = self.partial.as_mut()?;
        let taken = self.chunk.len().min(partial.length - partial.buffer.len());
        partial.buffer.extend_from_slice(&self.chunk.split_to(taken));
        if partial.buffer.len() < partial.length {
            return None;
        }
        let Partial { buffer, large, .. } = self.partial.take()?;
        Some(Read::Frame { frame: buffer.freeze(), large })
    }

    /// Waits for the next piece of the body; `Some` when there is none.
    async fn read_chunk(&mut self) -> Result<Option<Read>, ReadError> {
        let next = match &self.partial {
            None => self.body.frame().await,
            Some(partial) => timeout_at(partial.deadline, self.body.frame())
                .await
                .map_err(|_elapsed| ReadError::Stalled)?,
        };
        let mut farewell = None;
        if let Some(piece) = next {
            match piece.map_err(|error| ReadError::Broken(error.into()))?.into_data() {
                Ok(data) => {
                    self.received.inc_by(data.len() as u64);
                    self.chunk = data;
                    return Ok(None);
                }
                Err(other) => {
                    let trailers = other.into_trailers().unwrap_or_default();
                    let value = trailers.get(FAREWELL).and_then(|value| value.to_str().ok());
                    farewell = value.map(str::to_owned);
                }
            }
        }
        let is_between_frames = self.partial.is_none() && self.prefix_length == 0;
        if is_between_frames { Ok(Some(Read::End { farewell })) } else { Err(ReadError::Truncated) }
    }
}

// === impl Partial ===

impl Partial {
    fn new(length: usize) -> Self {
        Self {
            length,
            buffer: BytesMut::with_capacity(length.min(FIRST_ALLOCATION_BYTES)),
            large: None,
            deadline: Self::deadline(length),
        }
    }

    fn deadline(length: usize) -> Instant {
        Instant::now() + FRAME_TIME + Duration::from_secs((length / SLOWEST_BYTES) as u64)
    }
}

// === impl ReadError ===

impl ReadError {
    /// The reason to close the link for; a broken connection may know better.
    pub(super) fn reason(&self) -> CloseReason {
        match self {
            Self::Oversized(_) => CloseReason::OversizedFrame,
            Self::Empty | Self::Truncated => CloseReason::MalformedFrame,
            Self::Stalled => CloseReason::Timeout,
            Self::Broken(_) => CloseReason::Io,
        }
    }
}

#[cfg(test)]
mod tests;
