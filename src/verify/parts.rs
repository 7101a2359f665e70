//! The whole of a bundle: the manifest and what it rests on, the recorders, then every file that is left.

use std::collections::{BTreeMap, BTreeSet};

use aigaq_proto::receipt::LogKey;
use aigaq_proto::signature::PublicKey;
use aigaq_proto::verdict::Verdict;
use aigaq_proto::{Digest, Micros, RecorderId};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use jiff::Timestamp;

use super::certificates::{self, Use};
use super::chain::{Chain, Tree, Walker};
use super::hashing::Hasher;
use super::report::{Basis, Fault, FileFinding, RecorderReport, Report};
use super::source::{FILES_MAX, Source, is_plain, unreadable};
use super::stamps;
use super::trust::Trust;
use crate::bundle::about::Gaps;
use crate::bundle::manifest::Manifest;
use crate::bundle::{self, manifest};
use crate::error::{Context as _, Kind, Result};

/// Longest manifest, list of digests or of gaps, and longest of the other small files, bytes.
const MANIFEST_BYTES_MAX: u64 = 12 << 20;
const SMALL_BYTES_MAX: u64 = 1 << 20;
/// Most revocation lists that are looked at, and their length, bytes.
const LISTS_MAX: usize = 64;
/// File findings that are listed; more are counted.
const FINDINGS_MAX: usize = 1_000;
/// Start of an ECDSA P-256 `SubjectPublicKeyInfo` before its point, bytes.
const SPKI_P256_BYTES: usize = 26;

/// What is gathered of files.
#[derive(Default)]
struct Faults {
    list: Vec<FileFinding>,
    seen: BTreeSet<(String, u8)>,
    more: u64,
}

impl Faults {
    fn add(&mut self, path: impl Into<String>, fault: Fault) {
        let path = path.into();
        if self.list.len() >= FINDINGS_MAX {
            self.more = self.more.saturating_add(1);
        } else if self.seen.insert((path.clone(), fault as u8)) {
            self.list.push(FileFinding { path, fault });
        }
    }
}

/// # Errors
/// As [`super::verify`].
pub(super) fn verify(source: &Source, trust: Option<&Trust>) -> Result<Report> {
    let mut faults = Faults::default();
    let text = source.whole(bundle::MANIFEST, MANIFEST_BYTES_MAX)?;
    let text = text.ok_or_else(|| unreadable("there is no manifest.json: this is no bundle"))?;
    let manifest: Manifest = serde_json::from_slice(&text).context(Kind::Invalid, "manifest.json does not read")?;
    if manifest.format != bundle::FORMAT {
        return Err(unreadable(format!("the bundle is not of the format {}", bundle::FORMAT)));
    }
    let files = named(&manifest, source, &mut faults)?;
    signature(source, &text, &manifest, trust, &mut faults)?;
    drop(text);
    let (tree, cosignatures) = tree(source, &manifest, trust, &mut faults)?;
    let mut timestamps = Vec::new();
    if let Ok(log) = LogKey::parse(&manifest.log) {
        let (stamps, wrong) = stamps::check(source, &files, &log, tree, trust)?;
        wrong.into_iter().for_each(|(path, fault)| faults.add(path, fault));
        timestamps = stamps;
    }
    let range = time(&manifest.requested.from)?..time(&manifest.requested.to)?;
    let gaps = gaps(source, &mut faults)?;
    let lists = lists(source, &files)?;
    let mut hasher = Hasher::start(source.bytes())?;
    let mut done = BTreeSet::new();
    let mut recorders = Vec::new();
    for recorder in recorder_ids(&manifest, &files) {
        let certificates = certificates_of(source, recorder, &mut faults)?;
        let walker = Walker {
            source,
            hasher: &mut hasher,
            recorder,
            tree,
            range: range.clone(),
            keys: keys(source, recorder, &certificates)?,
        };
        let Some(chain) = walker.walk()? else {
            faults.add(bundle::chain(recorder), Fault::Missing);
            continue;
        };
        for (path, digest) in &chain.digests {
            compare(path, *digest, &files, &mut faults);
            done.insert(path.clone());
        }
        chain.faults.iter().for_each(|(path, fault)| faults.add(path, *fault));
        if let Some(trust) = trust {
            trusted(&chain, recorder, &certificates, &lists, trust, &mut faults);
        }
        let says = manifest.delivered.iter().find(|one| one.recorder == recorder).map(|one| one.verdict.clone());
        let holes = gaps.get(&recorder).copied().unwrap_or(0);
        recorders.push(RecorderReport::new(recorder, chain.report, holes, chain.quarantined, says));
    }
    rest(source, &files, &done, &mut hasher, &mut faults)?;
    let worst = recorders.iter().map(|one| one.verdict).max().unwrap_or(Verdict::NotAuthentic);
    Ok(Report {
        verdict: if faults.list.is_empty() { worst } else { Verdict::NotAuthentic },
        trust: if trust.is_some() { Basis::File } else { Basis::Bundle },
        export: manifest.export,
        from: manifest.requested.from,
        to: manifest.requested.to,
        log: manifest.log,
        cosignatures,
        quorum: trust.map_or(0, |trust| trust.quorum),
        bytes: source.bytes(),
        timestamps,
        recorders,
        files: faults.list,
        more_files: faults.more,
    })
}

