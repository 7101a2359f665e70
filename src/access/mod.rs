//! Who may see what: who somebody is, which roles they have where, and what a role allows.
//!
//! People sign in with a password or at a provider, services with a secret; each gives a session with a bearer token for a while. Promises: what
//! nobody granted is not allowed; a secret is kept as its digest, compared without a hint of where it differs or whether there is
//! anything to compare with, and never logged; who is wrong too often waits. This room decides; that nothing is shown without its
//! decision, and that it is written down, the look-ups see to.

mod attempts;
mod oidc;
mod rights;
mod secrets;
mod sessions;
#[cfg(test)]
mod tests;
mod words;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use aigaq_proto::{Digest, Micros, RecorderId};
use tokio::sync::Semaphore;

pub use crate::store::records::{Class, Grant, Role, SessionRecord};
pub use oidc::{Arrival, Settings as Provider};
pub use rights::{Grants, Verb, ceiling};
pub use secrets::random;
pub use sessions::Session;
pub use words::{add_account, add_client, remove};

use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::http::{Rate, Rates, network};
use crate::store::Store;
use crate::store::records::{AccountRecord, Act, AuditRecord, ClassRecord, Event, RecorderKind, RecorderRecord};
use attempts::Attempts;
use sessions::Sessions;

/// Shortest bearer token, characters.
const TOKEN_CHARS_MIN: usize = 16;
/// How old may be what is known of the words that were left.
const READ_EVERY: Duration = Duration::from_secs(2);
/// Passwords that are hashed at once: each takes a core for some ten milliseconds, and 19 MiB.
const HASHING_MAX: usize = 2;
/// How long one may wait for its turn.
const HASHING_WAIT: Duration = Duration::from_secs(5);
/// For how many seconds somebody may ask at once who was quiet before.
const BURST_S: f64 = 10.0;
/// How long a service is signed in, and a person who broke the glass, microseconds.
const CLIENT_US: Micros = 15 * 60 * 1_000_000;
const BREAK_GLASS_US: Micros = 60 * 60 * 1_000_000;

/// How long people stay signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// A session ends after so long without a request. Default 30 minutes.
    pub idle: Duration,
    /// A session ends after so long at the latest. Default 12 hours.
    pub longest: Duration,
    /// Departments whose footage is restricted.
    pub restricted_departments: Vec<String>,
    /// Kinds of recorders whose footage is restricted.
    pub restricted_kinds: Vec<RecorderKind>,
    /// Requests that each may make in a second; ten times as many at once. Default 300.
    pub requests_per_s: u32,
    /// Who else signs people in.
    pub provider: Option<Provider>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(30 * 60),
            longest: Duration::from_secs(12 * 60 * 60),
            restricted_departments: Vec::new(),
            restricted_kinds: Vec::new(),
            requests_per_s: 300,
            provider: None,
        }
    }
}

/// Somebody who has shown who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// As the audit trail names them.
    pub actor: String,
    /// What they were given.
    pub grants: Grants,
    /// Their session, if it is one.
    pub session: Option<String>,
    /// SHA-256 of the token that they have shown.
    pub token: Digest,
}

/// Somebody who has just proved who they are and has no session yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// As the audit trail names them.
    pub actor: String,
    /// What they were given.
    pub grants: Vec<Grant>,
    /// Whether that is an alarm.
    pub break_glass: bool,
    /// When their account was changed last; `None` for whom the provider knows.
    pub changed_at: Option<Micros>,
}

