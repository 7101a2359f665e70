//! `aigaq restore`: a data directory from a backup.

use std::path::PathBuf;

use super::output;
use crate::backup::{Restored, Wish, restore};
use crate::clock::Clock;
use crate::error::Result;
use crate::server::DataDir;
use crate::store::records::AccountRecord;

/// Accounts that are named; the others are counted.
const NAMED_MAX: usize = 50;

/// Make a data directory from a backup.
///
/// FROM is a backup or where backups lie; then it is the newest. Every file is compared with the
/// list of the backup, and synced. Cut off anywhere, no server starts on what is there; the same
/// again goes on.
///
/// What happened after the backup is not in it: sessions are ended, but accounts and recorders are
/// those of the backup. Whoever was removed since is back; go through the list that this prints.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Example:\n  aigaq restore /mnt/backup/aigaq --data /var/lib/aigaq --keys /mnt/vault/aigaq-keys --master-key /media/safe/master.key"
)]
pub(super) struct Args {
    /// A backup, or where backups lie.
    #[arg(value_name = "FROM")]
    from: PathBuf,
    /// The data directory to make: one that is empty or not there.
    #[arg(long, value_name = "NEW")]
    data: PathBuf,
    /// The mirror of the keys of footage; without it nothing that is sealed can be read.
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// The master key that wraps them, where it is a file that lies beside them.
    #[arg(long, value_name = "FILE")]
    master_key: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When nothing was put back; no server starts on what is there then.
pub(super) fn run(args: Args) -> Result<()> {
    let Args { from, data, keys, master_key } = args;
    let _lock = DataDir::restoring(&data)?;
    let wish = Wish { from, to: data, keys, master_key };
    let Restored { about, files, bytes, key_days, destroyed, sessions, accounts, recorders } =
        restore(&wish, &Clock::system())?;
    let data = wish.to.display();
    output::line(&format!("backup        of {}", about.taken_at))?;
    output::line(&format!("files         {files}, {bytes} bytes"))?;
    output::line(&format!("log           {} entries", about.log_size))?;
    match key_days {
        Some(days) => output::line(&format!("keys          {days} days, {destroyed} keys destroyed since the backup"))?,
        None => output::line(&format!("keys          none: put them into {data}/keys before the server starts"))?,
    }
    output::line(&format!("sessions      {sessions} ended"))?;
    output::line(&format!("recorders     {} may connect, {} are revoked, as of the backup", recorders.0, recorders.1))?;
    output::line(&format!("accounts      {} as of the backup: one that was removed since is back", accounts.len()))?;
    for AccountRecord { actor, grants, break_glass, .. } in accounts.iter().take(NAMED_MAX) {
        let mut roles: Vec<&str> = grants.iter().map(|grant| grant.role.name()).collect();
        roles.dedup();
        let glass = if *break_glass { ", for emergencies" } else { "" };
        output::line(&format!("account       {actor} ({}{glass})", roles.join(", ")))?;
    }
    if accounts.len() > NAMED_MAX {
        output::line(&format!("account       and {} more", accounts.len() - NAMED_MAX))?;
    }
    output::line(&format!(
        "next          aigaq check --data {data}; then remove accounts (aigaq account remove) and revoke recorders \
         (aigaq revoke) that were removed or revoked after {}; then aigaq log succeed --data {data} --reason …",
        about.taken_at
    ))
}
