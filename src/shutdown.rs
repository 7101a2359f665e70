//! When to stop: SIGTERM and SIGINT. The first asks for a drain; one that comes later than a second after it ends the process
//! at once, which is safe because nothing was acknowledged that is not durable.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{Context, Kind, Result};

/// The exit code after a second signal: that of a shell for a process ended by SIGINT.
const IMPATIENT: i32 = 130;

/// Signals that come this soon after the first belong to it: `timeout` and terminals signal a process and its group.
const ECHO: Duration = Duration::from_secs(1);

/// Listens from now on; the future resolves at the first signal.
///
/// # Errors
/// [`Kind::Internal`] if the system refuses the handlers.
pub fn signals() -> Result<impl Future<Output = ()> + Send + 'static> {
    let listen = |kind| signal(kind).context(Kind::Internal, "cannot listen for signals");
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        either(&mut terminate, &mut interrupt).await;
        tokio::spawn(async move {
            let echoes = async {
                loop {
                    either(&mut terminate, &mut interrupt).await;
                }
            };
            let _ = tokio::time::timeout(ECHO, echoes).await;
            either(&mut terminate, &mut interrupt).await;
            tracing::warn!("second signal: ending at once");
            std::process::exit(IMPATIENT);
        });
    })
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
