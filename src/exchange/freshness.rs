//! Whether an answer is of now: it came in time, and nothing between the exchange and this machine kept it.
//! Pure: knows no request and no endpoint.

use std::time::Duration;

use super::error::{Failure, Reason};
use crate::clock::UnixTime;

/// `Date` has whole seconds, and the clocks of an exchange's servers differ a little: an answer may seem so much older
/// than a call may take.
const DATE_MARGIN: Duration = Duration::from_secs(20);

/// What tells how old an answer is, and how old it may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct FreshnessCheck {
    /// Time from the question to now, on a clock that counts suspended time.
    pub since_sent: Duration,
    /// How long the call may take.
    pub timeout: Duration,
    /// The `Date` that an answer made now would have, since the Unix epoch; `None` if the exchange's clock was never read.
    pub expected_date: Option<UnixTime>,
    /// How long a cache may have kept the answer.
    pub max_cached: Duration,
    /// `Age` of the answer.
    pub cached: Option<Duration>,
    /// `Date` of the answer, since the Unix epoch.
    pub made: Option<UnixTime>,
}

impl FreshnessCheck {
    /// Refuses an answer that came later than the call may take, that a cache kept for longer than it may, or whose `Date`
    /// is further behind than the timeout and a margin.
    ///
    /// # Errors
    /// `timeout` if it waited here, as while the machine was suspended; `cached` if something in between kept it.
    pub(super) fn check(self) -> Result<(), Failure> {
        let seconds = |time: Duration| format!("{} s", time.as_secs());
        if self.since_sent > self.timeout {
            let age = seconds(self.since_sent);
            let text =
                format!("the answer was read {age} after the question, as after a suspension: it is dropped");
            return Err(Failure::new(Reason::Timeout, text));
        }
        if let Some(age) = self.cached.filter(|age| *age > self.max_cached) {
            let text =
                format!("a cache in between gave an answer that it had kept for {} (Age)", seconds(age));
            return Err(Failure::new(Reason::Cached, text));
        }
        let behind = self.expected_date.zip(self.made).map(|(now, made)| now.saturating_duration_since(made));
        if let Some(behind) = behind.filter(|behind| *behind > self.timeout + DATE_MARGIN) {
            let text = format!(
                "the answer's Date is {} behind the exchange's clock: a cache in between kept it",
                seconds(behind)
            );
            return Err(Failure::new(Reason::Cached, text));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_700_000_000);

    fn fresh() -> FreshnessCheck {
        FreshnessCheck {
            since_sent: Duration::from_secs(1),
            timeout: Duration::from_secs(10),
            expected_date: Some(NOW),
            max_cached: Duration::from_secs(10),
            cached: None,
            made: None,
        }
    }

    fn before(seconds: u64) -> UnixTime {
        NOW.saturating_sub(Duration::from_secs(seconds))
    }

    fn reason(age: FreshnessCheck) -> Option<Reason> {
        age.check().err().map(|failure| failure.reason)
    }

    #[test]
    fn an_answer_of_now_passes() {
        let seconds = Duration::from_secs;
        for age in [
            fresh(),
            FreshnessCheck { since_sent: seconds(10), ..fresh() },
            FreshnessCheck { cached: Some(seconds(10)), ..fresh() },
            FreshnessCheck { cached: Some(seconds(0)), max_cached: seconds(0), ..fresh() },
            FreshnessCheck { made: Some(NOW), ..fresh() },
            FreshnessCheck { made: Some(NOW + seconds(3_600)), ..fresh() },
            FreshnessCheck { made: Some(before(30)), ..fresh() },
            FreshnessCheck { made: Some(before(3_600)), expected_date: None, ..fresh() },
        ] {
            assert_eq!(reason(age), None, "{age:?}");
        }
    }

    #[test]
    fn an_old_answer_is_dropped_with_its_reason() {
        let late = FreshnessCheck { since_sent: Duration::from_hours(8), ..fresh() };
        assert_eq!(reason(late), Some(Reason::Timeout));
        for age in [
            FreshnessCheck { cached: Some(Duration::from_secs(11)), ..fresh() },
            FreshnessCheck { cached: Some(Duration::from_secs(1)), max_cached: Duration::ZERO, ..fresh() },
            FreshnessCheck { made: Some(before(31)), ..fresh() },
            FreshnessCheck { made: Some(UnixTime::EPOCH), ..fresh() },
        ] {
            assert_eq!(reason(age), Some(Reason::Cached), "{age:?}");
        }
    }
}
