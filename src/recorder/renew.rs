//! A recorder renews its certificate by itself, at two thirds of its life by the server's time, under the same key.
//!
//! The server's time is what it said when the recorder connected; before that nothing is renewed, because a device's clock may be
//! wrong by years. The connection that is up goes on; the next one shows the new certificate. What fails is tried again, after a
//! delay that doubles to an hour and differs between devices.

use std::sync::Arc;
use std::time::Duration;

use aigaq_proto::Micros;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::desk::{self, Desk};
use super::{Identity, Observer};
use crate::clock::Clock;
use crate::error::{Context as _, Kind, Result};

/// How often it is looked whether the time has come.
const LOOK_EVERY: Duration = Duration::from_secs(10 * 60);
/// The first delay after a failure, and the longest.
const DELAY_MIN: Duration = Duration::from_secs(60);
const DELAY_MAX: Duration = Duration::from_secs(60 * 60);

/// The task that renews; ends when this is dropped.
pub(super) struct Renewal {
    task: JoinHandle<()>,
    /// Held while the server is asked.
    asking: Arc<Mutex<()>>,
}

impl Renewal {
    /// Waits for what is under way, so that a recorder that connects for a moment only gets its next certificate too.
    pub(super) async fn settle(&self) {
        drop(self.asking.lock().await);
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Renews the identity for as long as the result lives, at the server `HOST:PORT` or the first of several that answers.
pub(super) fn start(identity: Arc<Identity>, server: String, clock: Clock, observer: Arc<dyn Observer>) -> Renewal {
    let asking = Arc::new(Mutex::new(()));
    let while_asking = Arc::clone(&asking);
    let task = tokio::spawn(async move {
        let mut delay = DELAY_MIN;
        loop {
            if !is_due(&identity, &clock) {
                tokio::select! {
                    () = identity.heard.notified() => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
                continue;
            }
            let asked = while_asking.lock().await;
            let renewed = renew(&identity, &server, &clock).await;
            drop(asked);
            match renewed {
                Ok(()) => {
                    delay = DELAY_MIN;
                    observer.note("the certificate was renewed");
                }
                Err(error) => {
                    let [spread, ..] = identity.id.0;
                    let wait = delay / 2 + delay / 2 * u32::from(spread) / 255;
                    observer.note(&format!(
                        "the certificate was not renewed: {error}; trying again in {} s",
                        wait.as_secs()
                    ));
                    tokio::time::sleep(wait).await;
                    delay = (delay * 2).min(DELAY_MAX);
                }
            }
        }
    });
    Renewal { task, asking }
}

/// Whether two thirds of the certificate's life are over by the server's time.
fn is_due(identity: &Identity, clock: &Clock) -> bool {
    let dates = identity.dates();
    identity.server_now(clock).is_some_and(|now| now >= two_thirds(dates.begin, dates.end))
}

fn two_thirds(begin: Micros, end: Micros) -> Micros {
    begin.saturating_add(end.saturating_sub(begin) / 3 * 2)
}

async fn renew(identity: &Arc<Identity>, servers: &str, clock: &Clock) -> Result<()> {
    let request = desk::request(identity.private())?;
    let mut result = Err(crate::error::Error::new(Kind::Invalid, "renewing needs a server, HOST:PORT"));
    for server in servers.split(',').map(str::trim).filter(|server| !server.is_empty()) {
        let asked = async {
            let desk = Desk::new(server, &identity.server_name, identity.tls(clock)?)?;
            desk.renew(&request).await
        };
        result = asked.await;
        if result.as_ref().is_ok() {
            break;
        }
    }
    let certificate = result?;
    desk::check_key(&certificate, identity.private())?;
    let identity = Arc::clone(identity);
    let kept = tokio::task::spawn_blocking(move || identity.replace(certificate));
    kept.await.context(Kind::Internal, "keeping the certificate died")?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_thirds_of_thirty_days_are_twenty() {
        let day = 86_400;
        assert_eq!(two_thirds(100 * day, 130 * day), 120 * day);
        assert_eq!(two_thirds(5, 5), 5);
        assert_eq!(two_thirds(5, 1), 5, "a certificate that ends before it begins is due at once");
    }
}
