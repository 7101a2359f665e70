//! Log lines on standard error: for people or as JSON. `AIGAQ_LOG` overrides the level, with the filter syntax of
//! `tracing-subscriber`, such as `info,aigaq::ingest=debug`.

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::EnvFilter;

use crate::error::{Context, Kind, Result};

/// The environment variable with the filter.
const FILTER: &str = "AIGAQ_LOG";

/// How a line looks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Format {
    /// For a person.
    Human,
    /// An object a line, for a log collector.
    #[cfg(feature = "server")]
    Json,
}

/// Starts the logs; later calls change nothing.
///
/// # Errors
/// [`Kind::Invalid`] if the filter in the environment is none.
pub(super) fn start(level: Level, format: Format) -> Result<()> {
    let filter = match std::env::var(FILTER) {
        Ok(filter) if !filter.is_empty() => {
            EnvFilter::try_new(&filter).context(Kind::Invalid, format!("{FILTER}={filter} is no log filter"))?
        }
        _ => EnvFilter::new(level.to_string()),
    };
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = match format {
        Format::Human => logs.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
        #[cfg(feature = "server")]
        Format::Json => logs.json().flatten_event(true).try_init(),
    };
    Ok(())
}
