//! One reading of the machine's clocks, with one type per clock.
//! Ages come from a clock that nobody can set and that goes on while the machine is suspended;
//! the wall clock is only ever shown, never subtracted. Depends on neither polls nor metrics.

use std::{
    ops::Add,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// A point in time on all clocks, as [`Clock::now`] read them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timestamp {
    /// The time on the clock that nobody can set. Only this is good for ages.
    pub monotonic: MonotonicTime,
    /// The time on the clock of timers. Compare it with their deadlines.
    pub uptime: Uptime,
    /// The time on the wall clock, which may jump.
    pub unix: UnixTime,
}

impl Timestamp {
    /// How long before `now` this was; zero if it was not before.
    #[must_use]
    pub fn age(self, now: Timestamp) -> Duration {
        now.monotonic.saturating_duration_since(self.monotonic)
    }

    /// The time `time` later, if nobody sets the wall clock until then.
    #[must_use]
    pub fn later(self, time: Duration) -> Timestamp {
        Self { monotonic: self.monotonic + time, uptime: self.uptime + time, unix: self.unix + time }
    }
}

/// A point in time on a clock that nobody can set and that goes on while the machine is suspended. Times compare if
/// they come from copies of one [`Clock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MonotonicTime(Duration);

impl MonotonicTime {
    /// The start of the [`Clock`], which is the earliest time.
    pub const START: Self = Self(Duration::ZERO);

    /// The time from `earlier` to this; zero if `earlier` is later.
    #[must_use]
    pub fn saturating_duration_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Saturates: a time that is too late to be represented is the latest time.
impl Add<Duration> for MonotonicTime {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }
}

/// A point in time on the clock of timers, which stands still while the machine is suspended. Times compare if they
/// come from copies of one [`Clock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uptime(Duration);

impl Uptime {
    /// The start of the [`Clock`], which is the earliest time.
    pub const START: Self = Self(Duration::ZERO);

    /// The time from `earlier` to this; `None` if `earlier` is later.
    #[must_use]
    pub fn checked_duration_since(self, earlier: Self) -> Option<Duration> {
        self.0.checked_sub(earlier.0)
    }
}

/// Saturates: a time that is too late to be represented is the latest time.
impl Add<Duration> for Uptime {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }
}

/// A point in time on a wall clock, this machine's or another's: the time since the Unix epoch. Any clock may be set,
/// so a difference of two such times is no age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixTime(Duration);

impl UnixTime {
    /// The Unix epoch, which is the earliest time.
    pub const EPOCH: Self = Self(Duration::ZERO);

    /// The time `seconds` after the Unix epoch.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The time `milliseconds` after the Unix epoch.
    #[must_use]
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// `time` as a Unix time; `None` if it is before the Unix epoch.
    #[must_use]
    pub fn from_system_time(time: SystemTime) -> Option<Self> {
        time.duration_since(UNIX_EPOCH).ok().map(Self)
    }

    /// Whole seconds since the Unix epoch.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0.as_secs()
    }

    /// Seconds since the Unix epoch.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        self.0.as_secs_f64()
    }

    /// Whole milliseconds since the Unix epoch; `u64::MAX` if there are more.
    #[must_use]
    pub fn as_millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }

    /// The time from `earlier` to this; zero if `earlier` is later.
    #[must_use]
    pub fn saturating_duration_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The time from `earlier` to this; `None` if `earlier` is later.
    #[must_use]
    pub fn checked_duration_since(self, earlier: Self) -> Option<Duration> {
        self.0.checked_sub(earlier.0)
    }

    /// The time between this and `other`, whichever is later.
    #[must_use]
    pub fn abs_diff(self, other: Self) -> Duration {
        self.0.abs_diff(other.0)
    }

    /// The time `time` earlier; the Unix epoch if that would be before it.
    #[must_use]
    pub fn saturating_sub(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(time))
    }
}

/// Saturates: a time that is too late to be represented is the latest time.
impl Add<Duration> for UnixTime {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }
}

impl From<UnixTime> for SystemTime {
    fn from(time: UnixTime) -> Self {
        UNIX_EPOCH + time.0
    }
}

/// The source of every [`Timestamp`]. Copies share one start, so their readings compare.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    suspended: Duration,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self { started: Instant::now(), suspended: suspended() }
    }

    /// Reads the clocks.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let asleep = suspended().saturating_sub(self.suspended);
        let awake = self.started.elapsed();
        Timestamp {
            monotonic: MonotonicTime(awake + asleep),
            uptime: Uptime(awake),
            // A wall clock that is set to a time before the epoch shows the epoch.
            unix: UnixTime::from_system_time(SystemTime::now()).unwrap_or(UnixTime::EPOCH),
        }
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

/// Simulated times, and a simulated suspension for the clocks of the test's own thread.
#[cfg(test)]
pub(crate) mod simulated {
    use std::{cell::Cell, time::Duration};

    use super::{MonotonicTime, Timestamp, UnixTime, Uptime};

    thread_local! {
        static ASLEEP: Cell<Option<Duration>> = const { Cell::new(None) };
    }

    /// The time `seconds` after the start of a clock, which started at the Unix time 1,700,000,000.
    pub(crate) fn at(seconds: u64) -> Timestamp {
        let unix = UnixTime::from_secs(1_700_000_000);
        let start = Timestamp { monotonic: MonotonicTime::START, uptime: Uptime::START, unix };
        start.later(Duration::from_secs(seconds))
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
    async fn monotonic_time_follows_the_clock_and_not_the_wall() {
        let clock = Clock::start();
        let before = clock.now();
        tokio::time::advance(Duration::from_secs(90)).await;
        let age = before.age(clock.now());
        assert!(age >= Duration::from_secs(90) && age < Duration::from_secs(91), "{age:?}");
    }

    #[test]
    fn a_moment_in_the_future_has_no_age() {
        let moment = |elapsed, unix| {
            let elapsed = Duration::from_secs(elapsed);
            Timestamp {
                monotonic: MonotonicTime(elapsed),
                uptime: Uptime(elapsed),
                unix: UnixTime::from_secs(unix),
            }
        };
        let (early, late) = (moment(1, 50), moment(2, 0));
        assert_eq!(late.age(early), Duration::ZERO);
        assert_eq!(early.age(late), Duration::from_secs(1));
    }
}
