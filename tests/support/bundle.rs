//! Bundles of made-up footage, sealed with keys that were made for it: of any size, without a server. And the ZIP of a bundle,
//! entry by entry, also one that lies. Needs nothing of the rest of the rig.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "shared by tests that each use a part"
)]

use std::fs::{self, File};
use std::io::{BufWriter, Read as _, Write};
use std::path::{Path, PathBuf};

use aigaq::bundle::line::{self, Line, Payload, Says};
use aigaq::bundle::{self, about, manifest};
use aigaq::store::records::{self, AuditRecord, Event};
use aigaq_proto::link::{Fix, StopCause, digest};
use aigaq_proto::signature::SigningKey;
use aigaq_proto::{Content, Digest, LinkHeader, Micros, RecorderId, receipt, statement};
use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use data_encoding::BASE64;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};

/// 2026-01-17T09:14:00Z: when the footage begins.
pub const BEGIN: Micros = 1_768_641_240_000_000;
/// Length of a segment, microseconds.
pub const SEGMENT_US: u32 = 2_000_000;

/// What a bundle is to hold.
#[derive(Clone, Copy)]
pub struct Wanted {
    /// Media links.
    pub segments: u64,
    /// Payload of each, bytes.
    pub segment_bytes: usize,
    /// Segments of one recording.
    pub recording: u64,
}

/// A bundle in a directory, and the keys to seal it again.
pub struct Made {
    pub dir: PathBuf,
    pub recorder: RecorderId,
    exporter: KeyPair,
}

/// A link with its place in the log, before there is a tree.
struct Entry {
    header: Vec<u8>,
    signature: Vec<u8>,
    payload: Payload,
}

/// The hashes of a Merkle tree, level by level from the leaves; an odd one goes up as it is.
struct Tree(Vec<Vec<Digest>>);

impl Tree {
    fn of(entries: impl Iterator<Item = [u8; receipt::ENTRY_BYTES]>) -> Self {
        let mut levels = vec![entries.map(|entry| Digest::of(&[&[0][..], &entry].concat())).collect::<Vec<_>>()];
        while levels.last().unwrap().len() > 1 {
            let node = |pair: &[Digest]| match pair {
                [left, right] => Digest::of(&[&[1][..], &left.0, &right.0].concat()),
                alone => alone[0],
            };
            let next = levels.last().unwrap().chunks(2).map(node).collect();
            levels.push(next);
        }
        Self(levels)
    }

    fn root(&self) -> Digest {
        self.0.last().unwrap()[0]
    }

    fn proof(&self, mut index: usize) -> Vec<Digest> {
        let mut proof = Vec::new();
        for level in &self.0 {
            proof.extend(level.get(index ^ 1));
            index /= 2;
        }
        proof
    }
}

/// Signs checkpoints as a log does (C2SP signed-note).
fn checkpoint(key: &Ed25519KeyPair, size: usize, root: Digest) -> (String, String) {
    let origin = "log.made.example";
    let public = [&[1], key.public_key().as_ref()].concat();
    let id = Digest::of(&[origin.as_bytes(), b"\n", &public].concat()).0[..4].to_vec();
    let vkey = format!("{origin}+{}+{}", data_encoding::HEXLOWER.encode(&id), BASE64.encode(&public));
    let text = format!("{origin}\n{size}\n{}\n", BASE64.encode(&root.0));
    let signature = BASE64.encode(&[&id, key.sign(text.as_bytes()).as_ref()].concat());
    (vkey, format!("{text}\n\u{2014} {origin} {signature}\n"))
}

/// A certificate for this key: self-signed, for whoever trusts it.
fn certificate(key: &KeyPair, purpose: ExtendedKeyUsagePurpose) -> String {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.extended_key_usages = vec![purpose];
    params.self_signed(key).unwrap().pem()
}

