//! Counts log lines that were dropped because nobody read standard error. Writes no line.

use std::sync::OnceLock;

use tracing_appender::non_blocking::ErrorCounter;

/// Set once logging is set up.
static COUNTER: OnceLock<ErrorCounter> = OnceLock::new();

pub(super) fn set_counter(counter: ErrorCounter) {
    let _ = COUNTER.set(counter);
}

/// Whether logging is set up.
pub(super) fn is_set() -> bool {
    COUNTER.get().is_some()
}

/// Number of lines dropped since the start, because nobody read standard error.
#[must_use]
pub fn dropped_lines() -> u64 {
    COUNTER.get().map_or(0, |counter| counter.dropped_lines() as u64)
}
