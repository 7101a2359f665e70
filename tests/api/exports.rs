//! Exports over a store that can be damaged: what is not what was received is said and not shipped, both sides of a fork are there,
//! bad orders are refused, and jobs outlive a stop.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use aigaq::bundle::line::{Line, Payload};
use aigaq::bundle::{self, about, manifest};
use aigaq::export::State;
use aigaq::store::engine::Family;
use aigaq::store::keys;
use aigaq_proto::link::Fix;
use aigaq_proto::message::RefusalReason;
use aigaq_proto::{Digest, LinkHeader, RecorderId, link, receipt};
use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::chain::sign;
use crate::rig::{BEGIN, Device, Rig, at, exports, problem};

pub(crate) fn order(recorders: &[&Device], to: u64) -> Value {
    let ids: Vec<String> = recorders.iter().map(|device| device.id.to_string()).collect();
    json!({ "recorders": ids, "from": at(0), "to": at(to), "purpose": "case 17", "reason": "asked by the court" })
}

/// Runs what is ordered for as long as the guard lives.
fn run(rig: &Rig) -> DropGuard {
    let stop = CancellationToken::new();
    tokio::spawn(Arc::clone(&rig.exports).run(stop.clone()));
    stop.drop_guard()
}

async fn ended(rig: &Rig, id: &str) -> Value {
    for _ in 0..400 {
        let job = rig.json(&format!("/v1/exports/{id}")).await;
        if !matches!(job["state"].as_str().unwrap(), "waiting" | "running") {
            return job;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the export does not end");
}

/// The entries of a bundle, below its directory.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// Runs an order to its end; the job and what is in the bundle, of which the verifier says the same as the exporter.
pub(crate) async fn bundle_of(rig: &Rig, order: &Value) -> (Value, Files) {
    let _running = run(rig);
    let response = rig.send_json(Method::POST, "/v1/exports", order, &[]).await;
    assert_eq!(response.status(), 202);
    let job: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    let job = ended(rig, job["id"].as_str().unwrap()).await;
    assert_eq!(job["state"], "done", "{job}");
    let bytes = rig.bytes(job["bundle"]["href"].as_str().unwrap()).await;
    assert_eq!(bytes.len() as u64, job["bundle"]["bytes"].as_u64().unwrap());
    let zip = rig.dir.path().join("fetched.zip");
    std::fs::write(&zip, &bytes).unwrap();
    let report = aigaq::verify::verify(&zip, None).unwrap();
    assert_eq!(report.files, [], "{}", report.text());
    for one in &report.recorders {
        assert_eq!(one.exporter_says, Some(one.verdict.to_string()), "{}", report.text());
    }
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
    let mut files = Files::new();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).unwrap();
        let path = file.name().unwrap().split_once('/').unwrap().1.to_owned();
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        assert!(files.insert(path, content).is_none(), "an entry is there twice");
    }
    (job, files)
}

