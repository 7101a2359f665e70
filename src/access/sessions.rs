//! Who has signed in: bearer tokens that are over some time, also after a restart of the server.
//!
//! A session is durable before its token is known to anybody. It is over at its end, after some time without a request, when it is
//! ended, or when its account changes; what was over stays so after a restart. When it was used last is on disk to a quarter of the time
//! that it may be without a request, so that a restart shortens that time by no more. The number of sessions is bounded, for
//! each actor too: the oldest makes room.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use aigaq_proto::{Digest, Micros};

use crate::error::{Error, Kind, Result};
use crate::store::Store;
use crate::store::records::SessionRecord;

/// Sessions at once, in all and of one actor.
const SESSIONS_MAX: usize = 10_000;
const ACTOR_SESSIONS_MAX: usize = 50;
/// Hexadecimal digits of a session's name.
const NAME_CHARS: usize = 16;
/// A use is written down after this part of the time that a session may be without one.
const NOTED_PART: Micros = 4;

/// A session that is not over.
#[derive(Debug)]
struct Live {
    slot: u32,
    record: SessionRecord,
    seen_at: std::sync::atomic::AtomicU64,
}

impl Live {
    fn new(slot: u32, record: SessionRecord) -> Self {
        let seen_at = record.seen_at.into();
        Self { slot, record, seen_at }
    }

    fn seen_at(&self) -> Micros {
        self.seen_at.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn is_over(&self, now: Micros) -> bool {
        let idle = self.record.idle_us;
        now >= self.record.ends_at || idle > 0 && now.saturating_sub(self.seen_at()) >= idle
    }
}

impl SessionRecord {
    /// Whether a use of now has to be written down.
    pub(super) fn is_to_note(&self, now: Micros) -> bool {
        self.idle_us > 0 && now.saturating_sub(self.seen_at) >= self.idle_us / NOTED_PART
    }
}

/// A session as it is shown.
#[derive(Debug, Clone)]
pub struct Session {
    /// Its name, which does not tell its token.
    pub id: String,
    /// What is known of it.
    pub record: SessionRecord,
    /// When it was used last.
    pub seen_at: Micros,
}

/// The name of the session with a token of this digest.
pub(super) fn name(token: &Digest) -> String {
    let mut name = Digest::of(&token.0).to_string();
    name.truncate(NAME_CHARS);
    name
}

/// Every session.
pub(super) struct Sessions {
    store: Store,
    /// By the digest of the token.
    live: RwLock<HashMap<Digest, Live>>,
    /// Held while one is written.
    writing: Mutex<()>,
}

impl Sessions {
    /// Those that were not over when the server stopped.
    pub(super) fn open(store: Store, now: Micros) -> Result<Self> {
        let mut live = HashMap::new();
        for session in store.sessions() {
            let (slot, record) = match session {
                Ok(session) => session,
                // Whoever it was signs in again.
                Err(error) if error.kind() == Kind::Damaged => continue,
                Err(error) => return Err(error),
            };
            let session = Live::new(slot, record);
            if !session.record.ended && !session.is_over(now) {
                live.insert(session.record.token, session);
            }
        }
        Ok(Self { store, live: RwLock::new(live), writing: Mutex::default() })
    }

    /// The session with a token of this digest, which is used now.
    pub(super) fn find(&self, token: &Digest, now: Micros) -> Option<SessionRecord> {
        let live = self.live();
        let session = live.get(token).filter(|session| !session.is_over(now))?;
        session.seen_at.fetch_max(now, std::sync::atomic::Ordering::Relaxed);
        Some(session.record.clone())
    }

    /// Whether the session with a token of this digest is not over.
    pub(super) fn is_there(&self, token: &Digest, now: Micros) -> bool {
        self.live().get(token).is_some_and(|session| !session.is_over(now))
    }

