//! Runs work that may block forever, such as reading a file of a network file system, on its own thread with a deadline.
//! The runtime's threads must not block: they poll, serve and receive signals. Knows nothing about the work.

use std::{io, thread, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

/// A worker for one kind of work, with at most one thread. Work past its deadline may block its thread forever. The worker
/// starts nothing new before that ends, so a file system that hangs costs one thread, and not one per poll.
#[derive(Debug)]
pub(crate) struct BlockingWorker<T>(Option<Running<T>>);

#[derive(Debug)]
struct Running<T> {
    /// The time until which callers wait.
    deadline: Instant,
    result: oneshot::Receiver<T>,
}

impl<T> Default for BlockingWorker<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Send + 'static> BlockingWorker<T> {
    /// Runs `work` on a thread called `name` and waits for its result. Cancel-safe.
    ///
    /// # Errors
    /// `TimedOut` if there is no result within `deadline`, or if earlier work still blocks after its own deadline; the
    /// system's error if the thread cannot start; `Other` if the work panicked.
    pub(crate) async fn run(
        &mut self,
        name: &str,
        deadline: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        // Discards the outdated result of work whose caller was cancelled.
        self.finish().await.transpose()?;
        // Stored before waiting, because this caller may be cancelled too.
        self.0 = Some(Running { deadline: Instant::now() + deadline, result: spawn(name, work)? });
        let result = self.finish().await.transpose()?.flatten();
        result.ok_or_else(|| io::Error::other("the work panicked"))
    }
}

impl<T> BlockingWorker<T> {
    /// Waits for the running work, if any. Its result is `None` if it panicked.
    async fn finish(&mut self) -> Option<io::Result<Option<T>>> {
        let Running { deadline, result } = self.0.as_mut()?;
        let Ok(result) = timeout_at(*deadline, result).await else {
            let text = "timed out: check whether the file system hangs";
            return Some(Err(io::Error::new(io::ErrorKind::TimedOut, text)));
        };
        self.0 = None;
        Some(Ok(result.ok()))
    }
}

/// Starts `work` on a new thread called `name`; the receiver gets its result.
///
/// # Errors
/// If the thread cannot start. `tokio::task::spawn_blocking` would panic instead.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<oneshot::Receiver<T>> {
    let (done, result) = oneshot::channel();
    thread::Builder::new().name(name.to_owned()).spawn(move || drop(done.send(work())))?;
    Ok(result)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::time::timeout;

    use super::*;

    const DEADLINE: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn blocked_work_times_out_and_no_other_starts_before_it_ends() {
        let mut worker = BlockingWorker::default();
        let (release, wait) = mpsc::channel::<()>();
        let blocked = worker.run("test", DEADLINE, move || wait.recv().map_or(0, |()| 1)).await;
        assert!(blocked.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut));
        let second = worker.run("test", LONG, || 2).await;
        assert!(second.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut), "at once");
        drop(release);
        // The outdated result 1 is discarded.
        let third = loop {
            match worker.run("test", LONG, || 3).await {
                Err(_) => tokio::task::yield_now().await,
                Ok(result) => break result,
            }
        };
        assert_eq!(third, 3);
    }

    #[tokio::test]
    async fn work_whose_caller_was_cancelled_still_runs() {
        let mut worker = BlockingWorker::default();
        let (release, wait) = mpsc::channel::<()>();
        let blocked = worker.run("test", LONG, move || wait.recv().is_ok());
        assert!(timeout(DEADLINE, blocked).await.is_err());
        let second = worker.run("test", LONG, || true);
        assert!(timeout(DEADLINE, second).await.is_err(), "the first still blocks, within its deadline");
        drop(release);
        assert!(worker.run("test", LONG, || true).await.is_ok());
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_the_next_work_runs() {
        let mut worker = BlockingWorker::default();
        let panicked = worker.run("test", LONG, || -> u8 { panic!("expected by this test") }).await;
        assert!(panicked.is_err_and(|error| error.kind() == io::ErrorKind::Other));
        assert_eq!(worker.run("test", LONG, || 1).await.ok(), Some(1));
    }
}
