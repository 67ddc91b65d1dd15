//! How many calls pass in a span of time, exactly, over every sliding window.
//!
//! Knows nothing of what is called or by whom; time is an argument.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// At most `limit` calls less than `span` apart.
///
/// Holds only the newest `limit` arrivals: one more call passes exactly if the oldest of them is `span` ago.
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

    /// Notes a call at `now`, passed or not, and tells whether it stayed within the limit.
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

    /// Whether nothing noted so far can matter any more.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        let newest = self.newest.back();
        newest.is_none_or(|newest| now.saturating_duration_since(*newest) >= self.span)
    }
}

/// The most calls in any window of length `span` (a call exactly `span` after another is not in the same window).
///
/// `times` in ascending order.
#[must_use]
pub fn max_calls_in_window(times: &[Duration], span: Duration) -> usize {
    let mut window = VecDeque::new();
    let mut most = 0;
    for &time in times {
        window.push_back(time);
        while window.front().is_some_and(|&oldest| time.saturating_sub(oldest) >= span) {
            window.pop_front();
        }
        most = most.max(window.len());
    }
    most
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{SlidingWindow, max_calls_in_window};

    /// Which of the calls at these milliseconds stay within the limit.
    fn passed(limit: usize, times: &[u64]) -> Vec<bool> {
        let start = Instant::now();
        let mut window = SlidingWindow::new(limit, Duration::from_secs(1));
        let mut record = |&ms: &u64| window.record_call(start + Duration::from_millis(ms));
        times.iter().map(&mut record).collect()
    }

    #[test]
    fn the_fourth_call_within_a_second_is_too_many() {
        assert_eq!(passed(3, &[0, 0, 0, 999]), [true, true, true, false]);
        assert_eq!(passed(3, &[0, 0, 0, 1000]), [true, true, true, true]);
    }

    #[test]
    fn windows_slide_instead_of_starting_anew() {
        // Two bursts that a counter reset at each full second would let through.
        assert_eq!(passed(3, &[900, 950, 990, 1010]), [true, true, true, false]);
        assert_eq!(passed(3, &[0, 400, 800, 1000, 1400, 1800]), [true; 6]);
    }

    #[test]
    fn calls_over_the_limit_count_too() {
        assert_eq!(passed(2, &[0, 0, 500, 1100]), [true, true, false, true]);
        assert_eq!(passed(2, &[0, 0, 500, 600, 1100]), [true, true, false, false, false]);
    }

    #[test]
    fn a_limit_of_none_refuses_all() {
        assert_eq!(passed(0, &[0, 5000]), [false, false]);
    }

    #[test]
    fn finds_the_busiest_window() {
        let times = [0, 400, 900, 1000, 1399, 5000].map(Duration::from_millis);
        assert_eq!(max_calls_in_window(&times, Duration::from_secs(1)), 4);
        assert_eq!(max_calls_in_window(&times, Duration::from_millis(100)), 1);
        assert_eq!(max_calls_in_window(&[], Duration::from_secs(1)), 0);
    }
}
