//! `aigaq log`: how the log of a store goes on that was put back.

use std::path::PathBuf;

use aigaq_proto::Digest;

use super::output;
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::log;
use crate::lookup::time;
use crate::server::DataDir;
use crate::store::records::{AuditRecord, Event, Standing};
use crate::store::{self, Settings, Store};

/// Say how the log goes on after a restore: by a successor, or as it is; with no server running.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  aigaq log succeed --data ./restored --reason \"the disk died on 17 January\"\n  \
                  aigaq log resume --data ./moved --reason \"moved to the new machine with the server stopped\""
)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// End the log openly, with the entries that are left, and begin its successor.
    ///
    /// The right way wherever the log may have signed more than the store has: under its old key
    /// it would sign a second history. The last act of the old key is a statement that names the
    /// new one; recorders follow it by themselves, and a bundle carries it. Witnesses are given
    /// the new key, which this prints. Cut off anywhere, the same again goes on.
    #[command(verbatim_doc_comment)]
    Succeed(Place),
    /// Let the log of a restored store go on under its key, because nothing came after the backup.
    ///
    /// Only true of a backup that was taken of a server that had stopped, and that was not started
    /// again; refused for one that was taken of a running server, whose log has always gone on. If
    /// it is not true, witnesses and recorders find out, and the log is contradicted.
    #[command(verbatim_doc_comment)]
    Resume(Place),
}

#[derive(Debug, clap::Args)]
struct Place {
    /// The data directory; the server must be stopped.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Why, for the record and for everybody who checks.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Runs the command.
///
/// # Errors
/// When it could not be done; the store is then as it was, or the same again goes on.
pub(super) fn run(args: Args) -> Result<()> {
    match args.what {
        What::Succeed(place) => succeed(&place),
        What::Resume(place) => resume(&place),
    }
}

fn open(place: &Place) -> Result<(DataDir, Store)> {
    let Place { data, reason } = place;
    if reason.trim().is_empty() {
        return Err(Error::new(Kind::Invalid, "a reason is missing"));
    }
    let lock = DataDir::open(data)?;
    let store = Store::open_unkeyed(&data.join(store::DIR), &Settings::default())?;
    Ok((lock, store))
}

fn entry(action: String, reason: &str) -> AuditRecord {
    AuditRecord::new(Clock::system().now(), Event::Restore, "command line", "local", action).because(reason.trim())
}

fn succeed(place: &Place) -> Result<()> {
    let (_lock, store) = open(place)?;
    let at = time::format(Clock::system().now());
    let (statement, _) = log::succeed(&place.data, &store, &place.reason, &at)?;
    let (old, size, next) = (statement.old.origin(), statement.size, statement.next.origin());
    let text = format!("end the log {old} with {size} entries; {next} goes on");
    let entry =
        AuditRecord { content: Some(Digest::of(statement.text().as_bytes())), ..entry(text, &statement.reason) };
    store.settle_restored(&entry)?;
    store.close()?;
    output::line(&format!("ended         {} with {size} entries", statement.old.as_str()))?;
    output::line(&format!("successor     {}", statement.next.as_str()))?;
    output::line(
        "next          give the successor's key to the witnesses, then start the server; recorders follow by themselves",
    )
}

fn resume(place: &Place) -> Result<()> {
    let (_lock, store) = open(place)?;
    let restored = store.restored()?.filter(|restored| !restored.is_settled());
    let restored = restored.ok_or_else(|| {
        Error::new(Kind::Invalid, format!("{} is not waiting to be told how its log goes on", place.data.display()))
    })?;
    if restored.standing != Standing::UnsaidOfStopped {
        let text = "the backup was taken of a running server, whose log has signed more since: run aigaq log succeed";
        return Err(Error::new(Kind::Invalid, text));
    }
    let text = format!("let the log go on after {} entries: nothing came after the backup", restored.log_size);
    store.settle_restored(&entry(text, &place.reason))?;
    store.close()?;
    output::line(&format!("log           goes on after {} entries", restored.log_size))
}