fn lines(files: &Files, id: RecorderId) -> Vec<Line> {
    let text = std::str::from_utf8(&files[&bundle::chain(id)]).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn manifest(files: &Files) -> manifest::Manifest {
    serde_json::from_slice(&files[bundle::MANIFEST]).unwrap()
}

fn gaps(files: &Files) -> about::Gaps {
    serde_json::from_slice(&files[bundle::GAPS]).unwrap()
}

/// Checks every line of a chain against the bundle alone.
fn check(rig: &Rig, files: &Files, id: RecorderId) {
    let checkpoint = std::str::from_utf8(&files[bundle::CHECKPOINT]).unwrap();
    let (size, root) = rig.log.open(checkpoint).unwrap();
    for line in lines(files, id) {
        let (Line::Link(line) | Line::Fork(line)) = line else { continue };
        let header = LinkHeader::decode(&line.header).unwrap();
        assert_eq!((header.recorder, header.sequence), (id, line.sequence));
        assert_eq!(link::digest(&line.header), line.digest);
        assert!(line.key.is_some(), "{} is signed", line.sequence);
        let entry = receipt::entry(&line.digest, line.received_at);
        receipt::verify_inclusion(&entry, line.log_index, &line.proof, size, &root).unwrap();
        if let Payload::File { path, offset, length } = &line.payload {
            let (offset, length) = (*offset as usize, *length as usize);
            assert_eq!(Digest::of(&files[path][offset..offset + length]), header.payload_digest, "{path}");
        }
    }
}

#[tokio::test]
async fn every_payload_is_in_a_bundle_as_it_was_recorded_and_every_link_is_proven() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    let payloads = rig.record(&mut device, 5).await;
    let (job, files) = bundle_of(&rig, &order(&[&device], 10)).await;
    assert_eq!(files[&bundle::media(device.id, 0)], payloads.concat());
    check(&rig, &files, device.id);
    assert_eq!(lines(&files, device.id).len(), 7, "start, five segments, stop");
    let manifest = manifest(&files);
    assert_eq!(manifest.delivered[0].verdict, "authentic");
    assert_eq!(job["bundle"]["verdicts"][0]["verdict"], "authentic");
    assert_eq!(job["progress"]["bytes"], job["progress"]["bytes_total"]);
    let listed: BTreeMap<&str, _> = manifest.files.iter().map(|file| (file.path.as_str(), file)).collect();
    for (path, content) in
        files.iter().filter(|(path, _)| !["manifest.json", "manifest.sig", "SHA256SUMS"].contains(&path.as_str()))
    {
        assert_eq!(
            (listed[path.as_str()].bytes, listed[path.as_str()].sha256),
            (content.len() as u64, Digest::of(content))
        );
    }
    let proof = std::str::from_utf8(&files[&bundle::proof(device.id, 6)]).unwrap();
    assert!(proof.starts_with("c2sp.org/tlog-proof@v1\nindex 6\n"), "{proof}");
    let readme = std::str::from_utf8(&files[bundle::README]).unwrap();
    for word in ["ТҮПНҰСҚА", "ПОДЛИННО", "AUTHENTIC", "aigaq verify", "case 17", "asked by the court"] {
        assert!(readme.contains(word), "{word}");
    }
    let custody = std::str::from_utf8(&files[bundle::CUSTODY]).unwrap();
    let entries: Vec<about::Custody> = custody.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(entries.len(), 1, "the order itself, with who and why: {custody}");
    assert!(entries[0].reason == "asked by the court");
    assert_eq!(entries[0].actor, "token:first-start");
}

#[tokio::test]
async fn recordings_are_files_of_their_own_and_marks_and_positions_are_told() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    let first = rig.record(&mut device, 2).await;
    device.chain.captured_at += 10_000_000;
    let second = rig.record(&mut device, 2).await;
    device.chain.captured_at -= 1_000_000;
    let mut mark = device.chain.mark(&device.key, "insult");
    let fix = Fix {
        offset_ms: 0,
        latitude_e7: -511_605_000,
        longitude_e7: 714_704_000,
        accuracy_dm: 50,
        speed_cms: u16::MAX,
        course_cdeg: 9_000,
    };
    mark.header.fixes = vec![fix];
    rig.send(sign(&device.key, mark.header, Bytes::new())).await;
    let (_, files) = bundle_of(&rig, &order(&[&device], 18)).await;
    check(&rig, &files, device.id);
    assert_eq!(files[&bundle::media(device.id, 0)], first.concat());
    assert_eq!(files[&bundle::media(device.id, 4)], second.concat());
    let recordings: Vec<_> = manifest(&files).delivered[0].media.iter().map(|media| media.recording).collect();
    assert_eq!(recordings, [0, 4]);
    let markers: Vec<about::Marker> = serde_json::from_slice(&files[bundle::MARKERS]).unwrap();
    assert_eq!((markers.len(), markers[0].at.clone(), markers[0].category.as_str()), (1, at(17), "insult"));
    let track: Vec<about::Position> = serde_json::from_slice(&files[&bundle::track(device.id)]).unwrap();
    assert_eq!((track.len(), track[0].point.as_str()), (1, "POINT(71.4704000 -51.1605000)"));
    assert_eq!((track[0].accuracy_dm, track[0].speed_cms, track[0].course_cdeg), (Some(50), None, Some(9_000)));
    assert_eq!(gaps(&files).recorders[0].gaps[0].cause, "off");
}

