//! Bundles that lie about themselves: whatever stands there, the verifier answers in bounded memory, with a reason, and never panics.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

#[path = "support/bundle.rs"]
mod bundle;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use aigaq::verify::{Fault, Report, verify};
use aigaq_proto::verdict::{Verdict, What};
use bundle::{Made, Stored, Wanted, Zip, make};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// What the verifier may have of memory beside its own code: 64 MiB.
const MEMORY_KIB: u32 = 64 * 1024;

fn small() -> (tempfile::TempDir, Made) {
    let home = tempfile::tempdir().unwrap();
    let made = make(&home.path().join("bundle"), &Wanted { segments: 6, segment_bytes: 1_000, recording: 3 });
    (home, made)
}

/// Runs the command with no more than 64 MiB of memory; its exit code and what it said.
fn limited(bundle: &Path) -> (Option<i32>, String) {
    let line = format!("ulimit -d {MEMORY_KIB} && exec \"$0\" verify \"$1\"");
    let program = env!("CARGO_BIN_EXE_aigaq");
    let output = Command::new("sh").args(["-c", &line, program]).arg(bundle).output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.code(), said.concat())
}

/// That the bundle cannot be read, and why.
#[track_caller]
fn refused(path: &Path, why: &str) {
    let error = verify(path, None).unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
}

#[track_caller]
fn found(report: &Report, path: &str, fault: Fault) {
    assert_eq!(report.verdict, Verdict::NotAuthentic);
    assert!(report.files.iter().any(|one| one.path == path && one.fault == fault), "{}", report.text());
}

#[test]
fn a_large_bundle_and_one_of_many_links_are_verified_in_64_mib() {
    let home = tempfile::tempdir().unwrap();
    // A longer campaign says how many gigabytes.
    let gigabytes: u64 = number_of("AIGAQ_BUNDLE_GB").unwrap_or(0);
    let large = 300.max(gigabytes * 1_024);
    for (name, segments, segment_bytes, recording) in [("large", large, 1 << 20, 100), ("long", 100_000, 16, 60)] {
        let made = make(&home.path().join(name), &Wanted { segments, segment_bytes, recording });
        for path in [made.zip(), made.dir.clone()] {
            let begun = Instant::now();
            let (code, said) = limited(&path);
            assert_eq!(code, Some(0), "{name}: {said}");
            println!("{name}, {segments} segments of {segment_bytes} bytes: {:?} in {MEMORY_KIB} KiB", begun.elapsed());
        }
    }
}

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn a_bundle_that_was_made_is_authentic_as_zip_and_as_directory() {
    let (_home, made) = small();
    for path in [made.zip(), made.dir.clone()] {
        let report = verify(&path, None).unwrap();
        assert_eq!((report.verdict, &report.files[..]), (Verdict::Authentic, &[][..]), "{}", report.text());
    }
}

/// A ZIP of the bundle with one more entry, or another end.
fn zip_with(made: &Made, change: impl FnOnce(&mut Zip<Vec<u8>>)) -> PathBuf {
    let mut zip = Zip::new(Vec::new());
    for path in bundle::paths(&made.dir) {
        zip.add_bytes(&Stored::of(&format!("export-made-up/{path}")), &made.read(&path));
    }
    change(&mut zip);
    let path = made.dir.with_extension("zip");
    std::fs::write(&path, zip.finish()).unwrap();
    path
}

#[test]
fn paths_that_mean_something_else_elsewhere_are_refused() {
    let (_home, made) = small();
    for name in [
        "export-made-up/../evil",
        "export-made-up/a/../../evil",
        "/etc/passwd",
        "export-made-up//etc/passwd",
        "export-made-up/./README.txt",
        "export-made-up/a\\b",
        "export-made-up/C:evil",
        "export-made-up/a\0b",
        "export-made-up/\u{445}",
        "other/README.txt",
        "README.txt",
    ] {
        let path = zip_with(&made, |zip| zip.add_bytes(&Stored::of(name), b"evil"));
        let error = verify(&path, None).unwrap_err().to_string();
        assert!(error.contains("path") || error.contains("directory"), "{name}: {error}");
    }
    // Another case is another file, which the manifest does not name.
    let path = zip_with(&made, |zip| zip.add_bytes(&Stored::of("export-made-up/readme.TXT"), b"evil"));
    found(&verify(&path, None).unwrap(), "readme.TXT", Fault::NotNamed);
}

