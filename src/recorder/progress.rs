//! Progress on standard error: a live line on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aigaq_proto::Sequence;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::run::Observer;

/// How often a plain line is written at most.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Shows how far a recorder is.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    links: u64,
    bytes: u64,
    receipts: u64,
    line_due: Instant,
}

impl Progress {
    /// Begins to show.
    #[must_use]
    pub fn start() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {elapsed_precise}  {msg}");
            let bar = ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        let counts = Counts { links: 0, bytes: 0, receipts: 0, line_due: Instant::now() + LINE_INTERVAL };
        Self { bar, counts: Mutex::new(counts) }
    }

    /// Takes the live line away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut counts);
        let text = || format!("{} links, {}, {} receipts", counts.links, HumanBytes(counts.bytes), counts.receipts);
        match &self.bar {
            Some(bar) => bar.set_message(text()),
            None if Instant::now() >= counts.line_due => {
                eprintln!("{}", text());
                counts.line_due = Instant::now() + LINE_INTERVAL;
            }
            None => {}
        }
    }
}

impl Observer for Progress {
    fn link(&self, _sequence: Sequence, bytes: usize) {
        self.count(|counts| {
            counts.links += 1;
            counts.bytes += bytes as u64;
        });
    }

    fn receipt(&self, _sequence: Sequence, _bytes: usize, _waited: Duration) {
        self.count(|counts| counts.receipts += 1);
    }

    fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }
}