#[tokio::test]
async fn a_recorder_without_footage_in_the_range_has_its_gap_and_the_links_around_it() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.record(&mut device, 2).await;
    device.chain.captured_at += 100_000_000;
    rig.record(&mut device, 2).await;
    let mut asked = order(&[&device], 60);
    asked["from"] = json!(at(20));
    let (_, files) = bundle_of(&rig, &asked).await;
    check(&rig, &files, device.id);
    assert_eq!(lines(&files, device.id).len(), 2, "the stop before and the start after");
    assert!(!files.keys().any(|path| path.starts_with("media/")));
    let gaps = &gaps(&files).recorders[0];
    assert_eq!((gaps.gaps.len(), gaps.gaps[0].cause.as_str(), gaps.unproven_from.clone()), (1, "off", None));
}

#[tokio::test]
async fn what_was_asked_for_in_the_middle_is_cut_at_whole_links_and_shows_its_neighbours() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    let payloads = rig.record(&mut device, 6).await;
    let mut asked = order(&[&device], 7);
    asked["from"] = json!(at(5));
    let (_, files) = bundle_of(&rig, &asked).await;
    assert_eq!(files[&bundle::media(device.id, 0)], [&payloads[0][..], &payloads[3], &payloads[4]].concat());
    let shown = lines(&files, device.id).into_iter().map(|line| match line {
        Line::Link(link) => (link.sequence, matches!(link.payload, Payload::File { .. })),
        other => panic!("{other:?}"),
    });
    assert_eq!(shown.collect::<Vec<_>>(), [(0, true), (2, false), (3, true), (4, true), (5, false)]);
    check(&rig, &files, device.id);
    let media = &manifest(&files).delivered[0].media[0];
    assert_eq!((media.from.clone(), media.to.clone()), (at(4), at(8)), "whole segments");
    assert_eq!(files.keys().filter(|path| path.starts_with("proofs/")).count(), 2, "two runs of links");
}

#[tokio::test]
async fn damaged_footage_is_said_and_never_shipped() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    let payloads = rig.record(&mut device, 4).await;
    rig.damage(&device, 2);
    let (_, files) = bundle_of(&rig, &order(&[&device], 8)).await;
    let whole: Vec<&[u8]> = vec![&payloads[0], &payloads[1], &payloads[3], &payloads[4]];
    assert_eq!(files[&bundle::media(device.id, 0)], whole.concat());
    check(&rig, &files, device.id);
    let damaged =
        lines(&files, device.id).into_iter().find(|line| matches!(line, Line::Link(link) if link.sequence == 2));
    assert!(matches!(damaged, Some(Line::Link(link)) if link.payload == Payload::Damaged));
    let gap = &gaps(&files).recorders[0].gaps[0];
    assert_eq!((gap.cause.as_str(), gap.from.clone(), gap.to.clone()), ("damaged", at(2), at(4)));
    assert_eq!(manifest(&files).delivered[0].verdict, "authentic-with-gaps");
    let counted = async {
        // A job is counted once its end can be seen.
        loop {
            let metrics = rig.get_ops("/metrics").await.text().await.unwrap();
            assert!(metrics.contains("aigaq_damaged_reads_total 1"), "{metrics}");
            if metrics.contains("aigaq_exports_total{result=\"done\"} 1") && metrics.contains("aigaq_exports_open 0") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), counted).await.expect("the export is not counted");
}

#[tokio::test]
async fn a_link_that_does_not_read_is_a_gap_with_its_time_and_harms_no_neighbour() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    let payloads = rig.record(&mut device, 3).await;
    assert!(rig.engine.flip_value(Family::Links, &keys::link(device.id, 2), 0));
    let (_, files) = bundle_of(&rig, &order(&[&device], 6)).await;
    assert_eq!(files[&bundle::media(device.id, 0)], [&payloads[0][..], &payloads[1], &payloads[3]].concat());
    check(&rig, &files, device.id);
    let gap = &gaps(&files).recorders[0].gaps[0];
    assert_eq!((gap.cause.as_str(), gap.from.clone(), gap.to.clone()), ("damaged", at(2), at(4)));
    assert_eq!(manifest(&files).delivered[0].verdict, "authentic-with-gaps");
}

