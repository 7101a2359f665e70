//! Watches what moves on a connection, so that one that does not move is given up: a peer that sends nothing, one
//! that does not read its answer, one that asks for nothing.
//!
//! Hyper bounds the time of a request's head; the sniffing of the protocol's version, the reading of answers and HTTP/2
//! connections without a request it does not bound. What a peer can have echoed, such as a ping, moves nothing: only requests
//! end idleness, and an answer moves by what is written beyond what was read. The watch looks at counters alone and costs
//! nothing per request but three additions.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Limits;

/// The shortest head of a request and the HTTP/2 preface both have at least so many bytes.
const FIRST_BYTES: u64 = 16;
/// A peer that takes less than this of its answer from one look to the next is slow, bytes.
const SLOW_BYTES: u64 = 4 * 1024;
/// Slow looks in a row after which it is given up.
const SLOW_LOOKS_MAX: u32 = 3;
/// Idle looks in a row after which it is given up.
const IDLE_LOOKS_MAX: u32 = 6;

/// What has moved on one connection.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    read: AtomicU64,
    written: AtomicU64,
    asked: AtomicU64,
    blocked: AtomicBool,
    answering: AtomicUsize,
    following: AtomicUsize,
}

impl Traffic {
    /// A request came.
    pub(super) fn asked(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// Resolves when the connection should be given up, with the reason.
    pub(super) async fn stalls(&self, limits: &Limits) -> &'static str {
        tokio::time::sleep(limits.first_bytes_max).await;
        if self.read.load(Ordering::Relaxed) < FIRST_BYTES {
            return "it sent nothing";
        }
        let (mut slow, mut idle) = (0, 0);
        let mut before = self.moved();
        loop {
            let was_owing = self.owing();
            tokio::time::sleep(limits.look_every).await;
            let now = self.moved();
            let taken = (now.written - before.written).saturating_sub(now.read - before.read);
            slow = if was_owing && self.owing() && taken < SLOW_BYTES { slow + 1 } else { 0 };
            let follows = self.following.load(Ordering::Relaxed) > 0;
            idle = if now.asked == before.asked && !self.owing() && !follows { idle + 1 } else { 0 };
            before = now;
            if slow == SLOW_LOOKS_MAX {
                return "it does not read its answer";
            }
            if idle == IDLE_LOOKS_MAX {
                return "it asks for nothing";
            }
        }
    }

    fn moved(&self) -> Moved {
        let now = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Moved { read: now(&self.read), written: now(&self.written), asked: now(&self.asked) }
    }

    /// Whether the peer has an answer to read.
    fn owing(&self) -> bool {
        self.answering.load(Ordering::Relaxed) > 0 || self.blocked.load(Ordering::Relaxed)
    }
}

/// The counters at one moment.
#[derive(Clone, Copy)]
struct Moved {
    read: u64,
    written: u64,
    asked: u64,
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

/// An answer's body, known to the watch as long as it has not gone out. One without an end is owed nothing between its parts.
pub(super) struct Answering {
    body: Body,
    traffic: Arc<Traffic>,
    endless: bool,
}

impl Answering {
    /// The body of an answer on the connection with this traffic.
    pub(super) fn new(body: Body, traffic: Arc<Traffic>, endless: bool) -> Self {
        let answering = Self { body, traffic, endless };
        answering.count().fetch_add(1, Ordering::Relaxed);
        answering
    }

    fn count(&self) -> &AtomicUsize {
        if self.endless { &self.traffic.following } else { &self.traffic.answering }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.count().fetch_sub(1, Ordering::Relaxed);
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
        assert_eq!(Traffic::default().stalls(&Limits::default()).await, "it sent nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_is_given_up() {
        let traffic = Arc::new(Traffic::default());
        traffic.read.store(100, Ordering::Relaxed);
        let _owed = Answering::new(Body::empty(), Arc::clone(&traffic), false);
        assert_eq!(traffic.stalls(&Limits::default()).await, "it does not read its answer");
    }

    /// Adds to the counters of `traffic` each second.
    async fn keeps(traffic: &Traffic, read: u64, written: u64, asked: u64) {
        loop {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            traffic.read.fetch_add(read, Ordering::Relaxed);
            traffic.written.fetch_add(written, Ordering::Relaxed);
            traffic.asked.fetch_add(asked, Ordering::Relaxed);
        }
    }

    /// The reason for which a peer is given up within an hour.
    async fn reason(traffic: &Traffic, read: u64, written: u64, asked: u64) -> Option<&'static str> {
        let limits = Limits::default();
        tokio::select! {
            reason = traffic.stalls(&limits) => Some(reason),
            () = keeps(traffic, read, written, asked) => None,
            () = tokio::time::sleep(std::time::Duration::from_secs(3_600)) => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pings_are_no_requests() {
        assert_eq!(reason(&Traffic::default(), 17_000, 17_000, 0).await, Some("it asks for nothing"));
        assert_eq!(reason(&Traffic::default(), 100, 1_000, 1).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_follows_may_wait_for_the_next_part_but_must_read_it() {
        let traffic = Arc::new(Traffic::default());
        let _followed = Answering::new(Body::empty(), Arc::clone(&traffic), true);
        assert_eq!(reason(&traffic, 100, 100, 0).await, None);
        traffic.blocked.store(true, Ordering::Relaxed);
        assert_eq!(reason(&traffic, 100, 100, 0).await, Some("it does not read its answer"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_answers_to_pings_are_no_reading() {
        let traffic = Arc::new(Traffic::default());
        let _owed = Answering::new(Body::empty(), Arc::clone(&traffic), false);
        assert_eq!(reason(&traffic, 17_000, 17_100, 0).await, Some("it does not read its answer"));
        assert_eq!(reason(&traffic, 100, 1_000, 0).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_peer_is_given_up() {
        let traffic = Traffic { read: AtomicU64::new(100), ..Traffic::default() };
        assert_eq!(traffic.stalls(&Limits::default()).await, "it asks for nothing");
    }
}
