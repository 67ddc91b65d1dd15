//! Logs: to standard error, as logfmt or JSON, by a writer of their own. Who logs never waits: lines that do not
//! fit, because nobody reads standard error, are dropped and counted. Libraries that handle requests say nothing
//! below info, whatever is asked for: they would print what a request carries.

use std::{
    io, panic,
    sync::{Mutex, OnceLock, PoisonError, mpsc},
    thread,
    time::Duration,
};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::{Layer as _, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

use crate::cli::{LogFlags, LogFormat, LogLevel};

/// Lines that wait for the writer; further ones are dropped.
const WAITING_LINES_MAX: usize = 4_096;
/// How long the end of the process waits for the writer.
const FLUSH_DEADLINE: Duration = Duration::from_secs(1);

/// Counts dropped lines, once logging is set up.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();
/// Ends the writer when it is dropped.
static WRITER: Mutex<Option<WorkerGuard>> = Mutex::new(None);

/// Sets up logging for the process. A second call changes nothing.
///
/// # Panics
/// If the system has no thread for the writer.
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
    let writer = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING_LINES_MAX);
    let (stderr, guard) = writer.thread_name("log").finish(io::stderr());
    let dropped = stderr.error_counter();
    let lines = match flags.format {
        LogFormat::Logfmt => tracing_logfmt::builder().with_target(false).layer().with_writer(stderr).boxed(),
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_target(false)
            .with_writer(stderr)
            .boxed(),
    };
    if tracing_subscriber::registry().with(lines.with_filter(levels)).try_init().is_ok() {
        let _ = DROPPED.set(dropped);
        *WRITER.lock().unwrap_or_else(PoisonError::into_inner) = Some(guard);
    }
}

/// Lines that were dropped since the start, because nobody read standard error.
#[must_use]
pub fn dropped_lines() -> u64 {
    DROPPED.get().map_or(0, |dropped| dropped.dropped_lines() as u64)
}

/// Ends the writer once it has written the lines that wait, or after a second. Later lines are lost.
pub fn flush() {
    let Some(guard) = WRITER.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
    // The guard may block for longer where nobody reads, so it is dropped elsewhere.
    let (done, flushed) = mpsc::channel::<()>();
    let dropping = thread::Builder::new().name("log flush".to_owned()).spawn(move || {
        drop(guard);
        drop(done);
    });
    if dropping.is_ok() {
        let _ = flushed.recv_timeout(FLUSH_DEADLINE);
    }
}

/// Has panics logged like other errors, and lets one in the main thread end the process: unwinding would wait for
/// threads that may never end.
pub fn set_panic_hook() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if DROPPED.get().is_some() {
            let text = panic.payload_as_str().unwrap_or_default();
            let at = panic.location().map(ToString::to_string).unwrap_or_default();
            let thread = thread::current().name().unwrap_or_default().to_owned();
            tracing::error!(thread, at, "a bug: panic: {text}");
        } else {
            usual(panic);
        }
        if thread::current().name() == Some("main") {
            flush();
            #[expect(clippy::exit, reason = "unwinding may never end")]
            std::process::exit(101);
        }
    }));
}
