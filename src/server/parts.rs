//! The parts on the way up: what is opened in which order, and the named tasks.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use aigaq_proto::Digest;
use prometheus::Registry as MetricsRegistry;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::{Id, JoinError, JoinSet};

use super::DataDir;
use crate::access::{self, Access, Grant, Role};
use crate::backup;
use crate::chain::Quotas;
use crate::clock::Clock;
use crate::commit::{self, WriterHandle};
use crate::config::{self, Config};
use crate::enrol::{self, Authority, Desk, IssuerFiles, Office, Registry, ServerTime, Serving, Trust, Verifier};
use crate::error::{Context, Error, Kind, Result};
use crate::export::{self, Exports};
use crate::fleet::Fleet;
use crate::incident::{self, Incidents};
use crate::ingest::{self, Gateway};
use crate::log::witness::Witnesses;
use crate::log::{Identity, Log, Reader, StampSettings, Stamps, witness};
use crate::retention::{self, Retention};
use crate::scrub::{self, Scrub};
use crate::store::records::{AuditRecord, Event, Occurrence, RecorderKind};
use crate::store::{self, Store};
use crate::webhook::{self, Webhooks};
use crate::{http, log, lookup, metrics, seal};

/// Where bundles lie within the data directory.
const EXPORTS: &str = "exports";
/// How many ports are tried for one that is free for UDP and TCP.
const PORT_ATTEMPTS: u32 = 16;

