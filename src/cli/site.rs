//! The commands of a site: everything but the recorder's own, with the server behind it.

use clap::Subcommand;

#[cfg(feature = "cluster")]
use super::probe;
use super::{account, backup, check, demo, enrol, keys, load, log, logs, restore, retention, revoke, serve, witness};
use crate::error::Result;

/// What `aigaq --help` says.
pub(super) mod help {
    pub(in crate::cli) const ABOUT: &str =
        "Receives footage from recorders over QUIC, proves that nothing is missing or altered, and plays it back.";
    pub(in crate::cli) const EXAMPLES: &str = "A first look, with a server and four recorders on this machine:\n  aigaq demo\n\n\
         The same step by step, each line in a terminal of its own:\n  \
         aigaq serve --data ./aigaq-data\n  \
         aigaq enrol --data ./aigaq-data --kind vehicle --department Astana --out ./car-7\n  \
         aigaq record --identity ./car-7 footage.mp4\n\n\
         Each command explains itself: aigaq COMMAND --help";
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Serve(serve::Args),
    Witness(witness::Args),
    Enrol(enrol::Args),
    Revoke(revoke::Args),
    Account(account::AccountArgs),
    Client(account::ClientArgs),
    Demo(demo::Args),
    Check(check::Args),
    Backup(backup::Args),
    Restore(restore::Args),
    Log(log::Args),
    Retention(retention::Args),
    Keys(keys::Args),
    #[cfg(feature = "cluster")]
    Probe(probe::Args),
    Load(load::Args),
}

/// Runs a command.
///
/// # Errors
/// The command's own.
pub(super) fn dispatch(command: Command) -> Result<()> {
    if !matches!(command, Command::Serve(_)) {
        logs::start(tracing::Level::WARN, logs::Format::Human)?;
    }
    match command {
        Command::Serve(args) => serve::run(args),
        Command::Witness(args) => witness::run(args),
        Command::Enrol(args) => enrol::run(args),
        Command::Revoke(args) => revoke::run(args),
        Command::Account(args) => account::account(args),
        Command::Client(args) => account::client(args),
        Command::Demo(args) => demo::run(args),
        Command::Check(args) => check::run(args),
        Command::Backup(args) => backup::run(args),
        Command::Restore(args) => restore::run(args),
        Command::Log(args) => log::run(args),
        Command::Retention(args) => retention::run(args),
        Command::Keys(args) => keys::run(args),
        #[cfg(feature = "cluster")]
        Command::Probe(args) => probe::run(args),
        Command::Load(args) => load::run(args),
    }
}
