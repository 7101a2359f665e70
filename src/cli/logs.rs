//! Log lines on standard error: for people or as JSON. `AIGAQ_LOG` overrides the level, with the filter syntax of
//! `tracing-subscriber`, such as `info,aigaq::ingest=debug`.

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;
use crate::error::{Context, Kind, Result};

/// The environment variable with the filter.
const FILTER: &str = "AIGAQ_LOG";

/// Starts the logs; later calls change nothing.
///
/// # Errors
/// [`Kind::Invalid`] if the filter in the environment is none.
pub(super) fn start(level: Level, format: LogFormat) -> Result<()> {
    let filter = match std::env::var(FILTER) {
        Ok(filter) if !filter.is_empty() => {
            EnvFilter::try_new(&filter).context(Kind::Invalid, format!("{FILTER}={filter} is no log filter"))?
        }
        _ => EnvFilter::new(level.to_string()),
    };
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = match format {
        LogFormat::Human => logs.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
    Ok(())
}