/// Everything that needs the disk, opened.
pub(super) struct Opened {
    pub(super) lock: DataDir,
    /// Who is known.
    pub(super) access: Access,
    pub(super) metrics: MetricsRegistry,
    pub(super) gateway: Gateway,
    pub(super) writer: WriterHandle,
    /// Where recorders enrol.
    pub(super) desk: Arc<Desk>,
    /// Who makes exports.
    pub(super) exports: Arc<Exports>,
    /// Who holds and deletes.
    pub(super) retention: Retention,
    /// Who deals with incidents.
    pub(super) incidents: Incidents,
    /// Who sends on what happens.
    pub(super) webhooks: Webhooks,
    pub(super) scrub: Scrub,
    /// Who cosigns the log.
    pub(super) witnesses: Witnesses,
    /// Who stamps it.
    pub(super) stamps: Option<Stamps>,
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
        let settings = enrol_settings(config);
        let authority = Arc::new(Authority::open(data, settings.issuer.as_ref(), &clock)?);
        let serving = Serving::open(&authority, data, &settings.names, &clock)?;
        let exporter = exporter(&authority, data, &clock);
        let anchors = enrol::anchors(&authority, &settings)?;
        let identity = Identity::load_or_create(data)?;
        let metrics = metrics::registry()?;
        let store = open(&data.join(store::DIR), &store_settings(config))?;
        metrics::register_space(&metrics, store.clone())?;
        say_configuration(&store, config, &clock)?;
        store.happen(&[(clock.now(), None, Occurrence::Started)])?;
        let log = Log::open(store.clone(), identity, Some(data))?;
        let reader = log.reader();
        let registry = Arc::new(Registry::open(store.clone(), data, clock.clone())?);
        let enrol_metrics = enrol::Metrics::register(&metrics)?;
        let trust = Trust::load(&authority, &settings, enrol_metrics.next_update())?;
        let trust = Arc::new(trust.keep_lists(store.clone(), clock.clone())?);
        let witness_metrics = log::Metrics::register(&metrics)?;
        let witnesses = Witnesses::new(&witness_settings(config), reader.clone(), witness_metrics)?;
        let stamp_metrics = log::StampMetrics::register(&metrics)?;
        let stamps = stamp_settings(config).map(|of| Stamps::new(of, reader.clone(), clock.clone(), stamp_metrics));
        let stamps = stamps.transpose()?;
        let commit_metrics = commit::Metrics::register(&metrics)?;
        let (queue, writer) =
            commit::start(store.clone(), log, commit_settings(config), clock.clone(), commit_metrics)?;
        let lookup_metrics = lookup::Metrics::register(&metrics)?;
        let access = Access::open(store.clone(), Some(data), clock.clone(), access_settings(config))?;
        if !access.is_anybody_known() {
            let data = data.display();
            tracing::warn!("nobody can sign in yet: aigaq account add NAME --role administrator --data {data}");
        }
        let deletion_metrics = retention::Metrics::register(&metrics)?;
        let free_bytes_min = config.store.free_bytes_min;
        let retention = Retention::new(store.clone(), clock.clone(), deletion_metrics, free_bytes_min);
        let scrub_metrics = scrub::Metrics::register(&metrics)?;
        let scrub = Scrub::new(store.clone(), clock.clone(), scrub_metrics, config.store.scrub_bytes_per_s);
        let fleet = Fleet::open(store.clone(), clock.clone())?;
        let incident_metrics = incident::Metrics::register(&metrics)?;
        let incidents =
            Incidents::open(store.clone(), clock.clone(), fleet.clone(), retention.clone(), incident_metrics)?;
        let webhook_metrics = webhook::Metrics::register(&metrics)?;
        let (configured, of) = webhook_settings(config)?;
        let webhooks = Webhooks::open(store.clone(), clock.clone(), &configured, of, webhook_metrics)?;
        let export_metrics = export::Metrics::register(&metrics, lookup_metrics.damaged.clone())?;
        let holes = lookup::holes(fleet.clone(), clock.clone());
        let source = export::Source::new(store.clone(), reader.clone(), holes, anchors, exporter)?;
        let source = source.with_stamps(stamps.clone()).with_witnesses(!witness_settings(config).witnesses.is_empty());
        let exports = Arc::new(Exports::open(&data.join(EXPORTS), source, clock.clone(), export_metrics)?);
        let office = Office {
            authority,
            serving,
            trust: Arc::clone(&trust),
            registry: Arc::clone(&registry),
            log_key: reader.key().as_str().to_owned(),
            certificate_life: settings.certificate_life,
            clock: clock.clone(),
            metrics: enrol_metrics,
        };
        let desk = Arc::new(Desk::open(data, office)?);
        let gateway = Gateway {
            store,
            queue,
            log: reader.clone(),
            fleet,
            registry,
            trust,
            clock,
            settings: ingest_settings(config),
            metrics: ingest::Metrics::register(&metrics)?,
        };
        Ok(Self {
            lock,
            access,
            metrics,
            gateway,
            writer,
            desk,
            exports,
            retention,
            incidents,
            webhooks,
            scrub,
            witnesses,
            stamps,
            reader,
            lookup_metrics,
        })
    }

    /// The QUIC endpoint, and the listener that recorders enrol on: without an address of its own on the same port of TCP. Where any
    /// port will do, that takes a port which is free for both.
    pub(super) async fn bind(&self, config: &Config) -> Result<(quinn::Endpoint, TcpListener)> {
        let quic = config.quic.listen;
        if let Some(listen) = config.enrol.listen {
            return Ok((self.bind_quic(quic)?, self::listen("enrol.listen", listen).await?));
        }
        for _ in 1..PORT_ATTEMPTS {
            let listener = self::listen("quic.listen, for enrolment", quic).await?;
            match self.bind_quic(SocketAddr::new(quic.ip(), address(&listener)?.port())) {
                Ok(endpoint) => return Ok((endpoint, listener)),
                Err(error) if quic.port() != 0 => return Err(error),
                Err(error) => tracing::debug!(%error, "the port is free for TCP alone"),
            }
        }
        Err(Error::new(Kind::Invalid, "no port is free for both UDP and TCP"))
    }

    fn bind_quic(&self, address: SocketAddr) -> Result<quinn::Endpoint> {
        ingest::bind(address, self.desk.certificate(), &self.gateway, self.lock.path())
    }

    /// Whom the command line asks for a copy.
    pub(super) fn backups(&self, clock: &Clock) -> Result<backup::Desk> {
        let metrics = backup::Metrics::register(&self.metrics)?;
        backup::Desk::open(self.gateway.store.clone(), clock.clone(), self.lock.path(), metrics)
    }

    /// TLS of the listener that recorders enrol on.
    pub(super) fn enrol_tls(&self) -> Result<Arc<rustls::ServerConfig>> {
        let gateway = &self.gateway;
        let refusals = self.desk.refusals();
        let verifier = Verifier::new(Arc::clone(&gateway.trust), Arc::clone(&gateway.registry), refusals, false);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let time = Arc::new(ServerTime(gateway.clock.clone()));
        http::with_clients(self.desk.certificate(), Arc::new(verifier), time, provider)
    }

    /// What the handlers of the API share.
    pub(super) fn lookup(&self, clock: &Clock, config: &Config) -> Result<lookup::State> {
        let registry = self.gateway.registry.clone();
        let store = self.gateway.store.clone();
        let state = lookup::State::new(
            store,
            Arc::new(self.reader.clone()),
            self.access.clone(),
            clock.clone(),
            self.lookup_metrics.clone(),
            self.gateway.fleet.clone(),
        )?
        .in_time_zone(config.site.time_zone.clone())
        .with_categories(categories(&config.marks));
        let state = state.with_registry(registry).with_exports(Arc::clone(&self.exports));
        Ok(state
            .with_retention(self.retention.clone())
            .with_incidents(self.incidents.clone())
            .with_webhooks(self.webhooks.clone()))
    }
}

