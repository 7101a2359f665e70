//! How a person or a button speaks to a recorder that runs: a Unix socket in the identity's directory, one line a request, one
//! line an answer.
//!
//! ```text
//! mark CATEGORY [NOTE]            ok SEQUENCE          the mark is durable on the device; only while it records
//! stop wearer|battery|schedule    ok                   the recording ends with this cause
//! status                          ok recording=…       in one line
//! anything else                   error WHY
//! ```
//!
//! The socket is for its owner alone. Lines are bounded, and so are clients and the time that one may be silent; none of
//! them can hold the recorder up, which takes requests between links.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

use aigaq_proto::link::StopCause;
use aigaq_proto::{Content, Digest, LinkHeader, RecorderId};

use crate::error::{Context, Kind, Result};

/// Name of the socket.
const SOCKET: &str = "control.sock";
/// Longest line, bytes: a category and a note fit.
const LINE_BYTES_MAX: u64 = 1024;
/// Clients at once.
const CLIENTS_MAX: usize = 8;
/// How long a client may be silent, and how long the recorder may take.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Requests that wait.
const WAITING_MAX: usize = 8;

/// What a recorder can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Raise a mark of this category with this note, now.
    Mark {
        /// Names the event.
        category: String,
        /// Free text; may be empty.
        note: String,
    },
    /// End the recording.
    Stop(StopCause),
    /// Say how it is.
    Status,
}

/// A request and where its one-line answer goes.
#[derive(Debug)]
pub struct Command {
    /// What is asked.
    pub order: Order,
    /// Takes the answer; may be gone.
    pub answer: oneshot::Sender<String>,
}

impl Command {
    /// A request whose answer nobody reads.
    #[must_use]
    pub fn unanswered(order: Order) -> Self {
        Self { order, answer: oneshot::channel().0 }
    }
}

/// Whether a mark may have this category.
///
/// # Errors
/// [`Kind::Invalid`] if it is empty, too long, or has characters that control how a text is shown.
pub fn check_category(category: &str) -> Result<()> {
    let mark = Content::Mark { category: category.to_owned(), note: String::new(), before_s: 0, after_s: 0 };
    let header = LinkHeader {
        recorder: RecorderId([0; 16]),
        sequence: 0,
        previous: Digest::ZERO,
        captured_at: 0,
        duration_us: 0,
        payload_length: 0,
        payload_digest: Digest::EMPTY,
        content: mark,
        fixes: Vec::new(),
    };
    header.encode().map(|_| ()).context(Kind::Invalid, "this cannot be the category of a mark")
}

/// A way into a recorder, and what the recorder takes from it.
pub(super) fn channel() -> (mpsc::Sender<Command>, mpsc::Receiver<Command>) {
    mpsc::channel(WAITING_MAX)
}

impl Order {
    /// Reads a line.
    fn parse(line: &str) -> Result<Self, String> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim();
        match (verb, rest) {
            ("mark", "") => Err("mark needs a category".to_owned()),
            ("mark", rest) => {
                let (category, note) = rest.split_once(' ').unwrap_or((rest, ""));
                Ok(Self::Mark { category: category.to_owned(), note: note.trim().to_owned() })
            }
            ("stop", "wearer") => Ok(Self::Stop(StopCause::Wearer)),
            ("stop", "battery") => Ok(Self::Stop(StopCause::Battery)),
            ("stop", "schedule") => Ok(Self::Stop(StopCause::Schedule)),
            ("stop", _) => Err("stop needs one of wearer, battery, schedule".to_owned()),
            ("status", "") => Ok(Self::Status),
            _ => Err("expected mark CATEGORY [NOTE], stop CAUSE or status".to_owned()),
        }
    }
}

/// The socket, not served yet.
#[derive(Debug)]
pub(super) struct Control {
    listener: UnixListener,
}

