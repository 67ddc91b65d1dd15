//! The calls that count against one limit. Pure: reads no clock.

use std::{collections::VecDeque, time::Duration};

use super::share::CallLimit;
use crate::clock::MonotonicTime;

/// The calls that count against a limit: those in flight, and those that ended less than its span ago.
#[derive(Clone, Debug)]
pub(super) struct CallWindow {
    limit: CallLimit,
    in_flight: usize,
    ended: VecDeque<MonotonicTime>,
    /// Number of leading entries of `ended` that stand for calls of a previous process.
    assumed: usize,
}

/// When a window has room for one more call. Sorted: the greater of two availabilities is when both windows have room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Availability {
    Now,
    In(Duration),
    WhenACallEnds,
}

/// How many calls count against a limit now, and how many it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowUsage {
    /// Calls in flight, and calls that ended in the running window.
    pub calls: usize,
    /// Calls that the limit takes.
    pub capacity: usize,
}

impl CallWindow {
    pub(super) fn new(limit: CallLimit) -> Self {
        Self { limit, in_flight: 0, ended: VecDeque::new(), assumed: 0 }
    }

    /// A window that is full of calls of another process that may have ended at `now`.
    pub(super) fn full(limit: CallLimit, now: MonotonicTime) -> Self {
        let ended = VecDeque::from(vec![now; limit.calls]);
        Self { limit, in_flight: 0, ended, assumed: limit.calls }
    }

    /// Replaces the limit. Calls that were counted stay counted.
    pub(super) fn set_limit(&mut self, limit: CallLimit) {
        self.limit = limit;
    }

    pub(super) fn availability(&mut self, now: MonotonicTime) -> Availability {
        let capacity = self.limit.calls;
        if self.count(now) < capacity {
            return Availability::Now;
        }
        match self.ended.front() {
            // Plus one millisecond, the resolution of the timer.
            Some(ended) => {
                let vacant = *ended + self.limit.span + Duration::from_millis(1);
                Availability::In(vacant.saturating_duration_since(now))
            }
            None => Availability::WhenACallEnds,
        }
    }

    pub(super) fn usage(&mut self, now: MonotonicTime) -> WindowUsage {
        let counted = self.count(now);
        WindowUsage { calls: counted.saturating_sub(self.assumed), capacity: self.limit.calls }
    }

    /// Counts the calls of another window too, the ended ones up to the limit. Returns how many of them are in flight.
    pub(super) fn count_calls_of(&mut self, other: &Self, now: MonotonicTime) -> usize {
        self.ended.extend(&other.ended);
        self.ended.make_contiguous().sort_unstable();
        self.count(now);
        let surplus = self.ended.len().saturating_sub(self.limit.calls);
        self.ended.drain(..surplus);
        self.in_flight += other.in_flight;
        other.in_flight
    }

    pub(super) fn start(&mut self) {
        self.in_flight += 1;
    }

    pub(super) fn end(&mut self, now: MonotonicTime) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.ended.push_back(now);
    }

    fn count(&mut self, now: MonotonicTime) -> usize {
        // A call that ended exactly a span ago still counts: windows include both ends.
        let span = self.limit.span;
        while self.ended.front().is_some_and(|ended| now.saturating_duration_since(*ended) > span) {
            self.ended.pop_front();
            self.assumed = self.assumed.saturating_sub(1);
        }
        self.in_flight + self.ended.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> MonotonicTime {
        MonotonicTime::START + Duration::from_millis(millis)
    }

    fn limit(calls: usize, millis: u64) -> CallLimit {
        CallLimit { calls, span: Duration::from_millis(millis) }
    }

    #[test]
    fn calls_that_another_process_may_have_made_take_room_and_are_not_shown() {
        let mut window = CallWindow::full(limit(2, 1_000), at(0));
        assert_eq!(window.availability(at(500)), Availability::In(Duration::from_millis(501)));
        assert_eq!(window.usage(at(500)), WindowUsage { calls: 0, capacity: 2 });
        window.start();
        window.end(at(1_001));
        assert_eq!(window.usage(at(1_001)), WindowUsage { calls: 1, capacity: 2 });
    }

    #[test]
    fn another_limit_counts_the_calls_of_before() {
        let mut window = CallWindow::new(limit(2, 1_000));
        window.start();
        window.end(at(0));
        window.start();
        assert_eq!(window.usage(at(0)), WindowUsage { calls: 2, capacity: 2 });
        window.set_limit(limit(1, 2_000));
        assert_eq!(window.usage(at(500)), WindowUsage { calls: 2, capacity: 1 });
        assert_eq!(window.availability(at(500)), Availability::In(Duration::from_millis(1_501)));
        assert_eq!(window.availability(at(2_001)), Availability::WhenACallEnds);
        window.end(at(2_001));
        assert_eq!(window.availability(at(2_001)), Availability::In(Duration::from_millis(2_001)));
        window.set_limit(limit(2, 1_000));
        assert_eq!(window.availability(at(2_001)), Availability::Now);
    }
}
