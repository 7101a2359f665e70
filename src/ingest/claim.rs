//! What a recorder claims: links that it holds without their receipts and that the server listed as durable
//! (SPEC.md section 6). Each gets its receipt, the same bytes as ever, or is asked for; its payload does not travel again.
//!
//! A receipt comes from what is stored, so that none is given before its link is durable. Few claims are looked up at once and
//! each in small parts, so that a fleet that comes back holds up neither the store nor one another.

use aigaq_proto::frame::Control;
use aigaq_proto::message::{ChainEnd, Claim, Receipt, Unclaimed};
use aigaq_proto::{RecorderId, Sequence, SequenceRange, link};
use tokio::sync::OwnedSemaphorePermit;

use super::session::Session;
use crate::error::{Context as _, Error, Kind, Result};
use crate::log::Reader;
use crate::store::Store;

/// Parts of claims that are looked up at once, over all recorders.
pub(super) const LOOK_UPS_MAX: usize = 4;
/// Links in such a part: a few milliseconds of proofs.
const PART_LINKS: usize = 32;

/// Answers a claim on the control stream. The recorder may claim again as soon as it has the last answer, so `under_way` is
/// given back just before that one.
///
/// # Errors
/// [`Kind::Invalid`] when the control stream is gone, those of the store otherwise.
pub(super) async fn answer(session: &Session, claim: Claim, under_way: OwnedSemaphorePermit) -> Result<()> {
    let mut unclaimed = Vec::new();
    let mut last = None;
    for part in claim.links.chunks(PART_LINKS) {
        for (sequence, receipt) in look_up(session, part.to_vec()).await? {
            match receipt {
                None => push(&mut unclaimed, sequence),
                Some(receipt) => {
                    if let Some(before) = last.replace(receipt) {
                        session.send(&Control::Receipt(before)).await?;
                    }
                }
            }
        }
    }
    let asked = (!unclaimed.is_empty()).then_some(Control::Unclaimed(Unclaimed { sequences: unclaimed }));
    let answers: Vec<Control> = last.map(Control::Receipt).into_iter().chain(asked).collect();
    session.send_last(&answers, under_way).await
}

/// Adds a sequence above all the others.
fn push(ranges: &mut Vec<SequenceRange>, sequence: Sequence) {
    match ranges.last_mut() {
        Some(range) if range.last.checked_add(1) == Some(sequence) => range.last = sequence,
        _ => ranges.push(SequenceRange { first: sequence, last: sequence }),
    }
}

/// The receipts of some links, on a thread that may wait for the disk.
async fn look_up(session: &Session, links: Vec<ChainEnd>) -> Result<Vec<(Sequence, Option<Receipt>)>> {
    let core = &session.core;
    let turn = core.claims.acquire().await.context(Kind::Internal, "no claims are looked up any more")?;
    let (store, log, recorder) = (core.gateway.store.clone(), core.gateway.log.clone(), session.identity.record.id);
    let found = tokio::task::spawn_blocking(move || {
        links.iter().map(|link| Ok((link.sequence, receipt(&store, &log, recorder, link)?))).collect()
    });
    let found = found.await.context(Kind::Internal, "a claim could not be looked up")?;
    drop(turn);
    found
}

/// The receipt of a claimed link, if it is durable as claimed. One that does not read is not; it is asked for again.
fn receipt(store: &Store, log: &Reader, recorder: RecorderId, claimed: &ChainEnd) -> Result<Option<Receipt>> {
    let receipt = || -> Result<Option<Receipt>> {
        let Some(record) = store.link(recorder, claimed.sequence)? else { return Ok(None) };
        if link::digest(&record.header) != claimed.digest {
            return Ok(None);
        }
        log.receipt(&record, &claimed.digest).map(Some)
    };
    receipt().or_else(|error: Error| match error.kind() {
        Kind::Damaged => {
            tracing::error!(%error, "a claimed link does not read; its recorder is asked to send it again");
            Ok(None)
        }
        _ => Err(error),
    })
}