/// Segments up to which positions are told, too.
const TOLD_MAX: u64 = 1_000;
const FIX: Fix = Fix {
    offset_ms: 500,
    latitude_e7: 511_605_000,
    longitude_e7: -714_704_000,
    accuracy_dm: 50,
    speed_cms: u16::MAX,
    course_cdeg: 9_000,
};

/// Makes a bundle in `dir`: one recorder, `wanted` segments, recordings one after the other, nothing missing; one entry of custody.
pub fn make(dir: &Path, wanted: &Wanted) -> Made {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let (signing, device) = (SigningKey::from_pkcs8(pkcs8.as_ref()).unwrap(), pkcs8);
    let spki = signing.public_key().unwrap().to_spki();
    let recorder = RecorderId::of_spki(&spki);
    for below in ["chain", "certs", "log", "proofs", "track", "verify"] {
        fs::create_dir_all(dir.join(below)).unwrap();
    }
    fs::create_dir_all(dir.join(format!("media/{recorder}"))).unwrap();
    let (mut entries, mut media) = (Vec::new(), Vec::new());
    let (mut sequence, mut previous, mut at) = (0, Digest::ZERO, BEGIN);
    let mut add = |content: Content, duration_us: u32, payload: &[u8], place: Option<(String, u64)>, at: Micros| {
        let header = LinkHeader {
            recorder,
            sequence,
            previous,
            captured_at: at,
            duration_us,
            payload_length: u32::try_from(payload.len()).unwrap(),
            payload_digest: fast(payload),
            fixes: if duration_us > 0 && wanted.segments <= TOLD_MAX { vec![FIX] } else { Vec::new() },
            content,
        };
        let header = header.encode().unwrap();
        previous = digest(&header);
        sequence += 1;
        let signature = signing.sign(&previous).unwrap().to_vec();
        let length = payload.len() as u64;
        let payload = place.map_or(Payload::None, |(path, offset)| Payload::File { path, offset, length });
        entries.push(Entry { header, signature, payload });
    };
    let (mut left, mut ordinal, mut start) = (wanted.segments, 0, 0);
    let mut segment = vec![7; wanted.segment_bytes.max(16)];
    segment[..8].copy_from_slice(b"\0\0\0\x10moof");
    while left > 0 {
        let count = left.min(wanted.recording);
        let path = bundle::media(recorder, start);
        let mut file = BufWriter::with_capacity(1 << 20, File::create(dir.join(&path)).unwrap());
        let init = b"\0\0\0\x10ftypinitialised";
        file.write_all(init).unwrap();
        add(Content::Start { codecs: "avc1.64001f".to_owned() }, 0, init, Some((path.clone(), 0)), at);
        let (from, mut offset) = (at, init.len() as u64);
        for _ in 0..count {
            segment[8..16].copy_from_slice(&u64::to_be_bytes(ordinal));
            file.write_all(&segment).unwrap();
            let content = Content::Media { recording: start, ordinal, independent: true };
            add(content, SEGMENT_US, &segment, Some((path.clone(), offset)), at);
            offset += segment.len() as u64;
            ordinal += 1;
            at += u64::from(SEGMENT_US);
        }
        file.flush().unwrap();
        add(Content::Stop { recording: start, cause: StopCause::Wearer }, 0, &[], None, at);
        let (from, to) = (about::time(from), about::time(at));
        media.push(manifest::Media { path, recording: start, segments: count, from, to, corrected: None });
        start += count + 2;
        left -= count;
    }
    let links = entries.len();
    let log =
        Ed25519KeyPair::from_pkcs8(Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap().as_ref()).unwrap();
    let entry = |(index, link): (usize, &Entry)| receipt::entry(&digest(&link.header), received(index));
    let asked = AuditRecord::new(at, Event::LookUp, "account:anna", "::1", format!("GET /v1/recorders/{recorder}"));
    let asked = AuditRecord { number: 1, ..asked.because("case 17") };
    let stored = records::encode(&asked).unwrap();
    let of_trail = receipt::entry(&statement::digest(&stored), asked.at);
    let tree = Tree::of(entries.iter().enumerate().map(entry).chain([of_trail]));
    let (vkey, checkpoint) = checkpoint(&log, links + 1, tree.root());
    let custody = about::Custody {
        at: about::time(asked.at),
        actor: asked.actor,
        source: asked.source,
        action: asked.action,
        reason: asked.reason,
        outcome: asked.outcome,
        entry: stored,
        log_index: Some(links as u64),
        proof: tree.proof(links),
    };
    let mut track = Vec::new();
    let mut chain = BufWriter::new(File::create(dir.join(bundle::chain(recorder))).unwrap());
    let last = entry((links - 1, entries.last().unwrap()));
    for (index, Entry { header, signature, payload }) in entries.into_iter().enumerate() {
        let decoded = LinkHeader::decode(&header).unwrap();
        track.extend(about::Position::all(&decoded, None));
        let line = line::Link {
            sequence: decoded.sequence,
            digest: digest(&header),
            signature,
            key: Some(Digest::of(&spki)),
            received_at: received(index),
            clock: None,
            log_index: index as u64,
            proof: tree.proof(index),
            payload,
            says: Says::of(&decoded, None),
            header,
        };
        serde_json::to_writer(&mut chain, &Line::Link(line)).unwrap();
        chain.write_all(b"\n").unwrap();
    }
    chain.flush().unwrap();
    let hashes: String = tree.proof(links - 1).iter().map(|hash| format!("{}\n", BASE64.encode(&hash.0))).collect();
    let proof = format!("c2sp.org/tlog-proof@v1\nindex {}\n{hashes}\n{checkpoint}", links - 1);
    let _ = last;
    let device = KeyPair::try_from(device.as_ref()).unwrap();
    let exporter = KeyPair::generate().unwrap();
    let documents = ExtendedKeyUsagePurpose::Other(vec![1, 3, 6, 1, 5, 5, 7, 3, 36]);
    let gaps = about::RecorderGaps { recorder, gaps: Vec::new(), unproven_from: None };
    let gaps = about::Gaps { recorders: vec![gaps] };
    for (path, text) in [
        (bundle::README.to_owned(), "made up\n".to_owned()),
        (bundle::CHECKPOINT.to_owned(), checkpoint),
        (bundle::LOG_KEY.to_owned(), format!("{vkey}\n")),
        (bundle::proof(recorder, links as u64 - 1), proof),
        (bundle::certificates(recorder), certificate(&device, ExtendedKeyUsagePurpose::ClientAuth)),
        (bundle::keys(recorder), String::new()),
        (bundle::EXPORTER.to_owned(), certificate(&exporter, documents)),
        (bundle::GAPS.to_owned(), serde_json::to_string(&gaps).unwrap()),
        (bundle::MARKERS.to_owned(), "[]".to_owned()),
        (bundle::track(recorder), serde_json::to_string(&track).unwrap()),
        (bundle::CUSTODY.to_owned(), format!("{}\n", serde_json::to_string(&custody).unwrap())),
    ] {
        fs::write(dir.join(path), text).unwrap();
    }
    let delivered = manifest::Delivered {
        recorder,
        department: "Astana".to_owned(),
        label: "made up".to_owned(),
        verdict: "authentic".to_owned(),
        sequences: Some((0, links as u64 - 1)),
        media,
    };
    let manifest = manifest::Manifest {
        format: bundle::FORMAT.to_owned(),
        export: "made-up".to_owned(),
        created_at: about::time(at),
        software: "a test".to_owned(),
        operator: "a test".to_owned(),
        unit: "log.made.example".to_owned(),
        purpose: "a test".to_owned(),
        reason: "a test".to_owned(),
        requested: manifest::Requested {
            recorders: vec![recorder.to_string()],
            from: about::time(BEGIN),
            to: about::time(at),
        },
        delivered: vec![delivered],
        log: vkey,
        files: Vec::new(),
    };
    fs::write(dir.join(bundle::MANIFEST), serde_json::to_vec(&manifest).unwrap()).unwrap();
    let made = Made { dir: dir.to_owned(), recorder, exporter };
    made.seal();
    made
}

