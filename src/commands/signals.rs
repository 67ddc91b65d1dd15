//! The signals that end or reload the process. They are listened for before anything else is done: a signal that
//! arrives while the configuration is read must neither be lost nor end a daemon that it asks to reload, and a
//! process that is the first of its container ends by no signal that it does not listen for.

use std::{future, io, thread, time::Duration};

use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
};

use super::CommandError;
use crate::log;

/// After a signal that asks for the end of the process, it ends within this time: the five seconds for which running
/// answers may finish, and two for the rest.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(7);

/// The signals that a command listens for.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// `None` where SIGHUP keeps its usual effect, the end of the process.
    hangup: Option<Signal>,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignalEvent {
    /// The end of the process; with the name of the signal.
    Shutdown(&'static str),
    /// Another look at the configuration.
    Reload,
}

/// Ends the process if it has not ended by itself soon after a signal that asks for that: standard output that nobody
/// reads, say, blocks the thread that hears signals otherwise. Listens on a thread of its own.
///
/// # Errors
/// If the system has no thread for it or refuses to tell of signals.
pub(super) fn exit_when_stuck() -> Result<(), CommandError> {
    let begin = || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let mut signals = {
            let _in_runtime = runtime.enter();
            Signals::open(false)?
        };
        let watch = async move {
            let name = signals.shutdown().await;
            tokio::time::sleep(SHUTDOWN_DEADLINE).await;
            tracing::error!("received {name}, and something blocks: ending now");
            log::flush();
            #[expect(clippy::exit, reason = "whatever else would end the process is blocked")]
            std::process::exit(1);
        };
        thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(watch))
    };
    begin().map(drop).map_err(|error| signal_error(&error))
}

fn signal_error(error: &io::Error) -> CommandError {
    CommandError::Failed(format!("cannot listen for signals: {error}"))
}

impl Signals {
    /// Listens from now on for SIGTERM and SIGINT, and for SIGHUP if that `reloads`.
    ///
    /// # Errors
    /// If the system refuses that.
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

    /// Waits for the next signal. May be given up at any time.
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

    /// Waits for a signal that asks for the end of the process; returns its name. Others keep. May be given up at any
    /// time.
    pub(super) async fn shutdown(&mut self) -> &'static str {
        shutdown(&mut self.terminate, &mut self.interrupt).await
    }

    /// Does `work` to its end, or until a signal asks for the end of the process.
    ///
    /// # Errors
    /// Those of the work; or that a signal ended it.
    pub(super) async fn run_until_shutdown(
        mut self,
        work: impl Future<Output = Result<(), CommandError>>,
    ) -> Result<(), CommandError> {
        tokio::select! {
            ended = work => ended,
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
