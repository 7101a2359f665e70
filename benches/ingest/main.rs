//! How fast the server is, each figure against a baseline of the same run: `cargo bench --bench ingest`.
//!
//! Prints lines `figure NAME VALUE UNIT`. With names as arguments it runs those groups alone: `throughput`, `latency`,
//! `memory`, `ledger`, `lookup`, `report`. `benches/README.md` says what is measured and what was seen.

#![allow(unreachable_pub, missing_docs, clippy::unwrap_used, reason = "a bench that cannot go on fails")]

mod bare;
mod figures;
mod gateway;
mod latency;
mod ledger;
mod load;
mod lookup;
mod memory;
mod report;
#[path = "../../tests/support/mod.rs"]
mod support;
mod textbook;
mod throughput;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.as_slice() {
        [fill, dir] if fill == ledger::FILL => return ledger::fill_and_die(std::path::Path::new(dir)),
        _ => {}
    }
    let wanted = |group: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == group);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut peak = None;
    if wanted("throughput") || wanted("latency") {
        peak = Some(runtime.block_on(throughput::run()));
    }
    if let (true, Some(peak)) = (wanted("latency"), peak) {
        runtime.block_on(latency::run(peak));
    }
    if wanted("memory") {
        runtime.block_on(memory::run());
    }
    if wanted("ledger") {
        runtime.block_on(ledger::run());
    }
    if wanted("lookup") {
        runtime.block_on(lookup::run());
    }
    if wanted("report") {
        runtime.block_on(report::run());
    }
}
