//! A matrix of certificates and chains, each wrong in one way, in real handshakes against one server: none gets in, and those that are
//! right do. The key is enrolled wherever the fault lies elsewhere.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail")]

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aigaq::Clock;
use aigaq::config::Config;
use aigaq::enrol::{self, EnrolRequest};
use aigaq::server::Server;
use aigaq::store::Store;
use aigaq::store::records::RecorderKind;
use aigaq_proto::frame::ALPN;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, NameConstraints,
    PublicKeyData as _, RevokedCertParams, SerialNumber, SigningKey as _,
};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use support::Identity;
use support::session::{Session, endpoint};

type Chain = Vec<CertificateDer<'static>>;

const DAY: Duration = Duration::from_secs(86_400);

/// A CA of the tests.
struct Ca {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

fn ed25519() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap()
}

fn copy(key: &KeyPair) -> KeyPair {
    KeyPair::try_from(key.serialize_der()).unwrap()
}

fn now() -> rcgen::CertificateParams {
    let mut params = CertificateParams::default();
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_micros(Clock::system().now());
    (params.not_before, params.not_after) = (now - DAY, now + DAY * 30);
    params
}

/// A recorder's certificate as it should be.
fn leaf() -> CertificateParams {
    let mut params = now();
    params.distinguished_name.push(DnType::CommonName, "recorder");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.serial_number = Some(SerialNumber::from_slice(&[0x11; 8]));
    params
}

fn authority(name: &str, path_length: Option<u8>) -> CertificateParams {
    let mut params = now();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(path_length.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Ca {
    fn root(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = authority(name, None).self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::from_ca_cert_der(&certificate, key).unwrap(), certificate }
    }

    /// The CA that the server made for itself.
    fn own(data: &Path) -> Self {
        use rustls::pki_types::pem::PemObject as _;
        let certificate = CertificateDer::from_pem_file(data.join("ca/ca.pem")).unwrap();
        let key = KeyPair::from_pem(&std::fs::read_to_string(data.join("ca/ca.key")).unwrap()).unwrap();
        Self { issuer: Issuer::from_ca_cert_der(&certificate, key).unwrap(), certificate }
    }

    fn sub(&self, params: &CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Self { issuer: Issuer::new(params.clone(), key), certificate }
    }

    fn issue(&self, params: &CertificateParams, key: &KeyPair) -> CertificateDer<'static> {
        params.signed_by(key, &self.issuer).unwrap().der().clone()
    }

    /// The leaf for `key` with this change, then the certificates in `others`.
    fn chain(&self, key: &KeyPair, change: impl FnOnce(&mut CertificateParams), others: &[&Self]) -> Chain {
        let mut params = leaf();
        change(&mut params);
        let others = others.iter().map(|ca| ca.certificate.clone());
        std::iter::once(self.issue(&params, key)).chain(others).collect()
    }

    /// A revocation list of the certificates with these serial numbers, PEM; good until `days` from now.
    fn list(&self, serials: &[&[u8]], days: i32) -> String {
        let (this_update, next_update) = match days {
            0.. => (now().not_before, now().not_before + DAY * (days as u32 + 1)),
            _ => (now().not_before - DAY * 9, now().not_before - DAY),
        };
        let revoked = |serial: &&[u8]| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: this_update,
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update,
            next_update,
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// The parts of a good certificate for `key` with this change, signed again.
    fn forge(&self, key: &KeyPair, change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Chain {
        let good = self.chain(key, |_| {}, &[]).remove(0);
        let outer = parts(&contents(&good));
        let mut fields = parts(&contents(&outer[0]));
        change(&mut fields);
        let body = sequence(&fields);
        let mut signature = vec![0];
        signature.extend(self.issuer.key().sign(&body).unwrap());
        vec![sequence(&[body, outer[1].clone(), tagged(0x03, &signature)]).into()]
    }
}

/// The parts of a TBSCertificate with all that rcgen writes.
const VERSION: usize = 0;
const SERIAL: usize = 1;
const ALGORITHM: usize = 2;
const ISSUER: usize = 3;
const SPKI: usize = 6;
const EXTENSIONS: usize = 7;

fn header(der: &[u8]) -> (usize, usize) {
    match der[1] {
        length @ 0..0x80 => (2, length as usize),
        count => {
            let count = (count & 0x7f) as usize;
            (2 + count, der[2..2 + count].iter().fold(0, |length, byte| length << 8 | *byte as usize))
        }
    }
}

fn contents(der: &[u8]) -> Vec<u8> {
    let (head, length) = header(der);
    der[head..head + length].to_vec()
}

fn parts(mut contents: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    while !contents.is_empty() {
        let (head, length) = header(contents);
        let (part, rest) = contents.split_at(head + length);
        parts.push(part.to_vec());
        contents = rest;
    }
    parts
}

fn tagged(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len();
    let mut der = match length {
        0..0x80 => vec![tag, length as u8],
        0x80..0x100 => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    der.extend_from_slice(contents);
    der
}

fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tagged(0x30, &parts.concat())
}

/// Shows these certificates and signs with that key, whatever the two have to do with one another.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Signs with its first scheme, whatever was offered.
#[derive(Debug)]
struct Stubborn(Arc<dyn SigningKey>);

impl SigningKey for Stubborn {
    fn choose_scheme(&self, _offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let all = [
            SignatureScheme::ED25519,
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ECDSA_NISTP521_SHA512,
            SignatureScheme::RSA_PSS_SHA256,
        ];
        self.0.choose_scheme(&all)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm()
    }
}

fn client(chain: Chain, key: &KeyPair, ca: &CertificateDer<'static>) -> quinn::ClientConfig {
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der).unwrap();
    let shown = Shows(Arc::new(CertifiedKey::new(chain, Arc::new(Stubborn(signing)))));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(shown));
    tls.alpn_protocols = vec![ALPN.to_vec()];
    quinn::ClientConfig::new(Arc::new(quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap()))
}

