//! `aigaq check`: is everything that was acknowledged there, and is it what was received?

use std::path::PathBuf;

use super::output;
use crate::check;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::server::{DataDir, seal_settings};
use crate::store;

/// Check a data directory from end to end, with no server running.
///
/// Walks every chain, verifies every signature, hashes every body, and proves every link
/// in the transparency log. Prints what it counted and every problem that it found.
/// Changes nothing. Exits with 0 only if all holds.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment, after_help = "Example:\n  aigaq check --data ./aigaq-data")]
pub(super) struct Args {
    /// The server's data directory; the server must be stopped.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The server's configuration, where it says that keys of footage are not beside the store.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When anything does not hold, or the directory cannot be read.
pub(super) fn run(args: Args) -> Result<()> {
    if !args.data.join(store::DIR).is_dir() {
        return Err(Error::new(Kind::Invalid, format!("{} is no data directory of a server", args.data.display())));
    }
    let _lock = DataDir::open(&args.data)?;
    let config = args.config.as_deref().map(Config::load).transpose()?.unwrap_or_default();
    let report = check::check_with(&args.data, &seal_settings(&config), &mut |problem| {
        let _ = output::line(&format!("problem: {problem}"));
    })?;
    output::line(&report.to_string())?;
    match report.problems {
        0 => Ok(()),
        problems => {
            Err(Error::new(Kind::Damaged, format!("{} does not hold; problems: {problems}", args.data.display())))
        }
    }
}
