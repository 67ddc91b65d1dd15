//! The signals that end or reload the process. They are listened for before anything else is done: a signal that
//! arrives while the configuration is read must neither be lost nor end a daemon that it asks to reload, and a
//! process that is the first of its container ends by no signal that it does not listen for.

use std::{future, io};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Ended;

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

impl Signals {
    /// Listens from now on for SIGTERM and SIGINT, and for SIGHUP if that `reloads`.
    ///
    /// # Errors
    /// If the system refuses that.
    pub(super) fn listen(reloads: bool) -> Result<Self, Ended> {
        let listen = || -> io::Result<Self> {
            Ok(Self {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
                hangup: reloads.then(|| signal(SignalKind::hangup())).transpose()?,
            })
        };
        listen().map_err(|error| Ended::With(format!("cannot listen for signals: {error}")))
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
        work: impl Future<Output = Result<(), Ended>>,
    ) -> Result<(), Ended> {
        tokio::select! {
            ended = work => ended,
            name = self.shutdown() => Err(Ended::With(format!("received {name}, shutting down"))),
        }
    }
}

async fn shutdown(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
