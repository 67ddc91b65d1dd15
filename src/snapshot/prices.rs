//! The snapshot of prices: the last good answer, and how the next poll changes it.
//! Pure: reads no clock, sends nothing and does not depend on the text format.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use smol_str::SmolStr;

pub use crate::exchange::QUOTE;
use crate::{
    clock::{MonotonicTime, Timestamp},
    exchange::{Failure, MarketListStatus, PriceTable},
    snapshot::wallet::{Freshness, Holding, HoldingState, LastFailure, LastGood, WalletConfig},
};

/// The last good answer with prices, and the last failure. Every poll makes a new snapshot from the previous one.
#[derive(Clone, Debug)]
pub struct PriceSnapshot {
    /// Prices of this age and older are unknown.
    pub max_age: Duration,
    /// The filter for visible prices.
    pub filter: Arc<PriceFilter>,
    /// The last good answer, however old.
    pub last_good: Option<LastGoodPrices>,
    /// The last poll's failure; `None` if it did not fail, and before the first.
    pub last_failure: Option<LastFailure>,
    /// The list of markets that prices are checked against.
    pub market_list: MarketListState,
}

/// When the list of markets was last read, and why it cannot be read now. Its failures change no price.
#[derive(Clone, Debug, Default)]
pub struct MarketListState {
    /// When the request of the last good list was sent, however long ago.
    pub last_success: Option<Timestamp>,
    /// The last read's failure; `None` if it did not fail, and before the first.
    pub last_failure: Option<LastFailure>,
}

/// The last good answer with prices.
#[derive(Clone, Debug)]
pub struct LastGoodPrices {
    /// When its request was sent. Counting the age from here never understates it.
    pub at: Timestamp,
    /// Its prices. The same allocation as before if nothing changed.
    pub prices: Arc<PriceTable>,
}

impl PriceSnapshot {
    /// A snapshot before the first poll, for the prices that `wallets` need.
    #[must_use]
    pub fn new<'a>(max_age: Duration, wallet_configs: impl IntoIterator<Item = &'a WalletConfig>) -> Self {
        Self {
            max_age,
            filter: Arc::new(PriceFilter::new(wallet_configs)),
            last_good: None,
            last_failure: None,
            market_list: MarketListState::default(),
        }
    }

    /// The last good answer, if it is younger than `max_age` as of `now`.
    #[must_use]
    pub fn visible(&self, now: Timestamp) -> Option<&LastGoodPrices> {
        self.last_good.as_ref().filter(|good| good.at.age(now) < self.max_age)
    }

    /// When the answer that is visible as of `now` becomes too old.
    #[must_use]
    pub fn visible_until(&self, now: Timestamp) -> Option<MonotonicTime> {
        self.visible(now).map(|good| good.at.monotonic + self.max_age)
    }

    /// Fresh, held or unknown as of `now`.
    #[must_use]
    pub fn freshness(&self, now: Timestamp) -> Freshness {
        Freshness::new(self.visible(now).is_some(), self.last_failure.is_none())
    }

    /// Whether a poll has finished, successfully or not.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.last_good.is_some() || self.last_failure.is_some()
    }

    /// The snapshot after a poll that ended at `at`. A good outcome holds the time at which the request was sent.
    #[must_use]
    pub fn apply(&self, at: Timestamp, outcome: Result<(Timestamp, PriceTable), Failure>) -> Self {
        let mut next = self.clone();
        match outcome {
            Ok((sent, prices)) => {
                let prices = match self.last_good.as_ref().map(|good| &good.prices) {
                    Some(old) if **old == prices => Arc::clone(old),
                    Some(old) => Arc::new(prices.reusing(old)),
                    None => Arc::new(prices),
                };
                next.last_good = Some(LastGoodPrices { at: sent, prices });
                next.last_failure = None;
            }
            Err(failure) => {
                next.last_failure = Some(LastFailure::after(self.last_failure.as_ref(), at, failure));
            }
        }
        next
    }

    /// The snapshot after a poll that ended at `at` and used the list of markets, or failed to read it.
    #[must_use]
    pub fn apply_market_list(self, at: Timestamp, status: MarketListStatus) -> Self {
        let MarketListStatus { last_success, failure } = status;
        let old = &self.market_list;
        let is_new = last_success != old.last_success;
        let last_failure = match failure {
            Some(failure) => Some(LastFailure::after(old.last_failure.as_ref(), at, failure)),
            None if is_new => None,
            None => old.last_failure.clone(),
        };
        Self { market_list: MarketListState { last_success, last_failure }, ..self }
    }
}