#[tokio::test]
async fn a_gap_and_the_unproven_tail_are_declared() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.send(device.chain.start(&device.key)).await;
    rig.send(device.chain.media(&device.key, vec![1; 100].into())).await;
    let _never_sent = device.chain.media(&device.key, vec![2; 100].into());
    rig.send(device.chain.media(&device.key, vec![3; 100].into())).await;
    let (_, files) = bundle_of(&rig, &order(&[&device], 20)).await;
    check(&rig, &files, device.id);
    let gaps = &gaps(&files).recorders[0];
    assert_eq!((gaps.gaps[0].cause.as_str(), gaps.gaps[0].missing[0].first), ("unknown", 2));
    assert_eq!(gaps.unproven_from, Some(at(6)), "nothing says what came after the last link");
    assert_eq!(manifest(&files).delivered[0].verdict, "authentic-with-gaps");
}

#[tokio::test]
async fn footage_that_was_deleted_is_said_and_its_links_are_still_proven() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.send(device.chain.start(&device.key)).await;
    rig.send(device.chain.media(&device.key, vec![1; 100].into())).await;
    rig.clock.set(rig.clock.now() + 2 * 86_400_000_000);
    rig.send(device.chain.media(&device.key, vec![2; 100].into())).await;
    rig.send(device.chain.stop(&device.key)).await;
    rig.clock.set(u64::from(rig.footage(&device, 1).day + 1) * 86_400_000_000);
    rig.retention.round().unwrap();
    rig.send(device.chain.start(&device.key)).await;
    let (_, files) = bundle_of(&rig, &order(&[&device], 4)).await;
    check(&rig, &files, device.id);
    let payloads = lines(&files, device.id).into_iter().filter_map(|line| match line {
        Line::Link(link) => Some(link.payload),
        _ => None,
    });
    let gone = payloads
        .take(2)
        .find_map(|payload| if let Payload::Deleted { statement } = payload { Some(statement) } else { None });
    let custody = std::str::from_utf8(&files[bundle::CUSTODY]).unwrap();
    let entries: Vec<about::Custody> = custody.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said = entries.iter().find(|entry| entry.action.starts_with("hide day ")).unwrap();
    assert!(gone.is_some_and(|statement| statement.is_some() && statement == said.log_index), "{gone:?} {custody}");
    assert_eq!(files[&bundle::media(device.id, 0)], [&b"initialisation"[..], &[2; 100]].concat());
    assert_eq!(gaps(&files).recorders[0].gaps[0].cause, "deleted-by-policy");
    assert_eq!(manifest(&files).delivered[0].verdict, "authentic-with-gaps");
}

#[tokio::test]
async fn the_same_order_under_the_same_key_is_one_export() {
    let rig = Rig::start().await;
    let device = rig.officer();
    let asked = order(&[&device], 10);
    let key = [("idempotency-key", "one")];
    let id = |answer: Value| answer["id"].as_str().unwrap().to_owned();
    let first = id(rig.send_json(Method::POST, "/v1/exports", &asked, &key).await.json().await.unwrap());
    let again = id(rig.send_json(Method::POST, "/v1/exports", &asked, &key).await.json().await.unwrap());
    assert_eq!(first, again);
    problem(rig.send_json(Method::POST, "/v1/exports", &order(&[&device], 11), &key).await, 422, "another").await;
    let other = id(rig.send_json(Method::POST, "/v1/exports", &asked, &[]).await.json().await.unwrap());
    assert_ne!(first, other);
}