/// The files of the manifest by path; those that are not there, or not in it, are told.
fn named(manifest: &Manifest, source: &Source, faults: &mut Faults) -> Result<BTreeMap<String, manifest::File>> {
    if manifest.files.len() > FILES_MAX {
        return Err(unreadable(format!("the manifest names more than {FILES_MAX} files")));
    }
    let unnamed = [bundle::MANIFEST, bundle::SUMS, bundle::SIGNATURE];
    let mut files = BTreeMap::new();
    for file in &manifest.files {
        if !is_plain(&file.path) || unnamed.contains(&file.path.as_str()) {
            return Err(unreadable(format!("the manifest names the path {:?}", file.path)));
        }
        if files.insert(file.path.clone(), file.clone()).is_some() {
            return Err(unreadable(format!("the manifest names {} twice", file.path)));
        }
    }
    for path in source.paths() {
        if !files.contains_key(path) && !unnamed.contains(&path) {
            faults.add(path, Fault::NotNamed);
        }
    }
    let must = [bundle::CHECKPOINT, bundle::EXPORTER, bundle::GAPS];
    for path in must.into_iter().filter(|path| !files.contains_key(*path)) {
        faults.add(path, Fault::Missing);
    }
    Ok(files)
}

/// The signature over the manifest, and the list that `sha256sum` reads.
fn signature(
    source: &Source,
    text: &[u8],
    manifest: &Manifest,
    trust: Option<&Trust>,
    faults: &mut Faults,
) -> Result<()> {
    let chain = certificates::pem(&small(source, bundle::EXPORTER, faults)?, "CERTIFICATE");
    let spki = chain.first().and_then(|der| certificates::spki(der)).unwrap_or_default();
    let point = spki.get(SPKI_P256_BYTES..).unwrap_or_default();
    let signature = small(source, bundle::SIGNATURE, faults)?;
    if UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(text, &signature).is_err() {
        faults.add(bundle::MANIFEST, Fault::BadSignature);
    }
    if let Some(trust) = trust {
        let at = time(&manifest.created_at)?;
        if !certificates::leads(&Digest::of(&spki), &chain, &trust.anchors, at, Use::Exporter) {
            faults.add(bundle::EXPORTER, Fault::NotTrusted);
        }
    }
    let mut sums: BTreeSet<String> =
        manifest.files.iter().map(|file| format!("{}  {}", file.sha256, file.path)).collect();
    sums.insert(format!("{}  {}", Digest::of(text), bundle::MANIFEST));
    let listed = source.whole(bundle::SUMS, MANIFEST_BYTES_MAX)?.unwrap_or_default();
    let listed = String::from_utf8_lossy(&listed);
    let count = listed.lines().count();
    if count != sums.len() || !listed.ends_with('\n') || listed.lines().any(|line| !sums.remove(line)) {
        faults.add(bundle::SUMS, Fault::Contradicts);
    }
    Ok(())
}

