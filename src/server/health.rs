//! The watch over the store: a store that has failed ends the server also while nothing is ingested.
//!
//! The writer meets a failed store at its next commit; until then the server would go on to take connections for which it can
//! promise nothing. Promises: the watch ends with [`Kind::Fatal`](crate::error::Kind::Fatal) within two periods of the failure,
//! or when it is asked to, and then holds the store no more.

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::parts::blocking;
use crate::error::Result;
use crate::store::Store;

/// How often the store is asked.
const PERIOD: Duration = Duration::from_secs(1);

/// Asks the store whether it is well until `stop`, or until it is not.
///
/// # Errors
/// [`Kind::Fatal`](crate::error::Kind::Fatal) when the store has failed.
pub(super) async fn watch(store: Store, stop: CancellationToken) -> Result<()> {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let asked = store.clone();
        blocking(move || asked.healthy()).await?;
    }
}
