//! The sockets of a load: a few QUIC endpoints shared by all recorders, which may lose datagrams on purpose.
//!
//! Loss is drawn from a seed, for each datagram that leaves and for each buffer that arrives, so that a run can be made
//! again as far as the timing of the machine allows. Without loss nothing stands between quinn and the system's socket.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as TaskContext, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Endpoint, EndpointConfig, Runtime, TokioRuntime, UdpPoller};

use crate::error::{Context, Kind, Result};

/// Endpoints at most: many recorders on one socket would share its buffer.
const ENDPOINTS_MAX: u32 = 64;
/// Recorders that share an endpoint before there is another.
const RECORDERS_EACH: u32 = 64;
/// What a socket may hold, as far as the system allows: a burst for all of its recorders.
const SOCKET_BYTES: usize = 4 << 20;

/// Endpoints for `recorders`, that lose the given part of all datagrams. Must be called within a tokio runtime.
///
/// # Errors
/// [`Kind::Busy`] when no socket is to be had.
pub(super) fn endpoints(recorders: u32, loss: f64, seed: u64) -> Result<Vec<Endpoint>> {
    let count = recorders.div_ceil(RECORDERS_EACH).clamp(1, ENDPOINTS_MAX);
    (0..count)
        .map(|index| endpoint(loss, seed.wrapping_add(u64::from(index))).context(Kind::Busy, "no socket"))
        .collect()
}

fn endpoint(loss: f64, seed: u64) -> io::Result<Endpoint> {
    let socket = UdpSocket::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))?;
    let options = socket2::SockRef::from(&socket);
    options.set_recv_buffer_size(SOCKET_BYTES)?;
    options.set_send_buffer_size(SOCKET_BYTES)?;
    let runtime = Arc::new(TokioRuntime);
    let inner = runtime.wrap_udp_socket(socket)?;
    let socket: Arc<dyn AsyncUdpSocket> = if loss > 0.0 {
        // As a part of all 64-bit draws; the cast saturates.
        let threshold = (loss * u64::MAX as f64) as u64;
        Arc::new(Lossy { inner, threshold, draws: AtomicU64::new(seed) })
    } else {
        inner
    };
    Endpoint::new_with_abstract_socket(EndpointConfig::default(), None, socket, runtime)
}

/// A socket that loses datagrams.
#[derive(Debug)]
struct Lossy {
    inner: Arc<dyn AsyncUdpSocket>,
    /// A draw below it loses the datagram.
    threshold: u64,
    draws: AtomicU64,
}

impl Lossy {
    /// Whether the next datagram is lost: SplitMix64 over a counter, so that concurrent draws need no lock.
    fn loses(&self) -> bool {
        let mut z = self.draws.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) < self.threshold
    }
}

impl AsyncUdpSocket for Lossy {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.loses() { Ok(()) } else { self.inner.try_send(transmit) }
    }

    fn poll_recv(
        &self,
        cx: &mut TaskContext<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let Poll::Ready(received) = self.inner.poll_recv(cx, buffers, meta) else { return Poll::Pending };
        let count = received?;
        for arrived in meta.iter_mut().take(count) {
            if self.loses() {
                // A buffer of no length holds no datagram.
                arrived.len = 0;
                arrived.stride = 0;
            }
        }
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn as_many_datagrams_are_lost_as_was_asked_for() {
        let inner = TokioRuntime.wrap_udp_socket(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        let lossy = |loss: f64| Lossy {
            inner: inner.clone(),
            threshold: (loss * u64::MAX as f64) as u64,
            draws: AtomicU64::new(7),
        };
        for loss in [0.0, 0.05, 0.3] {
            let socket = lossy(loss);
            let lost = (0..100_000).filter(|_| socket.loses()).count();
            assert!((lost as f64 / 100_000.0 - loss).abs() < 0.01, "{loss}: {lost}");
        }
    }

    #[test]
    fn many_recorders_share_few_sockets() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _within = runtime.enter();
        assert_eq!(endpoints(1, 0.0, 1).unwrap().len(), 1);
        assert_eq!(endpoints(65, 0.1, 1).unwrap().len(), 2);
        assert_eq!(endpoints(100_000, 0.0, 1).unwrap().len(), 64);
    }
}
