//! The keys: what each is called, what it is when nobody sets it, and from where to where it may go.
//!
//! `deploy/server.toml` says for each what it costs and when to change it. A default here and a line there change together;
//! `tests/config.rs` compares them.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use aigaq_proto::cosignature::WitnessKey;
use jiff::tz::TimeZone;
use url::Url;

use super::raw::Raw;
use super::{
    Api, Commit, Config, Enrol, Ingest, LogFormat, Logging, Ops, Quic, Retention, Seal, Shutdown, Site, Store,
    Timestamp, Tls, Witness,
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// Most witnesses: their lines fit in a checkpoint.
const WITNESSES_MAX: usize = 16;

/// Takes every key out of `raw`; what is missing or wrong is its default, and what is wrong is noted.
pub(super) fn read(raw: &mut Raw) -> Config {
    Config {
        quic: quic(raw),
        enrol: enrol(raw),
        api: api(raw),
        access: super::access::read(raw),
        ops: ops(raw),
        store: store(raw),
        retention: retention(raw),
        marks: super::marks::read(raw),
        webhooks: super::webhooks::read(raw),
        seal: seal(raw),
        witness: witness(raw),
        timestamp: timestamp(raw),
        commit: commit(raw),
        ingest: ingest(raw),
        site: site(raw),
        logging: logging(raw),
        shutdown: shutdown(raw),
    }
}

fn on(address: Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(address, port))
}

fn seconds(raw: &mut Raw, key: &'static str, default: u64, range: std::ops::RangeInclusive<u64>) -> Duration {
    Duration::from_secs(raw.integer(key, default, range))
}

pub(super) fn path(raw: &mut Raw, key: &'static str) -> Option<PathBuf> {
    raw.text(key, None, "the path of a file, or \"\" for none", |text| Some((!text.is_empty()).then(|| text.into())))
}

fn quic(raw: &mut Raw) -> Quic {
    raw.section("quic");
    Quic {
        listen: raw.address("listen", on(Ipv4Addr::UNSPECIFIED, 4433)),
        idle_timeout: seconds(raw, "idle_timeout_s", 20, 5..=300),
        connections_max: raw.integer("connections_max", 12_000, 1..=1_000_000),
        recorder_connections_max: raw.integer("recorder_connections_max", 2, 1..=16),
        handshakes_max: raw.integer("handshakes_max", 1_024, 1..=65_536),
        handshakes_per_s_max: raw.integer("handshakes_per_s_max", 500, 1..=100_000),
        handshake_timeout: seconds(raw, "handshake_timeout_s", 5, 1..=60),
    }
}

fn enrol(raw: &mut Raw) -> Enrol {
    raw.section("enrol");
    let listen = raw.text("listen", None, "an IP address and a port, or \"\" for those of quic.listen", |text| {
        if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) }
    });
    let names = raw.text("names", Vec::new(), "names and IP addresses, separated by commas", |text| {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        let is_name = |name: &str| {
            name.parse::<std::net::IpAddr>().is_ok()
                || name.len() <= 253 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
        };
        names.map(|name| is_name(name).then(|| name.to_owned())).collect()
    });
    let days = raw.integer("certificate_days", 30_u64, 1..=825);
    let issuer = match (path(raw, "issuer_certificate"), path(raw, "issuer_key")) {
        (Some(certificate), Some(key)) => Some(Tls { certificate, key }),
        (None, None) => None,
        _ => {
            raw.note("enrol.issuer_certificate and enrol.issuer_key: set both or neither".to_owned());
            None
        }
    };
    let (trust_anchors, crl) = (path(raw, "trust_anchors"), path(raw, "crl"));
    if crl.is_some() && trust_anchors.is_none() {
        raw.note("enrol.crl: only with enrol.trust_anchors, whose certificates it revokes".to_owned());
    }
    Enrol { listen, names, certificate_life: Duration::from_secs(days * 24 * 60 * 60), issuer, trust_anchors, crl }
}

