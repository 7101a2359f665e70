//! The rig of the tests and benches: a server in this process or as a process of its own, and recorders that speak the
//! protocol byte by byte, built on `aigaq-proto` alone and not on the reference recorder.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    reason = "shared by tests that each use a part"
)]

pub mod chain;
pub mod gateway;
pub mod process;
pub mod relay;
pub mod session;

use std::path::{Path, PathBuf};

use aigaq::Clock;
use aigaq::enrol::{EnrolRequest, Settings, enrol};
use aigaq::store::records::RecorderKind;
use aigaq_proto::RecorderId;
use aigaq_proto::receipt::LogKey;
use aigaq_proto::signature::SigningKey;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What a recorder was given when it was enrolled.
pub struct Identity {
    pub dir: PathBuf,
    pub id: RecorderId,
    pub log: LogKey,
    pub signing: SigningKey,
    pub certificate: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    pub ca: CertificateDer<'static>,
}

impl Identity {
    /// Enrols a new recorder with the server whose data are in `data`; its files go to `out`.
    pub fn enrol(data: &Path, out: &Path) -> Self {
        let request = EnrolRequest {
            kind: RecorderKind::Officer,
            department: "Astana".to_owned(),
            label: out.file_name().unwrap().to_string_lossy().into_owned(),
            server: None,
        };
        enrol(data, request, out, &Settings::default(), &Clock::system()).unwrap();
        Self::load(out)
    }

    /// Reads what `aigaq enrol` wrote.
    pub fn load(dir: &Path) -> Self {
        let file = |name: &str| dir.join(name);
        let settings: toml::Table = std::fs::read_to_string(file("recorder.toml")).unwrap().parse().unwrap();
        let text = |key: &str| settings[key].as_str().unwrap().to_owned();
        let key = PrivateKeyDer::from_pem_file(file("key.pem")).unwrap();
        Self {
            id: text("id").parse().unwrap(),
            log: LogKey::parse(&text("log_key")).unwrap(),
            signing: SigningKey::from_pkcs8(key.secret_der()).unwrap(),
            certificate: CertificateDer::pem_file_iter(file("cert.pem")).unwrap().map(Result::unwrap).collect(),
            key,
            ca: CertificateDer::from_pem_file(file("ca.pem")).unwrap(),
            dir: dir.to_owned(),
        }
    }
}
