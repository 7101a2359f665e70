//! `aigaq retention`: what a day deletes and why, from the data directory of a stopped server.

use std::path::PathBuf;

use super::output;
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::lookup::time;
use crate::retention::{self, Planned};
use crate::server::DataDir;
use crate::store::policy::day_of;
use crate::store::{self, Settings, Store};

/// Say what a day deletes and why, with no server running.
///
/// Prints a line for each recorder, rule and fate: what is hidden, what goes for ever, and
/// what is held or kept on. Changes nothing. A server that runs answers the same at
/// /v1/retention/preview.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Example:\n  aigaq retention --data ./aigaq-data --dry-run --day 2026-04-18"
)]
pub(super) struct Args {
    /// The server's data directory; the server must be stopped.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Only say what would be done. Deleting is the server's business alone.
    #[arg(long, required = true)]
    dry_run: bool,
    /// The day, UTC; tomorrow if not given.
    #[arg(long, value_name = "YYYY-MM-DD")]
    day: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// When the directory cannot be read.
pub(super) fn run(args: Args) -> Result<()> {
    let dir = args.data.join(store::DIR);
    if !args.dry_run || !dir.is_dir() {
        return Err(Error::new(Kind::Invalid, format!("{} is no data directory of a server", args.data.display())));
    }
    let tomorrow = day_of(Clock::system().now()).saturating_add(1);
    let day = args.day.as_deref().map(time::parse_day).transpose()?.unwrap_or(tomorrow);
    let _lock = DataDir::open(&args.data)?;
    let store = Store::open_read_only(&dir, &Settings::default())?;
    let preview = retention::preview(&store, day)?;
    for line in &preview.lines {
        let fate = match &line.planned {
            Planned::Hidden => "hide".to_owned(),
            Planned::Gone => "drop".to_owned(),
            Planned::Kept { until_day, by } => format!("keep until {} by {by}", time::format_day(*until_day)),
        };
        let (recorder, links, bytes, rule) = (line.recorder, line.links, line.bytes, &line.rule);
        let last = time::format_day(line.day);
        output::line(&format!("{recorder}  {links} links  {bytes} bytes  last day {last} by {rule}: {fate}"))?;
    }
    if preview.more_lines > 0 {
        output::line(&format!("{} more lines", preview.more_lines))?;
    }
    let day = time::format_day(day);
    let (hide, gone, keep) = (preview.hidden_bytes, preview.gone_bytes, preview.kept_bytes);
    output::line(&format!("{day}: hides {hide} bytes, drops {gone} bytes, keeps {keep} bytes on"))
}
