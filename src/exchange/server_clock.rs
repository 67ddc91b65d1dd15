//! The exchange's clock, one per host. Between two readings it continues with this machine's monotonic clock, so that a
//! jump of the wall clock changes no nonce.
//! Pure: decides when a reading is due and whether it is plausible, and keeps it.

use std::time::Duration;

use crate::clock::{MonotonicTime, Timestamp, UnixTime};

/// How long a reading is valid.
const VALID_FOR: Duration = Duration::from_hours(1);
/// The time from a failed reading to the next.
const RETRY_AFTER: Duration = Duration::from_mins(5);
/// Refused calls request a new reading at most once in this time.
const RECHECK_AFTER: Duration = Duration::from_secs(30);
/// A reading that differs by more than this from the expected time must be confirmed by another one.
const LARGE_DIFFERENCE: Duration = Duration::from_secs(2);

/// The time from an unexpected reading to the one that must confirm it: long enough for a clock to advance.
pub(super) const CONFIRM_AFTER: Duration = Duration::from_millis(20);
/// `Date` has a resolution of a second.
const DATE_STEP: Duration = Duration::from_secs(1);

/// A clock that differs by more than this, and by more than the uncertainty of both readings, explains a refused call:
/// timestamps have little more room ([`SIGNING_LAG`]).
const CLOCK_STEP: Duration = Duration::from_millis(200);

/// Timestamps are this far behind the exchange's estimated time, because this machine's clock may drift between two
/// readings. The exchange refused a request that was 58 ms ahead, and accepts one that is 5 s old.
const SIGNING_LAG: Duration = Duration::from_millis(500);
/// The largest uncertainty of a slow reading that is taken into account.
const UNCERTAINTY_MAX: Duration = Duration::from_secs(2);

/// The clock of a host.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ServerClock {
    reading: Option<ClockReading>,
    /// When the next reading is due; `None` if at once.
    due: Option<MonotonicTime>,
    /// When a refused call last requested a reading.
    rechecked: Option<MonotonicTime>,
}

/// A reading of a host's clock: the host's time, and the time of this machine at that moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClockReading {
    /// The host's time.
    server: UnixTime,
    ours: Timestamp,
    /// The uncertainty: the exchange may have read its clock at either end of the call.
    unsure: Duration,
    /// The reply's `Date`. The web server in front of the exchange may have a clock of its own.
    date: Option<UnixTime>,
}

impl ClockReading {
    /// A reading of `server_ms`, in Unix milliseconds, from a call between `sent` and `received`.
    #[must_use]
    pub fn new(server_ms: u64, sent: Timestamp, received: Timestamp) -> Self {
        let unsure = sent.age(received) / 2;
        Self { server: UnixTime::from_millis(server_ms), ours: sent.later(unsure), unsure, date: None }
    }

    /// Adds the reply's `Date`.
    #[must_use]
    pub(super) fn with_date(self, date: Option<UnixTime>) -> Self {
        Self { date, ..self }
    }

    /// The expected `Date` of a reply at `now`, according to the last reading.
    #[must_use]
    pub(super) fn expected_date(&self, now: Timestamp) -> UnixTime {
        self.date.map_or_else(|| self.time(now), |date| date + self.ours.age(now))
    }

    /// The host's time at `now`.
    #[must_use]
    pub fn time(&self, now: Timestamp) -> UnixTime {
        self.server + self.ours.age(now)
    }

    /// The host's clock minus this machine's wall clock at `now`, in seconds, also after somebody set the wall clock.
    #[must_use]
    pub fn skew_seconds(&self, now: Timestamp) -> f64 {
        // Adding zero turns -0 into 0.
        self.time(now).as_secs_f64() - now.unix.as_secs_f64() + 0.0
    }

    /// Whether the readings differ by more than their uncertainty.
    fn is_far_from(&self, other: &Self) -> bool {
        let (early, late) =
            if self.ours.monotonic < other.ours.monotonic { (self, other) } else { (other, self) };
        early.time(late.ours).abs_diff(late.server) > LARGE_DIFFERENCE + early.unsure + late.unsure
    }
}

