//! Watches what moves on a connection, so that one that does not move is given up: a peer that sends nothing, one
//! that does not read its answer, one that is idle.
//!
//! Hyper bounds the time of a request's head; the sniffing of the protocol's version, the reading of answers and idle
//! HTTP/2 connections it does not bound. The watch looks at counters alone and costs nothing per request but two
//! additions.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A peer has this long for its first bytes.
const FIRST_BYTES_MAX: Duration = Duration::from_secs(5);
/// The shortest head of a request and the HTTP/2 preface both have at least so many bytes.
const FIRST_BYTES: u64 = 16;
/// How often a connection is looked at.
const TICK: Duration = Duration::from_secs(10);
/// A peer that takes less than this of its answer in a tick is slow, bytes.
const SLOW_BYTES: u64 = 4 * 1024;
/// Slow ticks in a row after which it is given up.
const SLOW_TICKS_MAX: u32 = 3;
/// Idle ticks in a row after which it is given up.
const IDLE_TICKS_MAX: u32 = 6;

/// What has moved on one connection.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    read: AtomicU64,
    written: AtomicU64,
    blocked: AtomicBool,
    answering: AtomicUsize,
}

impl Traffic {
    /// Resolves when the connection should be given up, with the reason.
    pub(super) async fn stalls(&self) -> &'static str {
        tokio::time::sleep(FIRST_BYTES_MAX).await;
        if self.read.load(Ordering::Relaxed) < FIRST_BYTES {
            return "it sent nothing";
        }
        let (mut slow, mut idle) = (0, 0);
        loop {
            let (read, written) = (self.read.load(Ordering::Relaxed), self.written.load(Ordering::Relaxed));
            let was_owing = self.owing();
            tokio::time::sleep(TICK).await;
            let taken = self.written.load(Ordering::Relaxed) - written;
            let sent = self.read.load(Ordering::Relaxed) - read;
            slow = if was_owing && self.owing() && taken < SLOW_BYTES { slow + 1 } else { 0 };
            idle = if taken + sent == 0 && !self.owing() { idle + 1 } else { 0 };
            if slow == SLOW_TICKS_MAX {
                return "it does not read its answer";
            }
            if idle == IDLE_TICKS_MAX {
                return "it is idle";
            }
        }
    }

    /// Whether the peer has an answer to read.
    fn owing(&self) -> bool {
        self.answering.load(Ordering::Relaxed) > 0 || self.blocked.load(Ordering::Relaxed)
    }
}

/// A stream whose bytes are counted.
pub(super) struct Counted<S> {
    stream: S,
    traffic: Arc<Traffic>,
}

impl<S> Counted<S> {
    /// Counts what moves on `stream`.
    pub(super) fn new(stream: S, traffic: Arc<Traffic>) -> Self {
        Self { stream, traffic }
    }

    fn note(&self, written: &Poll<io::Result<usize>>) {
        self.traffic.blocked.store(written.is_pending(), Ordering::Relaxed);
        if let Poll::Ready(Ok(count)) = written {
            self.traffic.written.fetch_add(*count as u64, Ordering::Relaxed);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.traffic.read.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.note(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// An answer's body, known to the watch as long as it has not gone out.
pub(super) struct Answering {
    body: Body,
    traffic: Arc<Traffic>,
}

impl Answering {
    /// The body of an answer on the connection with this traffic.
    pub(super) fn new(body: Body, traffic: Arc<Traffic>) -> Self {
        traffic.answering.fetch_add(1, Ordering::Relaxed);
        Self { body, traffic }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.traffic.answering.fetch_sub(1, Ordering::Relaxed);
    }
}

impl hyper::body::Body for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_sends_nothing_is_given_up() {
        assert_eq!(Traffic::default().stalls().await, "it sent nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_is_given_up() {
        let traffic = Arc::new(Traffic::default());
        traffic.read.store(100, Ordering::Relaxed);
        let _owed = Answering::new(Body::empty(), Arc::clone(&traffic));
        assert_eq!(traffic.stalls().await, "it does not read its answer");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_peer_is_given_up() {
        let traffic = Traffic { read: AtomicU64::new(100), ..Traffic::default() };
        assert_eq!(traffic.stalls().await, "it is idle");
    }
}
