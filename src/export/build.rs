//! One bundle, from the order to the finished file. Blocks; runs on a thread of its own.
//!
//! The checkpoint is taken first, and a link that came into the log after it is not in the bundle: every proof leads to one root.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use aigaq_proto::{Digest, Micros, RecorderId, receipt, statement};
use data_encoding::BASE64;

use super::archive::Archive;
use super::chain::{self, Chain};
use super::footage::{self, Footage};
use super::job::{Bundle, Job, Order};
use super::plan::Plan;
use super::signer::Signer;
use super::{Hole, Source, readme};
use crate::bundle::line::Clock;
use crate::bundle::{self, about, manifest};
use crate::error::{Context as _, Error, Kind, Result};
use crate::log::Tree;
use crate::store::records::{RecorderRecord, RevocationListRecord};

/// Room that a bundle leaves on the disk, bytes.
const FREE_BYTES_MIN: u64 = 512 << 20;
/// What a line of a chain takes, bytes, estimated above.
const LINE_BYTES: u64 = 3 * 1024;
/// What every bundle has.
const SMALL_FILES_BYTES: u64 = 1 << 20;
/// How many entries of the audit trail are in a bundle at most.
const CUSTODY_MAX: usize = 100_000;

/// What became of one recorder.
struct Told {
    delivered: manifest::Delivered,
    gaps: about::RecorderGaps,
    markers: Vec<about::Marker>,
    arrived: Option<(Micros, Micros)>,
}

/// Builds the bundle of an order.
pub(super) struct Builder<'a> {
    pub(super) source: &'a Source,
    pub(super) job: &'a Job,
    pub(super) id: &'a str,
    pub(super) order: &'a Order,
    pub(super) now: Micros,
    /// Counts what is not what was received.
    pub(super) damaged: &'a prometheus::IntCounter,
}

