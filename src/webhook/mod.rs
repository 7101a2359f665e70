//! Webhooks: what happens, sent to where somebody listens, signed, in order, until it has arrived.
//!
//! Each webhook is a reader of the store's feed with a durable place in it and a task of its own: nothing is queued for it, so that one
//! that is dead costs nothing but its own lag, and holds up neither the others nor anything that is taken in. Events reach it in the
//! order of the feed, one at a time, hence in order for each recorder; an event is sent again, under the same `webhook-id`, until it is
//! taken with a status of 2xx. What the feed no longer has is told as `missed`. Its place can be put anywhere ([`Webhooks::replay`]).
//!
//! `sign` is how a message is signed, `address` who may be reached, `deliver` the task of one webhook.
//!
//! Promises: at least once, never out of order, never to an address that the configuration does not allow; a message that was taken is not
//! sent again but after a crash or a replay. What belongs into a message says the one who runs this ([`Render`]); this room knows no
//! department and no person.

mod address;
mod deliver;
mod metrics;
pub mod sign;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aigaq_proto::Micros;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::http::Client;
use crate::store::Store;
use crate::store::records::{Act, AuditRecord, Event, FeedRecord, WebhookRecord};

pub use address::Reach;
pub use metrics::Metrics;

/// Most webhooks.
pub const WEBHOOKS_MAX: usize = 32;

/// The message of an event for a webhook: one JSON object; nothing if it is not for it. Blocks.
pub type Render = Arc<dyn Fn(&Store, &FeedRecord, &WebhookRecord) -> Result<Option<Vec<u8>>> + Send + Sync>;

/// How webhooks are dealt with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who may be reached.
    pub reach: Reach,
    /// Certificates of the CAs that vouch for those with https.
    pub ca: Option<PathBuf>,
    /// The pause after the first failure; it doubles with each.
    pub retry_first: Duration,
    /// The longest pause.
    pub retry_max: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        let (retry_first, retry_max) = (Duration::from_secs(1), Duration::from_secs(300));
        Self { reach: Reach::default(), ca: None, retry_first, retry_max }
    }
}

/// A webhook that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configured {
    /// What it is called.
    pub name: String,
    /// Where it listens.
    pub url: String,
    /// The file with its secret.
    pub secret_file: PathBuf,
    /// Only these kinds of events; all if there are none.
    pub kinds: Vec<String>,
    /// Only events of this department.
    pub department: Option<String>,
}

/// The webhooks. Cheap to clone; every clone is the same. What blocks says so.
#[derive(Clone)]
pub struct Webhooks {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    clock: Clock,
    client: Client,
    settings: Settings,
    metrics: Metrics,
    all: Mutex<BTreeMap<String, Arc<Endpoint>>>,
    /// One more was made.
    made: Notify,
}

/// A webhook and where it is.
struct Endpoint {
    record: WebhookRecord,
    place: Mutex<Place>,
    /// Its place was changed.
    moved: Notify,
    gone: CancellationToken,
}

#[derive(Debug, Clone, Default)]
struct Place {
    cursor: u64,
    /// How often the place was put elsewhere: what was under way for an earlier one does not move it.
    turn: u64,
    /// Taken away: nothing is written down any more.
    gone: bool,
    failing: Option<Failing>,
    is_running: bool,
}

/// That messages do not arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// Since when.
    pub since: Micros,
    /// Attempts since then.
    pub attempts: u64,
    /// What went wrong last.
    pub why: String,
}

/// A webhook as it stands.
#[derive(Debug, Clone)]
pub struct Standing {
    /// What it is; its cursor as of now.
    pub record: WebhookRecord,
    /// That its messages do not arrive, if they do not.
    pub failing: Option<Failing>,
}

/// What became of a new webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// It is there.
    Done,
    /// One with this name is there.
    Taken,
    /// There are as many as there may be.
    TooMany,
}

/// What became of a webhook that is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// It is gone.
    Done,
    /// There is none with this name.
    Missing,
    /// It comes from the configuration.
    Configured,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Endpoint {
    fn of(record: WebhookRecord) -> Arc<Self> {
        let place = Place { cursor: record.cursor, ..Place::default() };
        Arc::new(Self { record, place: Mutex::new(place), moved: Notify::new(), gone: CancellationToken::new() })
    }
}

