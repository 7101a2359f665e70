//! The command line: one file per subcommand, and here what they share - how arguments are read, how an error is told.
//!
//! Promises: results go to standard output in a form that scripts can read, everything else to standard error; wrong use and
//! bad input end in one line and a non-zero exit (2 for wrong use, 1 for the rest; `verify` has its own). The rooms never import this one.

#[cfg(feature = "server")]
mod account;
#[cfg(feature = "server")]
mod backup;
#[cfg(feature = "server")]
mod check;
#[cfg(feature = "server")]
mod demo;
#[cfg(feature = "server")]
mod enrol;
#[cfg(feature = "server")]
mod keys;
#[cfg(feature = "server")]
mod load;
#[cfg(feature = "server")]
mod log;
#[cfg(feature = "recorder")]
mod logs;
mod output;
#[cfg(feature = "cluster")]
mod probe;
#[cfg(feature = "recorder")]
mod record;
#[cfg(feature = "server")]
mod restore;
#[cfg(feature = "server")]
mod retention;
#[cfg(feature = "server")]
mod revoke;
#[cfg(feature = "server")]
mod scratch;
#[cfg(feature = "server")]
mod serve;
#[cfg(feature = "server")]
mod site;
#[cfg(feature = "verify")]
mod verify;
#[cfg(feature = "server")]
mod witness;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use crate::error::Result;
#[cfg(feature = "recorder")]
use crate::error::{Context as _, Kind};

#[cfg(all(not(feature = "server"), feature = "recorder"))]
use recorder_help as help;
#[cfg(feature = "server")]
use site::help;
#[cfg(not(feature = "recorder"))]
use verify_help as help;

/// What `aigaq --help` says where there is only the recorder.
#[cfg(all(not(feature = "server"), feature = "recorder"))]
mod recorder_help {
    pub(super) const ABOUT: &str = "Brings footage to an Aigaq server over QUIC, signed and chained, and keeps it until there is a receipt for it.";
    pub(super) const EXAMPLES: &str = "How: aigaq record --help";
}

/// What `aigaq --help` says where there is only the verifier.
#[cfg(not(feature = "recorder"))]
mod verify_help {
    pub(super) const ABOUT: &str =
        "Checks an export of an Aigaq server: offline, with no account, trusting only what you trust.";
    pub(super) const EXAMPLES: &str = "How: aigaq verify --help";
}

/// What `aigaq --help` says.
#[derive(Debug, Parser)]
#[command(
    name = "aigaq",
    version,
    about = help::ABOUT,
    after_help = help::EXAMPLES
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[cfg(feature = "server")]
    #[command(flatten)]
    Site(site::Command),
    #[cfg(feature = "recorder")]
    Record(record::Args),
    #[cfg(feature = "verify")]
    Verify(verify::Args),
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match dispatch(cli.command) {
        Ok(code) => code,
        Err(error) => {
            output::complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode> {
    match command {
        #[cfg(feature = "server")]
        Command::Site(command) => site::dispatch(command).map(|()| ExitCode::SUCCESS),
        #[cfg(feature = "recorder")]
        Command::Record(args) => {
            logs::start(tracing::Level::WARN, logs::Format::Human)?;
            block_on(record::run(args)).map(|()| ExitCode::SUCCESS)
        }
        #[cfg(feature = "verify")]
        Command::Verify(args) => Ok(verify::run(args)),
    }
}

/// Runs `task` on a runtime of its own. What is still blocked when the task ends, such as a read of standard input, is
/// left behind.
#[cfg(feature = "recorder")]
fn block_on<T>(task: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context(Kind::Internal, "cannot start the threads")?;
    let result = runtime.block_on(task);
    runtime.shutdown_background();
    result
}

/// Help and version as they are; anything else as one line.
fn usage(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let named = std::env::args().nth(1).filter(|name| Cli::command().find_subcommand(name).is_some());
    let help = named.map_or_else(|| "aigaq --help".to_owned(), |name| format!("aigaq {name} --help"));
    let problem = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "a command is missing".to_owned(),
        _ => problem(&error.render().to_string()),
    };
    output::complain(&format!("{problem}; see {help}"));
    // The exit code of the verifier is a verdict, and 2 is one of them.
    let verifies = std::env::args().nth(1).is_some_and(|name| name == "verify");
    ExitCode::from(if verifies { 5 } else { 2 })
}

/// What clap says before it begins to explain.
fn problem(rendered: &str) -> String {
    let told = rendered.lines().take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let told: Vec<&str> = told.map(str::trim).filter(|line| !line.is_empty()).collect();
    told.join(" ").trim_start_matches("error: ").replace(" tip: ", "; ")
}
