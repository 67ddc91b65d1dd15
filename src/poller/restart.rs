//! Restarts a poller that panicked, so that one bug does not stop the polls of an account. Depends on no poller.

use std::{any::Any, convert::Infallible, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::Instant;

/// The delay after the first panic. It doubles with each panic that follows soon.
const DELAY_MIN: Duration = Duration::from_secs(1);
const DELAY_MAX: Duration = Duration::from_mins(5);
/// After this run time, the delay starts at the minimum again.
const RESET_AFTER: Duration = Duration::from_mins(10);

/// The number of restarts of a poller, and the delay before the next one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Restarts {
    /// Since the process started.
    pub count: u64,
    delay: Duration,
}

/// Runs `work` until it panics, if ever. Returns the run time and the panic message.
pub(super) async fn run_until_panic(work: impl Future<Output = Infallible>) -> (Duration, String) {
    let began = Instant::now();
    match AssertUnwindSafe(Box::pin(work)).catch_unwind().await {
        Ok(never) => match never {},
        Err(payload) => (began.elapsed(), panic_message(&*payload)),
    }
}

impl Restarts {
    /// Counts a panic after the run time `ran`. Returns the delay before the restart.
    pub(super) fn record_panic(&mut self, ran: Duration) -> Duration {
        self.count += 1;
        let is_first = self.delay.is_zero() || ran >= RESET_AFTER;
        self.delay = if is_first { DELAY_MIN } else { (self.delay * 2).min(DELAY_MAX) };
        self.delay
    }
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_up_to_five_minutes_and_starts_again_after_a_long_run() {
        let mut restarts = Restarts::default();
        let soon = Duration::from_secs(1);
        let delays: Vec<_> = (0..11).map(|_| restarts.record_panic(soon).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(restarts.record_panic(RESET_AFTER), DELAY_MIN);
        assert_eq!(restarts.count, 12);
    }

    #[tokio::test]
    async fn a_panic_is_caught_with_its_text() {
        let (_, text) = run_until_panic(async { panic!("a bug in answer {}", 7) }).await;
        assert_eq!(text, "a bug in answer 7");
    }
}
