//! The whole of a bundle: the manifest and what it rests on, the recorders, then every file that is left.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _};

use aigaq_proto::receipt::LogKey;
use aigaq_proto::signature::PublicKey;
use aigaq_proto::succession::{self, Succession};
use aigaq_proto::verdict::Verdict;
use aigaq_proto::{Digest, Micros, RecorderId};
use aws_lc_rs::digest;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use jiff::Timestamp;

use super::certificates::{self, Use};
use super::chain::{Chain, Tree, Walker};
use super::files::Files;
use super::hashing::{Hasher, finished};
use super::lines::{Stream, document};
use super::proofs::Proofs;
use super::report::{Basis, Ended, Fault, RecorderReport, Report};
use super::source::{Section, Source, unreadable};
use super::trust::Trust;
use super::{custody, gaps, stamps, told};
use crate::bundle::manifest::Manifest;
use crate::bundle::{self, DOCUMENT_BYTES_MAX, SMALL_BYTES_MAX};
use crate::error::{Context as _, Kind, Result};

/// Most revocation lists that are looked at.
const LISTS_MAX: usize = 64;
/// Start of an ECDSA P-256 `SubjectPublicKeyInfo` before its point, bytes.
const SPKI_P256_BYTES: usize = 26;
/// Longest line of the list of digests, bytes.
const SUM_BYTES_MAX: u64 = 1_024;

/// # Errors
/// As [`super::verify`].
pub(super) fn verify(source: &Source, trust: Option<&Trust>) -> Result<Report> {
    let (mut manifest, text) = manifest(source)?;
    let mut files = Files::new(std::mem::take(&mut manifest.files), source)?;
    signature(source, &text, &manifest, trust, &mut files)?;
    sums(source, &finished(&text), &mut files)?;
    let ended = ended(source, &manifest, &mut files)?;
    let (tree, cosignatures) = tree(source, &manifest, &ended, trust, &mut files)?;
    // The log goes on from the entries with which the one before ended: it has as many, and these.
    let goes_on =
        |tree: Tree, end: &Succession| end.size < tree.size || (end.size == tree.size && end.root == tree.root);
    if let (Some(tree), Some(newest)) = (tree, ended.last())
        && !goes_on(tree, newest)
    {
        files.faults.add(bundle::SUCCESSION, Fault::Contradicts);
    }
    let log = LogKey::parse(&manifest.log).ok();
    let timestamps = match &log {
        Some(log) => stamps::check(source, &mut files, log, tree, trust)?,
        None => Vec::new(),
    };
    let range = time(&manifest.requested.from)?..time(&manifest.requested.to)?;
    let declared = gaps::read(source, &mut files)?;
    let mut hasher = Hasher::start(source.bytes())?;
    let named = named(&manifest, &mut files);
    let custody = custody::check(source, &mut hasher, &mut files, tree, &named)?;
    let (mut recorders, mut marks) = (Vec::new(), BTreeMap::new());
    if declared.keys().any(|recorder| !named.contains(&recorder.to_string())) {
        files.faults.add(bundle::GAPS, Fault::Contradicts);
    }
    for recorder in recorder_ids(&manifest, &files)? {
        let certificates = certificates::pem(&files.small(source, &bundle::certificates(recorder))?, "CERTIFICATE");
        let keys = keys(source, recorder, &certificates, &mut files)?;
        let (hasher, range) = (&mut hasher, range.clone());
        let delivered = manifest.delivered.iter().find(|one| one.recorder == recorder);
        let proofs = Proofs::of(&files, recorder, log.clone());
        let walker = Walker {
            source,
            hasher,
            files: &mut files,
            recorder,
            tree,
            range,
            keys,
            proofs,
            custody: &custody,
            declared: declared.get(&recorder),
            delivered,
        };
        let Some(chain) = walker.walk()? else {
            files.faults.add(&bundle::chain(recorder), Fault::Missing);
            continue;
        };
        if let Some(trust) = trust {
            trusted(&chain, recorder, &certificates, source, trust, &mut files)?;
        }
        let says = delivered.map(|one| one.verdict.clone());
        let holes = declared.get(&recorder).map_or(0, gaps::Declared::count);
        recorders.push(RecorderReport::new(recorder, chain.report, holes, chain.quarantined, says));
        marks.insert(recorder, chain.marks);
    }
    told::marks(source, &mut files, marks)?;
    rest(source, &mut hasher, &mut files)?;
    let worst = recorders.iter().map(|one| one.verdict).max().unwrap_or(Verdict::NotAuthentic);
    let faults = files.faults;
    Ok(Report {
        verdict: if faults.list.is_empty() { worst } else { Verdict::NotAuthentic },
        trust: if trust.is_some() { Basis::File } else { Basis::Bundle },
        export: manifest.export,
        from: manifest.requested.from,
        to: manifest.requested.to,
        log: manifest.log,
        ended: ended.into_iter().map(of_ended).collect(),
        cosignatures,
        quorum: trust.map_or(0, |trust| trust.quorum),
        bytes: source.bytes(),
        custody: custody.report,
        timestamps,
        recorders,
        files: faults.list,
        more_files: faults.more,
    })
}

