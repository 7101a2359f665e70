//! `aigaq account` and `aigaq client`: who can sign in - people with a password, services with a secret.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;

use super::output;
use crate::access::{self, Grant, Role};
use crate::error::{Context as _, Error, Kind, Result};

/// Say who can sign in with a password, and as what.
///
/// Asks for the password on the terminal, twice; otherwise the first line of standard input
/// is the password. An account of this name that is there is replaced, and its sessions end. A
/// running server takes it in at the next sign-in, otherwise the next start does.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Example:\n  aigaq account add anna --role administrator --data ./aigaq-data\n  \
                  aigaq account add berik --role operator --department Astana --data ./aigaq-data\n  \
                  aigaq account remove berik --data ./aigaq-data"
)]
pub(super) struct AccountArgs {
    #[command(subcommand)]
    command: AccountCommand,
}

#[derive(Debug, clap::Subcommand)]
enum AccountCommand {
    /// Make an account, or replace it.
    Add {
        #[command(flatten)]
        new: New,
        /// For emergencies: each sign-in with it needs a reason, is an alarm and lasts an hour.
        #[arg(long)]
        break_glass: bool,
    },
    /// Take an account away; its sessions end.
    Remove(Gone),
}

/// Say which services can sign in, and as what.
///
/// Prints the secret, which is shown once and kept nowhere. With it a service asks
/// POST /v1/token for a bearer token of 15 minutes (OAuth 2.0 client credentials). A client
/// of this name that is there is replaced, and its tokens end. A running server takes it in
/// at the next sign-in, otherwise the next start does.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Example:\n  secret=$(aigaq client add dispatch --role supervisor --data ./aigaq-data)\n  \
                  curl -u \"dispatch:$secret\" -d grant_type=client_credentials http://127.0.0.1:8080/v1/token\n  \
                  aigaq client remove dispatch --data ./aigaq-data"
)]
pub(super) struct ClientArgs {
    #[command(subcommand)]
    command: ClientCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ClientCommand {
    /// Make a client, or replace it.
    Add(New),
    /// Take a client away; its tokens open nothing any more.
    Remove(Gone),
}

#[derive(Debug, clap::Args)]
struct New {
    /// Letters, digits, -, _ and .
    #[arg(value_name = "NAME")]
    name: String,
    /// operator, supervisor, inspector, auditor or administrator; may be given more than once.
    #[arg(long = "role", value_name = "ROLE", required = true, value_parser = role)]
    roles: Vec<Role>,
    /// Where the roles hold; may be given more than once. Without it, in all departments.
    #[arg(long = "department", value_name = "NAME")]
    departments: Vec<String>,
    /// The server's data directory; made if it is not there.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Gone {
    /// Whose.
    #[arg(value_name = "NAME")]
    name: String,
    /// The server's data directory.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

impl New {
    fn grants(&self) -> Vec<Grant> {
        let departments = (!self.departments.is_empty()).then(|| self.departments.clone());
        self.roles.iter().map(|role| Grant { role: *role, departments: departments.clone() }).collect()
    }
}

/// Runs `aigaq account`.
///
/// # Errors
/// When the name or the password cannot be one, or word of it cannot be left.
pub(super) fn account(args: AccountArgs) -> Result<()> {
    match args.command {
        AccountCommand::Add { new, break_glass } => {
            access::add_account(&new.data, &new.name, &password()?, new.grants(), break_glass)?;
            output::line(&new.name)
        }
        AccountCommand::Remove(Gone { name, data }) => {
            access::remove(&data, "account", &name)?;
            output::line(&name)
        }
    }
}

/// Runs `aigaq client`.
///
/// # Errors
/// When the name cannot be one, or word of it cannot be left.
pub(super) fn client(args: ClientArgs) -> Result<()> {
    match args.command {
        ClientCommand::Add(new) => output::line(&access::add_client(&new.data, &new.name, new.grants())?),
        ClientCommand::Remove(Gone { name, data }) => {
            access::remove(&data, "client", &name)?;
            output::line(&name)
        }
    }
}

fn role(name: &str) -> Result<Role, String> {
    let known = || Role::ALL.map(Role::name).join(", ");
    Role::named(name).ok_or_else(|| format!("a role is one of {}", known()))
}

/// The password: asked for twice on a terminal, else the first line.
fn password() -> Result<String> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return line();
    }
    let first = hidden("password: ")?;
    if hidden("again: ")? == first { Ok(first) } else { Err(Error::new(Kind::Invalid, "that was not the same twice")) }
}

fn line() -> Result<String> {
    let mut text = String::new();
    std::io::stdin().lock().read_line(&mut text).context(Kind::Invalid, "cannot read the password")?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// A line that the terminal does not show.
fn hidden(prompt: &str) -> Result<String> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

    let failed = || "cannot ask for the password: give it on standard input";
    let stdin = std::io::stdin();
    let shown = tcgetattr(&stdin).context(Kind::Invalid, failed())?;
    let mut silent = shown.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    let mut stderr = std::io::stderr();
    let _ = stderr.write_all(prompt.as_bytes());
    tcsetattr(&stdin, OptionalActions::Flush, &silent).context(Kind::Invalid, failed())?;
    let text = line();
    tcsetattr(&stdin, OptionalActions::Flush, &shown).context(Kind::Invalid, failed())?;
    let _ = stderr.write_all(b"\n");
    text
}