fn api(raw: &mut Raw) -> Api {
    raw.section("api");
    let listen = raw.address("listen", on(Ipv4Addr::LOCALHOST, 8080));
    let tls = match (path(raw, "certificate"), path(raw, "key")) {
        (Some(certificate), Some(key)) => Some(Tls { certificate, key }),
        (None, None) => None,
        _ => {
            raw.note("api.certificate and api.key: set both or neither".to_owned());
            None
        }
    };
    if tls.is_none() && !listen.ip().is_loopback() {
        raw.note(format!(
            "api.listen = \"{listen}\": without api.certificate and api.key only a loopback address is allowed, such as 127.0.0.1"
        ));
    }
    Api { listen, tls }
}

fn ops(raw: &mut Raw) -> Ops {
    raw.section("ops");
    let listen = raw.address("listen", on(Ipv4Addr::LOCALHOST, 9464));
    if !listen.ip().is_loopback() {
        raw.note(format!(
            "ops.listen = \"{listen}\": metrics have no TLS and no token, so only a loopback address is allowed, such as \
             127.0.0.1; scrape through an agent or a TLS proxy on this machine"
        ));
    }
    Ops { listen }
}

fn store(raw: &mut Raw) -> Store {
    raw.section("store");
    Store {
        dir: raw.text("dir", "./aigaq-data".into(), "the path of a directory", |text| {
            (!text.is_empty()).then(|| text.into())
        }),
        free_bytes_min: raw.integer("free_bytes_min", 256 << 20, 1 << 28..=1 << 50),
        ingest_bytes_min: raw.integer("ingest_bytes_min", 8 * MIB, MIB..=256 * MIB),
        cache_bytes: raw.integer("cache_bytes", 32 * MIB, 8 * MIB..=64 * 1024 * MIB),
        open_files_max: raw.integer("open_files_max", 512, 64..=1_000_000),
        scrub_bytes_per_s: raw.integer("scrub_bytes_per_s", 16 << 20, 1 << 20..=1 << 34),
        objects: super::objects::read(raw),
    }
}

fn retention(raw: &mut Raw) -> Retention {
    raw.section("retention");
    Retention {
        default_days: raw.integer("default_days", 90, 1..=36_500),
        departments: raw.integers("departments", 1..=36_500),
    }
}

fn seal(raw: &mut Raw) -> Seal {
    raw.section("seal");
    let seal = Seal {
        footage: raw.switch("footage", true),
        master_key: path(raw, "master_key"),
        wrap_command: raw.list("wrap_command"),
        unwrap_command: raw.list("unwrap_command"),
    };
    if seal.wrap_command.is_empty() != seal.unwrap_command.is_empty() {
        raw.note("seal.wrap_command and seal.unwrap_command: set both or neither".to_owned());
    }
    seal
}

fn witness(raw: &mut Raw) -> Witness {
    raw.section("witness");
    let wanted = "at most 16 witnesses, each its address, a space and its key, separated by commas";
    let witnesses = raw.text("witnesses", Vec::new(), wanted, |text| {
        let each = text.split(',').map(str::trim).filter(|one| !one.is_empty());
        let read = |one: &str| {
            let (url, key) = one.split_once(' ')?;
            let url = url.parse::<Url>().ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
            Some((url, WitnessKey::parse(key.trim()).ok()?))
        };
        each.map(read).collect::<Option<Vec<_>>>().filter(|all| {
            let keys: BTreeSet<&str> = all.iter().map(|(_, key)| key.as_str()).collect();
            all.len() <= WITNESSES_MAX && keys.len() == all.len()
        })
    });
    let witness = Witness { witnesses, quorum: raw.integer("quorum", 1, 1..=WITNESSES_MAX), ca: path(raw, "ca") };
    if !witness.witnesses.is_empty() && witness.quorum > witness.witnesses.len() {
        let (quorum, count) = (witness.quorum, witness.witnesses.len());
        raw.note(format!("witness.quorum = {quorum}: there are {count} in witness.witnesses"));
    }
    if witness.ca.is_none() && witness.witnesses.iter().any(|(url, _)| url.scheme() == "https") {
        raw.note("witness.ca: needed for a witness whose address begins with https".to_owned());
    }
    witness
}

