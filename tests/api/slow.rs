//! Clients that take their time, over real sockets: each is given up, and others are served meanwhile. The listener's limits
//! are short here, so that nothing waits for long.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aigaq::http::{self, Limits};
use axum::body::Body;
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Longest that anything here may take; only a failure takes it.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pieces of the large answer, 64 KiB each: more than all buffers on the way hold.
const PIECES: usize = 1_000;

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

fn short() -> Limits {
    Limits {
        handshake_max: Duration::from_millis(300),
        first_bytes_max: Duration::from_millis(300),
        head_max: Duration::from_millis(300),
        look_every: Duration::from_millis(100),
        ..Limits::default()
    }
}

/// A listener with a small and a large answer.
struct Rig {
    address: SocketAddr,
    /// Cancelled when the large answer was given up, or read to its end.
    large_over: CancellationToken,
    _stop: DropGuard,
}

impl Rig {
    async fn start() -> Self {
        Self::on("127.0.0.1:0", short(), None).await
    }

    async fn on(address: &str, limits: Limits, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let (stop, large_over) = (CancellationToken::new(), CancellationToken::new());
        let over = large_over.clone();
        let large = get(async move || {
            let pieces = (0..PIECES, over.drop_guard());
            Body::from_stream(stream::unfold(pieces, async |(mut left, over)| {
                left.next()?;
                Some((Ok::<_, std::io::Error>(Bytes::from(vec![0; 64 * 1024])), (left, over)))
            }))
        });
        let router = axum::Router::new().route("/small", get(async || "small")).route("/large", large);
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(http::serve_within(limits, listener, router, tls, stop.clone()));
        Self { address, large_over, _stop: stop.drop_guard() }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Fails unless an ordinary client is served.
    async fn serves(&self) {
        assert!(answer(&mut self.connect().await).await.starts_with("HTTP/1.1 200"));
    }
}

/// The answer to a request for little, with the end of the connection.
async fn answer(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> String {
    let mut text = String::new();
    if stream.write_all(b"GET /small HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.is_ok() {
        // A connection that was closed at once may end in a reset.
        let _ = soon("an answer", stream.read_to_string(&mut text)).await;
    }
    text
}

/// Sends `piece` again and again until the server ends the connection; what it said.
async fn drip(stream: TcpStream, piece: &[u8]) -> Vec<u8> {
    let (mut read, mut write) = stream.into_split();
    let mut said = Vec::new();
    let listening = async {
        let _ = read.read_to_end(&mut said).await;
    };
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let sending = async {
        loop {
            ticks.tick().await;
            if write.write_all(piece).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    soon("the end of the connection", async {
        tokio::select! {
            () = listening => {}
            () = sending => {}
        }
    })
    .await;
    said
}

#[tokio::test]
async fn who_says_nothing_is_given_up() {
    let rig = Rig::start().await;
    assert_eq!(drip(rig.connect().await, b"").await, b"");
    rig.serves().await;
}

#[tokio::test]
async fn a_head_that_never_ends_is_given_up() {
    let rig = Rig::start().await;
    let mut stream = rig.connect().await;
    stream.write_all(b"GET /small HTTP/1.1\r\nhost: a\r\nx: ").await.unwrap();
    let said = drip(stream, b"y").await;
    assert!(!said.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&said));
    rig.serves().await;
}

#[tokio::test]
async fn pings_without_a_request_are_given_up() {
    let rig = Rig::start().await;
    let mut stream = rig.connect().await;
    // The preface, an empty SETTINGS frame and then PING frames (RFC 9113 sections 3.4, 6.5 and 6.7).
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let said = drip(stream, b"\0\0\x08\x06\0\0\0\0\x0012345678").await;
    assert!(said.windows(8).any(|bytes| bytes == b"12345678"), "pings are answered meanwhile");
    rig.serves().await;
}

#[tokio::test]
async fn who_does_not_read_the_answer_is_given_up() {
    let rig = Rig::start().await;
    let mut stream = rig.connect().await;
    stream.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    soon("the answer to be given up", rig.large_over.cancelled()).await;
    let mut got = Vec::new();
    // What was on the way may end in a reset.
    let _ = soon("the end of the connection", stream.read_to_end(&mut got)).await;
    assert!(got.len() < PIECES * 64 * 1024, "the answer was cut off");
    rig.serves().await;
}

#[tokio::test]
async fn who_does_not_finish_the_handshake_is_given_up() {
    let (server, _) = tls();
    let rig = Rig::on("127.0.0.1:0", short(), Some(server)).await;
    // The header of a TLS record (RFC 8446 section 5.1), and then a little of it now and then.
    let mut stream = rig.connect().await;
    stream.write_all(b"\x16\x03\x01\x0f\xff").await.unwrap();
    drip(stream, b"\x01").await;
}

#[tokio::test]
async fn no_source_has_all_the_connections() {
    let (server, connector) = tls();
    let limits = Limits { source_connections_max: 2, ..Limits::default() };
    let rig = Rig::on("0.0.0.0:0", limits, Some(server)).await;
    let mut one = open(&rig, &connector, "127.0.0.1").await.unwrap();
    let two = open(&rig, &connector, "127.0.0.1").await.unwrap();
    assert!(open(&rig, &connector, "127.0.0.1").await.is_err(), "the third is closed");
    let mut other = open(&rig, &connector, "127.0.0.2").await.unwrap();
    for stream in [&mut one, &mut other] {
        assert!(answer(stream).await.starts_with("HTTP/1.1 200"));
    }
    drop((one, two));
    soon("a seat to come back", async { while open(&rig, &connector, "127.0.0.1").await.is_err() {} }).await;
}

/// Both sides of TLS with a certificate for `localhost`.
fn tls() -> (Arc<rustls::ServerConfig>, tokio_rustls::TlsConnector) {
    let dir = tempfile::tempdir().unwrap();
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&certificate, pair.cert.pem()).unwrap();
    std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pair.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let files = http::Files::open(&certificate, &key).unwrap();
    (http::without_clients(files.current()).unwrap(), Arc::new(client).into())
}

/// A TLS connection from an address of this machine.
async fn open(rig: &Rig, connector: &tokio_rustls::TlsConnector, from: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0))?;
    let stream = socket.connect(SocketAddr::new("127.0.0.1".parse().unwrap(), rig.address.port())).await?;
    connector.connect(ServerName::try_from("localhost").unwrap(), stream).await
}
