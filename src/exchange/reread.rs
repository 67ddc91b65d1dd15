//! A value from files that may be replaced while the exporter runs. A thread of its own reads them again, because a file
//! system may hang. Knows no file.

use std::{
    io,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;

/// The time between two reads.
const REREAD_EVERY: Duration = Duration::from_secs(10);

/// The value that was read last. Clones share it.
#[derive(Debug)]
pub(super) struct ReloadedValue<T> {
    current: Arc<ArcSwap<T>>,
    /// Ends the thread when the last clone is dropped.
    running: mpsc::Sender<()>,
}

impl<T: Send + Sync + 'static> ReloadedValue<T> {
    /// Starts with the value `first`. On a thread called `thread`, `read` then runs every ten seconds and returns the new
    /// value, or `None` if the current one stays.
    ///
    /// # Errors
    /// If the thread cannot start.
    pub(super) fn start(
        thread: &str,
        first: T,
        mut read: impl FnMut() -> Option<T> + Send + 'static,
    ) -> io::Result<Self> {
        let current = Arc::new(ArcSwap::from_pointee(first));
        let (running, ended) = mpsc::channel();
        let replaced = Arc::clone(&current);
        thread::Builder::new().name(thread.to_owned()).spawn(move || {
            while ended.recv_timeout(REREAD_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
                if let Some(new) = read() {
                    replaced.store(Arc::new(new));
                }
            }
        })?;
        Ok(Self { current, running })
    }

    /// The current value.
    pub(super) fn current(&self) -> Arc<T> {
        self.current.load_full()
    }
}

impl<T> Clone for ReloadedValue<T> {
    fn clone(&self) -> Self {
        Self { current: Arc::clone(&self.current), running: self.running.clone() }
    }
}