/// The filter for prices: the currencies that some wallet can show.
#[derive(Debug)]
pub struct PriceFilter {
    /// Currencies that a wallet names.
    named: HashSet<SmolStr>,
    /// Currencies that every wallet without an `only` list excludes; `None` if every wallet has an `only` list.
    excluded: Option<BTreeSet<SmolStr>>,
}

impl PriceFilter {
    fn new<'a>(wallet_configs: impl IntoIterator<Item = &'a WalletConfig>) -> Self {
        let (mut named, mut excluded) = (HashSet::from([QUOTE.into()]), None::<BTreeSet<SmolStr>>);
        for wallet_config in wallet_configs {
            named.extend(wallet_config.watch.iter().map(|watch| watch.currency.clone()));
            let filter = &wallet_config.filter;
            if filter.only.is_empty() {
                let exclude = &filter.exclude;
                excluded = Some(match excluded {
                    Some(others) => others.into_iter().filter(|name| exclude.contains(name)).collect(),
                    None => exclude.iter().cloned().collect(),
                });
            } else {
                named.extend(filter.only.iter().filter(|name| !filter.exclude.contains(name)).cloned());
            }
        }
        Self { named, excluded }
    }

    /// Whether the price of `currency` is visible. The price of USDT always is.
    #[must_use]
    pub fn is_visible(&self, currency: &str) -> bool {
        self.named.contains(currency)
            || self.excluded.as_ref().is_some_and(|excluded| !excluded.contains(currency))
    }
}

