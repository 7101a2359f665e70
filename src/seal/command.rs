//! Asking a KMS: a command that gets bytes on its standard input and gives bytes on its standard output.
//!
//! Bounded in time and in output. A command that takes too long is killed with everything that it started. What it says on its
//! standard error goes to that of the server; what it is given and gives is written down nowhere. Blocks.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use zeroize::Zeroizing;

use crate::error::{Context, Error, Kind, Result};

/// What a command may give, bytes.
pub(super) const OUTPUT_BYTES_MAX: usize = 4_096;

/// Runs `command` (program and arguments) with `input`.
///
/// # Errors
/// [`Kind::Busy`] when it cannot be started, fails, gives nothing or too much, or is not done in time: a KMS that is away.
pub(super) fn ask(command: &[String], input: &[u8], timeout: Duration) -> Result<Zeroizing<Vec<u8>>> {
    let (program, arguments) = command.split_first().ok_or_else(|| busy("is not set"))?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .context(Kind::Busy, format!("the key command {program} does not start"))?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    // An input is shorter than a pipe is deep, so this waits for nobody.
    let given = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input));
    let (done, wait) = sync_channel(1);
    let reader = std::thread::Builder::new().name("key-command".to_owned());
    let spawned = reader.spawn(move || {
        let _ = done.send(finish(child));
    });
    if let Err(error) = spawned {
        kill(group);
        return Err(busy("cannot be waited for").because(error));
    }
    let output = match wait.recv_timeout(timeout) {
        Ok(output) => output?,
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            kill(group);
            return Err(busy(&format!("was not done after {} ms and was killed", timeout.as_millis())));
        }
    };
    given.context(Kind::Busy, "the key command does not take its input")?;
    Ok(output)
}

fn finish(mut child: Child) -> Result<Zeroizing<Vec<u8>>> {
    let mut output = Zeroizing::new(Vec::with_capacity(OUTPUT_BYTES_MAX + 1));
    if let Some(stdout) = child.stdout.take() {
        let read = stdout.take(OUTPUT_BYTES_MAX as u64 + 1).read_to_end(&mut output);
        read.context(Kind::Busy, "the key command's output does not read")?;
    }
    let status = child.wait().context(Kind::Busy, "the key command cannot be waited for")?;
    match output.len() {
        _ if !status.success() => Err(busy(&format!("failed: {status}"))),
        0 => Err(busy("gave nothing")),
        1..=OUTPUT_BYTES_MAX => Ok(output),
        _ => Err(busy("gave too much")),
    }
}

fn kill(group: Option<Pid>) {
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

fn busy(what: &str) -> Error {
    Error::new(Kind::Busy, format!("the key command {what}"))
}