/// What marks may say, as the look-up has it.
fn categories(marks: &config::Marks) -> Vec<lookup::Category> {
    let category = |of: &config::MarkCategory| lookup::Category {
        name: of.name.clone(),
        names: lookup::Names { kk: of.kk.clone(), ru: of.ru.clone(), en: of.en.clone() },
        before_s: of.before_s,
        after_s: of.after_s,
        days: of.days,
        urgent: of.urgent,
    };
    marks.categories.iter().map(category).collect()
}

/// Who signs manifests.
fn exporter(authority: &Arc<Authority>, data: &Path, clock: &Clock) -> export::Exporter {
    let (authority, data, clock) = (Arc::clone(authority), data.to_owned(), clock.clone());
    Arc::new(move || authority.export_identity(&data, &clock))
}

/// Writes down that the server starts with another configuration than the last one that was written down.
fn say_configuration(store: &Store, config: &Config, clock: &Clock) -> Result<()> {
    let effective = format!("{config:?}");
    let action = format!("start aigaq {} with another configuration", env!("CARGO_PKG_VERSION"));
    let entry = AuditRecord::new(clock.now(), Event::Configuration, "server", "local", action);
    match store.audit_configuration(&AuditRecord { content: Some(Digest::of(effective.as_bytes())), ..entry }) {
        Err(error) if error.kind() == Kind::StorageFull => {
            tracing::warn!(%error, "the configuration cannot be written down; the next start will");
            Ok(())
        }
        written => written,
    }
}

/// What of the configuration concerns identities; the command line needs it too.
pub(crate) fn enrol_settings(config: &Config) -> enrol::Settings {
    let issuer = config.enrol.issuer.clone();
    enrol::Settings {
        certificate_life: config.enrol.certificate_life,
        names: config.enrol.names.clone(),
        issuer: issuer.map(|issuer| IssuerFiles { certificate: issuer.certificate, key: issuer.key }),
        trust_anchors: config.enrol.trust_anchors.clone(),
        crl: config.enrol.crl.clone(),
    }
}

fn access_settings(config: &Config) -> access::Settings {
    let of = config.access.clone();
    let grant = |(role, departments): config::Grant| Some(Grant { role: Role::named(&role)?, departments });
    let provider = |provider: config::Provider| {
        let groups = provider.groups.into_iter();
        access::Provider {
            issuer: provider.issuer,
            client_id: provider.client_id,
            secret_file: provider.secret_file,
            redirect: provider.redirect,
            ca: provider.ca,
            scopes: provider.scopes,
            groups_claim: provider.groups_claim,
            groups: groups.map(|(name, grants)| (name, grants.into_iter().filter_map(grant).collect())).collect(),
        }
    };
    let kinds = [RecorderKind::Officer, RecorderKind::Vehicle, RecorderKind::Premises];
    let kind = |name: &String| kinds.into_iter().find(|kind| kind.name() == name);
    access::Settings {
        idle: of.idle,
        longest: of.longest,
        restricted_departments: of.restricted_departments,
        restricted_kinds: of.restricted_kinds.iter().filter_map(kind).collect(),
        requests_per_s: of.requests_per_s,
        provider: of.provider.map(provider),
    }
}

