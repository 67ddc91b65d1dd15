//! The snapshot of a wallet's open positions: the last good answer, and how the next poll changes it. It has its own
//! freshness and failures, because positions can be unreadable while balances are readable, and the other way round.
//! Pure: reads no clock, sends nothing and does not depend on the text format.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use smol_str::SmolStr;

use super::wallet::{CurrencyFilter, Freshness, LastFailure};
use crate::{
    clock::{MonotonicTime, Timestamp},
    exchange::{
        Amount, CurrencyMargin, Failure, Position, PositionAnswer, Reason, Wallet, settlement_currency,
    },
};

/// How the positions of an account are read and shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FuturesRisk {
    /// The most positions of a wallet that are shown, above 0. The ones that are nearest to liquidation stay.
    pub max_positions: usize,
    /// A smaller distance to liquidation is a warning, as a part of the mark price; above 0 and below 1.
    pub warn_distance: f64,
    /// A smaller distance to liquidation pages. Above 0 and at most `warn_distance`.
    pub page_distance: f64,
}

impl Default for FuturesRisk {
    fn default() -> Self {
        Self { max_positions: 200, warn_distance: 0.2, page_distance: 0.1 }
    }
}

/// The settings of a wallet's positions.
#[derive(Clone, Debug, PartialEq)]
pub struct PositionsConfig {
    /// The `account` label.
    pub account: Box<str>,
    /// The `wallet` label. A wallet that can have positions.
    pub wallet: Wallet,
    /// How positions are shown.
    pub risk: FuturesRisk,
    /// The filter for currencies of profit and equity. Positions are always shown.
    pub filter: CurrencyFilter,
    /// Watched currencies, which pass the filter.
    pub watched: Vec<SmolStr>,
    /// Positions of this age and older are unknown.
    pub max_age: Duration,
}

impl PositionsConfig {
    /// Whether the profit and equity of a currency are visible.
    #[must_use]
    pub fn shows(&self, risk: &CurrencyRisk) -> bool {
        let is_zero = |amount: &Option<Amount>| amount.as_ref().is_some_and(|amount| amount.value() == 0.0);
        self.watched.contains(&risk.currency)
            || self
                .filter
                .is_visible(&risk.currency, || is_zero(&risk.unrealised_pnl) && is_zero(&risk.equity))
    }
}

/// The last good answer of a wallet's positions, the last failure and counters. Every poll makes a new snapshot from the
/// previous one.
#[derive(Clone, Debug)]
pub struct PositionsSnapshot {
    /// The settings.
    pub config: Arc<PositionsConfig>,
    /// The last good answer, however old.
    pub last_good: Option<LastGoodPositions>,
    /// The last poll's failure; `None` if it did not fail, and before the first.
    pub last_failure: Option<LastFailure>,
    /// Failed polls, in the order of [`Reason::ALL`].
    pub failures: [u64; Reason::ALL.len()],
}

/// The last good answer with positions.
#[derive(Clone, Debug, PartialEq)]
pub struct LastGoodPositions {
    /// When its request was sent. Counting the age from here never understates it.
    pub at: Timestamp,
    /// The positions that are shown, sorted by symbol and side.
    pub positions: Arc<[Position]>,
    /// Positions that are not shown because there are more than `max_positions`.
    pub over_limit: u64,
    /// Rows that are not shown because they are unusable. Each may be an open position.
    pub unusable: u64,
    /// Profit and equity by currency, sorted.
    pub currencies: Arc<[CurrencyRisk]>,
}

/// The profit of all positions that settle in a currency, and the equity in it.
#[derive(Clone, Debug, PartialEq)]
pub struct CurrencyRisk {
    /// Lower case.
    pub currency: SmolStr,
    /// The sum over its open positions; `None` if it is not known of all of them.
    pub unrealised_pnl: Option<Amount>,
    /// The wallet balance plus that sum; `None` if one of them is unknown.
    pub equity: Option<Amount>,
}

impl LastGoodPositions {
    /// The number of open positions, shown or not. An unusable row counts as one.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.positions.len() as u64 + self.over_limit + self.unusable
    }

    /// Keeps the `max` positions that are nearest to liquidation.
    fn limit(mut self, max: usize) -> Self {
        if self.positions.len() <= max {
            return self;
        }
        let mut positions = self.positions.to_vec();
        let distance = |position: &Position| position.liquidation_distance().unwrap_or(f64::INFINITY);
        positions.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
        let shown = positions.len().min(max);
        self.over_limit += (positions.len() - shown) as u64;
        positions.truncate(shown);
        positions.sort_unstable_by(|a, b| (&a.symbol, a.side).cmp(&(&b.symbol, b.side)));
        self.positions = positions.into();
        self
    }
}

