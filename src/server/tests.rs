//! The server as a whole over an engine that can be made to fail: when it ends, with what word, and what it lets go.

use std::future::{pending, ready};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Server;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::Kind;
use crate::store::Store;
use crate::store::engine::memory::{FailAt, Memory};
use crate::store::records::AuditRecord;

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
    let text = |text: &str| text.to_owned();
    AuditRecord { at: 1, actor: text("a"), source: text("s"), action: text("GET /"), outcome: text("granted") }
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
    assert!(error.to_string().contains("health"), "{error}");
}

#[tokio::test]
async fn a_drained_server_has_let_the_store_go() {
    let data = tempfile::tempdir().unwrap();
    let engine = Arc::new(Memory::default());
    let server = start(data.path(), Arc::clone(&engine)).await;
    tokio::time::timeout(PATIENCE, server.run_until(ready(()))).await.expect("the drain does not end").unwrap();
    assert_eq!(Arc::strong_count(&engine), 1, "a store that is closed while the process exits takes it down");
}
