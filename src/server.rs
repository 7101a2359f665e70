//! The server: every part put together in the one right order, and taken apart in the reverse.
//!
//! Promises: when [`Server::start`] returns, recorders can connect and the API answers; the end of any part ends the
//! server, with the part's name; a drain stops accepting first, then lets sessions finish, then commits what waits, then
//! closes the store. Correctness needs no drain: what was acknowledged is durable. No part is started anywhere else.

mod apart;
mod data;
mod health;
mod keys;
#[cfg(feature = "cluster")]
mod objects;
mod parts;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::access::{self, Access, Grants};
use crate::clock::Clock;
use crate::commit::WriterHandle;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::ingest::Gateway;
use crate::lookup::Readiness;
use crate::store::Store;
use crate::{enrol, fleet, http, incident, ingest, lookup, retention, store};

use apart::Apart;
pub use data::DataDir;
#[cfg(feature = "cluster")]
pub(crate) use objects::fit;
use parts::{Opened, Tasks};
pub(crate) use parts::{enrol_settings, seal_settings};

/// A server that is running.
pub struct Server {
    /// The UDP address that recorders connect to.
    pub quic_addr: SocketAddr,
    /// The TCP address that recorders enrol on.
    pub enrol_addr: SocketAddr,
    /// The address of the HTTP API.
    pub api_addr: SocketAddr,
    /// The address of metrics and health.
    pub ops_addr: SocketAddr,
    /// Whether the API speaks HTTPS.
    pub api_tls: bool,
    /// The data directory.
    pub data: PathBuf,
    /// Every metric of the server, for those who run it within their own process.
    pub metrics: prometheus::Registry,
    access: Access,
    store: Store,
    readiness: Readiness,
    writer: WriterHandle,
    tasks: Tasks,
    _lookups: Apart,
    sessions: CancellationToken,
    listeners: CancellationToken,
    _lock: DataDir,
}

impl Server {
    /// Opens everything, listens and begins to serve.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for what the operator has to mend, such as an address in use; [`Kind::Damaged`] when what was
    /// acknowledged is not there.
    pub async fn start(config: Config, clock: Clock) -> Result<Self> {
        let Some(of) = config.store.objects.clone() else {
            return Self::start_over(config, clock, Store::open).await;
        };
        #[cfg(feature = "cluster")]
        {
            let (known, time) = (config.clone(), clock.clone());
            let probed = parts::blocking(move || objects::Probed::new(&known, &of, &time)).await?;
            Self::start_over(config, clock, move |dir, settings| probed.open(dir, settings)).await
        }
        #[cfg(not(feature = "cluster"))]
        {
            let text = format!(
                "store.engine: this program is built without the feature cluster, which the bucket {} needs",
                of.bucket
            );
            Err(Error::new(Kind::Invalid, text))
        }
    }

    /// The same over the store that `open` opens, given its directory.
    async fn start_over(
        config: Config,
        clock: Clock,
        open: impl FnOnce(&Path, &store::Settings) -> Result<Store> + Send + 'static,
    ) -> Result<Self> {
        let api_files = match &config.api.tls {
            Some(tls) => Some(http::Files::open(&tls.certificate, &tls.key)?),
            None => None,
        };
        let lookups = Apart::start()?;
        let api = lookups.run(parts::listen("api.listen", config.api.listen)).await?;
        let ops = lookups.run(parts::listen("ops.listen", config.ops.listen)).await?;
        let opened = Opened::open(&config, &clock, open).await?;
        opened.witnesses.compare().await?;
        let (endpoint, enrolment) = opened.bind(&config).await?;
        let quic_addr = endpoint.local_addr().map_err(parts::no_address)?;

        let readiness = Readiness::default();
        let (sessions, listeners) = (CancellationToken::new(), CancellationToken::new());
        let mut tasks = Tasks::default();
        let (api_addr, ops_addr, enrol_addr) =
            (parts::address(&api)?, parts::address(&ops)?, parts::address(&enrolment)?);
        let ops_router = lookup::ops_router(opened.metrics.clone(), readiness.clone());
        tasks.spawn_on(lookups.handle(), "operations", http::serve(ops, ops_router, None, listeners.clone()));
        let lookup = opened.lookup(&clock, &config)?.until(listeners.clone());
        let watch = lookup::watch(lookup.clone(), lookup::WATCH_EVERY, listeners.clone());
        tasks.spawn_on(lookups.handle(), "watch", watch);
        let webhooks = opened.webhooks.clone().run(lookup::renderer(&lookup), listeners.clone());
        tasks.spawn_on(lookups.handle(), "webhooks", webhooks);
        let router = lookup::router(lookup);
        let api_tls = api_files.as_ref().map(|files| http::without_clients(files.current())).transpose()?;
        tasks.spawn_on(lookups.handle(), "api", http::serve(api, router, api_tls, listeners.clone()));
        if let Some(files) = api_files {
            tasks.spawn_on(lookups.handle(), "certificate", files.watch(listeners.clone()));
        }
        let deletion = opened.retention.clone().run(retention::EVERY, listeners.clone());
        tasks.spawn("retention", deletion);
        tasks.spawn("backups", opened.backups(&clock)?.run(listeners.clone()));
        tasks.spawn("incidents", opened.incidents.clone().run(incident::TICK, listeners.clone()));
        tasks.spawn("scrub", opened.scrub.clone().run(listeners.clone()));
        tasks.spawn(
            "keys",
            keys::prepare(opened.gateway.store.clone(), clock.clone(), &opened.metrics, listeners.clone())?,
        );
        tasks.spawn("fleet", opened.gateway.fleet.clone().run(fleet::TICK, listeners.clone()));
        tasks.spawn_on(lookups.handle(), "exports", Arc::clone(&opened.exports).run(listeners.clone()));
        let desk = enrol::router(Arc::clone(&opened.desk));
        tasks.spawn("enrolment", http::serve(enrolment, desk, Some(opened.enrol_tls()?), listeners.clone()));
        tasks.spawn("words", Arc::clone(&opened.desk).keep(listeners.clone()));
        readiness.set(opened.gateway.log.witnessed().contradiction().is_none());
        tasks.spawn("ingest", take_in(endpoint, opened.gateway.clone(), readiness.clone(), sessions.clone()));
        tasks.spawn("witnesses", opened.witnesses.run(listeners.clone()));
        if let Some(stamps) = opened.stamps {
            tasks.spawn("timestamps", stamps.run(listeners.clone()));
        }
        tasks.spawn("health", health::watch(opened.gateway.store.clone(), listeners.clone()));
        tracing::info!(quic = %quic_addr, enrolment = %enrol_addr, api = %api_addr, operations = %ops_addr, "serving");
        Ok(Self {
            quic_addr,
            enrol_addr,
            api_addr,
            ops_addr,
            api_tls: config.api.tls.is_some(),
            access: opened.access,
            data: config.store.dir,
            metrics: opened.metrics,
            store: opened.gateway.store,
            readiness,
            writer: opened.writer,
            tasks,
            _lookups: lookups,
            sessions,
            listeners,
            _lock: opened.lock,
        })
    }

