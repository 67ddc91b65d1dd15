//! When to wake, so that it is done seldom: a machine that has nothing else to do spends about as much on
//! waking up as on half a poll. Tokio keeps timers in a wheel. For one that is due in the middle of 64 ms, or of
//! 4.096 s, it also wakes at their beginning, only to put it where single milliseconds count.
//! Pure.

use std::time::Duration;

use tokio::time::Instant;

/// The steps of the wheel. Were they others, sleepers would be woken more often, and no later.
const STEP: Duration = Duration::from_millis(64);
const LONG_STEP: Duration = Duration::from_millis(64 * 64);

/// The moments at which the timers of a runtime end without having woken it before.
#[derive(Clone, Copy, Debug)]
pub struct Ticks {
    began: Instant,
}

impl Ticks {
    /// Those of the runtime that is built next. It may begin up to a millisecond later: to that its timers are
    /// rounded up.
    #[must_use]
    pub fn begin() -> Self {
        Self { began: Instant::now() }
    }

    /// Until when to sleep at `now` for what is due `ahead` of it: at most [`STEP`] longer, or on the way
    /// there until one of the moments, [`LONG_STEP`] apart, at which all sleepers look at the clock, since
    /// timers stand still while the machine is suspended.
    pub(super) fn wake(self, now: Instant, ahead: Duration) -> Instant {
        let passed = now.saturating_duration_since(self.began);
        let beyond = |time: Duration, step: Duration| {
            Duration::from_nanos(u64::try_from(time.as_nanos() % step.as_nanos()).unwrap_or_default())
        };
        let due = match beyond(passed + ahead, STEP) {
            Duration::ZERO => now + ahead,
            beyond => now + ahead + STEP.saturating_sub(beyond),
        };
        due.min(now + LONG_STEP.saturating_sub(beyond(passed, LONG_STEP)))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{runtime::Handle, time};

    use super::*;

    #[test]
    fn nobody_wakes_early_or_much_too_late_or_misses_that_the_machine_was_suspended() {
        let ticks = Ticks::begin();
        let millis = Duration::from_millis;
        for passed in [0, 1, 63, 64, 65, 1_000, 4_095, 4_096, 4_097, 300_000_000_003].map(millis) {
            for ahead in [1, 63, 64, 65, 1_000, 4_095, 4_096, 30_000, 86_400_000].map(millis) {
                let wakes = ticks.wake(ticks.began + passed, ahead) - ticks.began;
                let is_look = wakes.as_millis().is_multiple_of(4_096) && wakes <= passed + ahead;
                assert!(wakes > passed && wakes <= passed + LONG_STEP, "{passed:?} {ahead:?} {wakes:?}");
                assert!(is_look || wakes >= passed + ahead, "{passed:?} {ahead:?} {wakes:?}");
                assert!(wakes < passed + ahead + STEP, "{passed:?} {ahead:?} {wakes:?}");
                assert!(wakes.as_millis().is_multiple_of(64), "{passed:?} {ahead:?} {wakes:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_sleeps_until_a_tick_is_woken_less_often() {
        let ticks = Ticks::begin();
        let woken = async |until| {
            let parked = || Handle::current().metrics().worker_park_count(0);
            let before = parked();
            time::sleep_until(until).await;
            parked() - before
        };
        for ahead in [1_000, 1_003, 30_000, 30_000] {
            let ahead = Duration::from_millis(ahead);
            let at_a_tick = woken(ticks.wake(Instant::now(), ahead)).await;
            let at_any_time = woken(Instant::now() + ahead).await;
            assert!(at_a_tick < at_any_time, "{ahead:?}: {at_a_tick} and {at_any_time} times");
        }
    }
}
