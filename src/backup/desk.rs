//! The running server's side of a backup: a socket in the data directory, for its owner and root alone.
//!
//! Promises: one backup at a time; the snapshot goes when the one who asked goes, and when the server stops; nothing is shown before the
//! audit trail says so. Whoever may use the socket may read the data directory itself: it opens nothing that was closed.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::source::{self, Answer, Ask, Shown};
use super::{Metrics, source::with_short_name};
use crate::clock::Clock;
use crate::error::{Context as _, Error, Kind, Result};
use crate::store::{Snapshot, Store};

/// The socket in the data directory.
pub const SOCKET: &str = "backup.sock";
/// Longest question, bytes.
const ASK_BYTES_MAX: u64 = 16 << 10;
/// Who may wait at once to be told that it is not their turn.
const WAITING_MAX: usize = 8;

/// The server's side.
pub struct Desk {
    store: Store,
    clock: Clock,
    data: PathBuf,
    metrics: Metrics,
    listener: UnixListener,
    turn: Arc<Semaphore>,
}

impl Desk {
    /// Listens in the data directory, which is this process's alone.
    ///
    /// # Errors
    /// [`Kind::Internal`] when it cannot, and those of the store.
    pub fn open(store: Store, clock: Clock, data: &Path, metrics: Metrics) -> Result<Self> {
        metrics.last(store.last_backup()?);
        let failed = || format!("cannot listen on {}", data.join(SOCKET).display());
        let listener = with_short_name(data, |path| {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let listener = UnixListener::bind(path)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
            Ok(listener)
        });
        let listener = listener.context(Kind::Internal, failed())?;
        Ok(Self { store, clock, data: data.to_owned(), metrics, listener, turn: Arc::new(Semaphore::new(1)) })
    }

    /// Serves until `stop`; then no snapshot is left, and the store is let go.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the socket fails.
    pub async fn run(self, stop: CancellationToken) -> Result<()> {
        let (this, mut serving) = (Arc::new(self), JoinSet::new());
        loop {
            let stream = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(_) = serving.join_next() => continue,
                accepted = this.listener.accept(), if serving.len() < WAITING_MAX => {
                    accepted.context(Kind::Internal, "the socket for backups failed")?.0
                }
            };
            serving.spawn(Arc::clone(&this).serve(stream, stop.clone()));
        }
        while serving.join_next().await.is_some() {}
        let _ = std::fs::remove_file(this.data.join(SOCKET));
        Ok(())
    }

    async fn serve(self: Arc<Self>, stream: UnixStream, stop: CancellationToken) {
        let own = rustix::process::geteuid().as_raw();
        if !stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0) {
            return;
        }
        let (mut snapshot, mut is_done) = (None, false);
        let mut turn = None;
        let (read, mut write) = stream.into_split();
        let mut read = BufReader::new(read);
        loop {
            let ask = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                line = line(&mut read) => match line { Some(ask) => ask, None => break },
            };
            if turn.is_none() {
                turn = Arc::clone(&self.turn).try_acquire_owned().ok();
            }
            let answer = match (&turn, ask) {
                (None, _) => Answer::Refused("another backup is being taken".to_owned()),
                (Some(_), ask) => self.answer(ask, &mut snapshot).await.unwrap_or_else(|error| {
                    tracing::error!(%error, "a backup is not taken");
                    Answer::Refused(error.to_string())
                }),
            };
            is_done |= answer == Answer::Done;
            let mut text = serde_json::to_vec(&answer).unwrap_or_default();
            text.push(b'\n');
            if write.write_all(&text).await.is_err() {
                break;
            }
        }
        if let Some((snapshot, _)) = snapshot {
            self.metrics.ended(is_done);
            // Files are removed on a thread that may wait for it.
            let _ = blocking(move || {
                drop(snapshot);
                Ok(())
            })
            .await;
        }
    }

    async fn answer(&self, ask: Ask, snapshot: &mut Option<(Snapshot, Shown)>) -> Result<Answer> {
        let store = self.store.clone();
        match ask {
            Ask::Snapshot { .. } if snapshot.is_some() => Err(Error::new(Kind::Invalid, "there is a snapshot already")),
            Ask::Snapshot { to } => {
                let at = self.clock.now();
                tracing::info!("a backup is begun");
                let (taken, shown) = blocking(move || source::begin(&store, at, &to)).await?;
                let Shown { dir, at, log_size } = shown.clone();
                *snapshot = Some((taken, shown));
                Ok(Answer::Snapshot { dir, at, log_size })
            }
            Ask::Keys => {
                let data = self.data.clone();
                blocking(move || source::told(&store, &data)).await.map(Answer::Keys)
            }
            Ask::Done { files, bytes } => {
                let (_, Shown { at, .. }) =
                    snapshot.as_ref().ok_or_else(|| Error::new(Kind::Invalid, "no backup was begun"))?;
                let (at, now) = (*at, self.clock.now());
                blocking(move || source::finish(&store, at, now, files, bytes)).await?;
                self.metrics.last(Some(at));
                tracing::info!(files, bytes, "a backup is whole");
                Ok(Answer::Done)
            }
        }
    }
}

/// The next question; none when whoever asked is gone or says something else.
async fn line(read: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> Option<Ask> {
    let mut line = Vec::new();
    read.take(ASK_BYTES_MAX).read_until(b'\n', &mut line).await.ok()?;
    serde_json::from_slice(line.strip_suffix(b"\n")?).ok()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context(Kind::Internal, "a task of a backup died")?
}