impl ServerClock {
    /// Whether a reading is due before the next call.
    #[must_use]
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.due.is_none_or(|due| now.monotonic >= due)
    }

    /// The last reading; `None` before the first.
    #[must_use]
    pub(super) fn reading(&self) -> Option<ClockReading> {
        self.reading
    }

    /// Whether `reading` is far from the time expected from the last reading, or from this machine's clock, so that
    /// another reading must confirm it. The same holds for an unexpected `Date`, because a cache may have kept the
    /// reply.
    #[must_use]
    pub(super) fn contradicts(&self, reading: &ClockReading) -> bool {
        let ours = ClockReading {
            server: reading.ours.unix,
            ours: reading.ours,
            unsure: Duration::ZERO,
            date: None,
        };
        let last = self.reading.unwrap_or(ours);
        let expected_date = last.expected_date(reading.ours);
        let is_date_far =
            |date: UnixTime| date.abs_diff(expected_date) > LARGE_DIFFERENCE + DATE_STEP + reading.unsure;
        reading.is_far_from(&last) || reading.date.is_some_and(is_date_far)
    }

    /// Whether `second`, which was taken because `first` was unexpected, can be used: it is expected, or it agrees with
    /// `first`. If both show the same time, the clock stands still, because something in between kept the reply.
    #[must_use]
    pub(super) fn is_confirmed_by(&self, first: &ClockReading, second: &ClockReading) -> bool {
        let agrees = !second.is_far_from(first) && second.server > first.server;
        !self.contradicts(second) || agrees
    }

    /// Stores a reading that was taken before `now`.
    pub(super) fn store(&mut self, reading: ClockReading, now: Timestamp) {
        self.reading = Some(reading);
        self.due = Some(now.monotonic + VALID_FOR);
    }

    /// Records a failed reading. The last one stays in use until the next.
    pub(super) fn record_failure(&mut self, now: Timestamp) {
        self.due = Some(now.monotonic + RETRY_AFTER);
    }

    /// Requests a reading because a call was refused, unless a refused call did so a short time ago. Returns whether it
    /// did.
    pub(super) fn request_recheck(&mut self, now: Timestamp) -> bool {
        let is_allowed =
            self.rechecked.is_none_or(|last| now.monotonic.saturating_duration_since(last) >= RECHECK_AFTER);
        if is_allowed {
            self.rechecked = Some(now.monotonic);
            self.due = None;
        }
        is_allowed
    }

    /// Whether `self` and `earlier` show different times at `now`.
    #[must_use]
    pub(super) fn has_moved_since(&self, earlier: &Self, now: Timestamp) -> bool {
        let unsure = |clock: &Self| clock.reading.map_or(Duration::ZERO, |reading| reading.unsure);
        self.time(now).abs_diff(earlier.time(now)) > CLOCK_STEP + unsure(self) + unsure(earlier)
    }

    /// The exchange's time in Unix milliseconds; this machine's time before the first reading.
    #[must_use]
    pub(super) fn time_ms(&self, now: Timestamp) -> u64 {
        self.time(now).as_millis()
    }

    /// A time that the exchange's clock has already reached, in Unix milliseconds: requests may arrive late, but not
    /// early.
    #[must_use]
    pub(super) fn signing_time_ms(&self, now: Timestamp) -> u64 {
        let unsure = self.reading.map_or(Duration::ZERO, |reading| reading.unsure.min(UNCERTAINTY_MAX));
        self.time(now).saturating_sub(unsure + SIGNING_LAG).as_millis()
    }

    fn time(&self, now: Timestamp) -> UnixTime {
        self.reading.map_or(now.unix, |reading| reading.time(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Uptime;

    fn timestamp(elapsed_ms: u64, unix_ms: u64) -> Timestamp {
        let elapsed = Duration::from_millis(elapsed_ms);
        Timestamp {
            monotonic: MonotonicTime::START + elapsed,
            uptime: Uptime::START + elapsed,
            unix: UnixTime::from_millis(unix_ms),
        }
    }

    /// A clock with a reading of `server_ms` from a call between `sent` and `received`. This machine's clock is right.
    fn clock_with_reading(server_ms: u64, sent: u64, received: u64) -> ServerClock {
        let mut clock = ServerClock::default();
        let received = timestamp(received, received);
        clock.store(ClockReading::new(server_ms, timestamp(sent, sent), received), received);
        clock
    }

    #[test]
    fn the_time_was_read_halfway_through_the_call() {
        assert_eq!(
            ServerClock::default().time_ms(timestamp(0, 1_700)),
            1_700,
            "this machine's time before the first reading"
        );
        assert_eq!(clock_with_reading(91_500, 1_000, 2_000).time_ms(timestamp(2_000, 2_000)), 92_000);
    }

    #[test]
    fn the_skew_follows_the_wall_clock() {
        let reading = ClockReading::new(91_500, timestamp(1_000, 1_000), timestamp(2_000, 2_000));
        for (now, skew) in [
            (timestamp(2_000, 2_000), 90.0),
            (timestamp(5_000, 5_000), 90.0),
            (timestamp(5_000, 3_605_000), -3_510.0),
            (timestamp(5_000, 95_000), 0.0),
            (timestamp(28_802_000, 28_802_000), 90.0),
        ] {
            let actual = reading.skew_seconds(now);
            assert!((actual - skew).abs() < 1e-6, "{actual} at {now:?}");
            assert!(actual != 0.0 || actual.is_sign_positive(), "no -0");
        }
    }

    #[test]
    fn the_date_of_a_reply_is_compared_with_the_clock_that_writes_dates() {
        let at = timestamp(1_000, 1_000);
        let reading = ClockReading::new(91_500, at, at);
        assert_eq!(reading.expected_date(timestamp(2_000, 0)), UnixTime::from_millis(92_500));
        let dated = reading.with_date(Some(UnixTime::from_secs(4)));
        assert_eq!(dated.expected_date(timestamp(2_000, 0)), UnixTime::from_secs(5));
    }

    #[test]
    fn the_signing_time_is_in_the_past_wherever_in_the_call_the_clock_was_read() {
        assert_eq!(ServerClock::default().signing_time_ms(timestamp(0, 1_700)), 1_200);
        // The exchange read its clock when the call began. It is now 92 000 there.
        let early = clock_with_reading(91_000, 1_000, 2_000);
        assert_eq!(early.signing_time_ms(timestamp(2_000, 2_000)), 90_500);
        // The exchange read its clock when the call ended. It is now 92 000 there.
        let late = clock_with_reading(92_000, 1_000, 2_000);
        assert_eq!(late.signing_time_ms(timestamp(2_000, 2_000)), 91_500);
        assert_eq!(
            clock_with_reading(99_000, 0, 9_000).signing_time_ms(timestamp(9_000, 9_000)),
            101_000,
            "the uncertainty is limited"
        );
    }

    #[test]
    fn a_jump_of_the_wall_clock_does_not_change_the_time() {
        let clock = clock_with_reading(50_000, 0, 0);
        assert_eq!(clock.time_ms(timestamp(5_000, 9_999_999)), 55_000);
        assert_eq!(clock.time_ms(timestamp(6_000, 0)), 56_000);
    }

    #[test]
    fn an_unexpected_reading_must_be_confirmed() {
        let reading = |server_ms, sent| {
            ClockReading::new(server_ms, timestamp(sent, sent), timestamp(sent + 100, sent + 100))
        };
        for clock in [ServerClock::default(), clock_with_reading(10_000, 10_000, 10_000)] {
            assert!(!clock.contradicts(&reading(21_900, 20_000)), "the difference is small");
            let wrong = reading(620_000, 20_000);
            assert!(clock.contradicts(&wrong));
            assert!(
                clock.is_confirmed_by(&wrong, &reading(20_150, 20_100)),
                "the second reading is expected"
            );
            assert!(clock.is_confirmed_by(&wrong, &reading(620_150, 20_100)), "both readings agree");
            assert!(!clock.is_confirmed_by(&wrong, &reading(90_000, 20_100)), "no two readings agree");
            assert!(
                !clock.is_confirmed_by(&wrong, &reading(620_000, 20_100)),
                "the same time twice: a cached reply"
            );
        }
        let cached = ClockReading::new(20_000, timestamp(20_000, 20_000), timestamp(20_000, 20_000));
        assert!(!ServerClock::default().contradicts(&cached.with_date(Some(UnixTime::from_secs(20)))));
        assert!(ServerClock::default().contradicts(&cached.with_date(Some(UnixTime::from_secs(10)))));
        let slow = ClockReading::new(15_000, timestamp(0, 0), timestamp(20_000, 20_000));
        assert!(!ServerClock::default().contradicts(&slow), "a slow call has a large uncertainty");
    }

    #[test]
    fn a_reading_is_due_at_first_then_hourly_and_at_most_every_30_seconds_after_refusals() {
        let mut clock = ServerClock::default();
        assert!(clock.is_due(timestamp(0, 0)));
        clock.record_failure(timestamp(0, 0));
        assert!(!clock.is_due(timestamp(299_999, 0)) && clock.is_due(timestamp(300_000, 0)));
        let at = timestamp(300_000, 300_000);
        clock.store(ClockReading::new(0, at, at), at);
        assert!(!clock.is_due(timestamp(3_899_999, 0)) && clock.is_due(timestamp(3_900_000, 0)));
        assert!(clock.request_recheck(timestamp(300_001, 0)) && clock.is_due(timestamp(300_001, 0)));
        clock.store(ClockReading::new(0, at, at), at);
        assert!(!clock.request_recheck(timestamp(330_000, 0)) && !clock.is_due(timestamp(330_000, 0)));
        assert!(clock.request_recheck(timestamp(330_001, 0)));
    }

    #[test]
    fn a_clock_has_moved_if_its_time_differs_by_more_than_the_uncertainty() {
        let now = timestamp(2_000, 2_000);
        assert!(!clock_with_reading(2_200, 0, 0).has_moved_since(&clock_with_reading(2_000, 0, 0), now));
        assert!(
            clock_with_reading(2_900, 0, 0).has_moved_since(&clock_with_reading(2_000, 0, 0), now),
            "more than a timestamp may differ"
        );
        assert!(
            !clock_with_reading(2_900, 0, 1_000).has_moved_since(&clock_with_reading(2_000, 0, 1_000), now),
            "within the uncertainty"
        );
        assert!(clock_with_reading(602_000, 0, 0).has_moved_since(&clock_with_reading(2_000, 0, 0), now));
        assert!(clock_with_reading(602_000, 0, 0).has_moved_since(&ServerClock::default(), now));
    }
}
