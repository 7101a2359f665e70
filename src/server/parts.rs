//! The parts on the way up: what is opened in which order, and the named tasks.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use prometheus::Registry as MetricsRegistry;
use tokio::net::TcpListener;
use tokio::task::{Id, JoinSet};

use super::DataDir;
use crate::chain::Quotas;
use crate::clock::Clock;
use crate::commit::{self, WriterHandle};
use crate::config::Config;
use crate::enrol::{Authority, Registry};
use crate::error::{Context, Error, Kind, Result};
use crate::fleet::Fleet;
use crate::ingest::{self, Gateway};
use crate::log::{Identity, Log, Reader};
use crate::store::{self, Store};
use crate::{lookup, metrics};

/// Everything that needs the disk, opened.
pub(super) struct Opened {
    pub(super) lock: DataDir,
    pub(super) token: String,
    pub(super) metrics: MetricsRegistry,
    pub(super) gateway: Gateway,
    pub(super) writer: WriterHandle,
    authority: Authority,
    reader: Reader,
    lookup_metrics: lookup::Metrics,
}

impl Opened {
    /// Lock, secrets, store, log (which refuses a store that lost something), registry, writer.
    pub(super) async fn open(
        config: &Config,
        clock: &Clock,
        open: impl FnOnce(&Path, &store::Settings) -> Result<Store> + Send + 'static,
    ) -> Result<Self> {
        let (config, clock) = (config.clone(), clock.clone());
        blocking(move || Self::open_blocking(&config, clock, open)).await
    }

    fn open_blocking(
        config: &Config,
        clock: Clock,
        open: impl FnOnce(&Path, &store::Settings) -> Result<Store>,
    ) -> Result<Self> {
        let lock = DataDir::create(&config.store.dir)?;
        let data = lock.path();
        let token = lock.token()?;
        let authority = Authority::load_or_create(data, &clock)?;
        let identity = Identity::load_or_create(data)?;
        let metrics = metrics::registry()?;
        let store = open(&data.join(store::DIR), &store_settings(config))?;
        metrics::register_space(&metrics, store.clone())?;
        let log = Log::open(store.clone(), identity, Some(data))?;
        let reader = log.reader();
        let registry = Arc::new(Registry::open(store.clone(), data)?);
        let commit_metrics = commit::Metrics::register(&metrics)?;
        let (queue, writer) =
            commit::start(store.clone(), log, commit_settings(config), clock.clone(), commit_metrics)?;
        let lookup_metrics = lookup::Metrics::register(&metrics)?;
        let fleet = Fleet::open(store.clone(), clock.clone())?;
        let gateway = Gateway {
            store,
            queue,
            log: reader.clone(),
            fleet,
            registry,
            clock,
            settings: ingest_settings(config),
            metrics: ingest::Metrics::register(&metrics)?,
        };
        Ok(Self { lock, token, metrics, gateway, writer, authority, reader, lookup_metrics })
    }

    /// The QUIC endpoint.
    pub(super) fn bind(&mut self, address: SocketAddr) -> Result<quinn::Endpoint> {
        ingest::bind(address, &self.authority, &self.gateway, self.lock.path())
    }

    /// What the handlers of the API share.
    pub(super) fn lookup(&self, clock: &Clock) -> Result<lookup::State> {
        let registry = self.gateway.registry.clone();
        let store = self.gateway.store.clone();
        let state = lookup::State::new(
            store,
            Arc::new(self.reader.clone()),
            &self.token,
            clock.clone(),
            self.lookup_metrics.clone(),
        )?;
        Ok(state.before_listing(move || registry.import().map(|_| ())))
    }
}

fn store_settings(config: &Config) -> store::Settings {
    store::Settings {
        retention_days: config.store.retention_days,
        ingest_bytes_min: config.store.ingest_bytes_min,
        free_bytes_min: config.store.free_bytes_min,
        cache_bytes: config.store.cache_bytes,
        open_files_max: config.store.open_files_max,
    }
}