/// Why somebody is not signed in.
#[derive(Debug)]
pub enum Refused {
    /// There is no such account, or that is not its secret: nobody is told which.
    Wrong,
    /// Wrong too often, under this name or from this network.
    TooOften,
    /// It could not be found out.
    Failed(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Somebody who is signed in now.
pub struct SignedIn {
    /// The bearer token, which is known to nobody else and kept nowhere.
    pub token: String,
    /// When it ends at the latest, server clock.
    pub ends_at: Micros,
    /// The name of the session.
    pub id: String,
}

/// Where a browser is sent to sign in, and what it has to bring back.
pub struct Departure {
    /// The provider, with the question.
    pub location: String,
    /// For a cookie.
    pub browser: String,
    /// Whether the cookie goes over HTTPS alone.
    pub secure: bool,
}

/// Who is known here. Cheap to clone.
#[derive(Clone)]
pub struct Access {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    clock: Clock,
    settings: Settings,
    /// Where words are left.
    data: Option<PathBuf>,
    read_at: Mutex<Option<Instant>>,
    /// Those that are there, by actor.
    accounts: RwLock<HashMap<String, AccountRecord>>,
    sessions: Sessions,
    /// By the digest of the bearer token: whoever can choose what is looked up cannot choose its digest.
    admitted: RwLock<HashMap<Digest, Identity>>,
    /// What was said of recorders.
    classes: RwLock<HashMap<RecorderId, ClassRecord>>,
    /// Held while it is said of one.
    classifying: Mutex<()>,
    provider: Option<oidc::Provider>,
    attempts: Attempts,
    /// How often each asks, by actor: all sessions of a person together.
    rates: Rates<String>,
    hashing: Semaphore,
}

impl Access {
    /// Those whom the store knows, and those of whom word was left in the data directory. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub fn open(store: Store, data: Option<&Path>, clock: Clock, settings: Settings) -> Result<Self> {
        let mut accounts = HashMap::new();
        for account in store.accounts() {
            match account {
                Ok(account) if account.removed => {}
                Ok(account) => {
                    accounts.insert(account.actor.clone(), account);
                }
                // It keeps its owner out, and nobody else.
                Err(error) if error.kind() == Kind::Damaged => tracing::error!(%error, "an account cannot be used"),
                Err(error) => return Err(error),
            }
        }
        let mut classes = HashMap::new();
        for class in store.classes() {
            let (recorder, class) = class?;
            let unreadable = || {
                tracing::error!(
                    "what was said of a recorder's footage does not read: it is sealed until it is said again"
                );
                let said = Act { at: 0, by: "server".to_owned(), reason: "the record is damaged".to_owned() };
                ClassRecord { recorder, class: Class::Sealed, said }
            };
            classes.insert(recorder, class.unwrap_or_else(unreadable));
        }
        let provider = settings.provider.clone().map(oidc::Provider::new).transpose()?;
        let sessions = Sessions::open(store.clone(), clock.now())?;
        let per_s = f64::from(settings.requests_per_s);
        let rates = Rates::new(Rate { burst: per_s * BURST_S, per_s }, None, Instant::now());
        let access = Self {
            inner: Arc::new(Inner {
                store,
                clock,
                settings,
                data: data.map(Path::to_owned),
                read_at: Mutex::default(),
                accounts: RwLock::new(accounts),
                sessions,
                admitted: RwLock::default(),
                classes: RwLock::new(classes),
                classifying: Mutex::default(),
                provider,
                attempts: Attempts::default(),
                rates,
                hashing: Semaphore::new(HASHING_MAX),
            }),
        };
        access.inner.take_in()?;
        Ok(access)
    }

    /// Lets in whoever shows this token, as long as the process runs: for the one who runs it.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a token of less than 16 characters or with spaces in it.
    pub fn admit(&self, token: &str, actor: &str, grants: Grants) -> Result<()> {
        if token.len() < TOKEN_CHARS_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let text = format!("a token needs at least {TOKEN_CHARS_MIN} printable characters without spaces");
            return Err(Error::new(Kind::Invalid, text));
        }
        let token = Digest::of(token.as_bytes());
        let identity = Identity { actor: actor.to_owned(), grants, session: None, token };
        self.inner.admitted.write().unwrap_or_else(PoisonError::into_inner).insert(token, identity);
        Ok(())
    }