fn timestamp(raw: &mut Raw) -> Option<Timestamp> {
    raw.section("timestamp");
    let url = raw.text("url", None, "an address that begins with http or https, or \"\" for none", |text| {
        if text.is_empty() {
            return Some(None);
        }
        text.parse::<Url>().ok().filter(|url| matches!(url.scheme(), "http" | "https")).map(Some)
    });
    let interval = seconds(raw, "interval_s", 600, 1..=86_400);
    match (url, path(raw, "ca")) {
        (Some(url), Some(ca)) => Some(Timestamp { url, interval, ca }),
        (None, None) => None,
        _ => {
            raw.note("timestamp.url and timestamp.ca: set both or neither".to_owned());
            None
        }
    }
}

fn commit(raw: &mut Raw) -> Commit {
    raw.section("commit");
    Commit {
        batch_bytes_max: raw.integer("batch_bytes_max", 16 * MIB, MIB..=256 * MIB),
        batch_age_max: Duration::from_millis(raw.integer("batch_age_max_ms", 5, 0..=1_000)),
        queue_links_max: raw.integer("queue_links_max", 1_024, 16..=65_536),
    }
}

fn ingest(raw: &mut Raw) -> Ingest {
    raw.section("ingest");
    let ingest = Ingest {
        memory_bytes_max: raw.integer("memory_bytes_max", 256 * MIB, 8 * MIB..=64 * 1024 * MIB),
        payload_bytes_max: raw.integer("payload_bytes_max", 32 << 20, 64 << 10..=32 << 20),
        links_in_flight_max: raw.integer("links_in_flight_max", 32, 1..=64),
        stall_timeout: seconds(raw, "stall_timeout_s", 10, 1..=300),
        forks_max: raw.integer("forks_max", 1_000, 1..=1_000_000),
        quarantined_max: raw.integer("quarantined_max", 1_000, 1..=1_000_000),
    };
    if ingest.memory_bytes_max < usize::try_from(ingest.payload_bytes_max).unwrap_or(usize::MAX) {
        raw.note(format!(
            "ingest.memory_bytes_max = {}: must be at least ingest.payload_bytes_max = {}",
            ingest.memory_bytes_max, ingest.payload_bytes_max
        ));
    }
    ingest
}

fn site(raw: &mut Raw) -> Site {
    raw.section("site");
    let wanted = "the IANA name of a time zone, such as \"Asia/Almaty\"";
    Site { time_zone: raw.text("time_zone", TimeZone::UTC, wanted, |name| TimeZone::get(name).ok()) }
}

fn logging(raw: &mut Raw) -> Logging {
    raw.section("logging");
    Logging {
        level: raw.text("level", tracing::Level::INFO, "one of error, warn, info, debug, trace", |text| match text {
            "error" => Some(tracing::Level::ERROR),
            "warn" => Some(tracing::Level::WARN),
            "info" => Some(tracing::Level::INFO),
            "debug" => Some(tracing::Level::DEBUG),
            "trace" => Some(tracing::Level::TRACE),
            _ => None,
        }),
        format: raw.text("format", LogFormat::Human, "one of human, json", |text| match text {
            "human" => Some(LogFormat::Human),
            "json" => Some(LogFormat::Json),
            _ => None,
        }),
    }
}

fn shutdown(raw: &mut Raw) -> Shutdown {
    raw.section("shutdown");
    Shutdown { drain_deadline: seconds(raw, "drain_deadline_s", 10, 0..=300) }
}
