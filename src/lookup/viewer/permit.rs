//! Leave to do one thing: a [`Permit`] for a recorder, a [`Scope`] for those of the departments where somebody may.
//!
//! Nobody else can make either, and the evidence comes from nowhere else; what reads footage demands a `Permit<Watch>`.
//! Each is there only after its audit entry is durable. A recorder that is there but not for this person is answered
//! like one that is not there, with the same bytes after the same work, and is an entry of what was denied.

use std::collections::{BTreeSet, HashMap};
use std::marker::PhantomData;
use std::sync::Arc;

use aigaq_proto::{Digest, RecorderId};
use http::StatusCode;

use super::{Evidence, Viewer, denial};
use crate::access::{self, Access, Class, Grants};
use crate::error::{Error, Kind, Result};
use crate::lookup::problem::Problem;
use crate::store::Store;
use crate::store::records::{AuditRecord, RecorderRecord};

/// What is said of a recorder that is not there, or not for this person.
const ABSENT: &str = "no such recorder is enrolled";

/// A verb as a type, so that leave for one is no leave for another.
pub(in crate::lookup) trait Verb: Send + Sync + 'static {
    /// Which.
    const VERB: access::Verb;
}

macro_rules! verbs {
    ($($name:ident)*) => {$(
        #[doc = concat!("[`", stringify!($name), "`](access::Verb::", stringify!($name), ").")]
        pub(in crate::lookup) enum $name {}

        impl Verb for $name {
            const VERB: access::Verb = access::Verb::$name;
        }
    )*};
}
verbs! { Find Watch Pull Hold Mark Incident Release Export Fetch Undo Assign Report Audit Revoke Classify Administer Count Check }

/// That something was granted, and is written down: what evidence and deeds are handed out against.
pub(in crate::lookup) trait Leave {}

impl<V> Leave for Permit<V> {}
impl<V> Leave for Scope<V> {}

/// Leave to do `V` to one recorder.
pub(in crate::lookup) struct Permit<V> {
    record: Arc<RecorderRecord>,
    evidence: Evidence,
    verb: PhantomData<fn() -> V>,
}

impl<V> Clone for Permit<V> {
    fn clone(&self) -> Self {
        Self { record: Arc::clone(&self.record), evidence: self.evidence.clone(), verb: PhantomData }
    }
}

impl<V> Permit<V> {
    /// The recorder.
    pub(in crate::lookup) fn id(&self) -> RecorderId {
        self.record.id
    }

    /// What is known of it.
    pub(in crate::lookup) fn record(&self) -> &RecorderRecord {
        &self.record
    }

    /// What may be asked.
    pub(in crate::lookup) fn evidence(&self) -> &Evidence {
        &self.evidence
    }
}

/// Leave to do `V` to the recorders that it [`sees`](Scope::sees).
pub(in crate::lookup) struct Scope<V> {
    grants: Grants,
    token: Digest,
    access: Access,
    evidence: Evidence,
    verb: PhantomData<fn() -> V>,
}

impl<V> Clone for Scope<V> {
    fn clone(&self) -> Self {
        let (grants, access, evidence) = (self.grants.clone(), self.access.clone(), self.evidence.clone());
        Self { grants, token: self.token, access, evidence, verb: PhantomData }
    }
}

impl<V: Verb> Scope<V> {
    /// What may be asked, as long as only what is seen is told.
    pub(in crate::lookup) fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// Whether the token for which leave was given still opens anything: what goes on for long ends with it.
    ///
    /// # Errors
    /// When it cannot be known.
    pub(in crate::lookup) async fn holds(&self) -> Result<bool> {
        self.access.opens(&self.token).await
    }

    /// Whether it may be done to this recorder.
    pub(in crate::lookup) fn sees(&self, record: &RecorderRecord) -> bool {
        self.grants.allow(V::VERB, &record.department, self.access.class_of(record))
    }

    /// Whether it may be done to what a department had of this recorder, also if another one has it now.
    pub(in crate::lookup) fn sees_of(&self, department: &str, record: &RecorderRecord) -> bool {
        self.grants.allow(V::VERB, department, self.access.class_of(record))
    }

    /// Whether it may be done to what a department has beside its recorders.
    pub(in crate::lookup) fn sees_department(&self, department: &str) -> bool {
        self.grants.allow(V::VERB, department, Class::Open)
    }

    /// Whether they are told of integrity checks in this department.
    pub(in crate::lookup) fn inspects(&self, department: &str) -> bool {
        self.grants.allow(access::Verb::Check, department, Class::Sealed)
    }

    /// Whether they are told of integrity checks in all departments.
    pub(in crate::lookup) fn inspects_all(&self) -> bool {
        self.grants.allow_everywhere(access::Verb::Check)
    }

    /// In which departments it may be done; `None` for all.
    pub(in crate::lookup) fn departments(&self) -> Option<BTreeSet<String>> {
        self.grants.departments(V::VERB)
    }