fn received(index: usize) -> Micros {
    BEGIN + 1_000 * index as u64
}

fn fast(bytes: &[u8]) -> Digest {
    let mut context = Context::new(&SHA256);
    context.update(bytes);
    Digest(context.finish().as_ref().try_into().unwrap())
}

impl Made {
    /// Makes manifest, sums and signature agree with the files that are there, as an exporter can that lies.
    pub fn seal(&self) {
        let path = self.dir.join(bundle::MANIFEST);
        let mut manifest: manifest::Manifest = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        manifest.files = self.files().iter().map(|path| self.file(path)).collect();
        let text = serde_json::to_vec(&manifest).unwrap();
        let sum = |file: &manifest::File| format!("{}  {}\n", file.sha256, file.path);
        let sums: String = manifest.files.iter().map(sum).collect();
        let sums = format!("{sums}{}  {}\n", Digest::of(&text), bundle::MANIFEST);
        self.write(bundle::MANIFEST, &text);
        self.write(bundle::SUMS, sums.as_bytes());
        self.sign();
    }

    /// Signs the manifest that is there.
    pub fn sign(&self) {
        let pkcs8 = self.exporter.serialize_der();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8).unwrap();
        let text = fs::read(self.dir.join(bundle::MANIFEST)).unwrap();
        self.write(bundle::SIGNATURE, key.sign(&SystemRandom::new(), &text).unwrap().as_ref());
    }

    pub fn write(&self, path: &str, bytes: &[u8]) {
        fs::create_dir_all(self.dir.join(path).parent().unwrap()).unwrap();
        fs::write(self.dir.join(path), bytes).unwrap();
    }

    pub fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.dir.join(path)).unwrap()
    }

    /// Path, length and digest of every file but manifest, sums and signature.
    fn file(&self, path: &str) -> manifest::File {
        let mut file = File::open(self.dir.join(path)).unwrap();
        let (mut context, mut bytes, mut buffer) = (Context::new(&SHA256), 0, vec![0; 1 << 20]);
        loop {
            let read = file.read(&mut buffer).unwrap();
            if read == 0 {
                break;
            }
            context.update(&buffer[..read]);
            bytes += read as u64;
        }
        let sha256 = Digest(context.finish().as_ref().try_into().unwrap());
        manifest::File { path: path.to_owned(), bytes, sha256 }
    }

    fn files(&self) -> Vec<String> {
        let mut found = paths(&self.dir);
        found.retain(|path| ![bundle::MANIFEST, bundle::SUMS, bundle::SIGNATURE].contains(&path.as_str()));
        found
    }

    /// The ZIP of the bundle, as an exporter makes it.
    pub fn zip(&self) -> PathBuf {
        let path = self.dir.with_extension("zip");
        let mut zip = Zip::new(BufWriter::with_capacity(1 << 20, File::create(&path).unwrap()));
        for name in paths(&self.dir) {
            zip.add(&Stored::of(&format!("export-made-up/{name}")), &mut File::open(self.dir.join(&name)).unwrap());
        }
        zip.finish();
        path
    }
}

