//! `aigaq witness`: a C2SP tlog-witness. It cosigns the checkpoints of the logs that it follows, each only if it continues what it
//! has cosigned before, so that no log can show two histories or take one back.
//!
//! `judge` decides and keeps no state; `memory` is what was cosigned, one file a log; `listener` is HTTP. Promises: the
//! newest checkpoint of a log is durable before its cosignature is seen by anybody, and judging and keeping it are one step, so that two
//! cosignatures of one log never contradict one another, wherever the process is killed. What was kept and cannot be read stops the
//! start: a witness that forgot would cosign a second history.

mod judge;
mod key;
mod listener;
mod memory;
#[cfg(test)]
mod tests;

pub use key::Key;
pub use listener::router;
pub use memory::Witness;