fn commit_settings(config: &Config) -> commit::Settings {
    commit::Settings {
        batch_bytes_max: config.commit.batch_bytes_max,
        batch_age_max: config.commit.batch_age_max,
        bulk_bytes: config.store.ingest_bytes_min,
        queue_links_max: config.commit.queue_links_max,
        quotas: Quotas { forks_max: config.ingest.forks_max, quarantined_max: config.ingest.quarantined_max },
        ..commit::Settings::default()
    }
}

fn ingest_settings(config: &Config) -> ingest::Settings {
    ingest::Settings {
        idle_timeout: config.quic.idle_timeout,
        connections_max: config.quic.connections_max,
        recorder_connections_max: config.quic.recorder_connections_max,
        handshakes_max: config.quic.handshakes_max,
        handshakes_per_s_max: config.quic.handshakes_per_s_max,
        handshake_timeout: config.quic.handshake_timeout,
        memory_bytes_max: config.ingest.memory_bytes_max,
        payload_bytes_max: config.ingest.payload_bytes_max,
        links_in_flight_max: config.ingest.links_in_flight_max,
        stall_timeout: config.ingest.stall_timeout,
        drain_deadline: config.shutdown.drain_deadline,
        ..ingest::Settings::default()
    }
}

/// Binds a TCP listener; `key` is the setting that an error names.
pub(super) async fn listen(key: &str, address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.context(Kind::Invalid, format!("cannot listen on {address} ({key})"))
}

/// The address that a listener got.
pub(super) fn address(listener: &TcpListener) -> Result<SocketAddr> {
    listener.local_addr().map_err(no_address)
}

/// A socket that cannot say where it is bound.
pub(super) fn no_address(error: std::io::Error) -> Error {
    Error::new(Kind::Internal, "a socket has no address").because(error)
}

/// Runs `work`, which waits for the disk, on a thread that may wait. Not cancelled when the caller is: it runs to its end.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::new(Kind::Internal, "a task that waited for the disk died").because(error)),
    }
}

/// The main tasks by name. None of them ends before it is asked to, unless it fails.
#[derive(Default)]
pub(super) struct Tasks {
    set: JoinSet<Result<()>>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    /// Starts a task.
    pub(super) fn spawn(&mut self, name: &'static str, task: impl Future<Output = Result<()>> + Send + 'static) {
        let id = self.set.spawn(task).id();
        self.names.insert(id, name);
    }

    /// The failure of the first task that ends. Cancel-safe.
    pub(super) async fn next(&mut self) -> Error {
        match self.join().await {
            Some((name, Ok(()))) => Error::new(Kind::Internal, format!("the task {name} ended")),
            Some((_, Err(error))) => error,
            None => Error::new(Kind::Internal, "no task is left"),
        }
    }

    /// Waits for the task `name`, which was asked to end.
    pub(super) async fn finish(&mut self, name: &'static str) -> Result<()> {
        while self.names.values().any(|running| *running == name) {
            match self.join().await {
                Some((_, result)) => result?,
                None => break,
            }
        }
        Ok(())
    }

    async fn join(&mut self) -> Option<(&'static str, Result<()>)> {
        let (id, result) = match self.set.join_next_with_id().await? {
            Ok((id, result)) => (id, result),
            Err(error) => (error.id(), Err(Error::new(Kind::Internal, "it died").because(error))),
        };
        let name = self.names.remove(&id).unwrap_or("unknown");
        Some((name, result.map_err(|error| Error::new(error.kind(), format!("the task {name} failed")).because(error))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_configuration_is_the_default_of_every_room() {
        let config = Config::default();
        assert_eq!(ingest_settings(&config), ingest::Settings::default());
        assert_eq!(format!("{:?}", commit_settings(&config)), format!("{:?}", commit::Settings::default()));
        assert_eq!(format!("{:?}", store_settings(&config)), format!("{:?}", store::Settings::default()));
    }
}