#[tokio::test]
async fn both_sides_of_a_fork_and_what_is_in_quarantine_are_there() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.send(device.chain.start(&device.key)).await;
    let before = device.chain.clone();
    rig.send(device.chain.media(&device.key, vec![1; 100].into())).await;
    let mut other = before;
    rig.offer(other.media(&device.key, vec![9; 70].into()), Some(RefusalReason::Fork)).await;
    let second = other.media(&device.key, vec![8; 60].into());
    rig.send(device.chain.media(&device.key, vec![2; 100].into())).await;
    rig.offer(second, None).await;
    let (_, files) = bundle_of(&rig, &order(&[&device], 10)).await;
    check(&rig, &files, device.id);
    let all = lines(&files, device.id);
    let forks: Vec<_> =
        all.iter().filter_map(|line| if let Line::Fork(link) = line { Some(link) } else { None }).collect();
    assert_eq!(forks.len(), 1);
    let Payload::File { path, .. } = &forks[0].payload else { panic!("{forks:?}") };
    assert_eq!(files[path], [8; 60]);
    let quarantined = all.iter().find_map(|line| if let Line::Quarantined(one) = line { Some(one) } else { None });
    let quarantined = quarantined.unwrap();
    let Payload::File { path, .. } = &quarantined.payload else { panic!("{quarantined:?}") };
    assert_eq!((files[path].clone(), quarantined.reason.as_str()), (vec![9; 70], "fork"));
    assert_eq!(manifest(&files).delivered[0].verdict, "not-authentic");
}

