//! `aigaq record`: one recorder, one source, until its last receipt.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::output;
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::recorder::{self, Identity, Observer, Options, Pace, Progress, Report, Source, Track};

/// Send footage to the server, signed and chained, and wait for a receipt for every piece of it.
///
/// SOURCE is an MP4 or QuickTime file, or a fragmented MP4 from a pipe. It is cut into links of one to four seconds, without
/// encoding it again, and they arrive as if they were being recorded now.
/// The command ends when it has verified the server's receipt for each, and goes on by itself when the connection breaks.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    aigaq record --identity ./car-7 --fast --start 2026-01-17T09:14:00Z drive.mp4\n  \
    ffmpeg -i drive.mkv -c copy -f mp4 -movflags +frag_keyframe+empty_moov+default_base_moof - \\\n    \
    | aigaq record --identity ./car-7 -\n  \
    aigaq record --identity ./4711 --enrol 7K3M-9QXT-… --server gateway.example.org:4433 drive.mp4")]
pub(super) struct Args {
    /// Directory of the identity: who records. Made with --enrol, or by `aigaq enrol --out`.
    #[arg(long, value_name = "DIR")]
    identity: PathBuf,
    /// A code from `aigaq enrol --code`: makes the key of this device and gets its certificate from --server, once.
    #[arg(long, value_name = "CODE", requires = "server")]
    enrol: Option<String>,
    /// Address of the server, if not the one in DIR/recorder.toml. Several, separated by commas, are tried in turn.
    #[arg(long, value_name = "HOST:PORT[,HOST:PORT…]")]
    server: Option<String>,
    /// When the first picture was taken, such as 2026-01-17T09:14:00Z; now, if not given.
    #[arg(long, value_name = "RFC3339")]
    start: Option<Timestamp>,
    /// Send as fast as it goes instead of in real time.
    #[arg(long)]
    fast: bool,
    /// A GPX file that says where the recorder was: its points become part of the links of their time.
    #[arg(long, value_name = "FILE")]
    track: Option<PathBuf>,
    /// An MP4 or MOV file; or - for a fragmented MP4 on standard input.
    source: PathBuf,
}

/// Records.
///
/// # Errors
/// When something keeps the recorder from going on, the source is broken, or links were refused for good.
pub(super) async fn run(args: Args) -> Result<()> {
    let progress = Arc::new(Progress::start());
    let stop = CancellationToken::new();
    if let (Some(code), Some(server)) = (&args.enrol, &args.server) {
        recorder::enrol(&args.identity, code, server, &Clock::system(), &|text| progress.note(text)).await?;
    }
    let mut options = Options::new(Identity::load(&args.identity)?, source(args.source)?);
    options.state = Some(args.identity);
    options.server = args.server;
    options.start = args.start.map(micros).transpose()?;
    options.pace = if args.fast { Pace::Fast } else { Pace::RealTime };
    options.track = args.track.as_deref().map(Track::load).transpose()?;
    options.stop = stop.clone();
    options.observer = Some(progress.clone() as Arc<dyn Observer>);
    let report = tokio::select! {
        report = recorder::record(options) => report,
        interrupted = interrupted(&stop, &progress) => Err(interrupted),
    };
    progress.finish();
    let report = report?;
    tell(&report)?;
    report.outcome()
}

fn source(path: PathBuf) -> Result<Source> {
    if path.as_os_str() != "-" {
        return Ok(Source::File(path));
    }
    if std::io::stdin().is_terminal() {
        return Err(Error::new(Kind::Invalid, "standard input is a terminal: pipe a fragmented MP4 into it"));
    }
    Ok(Source::Stdin)
}

fn micros(time: Timestamp) -> Result<u64> {
    u64::try_from(time.as_microsecond())
        .map_err(|_| Error::new(Kind::Invalid, format!("--start {time} is before 1970")))
}

/// The first interrupt ends the recording and lets the last receipts come in; the second ends everything.
async fn interrupted(stop: &CancellationToken, progress: &Progress) -> Error {
    if tokio::signal::ctrl_c().await.is_ok() {
        stop.cancel();
        progress.note("ending the recording; once more ends at once, without the receipts that are missing");
        if tokio::signal::ctrl_c().await.is_ok() {
            return Error::new(Kind::Busy, "interrupted before every link had its receipt");
        }
    }
    std::future::pending().await
}

fn tell(report: &Report) -> Result<()> {
    output::line(&format!("recorder    {}", report.recorder))?;
    let sequences = report.sequences.map(|(first, last)| format!(", sequences {first} to {last}")).unwrap_or_default();
    output::line(&format!("links       {}{sequences}, {} bytes", report.links, report.bytes))?;
    output::line(&format!("receipts    {} verified, {} links lost", report.receipts, report.lost.len()))?;
    if let Some((from, to)) = report.captured {
        output::line(&format!("captured    {} to {}", time(from), time(to)))?;
    }
    Ok(())
}

fn time(micros: u64) -> String {
    let time = i64::try_from(micros).ok().and_then(|micros| Timestamp::from_microsecond(micros).ok());
    time.map_or_else(|| micros.to_string(), |time| time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string())
}
