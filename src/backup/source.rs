//! What a backup is taken of: the store of a server that runs, asked over its socket, or of one that does not, opened here.
//!
//! The running server takes the snapshot, because it alone has the store; the bytes are copied by whoever asked, so that a copy at
//! any speed never costs the server a thread. One line of JSON asks, one line answers. Whoever goes away has given up: the snapshot goes.

use std::cell::OnceCell;
use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use aigaq_proto::Micros;
use serde::{Deserialize, Serialize};

use super::SOCKET;
use crate::clock::Clock;
use crate::error::{Context as _, Error, Kind, Result};
use crate::log;
use crate::seal::{Destruction, Told};
use crate::store::records::{AuditRecord, Event};
use crate::store::{self, Settings, Snapshot, Store};

/// Longest line that a server answers, bytes.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

/// What a server is asked, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Ask {
    /// For a snapshot, which is copied to this place.
    Snapshot { to: String },
    /// What is destroyed of the keys.
    Keys,
    /// To write down that the copy is whole.
    Done { files: u64, bytes: u64 },
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    Snapshot {
        dir: PathBuf,
        at: Micros,
        log_size: u64,
    },
    Keys(Told),
    Done,
    /// Why not.
    Refused(String),
}

/// Where a snapshot is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) dir: PathBuf,
    /// When it was asked for, server clock.
    pub(super) at: Micros,
    pub(super) log_size: u64,
}

/// What a backup is taken of.
pub struct Source {
    data: PathBuf,
    from: From,
    heard: Receiver<String>,
}

enum From {
    /// The socket of a server.
    Running(UnixStream),
    /// The store itself; nothing is heard.
    Stopped { snapshot: OnceCell<(Snapshot, Micros)>, store: Store, clock: Clock, _silent: SyncSender<String> },
}

