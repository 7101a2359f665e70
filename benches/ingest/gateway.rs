//! The server's way in, with a store of the bench's choice: the same parts for the store under test and for the baseline.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use aigaq::Clock;
use aigaq::commit::{self, WriterHandle};
use aigaq::enrol::{Authority, Registry, Trust};
use aigaq::fleet::Fleet;
use aigaq::ingest::{self, Gateway};
use aigaq::log::{Identity, Log};
use aigaq::store::Store;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A gateway that is running.
pub struct Running {
    pub address: SocketAddr,
    pub store: Store,
    stop: CancellationToken,
    writer: WriterHandle,
    task: JoinHandle<aigaq::Result<()>>,
}

/// Starts a gateway over `store`, its identity and its enrolments in `data`.
pub fn start(store: Store, data: &Path) -> Running {
    let clock = Clock::system();
    let metrics = prometheus::Registry::new();
    let authority = Authority::load_or_create(data, &clock).unwrap();
    let identity = Identity::load_or_create(data).unwrap();
    let log = Log::open(store.clone(), identity, Some(data)).unwrap();
    let reader = log.reader();
    let registry = Arc::new(Registry::open(store.clone(), data, clock.clone()).unwrap());
    let commit_metrics = commit::Metrics::register(&metrics).unwrap();
    let (queue, writer) =
        commit::start(store.clone(), log, commit::Settings::default(), clock.clone(), commit_metrics).unwrap();
    let gateway = Gateway {
        store: store.clone(),
        queue,
        log: reader,
        fleet: Fleet::open(store.clone(), clock.clone()).unwrap(),
        registry,
        trust: Arc::new(Trust::own(&authority).unwrap()),
        clock,
        settings: ingest::Settings::default(),
        metrics: ingest::Metrics::register(&metrics).unwrap(),
    };
    let identity = authority.server_identity(data, &[], &gateway.clock).unwrap();
    let certificate = aigaq::http::Certificate::new(identity.chain, identity.key).unwrap();
    let endpoint = ingest::bind("127.0.0.1:0".parse().unwrap(), certificate, &gateway, data).unwrap();
    let address = endpoint.local_addr().unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(ingest::run(endpoint, gateway, stop.clone()));
    Running { address, store, stop, writer, task }
}

impl Running {
    /// Drains and closes, so that nothing of it is left to disturb the next round.
    pub async fn stop(mut self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
        self.writer.close();
        self.writer.wait().await.unwrap();
        let store = self.store;
        tokio::task::spawn_blocking(move || store.close()).await.unwrap().unwrap();
    }
}
