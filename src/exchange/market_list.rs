//! The exchange's list of markets: which of the markets against USDT are open. A closed market keeps its last price for
//! ever, so its price is worth nothing.
//! Pure: depends on neither JSON nor requests, and reads no clock.

use std::{collections::HashMap, sync::Arc, time::Duration};

use smol_str::SmolStr;

use super::{
    decode::decode_failure,
    error::Failure,
    price::{QUOTE, base_currency},
};
use crate::clock::{MonotonicTime, Timestamp};

/// Time between two reads of the list.
pub(super) const READ_INTERVAL: Duration = Duration::from_hours(1);
/// Time after a failed read of the list. The check of the rate limits in `config` counts one call in this time.
pub const MARKET_LIST_RETRY_INTERVAL: Duration = Duration::from_mins(5);

/// A good answer with the list of markets.
#[derive(Debug, PartialEq)]
pub struct MarketList {
    /// By base currency of a market against USDT: whether it is open.
    is_open: HashMap<SmolStr, bool>,
}

impl MarketList {
    /// Builds the list from markets and whether each is open. Only markets against USDT count. Of two markets with the
    /// same name both must be open, because it is unknown which one is right.
    ///
    /// # Errors
    /// If no market against USDT is open: more likely the answer is wrong than that all trading has ended.
    pub(super) fn from_markets<'a>(
        markets: impl IntoIterator<Item = (&'a str, bool)>,
    ) -> Result<Self, Failure> {
        let mut list = Self { is_open: HashMap::new() };
        for (market, is_open) in markets {
            if let Some(base) = base_currency(market) {
                *list.is_open.entry(base).or_insert(true) &= is_open;
            }
        }
        if list.is_open.values().any(|is_open| *is_open) {
            return Ok(list);
        }
        let count = list.is_open.len();
        Err(decode_failure(format!("none of the {count} listed markets against {QUOTE} is open")))
    }

    /// Whether `currency` has an open market against USDT. A market that is not listed is closed.
    #[must_use]
    pub fn is_open(&self, currency: &str) -> bool {
        self.is_open.get(currency).copied().unwrap_or_default()
    }
}

/// The last good list, and when it is read again.
#[derive(Debug, Default)]
pub(super) struct MarketListCache {
    last_good: Option<(Timestamp, Arc<MarketList>)>,
    last_attempt: Option<MonotonicTime>,
}

impl MarketListCache {
    /// The last good list and when its request was sent, however old.
    pub(super) fn last_good(&self) -> Option<&(Timestamp, Arc<MarketList>)> {
        self.last_good.as_ref()
    }

    /// Whether to read the list at `now`: an hour after the last good one, and not soon after a failed read.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        let is_old = self.last_good.as_ref().is_none_or(|(sent, _)| sent.age(now) >= READ_INTERVAL);
        let may_retry = self
            .last_attempt
            .is_none_or(|last| now.monotonic.saturating_duration_since(last) >= MARKET_LIST_RETRY_INTERVAL);
        is_old && may_retry
    }

    /// Records that the list is read at `now`.
    pub(super) fn record_attempt(&mut self, now: Timestamp) {
        self.last_attempt = Some(now.monotonic);
    }

    /// Records a good list whose request was sent at `sent`.
    pub(super) fn record_success(&mut self, sent: Timestamp, list: MarketList) {
        self.last_good = Some((sent, Arc::new(list)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::simulated::at, exchange::Reason};

    #[test]
    fn only_an_open_listed_market_against_usdt_is_open() -> Result<(), Failure> {
        let list = MarketList::from_markets([
            ("btc_usdt", true),
            ("ETH_USDT", true),
            ("luna_usdt", false),
            ("xrp_btc", true),
            ("two_usdt", true),
            ("Two_usdt", false),
        ])?;
        for (currency, is_open) in
            [("btc", true), ("eth", true), ("luna", false), ("xrp", false), ("two", false), ("gone", false)]
        {
            assert_eq!(list.is_open(currency), is_open, "{currency}");
        }
        Ok(())
    }

    #[test]
    fn a_list_without_an_open_market_is_a_failure() {
        for markets in [&[][..], &[("btc_usdt", false)], &[("eth_btc", true)]] {
            let reason = MarketList::from_markets(markets.iter().copied()).map_err(|failure| failure.reason);
            assert_eq!(reason, Err(Reason::Decode), "{markets:?}");
        }
    }

    #[test]
    fn the_list_is_due_once_an_hour_and_five_minutes_after_a_failure() -> Result<(), Failure> {
        let mut cache = MarketListCache::default();
        assert!(cache.is_due(at(0)));
        cache.record_attempt(at(0));
        assert_eq!((cache.is_due(at(299)), cache.is_due(at(300))), (false, true));
        cache.record_attempt(at(300));
        cache.record_success(at(300), MarketList::from_markets([("btc_usdt", true)])?);
        assert_eq!((cache.is_due(at(3_899)), cache.is_due(at(3_900))), (false, true));
        cache.record_attempt(at(3_900));
        assert_eq!((cache.is_due(at(4_199)), cache.is_due(at(4_200))), (false, true), "the old one stays");
        assert!(cache.last_good().is_some());
        Ok(())
    }
}
