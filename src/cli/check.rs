//! `aigaq check`: is everything that was acknowledged there, and is it what was received?

use std::path::PathBuf;

use super::output;
use crate::backup::{Backup, Seen};
use crate::check;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::server::{DataDir, seal_settings};
use crate::store;

/// Check a data directory from end to end, with no server running, or a backup where it lies.
///
/// Walks every chain, verifies every signature, hashes every body, and proves every link
/// in the transparency log. Prints what it counted and every problem that it found.
/// Changes nothing. Exits with 0 only if all holds.
///
/// Of a backup every file is first compared with its list. What is sealed is opened where the
/// mirror of the keys is given, with --keys, and the master key.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  aigaq check --data ./aigaq-data\n  aigaq check --backup /mnt/backup/aigaq --keys /mnt/vault/aigaq-keys --master-key /media/safe/master.key"
)]
pub(super) struct Args {
    /// The server's data directory; the server must be stopped.
    #[arg(long, value_name = "DIR", required_unless_present = "backup")]
    data: Option<PathBuf>,
    /// A backup, or where backups lie: then the newest of them.
    #[arg(long, value_name = "DIR", conflicts_with = "data")]
    backup: Option<PathBuf>,
    /// The mirror of the keys of footage, for a backup.
    #[arg(long, value_name = "DIR", requires = "backup")]
    keys: Option<PathBuf>,
    /// The master key that wraps them, where it is a file.
    #[arg(long, value_name = "FILE", requires = "keys")]
    master_key: Option<PathBuf>,
    /// The server's configuration, where it says that keys of footage are not beside the store.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When anything does not hold, or the directory cannot be read.
pub(super) fn run(args: Args) -> Result<()> {
    let config = args.config.as_deref().map(Config::load).transpose()?.unwrap_or_default();
    let mut seal = seal_settings(&config);
    let mut show = |problem: &str| {
        let _ = output::line(&format!("problem: {problem}"));
    };
    let (place, report, unlike) = match (args.data, args.backup) {
        (_, Some(backup)) => {
            let backup = Backup::find(&backup)?;
            let Seen { files, bytes, problems } = backup.verify(&mut show)?;
            output::line(&format!("backup        of {}", backup.about.taken_at))?;
            output::line(&format!("files         {files}, {bytes} bytes"))?;
            seal.dir = args.keys;
            seal.master_key = args.master_key.or(seal.master_key);
            (backup.dir.clone(), check::check_copy(&backup.dir, &seal, &mut show)?, problems)
        }
        (data, None) => {
            let data = data.unwrap_or_default();
            let _lock = DataDir::open(&data)?;
            if !data.join(store::DIR).is_dir() {
                return Err(Error::new(Kind::Invalid, format!("{} is no data directory of a server", data.display())));
            }
            let report = check::check_with(&data, &seal, &mut show)?;
            (data, report, 0)
        }
    };
    let report = check::Report { problems: report.problems + unlike, ..report };
    output::line(&report.to_string())?;
    match report.problems {
        0 => Ok(()),
        problems => Err(Error::new(Kind::Damaged, format!("{} does not hold; problems: {problems}", place.display()))),
    }
}
