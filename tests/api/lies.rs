//! What an exporter says beside the links, and what a stranger can check of it: each lie, sealed as well as an exporter can, is found in
//! the file that tells it. Both verifiers say the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aigaq::bundle;
use aigaq::verify::{Fault, verify};
use aigaq_proto::Digest;
use aigaq_proto::link::Fix;
use aigaq_proto::receipt::LogKey;
use aigaq_proto::succession::Succession;
use aigaq_proto::verdict::{Verdict, What};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::chain::sign;
use crate::exports::{bundle_of, order};
use crate::rig::{Device, Rig, at};
use crate::second;

type Files = BTreeMap<String, Vec<u8>>;

/// A bundle in a directory, with the key to seal it.
struct Bundle {
    home: tempfile::TempDir,
    files: Files,
    key: EcdsaKeyPair,
    id: String,
}

impl Bundle {
    fn new(rig: &Rig, files: Files, device: &Device) -> Self {
        let key = PrivateKeyDer::from_pem_file(rig.dir.path().join("export.key")).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.secret_der()).unwrap();
        Self { home: tempfile::tempdir().unwrap(), files, key, id: device.id.to_string() }
    }

    /// The directory of the bundle after `change`, sealed again.
    fn told(&self, change: impl FnOnce(&mut Files)) -> PathBuf {
        let mut files = self.files.clone();
        change(&mut files);
        let mut manifest: Value = serde_json::from_slice(&files[bundle::MANIFEST]).unwrap();
        let unnamed = [bundle::MANIFEST, bundle::SUMS, bundle::SIGNATURE];
        let named = files.iter().filter(|(path, _)| !unnamed.contains(&path.as_str()));
        let file = |(path, bytes): (&String, &Vec<u8>)| json!({ "path": path, "bytes": bytes.len(), "sha256": Digest::of(bytes).to_string() });
        manifest["files"] = named.map(file).collect();
        let text = serde_json::to_vec(&manifest).unwrap();
        files.insert(bundle::MANIFEST.to_owned(), text.clone());
        let sum = |(path, bytes): (&String, &Vec<u8>)| format!("{}  {path}\n", Digest::of(bytes));
        let sums: String = files.iter().filter(|(path, _)| !unnamed[1..].contains(&path.as_str())).map(sum).collect();
        files.insert(bundle::SUMS.to_owned(), sums.into_bytes());
        let signature = self.key.sign(&SystemRandom::new(), &text).unwrap();
        files.insert(bundle::SIGNATURE.to_owned(), signature.as_ref().to_vec());
        let dir = self.home.path().join("bundle");
        let _ = std::fs::remove_dir_all(&dir);
        for (path, bytes) in files {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        dir
    }
}

/// Changes a JSON document of a bundle.
fn changed(files: &mut Files, path: &str, change: impl FnOnce(&mut Value)) {
    let bytes = files.get_mut(path).unwrap();
    let mut value: Value = serde_json::from_slice(bytes).unwrap();
    change(&mut value);
    *bytes = serde_json::to_vec(&value).unwrap();
}

/// Changes the lines of a file of a bundle.
fn changed_lines(files: &mut Files, path: &str, change: impl FnOnce(&mut Vec<Value>)) {
    let bytes = files.get_mut(path).unwrap();
    let text = std::str::from_utf8(bytes).unwrap();
    let mut lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    change(&mut lines);
    *bytes = lines.iter().map(|line| format!("{line}\n")).collect::<String>().into_bytes();
}

