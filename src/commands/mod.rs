//! What each command does, from valid words to an exit code. Here the parts meet; none of them
//! knows another's neighbour.

mod check;
mod config_loader;
mod daemon;
mod demo;
mod descriptors;
mod healthcheck;
mod once;
mod output;
mod serve;
mod signals;
mod simulate;
mod systemd;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use tokio::runtime;

use self::signals::Signals;
use crate::cli::Command;

/// How a command ended when it did not end well.
enum CommandError {
    /// Something failed; said already.
    AlreadyReported,
    /// Something failed, to be said.
    Failed(String),
    /// What was asked for makes no sense, to be said.
    Usage(String),
}

/// Runs a command to its end. Exit codes: 0 for well, 1 for failed, 2 for misused.
#[must_use]
pub fn run(command: Command) -> ExitCode {
    // Before any key is read.
    if !command.allows_core_dumps() {
        forbid_core_dumps();
    }
    // A status page must not hold up a scrape.
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let is_daemon = matches!(command, Command::Serve(_) | Command::Demo(_));
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(dispatch(command));
            // A password on its way through bcrypt, or a name through a resolver, is not waited for.
            runtime.shutdown_background();
            ended
        }
        Err(error) => Err(CommandError::Failed(format!("cannot start the runtime: {error}"))),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(CommandError::AlreadyReported) => ExitCode::from(1),
        Err(CommandError::Failed(text)) => {
            // A daemon's end belongs into its log; to whoever waits at a prompt it is plainly said.
            if is_daemon {
                tracing::error!("{text}");
            } else {
                print_error(&text);
            }
            ExitCode::from(1)
        }
        Err(CommandError::Usage(text)) => {
            print_error(&text);
            ExitCode::from(2)
        }
    }
}

async fn dispatch(command: Command) -> Result<(), CommandError> {
    signals::exit_when_stuck()?;
    let signals = Signals::listen(matches!(command, Command::Serve(_)))?;
    match command {
        Command::Serve(flags) => serve::run(&flags, signals).await,
        Command::Demo(flags) => demo::run(&flags, signals).await,
        Command::Simulate(flags) => simulate::run(&flags, signals).await,
        Command::Once(flags) => signals.run_until_shutdown(once::run(&flags)).await,
        Command::Check(flags) => signals.run_until_shutdown(check::run(&flags)).await,
        Command::Healthcheck(flags) => signals.run_until_shutdown(healthcheck::run(&flags)).await,
    }
}

/// Forbids core dumps, and other processes of the same user the memory of this one: both hold
/// the keys. A failure of either is no reason to stop.
fn forbid_core_dumps() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let _ = setrlimit(Resource::Core, none);
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Prints an error to standard error, as the command line's own are.
fn print_error(text: &str) {
    let _ = writeln!(io::stderr(), "error: {text}");
}

/// Prints to standard output. Whoever has closed it does not want to know.
fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
    let _ = io::stdout().flush();
}
