//! The server as a process of its own, so that it can be killed.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

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
                Ok(Self { child, data: data.to_owned(), quic, api, ops, enrolment })
            }
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                Err(format!("the server did not start: {lines:?}\n{log}"))
            }
        }
    }

    /// The bearer token of the API.
    pub fn token(&self) -> String {
        std::fs::read_to_string(self.data.join("token")).unwrap().trim().to_owned()
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, then waits for the end.
    pub fn terminate(mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
