//! Several base URLs of one exchange: which to try first and next, how much time each may have, and
//! what their failures come to. Sends nothing, reads no clock.

use std::time::Duration;

use super::{
    base_url::BaseUrl,
    error::{Failure, Reason},
};

/// After this long on a spare base URL, the first of the list is tried first again.
const RETRY_PRIMARY_AFTER: Duration = Duration::from_mins(10);

/// The base URL that worked last, where it was not the first of its list.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PreferredHost(Option<Spare>);

#[derive(Clone, Copy, Debug)]
struct Spare {
    place: usize,
    since: Duration,
}

impl PreferredHost {
    /// Places in a list of `count` base URLs, in the order to try them at `now`.
    fn order(self, count: usize, now: Duration) -> Vec<usize> {
        let spare = self.0.filter(|spare| now.saturating_sub(spare.since) < RETRY_PRIMARY_AFTER);
        let first = spare.map(|spare| spare.place);
        first.into_iter().chain((0..count).filter(|place| Some(*place) != first)).collect()
    }

    /// Notes that the one at `place` worked.
    pub(super) fn record_success(&mut self, place: usize, now: Duration) {
        if place == 0 {
            self.0 = None;
        } else if self.order(0, now).first() != Some(&place) {
            self.0 = Some(Spare { place, since: now });
        }
    }
}

/// The base URLs of one read, each tried once.
#[derive(Debug)]
pub(super) struct HostRotation {
    order: Vec<usize>,
    tried: usize,
    failure: Option<Failure>,
}

impl HostRotation {
    /// A read at `now` from one of `count` base URLs.
    #[must_use]
    pub(super) fn new(preference: PreferredHost, count: usize, now: Duration) -> Self {
        Self { order: preference.order(count, now), tried: 0, failure: None }
    }

    /// The same but for the one at the place `except`.
    #[must_use]
    pub(super) fn excluding(mut self, except: Option<usize>) -> Self {
        self.order.retain(|place| Some(*place) != except);
        self
    }

    /// The place of the next one to try, and how many are left with it; `None` if no host or no time is
    /// left.
    pub(super) fn next(&mut self, time_left: Duration) -> Option<(usize, u32)> {
        if self.tried > 0 && time_left.is_zero() {
            return None;
        }
        let place = *self.order.get(self.tried)?;
        let share = u32::try_from(self.order.len() - self.tried).unwrap_or(u32::MAX);
        self.tried += 1;
        Some((place, share))
    }

    /// Notes how the last one failed.
    ///
    /// # Errors
    /// The whole failure, if no other would fare better.
    pub(super) fn record_failure(&mut self, failure: Failure) -> Result<(), Failure> {
        let goes_on = failure.is_host_fault();
        // The first URL's trouble is the one to be told; the others' is added to it. But when to ask
        // again hangs on a refused key or a limit, whichever URL spoke of it.
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

    /// What all of them failed of.
    #[must_use]
    pub(super) fn into_failure(self) -> Failure {
        self.failure.unwrap_or_else(|| Failure::new(Reason::Connect, "there is no base URL to ask"))
    }
}

/// The time of one read.
#[derive(Debug)]
pub(super) struct Deadline {
    /// The most time all its calls may take together.
    timeout: Duration,
    /// How long its calls have taken so far; `None` before the first. Waiting for a permit
    /// is not the exchange's fault and does not count.
    spent: Option<Duration>,
    /// How long it has waited for permits.
    pub(super) permit_wait: Duration,
}

impl Deadline {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, spent: None, permit_wait: Duration::ZERO }
    }

    pub(super) fn spend(&mut self, time: Duration) {
        self.spent = Some(self.spent.unwrap_or_default() + time);
    }

    /// What its calls have taken; `None` if none was made.
    #[must_use]
    pub(super) fn spent(&self) -> Option<Duration> {
        self.spent
    }

    #[must_use]
    pub(super) fn remaining(&self) -> Duration {
        self.timeout.saturating_sub(self.spent.unwrap_or_default())
    }

    /// What the next call, to `base`, may take if `share` base URLs are still to be tried with what
    /// is left.
    ///
    /// # Errors
    /// If that is nothing.
    pub(super) fn call_timeout(&self, base: &BaseUrl, share: u32) -> Result<Duration, Failure> {
        let time = self.remaining() / share;
        // To send a call and not wait for its answer would do nothing but count.
        (!time.is_zero())
            .then_some(time)
            .ok_or_else(|| Failure::new(Reason::Timeout, format!("{base}: no time was left to ask")))
    }
}
