//! One reading of the machine's clocks.
//! Ages come from a clock that nobody can set and that goes on while the machine is suspended;
//! the wall clock is only ever shown, never subtracted. Knows nothing of polls or metrics.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// A point in time on all clocks, as [`Clock::now`] read them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timestamp {
    /// Time since the clock was started, suspended time included. Only this is good for ages.
    pub elapsed: Duration,
    /// Time since the clock was started, without suspended time. Timers use this clock, so compare it with their
    /// deadlines.
    pub uptime: Duration,
    /// Time since the Unix epoch on the wall clock, which may jump.
    pub unix: Duration,
}

impl Timestamp {
    /// How long before `now` this was; zero if it was not before.
    #[must_use]
    pub fn age(self, now: Timestamp) -> Duration {
        now.elapsed.saturating_sub(self.elapsed)
    }

    /// The time `time` later, if nobody sets the wall clock until then.
    #[must_use]
    pub fn later(self, time: Duration) -> Timestamp {
        Self { elapsed: self.elapsed + time, uptime: self.uptime + time, unix: self.unix + time }
    }
}

/// The source of every [`Timestamp`]. Copies share one start, so their readings compare.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    suspended: Duration,
}

impl Clock {
    /// A clock whose `elapsed` begins now.
    #[must_use]
    pub fn start() -> Self {
        Self { started: Instant::now(), suspended: suspended() }
    }

    /// Reads the clocks.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let asleep = suspended().saturating_sub(self.suspended);
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let awake = self.started.elapsed();
        Timestamp { elapsed: awake + asleep, uptime: awake, unix }
    }
}

/// How long the machine has been suspended since it booted. The monotonic clock stands still during that time, so without
/// this a balance from before the suspension would look new.
fn suspended() -> Duration {
    #[cfg(test)]
    if let Some(asleep) = simulated::asleep() {
        return asleep;
    }
    let read = |id| {
        let time = clock_gettime(id);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
    };
    // Read in this order the difference can only come out too small, by the time between the reads.
    let boot = read(ClockId::Boottime);
    boot.saturating_sub(read(ClockId::Monotonic))
}

/// A simulated suspension, for the clocks of the test's own thread.
#[cfg(test)]
pub(crate) mod simulated {
    use std::{cell::Cell, time::Duration};

    thread_local! {
        static ASLEEP: Cell<Option<Duration>> = const { Cell::new(None) };
    }

    /// From now on, only [`suspend`] suspends this machine.
    pub(crate) fn start() {
        ASLEEP.set(Some(Duration::ZERO));
    }

    /// Suspends the machine for `time`, during which no timer moves.
    pub(crate) fn suspend(time: Duration) {
        ASLEEP.set(ASLEEP.get().map(|before| before + time));
    }

    pub(crate) fn asleep() -> Option<Duration> {
        ASLEEP.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_suspended_machine_grows_older_while_its_timers_stand_still() {
        simulated::start();
        let clock = Clock::start();
        let before = clock.now();
        simulated::suspend(Duration::from_hours(8));
        let after = clock.now();
        assert_eq!(before.age(after), Duration::from_hours(8));
        assert_eq!(after.uptime, before.uptime);
    }

    #[tokio::test(start_paused = true)]
    async fn elapsed_follows_the_clock_and_not_the_wall() {
        let clock = Clock::start();
        let before = clock.now();
        tokio::time::advance(Duration::from_secs(90)).await;
        let age = before.age(clock.now());
        assert!(age >= Duration::from_secs(90) && age < Duration::from_secs(91), "{age:?}");
    }

    #[test]
    fn a_moment_in_the_future_has_no_age() {
        let moment = |elapsed, unix| {
            let [elapsed, unix] = [elapsed, unix].map(Duration::from_secs);
            Timestamp { elapsed, uptime: elapsed, unix }
        };
        let (early, late) = (moment(1, 50), moment(2, 0));
        assert_eq!(late.age(early), Duration::ZERO);
        assert_eq!(early.age(late), Duration::from_secs(1));
    }
}