impl Builder<'_> {
    /// Writes the bundle into `path`. What is there is replaced.
    ///
    /// # Errors
    /// [`Kind::StorageFull`] when there is too little room, [`Kind::Busy`] when the job was given up, and those of the store.
    pub(super) fn build(&self, path: &Path) -> Result<Bundle> {
        let range = self.order.from..self.order.to;
        let mut plans = Vec::new();
        for id in self.order.recorders() {
            let absent = || Error::new(Kind::NotFound, format!("no recorder {id} is enrolled"));
            let record = self.source.store.recorder(id)?.ok_or_else(absent)?;
            plans.push((record, Plan::of(&self.source.store, id, &range)?));
            self.job.go_on()?;
        }
        let last_index = self.last_index(&plans)?;
        let tree = self.source.log.tree_with(last_index)?;
        if let Some(stamps) = &self.source.stamps {
            tokio::runtime::Handle::current().block_on(stamps.stamp(tree.size));
        }
        let bytes = plans.iter().map(|(_, plan)| plan.bytes).fold(0, u64::saturating_add);
        let links = plans.iter().map(|(_, plan)| plan.main.end.saturating_sub(plan.main.start));
        let lines = links.fold(0, u64::saturating_add).saturating_mul(LINE_BYTES);
        self.check_room(bytes.saturating_add(lines).saturating_add(SMALL_FILES_BYTES))?;
        self.job.begin(bytes);
        let directory = format!("export-{}-{}", self.id, compact(self.now));
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
        let file = file.context(Kind::Internal, format!("cannot make {}", path.display()))?;
        let mut archive = Archive::new(file, &directory);
        let mut told = Vec::new();
        for (record, plan) in &plans {
            self.check_room(plan.bytes.saturating_add(SMALL_FILES_BYTES))?;
            told.push(self.recorder(record, plan, &tree, &mut archive)?);
        }
        self.timestamps(last_index, &tree, &mut archive)?;
        self.finish(told, &tree, &directory, archive)
    }

    /// The earliest time stamp over a checkpoint with all the links, and the one over the checkpoint of the bundle; as far as there
    /// are any.
    fn timestamps(&self, last_index: u64, tree: &Tree, archive: &mut Archive) -> Result<()> {
        let log = &self.source.log;
        let earliest = log.stamp(last_index.saturating_add(1)..tree.size)?;
        let own = log.stamp(tree.size..tree.size.saturating_add(1))?;
        for stamp in earliest.iter().chain(&own) {
            let (size, line) = (stamp.tree.size, |hash: &Digest| format!("{}\n", BASE64.encode(&hash.0)));
            let consistency: String = log.prove_consistency(size, tree)?.iter().map(line).collect();
            archive.add(&bundle::stamped(size), stamp.tree.checkpoint.as_bytes())?;
            archive.add(&bundle::timestamp(size), &stamp.answer)?;
            archive.add(&bundle::consistency(size), consistency.as_bytes())?;
        }
        Ok(())
    }

    /// The index in the log of the last link that goes into the bundle; 0 without links.
    fn last_index(&self, plans: &[(RecorderRecord, Plan)]) -> Result<u64> {
        plans.iter().try_fold(0, |last, (record, plan)| {
            let Some(sequence) = plan.main.end.checked_sub(1).filter(|end| *end >= plan.main.start) else {
                return Ok(last);
            };
            let link = self.source.store.link(record.id, sequence)?;
            Ok(link.map_or(last, |link| last.max(link.log_index)))
        })
    }

    fn check_room(&self, needed: u64) -> Result<()> {
        let free = self.source.store.space()?.free;
        if free < needed.saturating_add(FREE_BYTES_MIN) {
            let text = format!("the bundle needs {needed} bytes and the disk has {free}, of which some stay free");
            return Err(Error::new(Kind::StorageFull, text));
        }
        Ok(())
    }

    fn recorder(&self, record: &RecorderRecord, plan: &Plan, tree: &Tree, archive: &mut Archive) -> Result<Told> {
        let (source, id) = (self.source, record.id);
        let footage =
            footage::write(&source.store, id, &(self.order.from..self.order.to), plan, tree.size, archive, self.job)?;
        self.damaged.inc_by(footage.damaged.len() as u64);
        let writer = chain::Writer {
            store: &source.store,
            log: &source.log,
            tree,
            recorder: record,
            plan,
            footage: &footage,
            job: self.job,
        };
        let chain = writer.write(archive)?;
        writer.track(archive)?;
        archive.add(&bundle::certificates(id), chain::certificates(&source.store, id, &chain.keys)?.as_bytes())?;
        let keys: String = chain.keys.values().map(|spki| public_key(spki)).collect();
        archive.add(&bundle::keys(id), keys.as_bytes())?;
        for (sequence, entry, index) in &chain.run_ends {
            let proof = source.log.tlog_proof(entry, *index, tree)?;
            archive.add(&bundle::proof(id, *sequence), proof.as_bytes())?;
        }
        let gaps = self.gaps(id, &chain, &footage)?;
        let verdict = verdict(&chain, &footage, &gaps).to_owned();
        let delivered = manifest::Delivered {
            recorder: id,
            department: record.department.clone(),
            label: record.label.clone(),
            verdict,
            sequences: chain.sequences,
            media: footage.media,
        };
        Ok(Told { delivered, gaps, markers: chain.markers, arrived: chain.arrived })
    }

    fn gaps(&self, id: RecorderId, chain: &Chain, footage: &Footage) -> Result<about::RecorderGaps> {
        let mut holes = (self.source.holes)(&self.source.store, id, self.order.from, self.order.to)?;
        let within = |at: Micros| at.clamp(self.order.from, self.order.to);
        let damaged = footage.damaged.iter().map(|(from, to)| Hole::damaged(within(*from), within(*to)));
        holes.extend(damaged);
        holes.sort_by_key(|hole| (hole.from, hole.to));
        let unproven =
            holes.last().filter(|hole| hole.to == self.order.to && matches!(hole.cause, "pending" | "not-uploaded"));
        let unproven_from = unproven.map(|hole| about::time(hole.from));
        let gaps = holes.iter().map(|hole| gap(hole, chain.clock)).collect();
        Ok(about::RecorderGaps { recorder: id, gaps, unproven_from })
    }

    /// What is there once for all recorders, then the manifest over everything.
    fn finish(&self, told: Vec<Told>, tree: &Tree, directory: &str, mut archive: Archive) -> Result<Bundle> {
        let (source, order) = (self.source, self.order);
        let log_key = source.log.key();
        let signer = Signer::new(&(source.exporter)()?)?;
        archive.add(bundle::CHECKPOINT, tree.checkpoint.as_bytes())?;
        archive.add(bundle::LOG_KEY, format!("{}\n", log_key.as_str()).as_bytes())?;
        if !source.log.succession().is_empty() {
            archive.add(bundle::SUCCESSION, source.log.succession().as_bytes())?;
        }
        archive.add(bundle::EXPORTER, signer.pem().as_bytes())?;
        let anchors: String = source.anchors.iter().map(|anchor| crate::est::to_pem(anchor)).collect();
        archive.add(bundle::ANCHORS, anchors.as_bytes())?;
        archive.add(bundle::VERIFIER, readme::VERIFIER.as_bytes())?;
        self.revocation_lists(&told, &mut archive)?;
        let gaps = about::Gaps { recorders: told.iter().map(|told| told.gaps.clone()).collect() };
        archive.add_json(bundle::GAPS, &gaps)?;
        let markers: Vec<_> = told.iter().flat_map(|told| told.markers.clone()).collect();
        archive.add_json(bundle::MARKERS, &markers)?;
        self.custody(tree, &mut archive)?;
        let mut manifest = manifest::Manifest {
            format: bundle::FORMAT.to_owned(),
            export: self.id.to_owned(),
            created_at: about::time(self.now),
            software: concat!("aigaq ", env!("CARGO_PKG_VERSION")).to_owned(),
            operator: order.operator.clone(),
            unit: log_key.origin().to_owned(),
            purpose: order.purpose.clone(),
            reason: order.reason.clone(),
            requested: manifest::Requested {
                recorders: order.recorders.clone(),
                from: about::time(order.from),
                to: about::time(order.to),
            },
            delivered: told.into_iter().map(|told| told.delivered).collect(),
            log: log_key.as_str().to_owned(),
            files: Vec::new(),
        };
        archive.add(bundle::README, readme::text(&manifest, directory).as_bytes())?;
        manifest.files = archive.files().to_vec();
        let text = archive.add_json(bundle::MANIFEST, &manifest)?;
        let sums: String = archive.files().iter().map(|file| format!("{}  {}\n", file.sha256, file.path)).collect();
        archive.add(bundle::SUMS, sums.as_bytes())?;
        archive.add(bundle::SIGNATURE, &signer.sign(&text)?)?;
        let bytes = archive.finish()?;
        let verdicts = manifest.delivered.iter().map(|one| (one.recorder.to_string(), one.verdict.clone())).collect();
        Ok(Bundle { name: format!("{directory}.zip"), bytes, manifest: Digest::of(&text), verdicts })
    }

    /// The lists that were in use while the footage came in: the one that was there before, and all until its end.
    fn revocation_lists(&self, told: &[Told], archive: &mut Archive) -> Result<()> {
        let first = told.iter().filter_map(|told| told.arrived).map(|(first, _)| first).min();
        let last = told.iter().filter_map(|told| told.arrived).map(|(_, last)| last).max();
        let (Some(first), Some(last)) = (first, last) else { return Ok(()) };
        let mut lists = self.source.store.revocation_lists().collect::<Result<Vec<RevocationListRecord>>>()?;
        lists.sort_by_key(|list| list.first_at);
        let before = lists.iter().filter(|list| list.first_at <= first).map(|list| list.first_at).max();
        for list in
            lists.iter().filter(|list| list.first_at <= last && before.is_none_or(|before| list.first_at >= before))
        {
            let name = format!("{}{}.crl", bundle::REVOCATION_LISTS, Digest::of(&list.der));
            archive.add(&name, &list.der)?;
        }
        Ok(())
    }

    /// Who has looked at these recorders until now.
    fn custody(&self, tree: &Tree, archive: &mut Archive) -> Result<()> {
        archive.begin(bundle::CUSTODY)?;
        let mut written = 0;
        for entry in self.source.store.audit_entries(0..self.now.saturating_add(1)) {
            let entry = entry?;
            let concerns = |recorder: &String| entry.object.contains(recorder) || entry.action.contains(recorder);
            if !self.order.recorders.iter().any(concerns) {
                continue;
            }
            self.job.go_on()?;
            written += 1;
            if written > CUSTODY_MAX {
                return Err(Error::new(Kind::Invalid, "the trail of these recorders is too long for one bundle"));
            }
            let stored = crate::store::records::encode(&entry)?;
            let leaf = self.source.store.audit_leaf(entry.number)?.filter(|leaf| leaf.log_index < tree.size);
            let proof = leaf.map(|leaf| {
                let of_log = receipt::entry(&statement::digest(&stored), entry.at);
                self.source.log.prove_entry(&of_log, leaf.log_index, tree)
            });
            archive.line(&about::Custody {
                at: about::time(entry.at),
                entry: stored,
                actor: entry.actor,
                source: entry.source,
                action: entry.action,
                reason: entry.reason,
                outcome: entry.outcome,
                log_index: leaf.map(|leaf| leaf.log_index),
                proof: proof.transpose()?.unwrap_or_default(),
            })?;
        }
        Ok(())
    }
}

