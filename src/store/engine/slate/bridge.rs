//! From the threads of the server, which may block, to the one runtime on which everything of the object store runs.
//!
//! Each wait has a deadline. The runtime is apart from that of the server, so that whoever waits here holds up nothing that it waits for.

use std::sync::mpsc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::error::{Context as _, Error, Kind, Result};

/// Threads that drive the object store; bodies are hashed for their signature on them.
const THREADS: usize = 2;

pub(super) struct Bridge {
    /// Taken away at the end alone.
    runtime: Option<Runtime>,
}

impl Bridge {
    pub(super) fn start() -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(THREADS).thread_name("objects").enable_all().build();
        Ok(Self { runtime: Some(runtime.context(Kind::Internal, "cannot start the threads of the object store")?) })
    }

    /// Blocks until `work` is done. Not cancel-safe: work that is late is dropped where it stands.
    ///
    /// # Errors
    /// [`Kind::Busy`] when it is late.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        deadline: Duration,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let ended = || Error::new(Kind::Fatal, "the threads of the object store have ended");
        let runtime = self.runtime.as_ref().ok_or_else(ended)?;
        let (done, result) = mpsc::sync_channel(1);
        runtime.spawn(async move {
            let late = || format!("the object store did not answer within {} s", deadline.as_secs());
            let outcome = tokio::time::timeout(deadline, work).await;
            // Whoever waited is gone only with the engine.
            let _ = done.send(outcome.unwrap_or_else(|_| Err(Error::new(Kind::Busy, late()))));
        });
        result.recv().map_err(|_| ended())?
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // Nothing is waited for: what is durable was waited for before.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
