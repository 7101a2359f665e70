//! The configuration: plain values that cannot be invalid, from one TOML file or from nothing at all.
//!
//! `raw` is the file as it is written; `check` names the keys, turns them into a [`Config`] and reports every problem at
//! once as key, value and allowed range. `deploy/server.toml` is the manual of the keys. This room reads one file and
//! nothing else: no environment, no network, and it knows no other room; `server` hands each room its part.

mod access;
mod check;
mod marks;
mod objects;
mod raw;
mod webhooks;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aigaq_proto::cosignature::WitnessKey;
use jiff::tz::TimeZone;
use url::Url;

pub use access::{Access, Grant, Provider};
pub use marks::{MarkCategory, Marks};
pub use objects::Objects;
pub use webhooks::{Webhook, Webhooks};

use crate::error::{Context, Error, Kind, Result};

/// Everything that can be set. Made by [`Config::default`], [`Config::load`] or [`Config::parse`].
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where recorders connect.
    pub quic: Quic,
    /// How they enrol.
    pub enrol: Enrol,
    /// Where the control centre asks.
    pub api: Api,
    /// Who may.
    pub access: Access,
    /// Where monitoring asks.
    pub ops: Ops,
    /// What is kept, where, how long.
    pub store: Store,
    /// How long footage is kept.
    pub retention: Retention,
    /// What marks may say.
    pub marks: Marks,
    /// Where events are sent.
    pub webhooks: Webhooks,
    /// How footage is sealed.
    pub seal: Seal,
    /// Who cosigns the log.
    pub witness: Witness,
    /// Who stamps it, if anybody.
    pub timestamp: Option<Timestamp>,
    /// When a batch is committed.
    pub commit: Commit,
    /// What ingest may hold in memory.
    pub ingest: Ingest,
    /// Where the site is.
    pub site: Site,
    /// What the server says of itself.
    pub logging: Logging,
    /// How it stops.
    pub shutdown: Shutdown,
}

/// The section `[quic]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quic {
    /// UDP address.
    pub listen: SocketAddr,
    /// Silence after which a connection is given up.
    pub idle_timeout: Duration,
    /// Connections at once.
    pub connections_max: usize,
    /// Connections of one recorder at once.
    pub recorder_connections_max: usize,
    /// Handshakes under way at once.
    pub handshakes_max: usize,
    /// Handshakes that may begin in a second.
    pub handshakes_per_s_max: u32,
    /// Time that a handshake may take.
    pub handshake_timeout: Duration,
}

/// The section `[enrol]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrol {
    /// TCP address; `None` for the address and port of QUIC.
    pub listen: Option<SocketAddr>,
    /// What the server is called in its certificate beside its own names.
    pub names: Vec<String>,
    /// How long a recorder's certificate is good.
    pub certificate_life: Duration,
    /// An intermediate that issues instead of the server's own CA.
    pub issuer: Option<Tls>,
    /// Certificates of an existing CA.
    pub trust_anchors: Option<PathBuf>,
    /// Its revocation lists.
    pub crl: Option<PathBuf>,
}

/// The section `[api]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// TCP address.
    pub listen: SocketAddr,
    /// Certificate and key; never absent where `listen` is not a loopback address.
    pub tls: Option<Tls>,
}

/// A certificate chain and its key, PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// The section `[ops]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ops {
    /// TCP address.
    pub listen: SocketAddr,
}

/// The section `[store]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Store {
    /// The data directory.
    pub dir: PathBuf,
    /// Below this much free room no footage is accepted.
    pub free_bytes_min: u64,
    /// From this many bytes on a commit's footage goes to disk as one file.
    pub ingest_bytes_min: usize,
    /// Cache of ledger blocks.
    pub cache_bytes: usize,
    /// Files held open at most.
    pub open_files_max: u32,
    /// Footage that the scrub reads in a second at most, bytes.
    pub scrub_bytes_per_s: u64,
    /// The bucket that has ledger and footage, in the place of the data directory.
    pub objects: Option<Objects>,
}

/// The section `[retention]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Days that footage is kept where nothing else is said.
    pub default_days: u32,
    /// The same by department, in the place of the default.
    pub departments: BTreeMap<String, u32>,
}

/// The section `[seal]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// Whether footage is sealed.
    pub footage: bool,
    /// The file of the master key, where it is not beside the keys that it wraps.
    pub master_key: Option<PathBuf>,
    /// Program and arguments that wrap a key.
    pub wrap_command: Vec<String>,
    /// The same that unwrap it.
    pub unwrap_command: Vec<String>,
}

/// The section `[witness]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// Where each witness is and with which key it cosigns.
    pub witnesses: Vec<(Url, WitnessKey)>,
    /// How many of them make a quorum.
    pub quorum: usize,
    /// Certificates of the CAs that vouch for their HTTPS servers.
    pub ca: Option<PathBuf>,
}

/// The section `[timestamp]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timestamp {
    /// Where the authority is that stamps checkpoints of the log.
    pub url: Url,
    /// Time between two stamps while the log grows.
    pub interval: Duration,
    /// Certificates of the CAs that vouch for it.
    pub ca: PathBuf,
}

/// The section `[commit]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// A batch is committed when it holds this many bytes.
    pub batch_bytes_max: usize,
    /// A batch is committed when its first link has waited this long.
    pub batch_age_max: Duration,
    /// Links that may wait for the writer.
    pub queue_links_max: usize,
}

/// The section `[ingest]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingest {
    /// Bytes of payload held at once, over all recorders.
    pub memory_bytes_max: usize,
    /// Largest payload of one link.
    pub payload_bytes_max: u32,
    /// Links under way at once, per recorder.
    pub links_in_flight_max: u32,
    /// A stream that brings nothing for this long is refused.
    pub stall_timeout: Duration,
    /// Other sides of forks that are kept of one recorder.
    pub forks_max: u32,
    /// Links in quarantine that are kept of one recorder.
    pub quarantined_max: u32,
}

/// The section `[site]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Where a day of a report begins and ends.
    pub time_zone: TimeZone,
}

/// The section `[logging]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logging {
    /// Least level that is written.
    pub level: tracing::Level,
    /// How it is written.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// The section `[shutdown]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shutdown {
    /// How long sessions may take to finish.
    pub drain_deadline: Duration,
}

impl Default for Config {
    fn default() -> Self {
        check::read(&mut raw::Raw::empty())
    }
}

impl Config {
    /// Reads the file `path`.
    ///
    /// # Errors
    /// [`Kind::Invalid`] with every problem of the file in one line.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .context(Kind::Invalid, format!("cannot read the configuration {}", path.display()))?;
        Self::parse(&text).map_err(|error| Error::new(Kind::Invalid, format!("{}: {error}", path.display())))
    }

    /// Reads TOML text.
    ///
    /// # Errors
    /// [`Kind::Invalid`] with every problem of the text in one line.
    pub fn parse(text: &str) -> Result<Self> {
        let mut raw = raw::Raw::parse(text).map_err(|problem| Error::new(Kind::Invalid, problem))?;
        let config = check::read(&mut raw);
        let (_, problems) = raw.finish();
        if problems.is_empty() { Ok(config) } else { Err(Error::new(Kind::Invalid, problems.join("; "))) }
    }

    /// The keys that there are, as `section.key`, in the order of the manual.
    #[must_use]
    pub fn keys() -> Vec<String> {
        let mut raw = raw::Raw::empty();
        check::read(&mut raw);
        raw.finish().0
    }
}
