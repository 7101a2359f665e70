//! The command line: one file per subcommand, and here what they share - how arguments are read, how an error is told.
//!
//! Promises: results go to standard output in a form that scripts can read, everything else to standard error; wrong use and
//! bad input end in one line and a non-zero exit (2 for wrong use, 1 for the rest). The rooms never import this one.

mod check;
mod demo;
mod enrol;
mod load;
mod logs;
mod output;
mod record;
mod scratch;
mod serve;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use crate::config::LogFormat;
use crate::error::{Context, Kind, Result};

/// What `aigaq --help` says.
#[derive(Debug, Parser)]
#[command(
    name = "aigaq",
    version,
    about = "Receives footage from recorders over QUIC, proves that nothing is missing or altered, and plays it back.",
    after_help = "A first look, with a server and four recorders on this machine:\n  aigaq demo\n\n\
                  The same step by step, each line in a terminal of its own:\n  \
                  aigaq serve --data ./aigaq-data\n  \
                  aigaq enrol --data ./aigaq-data --kind vehicle --department Astana --out ./car-7\n  \
                  aigaq record --identity ./car-7 footage.mp4\n\n\
                  Each command explains itself: aigaq COMMAND --help"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Enrol(enrol::Args),
    Record(record::Args),
    Demo(demo::Args),
    Check(check::Args),
    Load(load::Args),
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<()> {
    if !matches!(command, Command::Serve(_)) {
        logs::start(tracing::Level::WARN, LogFormat::Human)?;
    }
    match command {
        Command::Serve(args) => serve::run(args),
        Command::Enrol(args) => enrol::run(args),
        Command::Record(args) => block_on(record::run(args)),
        Command::Demo(args) => demo::run(args),
        Command::Check(args) => check::run(args),
        Command::Load(args) => load::run(args),
    }
}

/// Runs `task` on a runtime of its own. What is still blocked when the task ends, such as a read of standard input, is
/// left behind.
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
    ExitCode::from(2)
}

/// What clap says before it begins to explain.
fn problem(rendered: &str) -> String {
    let told = rendered.lines().take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let told: Vec<&str> = told.map(str::trim).filter(|line| !line.is_empty()).collect();
    told.join(" ").trim_start_matches("error: ").replace(" tip: ", "; ")
}