#[test]
fn tables_that_lie_are_refused() {
    let (_home, made) = small();
    let entry = || Stored::of("export-made-up/more");
    let with = |entry: Stored| zip_with(&made, |zip| zip.add_bytes(&entry, b"0123456789"));
    refused(&zip_with(&made, |zip| zip.add_bytes(&Stored::of("export-made-up/README.txt"), b"")), "twice");
    refused(&with(Stored { local_name: Some(b"export-made-up/less".to_vec()), ..entry() }), "two things");
    refused(&with(Stored { length: Some(5), packed: Some(5), ..entry() }), "two things");
    refused(&with(Stored { length: Some(u64::MAX), packed: Some(u64::MAX), ..entry() }), "two things");
    refused(&with(Stored { local: Some(0), ..entry() }), "two things");
    refused(&with(Stored { local: Some(u64::MAX), ..entry() }), "two things");
    refused(&with(Stored { flags: 1, ..entry() }), "encrypted");
    // What would unpack to a terabyte is not unpacked at all.
    refused(&with(Stored { method: 8, length: Some(1 << 40), ..entry() }), "packed");
    // Twice the same bytes under two names.
    let same = |zip: &mut Zip<Vec<u8>>| {
        zip.add_bytes(&entry(), b"0123456789");
        zip.add_bytes(
            &Stored { local: Some(0), local_name: Some(b"export-made-up/SHA256SUMS".to_vec()), ..entry() },
            b"",
        );
    };
    assert!(verify(&zip_with(&made, same), None).is_err());
    for count in [0, 1, 65_537, 1 << 32, u64::MAX] {
        let path = zip_with(&made, |zip| zip.count = count);
        let (code, said) = limited(&path);
        assert_eq!(code, Some(5), "{count}: {said}");
    }
}

#[test]
fn a_zip_that_was_cut_or_grew_is_refused() {
    let (_home, made) = small();
    let path = made.zip();
    let whole = std::fs::read(&path).unwrap();
    for length in [0, 1, 21, 22, 98, whole.len() / 2, whole.len() - 98, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert!(verify(&path, None).is_err(), "{length} bytes");
    }
    for around in [[&whole[..], b"x"].concat(), [b"x", &whole[..]].concat()] {
        std::fs::write(&path, around).unwrap();
        assert!(verify(&path, None).is_err());
    }
}

#[test]
fn what_is_no_file_of_the_bundle_is_refused_and_never_waited_for() {
    let (home, made) = small();
    let extra = made.dir.join("extra");
    std::fs::write(&extra, b"more").unwrap();
    found(&verify(&made.dir, None).unwrap(), "extra", Fault::NotNamed);
    std::fs::remove_file(&extra).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &extra).unwrap();
    refused(&made.dir, "extra is neither a file nor a directory");
    std::fs::remove_file(&extra).unwrap();
    std::os::unix::fs::symlink(home.path(), &extra).unwrap();
    refused(&made.dir, "extra is neither a file nor a directory");
    std::fs::remove_file(&extra).unwrap();
    assert!(Command::new("mkfifo").arg(&extra).status().unwrap().success());
    refused(&made.dir, "extra is neither a file nor a directory");
    refused(&extra, "neither a file nor a directory");
    std::fs::remove_file(&extra).unwrap();
    refused(Path::new("/dev/zero"), "neither a file nor a directory");
    std::fs::create_dir_all(made.dir.join("a/a/a/a/a/a/a/a/a/a/a/a")).unwrap();
    refused(&made.dir, "too deep");
}

#[test]
fn lines_that_are_long_deep_or_wide_take_no_memory() {
    let (_home, made) = small();
    let chain = aigaq::bundle::chain(made.recorder);
    let lines = made.read(&chain);
    let first = lines.split(|byte| *byte == b'\n').next().unwrap();
    let with =
        |member: &str, text: String| [&first[..first.len() - 1], format!(",{member}{text}}}\n").as_bytes()].concat();
    let many = 1 << 20;
    for (what, line, code) in [
        ("deep", with("\"x\":", "[".repeat(2 * many - 10_000)), 3),
        ("deep and closed", with("\"x\":", "[".repeat(1_000) + &"]".repeat(1_000)), 3),
        ("wide", with("\"x\":", format!("[{}0]", "0,".repeat(many - 10_000))), 3),
        ("a proof without end", with("\"proof\":", format!("[{}\"\"]", "\"\",".repeat(many / 2))), 3),
        ("long", vec![b'x'; 40 * many], 5),
        ("no text", vec![0xff; many], 3),
    ] {
        made.write(&chain, &[&line[..], &lines].concat());
        made.seal();
        let (found, said) = limited(&made.dir);
        assert_eq!(found, Some(code), "{what}: {said}");
    }
    made.write(&chain, &lines);
    made.write("gaps.json", format!("{{\"recorders\":[{}]}}", "[".repeat(11 << 20)).as_bytes());
    made.seal();
    let (code, said) = limited(&made.dir);
    assert_eq!(code, Some(3), "{said}");
}

