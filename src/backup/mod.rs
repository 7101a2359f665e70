//! Copies of a data directory: taken while the server runs, checked where they lie, put back.
//!
//! ```text
//! DIR/2026-01-17T09-14-02.123456Z/    a backup: a data directory without the keys of footage, and
//!     backup.toml                     what it is a copy of, and of when
//!     SHA256SUMS                      of every file; `sha256sum -c SHA256SUMS` is a check without any of this
//!     SHA256SUMS.sha256               of that list
//! DIR/….partial/                      one that was never finished; the next run removes it
//! ```
//!
//! Each backup is whole by itself. What the one before has already of the store's files, which never change, is a hard link to it once it was
//! read again and holds, so that a backup writes what is new; any of them may be removed at any time. The keys of footage are in none: they have a mirror
//! ([`crate::seal::mirror`]) that follows when one is destroyed, which a backup never does.
//!
//! [`take`] copies, [`Desk`] is the running server's side of it, [`Backup`] is one as it lies there, [`restore`] makes a data directory of
//! it. A copy is durable, and was read again, before it has its name. A restore that was cut off leaves nothing that a server would
//! start on ([`UNFINISHED`]). Nothing here ever changes a file of a backup that is whole.

mod copy;
mod desk;
mod metrics;
mod restore;
mod set;
mod source;
mod take;
#[cfg(test)]
mod tests;

pub use desk::{Desk, SOCKET};
pub use metrics::Metrics;
pub use restore::{Restored, Wish, is_empty, restore};
pub use set::{About, Backup, Seen};
pub use source::Source;
pub use take::{Taken, Wanted, take};

/// What lies in a data directory while it is being made of a backup: until it is gone no server starts there.
pub const UNFINISHED: &str = "restore.unfinished";

/// What of a data directory goes along beside the store: files, before the store is looked at, so that none of them knows more than it.
pub const FILES: [&str; 9] = [
    "log.key",
    "succession",
    "checkpoint",
    "cosigned",
    "server.pem",
    "server.key",
    "export.pem",
    "export.key",
    "quic.keys",
];
/// The same, directories: the authority, time stamps, what logs that ended left, and word that waits for the server.
pub const DIRECTORIES: [&str; 6] = ["ca", "timestamps", "retired", "enrolled", "revoked", "accounts"];
/// What stays behind: the keys of footage, which must be able to be destroyed in every copy; exports, which are made anew; codes, which live
/// for an hour; and what belongs to a process.
pub const LEFT_OUT: [&str; 5] = ["keys", "exports", "codes", "lock", SOCKET];
