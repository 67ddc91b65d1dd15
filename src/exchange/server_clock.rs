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
        let known = self.reading.unwrap_or(ours);
        let expected_date = known.expected_date(reading.ours);
        let is_date_far =
            |date: UnixTime| date.abs_diff(expected_date) > LARGE_DIFFERENCE + DATE_STEP + reading.unsure;
        reading.is_far_from(&known) || reading.date.is_some_and(is_date_far)
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

    fn moment(elapsed_ms: u64, unix_ms: u64) -> Timestamp {
        let elapsed = Duration::from_millis(elapsed_ms);
        Timestamp {
            monotonic: MonotonicTime::START + elapsed,
            uptime: Uptime::START + elapsed,
            unix: UnixTime::from_millis(unix_ms),
        }
    }

    /// A clock that was told `server_ms` by a call from `sent` to `received`, on a machine whose clock is right.
    fn told(server_ms: u64, sent: u64, received: u64) -> ServerClock {
        let mut clock = ServerClock::default();
        let received = moment(received, received);
        clock.store(ClockReading::new(server_ms, moment(sent, sent), received), received);
        clock
    }

    #[test]
    fn the_time_is_taken_halfway_through_the_round_trip() {
        assert_eq!(
            ServerClock::default().time_ms(moment(0, 1_700)),
            1_700,
            "ours, as long as nothing is known"
        );
        assert_eq!(told(91_500, 1_000, 2_000).time_ms(moment(2_000, 2_000)), 92_000);
    }

    #[test]
    fn the_skew_is_that_of_now_whatever_was_done_to_the_machines_clock() {
        let reading = ClockReading::new(91_500, moment(1_000, 1_000), moment(2_000, 2_000));
        for (now, skew) in [
            (moment(2_000, 2_000), 90.0),
            (moment(5_000, 5_000), 90.0),
            (moment(5_000, 3_605_000), -3_510.0),
            (moment(5_000, 95_000), 0.0),
            (moment(28_802_000, 28_802_000), 90.0),
        ] {
            let found = reading.skew_seconds(now);
            assert!((found - skew).abs() < 1e-6, "{found} at {now:?}");
            assert!(found != 0.0 || found.is_sign_positive(), "no -0");
        }
    }

    #[test]
    fn an_answers_date_is_held_against_the_clock_that_writes_dates() {
        let at = moment(1_000, 1_000);
        let reading = ClockReading::new(91_500, at, at);
        assert_eq!(reading.expected_date(moment(2_000, 0)), UnixTime::from_millis(92_500));
        let dated = reading.with_date(Some(UnixTime::from_secs(4)));
        assert_eq!(dated.expected_date(moment(2_000, 0)), UnixTime::from_secs(5));
    }

    #[test]
    fn a_stamp_is_of_the_past_whenever_in_the_call_the_time_was_told() {
        assert_eq!(ServerClock::default().signing_time_ms(moment(0, 1_700)), 1_200);
        // The exchange told its time at the very beginning, and its answer took the second.
        let early = told(91_000, 1_000, 2_000);
        assert_eq!(early.signing_time_ms(moment(2_000, 2_000)), 90_500, "it is 92 000 there");
        // Or at the very end.
        let late = told(92_000, 1_000, 2_000);
        assert_eq!(late.signing_time_ms(moment(2_000, 2_000)), 91_500, "it is 92 000 there");
        assert_eq!(told(99_000, 0, 9_000).signing_time_ms(moment(9_000, 9_000)), 101_000, "within bounds");
    }

    #[test]
    fn a_jump_of_the_wall_clock_changes_nothing() {
        let clock = told(50_000, 0, 0);
        assert_eq!(clock.time_ms(moment(5_000, 9_999_999)), 55_000);
        assert_eq!(clock.time_ms(moment(6_000, 0)), 56_000);
    }

    #[test]
    fn a_reading_far_from_what_was_expected_needs_a_second_one() {
        let reading = |server_ms, sent| {
            ClockReading::new(server_ms, moment(sent, sent), moment(sent + 100, sent + 100))
        };
        for clock in [ServerClock::default(), told(10_000, 10_000, 10_000)] {
            assert!(!clock.contradicts(&reading(21_900, 20_000)), "near enough");
            let wrong = reading(620_000, 20_000);
            assert!(clock.contradicts(&wrong));
            assert!(clock.is_confirmed_by(&wrong, &reading(20_150, 20_100)), "it was wrong once");
            assert!(clock.is_confirmed_by(&wrong, &reading(620_150, 20_100)), "the clock was set");
            assert!(!clock.is_confirmed_by(&wrong, &reading(90_000, 20_100)), "nobody knows");
            assert!(!clock.is_confirmed_by(&wrong, &reading(620_000, 20_100)), "it stands still");
        }
        let kept = ClockReading::new(20_000, moment(20_000, 20_000), moment(20_000, 20_000));
        assert!(!ServerClock::default().contradicts(&kept.with_date(Some(UnixTime::from_secs(20)))));
        assert!(ServerClock::default().contradicts(&kept.with_date(Some(UnixTime::from_secs(10)))));
        let slow = ClockReading::new(15_000, moment(0, 0), moment(20_000, 20_000));
        assert!(!ServerClock::default().contradicts(&slow), "one that took long may be that far off");
    }

    #[test]
    fn a_reading_is_due_at_first_then_hourly_and_after_a_refusal_but_not_after_each() {
        let mut clock = ServerClock::default();
        assert!(clock.is_due(moment(0, 0)));
        clock.record_failure(moment(0, 0));
        assert!(!clock.is_due(moment(299_999, 0)) && clock.is_due(moment(300_000, 0)));
        let at = moment(300_000, 300_000);
        clock.store(ClockReading::new(0, at, at), at);
        assert!(!clock.is_due(moment(3_899_999, 0)) && clock.is_due(moment(3_900_000, 0)));
        assert!(clock.request_recheck(moment(300_001, 0)) && clock.is_due(moment(300_001, 0)));
        clock.store(ClockReading::new(0, at, at), at);
        assert!(!clock.request_recheck(moment(330_000, 0)) && !clock.is_due(moment(330_000, 0)));
        assert!(clock.request_recheck(moment(330_001, 0)));
    }

    #[test]
    fn a_clock_has_moved_when_nonces_by_it_would_be_others() {
        let now = moment(2_000, 2_000);
        assert!(!told(2_200, 0, 0).has_moved_since(&told(2_000, 0, 0), now));
        assert!(told(2_900, 0, 0).has_moved_since(&told(2_000, 0, 0), now), "the room of a stamp is less");
        assert!(
            !told(2_900, 0, 1_000).has_moved_since(&told(2_000, 0, 1_000), now),
            "they may be that far off"
        );
        assert!(told(602_000, 0, 0).has_moved_since(&told(2_000, 0, 0), now));
        assert!(told(602_000, 0, 0).has_moved_since(&ServerClock::default(), now));
    }
}
