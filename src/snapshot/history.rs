//! The last hour of the watched balances, for trends on the status page. Bounded: at most [`MAX_SERIES`] series of
//! [`MAX_POINTS`] points. A time at which a balance was unknown is a gap, and never a zero.
//! Pure: reads no clock, and depends on neither the text format nor the web.

use std::{cmp::Ordering, collections::VecDeque, sync::Arc, time::Duration};

use smol_str::SmolStr;

use super::wallet::{HoldingState, LastGood, WalletSnapshot, WatchedCurrency};
use crate::{
    clock::{MonotonicTime, Timestamp},
    exchange::Wallet,
};

/// Maximum number of series. Watched currencies that are read after this number is reached have no history.
pub const MAX_SERIES: usize = 256;
/// Maximum number of points of a series.
pub const MAX_POINTS: usize = 120;
/// Older points are removed.
pub const SPAN: Duration = Duration::from_hours(1);
/// Reads within the same step share a point, which keeps the last of them.
const STEP: Duration = Duration::from_secs(30);
/// A pace of less time than this is noise.
const MIN_TREND_SPAN: Duration = Duration::from_mins(5);

/// The history of all watched balances. Immutable: every good poll makes a new one, which shares all other series.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Sorted by key.
    series: Vec<(SeriesKey, Arc<BalanceHistory>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct SeriesKey {
    account: Arc<str>,
    wallet: Wallet,
    currency: SmolStr,
}

impl SeriesKey {
    fn cmp_parts(&self, account: &str, wallet: Wallet, currency: &str) -> Ordering {
        let own = (&*self.account, self.wallet, &*self.currency);
        own.cmp(&(account, wallet, currency))
    }
}

/// The history of one balance.
#[derive(Clone, Debug, Default)]
pub struct BalanceHistory {
    /// The oldest first.
    points: VecDeque<Point>,
    /// When the last answer with a known balance was requested; `None` if the balance is not known any more.
    last_known: Option<Timestamp>,
    low: Option<LowPeriod>,
}

/// A free balance at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// When the request of the answer was sent.
    pub at: MonotonicTime,
    /// In units of the currency.
    pub free: f64,
    /// Whether the balance was unknown for a time between the point before and this one.
    pub follows_gap: bool,
}

/// How long a balance has been below its threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LowPeriod {
    /// When the first read found it low.
    pub since: Timestamp,
    /// Whether the read before found it at or above the threshold. Otherwise it may have been low for longer.
    pub is_exact: bool,
    /// The threshold, in units of the currency.
    warn: f64,
}

/// How a balance moved since the last gap, within the last hour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trend {
    /// The time between the first and the last point.
    pub span: Duration,
    /// The last amount minus the first, in units of the currency.
    pub change: f64,
    /// `change` as a part of the first amount; `None` if that is 0 or negative.
    pub change_ratio: Option<f64>,
    /// When the balance reaches 0 at this pace, counted from the last point; `None` if it does not fall.
    pub empty_in: Option<Duration>,
}

impl History {
    /// The history with the watched balances of the last good answer of `snapshot`.
    #[must_use]
    pub fn record(&self, snapshot: &WalletSnapshot) -> Self {
        let mut next = self.clone();
        let Some(good) = &snapshot.last_good else { return next };
        for watch in &snapshot.config.watch {
            next.record_watch(snapshot, good, watch);
        }
        next
    }

    fn record_watch(&mut self, snapshot: &WalletSnapshot, good: &LastGood, watch: &WatchedCurrency) {
        let config = &snapshot.config;
        let state = good.find_state(&watch.currency);
        let free = state.and_then(HoldingState::amounts).map(|(free, _)| free);
        let warn = watch.thresholds.map(|thresholds| thresholds.warn);
        match self.search(&config.account, config.wallet, &watch.currency) {
            Ok(index) => {
                if let Some((_, series)) = self.series.get_mut(index) {
                    Arc::make_mut(series).push(good.at, free, config.max_age, warn);
                }
            }
            Err(index) if self.series.len() < MAX_SERIES => {
                let (account, wallet) = (Arc::from(&*config.account), config.wallet);
                let mut series = BalanceHistory::default();
                series.push(good.at, free, config.max_age, warn);
                let key = SeriesKey { account, wallet, currency: watch.currency.clone() };
                self.series.insert(index, (key, Arc::new(series)));
            }
            Err(_) => {}
        }
    }