    /// Whether anybody can sign in here.
    #[must_use]
    pub fn is_anybody_known(&self) -> bool {
        self.inner.provider.is_some() || !self.inner.accounts.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Whether there is such an account.
    #[must_use]
    pub fn is_known(&self, actor: &str) -> bool {
        self.inner.accounts.read().unwrap_or_else(PoisonError::into_inner).contains_key(actor)
    }

    /// Whether somebody could do a thing to what a department has of any class, as far as that is known: whom the provider knows has roles
    /// here only when they come.
    #[must_use]
    pub fn could(&self, actor: &str, verb: Verb, department: &str) -> bool {
        let allow = |grants: &Grants| grants.allow(verb, department, Class::Sealed);
        let account = {
            let accounts = self.inner.accounts.read().unwrap_or_else(PoisonError::into_inner);
            accounts.get(actor).map(|account| Grants::new(account.grants.clone()))
        };
        let admitted = self.inner.admitted.read().unwrap_or_else(PoisonError::into_inner);
        account.as_ref().is_some_and(allow)
            || admitted.values().any(|who| who.actor == actor && allow(&who.grants))
            || self.inner.provider.is_some() && actor.starts_with(oidc::ACTOR)
    }

    /// Who has this token. Cancel-safe.
    ///
    /// # Errors
    /// When it cannot be known whether they may still come in.
    pub async fn identify(&self, token: &str) -> Result<Option<Identity>> {
        self.refresh(READ_EVERY).await?;
        let digest = Digest::of(token.as_bytes());
        let now = self.inner.clock.now();
        if let Some(session) = self.inner.sessions.find(&digest, now) {
            if session.is_to_note(now) {
                let inner = Arc::clone(&self.inner);
                blocking(move || inner.sessions.note(&digest, now)).await?;
            }
            let SessionRecord { actor, grants, .. } = session;
            let session = Some(sessions::name(&digest));
            return Ok(Some(Identity { actor, grants: Grants::new(grants), session, token: digest }));
        }
        let admitted = self.inner.admitted.read().unwrap_or_else(PoisonError::into_inner);
        Ok(admitted.get(&digest).cloned())
    }

    /// Whether the token with this digest still opens anything; that is no use of it. Cancel-safe.
    ///
    /// # Errors
    /// When it cannot be known.
    pub async fn opens(&self, token: &Digest) -> Result<bool> {
        self.refresh(READ_EVERY).await?;
        let admitted = || self.inner.admitted.read().unwrap_or_else(PoisonError::into_inner).contains_key(token);
        Ok(self.inner.sessions.is_there(token, self.inner.clock.now()) || admitted())
    }

    /// Whether they may ask once more now; all their sessions count together.
    #[must_use]
    pub fn may_ask(&self, who: &Identity) -> bool {
        self.inner.rates.admit(Some(who.actor.clone()), Instant::now())
    }

    /// Somebody shows a name and a password. Takes the same time for a name that nobody has.
    ///
    /// # Errors
    /// Why not.
    pub async fn person(&self, name: &str, password: String, from: Option<IpAddr>) -> Result<Proven, Refused> {
        let account = self.known("account", name).await?;
        let taken = self.take(name, account.is_some(), from)?;
        let turn = tokio::time::timeout(HASHING_WAIT, self.inner.hashing.acquire()).await;
        let busy = || Error::new(Kind::Busy, "too many sign in at once");
        let _turn = turn.map_err(|_| busy())?.map_err(|_| busy())?;
        let kept = account.as_ref().map(|account| account.secret.clone());
        let is = blocking(move || Ok(secrets::is_password(&password, kept.as_ref()))).await?;
        self.proven(account.filter(|_| is), taken)
    }

    /// A service shows its name and its secret.
    ///
    /// # Errors
    /// Why not.
    pub async fn client(&self, name: &str, secret: &str, from: Option<IpAddr>) -> Result<Proven, Refused> {
        let account = self.known("client", name).await?;
        let taken = self.take(name, account.is_some(), from)?;
        let is = secrets::is_secret(secret, account.as_ref().map(|account| &account.secret));
        self.proven(account.filter(|_| is), taken)
    }

    async fn known(&self, kind: &str, name: &str) -> Result<Option<AccountRecord>> {
        self.refresh(Duration::ZERO).await?;
        let accounts = self.inner.accounts.read().unwrap_or_else(PoisonError::into_inner);
        Ok(accounts.get(&format!("{kind}:{name}")).cloned())
    }

    fn take(&self, name: &str, is_known: bool, from: Option<IpAddr>) -> Result<attempts::Taken, Refused> {
        let taken = self.inner.attempts.take(name, is_known, stranger(from), self.inner.clock.now());
        taken.ok_or(Refused::TooOften)
    }

    fn proven(&self, account: Option<AccountRecord>, taken: attempts::Taken) -> Result<Proven, Refused> {
        let AccountRecord { actor, grants, break_glass, changed_at, .. } = account.ok_or(Refused::Wrong)?;
        self.inner.attempts.give_back(taken);
        Ok(Proven { actor, grants, break_glass, changed_at: Some(changed_at) })
    }

    /// Begins a session; durable when it is there.
    ///
    /// # Errors
    /// [`Kind::Unauthorised`] when the account is not that one any more, [`Kind::Busy`] when as many are signed in as can be, and those
    /// of the store.
    pub async fn begin(&self, who: Proven, source: &str) -> Result<SignedIn> {
        let now = self.inner.clock.now();
        let micros = |time: Duration| Micros::try_from(time.as_micros()).unwrap_or(Micros::MAX);
        let (longest, idle_us) = match &who {
            Proven { break_glass: true, .. } => (BREAK_GLASS_US, micros(self.inner.settings.idle)),
            Proven { actor, .. } if actor.starts_with("client:") => (CLIENT_US, 0),
            Proven { .. } => (micros(self.inner.settings.longest), micros(self.inner.settings.idle)),
        };
        let token = secrets::random()?;
        let digest = Digest::of(token.as_bytes());
        let ends_at = now.saturating_add(longest);
        let record = SessionRecord {
            token: digest,
            actor: who.actor,
            source: source.to_owned(),
            grants: who.grants,
            began_at: now,
            ends_at,
            idle_us,
            ended: false,
            seen_at: now,
        };
        let (inner, changed_at) = (Arc::clone(&self.inner), who.changed_at);
        blocking(move || inner.begin(record, changed_at)).await?;
        Ok(SignedIn { token, ends_at, id: sessions::name(&digest) })
    }

    /// The sessions of an actor, or all, the newest first.
    #[must_use]
    pub fn sessions(&self, of: Option<&str>) -> Vec<Session> {
        let mut listed = self.inner.sessions.list(self.inner.clock.now());
        listed.retain(|session| of.is_none_or(|actor| session.record.actor == actor));
        listed
    }

    /// Ends the session with this name. Once it has returned its token opens nothing.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn end(&self, id: String) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.sessions.end(|session| sessions::name(&session.token) == id)).await?;
        Ok(())
    }

