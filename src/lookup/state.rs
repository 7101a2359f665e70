//! What the handlers share. Handlers see the log and the clock; the store they reach only through a
//! [`Viewer`](super::viewer::Viewer).

use std::sync::{Arc, Mutex};

use aigaq_proto::RecorderId;
use jiff::tz::TimeZone;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::categories::{Categories, Category};
use super::metrics::Metrics;
use super::viewer::{Behind, Leave};
use crate::access::Access;
use crate::audit::Trail;
use crate::clock::Clock;
use crate::enrol::Registry;
use crate::error::{Error, Kind, Result};
use crate::export::Exports;
use crate::fleet::Fleet;
use crate::http::Rates;
use crate::incident::Incidents;
use crate::log::Reader;
use crate::retention::Retention;
use crate::store::Store;
use crate::webhook::Webhooks;

/// Brings in the recorders that were enrolled meanwhile; blocks.
pub(super) type Import = Arc<dyn Fn() -> Result<()> + Send + Sync>;

/// What the handlers share. Cheap to clone.
#[derive(Clone)]
pub struct State {
    /// The evidence, which nobody gets from here.
    pub(super) behind: Behind,
    /// Who is known.
    pub(super) access: Access,
    pub(super) trail: Arc<Trail>,
    pub(super) log: Arc<Reader>,
    pub(super) log_rate: Arc<Rates<()>>,
    pub(super) numbering: Arc<super::live::Numbering>,
    pub(super) clock: Clock,
    /// What is known of recorders in the field.
    pub(super) fleet: Fleet,
    /// One permit for each report that is written.
    pub(super) reports: Arc<Semaphore>,
    /// One permit for each figure that is counted.
    pub(super) figures: Arc<Semaphore>,
    /// Where a day of a report begins and ends.
    pub(super) time_zone: TimeZone,
    /// What marks may say.
    pub(super) categories: Arc<Categories>,
    pub(super) metrics: Metrics,
    pub(super) import: Import,
    /// Who is enrolled, for those who take identities back.
    pub(super) registry: Option<Arc<Registry>>,
    /// Indexes of clips.
    pub(super) clips: super::exact::Kept,
    /// Who was dark at the last look; nothing before the first.
    pub(super) dark: Arc<Mutex<Option<super::watch::Dark>>>,
    /// Answers that may be asked for again.
    pub(super) answers: Arc<super::again::Answers>,
    /// The turns of those who follow events.
    pub(super) streams: super::events::Streams,
    /// When it is cancelled, answers without an end come to one.
    pub(super) closing: CancellationToken,
    /// Who makes exports.
    exports: Option<Arc<Exports>>,
    /// Who holds and deletes.
    retention: Option<Retention>,
    /// Who deals with incidents.
    incidents: Option<Incidents>,
    /// Who sends on what happens.
    webhooks: Option<Webhooks>,
}

impl State {
    /// Starts the thread of the audit trail, which holds `store` until the last clone of the state is gone.
    ///
    /// # Errors
    /// [`Kind::Internal`](crate::error::Kind::Internal) without a thread.
    pub fn new(
        store: Store,
        log: Arc<Reader>,
        access: Access,
        clock: Clock,
        metrics: Metrics,
        fleet: Fleet,
    ) -> Result<Self> {
        Ok(Self {
            access,
            trail: Arc::new(Trail::start(store.clone(), clock.clone(), metrics.audit.clone())?),
            behind: Behind::new(store, metrics.clone()),
            log,
            log_rate: Arc::new(super::log::rate()),
            numbering: Arc::default(),
            clock,
            fleet,
            reports: Arc::new(Semaphore::new(super::reports::REPORTS_MAX)),
            figures: Arc::new(Semaphore::new(super::statistics::COUNTING_MAX)),
            time_zone: TimeZone::UTC,
            categories: Arc::default(),
            metrics,
            import: Arc::new(|| Ok(())),
            registry: None,
            clips: super::exact::Kept::default(),
            dark: Arc::default(),
            answers: Arc::default(),
            streams: super::events::Streams::default(),
            closing: CancellationToken::new(),
            exports: None,
            retention: None,
            incidents: None,
            webhooks: None,
        })
    }

    /// The same with the recorders that are enrolled: identities can be taken back, and before recorders are listed, those are
    /// brought in that were enrolled meanwhile.
    #[must_use]
    pub fn with_registry(self, registry: Arc<Registry>) -> Self {
        let of_import = Arc::clone(&registry);
        Self { import: Arc::new(move || of_import.import().map(|_| ())), registry: Some(registry), ..self }
    }

    /// The same until `closing`: answers without an end come to one then.
    #[must_use]
    pub fn until(self, closing: CancellationToken) -> Self {
        Self { closing, ..self }
    }

    /// The same with the categories of the site; without them, none.
    #[must_use]
    pub fn with_categories(self, categories: Vec<Category>) -> Self {
        Self { categories: Arc::new(Categories(categories)), ..self }
    }

    /// The same with exports.
    #[must_use]
    pub fn with_exports(self, exports: Arc<Exports>) -> Self {
        Self { exports: Some(exports), ..self }
    }

    /// The same with holds and deletion.
    #[must_use]
    pub fn with_retention(self, retention: Retention) -> Self {
        Self { retention: Some(retention), ..self }
    }

    /// The same with incidents.
    #[must_use]
    pub fn with_incidents(self, incidents: Incidents) -> Self {
        Self { incidents: Some(incidents), ..self }
    }

    /// The same with webhooks.
    #[must_use]
    pub fn with_webhooks(self, webhooks: Webhooks) -> Self {
        Self { webhooks: Some(webhooks), ..self }
    }

    /// Who sends on what happens, for those who have leave.
    pub(super) fn webhooks(&self, _: &impl Leave) -> Result<Webhooks> {
        self.webhooks.clone().ok_or_else(|| Error::new(Kind::Internal, "there are no webhooks"))
    }

    /// Who deals with incidents, for those who have leave.
    pub(super) fn incidents(&self, _: &impl Leave) -> Result<Incidents> {
        self.incidents.clone().ok_or_else(|| Error::new(Kind::Internal, "there are no incidents"))
    }

    /// Who makes exports, for those who have leave.
    pub(super) fn exports(&self, _: &impl Leave) -> Result<Arc<Exports>> {
        self.exports.clone().ok_or_else(|| Error::new(Kind::Busy, "this server makes no exports"))
    }

    /// The recorders of an export, for those who ask for leave; none if there is no such export.
    pub(super) fn recorders_of(&self, export: &str) -> Vec<RecorderId> {
        let record = self.exports.as_ref().and_then(|exports| exports.get(export).ok());
        record.map_or_else(Vec::new, |(record, _)| super::exports::recorders(&record))
    }

    /// Who holds and deletes, for those who have leave.
    pub(super) fn retention(&self, _: &impl Leave) -> Result<Retention> {
        self.retention.clone().ok_or_else(|| Error::new(Kind::Internal, "there is no retention"))
    }

    /// The same with the time zone of the site; without it, UTC.
    #[must_use]
    pub fn in_time_zone(self, time_zone: TimeZone) -> Self {
        Self { time_zone, ..self }
    }
}
