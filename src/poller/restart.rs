//! A poller that panics is started again: a bug that one answer meets is no reason to leave an account unwatched.
//! Knows no poller.

use std::{any::Any, convert::Infallible, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::Instant;

/// The pause after the first panic; it doubles with each that follows soon.
const DELAY_MIN: Duration = Duration::from_secs(1);
const DELAY_MAX: Duration = Duration::from_mins(5);
/// A poller that has run for so long is no longer held to what it did before.
const RESET_AFTER: Duration = Duration::from_mins(10);

/// How often a poller was started again, and how long it waits before the next start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Restarts {
    /// Since the process started.
    pub count: u64,
    delay: Duration,
}

/// Runs `work` until it panics, if ever; returns for how long it ran and what it said.
pub(super) async fn until_panic(work: impl Future<Output = Infallible>) -> (Duration, String) {
    let began = Instant::now();
    match AssertUnwindSafe(Box::pin(work)).catch_unwind().await {
        Ok(never) => match never {},
        Err(payload) => (began.elapsed(), text(&*payload)),
    }
}

impl Restarts {
    /// Counts a panic after the poller `ran`; returns how long to wait before the next start.
    pub(super) fn after_panic(&mut self, ran: Duration) -> Duration {
        self.count += 1;
        let is_calm = self.delay.is_zero() || ran >= RESET_AFTER;
        self.delay = if is_calm { DELAY_MIN } else { (self.delay * 2).min(DELAY_MAX) };
        self.delay
    }
}

fn text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_before_a_restart_doubles_up_to_five_minutes_and_begins_again_after_a_calm_time() {
        let mut restarts = Restarts::default();
        let soon = Duration::from_secs(1);
        let delays: Vec<_> = (0..11).map(|_| restarts.after_panic(soon).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(restarts.after_panic(RESET_AFTER), DELAY_MIN);
        assert_eq!(restarts.count, 12);
    }

    #[tokio::test]
    async fn a_panic_is_caught_with_its_text() {
        let (_, text) = until_panic(async { panic!("a bug, as a test wants {}", "it") }).await;
        assert_eq!(text, "a bug, as a test wants it");
    }
}