impl Webhooks {
    /// Learns which webhooks there are, those of the configuration among them. Blocks.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a secret that cannot be read; those of the store.
    pub fn open(
        store: Store,
        clock: Clock,
        configured: &[Configured],
        settings: Settings,
        metrics: Metrics,
    ) -> Result<Self> {
        let client = Client::new(settings.ca.as_deref(), "webhooks.ca")?;
        let mut known: BTreeMap<String, WebhookRecord> = BTreeMap::new();
        for record in store.webhooks() {
            let record = record?;
            known.insert(record.name.clone(), record);
        }
        let now = clock.now();
        for stale in known.values().filter(|record| record.configured) {
            if !configured.iter().any(|one| one.name == stale.name) {
                let action = format!("the configuration has no webhook {} any more", stale.name);
                let entry = AuditRecord::new(now, Event::Configuration, "server", "local", action);
                store.forget_webhook(&stale.name, &entry)?;
            }
        }
        known.retain(|name, record| !record.configured || configured.iter().any(|one| one.name == *name));
        for one in configured {
            let text = std::fs::read_to_string(&one.secret_file).map_err(|error| {
                let text =
                    format!("cannot read the secret of the webhook {} ({})", one.name, one.secret_file.display());
                Error::new(Kind::Invalid, text).because(error)
            })?;
            let before = known.remove(&one.name);
            let record = WebhookRecord {
                name: one.name.clone(),
                url: one.url.clone(),
                secret: sign::secret(&text)?,
                kinds: one.kinds.clone(),
                department: one.department.clone(),
                configured: true,
                made: Act { at: now, by: "server".to_owned(), reason: String::new() },
                cursor: before.as_ref().map_or_else(|| *store.watch_feed().borrow(), |before| before.cursor),
            };
            let made = before.as_ref().map_or_else(|| record.made.clone(), |before| before.made.clone());
            let record = WebhookRecord { made, ..record };
            if before.as_ref() != Some(&record) {
                let action = format!("webhook {} of the configuration to {}", record.name, origin(&record.url));
                let entry = AuditRecord::new(now, Event::Configuration, "server", "local", action);
                store.put_webhook(&record, Some(&entry))?;
            }
            known.insert(record.name.clone(), record);
        }
        let all = known.into_iter().map(|(name, record)| (name, Endpoint::of(record))).collect();
        let shared = Shared { store, clock, client, settings, metrics, all: Mutex::new(all), made: Notify::new() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The webhooks as they stand, by name. Blocks.
    #[must_use]
    pub fn list(&self) -> Vec<Standing> {
        lock(&self.shared.all).values().map(|endpoint| endpoint.standing()).collect()
    }

    /// Makes a webhook, durably; `entry` says who did. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub fn make(&self, record: WebhookRecord, entry: &AuditRecord) -> Result<Made> {
        let mut all = lock(&self.shared.all);
        if all.contains_key(&record.name) {
            return Ok(Made::Taken);
        }
        if all.len() >= WEBHOOKS_MAX {
            return Ok(Made::TooMany);
        }
        self.shared.store.put_webhook(&record, Some(entry))?;
        all.insert(record.name.clone(), Endpoint::of(record));
        self.shared.made.notify_one();
        Ok(Made::Done)
    }

    /// Takes a webhook away; `entry` says who did. A message that is under way may still arrive. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub fn remove(&self, name: &str, entry: &AuditRecord) -> Result<Removed> {
        let mut all = lock(&self.shared.all);
        let Some(endpoint) = all.get(name) else { return Ok(Removed::Missing) };
        if endpoint.record.configured {
            return Ok(Removed::Configured);
        }
        let mut place = lock(&endpoint.place);
        self.shared.store.forget_webhook(name, entry)?;
        place.gone = true;
        drop(place);
        endpoint.gone.cancel();
        all.remove(name);
        self.shared.metrics.forget(name);
        Ok(Removed::Done)
    }