impl PositionsSnapshot {
    /// A snapshot before the first poll.
    #[must_use]
    pub fn new(config: Arc<PositionsConfig>) -> Self {
        Self { config, last_good: None, last_failure: None, failures: [0; Reason::ALL.len()] }
    }

    /// The last good answer, if it is younger than `max_age` as of `now`.
    #[must_use]
    pub fn visible(&self, now: Timestamp) -> Option<&LastGoodPositions> {
        self.last_good.as_ref().filter(|good| good.at.age(now) < self.config.max_age)
    }

    /// When the answer that is visible as of `now` becomes too old.
    #[must_use]
    pub fn visible_until(&self, now: Timestamp) -> Option<MonotonicTime> {
        self.visible(now).map(|good| good.at.monotonic + self.config.max_age)
    }

    /// Fresh, held or unknown as of `now`.
    #[must_use]
    pub fn freshness(&self, now: Timestamp) -> Freshness {
        Freshness::new(self.visible(now).is_some(), self.last_failure.is_none())
    }

    /// Whether the last poll succeeded; false before the first poll.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.last_good.is_some() && self.last_failure.is_none()
    }

    /// The snapshot under other settings. More positions are shown only after the next poll.
    #[must_use]
    pub fn with_config(&self, config: Arc<PositionsConfig>) -> Self {
        let last_good = self.last_good.clone().map(|good| good.limit(config.risk.max_positions));
        Self { config, last_good, ..self.clone() }
    }

    /// The snapshot after a poll that ended at `at`. A good outcome holds the time at which the request was sent, and
    /// the wallet's balances, if they were read in the same poll.
    #[must_use]
    pub fn apply(
        &self,
        at: Timestamp,
        outcome: Result<(Timestamp, PositionAnswer), Failure>,
        margins: Option<&[CurrencyMargin]>,
    ) -> Self {
        let outcome = outcome.and_then(|(sent, answer)| {
            refuse_contradiction(&answer, margins.unwrap_or_default())?;
            Ok((sent, answer))
        });
        let mut next = self.clone();
        match outcome {
            Ok((sent, answer)) => {
                let good = self.read(sent, answer, margins.unwrap_or_default());
                next.last_good = Some(good);
                next.last_failure = None;
            }
            Err(failure) => {
                if let Some(count) = next.failures.get_mut(failure.reason as usize) {
                    *count += 1;
                }
                next.last_failure = Some(LastFailure::after(self.last_failure.as_ref(), at, failure));
            }
        }
        next
    }

    fn read(&self, at: Timestamp, answer: PositionAnswer, margins: &[CurrencyMargin]) -> LastGoodPositions {
        let currencies = currency_risks(self.config.wallet, &answer, margins).into();
        let PositionAnswer { positions, rejected } = answer;
        let positions = positions.into();
        let good = LastGoodPositions { at, positions, over_limit: 0, unusable: rejected, currencies };
        let mut good = good.limit(self.config.risk.max_positions);
        // The same allocation as before if nothing changed.
        if let Some(old) = &self.last_good {
            if old.positions == good.positions {
                good.positions = Arc::clone(&old.positions);
            }
            if old.currencies == good.currencies {
                good.currencies = Arc::clone(&old.currencies);
            }
        }
        good
    }
}

/// Refuses an empty list of positions if the balances of the same poll show margin of positions.
fn refuse_contradiction(answer: &PositionAnswer, margins: &[CurrencyMargin]) -> Result<(), Failure> {
    let is_used =
        |margin: &&CurrencyMargin| margin.position_margin.as_ref().is_some_and(|amount| amount.value() > 0.0);
    match margins.iter().find(is_used) {
        Some(used) if answer.positions.is_empty() && answer.rejected == 0 => Err(Failure::new(
            Reason::Decode,
            format!(
                "the exchange lists no open positions, but the {} balance shows margin of positions",
                used.currency
            ),
        )),
        _ => Ok(()),
    }
}

