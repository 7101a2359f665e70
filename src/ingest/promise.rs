//! The receipt that a recorder shows when it connects: whether the server still has what it promised.
//!
//! What is found here can raise the gravest alarm there is, and a recorder may show anything. So only two things together count
//! as a loss: the receipt verifies under the log's own key, which nobody else can bring about, and this log has another entry
//! in its place, or none. A receipt of another recorder, or one that was given another sequence, is in the log and no loss. Under a key that
//! the log had before it ended and went on under another, the same is no contradiction any more, but lost footage all the same.

use aigaq_proto::RecorderId;
use aigaq_proto::chain::Step;
use aigaq_proto::message::Receipt;
use aigaq_proto::receipt::{self, LogKey};

use crate::error::Result;
use crate::log::Reader;
use crate::store::Store;

/// What a receipt that was shown says of this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Promise {
    /// The link is stored.
    Kept,
    /// This server promised a link that it does not have.
    Lost,
    /// A log that ended before this one promised it: it was lost with what came after the entries that go on.
    Forgotten,
    /// The log did not sign it, or not for a link of this recorder at this place.
    Unproven,
}

/// Judges a receipt that `recorder` shows. Blocks on the store.
///
/// # Errors
/// Those of the store.
pub(super) fn judge(store: &Store, log: &Reader, recorder: RecorderId, shown: &Receipt) -> Result<Promise> {
    let is_by = |key: &LogKey| receipt::verify(shown, &shown.digest, key).is_ok();
    let is_own = is_by(&log.key());
    if !is_own && !log.predecessors().iter().any(is_by) {
        return Ok(Promise::Unproven);
    }
    let link = store.link(recorder, shown.sequence)?;
    let vanished = link.is_none() && is_known(store, recorder, shown)?;
    if link.is_some_and(|link| aigaq_proto::link::digest(&link.header) == shown.digest)
        || store.fork(recorder, shown.sequence, shown.digest)?.is_some()
    {
        return Ok(Promise::Kept);
    }
    if !vanished && is_logged(store, shown)? {
        return Ok(Promise::Unproven);
    }
    if !is_own {
        return Ok(Promise::Forgotten);
    }
    // A tree that this log signed and does not have any more ends its signing, whoever shows it.
    if let Ok((size, root)) = log.key().open(&shown.checkpoint) {
        log.show("a recorder's receipt", size, root)?;
    }
    Ok(Promise::Lost)
}

/// Whether the chain counts a link with this sequence as durable.
fn is_known(store: &Store, recorder: RecorderId, shown: &Receipt) -> Result<bool> {
    Ok(store.head(recorder)?.is_some_and(|head| head.chain.step(shown.sequence) == Step::Known))
}

/// Whether the log has the receipt's entry where the receipt says.
fn is_logged(store: &Store, shown: &Receipt) -> Result<bool> {
    let index = shown.log_index;
    if index >= store.log_size()? {
        return Ok(false);
    }
    Ok(store.log_rows(0, index..index.saturating_add(1))? == receipt::entry(&shown.digest, shown.received_at))
}
