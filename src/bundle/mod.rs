//! The bundle that an export is: its names and the types of its files. What they mean is in `proto/BUNDLE.md`.
//!
//! Written by `export`, read by `verify`; no code of a server. Where a field stands beside signed bytes for people to read, the
//! signed bytes count and the verifier compares the two.

pub mod about;
pub mod deletion;
pub mod encoding;
pub mod entry;
pub mod line;
pub mod manifest;

/// `format` of the manifest.
pub const FORMAT: &str = "aigaq-bundle/1";

// The limits of BUNDLE.md: an exporter refuses what would go beyond them, and a verifier reads nothing beyond.

/// Most files that a bundle has.
pub const FILES_MAX: usize = 65_536;
/// Longest path within a bundle, bytes.
pub const PATH_BYTES_MAX: usize = 512;
/// Most recorders that a bundle is about.
pub const RECORDERS_MAX: usize = 256;
/// Longest manifest, list of digests, list of gaps, and revocation list, bytes each.
pub const DOCUMENT_BYTES_MAX: u64 = 12 << 20;
/// Longest of the other files that are read as a whole, bytes: certificates, keys, checkpoints, proofs, time stamps.
pub const SMALL_BYTES_MAX: u64 = 1 << 20;
/// Longest line, and longest value of an array, bytes: an initialisation segment in base64, and what belongs to it.
pub const LINE_BYTES_MAX: usize = 2 << 20;
/// Most entries of the audit trail in a bundle.
pub const CUSTODY_MAX: usize = 100_000;
/// Most intervals of footage of one recorder, with a hole before each.
pub const SPANS_MAX: usize = 65_536;

/// How far apart segments may lie without a gap that is named, microseconds.
pub const JITTER_US: u64 = 50_000;

/// What this is, for people.
pub const README: &str = "README.txt";
/// [`manifest::Manifest`].
pub const MANIFEST: &str = "manifest.json";
/// For `sha256sum -c`: every file but itself and [`SIGNATURE`].
pub const SUMS: &str = "SHA256SUMS";
/// DER ECDSA P-256 with SHA-256 over the manifest.
pub const SIGNATURE: &str = "manifest.sig";
/// The certificate of the key that signed the manifest, and what leads to its CA, PEM.
pub const EXPORTER: &str = "certs/exporter.pem";
/// The one checkpoint that every inclusion proof leads to, with its cosignatures.
pub const CHECKPOINT: &str = "log/checkpoint";
/// The `vkey` of the log.
pub const LOG_KEY: &str = "log/key.txt";
/// How the log came after those before it: their statements.
pub const SUCCESSION: &str = "log/succession";
/// [`about::Gaps`].
pub const GAPS: &str = "gaps.json";
/// An array of [`about::Marker`].
pub const MARKERS: &str = "markers.json";
/// Lines of [`about::Custody`].
pub const CUSTODY: &str = "custody.jsonl";
/// How to get the verifier.
pub const VERIFIER: &str = "verify/README.txt";
/// The anchors that the server trusts, PEM: listed here, trusted by nobody for that.
pub const ANCHORS: &str = "verify/anchors.pem";
/// Directory of time stamps (RFC 3161) over checkpoints.
pub const TIMESTAMPS: &str = "timestamps/";
/// Directory of revocation lists, DER, as they were in use when the footage came in.
pub const REVOCATION_LISTS: &str = "crl/";

/// Lines of [`line::Line`], by sequence.
#[must_use]
pub fn chain(recorder: aigaq_proto::RecorderId) -> String {
    format!("chain/{recorder}.jsonl")
}

/// A recording: its initialisation segment and whole payloads, byte for byte.
#[must_use]
pub fn media(recorder: aigaq_proto::RecorderId, recording: u64) -> String {
    format!("media/{recorder}/{recording}.mp4")
}

/// The same of a recording whose initialisation segment is not there.
#[must_use]
pub fn media_without_start(recorder: aigaq_proto::RecorderId, recording: u64) -> String {
    format!("media/{recorder}/{recording}.m4s")
}

/// The payload of the other side of a fork.
#[must_use]
pub fn fork(recorder: aigaq_proto::RecorderId, sequence: u64, digest: &aigaq_proto::Digest) -> String {
    format!("forks/{recorder}/{sequence}-{digest}")
}

/// The payload of a quarantined link, as it arrived.
#[must_use]
pub fn quarantined(recorder: aigaq_proto::RecorderId, number: u64) -> String {
    format!("quarantine/{recorder}/{number}")
}

/// An array of [`about::Position`].
#[must_use]
pub fn track(recorder: aigaq_proto::RecorderId) -> String {
    format!("track/{recorder}.json")
}

/// The certificates that a recorder has shown for the keys of its links, leaf and intermediates, PEM.
#[must_use]
pub fn certificates(recorder: aigaq_proto::RecorderId) -> String {
    format!("certs/{recorder}.pem")
}

/// The public keys that its links are signed with, PEM.
#[must_use]
pub fn keys(recorder: aigaq_proto::RecorderId) -> String {
    format!("certs/{recorder}.keys.pem")
}

/// C2SP tlog-proof of a link.
#[must_use]
pub fn proof(recorder: aigaq_proto::RecorderId, sequence: u64) -> String {
    format!("proofs/{recorder}-{sequence}.tlog-proof")
}

/// A checkpoint that an authority stamped, byte for byte.
#[must_use]
pub fn stamped(size: u64) -> String {
    format!("{TIMESTAMPS}{size}.checkpoint")
}

/// The answer of the authority (DER `TimeStampResp`).
#[must_use]
pub fn timestamp(size: u64) -> String {
    format!("{TIMESTAMPS}{size}.tsr")
}

/// The proof that the checkpoint of the bundle continues the one that was stamped: a hash a line, base64.
#[must_use]
pub fn consistency(size: u64) -> String {
    format!("{TIMESTAMPS}{size}.consistency")
}

/// The most bytes of a file that is read as a whole; none for one that is gone through, however long it is.
#[must_use]
pub fn bytes_max(path: &str) -> Option<u64> {
    let long = [MANIFEST, SUMS, GAPS].contains(&path) || path.starts_with(REVOCATION_LISTS);
    let streamed = ["chain/", "media/", "forks/", "quarantine/", "track/"].iter().any(|dir| path.starts_with(dir));
    match () {
        () if long => Some(DOCUMENT_BYTES_MAX),
        () if streamed || [MARKERS, CUSTODY, README, VERIFIER].contains(&path) => None,
        () => Some(SMALL_BYTES_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_the_document_are_those_of_the_code() {
        let document = include_str!("../../proto/BUNDLE.md");
        for (name, value) in [
            ("FILES_MAX", FILES_MAX as u64),
            ("PATH_BYTES_MAX", PATH_BYTES_MAX as u64),
            ("RECORDERS_MAX", RECORDERS_MAX as u64),
            ("DOCUMENT_BYTES_MAX", DOCUMENT_BYTES_MAX),
            ("SMALL_BYTES_MAX", SMALL_BYTES_MAX),
            ("LINE_BYTES_MAX", LINE_BYTES_MAX as u64),
            ("CUSTODY_MAX", CUSTODY_MAX as u64),
            ("SPANS_MAX", SPANS_MAX as u64),
            ("JITTER_US", JITTER_US),
        ] {
            let row = document.lines().find(|line| line.starts_with(&format!("| {name} |")));
            let cell = row.and_then(|row| row.split('|').nth(2)).map(|cell| cell.trim().replace(',', ""));
            assert_eq!(cell, Some(value.to_string()), "{name}");
        }
    }
}
