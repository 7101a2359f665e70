//! Has the keys of footage ready before they are needed: those of today and tomorrow.
//!
//! A KMS that is away is so known a day before footage has to wait for it. Where the master key is a file this costs nothing.

use std::time::Duration;

use prometheus::Registry;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::parts::blocking;
use crate::clock::Clock;
use crate::error::{Kind, Result};
use crate::metrics::key_failures;
use crate::store::Store;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(60);

/// The task; it runs until `stop`.
///
/// # Errors
/// [`Kind::Internal`] when its metric is there already; the task: [`Kind::Fatal`] when the directory of the keys has failed.
pub(super) fn prepare(
    store: Store,
    clock: Clock,
    metrics: &Registry,
    stop: CancellationToken,
) -> Result<impl Future<Output = Result<()>> + use<>> {
    let failures = key_failures(metrics)?;
    Ok(async move {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                _ = ticks.tick() => {}
            }
            let (store, now) = (store.clone(), clock.now());
            match blocking(move || store.prepare_keys(now)).await {
                Err(error) if error.kind() == Kind::Fatal => return Err(error),
                Err(error) => {
                    failures.inc();
                    tracing::error!(%error, "the keys of the next footage are not ready");
                }
                Ok(()) => {}
            }
        }
    })
}
