//! Enrolling and the registry, on real files and a store in memory.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use aigaq_proto::RecorderId;

use super::*;
use crate::clock::Clock;
use crate::store::Store;
use crate::{est, log};

fn request() -> EnrolRequest {
    EnrolRequest {
        kind: RecorderKind::Vehicle,
        department: "Almaty city".to_owned(),
        label: "Car 7".to_owned(),
        server: None,
    }
}

fn now() -> Clock {
    Clock::fixed(1_760_000_000_000_000)
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

#[test]
fn a_ca_certificate_with_a_flipped_bit_issues_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let clock = now();
    Authority::load_or_create(dir.path(), &clock).unwrap();
    let path = dir.path().join("ca/ca.pem");
    let sound = certificate(&path);
    for at in 0..sound.len() {
        let mut flipped = sound.to_vec();
        flipped[at] ^= 4;
        std::fs::write(&path, est::to_pem(&flipped)).unwrap();
        assert!(Authority::load_or_create(dir.path(), &clock).is_err(), "byte {at}");
    }
    std::fs::write(&path, est::to_pem(&sound)).unwrap();
    Authority::load_or_create(dir.path(), &clock).unwrap();
}

#[test]
fn an_identity_is_complete_and_its_key_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("car-7"));
    let id = enrol(&data, request(), &out, &Settings::default(), &now()).unwrap();

    let about: RecorderFile = toml::from_str(&std::fs::read_to_string(out.join("recorder.toml")).unwrap()).unwrap();
    assert_eq!(about.id, id.to_string());
    assert_eq!(about.server_name, SERVER_NAME);
    assert_eq!(about.log_key, log::Identity::load_or_create(&data).unwrap().key().as_str());
    let key = std::fs::read_to_string(out.join("key.pem")).unwrap();
    assert!(key.starts_with("-----BEGIN PRIVATE KEY-----"), "PKCS #8");
    for secret in [out.join("key.pem"), data.join("ca/ca.key")] {
        assert_eq!(mode(&secret), 0o600, "{}", secret.display());
    }

    let (ca, leaf) = (certificate(&out.join("ca.pem")), certificate(&out.join("cert.pem")));
    let (_, ca) = X509Certificate::from_der(&ca).unwrap();
    let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
    leaf.verify_signature(Some(ca.public_key())).unwrap();
    assert!(!leaf.is_ca());
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth);
    assert_eq!(RecorderId::of_spki(leaf.public_key().raw), id);
}

#[test]
fn nobody_is_enrolled_with_a_new_log_key_beside_an_old_store() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("car-7"));
    enrol(&data, request(), &dir.path().join("car-6"), &Settings::default(), &now()).unwrap();
    drop(Store::open(&data.join(crate::store::DIR), &crate::store::Settings::default()).unwrap());
    std::fs::remove_file(data.join("log.key")).unwrap();
    let error = enrol(&data, request(), &out, &Settings::default(), &now()).unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged, "{error}");
    assert!(!out.join("key.pem").exists() && !data.join("log.key").exists());
}

/// Runs `openssl`; `None`, with a word, where it is not installed.
fn openssl(arguments: &[&str]) -> Option<String> {
    let Ok(output) = std::process::Command::new("openssl").args(arguments).output() else {
        eprintln!("openssl is not installed: {arguments:?} was not tried");
        return None;
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "openssl {arguments:?}: {}", text(&output.stderr));
    Some(text(&output.stdout))
}

#[test]
fn a_key_is_pkcs8_version_1_and_signs_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let id = enrol(dir.path(), request(), &out, &Settings::default(), &now()).unwrap();
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from_pem_file(out.join("key.pem")).unwrap();
    let der = key.secret_pkcs8_der();
    assert_eq!((der.len(), &der[..5]), (48, &[0x30, 0x2e, 0x02, 0x01, 0x00][..]), "RFC 5208, without a public key");
    let signing = aigaq_proto::signature::SigningKey::from_pkcs8(der).unwrap();
    assert_eq!(RecorderId::of_spki(&signing.public_key().unwrap().to_spki()), id);
}

#[test]
fn openssl_reads_every_key_and_verifies_every_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let clock = Clock::system();
    enrol(dir.path(), request(), &out, &Settings::default(), &clock).unwrap();
    let authority = Authority::load_or_create(dir.path(), &clock).unwrap();
    authority.server_identity(dir.path(), &[], &clock).unwrap();
    let of = |path: &str| dir.path().join(path).to_str().unwrap().to_owned();
    for (key, certificate, usage) in [
        ("out/key.pem", "out/cert.pem", "TLS Web Client Authentication"),
        ("server.key", "server.pem", "TLS Web Server Authentication"),
    ] {
        let Some(public) = openssl(&["pkey", "-in", &of(key), "-pubout"]) else { return };
        assert_eq!(openssl(&["x509", "-in", &of(certificate), "-noout", "-pubkey"]).unwrap(), public);
        let text = openssl(&["x509", "-in", &of(certificate), "-noout", "-text"]).unwrap();
        assert!(text.contains(usage) && text.contains("Version: 3"), "{text}");
        for ca in ["out/ca.pem", "ca/ca.pem"] {
            assert!(openssl(&["verify", "-x509_strict", "-CAfile", &of(ca), &of(certificate)]).unwrap().contains("OK"));
        }
    }
    openssl(&["pkey", "-in", &of("ca/ca.key"), "-noout"]);
}

