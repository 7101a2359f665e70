//! A recorder's connection, byte by byte.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aigaq_proto::frame::{ALPN, Control, encode_link_prelude};
use aigaq_proto::message::{Hello, Receipt, Refusal, SpoolSummary, Welcome};
use aigaq_proto::{Error, Sequence, receipt};
use rustls::pki_types::CertificateDer;
use tokio::sync::oneshot;

use super::Identity;
use super::chain::Link;

/// What the server says to a link.
#[derive(Debug, Clone)]
pub enum Answer {
    Receipt(Box<Receipt>),
    Refusal(Refusal),
}

impl Answer {
    pub fn receipt(self) -> Receipt {
        match self {
            Self::Receipt(receipt) => *receipt,
            Self::Refusal(refusal) => panic!("refused: {refusal:?}"),
        }
    }
}

type Waiting = Arc<Mutex<HashMap<Sequence, oneshot::Sender<Answer>>>>;

/// A connection with its control stream.
pub struct Session {
    pub connection: quinn::Connection,
    pub welcome: Welcome,
    waiting: Waiting,
    log: receipt::LogKey,
    _control: quinn::SendStream,
}

/// The TLS side of a recorder.
pub fn client_config(identity: &Identity) -> quinn::ClientConfig {
    client_config_of(identity.certificate.clone(), identity.key.clone_key(), &identity.ca, &[ALPN])
}

/// The same with a certificate, key and protocol of one's own.
pub fn client_config_of(
    certificate: Vec<CertificateDer<'static>>,
    key: rustls::pki_types::PrivateKeyDer<'static>,
    ca: &CertificateDer<'static>,
    protocols: &[&[u8]],
) -> quinn::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.clone()).unwrap();
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(certificate, key)
        .unwrap();
    tls.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let mut config = quinn::ClientConfig::new(Arc::new(tls));
    let mut transport = quinn::TransportConfig::default();
    transport.keep_alive_interval(Some(Duration::from_secs(6)));
    transport.max_idle_timeout(Some(Duration::from_secs(20).try_into().unwrap()));
    config.transport_config(Arc::new(transport));
    config
}

/// A client endpoint on loopback.
pub fn endpoint() -> quinn::Endpoint {
    quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap()
}

impl Session {
    /// Connects and says hello.
    pub async fn open(endpoint: &quinn::Endpoint, server: SocketAddr, identity: &Identity) -> Result<Self, String> {
        Self::open_showing(endpoint, server, identity, None).await
    }

    /// The same with the last receipt that it was given.
    pub async fn open_showing(
        endpoint: &quinn::Endpoint,
        server: SocketAddr,
        identity: &Identity,
        last_receipt: Option<Receipt>,
    ) -> Result<Self, String> {
        let connection = endpoint
            .connect_with(client_config(identity), server, aigaq::enrol::SERVER_NAME)
            .map_err(|error| error.to_string())?
            .await
            .map_err(|error| error.to_string())?;
        Self::greet_showing(connection, identity.log.clone(), last_receipt).await
    }

    /// Says hello on a connection that is there.
    pub async fn greet(connection: quinn::Connection, log: receipt::LogKey) -> Result<Self, String> {
        Self::greet_showing(connection, log, None).await
    }

    async fn greet_showing(
        connection: quinn::Connection,
        log: receipt::LogKey,
        last_receipt: Option<Receipt>,
    ) -> Result<Self, String> {
        let (mut control, mut answers) = connection.open_bi().await.map_err(|error| error.to_string())?;
        let hello = Hello {
            software: "test".to_owned(),
            clock: aigaq::Clock::system().now(),
            spool: SpoolSummary::default(),
            last_receipt,
        };
        control.write_all(&Control::Hello(hello).encode().unwrap()).await.map_err(|error| error.to_string())?;
        let mut buffer = Vec::new();
        let welcome = match next_control(&mut answers, &mut buffer).await? {
            Some(Control::Welcome(welcome)) => welcome,
            other => return Err(format!("instead of a welcome: {other:?}")),
        };
        let waiting = Waiting::default();
        tokio::spawn(deliver(answers, buffer, Arc::clone(&waiting)));
        Ok(Self { connection, welcome, waiting, log, _control: control })
    }

    /// Sends a link and waits for what the server says. The receipt is verified.
    pub async fn send(&self, link: &Link) -> Result<Answer, String> {
        self.send_timed(link).await.map(|(answer, _)| answer)
    }

    /// The same with the moment at which the last byte was handed to the transport.
    pub async fn send_timed(&self, link: &Link) -> Result<(Answer, Instant), String> {
        let (reply, answer) = oneshot::channel();
        self.waiting.lock().unwrap().insert(link.header.sequence, reply);
        let mut stream = self.connection.open_uni().await.map_err(|error| error.to_string())?;
        let prelude = encode_link_prelude(&link.header_bytes, &link.signature).unwrap();
        let sent: Result<(), String> = async {
            stream.write_all(&prelude).await.map_err(|error| error.to_string())?;
            stream.write_chunk(link.payload.clone()).await.map_err(|error| error.to_string())?;
            stream.finish().map_err(|error| error.to_string())
        }
        .await;
        let sent_at = Instant::now();
        let answer = tokio::time::timeout(Duration::from_secs(30), answer)
            .await
            .map_err(|_| format!("no answer; sending said {sent:?}"))?
            .map_err(|_| "the connection ended before the answer".to_owned())?;
        if let Answer::Receipt(found) = &answer {
            self.verify(found, link).map_err(|error| format!("a receipt that does not verify: {error}"))?;
        }
        Ok((answer, sent_at))
    }

    fn verify(&self, found: &Receipt, link: &Link) -> Result<(), Error> {
        receipt::verify(found, &link.digest, &self.log)
    }
}

/// The next message of a control stream; `None` at its end.
pub async fn next_control(stream: &mut quinn::RecvStream, buffer: &mut Vec<u8>) -> Result<Option<Control>, String> {
    loop {
        if let Some((message, used)) = Control::decode(buffer).map_err(|error| error.to_string())? {
            buffer.drain(..used);
            return Ok(Some(message));
        }
        match stream.read_chunk(65_536, true).await.map_err(|error| error.to_string())? {
            Some(chunk) => buffer.extend_from_slice(&chunk.bytes),
            None => return Ok(None),
        }
    }
}

async fn deliver(mut stream: quinn::RecvStream, mut buffer: Vec<u8>, waiting: Waiting) {
    while let Ok(Some(message)) = next_control(&mut stream, &mut buffer).await {
        let (sequence, answer) = match message {
            Control::Receipt(receipt) => (receipt.sequence, Answer::Receipt(Box::new(receipt))),
            Control::Refusal(refusal) => match refusal.sequence {
                Some(sequence) => (sequence, Answer::Refusal(refusal)),
                None => continue,
            },
            _ => continue,
        };
        if let Some(reply) = waiting.lock().unwrap().remove(&sequence) {
            let _ = reply.send(answer);
        }
    }
    waiting.lock().unwrap().clear();
}
