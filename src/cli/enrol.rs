//! `aigaq enrol`: an identity for one recorder, or the code with which a device gets its own.

use std::path::PathBuf;
use std::time::Duration;

use super::output;
use crate::clock::Clock;
use crate::config::Config;
use crate::enrol::{self, EnrolRequest};
use crate::error::{Error, Kind, Result};
use crate::server;
use crate::store::records::RecorderKind;

/// Enrol a recorder: print a code for a device, or make its whole identity here.
///
/// With --code, prints a code that is good once and for a short time. A device that is
/// given it (aigaq record --enrol CODE) makes its own key, gets a certificate for it, and
/// renews that by itself; nobody sees a secret that lasts. With --out, makes the key and
/// the certificate here: cert.pem, key.pem (readable by its owner alone), ca.pem and
/// recorder.toml. With --certificate, enrols the key in a certificate that an existing CA
/// made. All work before the server is first started, while it runs, and after.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    group = clap::ArgGroup::new("how").required(true).args(["code", "out", "certificate"]),
    after_help = "Examples:\n  aigaq enrol --data ./aigaq-data --kind officer --department Astana --label 4711 --code\n  \
                        aigaq enrol --data ./aigaq-data --kind vehicle --department Astana --label \"Car 7\" --out ./car-7\n  \
                        aigaq record --identity ./car-7 footage.mp4"
)]
pub(super) struct Args {
    /// The server's data directory; made if it is not there.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The server's configuration, where its section [enrol] differs from the defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What carries the recorder.
    #[arg(long)]
    kind: RecorderKind,
    /// The police department that owns the recorder, such as "Almaty city".
    #[arg(long, value_name = "NAME")]
    department: String,
    /// What people call it, such as a plate or a post.
    #[arg(long, value_name = "TEXT", default_value = "")]
    label: String,
    /// Where the recorder will find the server; goes into recorder.toml.
    #[arg(long, value_name = "HOST:PORT", default_value = enrol::SERVER_ADDRESS)]
    server: String,
    /// Print a code with which one device enrols itself.
    #[arg(long)]
    code: bool,
    /// How long the code is good: 5m to 30d.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = lifetime)]
    lifetime: Duration,
    /// Where a whole identity is written; must be empty or not there yet.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// A certificate of an existing CA, PEM, whose key is enrolled.
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When the identity could not be made.
pub(super) fn run(args: Args) -> Result<()> {
    let department = named("--department", &args.department)?;
    let label = if args.label.is_empty() { String::new() } else { named("--label", &args.label)? };
    let request = EnrolRequest { kind: args.kind, department, label, server: Some(args.server) };
    let config = args.config.as_deref().map_or_else(|| Ok(Config::default()), Config::load)?;
    let (settings, clock) = (server::enrol_settings(&config), Clock::system());
    if let Some(out) = args.out {
        return output::line(&enrol::enrol(&args.data, request, &out, &settings, &clock)?.to_string());
    }
    if let Some(certificate) = args.certificate {
        return output::line(&enrol::register(&args.data, request, &certificate, &clock)?.to_string());
    }
    output::line(&enrol::make_code(&args.data, request, args.lifetime, &settings, &clock)?.text())
}

/// A name without surrounding blanks: 1 to 100 characters, none of them a control character.
fn named(option: &str, text: &str) -> Result<String> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > 100 || text.chars().any(char::is_control) {
        return Err(Error::new(Kind::Invalid, format!("{option} wants 1 to 100 characters on one line")));
    }
    Ok(text.to_owned())
}

/// A number with its unit: minutes, hours or days.
fn lifetime(text: &str) -> Result<Duration, String> {
    let wanted = || "a time from 5m to 30d, such as 30m, 1h or 2d".to_owned();
    let unit = text.chars().last().ok_or_else(wanted)?;
    let seconds = match unit {
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(wanted()),
    };
    let number = text.strip_suffix(unit).ok_or_else(wanted)?;
    let number: u64 = number.parse().map_err(|_| wanted())?;
    let life = Duration::from_secs(number.saturating_mul(seconds));
    let range = Duration::from_secs(5 * 60)..=Duration::from_secs(30 * 24 * 60 * 60);
    if range.contains(&life) { Ok(life) } else { Err(wanted()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_has_a_unit_and_bounds() {
        assert_eq!(lifetime("90m").unwrap(), Duration::from_secs(5_400));
        assert_eq!(lifetime("30d").unwrap(), Duration::from_secs(2_592_000));
        for bad in ["", "h", "1", "4m", "31d", "1hh", "-1h", "1.5h", "99999999999999999999d"] {
            assert!(lifetime(bad).is_err(), "{bad}");
        }
    }
}
