//! Failover between the base URLs of one exchange: their order, the time that each gets, and the failure that they
//! result in.
//! Pure: sends nothing and reads no clock.

use std::time::Duration;

use super::{
    base_url::BaseUrl,
    error::{Failure, Reason},
};
use crate::clock::MonotonicTime;

/// After this time on a spare base URL, the first one is tried first again.
const RETRY_PRIMARY_AFTER: Duration = Duration::from_mins(10);

/// The base URL that worked last, if it is not the first one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PreferredHost(Option<Spare>);

#[derive(Clone, Copy, Debug)]
struct Spare {
    place: usize,
    since: MonotonicTime,
}

impl PreferredHost {
    /// The indexes of `count` base URLs in the order in which to try them at `now`.
    fn order(self, count: usize, now: MonotonicTime) -> Vec<usize> {
        let spare = self.0.filter(|spare| now.saturating_duration_since(spare.since) < RETRY_PRIMARY_AFTER);
        let first = spare.map(|spare| spare.place);
        first.into_iter().chain((0..count).filter(|place| Some(*place) != first)).collect()
    }

    /// Records that the base URL at this index worked.
    pub(super) fn record_success(&mut self, place: usize, now: MonotonicTime) {
        if place == 0 {
            self.0 = None;
        } else if self.order(0, now).first() != Some(&place) {
            self.0 = Some(Spare { place, since: now });
        }
    }
}

/// The base URLs of one read. Each is tried once.
#[derive(Debug)]
pub(super) struct HostRotation {
    order: Vec<usize>,
    tried: usize,
    failure: Option<Failure>,
}

impl HostRotation {
    /// The rotation of a read at `now` over `count` base URLs.
    #[must_use]
    pub(super) fn new(preference: PreferredHost, count: usize, now: MonotonicTime) -> Self {
        Self { order: preference.order(count, now), tried: 0, failure: None }
    }

    /// Leaves out one base URL.
    #[must_use]
    pub(super) fn excluding(mut self, except: Option<usize>) -> Self {
        self.order.retain(|place| Some(*place) != except);
        self
    }

    /// The index of the next base URL, and how many are left including it; `None` if no base URL or no time is left.
    pub(super) fn next(&mut self, time_left: Duration) -> Option<(usize, u32)> {
        if self.tried > 0 && time_left.is_zero() {
            return None;
        }
        let place = *self.order.get(self.tried)?;
        let share = u32::try_from(self.order.len() - self.tried).unwrap_or(u32::MAX);
        self.tried += 1;
        Some((place, share))
    }

    /// Records the failure of the last base URL.
    ///
    /// # Errors
    /// The failure of the read, if no other base URL would do better.
    pub(super) fn record_failure(&mut self, failure: Failure) -> Result<(), Failure> {
        let goes_on = failure.is_host_fault();
        // The first base URL's failure counts; the texts of the others are appended. But a refused key or a limit
        // decides when to try again, whichever base URL reported it.
        let decides = failure.reason.is_key_fault() || failure.reason == Reason::RateLimited;
        let whole = match self.failure.take() {
            Some(first) => {
                let is_of_clock_sync = first.is_of_clock_sync && failure.is_of_clock_sync;
                if decides {
                    let text = format!("{}; before that {}", failure.text, first.text);
                    Failure { text, is_of_clock_sync, ..failure }
                } else {
                    let text = format!("{}; then {}", first.text, failure.text);
                    Failure { text, is_of_clock_sync, ..first }
                }
            }
            None => failure,
        };
        if !goes_on {
            return Err(whole);
        }
        self.failure = Some(whole);
        Ok(())
    }

    /// The failure of all base URLs together.
    #[must_use]
    pub(super) fn into_failure(self) -> Failure {
        self.failure.unwrap_or_else(|| Failure::new(Reason::Connect, "there is no base URL to ask"))
    }
}

/// The time budget of a read.
#[derive(Debug)]
pub(super) struct Deadline {
    /// The most time that its calls may take together.
    timeout: Duration,
    /// The time that its calls have taken; `None` before the first call. Waiting for a permit is not the exchange's
    /// fault and does not count.
    spent: Option<Duration>,
    /// The time spent waiting for permits.
    pub(super) permit_wait: Duration,
}

impl Deadline {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, spent: None, permit_wait: Duration::ZERO }
    }

    pub(super) fn spend(&mut self, time: Duration) {
        self.spent = Some(self.spent.unwrap_or_default() + time);
    }

    /// The time that its calls have taken; `None` if there was none.
    #[must_use]
    pub(super) fn spent(&self) -> Option<Duration> {
        self.spent
    }

    #[must_use]
    pub(super) fn remaining(&self) -> Duration {
        self.timeout.saturating_sub(self.spent.unwrap_or_default())
    }

    /// The timeout of the next call, to `base`, if the remaining time is shared by this number of base URLs.
    ///
    /// # Errors
    /// If no time is left.
    pub(super) fn call_timeout(&self, base: &BaseUrl, share: u32) -> Result<Duration, Failure> {
        let time = self.remaining() / share;
        // A call without time for an answer would only count against the limits.
        (!time.is_zero())
            .then_some(time)
            .ok_or_else(|| Failure::new(Reason::Timeout, format!("{base}: no time was left to ask")))
    }
}
