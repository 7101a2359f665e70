//! The listener: HTTP/1.1 and HTTP/2 over hyper itself, because the limits below cannot be set through
//! `axum::serve`.
//!
//! A connection costs a permit before it is accepted and one of the seats of its source, its handshake has to be within the rate; it has a deadline for its
//! handshake, for its first bytes and for every request's head, and is given up when its peer does not read or asks for
//! nothing. Without TLS only a loopback address is served. When asked to stop, the listener closes at once and connections
//! finish what they answer, up to a deadline.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::limits::{Seat, Sources};
use super::traffic::{Answering, Counted, Traffic};
use super::{Certificates, Followed, Limits, Rate, Rates, Source, network};
use crate::error::{Context as _, Error, Kind, Result};

/// Streams at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 64;
/// Header fields of one request, bytes, HTTP/2; and number of them, HTTP/1.
const HEADER_BYTES_MAX: u32 = 16 * 1024;
const HEADERS_MAX: usize = 64;
/// What one connection buffers, bytes.
const BUFFER_BYTES_MAX: usize = 128 * 1024;
/// TLS handshakes, each about a millisecond of a core: those of one source, enough for a shelf of recorders that enrol or a room of
/// players behind one address, and those of all.
const SOURCE_HANDSHAKES: Rate = Rate { burst: 120.0, per_s: 10.0 };
const HANDSHAKES: Rate = Rate { burst: 800.0, per_s: 200.0 };
/// How long the answers under way may take when the server stops.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// Wait after an accept that failed for want of something, such as file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` until `shutdown`, then finishes what is under way. Without `tls` the listener must be on a
/// loopback address.
///
/// # Errors
/// [`Kind::Invalid`] for an address that would need TLS; [`Kind::Internal`] when the listener has no address.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Arc<rustls::ServerConfig>>,
    shutdown: CancellationToken,
) -> Result<()> {
    serve_within(Limits::default(), listener, router, tls, shutdown).await
}

/// The same within limits of one's own.
///
/// # Errors
/// As [`serve`].
pub async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    router: Router,
    tls: Option<Arc<rustls::ServerConfig>>,
    shutdown: CancellationToken,
) -> Result<()> {
    let address = listener.local_addr().context(Kind::Internal, "the HTTP listener has no address")?;
    if tls.is_none() && !address.ip().is_loopback() {
        return Err(Error::new(Kind::Invalid, format!("plain HTTP on {address}: only loopback goes without TLS")));
    }
    let acceptor = tls.map(TlsAcceptor::from);
    let permits = Arc::new(Semaphore::new(limits.connections_max));
    let sources = Sources::default();
    let handshakes = Rates::new(SOURCE_HANDSHAKES, Some(HANDSHAKES), Instant::now());
    let loopback = address.ip().is_loopback();
    let of_one_source = if loopback { usize::MAX } else { limits.source_connections_max };
    let limits = Arc::new(limits);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &permits) => accepted,
        };
        match accepted {
            Ok((stream, source, permit)) => {
                let Some(seat) = sources.enter(source, of_one_source) else {
                    tracing::debug!("a source has too many connections: one more is closed");
                    continue;
                };
                if acceptor.is_some() && !handshakes.admit((!loopback).then(|| network(source)), Instant::now()) {
                    tracing::debug!("too many handshakes: a connection is closed");
                    continue;
                }
                let peer = Peer { source, certificates: None, limits: Arc::clone(&limits), _seat: (permit, seat) };
                let (router, acceptor, shutdown) = (router.clone(), acceptor.clone(), shutdown.clone());
                connections.spawn(connection(stream, peer, router, acceptor, shutdown));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let finished = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_MAX, finished).await.is_err() {
        tracing::info!(connections = connections.len(), "answers under way are cut off");
        connections.shutdown().await;
    }
    Ok(())
}

/// Who is at the other end, and what it is granted.
struct Peer {
    source: IpAddr,
    certificates: Option<Certificates>,
    limits: Arc<Limits>,
    _seat: (OwnedSemaphorePermit, Seat),
}

/// The next connection with its permit. Cancel-safe: a permit that was taken is given back.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, IpAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, address) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, address.ip().to_canonical(), permit))
}

/// One connection from its handshake to its end. Nothing that goes wrong here concerns anybody else.
async fn connection(
    stream: TcpStream,
    mut peer: Peer,
    router: Router,
    acceptor: Option<TlsAcceptor>,
    shutdown: CancellationToken,
) {
    let Some(acceptor) = acceptor else { return speak(stream, peer, router, shutdown).await };
    match tokio::time::timeout(peer.limits.handshake_max, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            peer.certificates = stream.get_ref().1.peer_certificates().map(|chain| Certificates(chain.into()));
            speak(stream, peer, router, shutdown).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

async fn speak<S>(stream: S, peer: Peer, router: Router, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (source, certificates) = (peer.source, peer.certificates.clone());
    let traffic = Arc::new(Traffic::default());
    let of_answers = Arc::clone(&traffic);
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Source(source));
        if let Some(certificates) = certificates.clone() {
            request.extensions_mut().insert(certificates);
        }
        of_answers.asked();
        let (answer, traffic) = (router.clone().oneshot(request), Arc::clone(&of_answers));
        async move {
            let answer = answer.await?;
            let endless = answer.extensions().get::<Followed>().is_some();
            Ok::<_, Infallible>(answer.map(|body| Answering::new(body, traffic, endless)))
        }
    });
    let builder = builder(&peer.limits);
    let io = TokioIo::new(Counted::new(stream, Arc::clone(&traffic)));
    let mut connection = std::pin::pin!(builder.serve_connection(io, service));
    let mut stalls = std::pin::pin!(traffic.stalls(&peer.limits));
    let mut draining = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "an HTTP connection ended badly");
                }
                return;
            }
            reason = stalls.as_mut() => {
                tracing::debug!(reason, "an HTTP connection is given up");
                return;
            }
            () = shutdown.cancelled(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

fn builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_max)
        .max_headers(HEADERS_MAX)
        .max_buf_size(BUFFER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_send_buf_size(BUFFER_BYTES_MAX);
    builder
}