#[test]
fn as_many_files_as_a_bundle_may_have_are_verified_in_64_mib() {
    let (_home, made) = small();
    let dir = format!("quarantine/{}", made.recorder);
    std::fs::create_dir_all(made.dir.join(&dir)).unwrap();
    let there = bundle::paths(&made.dir).len();
    for number in 0..65_536 - there {
        std::fs::write(made.dir.join(format!("{dir}/{number}")), b"x").unwrap();
    }
    made.seal();
    for path in [made.zip(), made.dir.clone()] {
        let (code, said) = limited(&path);
        assert!(code == Some(3) && said.contains("belong to no signed link"), "{code:?} {said}");
    }
    made.write("one-more", b"");
    for path in [made.zip(), made.dir.clone()] {
        let (code, said) = limited(&path);
        assert!(code == Some(5) && said.contains("more than 65536 files"), "{said}");
    }
}

#[test]
fn what_a_line_says_of_files_is_not_believed() {
    let (_home, made) = small();
    let chain = aigaq::bundle::chain(made.recorder);
    let sound = String::from_utf8(made.read(&chain)).unwrap();
    let media = format!("media/{}/0.mp4", made.recorder);
    let cases = [
        ("another file", format!("\"{media}\""), "\"log/checkpoint\"".to_owned(), "log/checkpoint", Fault::Contradicts),
        (
            "up the tree",
            format!("\"{media}\""),
            "\"../../etc/passwd\"".to_owned(),
            "../../etc/passwd",
            Fault::Contradicts,
        ),
        ("no file", format!("\"{media}\""), format!("\"media/{}/9.mp4\"", made.recorder), "", Fault::Missing),
        (
            "beyond the end",
            "\"offset\":19,".to_owned(),
            "\"offset\":18446744073709551615,".to_owned(),
            "",
            Fault::Altered,
        ),
        ("the same twice", "\"offset\":1019,".to_owned(), "\"offset\":19,".to_owned(), "", Fault::Altered),
    ];
    for (what, from, to, path, fault) in cases {
        let changed = sound.replacen(&from, &to, 1);
        assert!(changed != sound, "{what}");
        made.write(&chain, changed.as_bytes());
        made.seal();
        let report = verify(&made.dir, None).unwrap();
        assert_eq!(report.verdict, Verdict::NotAuthentic, "{what}");
        let named = report.files.iter().any(|one| one.fault == fault && (path.is_empty() || one.path == path));
        let altered = report.recorders[0].findings.iter().any(|one| one.what == What::AlteredHeader);
        assert!(named || (fault == Fault::Altered && altered), "{what}: {}", report.text());
    }
}

#[test]
fn what_changes_while_it_is_read_is_noticed() {
    let (_home, made) = small();
    made.write("gaps.json", b"{\"recorders\":[]}");
    found(&verify(&made.dir, None).unwrap(), "gaps.json", Fault::Altered);
    made.seal();
    // A length that the manifest does not have, whatever the digest says.
    let manifest = String::from_utf8(made.read("manifest.json")).unwrap();
    made.write("manifest.json", manifest.replacen("\"bytes\":16,", "\"bytes\":17,", 1).as_bytes());
    made.sign();
    found(&verify(&made.dir, None).unwrap(), "gaps.json", Fault::Altered);
}

/// The files that a manifest does not name.
const UNNAMED: [&str; 3] = [aigaq::bundle::MANIFEST, aigaq::bundle::SUMS, aigaq::bundle::SIGNATURE];
/// Set in the process that is measured.
const ALONE: &str = "AIGAQ_TEST_ALONE";
/// What no answer may take longer than.
const DEADLINE: Duration = Duration::from_secs(10);

/// Bytes and texts that have a meaning somewhere: in tables, in numbers, in JSON, in notes.
const TELLING: [&[u8]; 26] = [
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"PK\x01\x02",
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"PK\x06\x06",
    b"PK\x06\x07",
    b"\n",
    b"\n\n",
    b"\0",
    b"\"",
    b"[[[[[[[[[[[[[[[[",
    b"{\"a\":",
    b"}",
    b"]",
    b",",
    b"null",
    b"-1",
    b"18446744073709551615",
    b"99999999999999999999999999",
    b"1e309",
    b"../../etc/passwd",
    b"-----BEGIN CERTIFICATE-----",
    b"\xe2\x80\x94 ",
];