#[test]
fn the_server_that_is_asked_for_is_named_and_must_be_a_host_with_a_port() {
    let dir = tempfile::tempdir().unwrap();
    let with = |server: &str| EnrolRequest { server: Some(server.to_owned()), ..request() };
    for (index, good) in ["gateway.example.org:4433", "10.0.0.1:1", "[2001:db8::1]:65535"].into_iter().enumerate() {
        let out = dir.path().join(index.to_string());
        enrol(dir.path(), with(good), &out, &Settings::default(), &now()).unwrap();
        let about: RecorderFile = toml::from_str(&std::fs::read_to_string(out.join("recorder.toml")).unwrap()).unwrap();
        assert_eq!(about.server, good);
    }
    let long = format!("{}:1", "x".repeat(254));
    for bad in
        ["", "host", "host:", ":4433", "host:0", "host:65536", "ho st:1", "a/b:1", "::1:4433", "[x]:1", "h:+1", &long]
    {
        let refused = enrol(dir.path(), with(bad), &dir.path().join("bad"), &Settings::default(), &now());
        assert_eq!(refused.unwrap_err().kind(), Kind::Invalid, "{bad:?}");
    }
    assert!(!dir.path().join("bad").exists());
}

#[test]
fn what_was_enrolled_before_the_first_start_is_known_at_it() {
    let dir = tempfile::tempdir().unwrap();
    let id = enrol(dir.path(), request(), &dir.path().join("out"), &Settings::default(), &now()).unwrap();
    let store = Store::memory();
    let registry = Registry::open(store.clone(), dir.path(), now()).unwrap();
    assert_eq!(registry.by_id(id).unwrap().department, "Almaty city");
    assert!(std::fs::read_dir(dir.path().join("enrolled")).unwrap().next().is_none(), "the word was taken in");
    let again = Registry::open(store, dir.path(), now()).unwrap();
    assert_eq!(again.list().len(), 1, "the store remembers");
}

#[test]
fn what_is_enrolled_while_the_server_runs_is_known_when_it_connects() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(Store::memory(), dir.path(), now()).unwrap();
    let out = dir.path().join("out");
    let id = enrol(dir.path(), request(), &out, &Settings::default(), &now()).unwrap();
    assert!(registry.by_id(id).is_none());
    let leaf = certificate(&out.join("cert.pem"));
    let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
    assert_eq!(registry.entry(leaf.public_key().raw).unwrap().id, id);
    assert_eq!(registry.entry(b"no key at all").unwrap_err(), NoEntry::Unknown);
}

#[test]
fn a_damaged_word_is_left_alone_and_the_others_are_taken_in() {
    let dir = tempfile::tempdir().unwrap();
    let bad = enrol(dir.path(), request(), &dir.path().join("a"), &Settings::default(), &now()).unwrap();
    let good = enrol(dir.path(), request(), &dir.path().join("b"), &Settings::default(), &now()).unwrap();
    let path = dir.path().join(format!("enrolled/{bad}.toml"));
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("302a300506032b6570", "302a300506032b6571")).unwrap();
    let registry = Registry::open(Store::memory(), dir.path(), now()).unwrap();
    assert!(registry.by_id(good).is_some());
    assert!(registry.by_id(bad).is_none());
    assert!(path.exists());
    assert_eq!(registry.import().unwrap(), 0);
}

#[test]
fn many_who_come_first_at_once_get_one_authority() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path();
    let pems: Vec<String> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| est::to_pem(Authority::load_or_create(data, &now()).unwrap().anchor())))
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    assert!(pems.iter().all(|pem| *pem == pems[0]));
}

#[test]
fn the_certificate_of_the_server_is_kept_until_it_is_near_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let clock = now();
    let authority = Authority::load_or_create(dir.path(), &clock).unwrap();
    let first = authority.server_identity(dir.path(), &[], &clock).unwrap();
    let same = authority.server_identity(dir.path(), &[], &clock).unwrap();
    assert_eq!(first.chain, same.chain);
    clock.set(clock.now() + 300 * 86_400_000_000);
    let renewed = authority.server_identity(dir.path(), &[], &clock).unwrap();
    assert_ne!(first.chain, renewed.chain);
    assert_eq!(first.key, renewed.key, "renewed under the same key");
    assert_eq!(mode(&dir.path().join("server.key")), 0o600);
}

#[test]
fn a_certificate_of_another_authority_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let clock = now();
    let first =
        Authority::load_or_create(dir.path(), &clock).unwrap().server_identity(dir.path(), &[], &clock).unwrap();
    std::fs::remove_dir_all(dir.path().join("ca")).unwrap();
    let second =
        Authority::load_or_create(dir.path(), &clock).unwrap().server_identity(dir.path(), &[], &clock).unwrap();
    assert_ne!(first.chain, second.chain);
}