/// What the exporter makes of a recorder.
fn verdict(chain: &Chain, footage: &Footage, gaps: &about::RecorderGaps) -> &'static str {
    let lacks = chain.missing > 0 || !footage.damaged.is_empty() || footage.deleted;
    match () {
        () if chain.unsigned > 0 && chain.keys.is_empty() => "unsigned",
        () if chain.breaks > 0 || chain.forks > 0 || chain.unsigned > 0 => "not-authentic",
        () if lacks || !gaps.gaps.is_empty() => "authentic-with-gaps",
        () => "authentic",
    }
}

fn gap(hole: &Hole, clock: Option<Clock>) -> about::Gap {
    let missing = hole.missing.iter().map(|(first, last, cause)| about::Missing {
        first: *first,
        last: *last,
        cause: (*cause).to_owned(),
    });
    about::Gap {
        from: about::time(hole.from),
        to: about::time(hole.to),
        corrected: clock.map(|clock| (about::time(clock.corrected(hole.from)), about::time(clock.corrected(hole.to)))),
        cause: hole.cause.to_owned(),
        stop: hole.stop.clone(),
        loss: hole.loss.clone(),
        missing: missing.collect(),
        missing_count: hole.missing_count,
    }
}

/// A public key as PEM (RFC 7468).
fn public_key(spki: &[u8]) -> String {
    crate::est::to_pem(spki).replace(" CERTIFICATE-", " PUBLIC KEY-")
}

/// `yyyymmddThhmmssZ`.
fn compact(at: Micros) -> String {
    let time = about::time(at);
    let digits: String = time.chars().take(19).filter(|c| !matches!(c, '-' | ':')).collect();
    format!("{digits}Z")
}
