//! `aigaq revoke`: takes the identity of a recorder back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aigaq_proto::RecorderId;
use tokio::time::Instant;

use super::output;
use crate::enrol::{self, Revocation};
use crate::error::{Error, Kind, Result};
use crate::server::DataDir;

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

/// How long a running server may take to hear of it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether it has.
const PERIOD: Duration = Duration::from_millis(50);

/// Runs the command.
///
/// # Errors
/// When word of it could not be left, no such recorder is enrolled, or the process that uses the directory does not hear of it.
pub(super) fn run(args: Args) -> Result<()> {
    enrol::revoke(&args.data, args.recorder, args.reason.trim())?;
    match DataDir::open(&args.data) {
        Ok(_unused) => enrol::check_revocation(&args.data, args.recorder)?,
        Err(_in_use) => super::block_on(heard(&args.data, args.recorder))?,
    }
    output::line(&args.recorder.to_string())
}

/// Waits until the running server has taken the revocation in.
async fn heard(data: &Path, id: RecorderId) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        match enrol::revocation(data, id)? {
            Revocation::Taken => return Ok(()),
            Revocation::Unknown => return Err(Error::new(Kind::NotFound, format!("{id} was never enrolled here"))),
            Revocation::Waits if Instant::now() >= until => {
                let text =
                    "the process that uses the data directory does not take the revocation in; it waits for a server";
                return Err(Error::new(Kind::Busy, text));
            }
            Revocation::Waits => tokio::time::sleep(PERIOD).await,
        }
    }
}

fn id(text: &str) -> Result<RecorderId, String> {
    text.parse().map_err(|_| "a recorder's id has 32 lower-case hexadecimal digits".to_owned())
}