    /// Goes on behind the event with the number `after`, whether it was sent before or not; `entry` says who wants it. `None` if there is no
    /// webhook with this name. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub fn replay(&self, name: &str, after: u64, entry: &AuditRecord) -> Result<Option<Standing>> {
        let Some(endpoint) = lock(&self.shared.all).get(name).cloned() else { return Ok(None) };
        let mut place = lock(&endpoint.place);
        if place.gone {
            return Ok(None);
        }
        let record = WebhookRecord { cursor: after, ..endpoint.record.clone() };
        self.shared.store.put_webhook(&record, Some(entry))?;
        (place.cursor, place.turn) = (after, place.turn + 1);
        drop(place);
        endpoint.moved.notify_one();
        Ok(Some(endpoint.standing()))
    }

    /// Delivers until `stop`; the places of all are written down by then.
    ///
    /// # Errors
    /// [`Kind::Fatal`] when the store has failed.
    pub async fn run(self, render: Render, stop: CancellationToken) -> Result<()> {
        let mut tasks = JoinSet::new();
        loop {
            for endpoint in lock(&self.shared.all).values() {
                let mut place = lock(&endpoint.place);
                if !place.is_running {
                    place.is_running = true;
                    let stop = endpoint.gone.clone();
                    let task = deliver::run(self.clone(), Arc::clone(endpoint), Arc::clone(&render));
                    tasks.spawn(async move { stop.run_until_cancelled(task).await.unwrap_or(Ok(())) });
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.shared.made.notified() => {}
                Some(ended) = tasks.join_next() => match ended {
                    Ok(ended) => ended?,
                    Err(error) => return Err(Error::new(Kind::Internal, "a webhook's task died").because(error)),
                },
            }
        }
        tasks.shutdown().await;
        let this = self.clone();
        let written = tokio::task::spawn_blocking(move || {
            let all: Vec<_> = lock(&this.shared.all).values().cloned().collect();
            all.iter().for_each(|endpoint| lock(&endpoint.place).is_running = false);
            all.iter().try_for_each(|endpoint| endpoint.write(&this.shared.store))
        });
        written.await.map_err(|error| Error::new(Kind::Internal, "webhooks were not written down").because(error))?
    }
}

impl Endpoint {
    fn standing(&self) -> Standing {
        let place = lock(&self.place).clone();
        Standing { record: WebhookRecord { cursor: place.cursor, ..self.record.clone() }, failing: place.failing }
    }

    /// Writes down how far it is. Blocks.
    fn write(&self, store: &Store) -> Result<()> {
        let place = lock(&self.place);
        if place.gone {
            return Ok(());
        }
        store.put_webhook(&WebhookRecord { cursor: place.cursor, ..self.record.clone() }, None)
    }
}

/// What of an address may be told: the rest may hold a secret.
#[must_use]
pub fn origin(url: &str) -> String {
    url.parse::<url::Url>().map_or_else(|_| "an address".to_owned(), |url| url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::engine::memory::{FailAt, Memory};

    fn entry() -> AuditRecord {
        AuditRecord::new(1, Event::Configuration, "account:anna", "::1", "a test")
    }

    fn webhooks(store: &Store) -> Webhooks {
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let webhooks = Webhooks::open(store.clone(), Clock::fixed(1), &[], Settings::default(), metrics).unwrap();
        let made = Act { at: 1, by: "account:anna".to_owned(), reason: String::new() };
        let (name, url) = ("cad".to_owned(), "https://cad.example/".to_owned());
        let (secret, kinds) = (vec![7; 32], Vec::new());
        let record = WebhookRecord { name, url, secret, kinds, department: None, configured: false, made, cursor: 0 };
        assert_eq!(webhooks.make(record, &entry()).unwrap(), Made::Done);
        webhooks
    }

    #[test]
    fn a_replay_that_meets_a_removal_does_not_bring_the_webhook_back() {
        let store = Store::memory();
        let webhooks = webhooks(&store);
        let endpoint = lock(&webhooks.shared.all).get("cad").cloned().unwrap();
        assert_eq!(webhooks.remove("cad", &entry()).unwrap(), Removed::Done);
        // What a replay finds that had the webhook in its hands before it was taken away.
        lock(&webhooks.shared.all).insert("cad".to_owned(), endpoint);
        assert!(webhooks.replay("cad", 7, &entry()).unwrap().is_none());
        assert_eq!(store.webhooks().count(), 0);
    }

    #[test]
    fn a_webhook_whose_removal_fails_goes_on() {
        let engine = Memory::default();
        let store = Store::with_engine(Arc::new(engine.clone())).unwrap();
        let webhooks = webhooks(&store);
        engine.fail_commit(1, FailAt::Start);
        webhooks.remove("cad", &entry()).unwrap_err();
        let endpoint = lock(&webhooks.shared.all).get("cad").cloned().unwrap();
        assert!(!endpoint.gone.is_cancelled() && !lock(&endpoint.place).gone);
    }
}
