//! `aigaq verify`: what an export is worth, offline.

use std::path::PathBuf;
use std::process::ExitCode;

use super::output;
use crate::error::{Context as _, Kind, Result};
use crate::verify::{Report, Trust, verify};

/// The exit code when there is no verdict.
const CANNOT_READ: u8 = 5;

/// Check an export: its chain, signatures, log proofs, footage, certificates, manifest.
///
/// Needs no network and no server. BUNDLE is the ZIP or the directory it was unpacked to.
/// Without --trust the keys in the bundle serve: then the check says that it holds
/// together, and not who made it. Exits with 0 if all is authentic, 1 if authentic with
/// gaps, 2 if the proof is not complete yet, 3 if something is not authentic, 4 if nothing
/// is signed, 5 if it cannot be read.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment, after_help = "Example:\n  aigaq verify export.zip --trust court.toml")]
pub(super) struct Args {
    /// The export.
    bundle: PathBuf,
    /// Keys of logs, CAs and witnesses that count: TOML with logs, anchors (PEM files),
    /// witnesses, quorum, timestamp_anchors (PEM files of authorities for time stamps).
    #[arg(long, value_name = "FILE", verbatim_doc_comment)]
    trust: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command; the exit code is the verdict.
pub(super) fn run(args: Args) -> ExitCode {
    match look(&args) {
        Ok(report) => ExitCode::from(report.exit_code()),
        Err(error) => {
            output::complain(&error.to_string());
            ExitCode::from(CANNOT_READ)
        }
    }
}

fn look(args: &Args) -> Result<Report> {
    let trust = args.trust.as_deref().map(Trust::read).transpose()?;
    let report = verify(&args.bundle, trust.as_ref())?;
    let text = if args.json {
        serde_json::to_string_pretty(&report).context(Kind::Internal, "cannot write JSON")?
    } else {
        report.text()
    };
    output::line(text.trim_end())?;
    Ok(report)
}
