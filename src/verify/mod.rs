//! The offline verifier: says of a bundle what it is worth, with no network, no account and no code of a server.
//!
//! The path of a bundle: `source` (a ZIP or a directory, both as sections of files) → `chain` (each line, and the footage it names)
//! with `hashing` (both digests of a byte in one pass) → `custody`, `gaps`, `told`, `proofs` (what is said about the links, against the links) →
//! `stamps` and `parts` (every other file) → `report`. Which files there must be is in `files`, what counts as trusted in `trust`.
//!
//! Promises: memory is bounded however large the bundle is; nothing that a bundle says is believed before it is checked; what is
//! wrong with one link or file is said of that one alone; a bundle that cannot be read is an error, never a verdict.

mod certificates;
mod chain;
mod custody;
mod files;
mod gaps;
mod hashing;
mod lines;
mod parts;
mod proofs;
mod report;
mod source;
mod stamps;
mod told;
mod trust;
mod zip;

use std::path::Path;

pub use report::{Basis, CustodyReport, Ended, Fault, FileFinding, RecorderReport, Report, TimeStamp};
pub use trust::Trust;

use crate::error::Result;

/// Looks at the bundle at `path`, a ZIP or a directory. Without `trust` the keys in the bundle serve. Blocks.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) if it is no bundle that can be read,
/// [`Kind::Internal`](crate::error::Kind::Internal) when the system cannot read it.
pub fn verify(path: &Path, trust: Option<&Trust>) -> Result<Report> {
    parts::verify(&source::Source::open(path)?, trust)
}
