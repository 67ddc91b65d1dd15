//! What every command needs at its end: its error, and text for standard output. Runs nothing.

use std::io::{self, Write as _};

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

/// Prints to standard output. Ignores failures: the reader may have closed it.
pub(super) fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
    let _ = io::stdout().flush();
}

/// `1 account`, `2 accounts`.
pub(super) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