/// Every file below a directory, relative to it, in order.
pub fn paths(dir: &Path) -> Vec<String> {
    fn walk(dir: &Path, below: &str, found: &mut Vec<String>) {
        for entry in fs::read_dir(dir.join(below)).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            let path = if below.is_empty() { name } else { format!("{below}/{name}") };
            if entry.file_type().unwrap().is_dir() { walk(dir, &path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    walk(dir, "", &mut found);
    found.sort();
    found
}

/// An entry of a ZIP, as its two headers describe it; what is not given is true.
#[derive(Clone, Default)]
pub struct Stored {
    pub name: Vec<u8>,
    /// What the local header calls it.
    pub local_name: Option<Vec<u8>>,
    pub method: u16,
    pub flags: u16,
    /// What the table says instead of the length of the bytes.
    pub length: Option<u64>,
    /// The same of the packed length.
    pub packed: Option<u64>,
    /// Where the table says that it is.
    pub local: Option<u64>,
}

impl Stored {
    pub fn of(name: &str) -> Self {
        Self { name: name.as_bytes().to_vec(), ..Self::default() }
    }
}

/// A ZIP that is being written; every entry with 64-bit sizes, as exporters do it.
pub struct Zip<W> {
    out: W,
    at: u64,
    table: Vec<u8>,
    pub count: u64,
}

impl<W: Write> Zip<W> {
    pub fn new(out: W) -> Self {
        Self { out, at: 0, table: Vec::new(), count: 0 }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.out.write_all(bytes).unwrap();
        self.at += bytes.len() as u64;
    }

    /// Adds an entry of a file.
    pub fn add(&mut self, entry: &Stored, file: &mut File) {
        let length = file.metadata().unwrap().len();
        self.begin(entry, length);
        self.at += std::io::copy(file, &mut self.out).unwrap();
    }

    /// Adds an entry of bytes.
    pub fn add_bytes(&mut self, entry: &Stored, bytes: &[u8]) {
        self.begin(entry, bytes.len() as u64);
        self.put(bytes);
    }

    fn begin(&mut self, entry: &Stored, length: u64) {
        let (local, name) = (entry.local.unwrap_or(self.at), entry.local_name.as_ref().unwrap_or(&entry.name));
        let wide = |first: u64, second: u64| [&[1, 0, 16, 0][..], &first.to_le_bytes(), &second.to_le_bytes()].concat();
        let fixed =
            [&20_u16.to_le_bytes()[..], &entry.flags.to_le_bytes(), &entry.method.to_le_bytes(), &[0; 8]].concat();
        let lengths = |name: &[u8], extra: usize| {
            [u16::try_from(name.len()).unwrap().to_le_bytes(), u16::try_from(extra).unwrap().to_le_bytes()].concat()
        };
        let header = [b"PK\x03\x04", &fixed[..], &[255; 8], &lengths(name, 20), name, &wide(length, length)].concat();
        self.put(&header);
        let wide = [wide(entry.length.unwrap_or(length), entry.packed.unwrap_or(length)), local.to_le_bytes().to_vec()];
        let mut wide = wide.concat();
        wide[2] = 24;
        let row = [
            b"PK\x01\x02",
            &45_u16.to_le_bytes()[..],
            &fixed,
            &[255; 8],
            &lengths(&entry.name, 28),
            &[0; 10],
            &[255; 4],
            &entry.name,
            &wide,
        ];
        self.table.extend(row.concat());
        self.count += 1;
    }

    /// The end of the table, with the number of entries that was counted, or that was put in its place.
    pub fn finish(self) -> W {
        let Self { mut out, at, table, count } = self;
        let place = [count.to_le_bytes(), count.to_le_bytes(), (table.len() as u64).to_le_bytes(), at.to_le_bytes()];
        let record = at + table.len() as u64;
        let end = [
            &table,
            &b"PK\x06\x06"[..],
            &44_u64.to_le_bytes(),
            &[45, 0, 45, 0],
            &[0; 8],
            &place.concat(),
            b"PK\x06\x07",
            &[0; 4],
            &record.to_le_bytes(),
            &[1, 0, 0, 0],
            b"PK\x05\x06",
            &[0; 4],
            &[255; 12],
            &[0; 2],
        ];
        out.write_all(&end.concat()).unwrap();
        out.flush().unwrap();
        out
    }
}
