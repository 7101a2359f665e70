//! What a connected, mostly idle recorder costs the server's process.

use std::sync::Arc;
use std::time::Duration;

use aigaq::Clock;
use tokio::task::JoinSet;

use crate::support::Identity;
use crate::support::chain::Chain;
use crate::support::process::ServerProcess;
use crate::support::session::{Session, endpoint};
use crate::{figures, load};

const RECORDERS: usize = 2_000;
const LINKS: u32 = 3;
const INTERVAL: Duration = Duration::from_secs(10);

/// Prints resident bytes for each of the recorders, which send a small link every 10 s.
pub async fn run() {
    let data = tempfile::tempdir().unwrap();
    let identities = load::enrol(data.path(), RECORDERS);
    let server = ServerProcess::start(data.path()).unwrap();
    let clients: Vec<_> = (0..8).map(|_| endpoint()).collect();
    let warm_up = Identity::enrol(data.path(), &data.path().join("warm-up"));
    drop(Session::open(&clients[0], server.quic, &warm_up).await.unwrap());
    let before = resident(server.id());
    let mut recorders = JoinSet::new();
    for (index, identity) in identities.into_iter().enumerate() {
        let session = Session::open(&clients[index % clients.len()], server.quic, &identity).await.unwrap();
        recorders.spawn(idle(session, identity, INTERVAL.mul_f64(index as f64 / RECORDERS as f64)));
    }
    let mut sessions = Vec::new();
    while let Some(session) = recorders.join_next().await {
        sessions.push(session.unwrap());
    }
    let after = resident(server.id());
    figures::print("memory_per_recorder", (after - before) / RECORDERS as f64 / 1024.0, "KiB");
    drop(sessions);
}

async fn idle(session: Session, identity: Arc<Identity>, phase: Duration) -> Session {
    let mut chain = Chain::new(identity.id, Clock::system().now());
    tokio::time::sleep(phase).await;
    for _ in 0..LINKS {
        session.send(&chain.mark(&identity.signing, "emergency")).await.unwrap().receipt();
        tokio::time::sleep(INTERVAL).await;
    }
    session
}

/// Resident set of a process, bytes.
fn resident(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() * 1024.0
}
