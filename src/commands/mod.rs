//! One file per command: connects the other modules, and turns the result into an exit code. A command parses nothing.

mod change_printer;
mod check;
mod config_loader;
mod daemon;
mod demo;
mod descriptors;
mod healthcheck;
mod lending;
mod once;
mod outcome;
mod output;
mod permissions;
mod second_reader;
mod serve;
mod signals;
mod simulate;
mod socket_activation;
mod state_file;
mod systemd;

use std::{io, process::ExitCode};

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use tokio::runtime;

use self::{
    outcome::{CommandError, check_printed, keep_failure, print, print_error},
    signals::Signals,
};
use crate::cli::{self, Command};

/// Runs a command. Exit codes: 0 for success, 1 for a failure, 2 for invalid flags or configuration.
#[must_use]
pub fn run(command: Command) -> ExitCode {
    // Must come before the first key is read.
    if !command.allows_core_dumps() {
        forbid_core_dumps();
    }
    for warning in command.log().map_or_else(Vec::new, |_| cli::find_misspelled_variables()) {
        tracing::warn!("{warning}");
    }
    // Two threads: a large answer to one client must not delay the others.
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let is_daemon = matches!(command, Command::Serve(_) | Command::Demo(_));
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(dispatch(command));
            // Does not wait for a bcrypt computation or a DNS look-up.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(CommandError::Failed(format!("cannot start the runtime: {error}"))),
    };
    // Another error matters more than one about the output.
    let result = match result {
        Ok(()) | Err(CommandError::AlreadyReported) => check_printed().and(result),
        error => error,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(CommandError::AlreadyReported) => ExitCode::from(1),
        Err(CommandError::Failed(text)) => {
            let text = cli::name_variables(&text);
            // A daemon logs its failure; other commands print it for the user.
            if is_daemon {
                tracing::error!("{text}");
            } else {
                print_error(&text);
            }
            ExitCode::from(1)
        }
        Err(CommandError::Usage(text)) => {
            print_error(&cli::name_variables(&text));
            ExitCode::from(2)
        }
    }
}

/// The exit code after the program printed its help to standard output, with that result. Prints an error if it failed.
#[must_use]
pub fn finish_help(printed: io::Result<()>) -> ExitCode {
    keep_failure(printed);
    match check_printed() {
        Err(CommandError::Failed(text)) => {
            print_error(&text);
            ExitCode::from(1)
        }
        _ => ExitCode::SUCCESS,
    }
}

async fn dispatch(command: Command) -> Result<(), CommandError> {
    signals::exit_when_stuck()?;
    let signals = Signals::listen(matches!(command, Command::Serve(_)))?;
    match command {
        Command::Serve(flags) => Box::pin(serve::run(&flags, signals)).await,
        Command::Demo(flags) => demo::run(&flags, signals).await,
        Command::Simulate(flags) => simulate::run(&flags, signals).await,
        Command::Once(flags) => signals.run_until_shutdown(Box::pin(once::run(&flags))).await,
        Command::Check(flags) => signals.run_until_shutdown(check::run(&flags)).await,
        Command::Healthcheck(flags) => signals.run_until_shutdown(healthcheck::run(&flags)).await,
        Command::Completions(flags) => print_text(Ok(cli::completions(flags.shell))),
        Command::Man => print_text(cli::man_page()),
        Command::Version => print_text(Ok(cli::version())),
    }
}

fn print_text(text: io::Result<String>) -> Result<(), CommandError> {
    print(&text.map_err(|error| CommandError::Failed(error.to_string()))?);
    Ok(())
}

/// Disables core dumps, and access to this process's memory by other processes of the same user: both contain the keys.
/// Ignores failures.
fn forbid_core_dumps() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let _ = setrlimit(Resource::Core, none);
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}