/// Profit and equity of every currency that positions settle in or that has a balance.
fn currency_risks(wallet: Wallet, answer: &PositionAnswer, margins: &[CurrencyMargin]) -> Vec<CurrencyRisk> {
    // An unusable row, or one with a symbol of another form, may settle in any currency.
    let settles = |position: &Position| settlement_currency(wallet, &position.symbol).is_some();
    let is_complete = answer.rejected == 0 && answer.positions.iter().all(settles);
    let zero = Amount::parse("0").filter(|_| is_complete);
    let mut sums: BTreeMap<&str, Option<Amount>> =
        margins.iter().map(|margin| (&*margin.currency, zero.clone())).collect();
    for position in &answer.positions {
        if let Some(currency) = settlement_currency(wallet, &position.symbol) {
            let sum = sums.entry(currency).or_insert_with(|| zero.clone());
            *sum = sum.as_ref().and_then(|sum| sum.plus(position.unrealised_pnl.as_ref()?));
        }
    }
    let risk = |(currency, unrealised_pnl): (&str, Option<Amount>)| {
        let margin = margins.iter().find(|margin| margin.currency == currency);
        let balance = margin.and_then(|margin| margin.wallet_balance.as_ref());
        let equity = balance.and_then(|balance| balance.plus(unrealised_pnl.as_ref()?));
        CurrencyRisk { currency: currency.into(), unrealised_pnl, equity }
    };
    sums.into_iter().map(risk).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::simulated::at,
        exchange::{PositionSide, futures_positions::decode_positions},
    };

    fn config(max_positions: usize) -> Arc<PositionsConfig> {
        Arc::new(PositionsConfig {
            account: "a".into(),
            wallet: Wallet::FuturesUsdt,
            risk: FuturesRisk { max_positions, ..FuturesRisk::default() },
            filter: CurrencyFilter::default(),
            watched: Vec::new(),
            max_age: Duration::from_secs(90),
        })
    }

    /// A row for each symbol, mark price, liquidation price and profit.
    fn answer(rows: &[(&str, &str, &str, &str)]) -> PositionAnswer {
        let row = |(symbol, mark, liquidation, profit): &(&str, &str, &str, &str)| {
            format!(
                r#"{{"symbol":"{symbol}","positionSide":"LONG","positionSize":"1","calMarkPrice":"{mark}","breakPrice":"{liquidation}","floatingPL":{profit}}}"#
            )
        };
        let rows: Vec<_> = rows.iter().map(row).collect();
        let body = format!(r#"{{"returnCode":0,"error":null,"result":[{}]}}"#, rows.join(","));
        decode_positions(200, body.as_bytes()).unwrap_or_else(|failure| panic!("{failure:?}"))
    }

    fn margin(currency: &str, balance: &str, position_margin: &str) -> CurrencyMargin {
        CurrencyMargin {
            currency: currency.into(),
            wallet_balance: Amount::parse(balance),
            position_margin: Amount::parse(position_margin),
        }
    }

    fn failure(reason: Reason) -> Result<(Timestamp, PositionAnswer), Failure> {
        Err(Failure::new(reason, "no"))
    }

    fn symbols(snapshot: &PositionsSnapshot) -> Vec<&str> {
        let good = snapshot.last_good.as_ref().map(|good| good.positions.iter());
        good.into_iter().flatten().map(|position| &*position.symbol).collect()
    }

    fn risks(snapshot: &PositionsSnapshot) -> Vec<String> {
        let text = |amount: &Option<Amount>| amount.as_ref().map_or("-", Amount::text).to_owned();
        let row = |risk: &CurrencyRisk| {
            format!("{} {} {}", risk.currency, text(&risk.unrealised_pnl), text(&risk.equity))
        };
        let good = snapshot.last_good.as_ref().map(|good| good.currencies.iter());
        good.into_iter().flatten().map(row).collect()
    }

    #[test]
    fn positions_are_held_after_a_failure_and_unknown_after_max_age() {
        let empty = PositionsSnapshot::new(config(200));
        assert_eq!((empty.freshness(at(0)), empty.is_up()), (Freshness::Unknown, false));
        let good = empty.apply(at(11), Ok((at(10), answer(&[("btc_usdt", "9", "8", "1")]))), None);
        assert_eq!((good.freshness(at(11)), good.is_up()), (Freshness::Fresh, true));
        let held = good.apply(at(40), failure(Reason::Timeout), None);
        assert_eq!((held.freshness(at(99)), held.is_up()), (Freshness::Held, false));
        assert_eq!(held.freshness(at(100)), Freshness::Unknown);
        assert_eq!(held.visible_until(at(99)), Some(at(100).monotonic));
        assert_eq!(held.failures.iter().sum::<u64>(), 1);
        assert_eq!(held.failures.get(Reason::Timeout as usize), Some(&1));
        let flat = held.apply(at(50), Ok((at(50), answer(&[]))), None);
        assert_eq!((symbols(&flat).len(), flat.is_up()), (0, true), "an empty list is an answer");
    }

    #[test]
    fn the_limit_keeps_the_positions_nearest_to_liquidation_and_counts_the_others() {
        let rows = [
            ("a_usdt", "100", "50", "1"),
            ("b_usdt", "100", "0", "1"),
            ("c_usdt", "100", "95", "1"),
            ("d_usdt", "100", "90", "1"),
        ];
        let apply = |max| PositionsSnapshot::new(config(max)).apply(at(1), Ok((at(1), answer(&rows))), None);
        for (max, shown, hidden) in
            [(4, &["a_usdt", "b_usdt", "c_usdt", "d_usdt"][..], 0), (2, &["c_usdt", "d_usdt"], 2)]
        {
            let snapshot = apply(max);
            assert_eq!(symbols(&snapshot), shown);
            let good = snapshot.last_good.as_ref().map(|good| (good.over_limit, good.open()));
            assert_eq!(good, Some((hidden, 4)), "{max}");
            let fewer = snapshot.with_config(config(1));
            assert_eq!(symbols(&fewer), ["c_usdt"]);
            assert_eq!(fewer.last_good.map(|good| (good.over_limit, good.open())), Some((3, 4)));
        }
        assert_eq!(risks(&apply(1)), ["usdt 4 -"], "the profit is that of all positions");
    }

    #[test]
    fn profit_is_a_sum_and_equity_adds_the_wallet_balance() {
        let read = |answer: PositionAnswer, margins: Option<&[CurrencyMargin]>| {
            let snapshot = PositionsSnapshot::new(config(200)).apply(at(1), Ok((at(1), answer)), margins);
            risks(&snapshot)
        };
        let two = || answer(&[("btc_usdt", "9", "8", "\"-0.10\""), ("eth_usdt", "9", "8", "\"0.3\"")]);
        let margins = [margin("btc", "2", "0"), margin("usdt", "100.05", "7")];
        assert_eq!(read(two(), Some(&margins)), ["btc 0 2", "usdt 0.2 100.25"]);
        assert_eq!(read(two(), None), ["usdt 0.2 -"], "balances of an earlier poll do not count");
        assert_eq!(read(two(), Some(&[margin("usdt", "", "7")])), ["usdt 0.2 -"]);
        assert_eq!(read(answer(&[]), Some(&[margin("usdt", "5", "0")])), ["usdt 0 5"]);
        let unknown = answer(&[("btc_usdt", "9", "8", "1"), ("eth_usdt", "9", "8", "null")]);
        assert_eq!(read(unknown, Some(&margins)), ["btc 0 2", "usdt - -"]);
        for other in ["ethusdt", "eth_usdc"] {
            let odd = answer(&[("btc_usdt", "9", "8", "1"), (other, "9", "8", "1")]);
            assert_eq!(read(odd, Some(&margins)), ["btc - -", "usdt - -"], "{other} may settle in any");
        }
        let rejected = PositionAnswer { rejected: 1, ..two() };
        assert_eq!(read(rejected, Some(&margins)), ["btc - -", "usdt - -"]);
    }

    #[test]
    fn an_empty_list_beside_margin_of_positions_is_refused() {
        let before = PositionsSnapshot::new(config(200));
        let before = before.apply(at(1), Ok((at(1), answer(&[("btc_usdt", "9", "8", "1")]))), None);
        let margins = [margin("usdt", "5", "0.00000001")];
        let refused = before.apply(at(2), Ok((at(2), answer(&[]))), Some(&margins));
        assert_eq!(symbols(&refused), ["btc_usdt"]);
        let reason = refused.last_failure.as_ref().map(|failure| failure.failure.reason);
        assert_eq!(reason, Some(Reason::Decode));
        for unknown in [margin("usdt", "5", "0"), margin("usdt", "5", "")] {
            let flat = before.apply(at(2), Ok((at(2), answer(&[]))), Some(&[unknown]));
            assert_eq!((symbols(&flat).len(), flat.is_up()), (0, true));
        }
    }

    #[test]
    fn equal_lists_are_one_and_the_filter_hides_currencies_but_no_positions() {
        let before = PositionsSnapshot::new(config(200));
        let rows = [("btc_usdt", "9", "8", "1")];
        let first = before.apply(at(1), Ok((at(1), answer(&rows))), None);
        let second = first.apply(at(2), Ok((at(2), answer(&rows))), None);
        let list =
            |snapshot: &PositionsSnapshot| snapshot.last_good.as_ref().map(|good| good.positions.as_ptr());
        assert_eq!(list(&first), list(&second));
        let risk = CurrencyRisk { currency: "usdt".into(), unrealised_pnl: None, equity: None };
        let filter = CurrencyFilter { exclude: vec!["usdt".into()], ..CurrencyFilter::default() };
        let hiding = PositionsConfig { filter, ..PositionsConfig::clone(&before.config) };
        assert!(before.config.shows(&risk) && !hiding.shows(&risk));
        assert!(PositionsConfig { watched: vec!["usdt".into()], ..hiding }.shows(&risk));
        assert_eq!(PositionSide::Long.label(), "long");
    }
}