/// The socket's file, which is removed with it.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Control {
    /// Opens the socket of the recorder in `dir`, in place of one that a recorder left behind; the caller holds the lock of the
    /// directory.
    ///
    /// # Errors
    /// [`Kind::Internal`] if the system refuses it, such as for a path that is too long.
    pub(super) fn open(dir: &Path) -> Result<(Self, SocketFile)> {
        let path = dir.join(SOCKET);
        let cannot = || format!("cannot open {}", path.display());
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).context(Kind::Internal, cannot());
            }
            _ => {}
        }
        let listener = UnixListener::bind(&path).context(Kind::Internal, cannot())?;
        let owner = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, owner).context(Kind::Internal, cannot())?;
        Ok((Self { listener }, SocketFile(path)))
    }

    /// Serves clients until dropped.
    pub(super) async fn serve(self, commands: mpsc::Sender<Command>) {
        let clients = Arc::new(Semaphore::new(CLIENTS_MAX));
        let mut serving = tokio::task::JoinSet::new();
        loop {
            let Ok(place) = clients.clone().acquire_owned().await else { return };
            while serving.try_join_next().is_some() {}
            let Ok((stream, _)) = self.listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let commands = commands.clone();
            serving.spawn(async move {
                let _ = client(stream, &commands).await;
                drop(place);
            });
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Answers one client until it leaves, is silent for too long or sends too long a line.
async fn client(stream: UnixStream, commands: &mpsc::Sender<Command>) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut reader).take(LINE_BYTES_MAX);
        let read = tokio::time::timeout(SILENCE_MAX, bounded.read_until(b'\n', &mut line)).await??;
        if read == 0 {
            return Ok(());
        }
        let whole = line.last() == Some(&b'\n') || (read as u64) < LINE_BYTES_MAX;
        let answer = match std::str::from_utf8(&line) {
            Ok(text) if whole => answer(text.trim(), commands).await,
            _ => "error the line is too long or is no text".to_owned(),
        };
        writer.write_all(format!("{answer}\n").as_bytes()).await?;
        if !whole {
            return Ok(());
        }
    }
}

async fn answer(line: &str, commands: &mpsc::Sender<Command>) -> String {
    let order = match Order::parse(line) {
        Ok(order) => order,
        Err(why) => return format!("error {why}"),
    };
    let (answer, answered) = oneshot::channel();
    let asked = async {
        commands.send(Command { order, answer }).await.ok()?;
        answered.await.ok()
    };
    match tokio::time::timeout(SILENCE_MAX, asked).await {
        Ok(Some(answer)) => answer,
        Ok(None) => "error the recorder is ending".to_owned(),
        Err(_) => "error the recorder does not answer".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A recorder that agrees with everything.
    async fn agree(mut inbox: mpsc::Receiver<Command>, seen: mpsc::Sender<Order>) {
        while let Some(command) = inbox.recv().await {
            let _ = seen.send(command.order).await;
            let _ = command.answer.send("ok".to_owned());
        }
    }

    async fn say(path: &Path, text: &[u8]) -> String {
        let mut stream = UnixStream::connect(path).await.unwrap();
        stream.write_all(text).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).await.unwrap();
        answers
    }

    #[tokio::test]
    async fn each_line_gets_one_line_and_the_socket_is_the_owner_s_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SOCKET);
        let (commands, inbox) = channel();
        let (seen, mut asked) = mpsc::channel(8);
        tokio::spawn(agree(inbox, seen));
        std::fs::write(&path, "left behind").unwrap();
        let (control, file) = Control::open(dir.path()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let serving = tokio::spawn(control.serve(commands));
        let answers =
            say(&path, b"mark bribe-attempt  at the car\nstop schedule\nstop now\nstatus\nmark\nhello\n").await;
        let answers: Vec<_> = answers.lines().collect();
        assert_eq!((answers[0], answers[1], answers[3]), ("ok", "ok", "ok"));
        assert!(
            answers[2].starts_with("error stop needs") && answers[4].starts_with("error mark needs"),
            "{answers:?}"
        );
        assert!(answers[5].starts_with("error expected") && answers.len() == 6, "{answers:?}");
        let mark = Order::Mark { category: "bribe-attempt".into(), note: "at the car".into() };
        assert_eq!(asked.recv().await, Some(mark));
        assert_eq!(asked.recv().await, Some(Order::Stop(StopCause::Schedule)));
        assert_eq!(asked.recv().await, Some(Order::Status));
        let long = say(&path, &[b'a'; 2000]).await;
        assert!(long.starts_with("error the line is too long"), "{long}");
        assert!(say(&path, b"mark \xff\n").await.starts_with("error"));
        serving.abort();
        drop(file);
        assert!(!path.exists(), "also while the task that serves it is still there");
    }

    #[tokio::test]
    async fn a_recorder_that_is_gone_is_named_as_such() {
        let (commands, inbox) = channel();
        drop(inbox);
        assert_eq!(answer("status", &commands).await, "error the recorder is ending");
    }
}