fn store_settings(config: &Config) -> store::Settings {
    store::Settings {
        policy: store::Policy {
            default_days: config.retention.default_days,
            departments: config.retention.departments.clone(),
            categories: (config.marks.categories.iter().filter(|category| category.days > 0))
                .map(|category| (category.name.clone(), category.days))
                .collect(),
        },
        ingest_bytes_min: config.store.ingest_bytes_min,
        free_bytes_min: config.store.free_bytes_min,
        cache_bytes: config.store.cache_bytes,
        open_files_max: config.store.open_files_max,
        seal: seal_settings(config),
    }
}

/// The command line needs it too.
pub(crate) fn seal_settings(config: &Config) -> seal::Settings {
    let of = config.seal.clone();
    seal::Settings {
        footage: of.footage,
        master_key: of.master_key,
        wrap_command: of.wrap_command,
        unwrap_command: of.unwrap_command,
        ..seal::Settings::default()
    }
}

/// Those of the configuration, and who may be reached.
fn webhook_settings(config: &Config) -> Result<(Vec<webhook::Configured>, webhook::Settings)> {
    let of = config.webhooks.clone();
    let unknown = |one: &config::Webhook| one.kinds.iter().any(|kind| !Occurrence::NAMES.contains(&kind.as_str()));
    if let Some(one) = of.endpoints.iter().find(|one| unknown(one)) {
        let names = Occurrence::NAMES.join(", ");
        let text = format!("webhooks.endpoints: the kinds of {} must be of {names}", one.name);
        return Err(Error::new(Kind::Invalid, text));
    }
    let configured = of.endpoints.into_iter().map(|one| webhook::Configured {
        name: one.name,
        url: one.url.into(),
        secret_file: one.secret_file,
        kinds: one.kinds,
        department: one.department,
    });
    let reach = webhook::Reach { private: of.private };
    Ok((configured.collect(), webhook::Settings { reach, ca: of.ca, ..webhook::Settings::default() }))
}

fn witness_settings(config: &Config) -> witness::Settings {
    let of = config.witness.clone();
    witness::Settings { witnesses: of.witnesses, quorum: of.quorum, ca: of.ca }
}

fn stamp_settings(config: &Config) -> Option<StampSettings> {
    let of = config.timestamp.clone();
    of.map(|of| StampSettings { url: of.url, interval: of.interval, ca: of.ca })
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
pub(super) async fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener> {
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
    tokio::task::spawn_blocking(work).await.map_err(died)?
}

/// A task that did not come to its end.
pub(super) fn died(error: JoinError) -> Error {
    Error::new(Kind::Internal, "a task of the server died").because(error)
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
        self.spawn_on(&Handle::current(), name, task);
    }

    /// Starts a task on other threads.
    pub(super) fn spawn_on(
        &mut self,
        threads: &Handle,
        name: &'static str,
        task: impl Future<Output = Result<()>> + Send + 'static,
    ) {
        let id = self.set.spawn_on(task, threads).id();
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
        let mut of_store = store_settings(&config);
        // The categories are the site's; the room has none of its own.
        assert_eq!(of_store.policy.categories.get("bribe-attempt"), Some(&1_825));
        of_store.policy.categories.clear();
        assert_eq!(format!("{of_store:?}"), format!("{:?}", store::Settings::default()));
        assert_eq!(enrol_settings(&config), enrol::Settings::default());
        assert_eq!(access_settings(&config), access::Settings::default());
    }
}
