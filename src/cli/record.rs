//! `aigaq record`: one recorder, one source, until its last receipt.

mod source;

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::output;
use crate::clock::Clock;
use crate::error::{Context, Error, Kind, Result};
use crate::recorder::{self, Identity, Observer, Options, Order, Progress, Report, Track};
use crate::shutdown;

/// Category of a mark that is raised by a signal when none was given.
const CATEGORY: &str = "emergency";

/// Send footage to the server, signed and chained, and wait for a receipt for every piece of it.
///
/// SOURCE is a film, a folder of films, or a camera. It is cut into links of one to four seconds, without encoding it again.
/// A film (MP4, MOV) arrives as if it were being recorded now. A folder, such as the card of a dashcam, is watched: each film
/// in it is recorded at its own time, and removed once the server's receipts for all of it were verified. A camera (RTSP with
/// H.264 or H.265, AAC) is recorded until this is told to stop, and looked for again whenever it is lost.
///
/// Each link is on disk in DIR/spool before it is sent, and leaves it with its receipt, so that nothing is lost without the server or
/// when the power goes. The command ends when it has verified the server's receipt for each link. Told to stop (SIGINT, SIGTERM)
/// it tries for ten seconds more; what is then without receipt waits in the spool for the next time, which is no failure.
/// It fails when something was lost or never recorded. Without SOURCE it brings in what the spool holds.
///
/// While it runs, `mark CATEGORY [NOTE]`, `stop wearer|battery|schedule` or `status`, as a line to the Unix socket
/// DIR/control.sock, raises a mark, ends the recording or asks how it is. SIGUSR1 raises a mark as well.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    aigaq record --identity ./car-7 --fast --start 2026-01-17T09:14:00Z drive.mp4\n  \
    ffmpeg -i drive.mkv -c copy -f mp4 -movflags +frag_keyframe+empty_moov+default_base_moof - \\\n    \
    | aigaq record --identity ./car-7 --mark traffic-stop -\n  \
    aigaq record --identity ./4711 --enrol 7K3M-9QXT-… --server gateway.example.org:4433 drive.mp4\n  \
    aigaq record --identity ./car-7 --once /media/card\n  \
    AIGAQ_CAMERA_USER=guard AIGAQ_CAMERA_PASSWORD=... aigaq record --identity ./gate rtsp://10.0.0.7/stream\n  \
    aigaq record --identity ./car-7")]
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
    /// Raise a mark of this category when the recording begins; SIGUSR1 raises another.
    #[arg(long, value_name = "CATEGORY", value_parser = category)]
    mark: Option<String>,
    /// Bytes that DIR/spool may take: when they are used up, the oldest footage that nobody asked for goes. Less if less is free.
    #[arg(long, value_name = "BYTES", default_value_t = recorder::SPOOL_BYTES_MAX,
        value_parser = clap::value_parser!(u64).range(1024 * 1024..))]
    spool_bytes: u64,
    /// End when every film in the folder is recorded and received, instead of waiting for more.
    #[arg(long)]
    once: bool,
    /// An MP4 or MOV file; a folder of them; rtsp://USER:PASSWORD@HOST/PATH; or - for a fragmented MP4 on standard input. Without
    /// it, only what the spool holds is brought in.
    source: Option<PathBuf>,
}

/// Records.
///
/// # Errors
/// When something keeps the recorder from going on, the source is broken, or links were lost or refused for good.
pub(super) async fn run(args: Args) -> Result<()> {
    let progress = Arc::new(Progress::start());
    let stop = CancellationToken::new();
    let source = args.source.map(|named| source::source(named, &args.identity, args.once)).transpose()?;
    let pace = source::pace(source.as_ref(), args.fast, args.start.is_some())?;
    if let (Some(code), Some(server)) = (&args.enrol, &args.server) {
        recorder::enrol(&args.identity, code, server, &Clock::system(), &|text| progress.note(text)).await?;
    }
    let is_film = matches!(source, Some(recorder::Source::File(_) | recorder::Source::Stdin));
    let mut options = Options::new(Identity::load(&args.identity)?, source);
    options.state = Some(args.identity.clone());
    options.spool_bytes_max = args.spool_bytes;
    options.server = args.server;
    options.start = args.start.map(micros).transpose()?;
    options.pace = pace;
    options.track = args.track.as_deref().map(Track::load).transpose()?;
    options.mark = args.mark.clone();
    options.stop = stop.clone();
    options.observer = Some(progress.clone() as Arc<dyn Observer>);
    let button = button(options.commands.clone(), args.mark.unwrap_or_else(|| CATEGORY.to_owned()))?;
    let told = shutdown::signals()?;
    let recording = recorder::record(options);
    let report = tokio::select! {
        report = recording => report,
        never = stopping(told, &stop, &progress) => match never {},
        never = button => match never {},
    };
    progress.finish();
    let report = report?;
    tell(&report, &args.identity)?;
    if is_film && report.links == 0 && report.fault.is_none() {
        return Err(Error::new(
            Kind::Busy,
            "nothing was recorded: a recorder has to reach the server once before it can",
        ));
    }
    report.outcome()
}

fn category(text: &str) -> Result<String, String> {
    recorder::check_category(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

fn micros(time: Timestamp) -> Result<u64> {
    u64::try_from(time.as_microsecond())
        .map_err(|_| Error::new(Kind::Invalid, format!("--start {time} is before 1970")))
}

/// The first signal ends the recording and lets the last receipts come in; the second ends everything.
async fn stopping(
    told: impl Future<Output = ()>,
    stop: &CancellationToken,
    progress: &Progress,
) -> std::convert::Infallible {
    told.await;
    stop.cancel();
    progress.note("ending the recording; once more ends at once, and what has no receipt stays in the spool");
    std::future::pending().await
}

/// Raises a mark at each SIGUSR1, as the button on a recorder would.
fn button(
    commands: mpsc::Sender<recorder::Command>,
    category: String,
) -> Result<impl Future<Output = std::convert::Infallible>> {
    let mut pressed = signal(SignalKind::user_defined1()).context(Kind::Internal, "cannot listen for signals")?;
    Ok(async move {
        loop {
            pressed.recv().await;
            let mark = Order::Mark { category: category.clone(), note: String::new() };
            let _ = commands.send(recorder::Command::unanswered(mark)).await;
        }
    })
}

fn tell(report: &Report, identity: &std::path::Path) -> Result<()> {
    output::line(&format!("recorder    {}", report.recorder))?;
    let sequences = report.sequences.map(|(first, last)| format!(", sequences {first} to {last}")).unwrap_or_default();
    output::line(&format!("links       {}{sequences}, {} bytes", report.links, report.bytes))?;
    let lost = report.given_up.saturating_add(report.lost.len() as u64);
    output::line(&format!("receipts    {} verified, {lost} links lost", report.receipts))?;
    if let Some((from, to)) = report.captured {
        output::line(&format!("captured    {} to {}", time(from), time(to)))?;
    }
    if report.left > 0 {
        let again = format!("aigaq record --identity {}", identity.display());
        output::line(&format!("waiting     {} links in the spool; {again} brings them in", report.left))?;
    }
    Ok(())
}

fn time(micros: u64) -> String {
    let time = i64::try_from(micros).ok().and_then(|micros| Timestamp::from_microsecond(micros).ok());
    time.map_or_else(|| micros.to_string(), |time| time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string())
}
