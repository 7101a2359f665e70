//! `aigaq token`: gives somebody a token under a name of their own, and takes it back.

use std::path::PathBuf;

use super::output;
use crate::error::Result;
use crate::lookup;

/// Make a token of the API for somebody, or take it back.
///
/// What is asked with it stands in the audit trail under its name, and two people with tokens
/// of their own can release a hold. It is shown once and kept nowhere. A running server
/// takes it at once, and one that was removed no more after a few seconds.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Example:\n  aigaq token anna --data ./aigaq-data\n  aigaq token anna --data ./aigaq-data --remove"
)]
pub(super) struct Args {
    /// The server's data directory.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Take the token back.
    #[arg(long)]
    remove: bool,
    /// Whose it is: letters, digits, - and _.
    #[arg(value_name = "NAME")]
    name: String,
}

/// Runs the command.
///
/// # Errors
/// When the name cannot be one, is taken or is not there.
pub(super) fn run(args: Args) -> Result<()> {
    if args.remove {
        lookup::remove_token(&args.data, &args.name)?;
        return output::line(&args.name);
    }
    output::line(&lookup::make_token(&args.data, &args.name)?)
}
