//! What a part of the server does again and again: a round every so often, and at once when somebody wakes it, until it is to stop.
//!
//! A round blocks and has a thread of its own; one ends before the next begins, and one that is under way when it is to stop is
//! waited for. What fails is tried again with the next round; only a store that can no longer be trusted ends it.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::error::{Context as _, Error, Kind, Result};

/// Does `round` every `period` and whenever `wake` is notified, until `stop`; `failed` is told what a round failed of.
///
/// # Errors
/// [`Kind::Fatal`] when the store has failed, [`Kind::Internal`] when a round panicked.
pub(crate) async fn run(
    period: Duration,
    wake: &Notify,
    stop: CancellationToken,
    round: impl Fn() -> Result<()> + Clone + Send + 'static,
    failed: impl Fn(&Error),
) -> Result<()> {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            () = wake.notified() => {}
            _ = ticks.tick() => {}
        }
        match tokio::task::spawn_blocking(round.clone()).await.context(Kind::Internal, "a round died")? {
            Err(error) if error.kind() == Kind::Fatal => return Err(error),
            Err(error) => failed(&error),
            Ok(()) => {}
        }
    }
}