/// The manifest, and the digest of its text.
fn manifest(source: &Source) -> Result<(Manifest, digest::Digest)> {
    let section = source.section(bundle::MANIFEST)?;
    let section = section.ok_or_else(|| unreadable("there is no manifest.json: this is no bundle"))?;
    let mut stream = BufReader::new(Stream::new(long(section, bundle::MANIFEST)?));
    let manifest: Option<Manifest> = document(serde_json::from_reader(&mut stream))?;
    let manifest = manifest.ok_or_else(|| unreadable("manifest.json does not read"))?;
    if manifest.format != bundle::FORMAT {
        return Err(unreadable(format!("the bundle is not of the format {}", bundle::FORMAT)));
    }
    Ok((manifest, stream.into_inner().end()?))
}

/// Whom the bundle is about: whoever was asked for, each once, is who was delivered, or somebody would be left out in silence.
fn named(manifest: &Manifest, files: &mut Files) -> BTreeSet<String> {
    let named: BTreeSet<String> = manifest.requested.recorders.iter().cloned().collect();
    let delivered: BTreeSet<String> = manifest.delivered.iter().map(|one| one.recorder.to_string()).collect();
    let counts = (manifest.requested.recorders.len(), manifest.delivered.len());
    if named != delivered || counts != (named.len(), delivered.len()) {
        files.faults.add(bundle::MANIFEST, Fault::Contradicts);
    }
    named
}

/// A document that may be long, but not without end.
fn long(section: Section, path: &str) -> Result<Section> {
    if section.length <= DOCUMENT_BYTES_MAX {
        return Ok(section);
    }
    Err(unreadable(format!("{path} is longer than {DOCUMENT_BYTES_MAX} bytes")))
}

/// The signature over the manifest.
fn signature(
    source: &Source,
    text: &digest::Digest,
    manifest: &Manifest,
    trust: Option<&Trust>,
    files: &mut Files,
) -> Result<()> {
    let chain = certificates::pem(&files.small(source, bundle::EXPORTER)?, "CERTIFICATE");
    let spki = chain.first().and_then(|der| certificates::spki(der)).unwrap_or_default();
    let point = spki.get(SPKI_P256_BYTES..).unwrap_or_default();
    let signature = files.small(source, bundle::SIGNATURE)?;
    if UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify_digest(text, &signature).is_err() {
        files.faults.add(bundle::MANIFEST, Fault::BadSignature);
    }
    if let Some(trust) = trust {
        let at = time(&manifest.created_at)?;
        if !certificates::leads(&Digest::of(&spki), &chain, &trust.anchors, at, Use::Exporter) {
            files.faults.add(bundle::EXPORTER, Fault::NotTrusted);
        }
    }
    Ok(())
}