impl Rig {
    /// Waits until the log has the whole trail.
    async fn logged(&self) {
        for _ in 0..400 {
            if !self.store.has_unlogged() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        panic!("the trail does not come into the log");
    }
}

/// A bundle with all that can be told: positions, a mark, a gap, who asked before, and footage that was deleted.
async fn told_of_everything() -> (Rig, Bundle) {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.send(device.chain.start(&device.key)).await;
    let fix = |offset_ms| Fix {
        offset_ms,
        latitude_e7: 511_605_000,
        longitude_e7: 714_704_000,
        accuracy_dm: 50,
        speed_cms: 120,
        course_cdeg: 9_000,
    };
    for (number, fixes) in [vec![fix(0), fix(1_000)], vec![fix(500)]].into_iter().enumerate() {
        let mut link = device.chain.media(&device.key, vec![number as u8; 100].into());
        link.header.fixes = fixes;
        let link = sign(&device.key, link.header, link.payload);
        device.chain.goes_on_from(&link);
        rig.send(link).await;
    }
    rig.send(device.chain.mark(&device.key, "insult")).await;
    let _never_sent = device.chain.media(&device.key, vec![3; 100].into());
    rig.clock.set(rig.clock.now() + 2 * 86_400_000_000);
    for number in 5..7_u8 {
        rig.send(device.chain.media(&device.key, vec![number; 100].into())).await;
    }
    rig.send(device.chain.stop(&device.key)).await;
    rig.clock.set(u64::from(rig.footage(&device, 1).day + 1) * 86_400_000_000);
    rig.retention.round().unwrap();
    for _ in 0..2 {
        rig.json(&format!("/v1/recorders/{}/coverage?from={}&to={}", device.id, at(0), at(12))).await;
    }
    // The newest entries go into the log with the next links.
    device.chain.captured_at += 100_000_000;
    rig.send(device.chain.start(&device.key)).await;
    rig.logged().await;
    let (_, files) = bundle_of(&rig, &order(&[&device], 12)).await;
    let bundle = Bundle::new(&rig, files, &device);
    (rig, bundle)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_honest_exporter_tells_is_all_proven() {
    let (_rig, bundle) = told_of_everything().await;
    let report = verify(&bundle.told(|_| {}), None).unwrap();
    assert_eq!((report.verdict, &report.files[..]), (Verdict::AuthenticWithGaps, &[][..]), "{}", report.text());
    assert!(report.custody.proven >= 3, "{:?}", report.custody);
    let found: Vec<_> = report.recorders[0].findings.iter().map(|one| (one.what, one.first, one.last)).collect();
    assert_eq!(found, [(What::Deleted, 1, 2), (What::Dropped, 4, 4)], "with its statement");
}

/// A lie, and where it is found.
type Lie = (&'static str, String, Fault, Box<dyn Fn(&mut Files)>);

fn lies(id: &str) -> Vec<Lie> {
    let (track, chain) = (format!("track/{id}.json"), format!("chain/{id}.jsonl"));
    let (markers, gaps, custody) = ("markers.json", "gaps.json", "custody.jsonl");
    let mut all: Vec<Lie> = Vec::new();
    let mut lie =
        |what, path: &str, fault, change: Box<dyn Fn(&mut Files)>| all.push((what, path.to_owned(), fault, change));
    let of = |path: &str, change: fn(&mut Value)| -> Box<dyn Fn(&mut Files)> {
        let path = path.to_owned();
        Box::new(move |files: &mut Files| changed(files, &path, change))
    };
    let of_lines = |path: &str, change: fn(&mut Vec<Value>)| -> Box<dyn Fn(&mut Files)> {
        let path = path.to_owned();
        Box::new(move |files: &mut Files| changed_lines(files, &path, change))
    };
    let contradicts = Fault::Contradicts;
    lie("elsewhere", &track, contradicts, of(&track, |all| all[1]["point"] = json!("POINT(71.4704001 51.1605000)")));
    lie("one position less", &track, contradicts, of(&track, |all| drop(all.as_array_mut().unwrap().remove(2))));
    lie(
        "one more",
        &track,
        contradicts,
        of(&track, |all| {
            let one = all[0].clone();
            all.as_array_mut().unwrap().push(one);
        }),
    );
    lie("no track", &track, Fault::Unreadable, of(&track, |all| *all = json!({})));
    lie("another mark", markers, contradicts, of(markers, |all| all[0]["category"] = json!("praise")));
    lie("no mark", markers, contradicts, of(markers, |all| *all = json!([])));
    lie(
        "a mark of nobody",
        markers,
        contradicts,
        of(markers, |all| {
            let mut one = all[0].clone();
            one["recorder"] = json!("0".repeat(32));
            all.as_array_mut().unwrap().push(one);
        }),
    );
    lie("no gap", gaps, Fault::UndeclaredGap, of(gaps, |all| all["recorders"][0]["gaps"] = json!([])));
    lie("nothing of gaps", gaps, Fault::UndeclaredGap, of(gaps, |all| all["recorders"] = json!([])));
    lie(
        "a gap where there is footage",
        gaps,
        Fault::FalseGap,
        of(gaps, |all| {
            let gaps = all["recorders"][0]["gaps"].as_array_mut().unwrap();
            let gap = gaps.iter_mut().find(|gap| gap["cause"] == "unknown").unwrap();
            gap["to"] = json!(at(7));
        }),
    );
    lie(
        "off",
        gaps,
        Fault::FalseGap,
        of(gaps, |all| {
            let gaps = all["recorders"][0]["gaps"].as_array_mut().unwrap();
            let gap = gaps.iter_mut().find(|gap| gap["cause"] == "unknown").unwrap();
            (gap["cause"], gap["stop"]) = (json!("off"), json!("battery"));
        }),
    );
    lie(
        "missing though there",
        gaps,
        Fault::FalseGap,
        of(gaps, |all| {
            let gaps = all["recorders"][0]["gaps"].as_array_mut().unwrap();
            let gap = gaps.iter_mut().find(|gap| gap["cause"] == "unknown").unwrap();
            (gap["missing"][0]["last"], gap["missing_count"]) = (json!(5), json!(2));
        }),
    );
    lie("somebody else", custody, contradicts, of_lines(custody, |lines| lines[0]["actor"] = json!("account:eve")));
    lie("in another order", custody, contradicts, of_lines(custody, |lines| lines.swap(0, 1)));
    lie(
        "not in the log after all",
        custody,
        contradicts,
        of_lines(custody, |lines| {
            lines[0].as_object_mut().unwrap().remove("log_index");
        }),
    );
    lie(
        "elsewhere in the log",
        custody,
        Fault::NotProven,
        of_lines(custody, |lines| {
            let proof = lines[1]["proof"].clone();
            lines[0]["proof"] = proof;
        }),
    );
    lie("no entry", custody, Fault::Unreadable, of_lines(custody, |lines| lines[0]["entry"] = json!("AQ==")));
    lie(
        "an invented statement",
        &chain,
        contradicts,
        of_lines(&chain, |lines| {
            let line = lines.iter_mut().find(|line| line["payload"]["at"] == "deleted").unwrap();
            line["payload"]["statement"] = json!(0);
        }),
    );
    lie(
        "longer footage",
        "manifest.json",
        contradicts,
        of("manifest.json", |all| {
            all["delivered"][0]["media"][0]["to"] = json!(at(13));
        }),
    );
    lie(
        "more segments",
        "manifest.json",
        contradicts,
        of("manifest.json", |all| {
            all["delivered"][0]["media"][0]["segments"] = json!(3);
        }),
    );
    lie(
        "more links",
        "manifest.json",
        contradicts,
        of("manifest.json", |all| all["delivered"][0]["sequences"][1] = json!(9)),
    );
    for (what, other) in
        [("somebody left out", "0".repeat(32)), ("nobody left out", String::new()), ("twice", id.to_owned())]
    {
        lie(
            what,
            "manifest.json",
            contradicts,
            Box::new(move |files: &mut Files| {
                changed(files, "manifest.json", |all| {
                    all["requested"]["recorders"].as_array_mut().unwrap().push(json!(other));
                });
            }),
        );
    }
    let (prefix, path) = (format!("proofs/{id}-"), format!("proofs/{id}-"));
    lie(
        "another's proof",
        &path,
        Fault::NotProven,
        Box::new(move |files: &mut Files| {
            let proofs: Vec<String> = files.keys().filter(|path| path.starts_with(&prefix)).cloned().collect();
            let other = files[&proofs[1]].clone();
            files.insert(proofs[0].clone(), other);
        }),
    );
    let (prefix, path) = (format!("proofs/{id}-"), format!("proofs/{id}-777.tlog-proof"));
    lie(
        "the proof of no link",
        &path,
        contradicts,
        Box::new(move |files: &mut Files| {
            let (_, proof) = files.iter().find(|(path, _)| path.starts_with(&prefix)).unwrap();
            let proof = proof.clone();
            files.insert(format!("{prefix}777.tlog-proof"), proof);
        }),
    );
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn each_lie_of_an_exporter_is_found_in_the_file_that_tells_it() {
    let (_rig, bundle) = told_of_everything().await;
    let python = second::interpreter();
    let said = |dir: &Path, what: &str| python.map(|python| second::agree(python, dir, None, what));
    assert!(said(&bundle.told(|_| {}), "the truth").is_none_or(|code| code == 1));
    for (what, path, fault, change) in lies(&bundle.id) {
        let dir = bundle.told(|files| change(files));
        let report = verify(&dir, None).unwrap();
        let text = report.text();
        assert_eq!(report.verdict, Verdict::NotAuthentic, "{what}: {text}");
        let found = report.files.iter().any(|one| one.path.starts_with(&path) && one.fault == fault);
        assert!(found && report.files.iter().all(|one| one.path.starts_with(&path)), "{what}: {text}");
        said(&dir, what);
    }
    // A deletion that nothing proves is no lie, and is told.
    let chain = format!("chain/{}.jsonl", bundle.id);
    let dir = bundle.told(|files| {
        changed_lines(files, &chain, |lines| {
            for line in lines.iter_mut().filter(|line| line["payload"]["at"] == "deleted") {
                line["payload"].as_object_mut().unwrap().remove("statement");
            }
        });
    });
    let report = verify(&dir, None).unwrap();
    assert_eq!((report.verdict, report.files.len()), (Verdict::AuthenticWithGaps, 0), "{}", report.text());
    assert!(report.recorders[0].findings.iter().any(|one| one.what == What::DeletionUnproved));
    said(&dir, "a deletion without its statement");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_arrives_late_in_the_middle_is_a_gap_as_of_before_and_none_after() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.send(device.chain.start(&device.key)).await;
    rig.send(device.chain.media(&device.key, vec![1; 100].into())).await;
    let late = device.chain.media(&device.key, Bytes::from(vec![2; 100]));
    rig.send(device.chain.media(&device.key, vec![3; 100].into())).await;
    rig.send(device.chain.stop(&device.key)).await;
    let holes = aigaq::lookup::holes(rig.fleet.clone(), rig.clock.clone());
    let range = (crate::rig::BEGIN, crate::rig::BEGIN + 6_000_000);
    let cut = rig.store.log_size().unwrap();
    let before = holes(&rig.store, device.id, range, cut).unwrap();
    rig.send(late).await;
    let of_then = holes(&rig.store, device.id, range, cut).unwrap();
    let spans = |holes: &[aigaq::export::Hole]| holes.iter().map(|hole| (hole.from, hole.to)).collect::<Vec<_>>();
    assert_eq!((spans(&before), spans(&of_then)), (vec![(range.0 + 2_000_000, range.0 + 4_000_000)], spans(&before)));
    assert_eq!((of_then[0].cause, &of_then[0].missing[..]), ("pending", &[(2, 2, "pending")][..]));
    let now = holes(&rig.store, device.id, range, rig.store.log_size().unwrap()).unwrap();
    assert_eq!(spans(&now), []);
}

/// Flips in each file; `AIGAQ_FLIPS` multiplies them for a longer campaign.
fn flips() -> usize {
    8 * std::env::var("AIGAQ_FLIPS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_what_is_told_is_named_with_its_file_and_harms_no_other() {
    let (_rig, bundle) = told_of_everything().await;
    let dir = bundle.told(|_| {});
    let sound = verify(&dir, None).unwrap();
    let mut random = StdRng::seed_from_u64(23);
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for path in bundle.files.keys() {
        let bytes = std::fs::read(dir.join(path)).unwrap();
        for _ in 0..if bytes.is_empty() { 0 } else { flips() } {
            let mut bad = bytes.clone();
            let at = random.random_range(0..bad.len() * 8);
            bad[at / 8] ^= 1 << (at % 8);
            std::fs::write(dir.join(path), bad).unwrap();
            *kinds.entry(path.split(['/', '-']).next().unwrap().to_owned()).or_default() += 1;
            // What cannot be read is not silent either.
            let Ok(report) = verify(&dir, None) else { continue };
            let what = format!("bit {at} of {path}: {}", report.text());
            assert_eq!(report.verdict, Verdict::NotAuthentic, "{what}");
            // The manifest speaks for every file, and the keys of the log for every proof.
            if ["manifest.json", "log/key.txt", "log/checkpoint"].contains(&path.as_str()) {
                continue;
            }
            let beside = ["manifest.json", "SHA256SUMS"];
            // Bytes of which the line is lost belong to nobody.
            let orphan = |one: &aigaq::verify::FileFinding| {
                path.starts_with("chain/") && one.path.starts_with("media/") && one.fault == Fault::Uncovered
            };
            let named = |one: &aigaq::verify::FileFinding| {
                one.path == *path || beside.contains(&one.path.as_str()) || orphan(one)
            };
            assert!(!report.files.is_empty() && report.files.iter().all(named), "{what}");
            let of_footage = ["chain/", "media/", "certs/", "gaps.json"].iter().any(|dir| path.starts_with(dir));
            assert!(of_footage || report.recorders == sound.recorders, "{what}");
        }
        std::fs::write(dir.join(path), bytes).unwrap();
    }
    println!("{kinds:?}");
}

/// A log of its own: what signs for it, and its key.
fn log(origin: &str) -> (signed_note::StandardSigner, LogKey) {
    let (private, public) = signed_note::generate_key(&mut rand_core::OsRng, origin);
    (signed_note::StandardSigner::new(&private).unwrap(), LogKey::parse(&public).unwrap())
}

fn signed(end: &Succession, by: &signed_note::StandardSigner) -> Vec<u8> {
    let mut note = signed_note::Note::new(end.text().as_bytes(), &[]).unwrap();
    note.add_sigs(&[by]).unwrap();
    note.to_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_with_a_successor_is_followed_and_what_lies_about_its_end_is_found() {
    let (_rig, bundle) = told_of_everything().await;
    let text = |path: &str| String::from_utf8(bundle.files[path].clone()).unwrap();
    let next = LogKey::parse(text(bundle::LOG_KEY).trim()).unwrap();
    let (size, root) = next.open(&text(bundle::CHECKPOINT)).unwrap();
    let ((first, first_key), (second, second_key)) = (log("old.example"), log("old.example/after-1"));
    let (stranger, stranger_key) = log("old.example");
    let (at, reason) = ("2026-01-17T09:14:02.000000Z".to_owned(), "the disk died".to_owned());
    let begun =
        Succession { old: first_key.clone(), size: 1, root: Digest::ZERO, next: second_key.clone(), at, reason };
    let end = Succession { old: second_key.clone(), size, root, next: next.clone(), ..begun.clone() };
    let with = |end: &Succession, by| {
        let notes = [signed(&begun, &first), signed(end, by)].concat();
        bundle.told(move |files| drop(files.insert(bundle::SUCCESSION.to_owned(), notes)))
    };
    std::fs::write(bundle.home.path().join("anchors.pem"), &bundle.files[bundle::ANCHORS]).unwrap();
    let trust = bundle.home.path().join("trust.toml");
    let trusts = |log: &LogKey| {
        std::fs::write(&trust, format!("logs = [\"{}\"]\nanchors = [\"anchors.pem\"]\n", log.as_str())).unwrap();
    };
    let python = second::interpreter();
    let check = |dir: &Path, what: &str, code: u8, faults: &[(&str, Fault)]| {
        let report = verify(dir, Some(&aigaq::verify::Trust::read(&trust).unwrap())).unwrap();
        let of_log = report.files.iter().filter(|one| one.path.starts_with("log/"));
        let found: Vec<_> = of_log.map(|one| (one.path.as_str(), one.fault)).collect();
        assert_eq!(found, faults, "{what}: {}", report.text());
        assert_eq!(verify(dir, None).unwrap().exit_code(), code, "{what}");
        if let Some(python) = python {
            second::agree(python, dir, Some(&trust), what);
            assert_eq!(second::agree(python, dir, None, what), i32::from(code), "{what}");
        }
    };
    let honest = with(&end, &second);
    for key in [&first_key, &second_key, &next] {
        trusts(key);
        check(&honest, "it is led to from every key", 1, &[]);
    }
    trusts(&stranger_key);
    check(&honest, "from no other", 1, &[(bundle::LOG_KEY, Fault::NotTrusted)]);
    trusts(&next);
    let (unsigned, contradicts) = (Fault::BadSignature, Fault::Contradicts);
    check(&with(&end, &stranger), "another key signed it", 3, &[(bundle::SUCCESSION, unsigned)]);
    let elsewhere = Succession { next: stranger_key.clone(), ..end.clone() };
    check(&with(&elsewhere, &second), "it leads to another key", 3, &[(bundle::SUCCESSION, unsigned)]);
    let longer = Succession { size: size + 1, ..end.clone() };
    check(&with(&longer, &second), "it ended with more than there is", 3, &[(bundle::SUCCESSION, contradicts)]);
    let other = Succession { root: Digest::ZERO, ..end.clone() };
    check(&with(&other, &second), "it ended with other entries", 3, &[(bundle::SUCCESSION, contradicts)]);
    let shorter = Succession { size: 0, ..end };
    check(&with(&shorter, &second), "it ended before it began", 3, &[(bundle::SUCCESSION, unsigned)]);
}