/// A server that trusts an existing CA beside its own, and what is needed to make certificates of both.
struct Site {
    home: tempfile::TempDir,
    address: SocketAddr,
    metrics: prometheus::Registry,
    own: Ca,
    log: aigaq_proto::receipt::LogKey,
    serving: tokio::task::JoinHandle<aigaq::Result<()>>,
    stop: tokio_util::sync::CancellationToken,
}

impl Site {
    async fn open(anchors: &str, lists: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let mut config = Config::default();
        (config.quic.listen, config.api.listen, config.ops.listen) = (any, any, any);
        // A test here shakes hands as fast as it can, and asks about certificates alone.
        config.quic.handshakes_per_s_max = 100_000;
        config.store.dir = home.path().join("data");
        let file = |name: &str, text: &str| {
            std::fs::write(home.path().join(name), text).unwrap();
            Some(home.path().join(name))
        };
        config.enrol.trust_anchors = file("anchors.pem", anchors);
        config.enrol.crl = file("lists.pem", lists);
        let server = Server::start(config, Clock::system()).await.unwrap();
        let (address, metrics) = (server.quic_addr, server.metrics.clone());
        let own = Ca::own(&home.path().join("data"));
        let log = Identity::enrol(&home.path().join("data"), &home.path().join("rig")).log;
        let stop = tokio_util::sync::CancellationToken::new();
        let serving = tokio::spawn(server.run_until(stop.clone().cancelled_owned()));
        Self { home, address, metrics, own, log, serving, stop }
    }

    /// Stops the server; what is left is its store.
    async fn stop(self) -> (Store, tempfile::TempDir) {
        self.stop.cancel();
        self.serving.await.unwrap().unwrap();
        let store = self.home.path().join("data").join(aigaq::store::DIR);
        (Store::open_read_only(&store, &aigaq::store::Settings::default()).unwrap(), self.home)
    }

    /// Enrols a key, whatever certificates it will come with.
    fn enrol(&self, key: &KeyPair) -> aigaq_proto::RecorderId {
        let pem = self.home.path().join("key-to-enrol.pem");
        std::fs::write(&pem, leaf().self_signed(key).unwrap().pem()).unwrap();
        let (department, label) = ("Astana".to_owned(), String::new());
        let request = EnrolRequest { kind: RecorderKind::Officer, department, label, server: None };
        enrol::register(&self.home.path().join("data"), request, &pem, &Clock::system()).unwrap()
    }

    /// Whether the server says welcome to whoever shows this chain and signs with this key.
    async fn welcomes(&self, chain: Chain, key: &KeyPair) -> Result<(), String> {
        self.greet(chain, key, &endpoint()).await.map(|_| ())
    }

