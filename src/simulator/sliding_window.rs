//! An exact call limit over every sliding window.
//!
//! Must not know calls or callers. Time is an argument.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// A limit: at most `limit` calls less than `span` apart.
///
/// Stores only the newest `limit` calls. One more call is within the limit if the oldest of them is at least `span` ago.
#[derive(Debug)]
pub(super) struct SlidingWindow {
    limit: usize,
    span: Duration,
    newest: VecDeque<Instant>,
}

impl SlidingWindow {
    pub(super) fn new(limit: usize, span: Duration) -> Self {
        Self { limit, span, newest: VecDeque::new() }
    }

    /// Maximum number of calls in the span.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Records a call at `now`. Returns whether the call is within the limit; a call over the limit counts too.
    pub(super) fn record_call(&mut self, now: Instant) -> bool {
        let full = self.newest.len() >= self.limit;
        let recent = |oldest: &Instant| now.saturating_duration_since(*oldest) < self.span;
        let within = !full || self.newest.front().is_some_and(|oldest| !recent(oldest));
        if full {
            self.newest.pop_front();
        }
        if self.limit > 0 {
            self.newest.push_back(now);
        }
        within
    }

    /// Whether all recorded calls are older than the span.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        let newest = self.newest.back();
        newest.is_none_or(|newest| now.saturating_duration_since(*newest) >= self.span)
    }
}

/// Largest number of calls in any window of length `span`. A call exactly `span` after another is not in the same window.
///
/// `times` must be in ascending order.
#[must_use]
pub fn max_calls_in_window(times: &[Duration], span: Duration) -> usize {
    let mut window = VecDeque::new();
    let mut max = 0;
    for &time in times {
        window.push_back(time);
        while window.front().is_some_and(|&oldest| time.saturating_sub(oldest) >= span) {
            window.pop_front();
        }
        max = max.max(window.len());
    }
    max
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{SlidingWindow, max_calls_in_window};

    /// Whether each call at these milliseconds is within the limit.
    fn check_calls(limit: usize, times: &[u64]) -> Vec<bool> {
        let start = Instant::now();
        let mut window = SlidingWindow::new(limit, Duration::from_secs(1));
        let mut record = |&ms: &u64| window.record_call(start + Duration::from_millis(ms));
        times.iter().map(&mut record).collect()
    }

    #[test]
    fn the_fourth_call_within_a_second_is_too_many() {
        assert_eq!(check_calls(3, &[0, 0, 0, 999]), [true, true, true, false]);
        assert_eq!(check_calls(3, &[0, 0, 0, 1000]), [true, true, true, true]);
    }

    #[test]
    fn windows_slide() {
        // A counter that is reset at each full second would allow these two bursts.
        assert_eq!(check_calls(3, &[900, 950, 990, 1010]), [true, true, true, false]);
        assert_eq!(check_calls(3, &[0, 400, 800, 1000, 1400, 1800]), [true; 6]);
    }

    #[test]
    fn calls_over_the_limit_count_too() {
        assert_eq!(check_calls(2, &[0, 0, 500, 1100]), [true, true, false, true]);
        assert_eq!(check_calls(2, &[0, 0, 500, 600, 1100]), [true, true, false, false, false]);
    }

    #[test]
    fn a_limit_of_zero_refuses_all() {
        assert_eq!(check_calls(0, &[0, 5000]), [false, false]);
    }

    #[test]
    fn finds_the_window_with_the_most_calls() {
        let times = [0, 400, 900, 1000, 1399, 5000].map(Duration::from_millis);
        assert_eq!(max_calls_in_window(&times, Duration::from_secs(1)), 4);
        assert_eq!(max_calls_in_window(&times, Duration::from_millis(100)), 1);
        assert_eq!(max_calls_in_window(&[], Duration::from_secs(1)), 0);
    }
}