    /// Makes a session durable. Blocks.
    ///
    /// # Errors
    /// [`Kind::Busy`] when there are as many as there may be, and those of the store.
    pub(super) fn begin(&self, record: SessionRecord) -> Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let now = record.began_at;
        let (slot, oldest) = {
            let mut live = self.live_mut();
            live.retain(|_, session| !session.is_over(now));
            let mut of_actor: Vec<_> =
                live.values().filter(|session| session.record.actor == record.actor).map(|one| &one.record).collect();
            of_actor.sort_unstable_by_key(|one| one.began_at);
            let oldest = of_actor.first().filter(|_| of_actor.len() >= ACTOR_SESSIONS_MAX).map(|one| one.token);
            if oldest.is_none() && live.len() >= SESSIONS_MAX {
                return Err(Error::new(Kind::Busy, "as many are signed in as can be"));
            }
            let used: BTreeSet<u32> = live.values().map(|session| session.slot).collect();
            let free = (0..).zip(&used).find(|(slot, used)| slot != *used).map(|(slot, _)| slot);
            (free.unwrap_or(u32::try_from(used.len()).unwrap_or(u32::MAX)), oldest)
        };
        if let Some(oldest) = oldest {
            self.write_end(&oldest)?;
        }
        self.store.put_session(slot, &record)?;
        self.live_mut().insert(record.token, Live::new(slot, record));
        Ok(())
    }

