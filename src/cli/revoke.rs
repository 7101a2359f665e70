//! `aigaq revoke`: takes the identity of a recorder back.

use std::path::PathBuf;

use aigaq_proto::RecorderId;

use super::output;
use crate::enrol;
use crate::error::Result;

/// Take the identity of a recorder back, for ever: one that was lost, stolen or retired.
///
/// A running server closes its connection within seconds and lets it in no more; nothing
/// that it sends is taken. What it sent before stays. Without a running server the
/// same happens when it starts. A device that comes back enrols again with a new key.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Example:\n  aigaq revoke --data ./aigaq-data 5f0c…32 digits…91 --reason \"stolen on 17 January\""
)]
pub(super) struct Args {
    /// The server's data directory.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// The recorder's id, 32 hexadecimal digits.
    #[arg(value_name = "RECORDER", value_parser = id)]
    recorder: RecorderId,
}

/// Runs the command.
///
/// # Errors
/// When word of it could not be left.
pub(super) fn run(args: Args) -> Result<()> {
    enrol::revoke(&args.data, args.recorder, args.reason.trim())?;
    output::line(&args.recorder.to_string())
}

fn id(text: &str) -> Result<RecorderId, String> {
    text.parse().map_err(|_| "a recorder's id has 32 lower-case hexadecimal digits".to_owned())
}