/// The list that `sha256sum` reads: a line for every file of the manifest, and one for the manifest.
fn sums(source: &Source, manifest: &Digest, files: &mut Files) -> Result<()> {
    let Some(section) = source.section(bundle::SUMS)? else {
        files.faults.add(bundle::SUMS, Fault::Missing);
        return Ok(());
    };
    let mut stream = BufReader::new(Stream::new(long(section, bundle::SUMS)?));
    let (mut line, mut of_files, mut of_manifest) = (Vec::new(), 0_usize, 0_usize);
    let right = loop {
        line.clear();
        let length = (&mut stream).take(SUM_BYTES_MAX).read_until(b'\n', &mut line);
        if length.context(Kind::Internal, "cannot read the bundle")? == 0 {
            break of_files == files.len() && of_manifest == 1;
        }
        let text = std::str::from_utf8(&line).ok().and_then(|text| text.strip_suffix('\n'));
        let Some((digest, path)) = text.and_then(|text| text.split_once("  ")) else { break false };
        if path == bundle::MANIFEST && digest == manifest.to_string() {
            of_manifest = of_manifest.saturating_add(1);
        } else if files.list(path, digest) {
            of_files = of_files.saturating_add(1);
        } else {
            break false;
        }
    };
    if !right {
        files.faults.add(bundle::SUMS, Fault::Contradicts);
    }
    Ok(())
}

/// The logs that ended before that of the bundle; none where what says so does not hold, or leads elsewhere.
fn ended(source: &Source, manifest: &Manifest, files: &mut Files) -> Result<Vec<Succession>> {
    let Some(notes) = files.small_if_there(source, bundle::SUCCESSION)? else { return Ok(Vec::new()) };
    let notes = String::from_utf8_lossy(&notes).into_owned();
    let all = succession::read(&notes).unwrap_or_default();
    if all.last().is_some_and(|newest| newest.next.as_str() == manifest.log) {
        return Ok(all);
    }
    files.faults.add(bundle::SUCCESSION, Fault::BadSignature);
    Ok(Vec::new())
}

fn of_ended(one: Succession) -> Ended {
    let Succession { old, size: entries, at, reason, .. } = one;
    Ended { log: old.as_str().to_owned(), entries, at, reason }
}

/// The tree that proofs lead to, and how many witnesses that count have signed it.
fn tree(
    source: &Source,
    manifest: &Manifest,
    ended: &[Succession],
    trust: Option<&Trust>,
    files: &mut Files,
) -> Result<(Option<Tree>, usize)> {
    let told = files.small(source, bundle::LOG_KEY)?;
    let told = String::from_utf8_lossy(&told).trim().to_owned();
    if told != manifest.log {
        files.faults.add(bundle::LOG_KEY, Fault::Contradicts);
    }
    // Whoever trusts a log that ended trusts the one that it named.
    let is_trusted = |log: &LogKey| log.as_str() == manifest.log || ended.iter().any(|one| one.old == *log);
    if trust.is_some_and(|trust| !trust.logs.iter().any(is_trusted)) {
        files.faults.add(bundle::LOG_KEY, Fault::NotTrusted);
    }
    let keys = [&manifest.log, &told].map(|key| LogKey::parse(key).ok());
    let opened = |text: &str| keys.iter().flatten().find_map(|key| key.open(text).ok());
    let text = String::from_utf8_lossy(&files.small(source, bundle::CHECKPOINT)?).into_owned();
    if let Some((size, root)) = opened(&text) {
        let (cosignatures, quorum) = trust.map_or((0, 0), |trust| (trust.cosignatures(&text), trust.quorum));
        return Ok((Some(Tree { size, root, witnessed: cosignatures >= quorum }), cosignatures));
    }
    files.faults.add(bundle::CHECKPOINT, Fault::BadSignature);
    // The same checkpoint ends every proof, so that damage to one file does not take the proof from all links.
    for path in source.paths().filter(|path| path.starts_with("proofs/")).take(16) {
        let Some(proof) = source.whole(path, SMALL_BYTES_MAX)? else { continue };
        let proof = String::from_utf8_lossy(&proof).into_owned();
        let Some((_, copy)) = proof.split_once("\n\n") else { continue };
        if let Some((size, root)) = opened(copy) {
            let (cosignatures, quorum) = trust.map_or((0, 0), |trust| (trust.cosignatures(copy), trust.quorum));
            return Ok((Some(Tree { size, root, witnessed: cosignatures >= quorum }), cosignatures));
        }
    }
    Ok((None, 0))
}