    /// Writes down that a session was used, unless that was done meanwhile or it is over. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) fn note(&self, token: &Digest, now: Micros) -> Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let used = {
            let mut live = self.live_mut();
            let session = live.get_mut(token).filter(|session| session.record.is_to_note(now));
            session.map(|session| {
                session.record.seen_at = now;
                (session.slot, session.record.clone())
            })
        };
        used.map_or(Ok(()), |(slot, record)| self.store.put_session(slot, &record))
    }

    /// Ends those that `which` names; how many. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) fn end(&self, which: impl Fn(&SessionRecord) -> bool) -> Result<usize> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let named = |(token, session): (&Digest, &Live)| which(&session.record).then_some(*token);
        let tokens: Vec<Digest> = self.live().iter().filter_map(named).collect();
        for token in &tokens {
            self.write_end(token)?;
        }
        Ok(tokens.len())
    }

    /// Opens nothing from now on, also if it cannot be made durable.
    fn write_end(&self, token: &Digest) -> Result<()> {
        match self.live_mut().remove(token) {
            Some(Live { slot, record, .. }) => self.store.put_session(slot, &SessionRecord { ended: true, ..record }),
            None => Ok(()),
        }
    }

    /// Those that are not over, the newest first.
    pub(super) fn list(&self, now: Micros) -> Vec<Session> {
        let live = self.live();
        let shown = live.iter().filter(|(_, session)| !session.is_over(now)).map(|(token, session)| Session {
            id: name(token),
            record: session.record.clone(),
            seen_at: session.seen_at(),
        });
        let mut listed: Vec<Session> = shown.collect();
        listed.sort_unstable_by(|a, b| (b.record.began_at, &b.id).cmp(&(a.record.began_at, &a.id)));
        listed
    }

    fn live(&self) -> RwLockReadGuard<'_, HashMap<Digest, Live>> {
        self.live.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn live_mut(&self) -> RwLockWriteGuard<'_, HashMap<Digest, Live>> {
        self.live.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> Store {
        Store::with_engine(std::sync::Arc::new(crate::store::engine::memory::Memory::default())).unwrap()
    }

    const BEGAN: Micros = 1_000_000_000_000;
    const MINUTE: Micros = 60_000_000;

    fn record(number: u64, actor: &str) -> SessionRecord {
        SessionRecord {
            token: Digest::of(&number.to_be_bytes()),
            actor: actor.to_owned(),
            source: String::new(),
            grants: Vec::new(),
            began_at: BEGAN + number,
            ends_at: BEGAN + 60 * MINUTE,
            idle_us: 10 * MINUTE,
            ended: false,
            seen_at: BEGAN + number,
        }
    }

    #[test]
    fn a_session_is_over_at_its_end_and_after_a_time_without_a_request() {
        let store = store();
        let sessions = Sessions::open(store.clone(), BEGAN).unwrap();
        sessions.begin(record(1, "account:anna")).unwrap();
        let token = record(1, "").token;
        for minutes in (0..=54).step_by(9) {
            assert!(sessions.find(&token, BEGAN + minutes * MINUTE).is_some(), "used often enough, at {minutes}");
        }
        assert!(sessions.find(&token, BEGAN + 60 * MINUTE).is_none(), "whoever is busy signs in again, too");
    }

    #[test]
    fn a_restart_ends_no_session_and_brings_none_back() {
        let store = store();
        let sessions = Sessions::open(store.clone(), BEGAN).unwrap();
        sessions.begin(record(0, "account:anna")).unwrap();
        let token = record(0, "").token;
        for minutes in [2, 5, 7] {
            let used = sessions.find(&token, BEGAN + minutes * MINUTE).unwrap();
            assert_eq!(used.is_to_note(BEGAN + minutes * MINUTE), minutes == 5, "at {minutes}");
            sessions.note(&token, BEGAN + minutes * MINUTE).unwrap();
        }
        let open = |minutes| Sessions::open(store.clone(), BEGAN + minutes * MINUTE).unwrap();
        let again = open(14);
        assert!(again.find(&token, BEGAN + 14 * MINUTE).is_some(), "it was used after five minutes");
        assert!(again.find(&token, BEGAN + 24 * MINUTE).is_none(), "ten minutes without a request");
        assert!(sessions.list(BEGAN + 20 * MINUTE).is_empty());
        assert!(open(21).find(&token, BEGAN + 21 * MINUTE).is_none(), "what was over stays so");
    }

    #[test]
    fn a_session_that_was_written_without_its_last_use_reads_and_is_over() {
        let mut stored =
            crate::store::records::encode(&SessionRecord { seen_at: 1, ..record(1, "account:anna") }).unwrap();
        assert_eq!(stored.pop(), Some(1));
        let read: SessionRecord = crate::store::records::decode(&stored, "sessions").unwrap();
        assert_eq!(read, SessionRecord { seen_at: 0, ..record(1, "account:anna") });
        assert!(Live::new(0, read).is_over(BEGAN + 2));
    }

    #[test]
    fn what_was_ended_stays_so_and_leaves_its_slot_to_another() {
        let store = store();
        let sessions = Sessions::open(store.clone(), BEGAN).unwrap();
        for number in 1..=3 {
            sessions.begin(record(number, "account:anna")).unwrap();
        }
        assert_eq!(sessions.end(|session| session.token == record(2, "").token).unwrap(), 1);
        assert!(sessions.find(&record(2, "").token, BEGAN + 5).is_none());
        assert_eq!(Sessions::open(store.clone(), BEGAN + 5).unwrap().list(BEGAN + 5).len(), 2);
        sessions.begin(record(4, "account:berik")).unwrap();
        assert_eq!(store.sessions().count(), 3, "its slot is used again");
        assert_eq!(sessions.end(|session| session.actor == "account:anna").unwrap(), 2);
        assert_eq!(sessions.list(BEGAN + 5).len(), 1);
    }

    #[test]
    fn the_oldest_session_of_an_actor_makes_room() {
        let sessions = Sessions::open(store(), BEGAN).unwrap();
        for number in 0..=ACTOR_SESSIONS_MAX as u64 {
            sessions.begin(record(number, "client:dispatch")).unwrap();
        }
        let now = BEGAN + 1_000;
        assert_eq!(sessions.list(now).len(), ACTOR_SESSIONS_MAX);
        assert!(
            sessions.find(&record(0, "").token, now).is_none() && sessions.find(&record(1, "").token, now).is_some()
        );
    }
}
