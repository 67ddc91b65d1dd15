//! The schedule of a poller: a grid of slots. Skipped slots are not made up for, because that would be a burst.
//! Knows neither accounts nor prices.

use std::time::Duration;

use super::PollContext;
use crate::{
    clock::{Clock, MonotonicTime, Timestamp},
    exchange::Paused,
};

/// A poller that wakes up later than this after its slot skips the slot.
const LATE_WAKE_UP: Duration = Duration::from_secs(1);
/// A machine that is always late polls nevertheless, after this many skipped slots in a row.
const MAX_SKIPPED_SLOTS: u32 = 5;
/// A sleeping poller looks at the clock again after this time, because timers stand still while the machine is suspended.
const SLEEP_MAX: Duration = Duration::from_secs(4);
/// The longest time that a poll takes in addition to its calls: two reads of balances and one of positions may each wait a
/// minute for a permit.
const PERMIT_WAIT_MAX: Duration = Duration::from_secs(195);

/// When polls are due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    first: MonotonicTime,
    /// The time between two slots.
    slot_length: Duration,
    /// How long a poller counts as alive after a heartbeat: two intervals and a timeout.
    pub(super) heartbeat_life: Duration,
    /// The longest time that a poll can take.
    pub(super) poll_max: Duration,
}

/// When a poller polls next.
#[derive(Clone, Copy, Debug)]
pub struct NextPoll {
    /// When the poll begins.
    pub(super) due: MonotonicTime,
    /// Its slot on the grid, which is `due` without the jitter.
    pub(super) slot: MonotonicTime,
}

enum WakeUp {
    /// Before the slot.
    Early,
    InTime,
    Late(MonotonicTime),
}

impl Schedule {
    pub(super) fn new(
        first: MonotonicTime,
        slot_length: Duration,
        interval: Duration,
        timeout: Duration,
    ) -> Self {
        Self {
            first,
            slot_length,
            heartbeat_life: 2 * interval + timeout,
            poll_max: timeout + PERMIT_WAIT_MAX,
        }
    }

    /// The first slot after `now`, plus a jitter of up to a tenth of a slot: `random` is from 0 to 1.
    pub(super) fn next(self, now: MonotonicTime, random: f64) -> MonotonicTime {
        let slot = self.slot_length.max(Duration::from_millis(1));
        let passed = now.saturating_duration_since(self.first).as_nanos() / slot.as_nanos();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        let jitter = slot.mul_f64(random.clamp(0.0, 1.0) / 10.0).min(Duration::from_secs(1));
        self.first + slot * (passed + u32::from(now >= self.first)) + jitter
    }

    /// The slot that a poll at `time` belongs to.
    pub(super) fn slot_of(self, time: MonotonicTime) -> MonotonicTime {
        let slot = self.slot_length.max(Duration::from_millis(1));
        let passed = time.saturating_duration_since(self.first).as_nanos() / slot.as_nanos();
        self.first + slot * u32::try_from(passed).unwrap_or(u32::MAX)
    }

    /// Waits until a poll is due and no pause is active. Calls `publish` with the current time and the time of the next
    /// poll, often enough for a heartbeat.
    pub(super) async fn wait_until(
        self,
        due: MonotonicTime,
        context: &PollContext,
        pause: impl Fn() -> Option<Paused>,
        publish: impl Fn(Timestamp, MonotonicTime),
    ) {
        let PollContext { exchange, clock, .. } = context;
        let mut due = due;
        let mut skipped = 0;
        loop {
            let pause_began = exchange.wait_for_pause();
            let now = clock.now();
            if let Some(paused) = pause() {
                // All accounts may be paused until the same time: each resumes in its own slot.
                due = due.max(self.next(paused.until, 0.0));
            }
            publish(now, due.max(now.monotonic));
            tokio::select! {
                biased;
                () = pause_began => {}
                wake_up = self.sleep(due, *clock) => match wake_up {
                    WakeUp::Early => {}
                    WakeUp::Late(now) if skipped < MAX_SKIPPED_SLOTS => {
                        skipped += 1;
                        due = self.next(now, fastrand::f64());
                    }
                    WakeUp::InTime | WakeUp::Late(_) => return,
                },
            }
        }
    }

    /// Sleeps until `due`, or for a part of that time. A poller that wakes up late skips its slot: after the machine
    /// was suspended all pollers are late at once.
    async fn sleep(self, due: MonotonicTime, clock: Clock) -> WakeUp {
        let now = clock.now().monotonic;
        match due.saturating_duration_since(now) {
            Duration::ZERO if now.saturating_duration_since(due) > self.slot_length.min(LATE_WAKE_UP) => {
                WakeUp::Late(now)
            }
            Duration::ZERO => WakeUp::InTime,
            ahead => {
                tokio::time::sleep(ahead.min(self.heartbeat_life / 2).min(SLEEP_MAX)).await;
                WakeUp::Early
            }
        }
    }
}

/// The first of `due`, `due + interval`, `due + 2 * interval` and so on that is not before `earliest`.
pub(super) fn first_slot_from(
    due: MonotonicTime,
    interval: Duration,
    earliest: MonotonicTime,
) -> MonotonicTime {
    let intervals = earliest.saturating_duration_since(due).as_nanos().div_ceil(interval.as_nanos().max(1));
    due + interval * u32::try_from(intervals).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(seconds: u64) -> MonotonicTime {
        MonotonicTime::START + Duration::from_secs(seconds)
    }

    #[test]
    fn the_next_poll_is_in_the_first_slot_that_is_allowed() {
        for (earliest, expected) in [(0, 40), (40, 40), (41, 70), (100, 100), (301, 310)] {
            let next = first_slot_from(time(40), Duration::from_secs(30), time(earliest));
            assert_eq!(next, time(expected), "{earliest}");
        }
    }

    #[test]
    fn slots_are_on_a_grid_and_skipped_ones_are_not_made_up_for() {
        let seconds = Duration::from_secs;
        let schedule = Schedule::new(time(7), seconds(10), seconds(10), seconds(5));
        for (now, expected) in [(0, 7), (6, 7), (7, 17), (16, 17), (17, 27), (60, 67)] {
            assert_eq!(schedule.next(time(now), 0.0), time(expected), "after {now}");
        }
        let late = schedule.next(time(8), 1.0);
        assert_eq!(late, time(18), "the jitter is at most a tenth of a slot");
        assert_eq!(schedule.next(late, 0.0), time(27), "the jitter moves no later slot");
        assert_eq!([6, 7, 16, 17, 18].map(|at| schedule.slot_of(time(at))), [7, 7, 7, 17, 17].map(time));
        let slow = Schedule::new(MonotonicTime::START, seconds(3_600), seconds(3_600), seconds(5));
        assert_eq!(slow.next(time(1), 1.0), time(3_601), "the jitter is at most a second");
    }
}
