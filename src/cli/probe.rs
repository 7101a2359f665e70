//! `aigaq probe`: whether the bucket of a configuration is fit for evidence, without a server.

use std::path::PathBuf;

use super::output;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::server;

/// Find out whether a bucket keeps what receipts rest on, as every server does before it starts.
///
/// Sixteen writers race for each of eight names and for one version of an object: one of each may
/// win. The bucket must take and give back what is put, list it at once, and have the time of day.
/// Needs a configuration with store.engine = "s3". What the probe makes it removes. Ends with 1,
/// and one line that says why, for a bucket that must not be used.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment, after_help = "Example:\n  aigaq probe --config /etc/aigaq/server.toml")]
pub(super) struct Args {
    /// Configuration file, TOML; deploy/server.toml explains every key.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// When the bucket must not be used or does not answer.
pub(super) fn run(args: Args) -> Result<()> {
    let config = Config::load(&args.config)?;
    let Some(objects) = &config.store.objects else {
        let text = format!("{}: store.engine is not \"s3\": there is no bucket to probe", args.config.display());
        return Err(Error::new(Kind::Invalid, text));
    };
    let (bucket, fit) = server::fit(objects, &Clock::system())?;
    output::line(&format!(
        "{bucket} is fit: {} races of {} with one winner each, a put takes {} ms, the clocks differ by {} ms",
        fit.races + 1,
        fit.racers,
        fit.put.as_millis(),
        fit.clock_off.as_millis()
    ))
}