    /// The history of the series for which `is_kept` holds, by account, wallet and currency.
    #[must_use]
    pub fn retain(&self, is_kept: impl Fn(&str, Wallet, &str) -> bool) -> Self {
        let kept = self.series.iter().filter(|(key, _)| is_kept(&key.account, key.wallet, &key.currency));
        Self { series: kept.cloned().collect() }
    }

    /// The history of a balance; `None` if it was never recorded.
    #[must_use]
    pub fn find(&self, account: &str, wallet: Wallet, currency: &str) -> Option<&BalanceHistory> {
        let index = self.search(account, wallet, currency).ok()?;
        self.series.get(index).map(|(_, series)| &**series)
    }

    fn search(&self, account: &str, wallet: Wallet, currency: &str) -> Result<usize, usize> {
        self.series.binary_search_by(|(key, _)| key.cmp_parts(account, wallet, currency))
    }
}

impl BalanceHistory {
    /// Adds the balance of an answer that was requested at `at`; `free` is `None` if the answer does not tell it. A balance
    /// is known for less than `max_age`.
    fn push(&mut self, at: Timestamp, free: Option<f64>, max_age: Duration, warn: Option<f64>) {
        let Some(free) = free else {
            (self.last_known, self.low) = (None, None);
            return;
        };
        let follows_gap = self.last_known.is_none_or(|last| last.age(at) >= max_age);
        self.low = warn.filter(|warn| free < *warn).map(|warn| self.continue_low(at, warn, follows_gap));
        self.last_known = Some(at);
        let at = at.monotonic;
        match self.points.back_mut() {
            Some(last) if step_of(last.at) == step_of(at) => {
                (last.at, last.free) = (at, free);
                last.follows_gap |= follows_gap;
            }
            _ => self.points.push_back(Point { at, free, follows_gap }),
        }
        let is_old = |point: &Point| at.saturating_duration_since(point.at) > SPAN;
        while self.points.len() > MAX_POINTS || self.points.front().is_some_and(is_old) {
            self.points.pop_front();
        }
    }

    fn continue_low(&self, at: Timestamp, warn: f64, follows_gap: bool) -> LowPeriod {
        // Thresholds are compared and not computed, so equal ones are equal to the bit.
        let same = self.low.filter(|low| low.warn.total_cmp(&warn).is_eq() && !follows_gap);
        let was_enough = self.points.back().is_some_and(|last| last.free >= warn);
        same.unwrap_or(LowPeriod { since: at, is_exact: was_enough && !follows_gap, warn })
    }

    /// The points, the oldest first.
    #[must_use]
    pub fn points(&self) -> impl ExactSizeIterator<Item = &Point> {
        self.points.iter()
    }

    /// The age of the last point; `None` if the balance is not known any more.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> Option<Duration> {
        self.last_known.map(|last| last.age(now))
    }

    /// How long the balance has been below its threshold as of the last read; `None` if it is not low or not known.
    #[must_use]
    pub fn low(&self) -> Option<LowPeriod> {
        self.low
    }

    /// How the balance moves; `None` if too little of it is known.
    #[must_use]
    pub fn trend(&self) -> Option<Trend> {
        self.last_known?;
        let first = self.points.iter().rposition(|point| point.follows_gap).unwrap_or(0);
        let (first, last) = (self.points.get(first)?, self.points.back()?);
        let span = last.at.saturating_duration_since(first.at);
        if span < MIN_TREND_SPAN {
            return None;
        }
        let change = last.free - first.free;
        // From the same two points as the change, so that the two never contradict each other.
        let seconds_left =
            (change < 0.0 && last.free > 0.0).then(|| span.as_secs_f64() * last.free / -change);
        Some(Trend {
            span,
            change,
            change_ratio: (first.free > 0.0).then(|| change / first.free),
            // A time that is too long for a duration is longer than any limit.
            empty_in: seconds_left.map(|left| Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX)),
        })
    }
}