#[test]
fn a_lost_ca_key_is_an_error_and_never_a_new_authority() {
    let dir = tempfile::tempdir().unwrap();
    Authority::load_or_create(dir.path(), &now()).unwrap();
    std::fs::remove_file(dir.path().join("ca/ca.key")).unwrap();
    assert_eq!(Authority::load_or_create(dir.path(), &now()).unwrap_err().kind(), Kind::Invalid);
}

#[test]
fn bad_requests_are_refused_and_an_identity_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    for bad in ["", "  ", "two\nlines", &"x".repeat(101)] {
        let request = EnrolRequest { department: bad.to_owned(), ..request() };
        assert_eq!(
            enrol(dir.path(), request, &out, &Settings::default(), &now()).unwrap_err().kind(),
            Kind::Invalid,
            "{bad:?}"
        );
    }
    enrol(dir.path(), request(), &out, &Settings::default(), &now()).unwrap();
    assert_eq!(enrol(dir.path(), request(), &out, &Settings::default(), &now()).unwrap_err().kind(), Kind::Invalid);
}

#[test]
fn a_code_that_was_used_answers_its_key_after_a_crash_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let code = make_code(dir.path(), request(), Duration::from_secs(60), &Settings::default(), &now()).unwrap();
    let at = now().now();
    let codes = codes::Codes::of(dir.path());
    let failed = codes.redeem(&code.secret, b"key", at, || Err(Error::new(Kind::Internal, "no CA")));
    assert_eq!(failed.err().unwrap().kind(), Kind::Internal, "and the code is as it was");
    let certificate = CertificateDer::from(vec![1, 2, 3]);
    let (_, first) = codes.redeem(&code.secret, b"key", at, || Ok(certificate.clone())).unwrap();
    assert_eq!(first, certificate);

    let restarted = codes::Codes::of(dir.path());
    let (_, again) = restarted.redeem(&code.secret, b"key", at, || panic!("issued twice")).unwrap();
    assert_eq!(again, certificate);
    let other = restarted.redeem(&code.secret, b"other", at, || panic!("issued to another"));
    let late = restarted.redeem(&code.secret, b"key", at + 60_000_000, || panic!("issued late"));
    for refused in [other, late] {
        assert_eq!(refused.err().unwrap().kind(), Kind::Unauthorised);
    }
    let file = std::fs::read_dir(dir.path().join("codes")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(mode(&file), 0o600);
    assert!(!std::fs::read_to_string(&file).unwrap().contains(&code.secret.text()), "the secret is not kept");
    restarted.sweep(at + 59_000_000);
    assert!(file.exists());
    restarted.sweep(at + 60_000_000);
    assert!(!file.exists(), "expired codes are removed");
}

#[test]
fn a_code_that_answers_again_takes_nothing_from_a_key_that_was_renewed_since() {
    let dir = tempfile::tempdir().unwrap();
    let clock = now();
    let registry = Registry::open(Store::memory(), dir.path(), clock.clone()).unwrap();
    let spki = b"key".to_vec();
    let end = clock.now() + 10;
    let EnrolRequest { kind, department, label, .. } = request();
    let newcomer = registry::Newcomer { kind, department, label, spki: spki.clone(), not_after: Some(end) };
    let id = registry.enrol(newcomer.clone()).unwrap().id;
    registry.renew(id, &spki, end + 100).unwrap();
    registry.enrol(newcomer).unwrap();
    clock.set(end + 99);
    assert!(registry.entry(&spki).is_ok(), "its renewed certificate is still good");
    clock.set(end + 100);
    assert_eq!(registry.entry(&spki).unwrap_err(), NoEntry::Ended);
}

#[test]
fn a_word_of_a_revocation_is_taken_in_and_audited_and_one_of_a_stranger_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let id = enrol(dir.path(), request(), &dir.path().join("out"), &Settings::default(), &now()).unwrap();
    revoke(dir.path(), id, "stolen").unwrap();
    let stranger = RecorderId([7; 16]);
    revoke(dir.path(), stranger, "").unwrap();
    let store = Store::memory();
    let registry = Registry::open(store.clone(), dir.path(), now()).unwrap();
    assert!(registry.is_revoked(id) && store.revoked().contains(id), "enrolled and revoked before the first start");
    let leaf = certificate(&dir.path().join("out/cert.pem"));
    let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
    assert_eq!(registry.entry(leaf.public_key().raw).unwrap_err(), NoEntry::Revoked);
    let entries: Vec<_> = store.audit_entries(0..u64::MAX).map(Result::unwrap).collect();
    assert_eq!(entries.len(), 1);
    assert!(entries[0].actor == "command line" && entries[0].reason == "stolen", "{entries:?}");
    assert_eq!(revocation(dir.path(), id).unwrap(), Revocation::Taken);
    assert_eq!(revocation(dir.path(), stranger).unwrap(), Revocation::Unknown);
    assert_eq!(std::fs::read_dir(dir.path().join("revoked")).unwrap().count(), 0, "told once, and gone");
    assert_eq!(registry.import().unwrap(), 0);
}
