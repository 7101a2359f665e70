//! `aigaq demo`: the whole of it on one machine, to look at and to play with.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aigaq_proto::{RecorderId, Sequence};
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::output;
use super::scratch::Scratch;
use crate::clock::Clock;
use crate::config::Config;
use crate::enrol::{self, EnrolRequest};
use crate::error::{Context, Error, Kind, Result};
use crate::recorder::{self, CLIP, Identity, Observer, Options, Report, Source};
use crate::server::Server;
use crate::shutdown;
use crate::store::records::RecorderKind;

/// Who wears or carries the recorders of the demo, in turn.
const CAST: [(RecorderKind, &str, &str); 6] = [
    (RecorderKind::Officer, "Astana", "Patrol officer"),
    (RecorderKind::Vehicle, "Almaty city", "Patrol car"),
    (RecorderKind::Premises, "Almaty region", "Front desk"),
    (RecorderKind::Officer, "Karaganda", "Road police officer"),
    (RecorderKind::Vehicle, "Pavlodar", "Duty car"),
    (RecorderKind::Premises, "Zhetisu", "Interview room"),
];

/// How many links of the first recorder are durable before the demo calls itself ready: a start and two segments.
const READY_LINKS: u64 = 3;

/// How long the recorders may take to bring their last links in.
const FAREWELL: Duration = Duration::from_secs(5);

/// Run a server and some recorders on this machine.
///
/// The recorders differ in kind and department and play the bundled clip over and over in
/// real time, over QUIC, as real ones would. Prints the addresses, the token and lines to
/// paste: one to watch with ffplay, one to ask with curl. Ctrl-C ends it; without --data
/// nothing is left behind. Uses the default ports, or free ones where those are taken.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment, after_help = "Example:\n  aigaq demo --recorders 6 --data ./demo-data")]
pub(super) struct Args {
    /// Where the data stays; without it, in a temporary directory that is removed at the end.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// How many recorders.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=200))]
    recorders: u32,
}

/// Runs the command.
///
/// # Errors
/// When the server or every recorder failed.
pub(super) fn run(args: Args) -> Result<()> {
    let scratch = Scratch::new(args.data.as_deref())?;
    super::block_on(async {
        let signals = shutdown::signals()?;
        let server = Server::start(config(&scratch), Clock::system()).await?;
        let addresses = describe(&server)?;
        let server_addr = server.quic_addr.to_string();
        let recorders = (1..=args.recorders).map(|number| enlist(&scratch, &server_addr, number));
        let recorders: Vec<Enlisted> = recorders.collect::<Result<_>>()?;
        play(server, recorders, signals, &addresses).await
    })
}

/// The defaults, on loopback, with free ports where the default ones are taken.
fn config(scratch: &Scratch) -> Config {
    let mut config = Config::default();
    config.store.dir = scratch.path().to_owned();
    config.quic.listen = SocketAddr::from(([127, 0, 0, 1], config.quic.listen.port()));
    if UdpSocket::bind(config.quic.listen).is_err() {
        config.quic.listen.set_port(0);
    }
    for listen in [&mut config.api.listen, &mut config.ops.listen] {
        if TcpListener::bind(*listen).is_err() {
            listen.set_port(0);
        }
    }
    config
}

/// Prints where the server is; returns the address and the token of its API.
fn describe(server: &Server) -> Result<(SocketAddr, String)> {
    output::addresses(server)?;
    output::line(&format!("data        {}", server.data.display()))?;
    let token = server.owner_token()?;
    output::line(&format!("token       {token}"))?;
    Ok((server.api_addr, token))
}

/// A recorder of the demo.
struct Enlisted {
    id: RecorderId,
    options: Options,
}

/// Enrols recorder `number`, or takes it as it was left in the data directory by an earlier demo.
fn enlist(scratch: &Scratch, server: &str, number: u32) -> Result<Enlisted> {
    let dir = scratch.path().join("demo").join(number.to_string());
    let cast = CAST.iter().cycle().nth(number.saturating_sub(1) as usize);
    let (kind, department, role) = *cast.ok_or_else(|| Error::new(Kind::Internal, "the demo has no cast"))?;
    let label = format!("{role} {number}");
    if !dir.join("recorder.toml").exists() {
        std::fs::create_dir_all(scratch.path().join("demo")).context(Kind::Invalid, "cannot write the demo's data")?;
        let request = EnrolRequest { kind, department: department.into(), label: label.clone(), server: None };
        enrol::enrol(scratch.path(), request, &dir, &enrol::Settings::default(), &Clock::system())?;
    }
    let identity = Identity::load(&dir)?;
    let id = identity.id;
    output::line(&format!("recorder    {id}  {label}, {department}"))?;
    let source = Source::Loop { clip: Bytes::from_static(CLIP), laps: None };
    let mut options = Options::new(identity, source);
    options.state = Some(dir);
    options.server = Some(server.to_owned());
    Ok(Enlisted { id, options })
}