#[tokio::test]
async fn an_order_that_cannot_be_is_refused() {
    let rig = Rig::start().await;
    let device = rig.officer();
    let good = order(&[&device], 10);
    let with = |key: &str, value: Value| {
        let mut order = good.clone();
        order[key] = value;
        order
    };
    let unknown = "00".repeat(16);
    for (bad, status, what) in [
        (with("recorders", json!([unknown])), 404, "unknown"),
        (with("recorders", json!([])), 400, "none"),
        (with("recorders", json!(["x"])), 400, "no id"),
        (with("recorders", json!([device.id.to_string(), device.id.to_string()])), 400, "twice"),
        (with("recorders", json!(vec![unknown.clone(); 33])), 400, "too many"),
        (with("to", json!(at(0))), 400, "empty"),
        (with("from", json!(at(20))), 400, "reversed"),
        (with("to", json!("2026-03-17T09:14:00Z")), 400, "huge"),
        (with("reason", json!("  ")), 400, "no reason"),
        (with("purpose", json!("x".repeat(201))), 400, "long purpose"),
        (with("more", json!(1)), 400, "unknown field"),
    ] {
        problem(rig.send_json(Method::POST, "/v1/exports", &bad, &[]).await, status, what).await;
    }
    for missing in ["recorders", "from", "to", "purpose", "reason"] {
        let mut bad = good.clone();
        bad.as_object_mut().unwrap().remove(missing);
        problem(rig.send_json(Method::POST, "/v1/exports", &bad, &[]).await, 400, missing).await;
    }
    problem(rig.get("/v1/exports/none").await, 404, "none").await;
    problem(rig.get("/v1/exports/..%2F..%2Fca%2Fca.key/bundle.zip").await, 404, "a path").await;
    problem(rig.ask(Method::DELETE, "/v1/exports/none", &[]).await, 404, "none").await;
    assert!(rig.json("/v1/exports").await["exports"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn an_export_for_which_the_disk_has_no_room_fails_and_says_so() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.record(&mut device, 2).await;
    let job: Value = rig.send_json(Method::POST, "/v1/exports", &order(&[&device], 4), &[]).await.json().await.unwrap();
    let id = job["id"].as_str().unwrap();
    rig.engine.set_full(true);
    let _running = run(&rig);
    for _ in 0..400 {
        if matches!(rig.exports.get(id).unwrap().0.state, State::Failed { .. }) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let State::Failed { kind, detail } = rig.exports.get(id).unwrap().0.state else { panic!("it does not fail") };
    assert_eq!(kind, "storage_full");
    assert!(detail.contains("the disk has 0"), "{detail}");
    assert!(!rig.dir.path().join("exports").join(id).join("bundle.part").exists(), "and nothing is left");
}

#[tokio::test]
async fn orders_wait_in_a_bounded_line_and_can_be_given_up() {
    let rig = Rig::start().await;
    let device = rig.officer();
    let mut ids = Vec::new();
    for _ in 0..16 {
        let response = rig.send_json(Method::POST, "/v1/exports", &order(&[&device], 10), &[]).await;
        assert_eq!(response.status(), 202);
        let place = response.headers()["location"].to_str().unwrap().to_owned();
        ids.push(place);
    }
    problem(rig.send_json(Method::POST, "/v1/exports", &order(&[&device], 10), &[]).await, 503, "too many").await;
    problem(rig.get(&format!("{}/bundle.zip", ids[0])).await, 404, "not yet").await;
    let given_up = rig.ask(Method::DELETE, &ids[0], &[]).await;
    assert_eq!(given_up.json::<Value>().await.unwrap()["state"], "cancelled");
    assert_eq!(rig.ask(Method::DELETE, &ids[0], &[]).await.status(), 200, "and then it goes");
    problem(rig.get(&ids[0]).await, 404, "gone").await;
    assert_eq!(rig.json("/v1/exports").await["exports"].as_array().unwrap().len(), 15);
}

#[tokio::test]
async fn jobs_outlive_a_stop_and_bundles_expire() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.record(&mut device, 2).await;
    let response = rig.send_json(Method::POST, "/v1/exports", &order(&[&device], 4), &[]).await;
    let id = response.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned();
    // As if the server had been killed while it was at it.
    let file = rig.dir.path().join("exports").join(&id).join("job.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"waiting\"", "\"running\"")).unwrap();
    std::fs::write(file.with_file_name("bundle.part"), b"half a bundle").unwrap();
    let reader =
        aigaq::log::Log::open(rig.store.clone(), aigaq::log::Identity::ephemeral().unwrap(), None).unwrap().reader();
    let damaged = prometheus::IntCounter::new("damaged", "d").unwrap();
    let metrics = aigaq::export::Metrics::register(&prometheus::Registry::new(), damaged).unwrap();
    let next = exports(rig.dir.path(), &rig.store, &reader, &rig.fleet, &rig.clock, metrics);
    let stop = CancellationToken::new();
    let running = tokio::spawn(Arc::clone(&next).run(stop.clone()));
    for _ in 0..400 {
        if next.file(&id).is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let (bundle, path) = next.file(&id).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), bundle.bytes);
    assert!(!path.with_file_name("bundle.part").exists());
    stop.cancel();
    running.await.unwrap().unwrap();
    rig.clock.set(BEGIN + 8 * 86_400_000_000);
    let stop = CancellationToken::new();
    tokio::spawn(Arc::clone(&next).run(stop.clone()));
    for _ in 0..400 {
        if next.get(&id).is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert!(next.get(&id).is_err() && !path.exists(), "its time is over");
}

#[tokio::test]
async fn a_bundle_can_be_fetched_in_parts() {
    let rig = Rig::start().await;
    let mut device = rig.officer();
    rig.record(&mut device, 2).await;
    let (job, _) = bundle_of(&rig, &order(&[&device], 4)).await;
    let href = job["bundle"]["href"].as_str().unwrap();
    let whole = rig.bytes(href).await;
    let part = rig.ask(Method::GET, href, &[("range", "bytes=100-299")]).await;
    assert_eq!((part.status().as_u16(), part.headers()["accept-ranges"].to_str().unwrap()), (206, "bytes"));
    let tag = part.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(part.bytes().await.unwrap(), whole[100..300]);
    assert_eq!(rig.ask(Method::GET, href, &[("if-none-match", &tag)]).await.status(), 304);
    assert_eq!(rig.ask(Method::HEAD, href, &[]).await.headers()["content-length"], whole.len().to_string().as_str());
    problem(rig.ask(Method::GET, href, &[("range", "bytes=99999999-")]).await, 416, "outside").await;
    let other: Bytes = rig.bytes(href).await;
    assert_eq!(whole, other);
}