    /// The accounts, by actor.
    #[must_use]
    pub fn accounts(&self) -> Vec<AccountRecord> {
        let accounts = self.inner.accounts.read().unwrap_or_else(PoisonError::into_inner);
        let mut listed: Vec<AccountRecord> = accounts.values().cloned().collect();
        listed.sort_unstable_by(|a, b| a.actor.cmp(&b.actor));
        listed
    }

    /// How much the footage of a recorder is kept from eyes.
    #[must_use]
    pub fn class_of(&self, recorder: &RecorderRecord) -> Class {
        let Settings { restricted_departments, restricted_kinds, .. } = &self.inner.settings;
        let configured =
            restricted_departments.contains(&recorder.department) || restricted_kinds.contains(&recorder.kind);
        let least = if configured { Class::Restricted } else { Class::Open };
        self.said_of(recorder.id).map_or(least, |said| said.class.max(least))
    }

    /// What somebody has said of that.
    #[must_use]
    pub fn said_of(&self, recorder: RecorderId) -> Option<ClassRecord> {
        self.inner.classes.read().unwrap_or_else(PoisonError::into_inner).get(&recorder).cloned()
    }

    /// Says how much the footage of a recorder is kept from eyes; durable on return.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn classify(&self, class: ClassRecord) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        let write = move || {
            // Held over both, so that what holds now is what holds after a restart.
            let _classifying = inner.classifying.lock().unwrap_or_else(PoisonError::into_inner);
            inner.store.put_class(&class)?;
            inner.classes.write().unwrap_or_else(PoisonError::into_inner).insert(class.recorder, class);
            Ok(())
        };
        blocking(write).await
    }

    /// Sends a browser to the provider, if there is one.
    ///
    /// # Errors
    /// [`Kind::Busy`] when the provider does not answer, or not as it should.
    pub async fn depart(&self, from: Option<IpAddr>) -> Result<Option<Departure>> {
        let Some(provider) = &self.inner.provider else { return Ok(None) };
        let oidc::Departure { location, browser } = provider.depart(stranger(from), self.inner.clock.now()).await?;
        Ok(Some(Departure { location, browser, secure: provider.is_secure() }))
    }

    /// Whom the provider sends back, if there is one.
    ///
    /// # Errors
    /// Why nobody is signed in.
    pub async fn arrive(&self, arrival: Arrival, browser: &str) -> Result<Option<Proven>, Refused> {
        let Some(provider) = &self.inner.provider else { return Ok(None) };
        provider.arrive(arrival, browser, self.inner.clock.now()).await.map(Some)
    }

    /// Takes in what was left, if that was not done for so long. Cancel-safe.
    async fn refresh(&self, every: Duration) -> Result<()> {
        if self.inner.data.is_none() {
            return Ok(());
        }
        {
            let now = Instant::now();
            let mut read_at = self.inner.read_at.lock().unwrap_or_else(PoisonError::into_inner);
            if read_at.is_some_and(|read| now.saturating_duration_since(read) < every) {
                return Ok(());
            }
            *read_at = Some(now);
        }
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.take_in()).await
    }
}

