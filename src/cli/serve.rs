//! `aigaq serve`: the server in the foreground, until SIGTERM or SIGINT.

use std::path::PathBuf;

use super::{logs, output};
use crate::clock::Clock;
use crate::config::{Config, LogFormat};
use crate::error::Result;
use crate::server::Server;
use crate::shutdown;

/// Run the server: recorders over QUIC, the HTTP API, metrics and health.
///
/// Prints the four addresses it serves on. Needs no file: without --config everything
/// has its default (QUIC and enrolment on 0.0.0.0:4433, API on 127.0.0.1:8080, operations on
/// 127.0.0.1:9464, data in ./aigaq-data). The API is for those who can sign in: `aigaq account`
/// and `aigaq client` say who. The first SIGTERM or Ctrl-C lets recorders finish what they
/// are sending, a second one ends at once. Logs go to standard error; the environment
/// variable AIGAQ_LOG sets what is logged, such as AIGAQ_LOG=debug.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Example:\n  aigaq account add anna --role administrator --data /var/lib/aigaq\n  \
                        aigaq serve --data /var/lib/aigaq"
)]
pub(super) struct Args {
    /// Configuration file, TOML; deploy/server.toml explains every key.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data directory, instead of the configured one; made if it is not there.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When the server could not start, or a part of it failed.
pub(super) fn run(args: Args) -> Result<()> {
    let mut config = match &args.config {
        Some(path) => Config::load(path)?,
        None => Config::default(),
    };
    if let Some(data) = args.data {
        config.store.dir = data;
    }
    let format = match config.logging.format {
        LogFormat::Human => logs::Format::Human,
        LogFormat::Json => logs::Format::Json,
    };
    logs::start(config.logging.level, format)?;
    super::block_on(async {
        let signals = shutdown::signals()?;
        let server = Server::start(config, Clock::system()).await?;
        output::addresses(&server)?;
        server.run_until(signals).await
    })
}
