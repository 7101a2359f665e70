//! Kill -9 in the middle of load, again and again: nothing that has a receipt is lost, nothing is stored twice.
//!
//! The receipts are kept outside the server. After the last kill every one of them is looked up in the store, the log is
//! compared with what was promised, and `aigaq check` walks everything.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot go on fails")]

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aigaq_proto::RecorderId;
use aigaq_proto::message::Receipt;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use support::Identity;
use support::chain::{Chain, Link};
use support::process::{ServerProcess, aigaq};
use support::session::{Answer, Session, endpoint};

/// Rounds in the ordinary run; `AIGAQ_CRASH_ROUNDS` asks for a longer campaign.
const ROUNDS: u32 = 40;
const RECORDERS: usize = 3;
/// Recorders that join one by one: each brings a new key of footage into the middle of the load.
const JOINING: usize = 6;

/// Longest time that a handshake may take before it is begun anew: the server may have been down when it began.
const HANDSHAKE: Duration = Duration::from_millis(500);

/// A recorder's id, its receipts and its task.
type Recorder = (RecorderId, Arc<Mutex<Promised>>, tokio::task::JoinHandle<()>);

/// What one recorder was promised.
#[derive(Default)]
struct Promised {
    receipts: Vec<Receipt>,
}

/// A recorder that never gives up: sends each link until it has a receipt, over as many connections as it takes.
async fn record(
    identity: Identity,
    server: SocketAddr,
    seed: u64,
    promised: Arc<Mutex<Promised>>,
    done: Arc<Mutex<bool>>,
) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut chain = Chain::new(identity.id, 1_700_000_000_000_000);
    let endpoint = endpoint();
    let mut link = chain.start(&identity.signing);
    while !*done.lock().unwrap() {
        let Ok(Ok(session)) = tokio::time::timeout(HANDSHAKE, Session::open(&endpoint, server, &identity)).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        while !*done.lock().unwrap() {
            match send(&session, &link).await {
                Some(receipt) => promised.lock().unwrap().receipts.push(receipt),
                None => break,
            }
            link = next(&mut chain, &identity, &mut random);
        }
    }
}

async fn send(session: &Session, link: &Link) -> Option<Receipt> {
    tokio::select! {
        answer = session.send(link) => match answer {
            Ok(Answer::Receipt(receipt)) => Some(*receipt),
            Ok(Answer::Refusal(refusal)) => panic!("a good link was refused: {refusal:?}"),
            Err(_) => None,
        },
        _ = session.connection.closed() => None,
    }
}

/// Small links and ones that make a commit large, so that both ways into the store are hit.
fn next(chain: &mut Chain, identity: &Identity, random: &mut StdRng) -> Link {
    let bytes = if random.random_ratio(1, 8) { 9 << 20 } else { random.random_range(1..60_000) };
    let mut payload = vec![0; bytes];
    random.fill_bytes(&mut payload);
    chain.media(&identity.signing, Bytes::from(payload))
}

fn rounds() -> u32 {
    std::env::var("AIGAQ_CRASH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS)
}

#[test]
fn nothing_with_a_receipt_is_lost_when_the_server_is_killed_again_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut random = StdRng::seed_from_u64(1);
    let mut server = ServerProcess::start(&data).unwrap();
    let address = server.quic;
    let done = Arc::new(Mutex::new(false));
    let mut recorders = Vec::new();
    let enrol = |index| (index, Identity::enrol(&data, &dir.path().join(format!("recorder-{index}"))));
    let mut identities = (0..RECORDERS + JOINING).map(enrol).collect::<Vec<_>>().into_iter();
    let mut join = |recorders: &mut Vec<Recorder>| {
        let Some((index, identity)) = identities.next() else { return };
        let promised = Arc::new(Mutex::new(Promised::default()));
        let id = identity.id;
        let task = runtime.spawn(record(identity, address, index as u64, Arc::clone(&promised), Arc::clone(&done)));
        recorders.push((id, promised, task));
    };
    (0..RECORDERS).for_each(|_| join(&mut recorders));
    for round in 0..rounds() {
        if round % 5 == 2 {
            join(&mut recorders);
        }
        runtime.block_on(one_more_receipt(&recorders));
        pause(&runtime, random.random_range(0..200));
        server.kill();
        server =
            if round % 10 == 9 { double_kill(&data, address, &mut random, &runtime) } else { restart(&data, address) };
    }
    *done.lock().unwrap() = true;
    let mut promises = Vec::new();
    for (id, promised, task) in recorders {
        runtime.block_on(task).unwrap();
        promises.push((id, std::mem::take(&mut promised.lock().unwrap().receipts)));
    }
    assert!(server.terminate().success());
    let (status, out, err) = aigaq(&["check", "--data", data.to_str().unwrap()]);
    assert!(status.success(), "check found something:\n{out}\n{err}");
    let store = aigaq::store::Store::open(&data.join("store"), &aigaq::store::Settings::default()).unwrap();
    let mut kept = 0;
    for (id, receipts) in promises {
        for receipt in receipts {
            let link = store.link(id, receipt.sequence).unwrap().expect("a link with a receipt is there");
            assert_eq!(aigaq_proto::link::digest(&link.header), receipt.digest);
            assert_eq!((link.log_index, link.received_at), (receipt.log_index, receipt.received_at));
            store.body(&link).unwrap();
            kept += 1;
        }
    }
    println!("{} kills, {kept} links with a receipt, none lost", rounds());
    assert!(kept > u64::from(rounds()), "the load was real");
}

#[test]
fn who_was_connected_when_the_server_died_hears_of_it_from_the_one_that_comes_back() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let server = ServerProcess::start(dir.path()).unwrap();
    let identity = Identity::enrol(&server.data, &dir.path().join("chest-1"));
    let address = server.quic;
    let session = runtime.block_on(async { Session::open(&endpoint(), address, &identity).await.unwrap() });
    server.kill();
    let _server = restart(dir.path(), address);
    let told = runtime.block_on(async {
        let mut stream = session.connection.open_uni().await.unwrap();
        stream.write_all(b"is anybody there?").await.unwrap();
        tokio::time::timeout(Duration::from_secs(10), session.connection.closed()).await
    });
    let told = told.expect("a stateless reset, long before the connection is idle for 20 s");
    assert!(matches!(told, quinn::ConnectionError::Reset), "{told}");
}

/// Lets the load run for a while that the seed has drawn.
fn pause(runtime: &tokio::runtime::Runtime, milliseconds: u64) {
    runtime.block_on(async { tokio::time::sleep(Duration::from_millis(milliseconds)).await });
}

/// Waits until some recorder has one receipt more than now, so that each kill comes in the middle of load.
async fn one_more_receipt(recorders: &[Recorder]) {
    let count = || recorders.iter().map(|(_, promised, _)| promised.lock().unwrap().receipts.len()).sum::<usize>();
    let before = count();
    let waiting = async {
        while count() == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("the server acknowledges again after a kill");
}

/// Starts the server on its old port, which the system may have lent to somebody's connection in between.
fn restart(data: &Path, address: SocketAddr) -> ServerProcess {
    for _ in 0..50 {
        match ServerProcess::start_at(data, address) {
            Err(text) if text.contains("Address already in use") => {}
            started => return started.unwrap(),
        }
    }
    panic!("the port is never free again")
}

/// Kills the server once more while it comes up.
fn double_kill(
    data: &Path,
    address: SocketAddr,
    random: &mut StdRng,
    runtime: &tokio::runtime::Runtime,
) -> ServerProcess {
    let server = restart(data, address);
    pause(runtime, random.random_range(0..20));
    server.kill();
    restart(data, address)
}