impl Source {
    /// The server that runs in the data directory; `None` if none takes backups there.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when the directory or its socket is not for the one who asks.
    pub fn running(data: &Path) -> Result<Option<Self>> {
        let failed = || format!("cannot ask the server in {}", data.display());
        let stream = match with_short_name(data, |path| UnixStream::connect(path)) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(error).context(Kind::Invalid, failed()),
        };
        let reading = stream.try_clone().context(Kind::Internal, failed())?;
        let (hear, heard) = sync_channel(1);
        let reader = std::thread::Builder::new().name("backup".to_owned());
        let reading = reader.spawn(move || {
            let mut lines = BufReader::new(reading);
            loop {
                let mut line = String::new();
                match (&mut lines).take(ANSWER_BYTES_MAX).read_line(&mut line) {
                    Ok(read) if read > 0 && hear.send(line).is_ok() => {}
                    _ => return,
                }
            }
        });
        reading.context(Kind::Internal, failed())?;
        Ok(Some(Self { data: data.to_owned(), from: From::Running(stream), heard }))
    }

    /// The store of a server that does not run; whoever calls sees to it that none is started meanwhile.
    ///
    /// # Errors
    /// As [`Store::open_unkeyed`].
    pub fn stopped(data: &Path, clock: Clock) -> Result<Self> {
        let store = Store::open_unkeyed(&data.join(store::DIR), &Settings::default())?;
        let (silent, heard) = sync_channel(1);
        let from = From::Stopped { snapshot: OnceCell::new(), store, clock, _silent: silent };
        Ok(Self { data: data.to_owned(), from, heard })
    }

    /// Whether no server runs.
    pub(super) fn is_stopped(&self) -> bool {
        matches!(self.from, From::Stopped { .. })
    }

    /// The data directory.
    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    /// Says something only when the server is gone.
    pub(super) fn heard(&self) -> &Receiver<String> {
        &self.heard
    }

    /// Has a snapshot taken, which stays until this is dropped. What is about to be done is in the audit trail, and in the snapshot.
    pub(super) fn snapshot(&self, to: &Path) -> Result<Shown> {
        let to = to.display().to_string();
        if let From::Stopped { store, clock, snapshot, .. } = &self.from {
            let (taken, shown) = begin(store, clock.now(), &to)?;
            let again = |_| Error::new(Kind::Internal, "there is a snapshot already");
            return snapshot.set((taken, shown.at)).map_err(again).map(|()| shown);
        }
        match self.ask(&Ask::Snapshot { to })? {
            Answer::Snapshot { dir, at, log_size } => Ok(Shown { dir, at, log_size }),
            other => Err(unexpected(&other)),
        }
    }

    /// What the store says of its keys now.
    pub(super) fn keys(&self) -> Result<Told> {
        if let From::Stopped { store, .. } = &self.from {
            return told(store, &self.data);
        }
        match self.ask(&Ask::Keys)? {
            Answer::Keys(told) => Ok(told),
            other => Err(unexpected(&other)),
        }
    }

    /// Has it written down that the copy is whole.
    pub(super) fn done(&self, files: u64, bytes: u64) -> Result<()> {
        if let From::Stopped { store, clock, snapshot, .. } = &self.from {
            let at = snapshot.get().map_or(0, |(_, at)| *at);
            finish(store, at, clock.now(), files, bytes)?;
            return store.close();
        }
        match self.ask(&Ask::Done { files, bytes })? {
            Answer::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    fn ask(&self, ask: &Ask) -> Result<Answer> {
        let From::Running(stream) = &self.from else { return Err(Error::new(Kind::Internal, "there is no server")) };
        let gone = || "the server has stopped; run the backup again";
        let line = serde_json::to_string(ask).context(Kind::Internal, "a question cannot be written")?;
        (&*stream).write_all(format!("{line}\n").as_bytes()).context(Kind::Busy, gone())?;
        let answer = self.heard.recv().context(Kind::Busy, gone())?;
        match serde_json::from_str(&answer).context(Kind::Internal, "the server's answer does not read")? {
            Answer::Refused(why) => Err(Error::new(Kind::Busy, why)),
            answer => Ok(answer),
        }
    }
}

fn unexpected(answer: &Answer) -> Error {
    Error::new(Kind::Internal, format!("the server answered something else: {answer:?}"))
}

/// Writes down what is about to be done and takes the snapshot. Blocks.
pub(super) fn begin(store: &Store, at: Micros, to: &str) -> Result<(Snapshot, Shown)> {
    store.audit(&AuditRecord::new(at, Event::Backup, "command line", "local", "begin a backup").about(to))?;
    let snapshot = store.snapshot()?;
    let shown = Shown { dir: snapshot.dir.clone(), at, log_size: snapshot.log_size };
    Ok((snapshot, shown))
}

/// Writes down that a backup is whole which was begun at `at`. Blocks.
pub(super) fn finish(store: &Store, at: Micros, now: Micros, files: u64, bytes: u64) -> Result<()> {
    let text = format!("finish a backup: {files} files, {bytes} bytes, read again");
    store.note_backup(at, &AuditRecord::new(now, Event::Backup, "command line", "local", text))
}

/// What a store says of its keys. Blocks.
pub(super) fn told(store: &Store, data: &Path) -> Result<Told> {
    let floor = store.dropped_floor().max(store.keys_floor());
    let later = store.destructions()?.into_iter().filter(|(day, ..)| *day >= floor);
    let destroyed = later.map(|(day, recorder, record)| Destruction {
        day,
        recorder: recorder.to_string(),
        at: record.act.at,
        by: record.act.by,
        reason: record.act.reason,
    });
    Ok(Told { owner: log::first_key(data)?, floor, destroyed: destroyed.collect() })
}

/// Uses the socket in `data` under a name that fits into an address however long that of the directory is.
pub(super) fn with_short_name<T>(data: &Path, make: impl FnOnce(&Path) -> std::io::Result<T>) -> std::io::Result<T> {
    let dir = File::open(data)?;
    make(&PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(SOCKET))
}
