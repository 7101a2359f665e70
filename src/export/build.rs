//! One bundle, from the order to the finished file. Blocks; runs on a thread of its own.
//!
//! The size of the log is taken first, and a link that came into it later is not in the bundle, nor what it would say of gaps; every
//! proof leads to the root of one tree, which has at least that size or all the links.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use aigaq_proto::verdict::Place;
use aigaq_proto::{Digest, Micros, RecorderId};
use data_encoding::BASE64;

use super::archive::{self, Archive};
use super::chain::{self, Chain};
use super::footage::{self, Footage};
use super::job::{Bundle, Job, Order};
use super::plan::Plan;
use super::signer::Signer;
use super::trail::Trail;
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
/// Files of a recorder beside its recordings, forks and proofs: chain, track, certificates, keys; and those of a bundle, roughly.
const FILES_OF_RECORDER: usize = 4;

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
        let cut = self.source.log.size()?;
        let mut plans = Vec::new();
        for id in self.order.recorders() {
            let absent = || Error::new(Kind::NotFound, format!("no recorder {id} is enrolled"));
            let record = self.source.store.recorder(id)?.ok_or_else(absent)?;
            plans.push((record, Plan::of(&self.source.store, id, &range, cut)?));
            self.job.go_on()?;
        }
        let files = plans.iter().map(|(_, plan)| plan.recordings.len().saturating_add(FILES_OF_RECORDER));
        archive::check_files(files.fold(0, usize::saturating_add))?;
        let last_index = plans.iter().map(|(_, plan)| plan.last_index).max().unwrap_or(0);
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
        let trail = Trail::of(&self.source.store, self.order, self.now, &tree, self.job)?;
        let mut told = Vec::new();
        for (record, plan) in &plans {
            self.check_room(plan.bytes.saturating_add(SMALL_FILES_BYTES))?;
            told.push(self.recorder(record, (plan, cut), &tree, &trail, &mut archive)?);
        }
        self.timestamps(last_index, &tree, &mut archive)?;
        self.finish(told, &tree, &trail, &directory, archive)
    }

    /// Where the links are, once they are in the log of this tree: proof is complete when those have signed who are to.
    fn place(&self, tree: &Tree) -> Place {
        let cosigned = || self.source.log.witnessed().tree().is_some_and(|kept| kept.size == tree.size);
        if !self.source.witnesses || cosigned() { Place::Proven } else { Place::Pending }
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

    fn check_room(&self, needed: u64) -> Result<()> {
        let free = self.source.store.space()?.free;
        if free < needed.saturating_add(FREE_BYTES_MIN) {
            let text = format!("the bundle needs {needed} bytes and the disk has {free}, of which some stay free");
            return Err(Error::new(Kind::StorageFull, text));
        }
        Ok(())
    }

    fn recorder(
        &self,
        record: &RecorderRecord,
        (plan, cut): (&Plan, u64),
        tree: &Tree,
        trail: &Trail,
        archive: &mut Archive,
    ) -> Result<Told> {
        let (source, id, range) = (self.source, record.id, self.order.from..self.order.to);
        let statements = &trail.statements;
        let footage = footage::write(&source.store, id, &range, plan, statements, archive, self.job)?;
        self.damaged.inc_by(footage.damaged.len() as u64);
        let writer = chain::Writer {
            store: &source.store,
            log: &source.log,
            tree,
            recorder: record,
            range: &range,
            plan,
            footage: &footage,
            statements,
            place: self.place(tree),
            job: self.job,
        };
        let mut chain = writer.write(archive)?;
        writer.track(archive)?;
        archive.add(&bundle::certificates(id), chain::certificates(&source.store, id, &chain.keys)?.as_bytes())?;
        let keys: String = chain.keys.values().map(|spki| public_key(spki)).collect();
        archive.add(&bundle::keys(id), keys.as_bytes())?;
        for (sequence, entry, index) in &chain.run_ends {
            let proof = source.log.tlog_proof(entry, *index, tree)?;
            archive.add(&bundle::proof(id, *sequence), proof.as_bytes())?;
        }
        let gaps = self.gaps(id, cut, &chain, &footage)?;
        if !gaps.gaps.is_empty() {
            chain.judge.gap();
        }
        let verdict = chain.judge.finish().verdict.to_string();
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

    fn gaps(&self, id: RecorderId, cut: u64, chain: &Chain, footage: &Footage) -> Result<about::RecorderGaps> {
        let mut holes = (self.source.holes)(&self.source.store, id, (self.order.from, self.order.to), cut)?;
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
    fn finish(
        &self,
        told: Vec<Told>,
        tree: &Tree,
        trail: &Trail,
        directory: &str,
        mut archive: Archive,
    ) -> Result<Bundle> {
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
        trail.write(&source.store, &source.log, tree, &mut archive)?;
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
        manifest.files = archive.files()?.to_vec();
        let text = archive.add_json(bundle::MANIFEST, &manifest)?;
        let sums: String = archive.files()?.iter().map(|file| format!("{}  {}\n", file.sha256, file.path)).collect();
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
