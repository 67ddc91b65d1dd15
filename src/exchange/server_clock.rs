//! The exchange's clock as seen from here, per host. Between two readings it goes on with our
//! monotonic clock, so that a jump of the wall clock changes no nonce.
//! Sends nothing: it says when a reading is due and takes what was read.

use std::time::Duration;

use crate::moment::Moment;

/// A reading is good for this long.
const GOOD_FOR: Duration = Duration::from_hours(1);
/// After a reading that failed, the next is due after this long.
const RETRY: Duration = Duration::from_mins(5);

/// A stamp is so much behind what the clock is known to have passed, for our own runs on unwatched
/// between two readings: a request that was 58 ms ahead of the exchange was refused, while one may be
/// 5 s old when it arrives.
const STAMPED_BACK: Duration = Duration::from_millis(500);
/// A reading that took long leaves the more room for error, but so much at the most is allowed for.
const UNSURE_MAX: Duration = Duration::from_secs(2);

/// The clock of one host.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ServerClock {
    anchor: Option<Anchor>,
    due: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Anchor {
    server: Duration,
    ours: Moment,
    /// How far off the reading may be: the exchange may have told its time at either end of the call.
    unsure: Duration,
}

impl ServerClock {
    /// Whether it should be read before the next call.
    #[must_use]
    pub(super) fn is_due(&self, now: Moment) -> bool {
        now.elapsed >= self.due
    }

    /// Whether it has ever been read.
    #[must_use]
    pub(super) fn is_known(&self) -> bool {
        self.anchor.is_some()
    }

    /// Takes a reading: `server_ms` was answered to a call that ran from `sent` to `received`.
    /// Returns how far the exchange's clock is ahead of ours, in seconds.
    pub(super) fn read(&mut self, server_ms: u64, sent: Moment, received: Moment) -> f64 {
        let half = sent.age(received) / 2;
        let ours = sent.later(half);
        let server = Duration::from_millis(server_ms);
        self.anchor = Some(Anchor { server, ours, unsure: half });
        self.due = received.elapsed + GOOD_FOR;
        server.as_secs_f64() - ours.unix.as_secs_f64()
    }

    /// Notes that a reading failed; until the next one the last stays in force.
    pub(super) fn could_not_be_read(&mut self, now: Moment) {
        self.due = now.elapsed + RETRY;
    }

    /// Asks for a reading before the next call: the exchange has refused a nonce for its time.
    pub(super) fn doubt(&mut self) {
        self.due = Duration::ZERO;
    }

    /// The exchange's time in Unix milliseconds; ours as long as nothing better is known.
    #[must_use]
    pub(super) fn time_ms(&self, now: Moment) -> u64 {
        milliseconds(self.time(now))
    }

    /// A time that the exchange's clock has passed, in Unix milliseconds: for requests that may arrive
    /// late, but not early.
    #[must_use]
    pub(super) fn stamp_ms(&self, now: Moment) -> u64 {
        let unsure = self.anchor.map_or(Duration::ZERO, |anchor| anchor.unsure.min(UNSURE_MAX));
        milliseconds(self.time(now).saturating_sub(unsure + STAMPED_BACK))
    }

    fn time(&self, now: Moment) -> Duration {
        self.anchor.map_or(now.unix, |anchor| anchor.server + anchor.ours.age(now))
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(elapsed_ms: u64, unix_ms: u64) -> Moment {
        let elapsed = Duration::from_millis(elapsed_ms);
        Moment { elapsed, awake: elapsed, unix: Duration::from_millis(unix_ms) }
    }

    #[test]
    fn the_offset_is_taken_halfway_through_the_round_trip() {
        let mut clock = ServerClock::default();
        assert_eq!(clock.time_ms(moment(0, 1_700)), 1_700, "ours, as long as nothing is known");
        let skew = clock.read(91_500, moment(1_000, 1_000), moment(2_000, 2_000));
        assert!((skew - 90.0).abs() < 1e-9, "{skew}");
        assert_eq!(clock.time_ms(moment(2_000, 2_000)), 92_000);
    }

    #[test]
    fn a_stamp_is_of_the_past_whenever_in_the_call_the_time_was_told() {
        let mut clock = ServerClock::default();
        assert_eq!(clock.stamp_ms(moment(0, 1_700)), 1_200);
        // The exchange told its time at the very beginning, and its answer took the second.
        clock.read(91_000, moment(1_000, 1_000), moment(2_000, 2_000));
        assert_eq!(clock.stamp_ms(moment(2_000, 2_000)), 90_500, "it is 92 000 there");
        // Or at the very end.
        clock.read(92_000, moment(1_000, 1_000), moment(2_000, 2_000));
        assert_eq!(clock.stamp_ms(moment(2_000, 2_000)), 91_500, "it is 92 000 there");
        clock.read(99_000, moment(0, 0), moment(9_000, 9_000));
        assert_eq!(clock.stamp_ms(moment(9_000, 9_000)), 101_000, "within bounds");
    }

    #[test]
    fn a_jump_of_the_wall_clock_changes_nothing() {
        let mut clock = ServerClock::default();
        clock.read(50_000, moment(0, 50_000), moment(0, 50_000));
        assert_eq!(clock.time_ms(moment(5_000, 9_999_999)), 55_000);
        assert_eq!(clock.time_ms(moment(6_000, 0)), 56_000);
    }

    #[test]
    fn a_reading_is_due_at_first_then_hourly_then_at_once_when_doubted() {
        let mut clock = ServerClock::default();
        assert!(clock.is_due(moment(0, 0)));
        clock.could_not_be_read(moment(0, 0));
        assert!(!clock.is_due(moment(299_999, 0)) && clock.is_due(moment(300_000, 0)));
        clock.read(0, moment(300_000, 0), moment(300_000, 0));
        assert!(!clock.is_due(moment(3_899_999, 0)) && clock.is_due(moment(3_900_000, 0)));
        clock.doubt();
        assert!(clock.is_due(moment(300_001, 0)));
    }
}