/// The number of currencies in an answer that have a balance but no price. A balance of zero does not count; an
/// unreadable one does.
#[must_use]
pub fn count_unpriced(good: &LastGood, prices: &PriceTable) -> u64 {
    let is_unpriced = |holding: &&Holding| match &holding.state {
        // An unusable row, which may belong to it, is already counted in `unusable`.
        HoldingState::Unnamed => false,
        row if !row.is_readable() => true,
        row => !prices.contains(&holding.currency) && row.amounts() != Some((0.0, 0.0)),
    };
    good.holdings.iter().filter(is_unpriced).count() as u64 + good.unusable
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::simulated::at,
        exchange::{Amount, BalanceAmounts, Reason, Wallet, v1},
        snapshot::wallet::{CurrencyFilter, WatchedCurrency},
    };

    fn prices(body: &str) -> Result<PriceTable, Failure> {
        v1::decode_prices(200, body.as_bytes())
    }

    /// What a reading at second `seconds` brought.
    fn read(seconds: u64, body: &str) -> Result<(Timestamp, PriceTable), Failure> {
        prices(body).map(|prices| (at(seconds), prices))
    }

    #[test]
    fn known_then_held_then_unknown_then_known_again() {
        let new = PriceSnapshot::new(Duration::from_secs(90), []);
        assert!(new.visible(at(0)).is_none());
        let good = new.apply(at(12), read(10, r#"{"btc_usdt":{"price":7}}"#));
        let price = |price_snapshot: &PriceSnapshot, now| {
            price_snapshot.visible(at(now)).and_then(|quoted| quoted.prices.get("btc"))
        };
        assert_eq!(price(&good, 99), Some(7.0));
        let failed = good.apply(at(40), Err(Failure::new(Reason::Timeout, "t")));
        let failed = failed.apply(at(70), read(70, "{}"));
        assert_eq!((price(&failed, 99), price(&failed, 100)), (Some(7.0), None));
        assert_eq!(
            (failed.visible_until(at(99)), failed.visible_until(at(100))),
            (Some(at(100).monotonic), None)
        );
        let failure =
            failed.last_failure.as_ref().map(|failure| (failure.since, failure.at, failure.failure.reason));
        assert_eq!(failure, Some((at(40), at(70), Reason::Decode)));
        let back = failed.apply(at(112), read(110, r#"{"btc_usdt":{"price":8}}"#));
        assert_eq!((price(&back, 110), back.last_failure.is_none()), (Some(8.0), true));
    }

    fn wallet_config(watch: &[&str], only: &[&str], exclude: &[&str]) -> WalletConfig {
        let names = |names: &[&str]| names.iter().map(|name| (*name).into()).collect();
        let watch = watch.iter().map(|name| WatchedCurrency { currency: (*name).into(), thresholds: None });
        WalletConfig {
            account: "a".into(),
            wallet: Wallet::Spot,
            watch: watch.collect(),
            filter: CurrencyFilter { only: names(only), exclude: names(exclude), hide_zero: true },
            max_age: Duration::ZERO,
        }
    }

    #[test]
    fn the_prices_shown_are_of_what_some_wallet_could_show() {
        let chosen = |wallet_configs: &[WalletConfig]| {
            let filter = PriceFilter::new(wallet_configs);
            ["btc", "doge", "eth", "usdt", "xrp"]
                .into_iter()
                .filter(|name| filter.is_visible(name))
                .collect::<Vec<_>>()
        };
        let all = wallet_config(&[], &[], &[]);
        let named = wallet_config(&["xrp"], &["eth"], &[]);
        assert_eq!(chosen(&[wallet_config(&[], &[], &[])]), ["btc", "doge", "eth", "usdt", "xrp"]);
        assert_eq!(chosen(&[wallet_config(&["xrp"], &["eth"], &[])]), ["eth", "usdt", "xrp"]);
        assert_eq!(
            chosen(&[wallet_config(&[], &[], &["doge", "xrp"]), wallet_config(&["xrp"], &["eth"], &[])]),
            ["btc", "eth", "usdt", "xrp"]
        );
        let two = [wallet_config(&[], &[], &["doge", "xrp"]), wallet_config(&[], &[], &["doge", "btc"])];
        assert_eq!(chosen(&two), ["btc", "eth", "usdt", "xrp"], "both leave out doge");
        assert_eq!(chosen(&[named, all]).len(), 5);
    }

    #[test]
    fn what_holds_something_and_has_no_price_is_counted() -> Result<(), Failure> {
        let prices = prices(r#"{"btc_usdt":{"price":7}}"#)?;
        let amount = |text: &str| Amount::parse(text).unwrap_or_else(|| panic!("{text}"));
        let read =
            |free: &str, frozen: &str| HoldingState::Read(BalanceAmounts::new(amount(free), amount(frozen)));
        for (currency, row, counted) in [
            ("btc", read("1", "1"), 0),
            ("usdt", read("1", "0"), 0),
            ("eth", read("1", "0"), 1),
            ("eth", read("0", "0.00000001"), 1),
            ("eth", read("0.00", "0"), 0),
            ("eth", read("-1", "1"), 1),
            ("eth", HoldingState::Missing, 0),
            ("eth", HoldingState::Unreadable, 1),
            ("btc", HoldingState::Unreadable, 1),
            ("btc", HoldingState::Unnamed, 0),
            ("btc", HoldingState::Unconfirmed, 1),
        ] {
            let holdings = [Holding { currency: currency.into(), state: row }];
            let good = |unusable| LastGood {
                at: at(0),
                holdings: holdings.clone().into(),
                currencies: 1,
                rejected: 0,
                holds_anything: true,
                unusable,
                exchange_total: None,
                raw_body: None,
            };
            assert_eq!(count_unpriced(&good(0), &prices), counted, "{holdings:?}");
            assert_eq!(count_unpriced(&good(2), &prices), counted + 2, "nobody knows what those are worth");
        }
        Ok(())
    }
}
