//! Work that may block without end, such as reading a file of a network file system or resolving a name, done on a
//! thread of its own and given up after a deadline. No thread of the runtime can: they poll, serve and hear signals.
//! Knows nothing of the work.

use std::{io, thread, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

/// One kind of work that may block; it is done once at a time. Work that was given up may block its thread for
/// ever, so none is begun before that ends: a file system that hangs costs one thread and not one a poll.
#[derive(Debug)]
pub(crate) struct BlockingWorker<T>(Option<Running<T>>);

#[derive(Debug)]
struct Running<T> {
    /// Until then it is waited for.
    deadline: Instant,
    result: oneshot::Receiver<T>,
}

impl<T> Default for BlockingWorker<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Send + 'static> BlockingWorker<T> {
    /// Does `work` on a thread called `name` and waits for its result. May be given up at any time.
    ///
    /// # Errors
    /// `TimedOut` if there is no result within `deadline`, or while earlier work still blocks after its own deadline; the
    /// system's error if there is no thread to be had; `Other` if the work panicked.
    pub(crate) async fn run(
        &mut self,
        name: &str,
        deadline: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        // If there is any, its caller was given up, and its result is old by now.
        self.finish().await.transpose()?;
        // Kept here before it is waited for: this caller may be given up too.
        self.0 = Some(Running { deadline: Instant::now() + deadline, result: spawn(name, work)? });
        let result = self.finish().await.transpose()?.flatten();
        result.ok_or_else(|| io::Error::other("the work panicked"))
    }
}

impl<T> BlockingWorker<T> {
    /// Waits for the end of the work that was begun, if any; its result is `None` if it panicked.
    async fn finish(&mut self) -> Option<io::Result<Option<T>>> {
        let Running { deadline, result } = self.0.as_mut()?;
        let Ok(result) = timeout_at(*deadline, result).await else {
            let text = "there was no answer in time: does the file system hang?";
            return Some(Err(io::Error::new(io::ErrorKind::TimedOut, text)));
        };
        self.0 = None;
        Some(Ok(result.ok()))
    }
}

/// Begins `work` on a new thread called `name`; the receiver gets its result.
///
/// # Errors
/// If the system has no thread to give. `tokio::task::spawn_blocking` would panic then.
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
    async fn work_that_blocks_is_given_up_and_not_begun_again_before_it_ends() {
        let mut worker = BlockingWorker::default();
        let (go_on, wait) = mpsc::channel::<()>();
        let blocked = worker.run("test", DEADLINE, move || wait.recv().map_or(0, |()| 1)).await;
        assert!(blocked.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut));
        let second = worker.run("test", LONG, || 2).await;
        assert!(second.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut), "at once");
        drop(go_on);
        // The result of work that was given up is old, so it is nobody's.
        let third = loop {
            match worker.run("test", LONG, || 3).await {
                Err(_) => tokio::task::yield_now().await,
                Ok(result) => break result,
            }
        };
        assert_eq!(third, 3);
    }

    #[tokio::test]
    async fn work_whose_caller_is_given_up_counts_as_begun() {
        let mut worker = BlockingWorker::default();
        let (go_on, wait) = mpsc::channel::<()>();
        let blocked = worker.run("test", LONG, move || wait.recv().is_ok());
        assert!(timeout(DEADLINE, blocked).await.is_err());
        let begun = worker.run("test", LONG, || true);
        assert!(timeout(DEADLINE, begun).await.is_err(), "the first still blocks, within its deadline");
        drop(go_on);
        assert!(worker.run("test", LONG, || true).await.is_ok());
    }

    #[tokio::test]
    async fn work_that_panics_is_an_error_and_the_next_is_begun() {
        let mut worker = BlockingWorker::default();
        let panicked = worker.run("test", LONG, || -> u8 { panic!("as a test wants it") }).await;
        assert!(panicked.is_err_and(|error| error.kind() == io::ErrorKind::Other));
        assert_eq!(worker.run("test", LONG, || 1).await.ok(), Some(1));
    }
}