    /// A bearer token with every role, for the one who runs the server within their own process; good as long as it runs.
    ///
    /// # Errors
    /// [`Kind::Internal`] without randomness.
    pub fn owner_token(&self) -> Result<String> {
        let token = access::random()?;
        self.access.admit(&token, "owner", Grants::everything())?;
        Ok(token)
    }

    /// Serves until `shutdown` resolves and then drains, or until a part ends.
    ///
    /// # Errors
    /// What the part failed with, and its name. After [`Kind::Fatal`] the process must exit.
    pub async fn run_until(mut self, shutdown: impl Future<Output = ()> + Send) -> Result<()> {
        tokio::select! {
            () = shutdown => self.drain().await,
            ended = self.tasks.next() => Err(ended),
            ended = self.writer.wait() => Err(writer_ended(ended)),
        }
    }

    /// Courtesy in order: no new recorders, sessions finish, what waits is committed, the store is closed.
    async fn drain(mut self) -> Result<()> {
        tracing::info!("draining");
        self.readiness.set(false);
        self.sessions.cancel();
        self.tasks.finish("ingest").await?;
        self.writer.close();
        self.writer.wait().await?;
        self.listeners.cancel();
        self.tasks.finish("api").await?;
        self.tasks.finish("certificate").await?;
        self.tasks.finish("exports").await?;
        self.tasks.finish("operations").await?;
        self.tasks.finish("health").await?;
        self.tasks.finish("watch").await?;
        self.tasks.finish("witnesses").await?;
        self.tasks.finish("timestamps").await?;
        self.tasks.finish("fleet").await?;
        self.tasks.finish("retention").await?;
        self.tasks.finish("webhooks").await?;
        self.tasks.finish("incidents").await?;
        self.tasks.finish("scrub").await?;
        self.tasks.finish("backups").await?;
        self.tasks.finish("enrolment").await?;
        self.tasks.finish("words").await?;
        let store = self.store.clone();
        parts::blocking(move || store.close()).await?;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Takes footage in until `stop`, or until a witness shows that this log signed what the store does not have: then recorders keep
/// what they have, the server is not ready, and everything else goes on.
async fn take_in(
    endpoint: quinn::Endpoint,
    gateway: Gateway,
    readiness: Readiness,
    stop: CancellationToken,
) -> Result<()> {
    let witnessed = gateway.log.witnessed().clone();
    if witnessed.contradiction().is_none() {
        let sessions = stop.child_token();
        let ingest = ingest::run(endpoint, gateway, sessions.clone());
        let mut ingest = std::pin::pin!(ingest);
        tokio::select! {
            ended = ingest.as_mut() => return ended,
            () = witnessed.contradicted() => sessions.cancel(),
        }
        readiness.set(false);
        ingest.await?;
    }
    stop.cancelled().await;
    Ok(())
}

fn writer_ended(ended: Result<()>) -> Error {
    match ended {
        Ok(()) => Error::new(Kind::Internal, "the writer ended"),
        Err(error) => Error::new(error.kind(), "the writer failed").because(error),
    }
}
