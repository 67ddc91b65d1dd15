//! Logging to standard error through a writer thread. Logging never blocks: if nobody reads standard error, lines are
//! dropped and counted. Libraries log at level info at most, because their debug lines contain requests.

mod dropped;
mod format;

use std::{
    io, panic,
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::{Layer as _, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

pub use self::dropped::dropped_lines;
use crate::cli::{LogFlags, LogLevel};

/// Maximum number of buffered lines; further lines are dropped.
const BUFFERED_LINES_MAX: usize = 4_096;
/// Maximum time to write buffered lines when the process ends.
const FLUSH_DEADLINE: Duration = Duration::from_secs(1);

/// Stops the writer thread when dropped.
static WRITER: Mutex<Option<WorkerGuard>> = Mutex::new(None);

/// Sets up logging for the process. A second call has no effect.
///
/// # Panics
/// If the writer thread cannot start.
pub fn init(flags: &LogFlags) {
    let level = match flags.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let levels = Targets::new()
        .with_default(level.min(LevelFilter::INFO))
        .with_target(env!("CARGO_CRATE_NAME"), level);
    let writer = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(BUFFERED_LINES_MAX);
    let (stderr, guard) = writer.thread_name("log").finish(io::stderr());
    let dropped = stderr.error_counter();
    let lines = tracing_subscriber::fmt::layer().event_format(flags.format).with_writer(stderr);
    if tracing_subscriber::registry().with(lines.with_filter(levels)).try_init().is_ok() {
        dropped::set_counter(dropped);
        *WRITER.lock().unwrap_or_else(PoisonError::into_inner) = Some(guard);
    }
}

/// Writes the buffered lines, for at most a second, and stops the writer. Later lines are lost.
pub fn flush() {
    let Some(guard) = WRITER.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
    // Dropping the guard may block longer if nobody reads, so another thread does that.
    let (done, flushed) = mpsc::channel::<()>();
    let dropping = thread::Builder::new().name("log flush".to_owned()).spawn(move || {
        drop(guard);
        drop(done);
    });
    if dropping.is_ok() {
        let _ = flushed.recv_timeout(FLUSH_DEADLINE);
    }
}

/// Logs panics like other errors. A panic in the main thread ends the process at once, because unwinding would wait for
/// threads that may be blocked.
pub fn set_panic_hook() {
    let default_hook = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if dropped::is_set() {
            let text = panic.payload_as_str().unwrap_or_default();
            let at = panic.location().map(ToString::to_string).unwrap_or_default();
            let thread = thread::current().name().unwrap_or_default().to_owned();
            tracing::error!(thread, at, "a bug: panic: {text}");
        } else {
            default_hook(panic);
        }
        if thread::current().name() == Some("main") {
            flush();
            #[expect(clippy::exit, reason = "unwinding may block")]
            std::process::exit(101);
        }
    }));
}