/// Says when enough is durable to be watched.
#[derive(Default)]
struct FirstLinks {
    receipts: std::sync::atomic::AtomicU64,
    ready: Notify,
}

impl Observer for FirstLinks {
    fn receipt(&self, _sequence: Sequence, _bytes: usize, _waited: Duration) {
        if self.receipts.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1 == READY_LINKS {
            self.ready.notify_one();
        }
    }
}

/// Records until a signal, or until the server or every recorder has failed; then ends everything in order.
async fn play(
    server: Server,
    recorders: Vec<Enlisted>,
    signals: impl Future<Output = ()>,
    (api, token): &(SocketAddr, String),
) -> Result<()> {
    let (stop_recorders, stop_server) = (CancellationToken::new(), CancellationToken::new());
    let first = Arc::new(FirstLinks::default());
    let watched = recorders.first().map(|recorder| recorder.id);
    let mut recording = JoinSet::new();
    for (index, mut recorder) in recorders.into_iter().enumerate() {
        recorder.options.stop = stop_recorders.clone();
        recorder.options.observer = (index == 0).then(|| first.clone() as Arc<dyn Observer>);
        recording.spawn(recorder::record(recorder.options));
    }
    let mut serving = tokio::spawn(server.run_until(stop_server.clone().cancelled_owned()));

    tokio::pin!(signals);
    let mut failed = None;
    let mut ready = false;
    loop {
        tokio::select! {
            () = &mut signals => break,
            ended = &mut serving => return served(ended),
            () = first.ready.notified(), if !ready => {
                ready = true;
                invite(*api, token, watched)?;
            }
            Some(ended) = recording.join_next() => {
                if let Err(error) = reported(ended) {
                    tracing::warn!(%error, "a recorder of the demo failed");
                    failed = Some(error);
                }
                if recording.is_empty() {
                    break;
                }
            }
        }
    }
    stop_recorders.cancel();
    let (links, receipts) = farewell(&mut recording).await;
    stop_server.cancel();
    served(serving.await)?;
    if let Some(error) = failed {
        return Err(error);
    }
    output::line(&format!("ended: {links} links, {receipts} receipts verified"))
}

/// The lines to paste.
fn invite(api: SocketAddr, token: &str, watched: Option<RecorderId>) -> Result<()> {
    let header = format!("'Authorization: Bearer {token}'");
    output::line("ready; paste one of these into another terminal, Ctrl-C here ends the demo:")?;
    if let Some(id) = watched {
        output::line(&format!("  ffplay -headers {header} http://{api}/v1/recorders/{id}/live.m3u8"))?;
    }
    output::line(&format!("  curl -H {header} http://{api}/v1/recorders"))
}

/// Waits until the recorders have their last receipts, within the deadline; returns links and receipts of those that ended well.
async fn farewell(recording: &mut JoinSet<Result<Report>>) -> (u64, u64) {
    let mut sum = (0, 0);
    let all = async {
        while let Some(ended) = recording.join_next().await {
            match reported(ended) {
                Ok(report) => sum = (sum.0 + report.links, sum.1 + report.receipts),
                Err(error) => tracing::warn!(%error, "a recorder of the demo failed"),
            }
        }
    };
    if tokio::time::timeout(FAREWELL, all).await.is_err() {
        tracing::warn!("some recorders did not get their last receipts in time");
        recording.abort_all();
    }
    sum
}

fn reported(ended: Result<Result<Report>, tokio::task::JoinError>) -> Result<Report> {
    let report = ended.context(Kind::Internal, "a recorder died")??;
    match report.fault {
        Some(fault) => Err(fault),
        None => Ok(report),
    }
}

fn served(ended: Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    ended.context(Kind::Internal, "the server died")?
}
