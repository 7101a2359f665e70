//! `aigaq keys`: what an operator does with the keys of footage, while no server runs.

use std::path::{Path, PathBuf};

use aigaq_proto::RecorderId;

use super::output;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::lookup::time;
use crate::retention::{self, Outcome};
use crate::seal;
use crate::server::{DataDir, seal_settings};
use crate::store::records::Act;
use crate::store::{self, Settings, Store};

/// Destroy a key of footage, or exchange the key that wraps all of them; with no server running.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  aigaq keys rotate --data ./aigaq-data\n  \
                  aigaq keys destroy --data ./aigaq-data --recorder 5f0c…32 digits…91 --day 2026-04-18 --reason \"order 17/26\""
)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Destroy(Destroy),
    /// Exchange the master key: every day's key is wrapped anew, no footage changes.
    ///
    /// With a file as master key a new one takes its place; with a KMS in the configuration
    /// its command wraps what it, or the file, had wrapped. Cut off anywhere, the same again
    /// goes on. Copies of the keys that were made before still need the old master key.
    #[command(verbatim_doc_comment)]
    Rotate(Place),
}

/// Where the keys are.
#[derive(Debug, clap::Args)]
struct Place {
    /// The server's data directory; the server must be stopped.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The server's configuration, where it has a section [seal].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Destroy the key of one recorder and day, before the day is over.
///
/// Nobody does it alone: if somebody has asked for it (POST /v1/destructions), this confirms it;
/// if not, this asks for it, and somebody else confirms over the API.
///
/// What it seals can be read nowhere any more, in no copy of the store, once the copies of
/// the keys have followed. Links, signatures and their places in the log stay. Refused, with
/// exit code 1, while a hold covers any of it. Written down in the audit trail, either way.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
struct Destroy {
    #[command(flatten)]
    place: Place,
    /// The recorder's id, 32 hexadecimal digits.
    #[arg(long, value_name = "ID", value_parser = id)]
    recorder: RecorderId,
    /// The last day on which the footage is kept, UTC: the day that `aigaq retention` shows.
    #[arg(long, value_name = "YYYY-MM-DD")]
    day: String,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Runs the command.
///
/// # Errors
/// When the keys cannot be exchanged or destroyed, or must not be.
pub(super) fn run(args: Args) -> Result<()> {
    match args.what {
        What::Destroy(args) => destroy(args),
        What::Rotate(place) => rotate(&place),
    }
}

fn rotate(place: &Place) -> Result<()> {
    let (_lock, settings) = open(place)?;
    let written = seal::rotate(&place.data.join(seal::DIR), &settings)?;
    output::line(&format!("exchanged the master key of {written} days"))
}

fn destroy(args: Destroy) -> Result<()> {
    let (_lock, seal) = open(&args.place)?;
    let (day, reason) = (time::parse_day(&args.day)?, args.reason.trim().to_owned());
    if reason.is_empty() {
        return Err(Error::new(Kind::Invalid, "a reason is missing"));
    }
    let store = Store::open(&args.place.data.join(store::DIR), &Settings { seal, ..Settings::default() })?;
    let act = Act { at: Clock::system().now(), by: "command line".to_owned(), reason };
    let done = match retention::destroy(&store, args.recorder, day, &act, "local") {
        Ok(Outcome::NotAsked) => retention::ask(&store, args.recorder, day, act, "local").map(|_| Outcome::NotAsked),
        done => done,
    };
    store.close()?;
    match done? {
        Outcome::Destroyed(done) => {
            output::line(&format!("destroyed the key of {} links, {} bytes", done.links, done.bytes))
        }
        Outcome::NotAsked => output::line("asked for; another person confirms it: POST /v1/destructions/{id}/confirm"),
        Outcome::SamePerson => {
            let text = "it was asked for on the command line: another person confirms it, over the API";
            Err(Error::new(Kind::Invalid, text))
        }
    }
}

fn open(place: &Place) -> Result<(DataDir, seal::Settings)> {
    let Place { data, config } = place;
    if !data.join(store::DIR).is_dir() {
        return Err(Error::new(Kind::Invalid, format!("{} is no data directory of a server", data.display())));
    }
    let config = config.as_deref().map(|path: &Path| Config::load(path)).transpose()?.unwrap_or_default();
    Ok((DataDir::open(data)?, seal_settings(&config)))
}

fn id(text: &str) -> Result<RecorderId, String> {
    text.parse().map_err(|_| "a recorder's id has 32 lower-case hexadecimal digits".to_owned())
}