/// Changes bytes as somebody would who wants the worst, and has patience.
fn mutate(bytes: &mut Vec<u8>, random: &mut StdRng) {
    for _ in 0..random.random_range(1..6) {
        if bytes.is_empty() {
            bytes.extend_from_slice(TELLING[random.random_range(0..TELLING.len())]);
            continue;
        }
        // The end of a ZIP and the beginning of a document matter most.
        let at = match random.random_range(0..4) {
            0 => bytes.len() - 1 - random.random_range(0..bytes.len().min(400)),
            1 => random.random_range(0..bytes.len().min(400)),
            _ => random.random_range(0..bytes.len()),
        };
        let end = (at + random.random_range(1..64)).min(bytes.len());
        match random.random_range(0..8) {
            0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 => bytes[at] = random.random(),
            2 => drop(bytes.drain(at..end)),
            3 => bytes.truncate(at),
            4 => {
                let part = bytes[at..end].to_vec();
                let to = random.random_range(0..=bytes.len());
                drop(bytes.splice(to..to, part));
            }
            5 => {
                let telling = TELLING[random.random_range(0..TELLING.len())];
                let over = (at + telling.len()).min(bytes.len());
                drop(bytes.splice(at..over, telling.iter().copied()));
            }
            6 => {
                let telling = TELLING[random.random_range(0..TELLING.len())];
                drop(bytes.splice(at..at, telling.iter().copied()));
            }
            _ => {
                let part = bytes[at..end].to_vec();
                let times = random.random_range(2..200);
                drop(bytes.splice(end..end, part.repeat(times)));
            }
        }
    }
}

/// What the process had of memory at the most since it was asked last, KiB.
fn most_memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let most = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    most
}

/// Verifies what came of a change; whether it could be read. Panics if the verifier does, or takes too long.
#[track_caller]
fn answers(path: &Path, what: &str) -> bool {
    let begun = Instant::now();
    let answer = catch_unwind(AssertUnwindSafe(|| verify(path, None)));
    let answer = answer.unwrap_or_else(|_| panic!("{what}: the verifier panics"));
    assert!(begun.elapsed() < DEADLINE, "{what}: {:?}", begun.elapsed());
    answer.is_ok()
}

#[test]
fn whatever_is_changed_in_a_bundle_the_verifier_answers_soon_and_in_bounded_memory() {
    // In a process of its own: what others have of memory is not the verifier's.
    if std::env::var_os(ALONE).is_none() {
        let name = "whatever_is_changed_in_a_bundle_the_verifier_answers_soon_and_in_bounded_memory";
        let mut alone = Command::new(std::env::current_exe().unwrap());
        let ran = alone.args(["--exact", name, "--nocapture"]).env(ALONE, "1").output().unwrap();
        let said = [ran.stdout, ran.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert!(ran.status.success() && said[0].contains("1 passed"), "{}{}", said[0], said[1]);
        return println!("{}", said[0]);
    }
    let rounds = number_of("AIGAQ_MUTATIONS").unwrap_or(400);
    let (home, made) = small();
    let zip = std::fs::read(made.zip()).unwrap();
    let paths = bundle::paths(&made.dir);
    let sound_all: Vec<Vec<u8>> = paths.iter().map(|path| made.read(path)).collect();
    let seed = number_of("AIGAQ_SEED").unwrap_or(29);
    let mut random = StdRng::seed_from_u64(seed);
    let (mut read, mut refused) = (0, 0);
    let before = most_memory_kib();
    for round in 0..rounds {
        let what = format!("round {round} of seed {seed}");
        let is_read = if round % 2 == 0 {
            let mut bytes = zip.clone();
            mutate(&mut bytes, &mut random);
            let path = home.path().join("mutated.zip");
            std::fs::write(&path, bytes).unwrap();
            answers(&path, &what)
        } else {
            // A document, sealed again, so that what it says is looked at.
            let at = random.random_range(0..paths.len());
            let path = &paths[at];
            let mut bytes = sound_all[at].clone();
            mutate(&mut bytes, &mut random);
            made.write(path, &bytes);
            if !UNNAMED.contains(&path.as_str()) {
                made.seal();
            } else if path == aigaq::bundle::MANIFEST {
                made.sign();
            }
            let is_read = answers(&made.dir, &format!("{what}, in {path}"));
            // Sealing changes three files; the one that was changed is put back, and they are as they were.
            for (path, sound) in paths.iter().zip(&sound_all) {
                if *path == paths[at] || UNNAMED.contains(&path.as_str()) {
                    made.write(path, sound);
                }
            }
            is_read
        };
        if is_read { read += 1 } else { refused += 1 }
    }
    let most = most_memory_kib();
    println!(
        "{rounds} mutated bundles: {read} were judged, {refused} could not be read; {before} KiB, then {most} KiB at the most"
    );
    assert!(most < before + u64::from(MEMORY_KIB), "{before} KiB, then {most} KiB");
    assert!(read > rounds / 10 && refused > rounds / 10, "{read} {refused}");
}
