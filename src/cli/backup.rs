//! `aigaq backup`: a copy of the data directory, while the server runs or without it.

use std::path::PathBuf;

use super::output;
use crate::backup::{Source, Taken, Wanted, take};
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::server::DataDir;
use crate::store::Store;
use crate::{seal, store};

/// Bytes in a MiB.
const MIB: u64 = 1 << 20;

/// Copy a data directory to DIR: at any time, also while the server runs and takes footage in.
///
/// A backup is a directory of its own in DIR, whole by itself; what the one before has already of
/// the store is linked and not copied, after it was read again: what does not hold there is copied
/// anew, and named. All of it was read and is synced before this says so, and
/// `sha256sum -c SHA256SUMS` in it is a check without this program.
///
/// The keys of footage are not in it, so that a key that is destroyed is gone from every backup
/// too. --keys keeps a mirror of them, which follows: put it on another machine than DIR. The
/// master key is in neither; one copy of it in a safe is enough.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Example:\n  aigaq backup --data /var/lib/aigaq --keys /mnt/vault/aigaq-keys --keep 14 /mnt/backup/aigaq"
)]
pub(super) struct Args {
    /// Where backups lie; made if it is not there.
    #[arg(value_name = "DIR")]
    to: PathBuf,
    /// The server's data directory; the server may be running.
    #[arg(long, value_name = "DATA")]
    data: PathBuf,
    /// Mirror the wrapped keys of footage to this directory.
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// MiB read and written a second at most, so that the server has the rest of the disk; 0 for no limit.
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    rate: u64,
    /// Keep so many backups and remove those that are older.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
    /// The server's configuration, to go along as server.toml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When no backup was taken, or what follows one could not be done; then the error says that it is whole.
pub(super) fn run(args: Args) -> Result<()> {
    let Args { to, data, keys, rate, keep, config } = args;
    if !Store::exists(&data.join(store::DIR)) {
        return Err(Error::new(Kind::Invalid, format!("{} is no data directory of a server", data.display())));
    }
    let bytes_per_s = (rate > 0).then(|| rate.saturating_mul(MIB));
    let keep = keep.and_then(|keep| usize::try_from(keep).ok());
    let wanted = Wanted { to, keys, bytes_per_s, keep, config };
    let taken = match Source::running(&data)? {
        Some(server) => take(&server, &wanted)?,
        None => {
            let _lock = DataDir::open(&data)?;
            take(&Source::stopped(&data, Clock::system())?, &wanted)?
        }
    };
    let Taken { dir, files, bytes, copied, copied_bytes, log_size, keys, removed, damaged } = taken;
    output::line(&format!("backup        {}", dir.display()))?;
    output::line(&format!("files         {files}, {bytes} bytes"))?;
    output::line(&format!("copied        {copied}, {copied_bytes} bytes, read again"))?;
    output::line(&format!("log           {log_size} entries"))?;
    for file in damaged {
        output::line(&format!("damaged       {} is not what was copied; here it was copied again", file.display()))?;
    }
    if removed > 0 {
        output::line(&format!("removed       {removed} older backups"))?;
    }
    match keys {
        Some(seal::Mirrored { days, written, days_destroyed, keys_destroyed }) => output::line(&format!(
            "keys          {days} days, {written} written; destroyed here too: {days_destroyed} days, {keys_destroyed} keys"
        )),
        None => output::line("keys          not copied: footage can be read with the directory keys/ alone (--keys)"),
    }
}
