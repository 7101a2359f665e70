//! `aigaq load`: many recorders from one process, to see what a server bears.
//!
//! `fleet` makes and runs the recorders, `network` is what they send through, `figures` counts what they see. The payloads are random bytes that differ from link to
//! link; all else is what the reference recorder does, the check of every receipt included.

mod figures;
mod fleet;
mod network;
mod report;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

use aigaq_proto::limits::PAYLOAD_BYTES_MAX;

use self::figures::Figures;
use self::fleet::Fleet;
use self::report::Summary;
use super::output;
use super::scratch::Scratch;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Context, Error, Kind, Result};
use crate::server::Server;
use crate::shutdown;

/// What waits when a recorder begins is held in memory, which has room for so much.
const WAITING_LINKS_MAX: u64 = 500;
const WAITING_BYTES_MAX: u64 = 60_000_000;

/// Send like many recorders at once, check every receipt, and report.
///
/// Without --server it starts a server of its own in a temporary directory and measures
/// both together. With --server it loads that one; then --data names the server's data
/// directory on this machine, where the recorders are enrolled (use a server for tests:
/// what is sent stays). Fails if any receipt is missing or wrong.
///
/// Beside the plain load: --ramp spreads the beginnings, --loss loses datagrams both ways, --storm
/// cuts every connection at once, again and again, --marks raises marks, and --backlog makes some of the recorders begin with
/// footage of the time before, which is signed before the time begins. The report tells receipts of live footage and of
/// backlog apart, how long what was made just now took to its receipt, and how long the recorders took to come back.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  aigaq load --recorders 16 --rate 0\n  \
                        aigaq load --recorders 500 --rate 250000 --seconds 60 --server 127.0.0.1:4433 --data ./aigaq-data --json load.json\n  \
                        aigaq load --recorders 1000 --rate 50000 --length 2 --ramp 20 --loss 2 --storm 30 --marks 20 --backlog 100 --backlog-seconds 600 --seconds 120"
)]
pub(super) struct Args {
    /// How many recorders.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    recorders: u32,
    /// What each of them sends, bytes per second; 0 is as fast as it goes.
    #[arg(long, value_name = "BYTES/S", default_value_t = 250_000)]
    rate: u64,
    /// Payload of one link, bytes; with --length what the rate makes of it.
    #[arg(long, value_name = "BYTES", default_value_t = 524_288, value_parser = clap::value_parser!(u32).range(1..=33_554_432))]
    segment: u32,
    /// How much time one link covers, seconds, instead of --segment.
    #[arg(long, value_name = "S", conflicts_with = "segment", value_parser = seconds)]
    length: Option<Duration>,
    /// How long they record, seconds; the last receipts come after.
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    seconds: u64,
    /// Over how long the recorders begin, one after the other, seconds.
    #[arg(long, value_name = "S", value_parser = seconds)]
    ramp: Option<Duration>,
    /// How many of a hundred datagrams are lost, each way.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    loss: f64,
    /// How often every connection is cut at once, seconds.
    #[arg(long, value_name = "S", value_parser = seconds)]
    storm: Option<Duration>,
    /// How often each recorder raises a mark, seconds.
    #[arg(long, value_name = "S", value_parser = seconds)]
    marks: Option<Duration>,
    /// How many of the recorders begin with a backlog.
    #[arg(long, value_name = "N", default_value_t = 0)]
    backlog: u32,
    /// How much footage each of those has waiting at the beginning, seconds of it.
    #[arg(long, value_name = "S", default_value = "60", value_parser = seconds)]
    backlog_seconds: Duration,
    /// What loss is drawn from.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
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
    let plan = plan(args, server)?;
    let segment_bytes = plan.segment_bytes;
    let figures = Arc::new(Figures::new()?);
    let bar = ProgressBar::new(args.seconds).with_style(style()?);
    bar.set_message("enrolling");
    let fleet = Fleet::enrol(plan, data, scratch.path().join("recorders")).await?;
    let showing = tokio::spawn(show(bar.clone(), figures.clone()));
    let reports = fleet.run(figures.clone(), stop).await;
    showing.abort();
    bar.finish_and_clear();
    Ok(figures.summary(args.recorders, segment_bytes, reports))
}

/// What the arguments come to.
fn plan(args: &Args, server: String) -> Result<fleet::Plan> {
    let invalid = |problem: &str| Error::new(Kind::Invalid, problem);
    let segment_bytes = match args.length {
        None => args.segment,
        Some(_) if args.rate == 0 => return Err(invalid("--length needs a --rate")),
        Some(length) => {
            let bytes = u128::from(args.rate) * length.as_micros() / 1_000_000;
            let fits = u32::try_from(bytes).ok().filter(|bytes| (1..=PAYLOAD_BYTES_MAX).contains(bytes));
            fits.ok_or_else(|| invalid("--length times --rate is no size of a link, 1 to 33554432 bytes"))?
        }
    };
    if args.backlog > args.recorders {
        return Err(invalid("--backlog is more than --recorders"));
    }
    if args.backlog > 0 && args.rate == 0 {
        return Err(invalid("--backlog needs a --rate: without one there is nothing but backlog"));
    }
    let plan = fleet::Plan {
        recorders: args.recorders,
        rate: args.rate,
        segment_bytes,
        duration: Duration::from_secs(args.seconds),
        ramp: args.ramp,
        loss: args.loss / 100.0,
        storm: args.storm,
        marks: args.marks,
        backlog: args.backlog,
        backlog_length: args.backlog_seconds,
        seed: args.seed,
        server,
    };
    let waiting = plan.waiting_each();
    if plan.backlog > 0 && (waiting > WAITING_LINKS_MAX || waiting * u64::from(segment_bytes) > WAITING_BYTES_MAX) {
        return Err(invalid("--backlog-seconds is more than a recorder of a load holds: 500 links, 60 MB"));
    }
    Ok(plan)
}

/// A time in seconds, from a millisecond to a week.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.001..=604_800.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "wants seconds, 0.001 to 604800".to_owned())
}

fn percent(text: &str) -> Result<f64, String> {
    let percent = text.parse().ok().filter(|percent| (0.0..=90.0).contains(percent));
    percent.ok_or_else(|| "wants a percentage, 0 to 90".to_owned())
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