/// Recorders that were delivered, or that have a chain.
fn recorder_ids(manifest: &Manifest, files: &Files) -> Result<BTreeSet<RecorderId>> {
    let of_chain = |path: &str| path.strip_prefix("chain/")?.strip_suffix(".jsonl")?.parse::<RecorderId>().ok();
    let mut ids: BTreeSet<RecorderId> = manifest.delivered.iter().map(|one| one.recorder).collect();
    ids.extend(files.below("chain/").filter_map(of_chain).take(bundle::RECORDERS_MAX.saturating_add(1)));
    if ids.len() <= bundle::RECORDERS_MAX {
        return Ok(ids);
    }
    Err(unreadable(format!("the bundle is about more than {} recorders", bundle::RECORDERS_MAX)))
}

/// The keys that links of a recorder may be signed with: of its certificates, and those that are listed.
fn keys(source: &Source, recorder: RecorderId, certificates: &[Vec<u8>], files: &mut Files) -> Result<Vec<PublicKey>> {
    let listed = files.small_if_there(source, &bundle::keys(recorder))?.unwrap_or_default();
    let mut spkis = certificates::pem(&listed, "PUBLIC KEY");
    spkis.extend(certificates.iter().filter_map(|der| certificates::spki(der)));
    let mut keys: Vec<PublicKey> = Vec::new();
    for key in spkis.iter().filter_map(|spki| PublicKey::from_spki(spki).ok()) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    Ok(keys)
}

/// Whether what is trusted leads to every key that was used, while it was used.
fn trusted(
    chain: &Chain,
    recorder: RecorderId,
    certificates: &[Vec<u8>],
    source: &Source,
    trust: &Trust,
    files: &mut Files,
) -> Result<()> {
    let lists: Vec<String> = files.below(bundle::REVOCATION_LISTS).take(LISTS_MAX).map(str::to_owned).collect();
    let mut revoked: BTreeMap<Digest, Micros> = BTreeMap::new();
    for path in lists {
        // A list of a large CA is no small file.
        let Some(list) = files.whole_if_there(source, &path, DOCUMENT_BYTES_MAX)? else {
            files.faults.add(&path, Fault::Missing);
            continue;
        };
        for (key, at) in certificates::revoked(certificates, &trust.anchors, &list) {
            let earliest = revoked.entry(key).or_insert(at);
            *earliest = at.min(*earliest);
        }
    }
    for (key, (first, last)) in &chain.used {
        let leads = |at: Micros| certificates::leads(key, certificates, &trust.anchors, at, Use::Recorder);
        if !leads(*first) || !leads(*last) {
            files.faults.add(&bundle::certificates(recorder), Fault::NotTrusted);
        }
        if revoked.get(key).is_some_and(|at| at <= last) {
            files.faults.add(&bundle::certificates(recorder), Fault::Revoked);
        }
    }
    Ok(())
}

/// Every file that was not gone through yet.
fn rest(source: &Source, hasher: &mut Hasher, files: &mut Files) -> Result<()> {
    let mut from = 0;
    while let Some((at, path)) = files.next_left(from) {
        from = at.saturating_add(1);
        let Some(section) = source.section(&path)? else {
            files.faults.add(&path, Fault::Missing);
            continue;
        };
        // Payloads that no line speaks of.
        if ["media/", "forks/", "quarantine/"].iter().any(|dir| path.starts_with(dir)) {
            files.faults.add(&path, Fault::Uncovered);
        }
        let file = hasher.file(section);
        files.compare(&path, hasher.end(file)?);
    }
    Ok(())
}

fn time(text: &str) -> Result<Micros> {
    let time: Timestamp = text.parse().context(Kind::Invalid, "the manifest has a time that does not read")?;
    Ok(Micros::try_from(time.as_microsecond()).unwrap_or(0))
}