    /// Whether it may be done to the whole site.
    pub(in crate::lookup) fn sees_all(&self) -> bool {
        self.grants.allow_everywhere(V::VERB)
    }

    /// Where the same person may do another thing, within the same request.
    pub(in crate::lookup) fn also<W: Verb>(&self) -> Scope<W> {
        let (grants, access, evidence) = (self.grants.clone(), self.access.clone(), self.evidence.clone());
        Scope { grants, token: self.token, access, evidence, verb: PhantomData }
    }

    /// The same for many recorders by their identifiers, each looked up once.
    pub(in crate::lookup) fn glance(&self) -> Glance<'_, V> {
        Glance { scope: self, known: HashMap::new() }
    }
}

/// Leave to deal with what is one's own.
pub(in crate::lookup) struct Own {
    /// The name of the session that asks, if it is one.
    pub(in crate::lookup) session: Option<String>,
    /// Whether the sessions of others are theirs to deal with, too.
    pub(in crate::lookup) administers: bool,
}

/// Which recorders of a long list are seen.
pub(in crate::lookup) struct Glance<'a, V> {
    scope: &'a Scope<V>,
    known: HashMap<RecorderId, bool>,
}

impl<V: Verb> Glance<'_, V> {
    /// Whether it may be done to this recorder. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub(in crate::lookup) fn sees(&mut self, store: &Store, id: RecorderId) -> Result<bool> {
        if let Some(known) = self.known.get(&id) {
            return Ok(*known);
        }
        let sees = store.recorder(id)?.is_some_and(|record| self.scope.sees(&record));
        self.known.insert(id, sees);
        Ok(sees)
    }

    /// Whether there is such a recorder and it may not be done to it. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub(in crate::lookup) fn hides(&mut self, store: &Store, id: RecorderId) -> Result<bool> {
        Ok(!self.sees(store, id)? && store.recorder(id)?.is_some())
    }

    /// Whether it may be done to each of these. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub(in crate::lookup) fn sees_each(&mut self, store: &Store, ids: &[RecorderId]) -> Result<bool> {
        for id in ids {
            if !self.sees(store, *id)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Viewer {
    /// Leave to do `V` to a recorder.
    ///
    /// # Errors
    /// 404 if it is not there or not for them, 403 if `V` is nothing they may do or wants a reason, and when the trail cannot be
    /// written.
    pub(in crate::lookup) async fn of<V: Verb>(&self, id: RecorderId) -> Result<Permit<V>, Problem> {
        self.one::<V>(Some(id), ABSENT).await
    }

    /// The same for the recorder that a thing belongs to, of which `absent` is said when it is not there or not for them; a thing
    /// that is not there belongs to none.
    pub(in crate::lookup) async fn one<V: Verb>(
        &self,
        id: Option<RecorderId>,
        absent: &'static str,
    ) -> Result<Permit<V>, Problem> {
        let permits = self.each::<V>(id.as_slice(), absent).await?;
        permits.into_iter().next().ok_or_else(|| Error::new(Kind::NotFound, absent).into())
    }

    /// The same for a recorder and, in the answer, others beside it: leave for the one, and for those of the departments where they may.
    ///
    /// # Errors
    /// As [`Viewer::of`].
    pub(in crate::lookup) async fn of_among<V: Verb>(&self, id: RecorderId) -> Result<(Permit<V>, Scope<V>), Problem> {
        Ok((self.of(id).await?, self.of_departments()))
    }

    /// The same for what belongs to several recorders: leave for each or for none. Without any, it is not there.
    pub(in crate::lookup) async fn each<V: Verb>(
        &self,
        ids: &[RecorderId],
        absent: &'static str,
    ) -> Result<Vec<Permit<V>>, Problem> {
        let entry = self.asked.clone();
        let mut denied = entry.clone();
        if denied.object.is_empty() {
            let named: Vec<String> = ids.iter().map(ToString::to_string).collect();
            denied.object = named.join(" ");
        }
        if !self.who.grants.allow_somewhere(V::VERB) {
            return Err(self.forbid(denied, "their roles do not allow it", ROLE).await);
        }
        let (wanted, import) = (ids.to_vec(), Arc::clone(&self.import));
        let (grants, access) = (self.who.grants.clone(), self.access.clone());
        let records = self.evidence.ask(move |store| {
            let find = || wanted.iter().map(|id| store.recorder(*id)).collect::<Result<Vec<_>>>();
            let theirs = |record: &RecorderRecord| grants.allow(V::VERB, &record.department, access.class_of(record));
            let mut found = find()?;
            // What is not theirs is looked for once more as well, so that the time does not tell it from what is not there.
            if !found.iter().all(|record| record.as_ref().is_some_and(theirs)) {
                import()?;
                found = find()?;
            }
            let is_there = !found.is_empty() && found.iter().all(Option::is_some);
            let found: Vec<RecorderRecord> = found.into_iter().flatten().collect();
            let theirs = found.iter().all(theirs);
            Ok((is_there, theirs, found))
        });
        let (is_there, theirs, records) = records.await?;
        let class = |record: &RecorderRecord| self.access.class_of(record);
        if !is_there || !theirs {
            let denied = denial(&self.who, denied);
            self.trail.write(if theirs { entry } else { denied }).await?;
            return Err(Error::new(Kind::NotFound, absent).into());
        }
        let needs_reason = V::VERB.shows() && records.iter().any(|record| class(record) > Class::Open);
        if needs_reason && entry.reason.is_empty() {
            return Err(self.forbid(denied, "no reason was given", REASON).await);
        }
        self.trail.write(entry).await?;
        let permit = |record| Permit { record: Arc::new(record), evidence: self.evidence.clone(), verb: PhantomData };
        Ok(records.into_iter().map(permit).collect())
    }

    /// Leave to do `V` to those recorders of whose departments they may.
    ///
    /// # Errors
    /// 403 if that is nothing they may do anywhere, and when the trail cannot be written.
    pub(in crate::lookup) async fn over<V: Verb>(&self) -> Result<Scope<V>, Problem> {
        self.scope(self.who.grants.allow_somewhere(V::VERB), ROLE).await
    }

    /// The same for one thing that is not of one recorder: `sees` blocks and says whether it is theirs, also of one that is not there.
    ///
    /// # Errors
    /// As [`Viewer::over`], those of `sees`, and 404 with `absent` if it is not theirs.
    pub(in crate::lookup) async fn over_if<V: Verb>(
        &self,
        absent: &'static str,
        sees: impl FnOnce(&Store, &Scope<V>) -> Result<bool> + Send + 'static,
    ) -> Result<Scope<V>, Problem> {
        if !self.who.grants.allow_somewhere(V::VERB) {
            return Err(self.forbid(self.asked.clone(), "their roles do not allow it", ROLE).await);
        }
        let scope = self.of_departments::<V>();
        if !self.evidence.ask(move |store| sees(store, &scope)).await? {
            return Err(self.absent(absent).await);
        }
        self.over().await
    }

    /// Leave to do `V` to the whole site.
    ///
    /// # Errors
    /// 403 if they may not, or not everywhere, and when the trail cannot be written.
    pub(in crate::lookup) async fn whole<V: Verb>(&self) -> Result<Scope<V>, Problem> {
        self.scope(self.who.grants.allow_everywhere(V::VERB), WHOLE).await
    }

    /// Leave to deal with what is one's own: their session, and whether that of others is theirs to deal with, too.
    ///
    /// # Errors
    /// When the trail cannot be written.
    pub(in crate::lookup) async fn own(&self) -> Result<Own, Problem> {
        self.trail.write(self.asked.clone()).await?;
        Ok(Own { session: self.who.session.clone(), administers: self.administers() })
    }

    /// Whether they administer the whole site.
    pub(in crate::lookup) fn administers(&self) -> bool {
        self.who.grants.allow_everywhere(access::Verb::Administer)
    }

    async fn scope<V: Verb>(&self, may: bool, told: &'static str) -> Result<Scope<V>, Problem> {
        if !may {
            return Err(self.forbid(self.asked.clone(), "their roles do not allow it", told).await);
        }
        self.trail.write(self.asked.clone()).await?;
        Ok(self.of_departments())
    }

    /// What they may, whether it is written down yet or not.
    fn of_departments<V>(&self) -> Scope<V> {
        let (grants, access) = (self.who.grants.clone(), self.access.clone());
        Scope { grants, token: self.who.token, access, evidence: self.evidence.clone(), verb: PhantomData }
    }

    /// Whether what was granted would be with this class, too.
    pub(in crate::lookup) fn may<V: Verb>(&self, permit: &Permit<V>, class: Class) -> bool {
        self.who.grants.allow(V::VERB, &permit.record.department, class)
    }

    /// What is answered of a thing that is more than was granted, once that is written down.
    pub(in crate::lookup) async fn refused(&self, told: &'static str) -> Problem {
        self.forbid(self.asked.clone(), told, told).await
    }

    /// What is answered of a thing that is there but not for them, once that is written down.
    pub(in crate::lookup) async fn absent(&self, absent: &'static str) -> Problem {
        match self.trail.write(denial(&self.who, self.asked.clone())).await {
            Ok(()) => Error::new(Kind::NotFound, absent).into(),
            Err(error) => error.into(),
        }
    }

    /// Writes down that it was denied, and says so.
    async fn forbid(&self, entry: AuditRecord, why: &str, told: &'static str) -> Problem {
        let action = format!("{}: {why}", entry.action);
        match self.trail.write(AuditRecord { action, ..denial(&self.who, entry) }).await {
            Ok(()) => Problem::new(StatusCode::FORBIDDEN, told),
            Err(error) => error.into(),
        }
    }
}

const ROLE: &str = "your roles do not allow this";
const WHOLE: &str = "this concerns the whole site: your roles do not allow it, or not in all departments";
const REASON: &str = "this footage is not open: say why you want it in the header x-aigaq-reason";
