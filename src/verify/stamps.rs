//! Time stamps of a bundle: over a checkpoint that the checkpoint of the bundle continues.
//!
//! One that holds is told with who signed it, and whether that is somebody the one who checks believes; one that does not hold is a
//! fault of its file, because an exporter that says what is not true is not to be believed.

use aigaq_proto::receipt::{LogKey, verify_consistency};
use aigaq_proto::{Digest, limits};
use data_encoding::BASE64;

use super::chain::Tree;
use super::files::Files;
use super::report::{Fault, TimeStamp};
use super::source::Source;
use super::trust::Trust;
use crate::bundle::{self, about};
use crate::error::Result;
use crate::timestamp::Token;

/// Most stamps that are looked at.
const STAMPS_MAX: usize = 16;

/// The time stamps of the bundle that hold; what is wrong with the files of the others is told.
///
/// # Errors
/// When the system cannot read the bundle.
pub(super) fn check(
    source: &Source,
    files: &mut Files,
    log: &LogKey,
    tree: Option<Tree>,
    trust: Option<&Trust>,
) -> Result<Vec<TimeStamp>> {
    let named = |path: &str| path.strip_prefix(bundle::TIMESTAMPS)?.strip_suffix(".tsr")?.parse::<u64>().ok();
    let sizes: Vec<u64> = files.below(bundle::TIMESTAMPS).filter_map(named).take(STAMPS_MAX).collect();
    let mut stamps = Vec::new();
    for size in sizes {
        match stamp(source, files, size, log, tree)? {
            Ok(token) => {
                let leads = trust.map(|trust| token.leads(&trust.timestamp_anchors));
                stamps.push(TimeStamp {
                    entries: size,
                    at: about::time(token.at),
                    authority: token.authority,
                    trusted: leads == Some(Ok(())),
                    because: leads.and_then(Result::err).map(|refusal| refusal.meaning()),
                });
            }
            Err((path, fault)) => files.faults.add(&path, fault),
        }
    }
    stamps.sort_by_key(|stamp| stamp.entries);
    Ok(stamps)
}

/// One stamp, or which file is wrong.
fn stamp(
    source: &Source,
    files: &mut Files,
    size: u64,
    log: &LogKey,
    tree: Option<Tree>,
) -> Result<Result<Token, (String, Fault)>> {
    let [path, stamped, consistency] = [bundle::timestamp(size), bundle::stamped(size), bundle::consistency(size)];
    let mut read = |path: &str| files.small_if_there(source, path).map(Option::unwrap_or_default);
    let (answer, checkpoint, proof) = (read(&path)?, read(&stamped)?, read(&consistency)?);
    let text = String::from_utf8_lossy(&checkpoint);
    let Some((_, root)) = log.open(&text).ok().filter(|(of, _)| *of == size) else {
        return Ok(Err((stamped, Fault::BadSignature)));
    };
    let token = match Token::read(&answer, &Digest::of(&checkpoint).0) {
        Ok(token) => token,
        Err(_) => return Ok(Err((path, Fault::BadSignature))),
    };
    let proof = String::from_utf8_lossy(&proof);
    let hash = |line: &str| Some(Digest(BASE64.decode(line.as_bytes()).ok()?.try_into().ok()?));
    let proof: Option<Vec<Digest>> = proof.lines().take(limits::PROOF_HASHES_MAX + 1).map(hash).collect();
    let continues = tree
        .zip(proof)
        .is_some_and(|(tree, proof)| verify_consistency(size, &root, &proof, tree.size, &tree.root).is_ok());
    Ok(if continues { Ok(token) } else { Err((consistency, Fault::Contradicts)) })
}
