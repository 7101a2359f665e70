//! The server as a process of its own, so that it can be killed.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;

use aigaq::access::{self, Grants};

/// The binary under test.
pub const AIGAQ: &str = env!("CARGO_BIN_EXE_aigaq");

/// `aigaq serve` on free ports of the loopback. Killed when dropped.
pub struct ServerProcess {
    child: Child,
    pub data: PathBuf,
    pub quic: SocketAddr,
    pub api: SocketAddr,
    pub ops: SocketAddr,
    pub enrolment: SocketAddr,
    token: OnceLock<String>,
}

impl ServerProcess {
    /// Starts the server on `data` and waits until it says its addresses.
    pub fn start(data: &Path) -> Result<Self, String> {
        Self::start_at(data, "127.0.0.1:0".parse().unwrap())
    }

    /// The same with a given QUIC address.
    pub fn start_at(data: &Path, quic: SocketAddr) -> Result<Self, String> {
        Self::start_with(data, quic, "")
    }

    /// The same with more of a configuration.
    pub fn start_with(data: &Path, quic: SocketAddr, more: &str) -> Result<Self, String> {
        std::fs::create_dir_all(data).unwrap();
        let config = data.join("test.toml");
        let text = format!(
            "[quic]\nlisten = \"{quic}\"\n[api]\nlisten = \"127.0.0.1:0\"\n[ops]\nlisten = \"127.0.0.1:0\"\n{more}"
        );
        std::fs::write(&config, text).unwrap();
        let log = data.join("test.log");
        let mut child = Command::new(AIGAQ)
            .args(["serve", "--config"])
            .arg(&config)
            .arg("--data")
            .arg(data)
            .stdout(Stdio::piped())
            .stderr(std::fs::OpenOptions::new().append(true).create(true).open(&log).unwrap())
            .spawn()
            .unwrap();
        let lines: Vec<String> =
            BufReader::new(child.stdout.take().unwrap()).lines().take(4).map_while(Result::ok).collect();
        let address = |name: &str| {
            let line = lines.iter().find(|line| line.starts_with(name))?;
            line.split_whitespace()
                .find_map(|word| word.trim_start_matches("http://").trim_start_matches("https://").parse().ok())
        };
        match (address("quic"), address("api"), address("operations"), address("enrolment")) {
            (Some(quic), Some(api), Some(ops), Some(enrolment)) => {
                Ok(Self { child, data: data.to_owned(), quic, api, ops, enrolment, token: OnceLock::new() })
            }
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                Err(format!("the server did not start: {lines:?}\n{log}"))
            }
        }
    }

    /// A bearer token with every role, of a client that is made for it.
    pub fn token(&self) -> String {
        self.token.get_or_init(|| sign_in(self.api, &self.data)).clone()
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ends by itself; `None`, and its end, if it goes on for longer than that.
    pub fn end(mut self, patience: std::time::Duration) -> Option<ExitStatus> {
        let pid = rustix::process::Pid::from_child(&self.child);
        let (told, ended) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || told.send(self.child.wait().unwrap()));
        let status = ended.recv_timeout(patience).ok();
        if status.is_none() {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        status
    }

    /// SIGSTOP, SIGCONT or any other.
    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, then waits for the end.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.child.wait().unwrap()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sign_in(api: SocketAddr, data: &Path) -> String {
    let secret = access::add_client(data, "tests", Grants::everything().list().to_vec()).unwrap();
    let form = format!("grant_type=client_credentials&client_id=tests&client_secret={secret}");
    let mut stream = TcpStream::connect(api).unwrap();
    let head = "POST /v1/token HTTP/1.1\r\nhost: aigaq\r\ncontent-type: application/x-www-form-urlencoded\r\n";
    write!(stream, "{head}content-length: {}\r\nconnection: close\r\n\r\n{form}", form.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let document: serde_json::Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"));
    document["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// Runs the binary to its end: status, standard output, standard error.
pub fn aigaq(arguments: &[&str]) -> (ExitStatus, String, String) {
    let output = Command::new(AIGAQ).args(arguments).output().unwrap();
    (
        output.status,
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}
