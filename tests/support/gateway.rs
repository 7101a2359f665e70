//! A server without its HTTP side, in this process: a store in memory, the writer, and ingest on a free port.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aigaq::enrol::{Authority, Registry, Trust};
use aigaq::fleet::Fleet;
use aigaq::ingest::{self, Settings};
use aigaq::store::Store;
use aigaq::{Clock, commit, log};
use aigaq_proto::Sequence;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Identity;

/// The server.
pub struct Gateway {
    pub dir: Arc<TempDir>,
    pub store: Store,
    pub fleet: Fleet,
    pub address: SocketAddr,
    metrics: prometheus::Registry,
    shutdown: CancellationToken,
    serving: JoinHandle<aigaq::Result<()>>,
    _writer: commit::WriterHandle,
}

impl Gateway {
    pub async fn start(settings: Settings) -> Self {
        Self::with_store(Store::memory(), settings)
    }

    /// The server over a store that is there.
    pub fn with_store(store: Store, settings: Settings) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        Self::over(dir, store, "127.0.0.1:0".parse().unwrap(), settings)
    }

    fn over(dir: Arc<TempDir>, store: Store, address: SocketAddr, settings: Settings) -> Self {
        let (metrics, clock) = (prometheus::Registry::new(), Clock::system());
        let authority = Authority::load_or_create(dir.path(), &clock).unwrap();
        let identity = log::Identity::load_or_create(dir.path()).unwrap();
        let log = log::Log::open(store.clone(), identity, None).unwrap();
        let reader = log.reader();
        let commit_metrics = commit::Metrics::register(&metrics).unwrap();
        let (queue, writer) =
            commit::start(store.clone(), log, commit::Settings::default(), clock.clone(), commit_metrics).unwrap();
        let fleet = Fleet::open(store.clone(), clock.clone()).unwrap();
        let gateway = ingest::Gateway {
            store: store.clone(),
            log: reader,
            fleet: fleet.clone(),
            queue,
            registry: Arc::new(Registry::open(store.clone(), dir.path(), clock.clone()).unwrap()),
            trust: Arc::new(Trust::own(&authority).unwrap()),
            clock,
            settings,
            metrics: ingest::Metrics::register(&metrics).unwrap(),
        };
        let identity = authority.server_identity(dir.path(), &[], &gateway.clock).unwrap();
        let certificate = aigaq::http::Certificate::new(identity.chain, identity.key).unwrap();
        let mut server = ingest::bind(address, certificate.clone(), &gateway, dir.path());
        // The old port of a server that comes back may be lent to a socket of another test for a while.
        for _ in 0..500 {
            if address.port() == 0 || server.is_ok() {
                break;
            }
            #[allow(clippy::disallowed_methods, reason = "nobody tells when a port is free")]
            std::thread::sleep(Duration::from_millis(20));
            server = ingest::bind(address, certificate.clone(), &gateway, dir.path());
        }
        let server = server.unwrap();
        let address = server.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(ingest::run(server, gateway, shutdown.clone()));
        Self { dir, store, fleet, address, metrics, shutdown, serving, _writer: writer }
    }

    /// Enrols a recorder; where its files are.
    pub fn enrol(&self, name: &str) -> Identity {
        Identity::enrol(self.dir.path(), &self.dir.path().join(name))
    }

    /// Drains and ends. The store and the keys stay for [`Ended::start`].
    pub async fn stop(self) -> Ended {
        self.shutdown.cancel();
        self.serving.await.unwrap().unwrap();
        Ended { dir: self.dir, store: self.store, address: self.address }
    }

    /// The sum of a metric over the samples that have this label, or over all.
    pub fn metric(&self, name: &str, label: Option<&str>) -> u64 {
        let families = self.metrics.gather();
        let samples = families.iter().filter(|family| family.name() == name).flat_map(|family| family.get_metric());
        let of_label = samples
            .filter(|sample| label.is_none_or(|label| sample.get_label().iter().any(|pair| pair.value() == label)));
        of_label.map(|sample| (sample.get_counter().get_value() + sample.get_gauge().get_value()) as u64).sum()
    }

    /// Sequences that are durable of a recorder, in order.
    pub fn durable(&self, recorder: aigaq_proto::RecorderId) -> Vec<Sequence> {
        let known = self.store.head(recorder).unwrap().unwrap_or_default().chain.known();
        known.into_iter().flat_map(|range| range.first..=range.last).collect()
    }

    /// Where the keys are.
    pub fn data(&self) -> &Path {
        self.dir.path()
    }
}

/// A server that was stopped.
pub struct Ended {
    dir: Arc<TempDir>,
    store: Store,
    address: SocketAddr,
}

impl Ended {
    /// The same server again, at the same address.
    pub fn start(self, settings: Settings) -> Gateway {
        Gateway::over(self.dir, self.store, self.address, settings)
    }
}
