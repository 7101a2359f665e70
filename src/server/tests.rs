//! The server as a whole over an engine that can be made to fail: when it ends, with what word, and what it lets go.

use std::future::{pending, ready};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Server;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::Kind;
use crate::store::Store;
use crate::store::engine::memory::{FailAt, Memory};
use crate::store::records::{AuditRecord, Event};

/// Longest that anything here may take; only a failure takes it.
const PATIENCE: Duration = Duration::from_secs(20);

async fn start(data: &Path, engine: Arc<Memory>) -> Server {
    let mut config = Config::default();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    (config.quic.listen, config.api.listen, config.ops.listen) = (any, any, any);
    config.store.dir = data.to_owned();
    Server::start_over(config, Clock::system(), move |_, _| Store::with_engine(engine)).await.unwrap()
}

fn entry() -> AuditRecord {
    AuditRecord::new(1, Event::LookUp, "a", "s", "GET /")
}

#[tokio::test]
async fn a_store_that_fails_while_nothing_is_ingested_ends_the_server() {
    let data = tempfile::tempdir().unwrap();
    let engine = Arc::new(Memory::default());
    let server = start(data.path(), Arc::clone(&engine)).await;
    engine.fail_commit(1, FailAt::Start);
    assert_eq!(server.store.audit(&entry()).unwrap_err().kind(), Kind::Fatal);
    let ended = tokio::time::timeout(PATIENCE, server.run_until(pending())).await.expect("the server goes on");
    let error = ended.unwrap_err();
    assert_eq!(error.kind(), Kind::Fatal);
    // Whichever met it first: the watch over the store, or a task that writes.
    assert!(error.to_string().contains("the task"), "{error}");
}

#[tokio::test]
async fn a_drained_server_has_let_the_store_go() {
    let data = tempfile::tempdir().unwrap();
    let engine = Arc::new(Memory::default());
    let server = start(data.path(), Arc::clone(&engine)).await;
    tokio::time::timeout(PATIENCE, server.run_until(ready(()))).await.expect("the drain does not end").unwrap();
    assert_eq!(Arc::strong_count(&engine), 1, "a store that is closed while the process exits takes it down");
}

/// The status of an answer, asked for by a thread that lets no task go on meanwhile.
fn status(address: SocketAddr, path: &str, token: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap().to_owned()
}

#[tokio::test]
async fn look_ups_and_operations_are_answered_while_the_threads_of_ingest_are_busy() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path(), Arc::default()).await;
    // The one thread of this runtime, on which recorders are served, does nothing else until it has the answers.
    assert_eq!(status(server.ops_addr, "/readyz", ""), "HTTP/1.1 200 OK");
    assert_eq!(status(server.api_addr, "/v1/recorders", &server.owner_token().unwrap()), "HTTP/1.1 200 OK");
}
