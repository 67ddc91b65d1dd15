//! What every command needs at its end: its error, and text for standard output. Runs nothing.

use std::{
    io::{self, Write as _},
    sync::OnceLock,
};

/// Why a command failed.
pub(super) enum CommandError {
    /// A failure that the command has printed already.
    AlreadyReported,
    /// A failure, with the text to print.
    Failed(String),
    /// Invalid flags or configuration, with the text to print.
    Usage(String),
}

/// Prints an error to standard error, in clap's format.
pub(super) fn print_error(text: &str) {
    let _ = writeln!(io::stderr(), "error: {text}");
}

/// The first failure to write to standard output.
static PRINT_FAILURE: OnceLock<io::Error> = OnceLock::new();

/// Prints to standard output. [`check_printed`] returns the failure, so that a command need not check each line.
pub(super) fn print(text: &str) {
    let mut stdout = io::stdout();
    keep_failure(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()));
}

/// Keeps the failure of a write to standard output for [`check_printed`]. Ignores that the reader closed it.
pub(super) fn keep_failure(result: io::Result<()>) {
    if let Err(error) = result
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        let _ = PRINT_FAILURE.set(error);
    }
}

/// # Errors
/// If a text did not reach standard output, such as a file on a full disk.
pub(super) fn check_printed() -> Result<(), CommandError> {
    match PRINT_FAILURE.get() {
        None => Ok(()),
        Some(error) => Err(CommandError::Failed(format!(
            "cannot write to standard output: {error}: write to another place, or free space on this one"
        ))),
    }
}

/// `1 account`, `2 accounts`.
pub(super) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
