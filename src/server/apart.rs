//! Threads of their own for those who look things up.
//!
//! The threads that take links in are busy to the last moment at full load, and a request that shared them would wait at every
//! step for what stands before it. On threads of its own a request waits for its disk and its share of a core alone, and
//! operations see a server that is busy and not one that is dead.

use tokio::runtime::{Builder, Handle, Runtime};

use super::parts::died;
use crate::error::{Context as _, Kind, Result};

/// Threads that answer HTTP.
const THREADS: usize = 2;

/// A runtime that is left behind when this is dropped.
pub(super) struct Apart(Option<Runtime>, Handle);

impl Apart {
    /// Starts the threads.
    ///
    /// # Errors
    /// [`Kind::Internal`] if there are none to be had.
    pub(super) fn start() -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("lookup")
            .enable_all()
            .build()
            .context(Kind::Internal, "cannot start the threads for look-ups")?;
        let handle = runtime.handle().clone();
        Ok(Self(Some(runtime), handle))
    }

    /// Where to spawn.
    pub(super) fn handle(&self) -> &Handle {
        &self.1
    }

    /// Runs `task` there to its end: what it opens belongs to these threads.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.1.spawn(task).await.map_err(died)?
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // The one who drops this may be a task, which must not wait for threads.
            runtime.shutdown_background();
        }
    }
}