impl Inner {
    /// Takes in what the command line left: each change is durable with its audit entry, then its sessions end, then the file goes.
    fn take_in(&self) -> Result<()> {
        let Some(data) = &self.data else { return Ok(()) };
        // One at a time, and in the order in which they were left.
        let mut accounts = self.accounts.write().unwrap_or_else(PoisonError::into_inner);
        for (path, account) in words::read(data)? {
            match account {
                Ok(account) => self.change(&mut accounts, account)?,
                Err(error) => tracing::error!(%error, file = %path.display(), "an account that was left does not read"),
            }
            words::forget(&path)?;
        }
        Ok(())
    }

    /// Begins the session of somebody whose account is still the one that was changed last then.
    fn begin(&self, session: SessionRecord, changed_at: Option<Micros>) -> Result<()> {
        // Held until the session is there: whoever changes the account ends it, or has changed it before.
        let accounts = self.accounts.read().unwrap_or_else(PoisonError::into_inner);
        if changed_at.is_some() && accounts.get(&session.actor).map(|account| account.changed_at) != changed_at {
            return Err(Error::new(Kind::Unauthorised, "the account has been changed meanwhile: sign in again"));
        }
        self.sessions.begin(session)
    }

    fn change(&self, accounts: &mut HashMap<String, AccountRecord>, account: AccountRecord) -> Result<()> {
        // No two versions of an account have the same time, whatever the clock says.
        let least = accounts.get(&account.actor).map_or(0, |before| before.changed_at.saturating_add(1));
        let account = AccountRecord { changed_at: self.clock.now().max(least), ..account };
        let was_there = accounts.contains_key(&account.actor);
        if account.removed && !was_there {
            tracing::warn!("an account was to be removed that is not there");
            return Ok(());
        }
        let verb = match (account.removed, was_there) {
            (true, _) => "remove",
            (false, true) => "replace",
            (false, false) => "make",
        };
        let action = format!("{verb} {}{}", account.actor, said(&account));
        let entry = AuditRecord::new(account.changed_at, Event::Account, "command line", "local", action);
        self.store.put_account(&account, &entry.about(account.actor.clone()))?;
        self.sessions.end(|session| session.actor == account.actor)?;
        if account.removed {
            accounts.remove(&account.actor);
        } else {
            accounts.insert(account.actor.clone(), account);
        }
        Ok(())
    }
}

/// The network of whoever is not signed in; none for this machine, where a proxy stands for everybody.
fn stranger(from: Option<IpAddr>) -> Option<IpAddr> {
    from.filter(|address| !address.to_canonical().is_loopback()).map(network)
}

/// What somebody was given, in words.
fn said(account: &AccountRecord) -> String {
    let mut said = String::new();
    for Grant { role, departments } in &account.grants {
        let place = departments.as_ref().map_or_else(|| "all departments".to_owned(), |named| named.join(", "));
        said.push_str(&format!("; {} in {place}", role.name()));
    }
    if account.break_glass {
        said.push_str("; break-glass");
    }
    said
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::new(Kind::Internal, "the task of an account died").because(error))?
}