/// The step that `at` is in, counted from the start of the clock.
fn step_of(at: MonotonicTime) -> u128 {
    at.saturating_duration_since(MonotonicTime::START).as_nanos() / STEP.as_nanos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::simulated::at,
        snapshot::store::{AccountEntry, AccountState, Store},
        snapshot::wallet::{
            CurrencyFilter, PollOutcome, PollResult, Thresholds, WalletConfig, tests::answer,
        },
    };

    const MAX_AGE: Duration = Duration::from_secs(90);

    fn series(reads: &[(u64, Option<f64>)]) -> BalanceHistory {
        let mut series = BalanceHistory::default();
        for (seconds, free) in reads {
            series.push(at(*seconds), *free, MAX_AGE, Some(100.0));
        }
        series
    }

    fn shown(series: &BalanceHistory) -> Vec<(f64, bool)> {
        series.points().map(|point| (point.free, point.follows_gap)).collect()
    }

    #[test]
    fn an_unknown_time_is_a_gap_and_no_zero() {
        let held = series(&[(0, Some(5.0)), (60, Some(4.0)), (149, Some(3.0))]);
        assert_eq!(shown(&held), [(5.0, true), (4.0, false), (3.0, false)], "younger than max_age");
        let old = series(&[(0, Some(5.0)), (90, Some(4.0))]);
        assert_eq!(shown(&old), [(5.0, true), (4.0, true)]);
        let unreadable = series(&[(0, Some(5.0)), (30, None), (60, Some(4.0))]);
        assert_eq!(shown(&unreadable), [(5.0, true), (4.0, true)]);
        assert_eq!(series(&[(0, Some(5.0)), (400, Some(4.0)), (430, None)]).trend(), None, "unknown now");
    }

    #[test]
    fn a_series_is_bounded_in_number_and_time() {
        let every_second: Vec<_> =
            (0..10_000_u32).map(|second| (u64::from(second), Some(f64::from(second)))).collect();
        let series = self::series(&every_second);
        assert_eq!(series.points().len(), MAX_POINTS);
        let ends =
            (series.points.front().map(|point| point.free), series.points.back().map(|point| point.free));
        assert_eq!(ends, (Some(6_449.0), Some(9_999.0)), "the last read of each step");
        assert_eq!(shown(&self::series(&[(0, Some(1.0)), (3_601, Some(2.0))])), [(2.0, true)]);
    }

    #[test]
    fn low_since_is_exact_only_if_the_balance_was_seen_above_the_threshold_before() {
        let low =
            |reads: &[(u64, Option<f64>)]| series(reads).low().map(|low| (low.since.monotonic, low.is_exact));
        let since = |seconds, is_exact| Some((at(seconds).monotonic, is_exact));
        assert_eq!(low(&[(0, Some(100.0))]), None);
        assert_eq!(low(&[(0, Some(99.0)), (30, Some(98.0))]), since(0, false), "low at the start");
        assert_eq!(low(&[(0, Some(100.0)), (10, Some(99.0)), (60, Some(1.0))]), since(10, true));
        assert_eq!(
            low(&[(0, Some(100.0)), (10, Some(99.0)), (20, Some(101.0)), (25, Some(9.0))]),
            since(25, true)
        );
        assert_eq!(low(&[(0, Some(100.0)), (90, Some(99.0))]), since(90, false), "unknown in between");
        assert_eq!(low(&[(0, Some(100.0)), (10, Some(9.0)), (200, Some(8.0))]), since(200, false));
        assert_eq!(low(&[(0, Some(100.0)), (10, Some(9.0)), (20, None)]), None);
        let mut raised = series(&[(0, Some(100.0)), (30, Some(90.0))]);
        raised.push(at(60), Some(90.0), MAX_AGE, Some(95.0));
        assert_eq!(
            raised.low().map(|low| (low.since, low.is_exact)),
            Some((at(60), false)),
            "a new threshold"
        );
    }

    #[test]
    fn a_trend_needs_minutes_and_begins_after_the_last_gap() {
        let falling: Vec<_> =
            (0..=20_u32).map(|step| (u64::from(step) * 30, Some(1_000.0 - f64::from(step) * 10.0))).collect();
        let trend = series(&falling).trend();
        let trend = trend.unwrap_or_else(|| panic!("ten minutes are enough"));
        assert_eq!((trend.span, trend.change), (Duration::from_mins(10), -200.0));
        assert_eq!(trend.change_ratio, Some(-0.2));
        // 800 left, 10 less every 30 seconds.
        let empty_in = trend.empty_in.map(|empty_in| empty_in.as_secs_f64().round());
        assert_eq!(empty_in, Some(2_400.0));
        assert_eq!(series(falling.get(..10).unwrap_or_default()).trend(), None, "less than five minutes");
        let after_gap: Vec<_> = falling.iter().map(|(at, free)| (at + 1_000, *free)).collect();
        let with_gap = [vec![(0, Some(9.0)), (300, Some(5_000.0))], after_gap].concat();
        assert_eq!(series(&with_gap).trend().map(|trend| trend.change), Some(-200.0));
        let rising: Vec<_> =
            falling.iter().map(|(at, free)| (*at, free.map(|free| 2_000.0 - free))).collect();
        assert_eq!(series(&rising).trend().map(|trend| trend.empty_in), Some(None));
        let empty: Vec<_> = falling.iter().map(|(at, _)| (*at, Some(0.0))).collect();
        let trend = series(&empty).trend().map(|trend| (trend.change, trend.change_ratio, trend.empty_in));
        assert_eq!(trend, Some((0.0, None, None)));
    }

    #[test]
    fn watched_balances_are_recorded_up_to_the_limit_and_removed_ones_are_dropped() {
        let names: Vec<SmolStr> = (0..300).map(|number| format!("c{number:03}").into()).collect();
        let thresholds = Some(Thresholds { warn: 2.0, page: 1.0 });
        let watch = names.iter().map(|currency| WatchedCurrency { currency: currency.clone(), thresholds });
        let config = WalletConfig {
            account: "a".into(),
            wallet: Wallet::Spot,
            watch: watch.collect(),
            filter: CurrencyFilter::default(),
            max_age: MAX_AGE,
        };
        let rows: Vec<_> = names.iter().map(|name| (&**name, "1.5", "0")).collect();
        let outcome = PollOutcome::new(at(10), Ok(Some(answer(&rows))));
        let result = PollResult { at: at(11), took: Duration::ZERO, is_suspect: false, outcome };
        let snapshot = WalletSnapshot::new(Arc::new(config)).apply(result);
        let history = History::default().record(&snapshot);
        assert_eq!(history.series.len(), MAX_SERIES);
        let series = |history: &History, currency: &str| {
            history.find("a", Wallet::Spot, currency).map(|series| (shown(series), series.low().is_some()))
        };
        assert_eq!(series(&history, "c000"), Some((vec![(1.5, true)], true)));
        assert_eq!(series(&history, "c299"), None);
        assert_eq!(history.find("b", Wallet::Spot, "c000").map(shown), None);
        let kept = history.retain(|account, _, currency| account == "a" && currency == "c007");
        assert_eq!((series(&kept, "c007").is_some(), kept.series.len()), (true, 1));
        assert_eq!(kept.record(&snapshot).series.len(), MAX_SERIES, "there is room again");
    }

    #[test]
    fn a_reload_keeps_the_history_of_the_same_account_and_drops_that_of_another() {
        let watch = WatchedCurrency { currency: "usdt".into(), thresholds: None };
        let config = Arc::new(WalletConfig {
            account: "a".into(),
            wallet: Wallet::Spot,
            watch: vec![watch],
            filter: CurrencyFilter::default(),
            max_age: MAX_AGE,
        });
        let outcome = PollOutcome::new(at(10), Ok(Some(answer(&[("usdt", "1", "0")]))));
        let result = PollResult { at: at(11), took: Duration::ZERO, is_suspect: false, outcome };
        let polled = WalletSnapshot::new(Arc::clone(&config)).apply(result);
        let entry = |snapshot: &WalletSnapshot| {
            let state = AccountState::at_start("a");
            AccountEntry::restored(state, [snapshot.clone()], at(60).uptime)
        };
        let store = Store::new(vec![entry(&polled)]);
        store.record_history(&polled);
        let has_history = || store.history().find("a", Wallet::Spot, "usdt").is_some();
        store.replace_accounts(&|_| true, Vec::new(), None);
        assert!(has_history(), "an unchanged account");
        store.replace_accounts(&|_| false, vec![entry(&polled)], None);
        assert!(has_history(), "the same account with other settings");
        store.replace_accounts(&|_| false, vec![entry(&WalletSnapshot::new(config))], None);
        assert!(!has_history(), "another account with the same name");
    }
}
