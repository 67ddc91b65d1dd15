//! Signals that stop or reload the process. Listens before anything else happens: a SIGHUP during the start must neither
//! be lost nor kill the daemon, and the first process of a container ignores signals that it does not listen for.

use std::{future, io, thread, time::Duration};

use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
};

use super::outcome::CommandError;
use crate::log;

/// Maximum time from the signal to the end of the process: five seconds for open responses, and two for the rest.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(7);

/// Signals that a command listens for.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// `None` if SIGHUP keeps its default effect, to end the process.
    hangup: Option<Signal>,
}

/// The meaning of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignalEvent {
    /// Shut down; with the name of the signal.
    Shutdown(&'static str),
    /// Reload the configuration.
    Reload,
}

/// Kills the process if it has not shut down soon after a signal, for example because it is blocked on standard output that
/// nobody reads. Listens on its own thread.
///
/// # Errors
/// If the thread cannot start, or the system refuses to deliver signals.
pub(super) fn exit_when_stuck() -> Result<(), CommandError> {
    let start = || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let mut signals = {
            let _in_runtime = runtime.enter();
            Signals::open(false)?
        };
        let watch = async move {
            let name = signals.shutdown().await;
            tokio::time::sleep(SHUTDOWN_DEADLINE).await;
            tracing::error!("received {name}, but shutting down takes too long: exiting");
            log::flush();
            #[expect(clippy::exit, reason = "a regular exit may be blocked")]
            std::process::exit(1);
        };
        thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(watch))
    };
    start().map(drop).map_err(|error| signal_error(&error))
}

fn signal_error(error: &io::Error) -> CommandError {
    CommandError::Failed(format!("cannot listen for signals: {error}"))
}

impl Signals {
    /// Starts to listen for SIGTERM and SIGINT, and for SIGHUP if that `reloads`.
    ///
    /// # Errors
    /// If the system refuses to deliver signals.
    pub(super) fn listen(reloads: bool) -> Result<Self, CommandError> {
        Self::open(reloads).map_err(|error| signal_error(&error))
    }

    fn open(reloads: bool) -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: reloads.then(|| signal(SignalKind::hangup())).transpose()?,
        })
    }

    /// Waits for the next signal. Cancel-safe.
    pub(super) async fn next(&mut self) -> SignalEvent {
        let Self { terminate, interrupt, hangup } = self;
        let hangup = async {
            match hangup {
                Some(hangup) => hangup.recv().await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            name = shutdown(terminate, interrupt) => SignalEvent::Shutdown(name),
            _ = hangup => SignalEvent::Reload,
        }
    }

    /// Waits for a shutdown signal and returns its name. Keeps other signals for later. Cancel-safe.
    pub(super) async fn shutdown(&mut self) -> &'static str {
        shutdown(&mut self.terminate, &mut self.interrupt).await
    }

    /// Runs `work` until it ends or a shutdown signal arrives.
    ///
    /// # Errors
    /// The error of the work, or that a signal ended it.
    pub(super) async fn run_until_shutdown(
        mut self,
        work: impl Future<Output = Result<(), CommandError>>,
    ) -> Result<(), CommandError> {
        tokio::select! {
            result = work => result,
            name = self.shutdown() => Err(CommandError::Failed(format!("received {name}, shutting down"))),
        }
    }
}

async fn shutdown(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