    /// The session of whoever shows this chain and signs with this key.
    async fn greet(&self, chain: Chain, key: &KeyPair, endpoint: &quinn::Endpoint) -> Result<Session, String> {
        let attempt = async {
            let connecting = endpoint
                .connect_with(client(chain, key, &self.own.certificate), self.address, enrol::SERVER_NAME)
                .map_err(|error| error.to_string())?;
            let connection = connecting.await.map_err(|error| error.to_string())?;
            Session::greet(connection, self.log.clone()).await
        };
        tokio::time::timeout(Duration::from_secs(20), attempt).await.unwrap_or_else(|_| Err("no answer".to_owned()))
    }

    /// Handshakes by their result.
    fn handshakes(&self, result: &str) -> u64 {
        let families = self.metrics.gather();
        let Some(family) = families.iter().find(|family| family.name() == "aigaq_handshakes_total") else { return 0 };
        let is = |metric: &&prometheus::proto::Metric| metric.get_label().iter().any(|pair| pair.value() == result);
        family.get_metric().iter().find(is).map_or(0, |metric| metric.get_counter().get_value() as u64)
    }
}

fn extension(oid: &[u64], contents: &[u8], critical: bool) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, contents.to_vec());
    extension.set_criticality(critical);
    extension
}

#[tokio::test(flavor = "multi_thread")]
async fn of_all_certificates_that_are_wrong_in_one_way_none_gets_in() {
    let root = Ca::root("Existing Root");
    let good = root.sub(&authority("Good", Some(0)));
    let upper = root.sub(&authority("Upper", Some(1)));
    let lower = upper.sub(&authority("Lower", Some(0)));
    let revoked = root.sub(&{
        let mut params = authority("Revoked", Some(0));
        params.serial_number = Some(SerialNumber::from_slice(&[0x22; 8]));
        params
    });
    let (silent, stale, forged) = (
        root.sub(&authority("No list", Some(0))),
        root.sub(&authority("Old list", Some(0))),
        root.sub(&authority("Forged list", Some(0))),
    );
    let forger = Ca::root("Forged list");
    let lists = [
        root.list(&[&[0x22; 8]], 30),
        good.list(&[&[0x33; 8]], 30),
        upper.list(&[], 30),
        lower.list(&[], 30),
        revoked.list(&[], 30),
        stale.list(&[], -1),
        forger.list(&[], 30),
    ];
    let pem = |ca: &Ca| aigaq::est::to_pem(&ca.certificate);
    let site = Site::open(&pem(&root), &lists.concat()).await;
    let own = &site.own;
    let (key, p256) = (ed25519(), KeyPair::generate().unwrap());
    site.enrol(&key);
    site.enrol(&p256);

    // What is right gets in, or the rest would prove nothing.
    let right = [
        ("own CA, Ed25519", own.chain(&key, |_| {}, &[]), &key),
        ("own CA, P-256", own.chain(&p256, |_| {}, &[]), &p256),
        ("own CA, shown with it", own.chain(&key, |_| {}, &[own]), &key),
        ("own CA, forged into what it was", own.forge(&key, |_| {}), &key),
        ("existing CA, at its root", root.chain(&key, |_| {}, &[]), &key),
        ("existing CA, below an intermediate", good.chain(&key, |_| {}, &[&good]), &key),
        ("existing CA, below two", lower.chain(&key, |_| {}, &[&lower, &upper]), &key),
        ("existing CA, below two in another order", lower.chain(&key, |_| {}, &[&upper, &lower]), &key),
    ];
    let right_count = right.len() as u64;
    for (name, chain, key) in right {
        assert_eq!(site.welcomes(chain, key).await, Ok(()), "{name}");
    }
    assert_eq!(site.handshakes("ok"), right_count);

    let mut wrong: Vec<(String, Chain, KeyPair)> = Vec::new();
    let mut add = |name: &str, chain: Chain| wrong.push((name.to_owned(), chain, copy(&key)));

    // What the certificate is for, and when.
    add("no extended key usage", own.chain(&key, |leaf| leaf.extended_key_usages.clear(), &[]));
    for (name, usage) in [
        ("server authentication", ExtendedKeyUsagePurpose::ServerAuth),
        ("any usage", ExtendedKeyUsagePurpose::Any),
        ("code signing", ExtendedKeyUsagePurpose::CodeSigning),
        ("time stamping", ExtendedKeyUsagePurpose::TimeStamping),
    ] {
        add(name, own.chain(&key, |leaf| leaf.extended_key_usages = vec![usage], &[]));
    }
    for (name, usages) in [
        ("a key that only signs certificates", vec![KeyUsagePurpose::KeyCertSign]),
        ("a key that only agrees on keys", vec![KeyUsagePurpose::KeyAgreement, KeyUsagePurpose::KeyEncipherment]),
    ] {
        add(name, own.chain(&key, |leaf| leaf.key_usages = usages, &[]));
    }
    add("a CA", own.chain(&key, |leaf| leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained), &[]));
    add(
        "a CA with a path length",
        own.chain(&key, |leaf| leaf.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)), &[]),
    );
    add("expired yesterday", own.chain(&key, |leaf| leaf.not_after = leaf.not_before, &[]));
    let second = Duration::from_secs(1);
    add("expired a second ago", own.chain(&key, |leaf| leaf.not_after = leaf.not_before + DAY - second, &[]));
    add("begins tomorrow", own.chain(&key, |leaf| leaf.not_before += DAY * 2, &[]));
    add("ends before it begins", own.chain(&key, |leaf| leaf.not_after = leaf.not_before - DAY, &[]));

    // Who signed it.
    let same_name = Ca::root("Aigaq CA");
    add("another CA of the same name", same_name.chain(&key, |_| {}, &[]));
    add("another CA of the same name, shown with it", same_name.chain(&key, |_| {}, &[&same_name]));
    add("another CA", Ca::root("Another").chain(&key, |_| {}, &[]));
    add("self-signed", vec![leaf().self_signed(&key).unwrap().der().clone()]);
    let mut named = leaf();
    named.distinguished_name = rcgen::DistinguishedName::new();
    named.distinguished_name.push(DnType::CommonName, "Aigaq CA");
    add("self-signed in the name of the CA", vec![named.self_signed(&key).unwrap().der().clone()]);
    let with_issuer = |ca: &Ca| parts(&contents(&parts(&contents(&ca.certificate))[0]))[5].clone();
    let other_issuer = with_issuer(&Ca::root("Someone else"));
    add("an issuer that did not sign", own.forge(&key, |fields| fields[ISSUER] = other_issuer));

    // What it is made of.
    let unknown = extension(&[1, 3, 6, 1, 4, 1, 99999, 1], &[5, 0], true);
    add("an unknown critical extension", own.chain(&key, |leaf| leaf.custom_extensions = vec![unknown.clone()], &[]));
    let twice = extension(&[2, 5, 29, 37], &[0x30, 0x0a, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 2], false);
    add("an extension twice", own.chain(&key, |leaf| leaf.custom_extensions = vec![twice], &[]));
    let no_usage = extension(&[2, 5, 29, 37], &[0x30, 0], false);
    add(
        "an empty extended key usage",
        own.chain(&key, |leaf| (leaf.extended_key_usages, leaf.custom_extensions) = (Vec::new(), vec![no_usage]), &[]),
    );
    let large = extension(&[1, 3, 6, 1, 4, 1, 99999, 2], &tagged(4, &[0; 60_000]), false);
    add("a certificate of 60 KB", own.chain(&key, |leaf| leaf.custom_extensions = vec![large], &[]));
    let version = |number: u8| tagged(0xa0, &[2, 1, number]);
    add("version 1", own.forge(&key, |fields| (*fields).drain(..=VERSION).for_each(drop)));
    add(
        "version 1 without extensions",
        own.forge(&key, |fields| {
            fields.remove(EXTENSIONS);
            fields.remove(VERSION);
        }),
    );
    add("version 2", own.forge(&key, |fields| fields[VERSION] = version(1)));
    add("version 4", own.forge(&key, |fields| fields[VERSION] = version(3)));
    add(
        "no extensions",
        own.forge(&key, |fields| {
            fields.remove(EXTENSIONS);
        }),
    );
    add("a negative serial number", own.forge(&key, |fields| fields[SERIAL] = tagged(2, &[0x80, 1])));
    add("a serial number of 40 bytes", own.forge(&key, |fields| fields[SERIAL] = tagged(2, &[1; 40])));
    add("an empty serial number", own.forge(&key, |fields| fields[SERIAL] = tagged(2, &[])));
    let sha1 = sequence(&[tagged(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1])]);
    add("two names of the signature's algorithm", own.forge(&key, |fields| fields[ALGORITHM] = sha1));
    let null_parameters = sequence(&[
        sequence(&[tagged(6, &[0x2b, 0x65, 0x70]), vec![5, 0]]),
        tagged(3, &[&[0][..], key.der_bytes()].concat()),
    ]);
    add("a key with parameters that it must not have", own.forge(&key, |fields| fields[SPKI] = null_parameters));
    let mut point = p256.der_bytes()[..33].to_vec();
    point[0] = 2 | p256.der_bytes()[64] & 1;
    let curve = parts(&contents(&p256.subject_public_key_info()))[0].clone();
    let compressed = sequence(&[curve, tagged(3, &[&[0][..], &point].concat())]);
    add("a compressed point", own.forge(&p256, |fields| fields[SPKI] = compressed));
    add("a field too many", own.forge(&key, |fields| fields.push(vec![5, 0])));
    add(
        "a field too few",
        own.forge(&key, |fields| {
            fields.remove(SERIAL);
        }),
    );

    // What was altered on the way.
    let whole = own.chain(&key, |_| {}, &[]).remove(0);
    for place in 0..16 {
        let at = place * (whole.len() - 1) / 15;
        let mut bytes = whole.to_vec();
        bytes[at] ^= 4;
        add(&format!("byte {at} altered"), vec![bytes.into()]);
    }
    for cut in [1, 100, whole.len() / 2, whole.len() - 1] {
        add(&format!("cut after {cut} bytes"), vec![whole[..cut].to_vec().into()]);
    }
    add("empty", vec![CertificateDer::from(Vec::new())]);
    add("a byte too long", vec![[&whole[..], &[0]].concat().into()]);
    add("nothing but zeros", vec![vec![0; 500].into()]);
    add("PEM", vec![aigaq::est::to_pem(&whole).into_bytes().into()]);
    add(
        "a certificate request",
        vec![CertificateParams::default().serialize_request(&key).unwrap().der().to_vec().into()],
    );
    let body = contents(&whole);
    add("an indefinite length", vec![[&[0x30, 0x80][..], &body, &[0, 0]].concat().into()]);

    // Chains of the existing CA.
    add("no intermediate", good.chain(&key, |_| {}, &[]));
    add("another intermediate", good.chain(&key, |_| {}, &[&upper]));
    add("revoked", good.chain(&key, |leaf| leaf.serial_number = Some(SerialNumber::from_slice(&[0x33; 8])), &[&good]));
    add(
        "revoked, and the intermediate twice",
        good.chain(&key, |leaf| leaf.serial_number = Some(SerialNumber::from_slice(&[0x33; 8])), &[&good, &good]),
    );
    add("a revoked intermediate", revoked.chain(&key, |_| {}, &[&revoked]));
    add("a CA that no list tells of", silent.chain(&key, |_| {}, &[&silent]));
    add("a list that has expired", stale.chain(&key, |_| {}, &[&stale]));
    add("a list that another signed", forged.chain(&key, |_| {}, &[&forged]));
    let intermediate = |change: fn(&mut CertificateParams)| {
        let mut params = authority("Good", Some(0));
        change(&mut params);
        let ca = root.sub(&params);
        ca.chain(&key, |_| {}, &[&ca])
    };
    add("an expired intermediate", intermediate(|params| params.not_after = params.not_before + DAY / 2));
    add("an intermediate that begins tomorrow", intermediate(|params| params.not_before += DAY * 2));
    add("an intermediate that is no CA", intermediate(|params| params.is_ca = IsCa::ExplicitNoCa));
    add("an intermediate that says nothing of being a CA", intermediate(|params| params.is_ca = IsCa::NoCa));
    add(
        "an intermediate for servers",
        intermediate(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
    );
    add(
        "an intermediate that may not sign certificates",
        intermediate(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]),
    );
    add(
        "an intermediate with an unknown critical extension",
        intermediate(|params| {
            params.custom_extensions = vec![extension(&[1, 3, 6, 1, 4, 1, 99999, 1], &[5, 0], true)];
        }),
    );
    let constrained = root.sub(&{
        let mut params = authority("Good", Some(0));
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("police.example".into())],
            excluded_subtrees: Vec::new(),
        });
        params
    });
    let elsewhere = |leaf: &mut CertificateParams| {
        leaf.subject_alt_names = vec![rcgen::SanType::DnsName("else.example".try_into().unwrap())]
    };
    add("a name that the intermediate may not give", constrained.chain(&key, elsewhere, &[&constrained]));
    let below = good.sub(&authority("Below", Some(0)));
    add("deeper than the intermediate allows", below.chain(&key, |_| {}, &[&below, &good]));
    let deep = lower.sub(&authority("Deep", Some(0)));
    add("a chain of four", deep.chain(&key, |_| {}, &[&deep, &lower, &upper]));
    add("a good chain with one more that nobody needs", lower.chain(&key, |_| {}, &[&lower, &upper, &good]));
    let impostor = Ca::root("Existing Root").sub(&authority("Good", Some(0)));
    add("an intermediate of another root of the same name", impostor.chain(&key, |_| {}, &[&impostor]));
    let mut backwards = good.chain(&key, |_| {}, &[&good]);
    backwards.reverse();
    add("the intermediate first", backwards);
    add("the root as a leaf", vec![root.certificate.clone()]);
    let mut recorder = leaf();
    let recorder_key = ed25519();
    recorder.distinguished_name.push(DnType::CommonName, "a recorder that issues");
    let issuing = good.issue(&recorder, &recorder_key);
    let issuer = Issuer::new(recorder, recorder_key);
    let issued = leaf().signed_by(&key, &issuer).unwrap().der().clone();
    add("signed by a recorder", vec![issued, issuing, good.certificate.clone()]);

    // Whose key it is.
    let stranger = ed25519();
    let mut with = |name: &str, chain: Chain, key: &KeyPair| wrong.push((name.to_owned(), chain, copy(key)));
    with("a key that is not enrolled", own.chain(&stranger, |_| {}, &[]), &stranger);
    with("a key that is not enrolled, of the existing CA", good.chain(&stranger, |_| {}, &[&good]), &stranger);
    let id = aigaq_proto::RecorderId::of_spki(&key.subject_public_key_info()).to_string();
    with(
        "a stranger with the name of a recorder",
        own.chain(&stranger, |leaf| leaf.distinguished_name.push(DnType::CommonName, id.as_str()), &[]),
        &stranger,
    );
    for san in [
        rcgen::SanType::DnsName("*".try_into().unwrap()),
        rcgen::SanType::DnsName(id.as_str().try_into().unwrap()),
        rcgen::SanType::URI(format!("urn:aigaq:{id}").as_str().try_into().unwrap()),
        rcgen::SanType::Rfc822Name(format!("{id}@gateway.aigaq").as_str().try_into().unwrap()),
    ] {
        let name = format!("a stranger who calls himself {san:?}");
        with(&name, own.chain(&stranger, |leaf| leaf.subject_alt_names = vec![san], &[]), &stranger);
    }
    with("a recorder's certificate without its key", own.chain(&key, |_| {}, &[]), &stranger);
    with("a recorder's certificate with another recorder's key", own.chain(&key, |_| {}, &[]), &p256);
    for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ECDSA_P521_SHA512] {
        let other = KeyPair::generate_for(algorithm).unwrap();
        with(&format!("{algorithm:?}"), own.chain(&other, |_| {}, &[]), &other);
    }
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    with("RSA", own.chain(&rsa, |_| {}, &[]), &rsa);
    with("no certificate", Vec::new(), &key);
    let taken_back = ed25519();
    let recorder = site.enrol(&taken_back);
    assert_eq!(site.welcomes(own.chain(&taken_back, |_| {}, &[]), &taken_back).await, Ok(()));
    enrol::revoke(&site.home.path().join("data"), recorder, "").unwrap();
    let imported = async { while site.welcomes(own.chain(&taken_back, |_| {}, &[]), &taken_back).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(5), imported).await.expect("the revocation was not taken in");
    with("a revoked recorder", own.chain(&taken_back, |_| {}, &[]), &taken_back);
    with("a revoked recorder, of the existing CA", good.chain(&taken_back, |_| {}, &[&good]), &taken_back);

    assert!(wrong.len() >= 90, "only {}", wrong.len());
    let before = site.handshakes("ok");
    let mut got_in = Vec::new();
    for (name, chain, key) in wrong {
        match site.welcomes(chain, &key).await {
            Ok(()) => got_in.push(name),
            Err(refusal) => assert_ne!(refusal, "no answer", "{name} was left hanging"),
        }
    }
    assert!(got_in.is_empty(), "these got in: {got_in:#?}");
    assert_eq!(site.handshakes("ok"), before, "nor did any handshake succeed");
    for reason in [
        "revoked",
        "crl_expired",
        "revocation_unknown",
        "expired",
        "not_yet_valid",
        "wrong_issuer",
        "wrong_usage",
        "ca_as_leaf",
        "key_type",
        "not_enrolled",
        "unreadable",
        "chain_too_long",
        "no_certificate",
    ] {
        assert!(site.handshakes(reason) > 0, "nobody was refused as {reason}");
    }
    assert_eq!(site.welcomes(own.chain(&key, |_| {}, &[]), &key).await, Ok(()), "and the right one still gets in");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_list_counts_within_seconds_and_a_broken_one_changes_nothing() {
    let root = Ca::root("Existing Root");
    let site = Site::open(&aigaq::est::to_pem(&root.certificate), &root.list(&[], 30)).await;
    let key = ed25519();
    site.enrol(&key);
    let chain = root.chain(&key, |_| {}, &[]);
    assert_eq!(site.welcomes(chain.clone(), &key).await, Ok(()));
    let file = site.home.path().join("lists.pem");
    std::fs::write(&file, "rubbish").unwrap();
    let until = tokio::time::Instant::now() + Duration::from_secs(6);
    while tokio::time::Instant::now() < until {
        assert_eq!(site.welcomes(chain.clone(), &key).await, Ok(()), "a list that does not read leaves the old one");
    }
    std::fs::write(&file, root.list(&[&[0x11; 8]], 30)).unwrap();
    let refused = async { while site.welcomes(chain.clone(), &key).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(10), refused).await.expect("the new list was not read");
    // The first refusal may have met a session that was open already.
    assert!(site.welcomes(chain, &key).await.is_err());
    assert!(site.handshakes("revoked") > 0);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_a_new_list_names_loses_the_connection_that_it_has_and_nobody_else_does() {
    let root = Ca::root("Existing Root");
    let site = Site::open(&aigaq::est::to_pem(&root.certificate), &root.list(&[], 30)).await;
    let (key, other) = (ed25519(), ed25519());
    site.enrol(&key);
    site.enrol(&other);
    let endpoint = endpoint();
    let listed = site.greet(root.chain(&key, |_| {}, &[]), &key, &endpoint).await.unwrap();
    let serial = |leaf: &mut CertificateParams| leaf.serial_number = Some(SerialNumber::from_slice(&[0x12; 8]));
    let unlisted = site.greet(root.chain(&other, serial, &[]), &other, &endpoint).await.unwrap();
    std::fs::write(site.home.path().join("lists.pem"), root.list(&[&[0x11; 8]], 30)).unwrap();
    let closed = tokio::time::timeout(Duration::from_secs(10), listed.connection.closed()).await;
    let quinn::ConnectionError::ApplicationClosed(why) = closed.expect("it stays connected") else {
        panic!("not closed by the server");
    };
    assert_eq!(why.error_code.into_inner(), u64::from(aigaq_proto::close::Code::Identity.value()));
    assert!(unlisted.connection.close_reason().is_none());
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificates_that_were_shown_and_the_lists_that_they_were_judged_by_are_kept_once_each() {
    let root = Ca::root("Existing Root");
    let sub = root.sub(&authority("Existing Intermediate", Some(0)));
    let all = |serials: &[&[u8]]| format!("{}{}", root.list(&[], 30), sub.list(serials, 30));
    let (first, second) = (all(&[]), all(&[&[0x11; 8]]));
    let site = Site::open(&aigaq::est::to_pem(&root.certificate), &first).await;
    let key = ed25519();
    let id = site.enrol(&key);
    let chain = sub.chain(&key, |_| {}, &[&sub]);
    for _ in 0..2 {
        assert_eq!(site.welcomes(chain.clone(), &key).await, Ok(()));
    }
    std::fs::write(site.home.path().join("lists.pem"), &second).unwrap();
    let refused = async { while site.welcomes(chain.clone(), &key).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(10), refused).await.expect("the new list was not read");
    let (store, _home) = site.stop().await;
    let shown: Vec<_> = store.certificates(id).map(Result::unwrap).collect();
    assert_eq!(shown.len(), 1, "the same certificates are kept once");
    assert_eq!(shown[0].chain, chain.iter().map(|der| der.to_vec()).collect::<Vec<_>>(), "leaf and intermediate");
    let kept: Vec<Vec<u8>> = store.revocation_lists().map(|list| list.unwrap().der).collect();
    let lists = |pem: &str| -> Vec<Vec<u8>> {
        use rustls::pki_types::pem::PemObject as _;
        let lists = rustls::pki_types::CertificateRevocationListDer::pem_slice_iter(pem.as_bytes());
        lists.map(|list| list.unwrap().to_vec()).collect()
    };
    let used: std::collections::BTreeSet<_> = lists(&first).into_iter().chain(lists(&second)).collect();
    assert_eq!(kept.iter().cloned().collect::<std::collections::BTreeSet<_>>(), used);
    assert_eq!(kept.len(), used.len(), "the same list is kept once");
}

/// The leaf that a TLS server shows, believing these CAs alone.
async fn shown(address: SocketAddr, name: &str, anchors: &[CertificateDer<'static>]) -> CertificateDer<'static> {
    let mut roots = rustls::RootCertStore::empty();
    anchors.iter().for_each(|anchor| roots.add(anchor.clone()).unwrap());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(client)).connect(name, stream).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}

/// The leaf that the server shows to a recorder.
fn shown_to(session: &Session) -> CertificateDer<'static> {
    session.connection.peer_identity().unwrap().downcast::<Chain>().unwrap()[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_of_the_server_is_renewed_while_it_serves() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let mut config = Config::default();
    (config.quic.listen, config.api.listen, config.ops.listen) = (any, any, any);
    config.store.dir = data.clone();
    // The client believes its own clock, so it is the past that is simulated: 250 days ago the server made its certificate.
    let now = Clock::system().now();
    let clock = Clock::fixed(now - 250 * 86_400_000_000);
    let server = Server::start(config, clock.clone()).await.unwrap();
    let (quic, listener) = (server.quic_addr, server.enrol_addr);
    let stop = tokio_util::sync::CancellationToken::new();
    let serving = tokio::spawn(server.run_until(stop.clone().cancelled_owned()));
    let life = enrol::Settings { certificate_life: DAY * 825, ..enrol::Settings::default() };
    let (kind, department) = (RecorderKind::Officer, "Astana".to_owned());
    let request = EnrolRequest { kind, department, label: String::new(), server: None };
    enrol::enrol(&data, request, &home.path().join("device"), &life, &clock).unwrap();
    let identity = Identity::load(&home.path().join("device"));
    let ca = [identity.ca.clone()];

    let session = Session::open(&endpoint(), quic, &identity).await.unwrap();
    let first = shown_to(&session);
    assert_eq!(shown(listener, enrol::SERVER_NAME, &ca).await, first, "both listeners show the same");
    clock.set(now - 10 * 86_400_000_000);
    let mut chain = support::chain::Chain::new(identity.id, now);
    session.send(&chain.start(&identity.signing)).await.unwrap().receipt();
    assert_eq!(shown(listener, enrol::SERVER_NAME, &ca).await, first, "more than a third of its life is left");

    clock.set(now);
    let renewed = async {
        loop {
            let leaf = shown(listener, enrol::SERVER_NAME, &ca).await;
            if leaf != first {
                return leaf;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let second = tokio::time::timeout(Duration::from_secs(20), renewed).await.expect("it is not renewed");
    let again = Session::open(&endpoint(), quic, &identity).await.unwrap();
    assert_eq!(shown_to(&again), second, "recorders are shown it too");
    let link = chain.media(&identity.signing, bytes::Bytes::from_static(b"footage"));
    session.send(&link).await.unwrap().receipt();
    stop.cancel();
    serving.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_in_files_is_read_again_when_it_changes_and_a_broken_one_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let [certificate, key] = ["api.pem", "api.key"].map(|name| home.path().join(name));
    let pairs = [(); 2].map(|()| rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap());
    let anchors = [0, 1].map(|number: usize| pairs[number].cert.der().clone());
    std::fs::write(&certificate, pairs[0].cert.pem()).unwrap();
    std::fs::write(&key, pairs[0].signing_key.serialize_pem()).unwrap();
    let files = aigaq::http::Files::open(&certificate, &key).unwrap();
    let tls = aigaq::http::without_clients(files.current()).unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let watching = tokio::spawn(files.watch(stop.clone()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(aigaq::http::serve(listener, axum::Router::new(), Some(tls), stop.clone()));

    // Half of a new pair, as when an operator copies one file after the other.
    std::fs::write(&key, pairs[1].signing_key.serialize_pem()).unwrap();
    for _ in 0..3 {
        assert_eq!(shown(address, "localhost", &anchors).await, anchors[0]);
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    std::fs::write(&certificate, pairs[1].cert.pem()).unwrap();
    let renewed = async {
        while shown(address, "localhost", &anchors).await != anchors[1] {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), renewed).await.expect("it is not read again");
    stop.cancel();
    watching.await.unwrap().unwrap();
    serving.await.unwrap().unwrap();
}
