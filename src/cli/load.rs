//! `aigaq load`: many recorders from one process, to see what a server bears.
//!
//! `fleet` makes and runs the recorders, `figures` counts what they see. The payloads are random bytes that differ from link to
//! link; all else is what the reference recorder does, the check of every receipt included.

mod figures;
mod fleet;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

use self::figures::{Figures, Summary};
use self::fleet::Fleet;
use super::output;
use super::scratch::Scratch;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Context, Error, Kind, Result};
use crate::server::Server;
use crate::shutdown;

/// Send like many recorders at once, check every receipt, and report.
///
/// Without --server it starts a server of its own in a temporary directory and measures
/// both together. With --server it loads that one; then --data names the server's data
/// directory on this machine, where the recorders are enrolled (use a server for tests:
/// what is sent stays). Fails if any receipt is missing or wrong.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  aigaq load --recorders 16 --rate 0\n  \
                        aigaq load --recorders 500 --rate 250000 --seconds 60 --server 127.0.0.1:4433 --data ./aigaq-data --json load.json"
)]
pub(super) struct Args {
    /// How many recorders.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    recorders: u32,
    /// What each of them sends, bytes per second; 0 is as fast as it goes.
    #[arg(long, value_name = "BYTES/S", default_value_t = 250_000)]
    rate: u64,
    /// Payload of one link, bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 524_288, value_parser = clap::value_parser!(u32).range(1..=33_554_432))]
    segment: u32,
    /// How long they record, seconds; the last receipts come after.
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    seconds: u64,
    /// Server to load, instead of one of its own.
    #[arg(long, value_name = "HOST:PORT", requires = "data")]
    server: Option<String>,
    /// Data directory: of the server to load, or where its own server keeps its data.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where the report is written as JSON, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When a receipt was missing or wrong, or the load could not be made at all.
pub(super) fn run(args: Args) -> Result<()> {
    let scratch = Scratch::new(None)?;
    let summary = super::block_on(measure(&args, &scratch))?;
    for line in summary.table() {
        output::line(&line)?;
    }
    if let Some(path) = &args.json {
        let json = serde_json::to_vec_pretty(&summary).context(Kind::Internal, "cannot write the report")?;
        std::fs::write(path, json).context(Kind::Invalid, format!("cannot write {}", path.display()))?;
    }
    match summary.verdict() {
        None => Ok(()),
        Some(problem) => Err(Error::new(Kind::Internal, problem)),
    }
}

/// Starts a server if none was named, runs the fleet against it, and stops the server again.
async fn measure(args: &Args, scratch: &Scratch) -> Result<Summary> {
    let stop = CancellationToken::new();
    let signals = shutdown::signals()?;
    let on_signal = stop.clone();
    tokio::spawn(async move {
        signals.await;
        on_signal.cancel();
    });
    let data = args.data.clone().unwrap_or_else(|| scratch.path().join("data"));
    if let Some(server) = &args.server {
        if !data.join("ca").is_dir() {
            let problem = format!("--data {} is no data directory of a server that was started", data.display());
            return Err(Error::new(Kind::Invalid, problem));
        }
        return drive(args, scratch, server.clone(), data, stop).await;
    }
    let mut config = Config::default();
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    (config.quic.listen, config.api.listen, config.ops.listen) = (anywhere, anywhere, anywhere);
    config.quic.connections_max = config.quic.connections_max.max(args.recorders as usize);
    config.store.dir.clone_from(&data);
    let server = Server::start(config, Clock::system()).await?;
    let address = server.quic_addr.to_string();
    let stop_server = CancellationToken::new();
    let mut serving = tokio::spawn(server.run_until(stop_server.clone().cancelled_owned()));
    let summary = tokio::select! {
        summary = drive(args, scratch, address, data, stop) => summary?,
        ended = &mut serving => {
            ended.context(Kind::Internal, "the server died")??;
            return Err(Error::new(Kind::Internal, "the server ended too early"));
        }
    };
    stop_server.cancel();
    serving.await.context(Kind::Internal, "the server died")??;
    Ok(summary)
}

/// Runs the fleet with a progress bar.
async fn drive(
    args: &Args,
    scratch: &Scratch,
    server: String,
    data: PathBuf,
    stop: CancellationToken,
) -> Result<Summary> {
    let plan = fleet::Plan {
        recorders: args.recorders,
        rate: args.rate,
        segment_bytes: args.segment,
        duration: Duration::from_secs(args.seconds),
        server,
    };
    let figures = Arc::new(Figures::new()?);
    let bar = ProgressBar::new(args.seconds).with_style(style()?);
    bar.set_message("enrolling");
    let fleet = Fleet::enrol(plan, data, scratch.path().join("recorders")).await?;
    let showing = tokio::spawn(show(bar.clone(), figures.clone()));
    let reports = fleet.run(figures.clone(), stop).await;
    showing.abort();
    bar.finish_and_clear();
    Ok(figures.summary(args.recorders, args.segment, reports))
}

fn style() -> Result<ProgressStyle> {
    ProgressStyle::with_template("{bar:30} {pos}/{len} s  {msg}").context(Kind::Internal, "bad progress bar")
}

async fn show(bar: ProgressBar, figures: Arc<Figures>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    loop {
        ticks.tick().await;
        bar.set_position(figures.elapsed().as_secs());
        bar.set_message(figures.line());
    }
}
