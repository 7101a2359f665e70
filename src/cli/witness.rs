//! `aigaq witness`: cosigns the checkpoints of other departments' logs, in the foreground, until SIGTERM or SIGINT.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aigaq_proto::receipt::LogKey;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::output;
use crate::clock::Clock;
use crate::error::{Context as _, Error, Kind, Result};
use crate::server::DataDir;
use crate::witness::{Key, Witness, router};
use crate::{http, shutdown};

/// Run a witness: it cosigns the checkpoints of logs of other departments (C2SP tlog-witness).
///
/// Keeps its key (DIR/witness.key, made at the first start) and of each log the newest
/// checkpoint in DIR. Prints its key, which the witnessed servers need in their setting
/// witness.witnesses, and its address. Follows the logs whose keys it is given, each as
/// `GET /v1/log/key` of a server says it. The same settings may stand in a TOML file, under
/// the names dir, name, listen, logs (a list), certificate and key; options come first.
/// Never restore DIR from an older copy: a witness that forgot may cosign a second history.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Example:\n  aigaq witness --dir ./witness --name witness.karaganda.example/1 --log \"$(curl -s http://127.0.0.1:8080/v1/log/key)\""
)]
pub(super) struct Args {
    /// TOML file with the same settings.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where key and state are; made if it is not there. [default: ./aigaq-witness]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Name of the witness, a URL without scheme; needed at the first start alone.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Address and port. Without a certificate only a loopback address. [default: 127.0.0.1:4480]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Key of a log to follow; may be given several times.
    #[arg(long = "log", value_name = "VKEY")]
    logs: Vec<String>,
    /// Certificate chain for HTTPS, PEM.
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
}

/// The TOML file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    dir: Option<PathBuf>,
    name: Option<String>,
    listen: Option<SocketAddr>,
    logs: Vec<String>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When the witness could not start, or its listener failed.
pub(super) fn run(args: Args) -> Result<()> {
    let file = args.config.as_deref().map(read).transpose()?.unwrap_or_default();
    let dir = args.dir.or(file.dir).unwrap_or_else(|| "./aigaq-witness".into());
    let listen = args.listen.or(file.listen).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 4480)));
    let logs = args.logs.iter().chain(&file.logs).map(|text| log(text)).collect::<Result<Vec<_>>>()?;
    if logs.is_empty() {
        return Err(Error::new(Kind::Invalid, "a witness needs the key of a log to follow (--log)"));
    }
    let files = match (args.certificate.or(file.certificate), args.key.or(file.key)) {
        (Some(certificate), Some(key)) => Some(http::Files::open(&certificate, &key)?),
        (None, None) => None,
        _ => return Err(Error::new(Kind::Invalid, "certificate and key: set both or neither")),
    };
    let lock = DataDir::create(&dir)?;
    let key = Key::load_or_create(lock.path(), args.name.or(file.name).as_deref())?;
    let witness = Arc::new(Witness::open(lock.path(), key, logs, Clock::system())?);
    super::block_on(async {
        let signals = shutdown::signals()?;
        let listener = tokio::net::TcpListener::bind(listen).await;
        let listener = listener.context(Kind::Invalid, format!("cannot listen on {listen}"))?;
        let address = listener.local_addr().context(Kind::Internal, "the listener has no address")?;
        let tls = files.as_ref().map(|files| http::without_clients(files.current())).transpose()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        output::line(&format!("key          {}", witness.key().as_str()))?;
        output::line(&format!("witness      {scheme}://{address}"))?;
        let stop = CancellationToken::new();
        if let Some(files) = files {
            tokio::spawn(files.watch(stop.clone()));
        }
        let serving = http::serve(listener, router(witness), tls, stop.clone());
        let mut serving = std::pin::pin!(serving);
        tokio::select! {
            ended = &mut serving => return ended,
            () = signals => stop.cancel(),
        }
        serving.await
    })
}

fn read(path: &Path) -> Result<File> {
    let text = std::fs::read_to_string(path).context(Kind::Invalid, format!("cannot read {}", path.display()))?;
    toml::from_str(&text).map_err(|error| {
        Error::new(Kind::Invalid, format!("{}: {}", path.display(), error.message().replace('\n', ", ")))
    })
}

fn log(text: &str) -> Result<LogKey> {
    LogKey::parse(text.trim()).context(Kind::Invalid, format!("{text} is not the key of a log"))
}