/// The tree that proofs lead to, and how many witnesses that count have signed it.
fn tree(
    source: &Source,
    manifest: &Manifest,
    trust: Option<&Trust>,
    faults: &mut Faults,
) -> Result<(Option<Tree>, usize)> {
    let told = small(source, bundle::LOG_KEY, faults)?;
    let told = String::from_utf8_lossy(&told).trim().to_owned();
    if told != manifest.log {
        faults.add(bundle::LOG_KEY, Fault::Contradicts);
    }
    if trust.is_some_and(|trust| !trust.logs.iter().any(|log| log.as_str() == manifest.log)) {
        faults.add(bundle::LOG_KEY, Fault::NotTrusted);
    }
    let keys = [&manifest.log, &told].map(|key| LogKey::parse(key).ok());
    let opened = |text: &str| keys.iter().flatten().find_map(|key| key.open(text).ok());
    let text = String::from_utf8_lossy(&small(source, bundle::CHECKPOINT, faults)?).into_owned();
    if let Some((size, root)) = opened(&text) {
        let (cosignatures, quorum) = trust.map_or((0, 0), |trust| (trust.cosignatures(&text), trust.quorum));
        return Ok((Some(Tree { size, root, witnessed: cosignatures >= quorum }), cosignatures));
    }
    faults.add(bundle::CHECKPOINT, Fault::BadSignature);
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

/// How many gaps are named, by recorder.
fn gaps(source: &Source, faults: &mut Faults) -> Result<BTreeMap<RecorderId, u64>> {
    let text = source.whole(bundle::GAPS, MANIFEST_BYTES_MAX)?.unwrap_or_default();
    let Ok(gaps) = serde_json::from_slice::<Gaps>(&text) else {
        faults.add(bundle::GAPS, Fault::Unreadable);
        return Ok(BTreeMap::new());
    };
    Ok(gaps.recorders.iter().map(|one| (one.recorder, one.gaps.len() as u64)).collect())
}

fn lists(source: &Source, files: &BTreeMap<String, manifest::File>) -> Result<Vec<Vec<u8>>> {
    let paths = files.keys().filter(|path| path.starts_with(bundle::REVOCATION_LISTS)).take(LISTS_MAX);
    let mut lists = Vec::new();
    for path in paths {
        lists.extend(source.whole(path, SMALL_BYTES_MAX).unwrap_or_default());
    }
    Ok(lists)
}

/// Recorders that were delivered, or that have a chain.
fn recorder_ids(manifest: &Manifest, files: &BTreeMap<String, manifest::File>) -> BTreeSet<RecorderId> {
    let of_chain = |path: &String| path.strip_prefix("chain/")?.strip_suffix(".jsonl")?.parse().ok();
    let chains = files.keys().filter_map(of_chain);
    manifest.delivered.iter().map(|one| one.recorder).chain(chains).collect()
}

fn certificates_of(source: &Source, recorder: RecorderId, faults: &mut Faults) -> Result<Vec<Vec<u8>>> {
    Ok(certificates::pem(&small(source, &bundle::certificates(recorder), faults)?, "CERTIFICATE"))
}

/// The keys that links of a recorder may be signed with: of its certificates, and those that are listed.
fn keys(source: &Source, recorder: RecorderId, certificates: &[Vec<u8>]) -> Result<Vec<PublicKey>> {
    let listed = source.whole(&bundle::keys(recorder), SMALL_BYTES_MAX)?.unwrap_or_default();
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
    lists: &[Vec<u8>],
    trust: &Trust,
    faults: &mut Faults,
) {
    let revoked = certificates::revoked(certificates, &trust.anchors, lists);
    for (key, (first, last)) in &chain.used {
        let leads = |at: Micros| certificates::leads(key, certificates, &trust.anchors, at, Use::Recorder);
        if !leads(*first) || !leads(*last) {
            faults.add(bundle::certificates(recorder), Fault::NotTrusted);
        }
        if revoked.get(key).is_some_and(|at| at <= last) {
            faults.add(bundle::certificates(recorder), Fault::Revoked);
        }
    }
}

/// Every file that was not gone through yet.
fn rest(
    source: &Source,
    files: &BTreeMap<String, manifest::File>,
    done: &BTreeSet<String>,
    hasher: &mut Hasher,
    faults: &mut Faults,
) -> Result<()> {
    for path in files.keys().filter(|path| !done.contains(*path)) {
        let Some(section) = source.section(path)? else {
            faults.add(path, Fault::Missing);
            continue;
        };
        if path.starts_with("media/") {
            faults.add(path, Fault::Uncovered);
        }
        let file = hasher.file(section);
        compare(path, hasher.end(file)?, files, faults);
    }
    Ok(())
}

fn compare(path: &str, digest: Digest, files: &BTreeMap<String, manifest::File>, faults: &mut Faults) {
    match files.get(path) {
        Some(file) if file.sha256 == digest => {}
        Some(_) => faults.add(path, Fault::Altered),
        None => faults.add(path, Fault::NotNamed),
    }
}

/// A small file; what is not there is told, and is empty.
fn small(source: &Source, path: &str, faults: &mut Faults) -> Result<Vec<u8>> {
    let bytes = source.whole(path, SMALL_BYTES_MAX)?;
    if bytes.is_none() {
        faults.add(path, Fault::Missing);
    }
    Ok(bytes.unwrap_or_default())
}

fn time(text: &str) -> Result<Micros> {
    let time: Timestamp = text.parse().context(Kind::Invalid, "the manifest has a time that does not read")?;
    Ok(Micros::try_from(time.as_microsecond()).unwrap_or(0))
}
