//! Prices of currencies in USDT, taken from the markets of a reply.
//! Pure: depends on neither JSON nor requests.

use std::sync::Arc;

use smol_str::SmolStr;

use super::{amount::Amount, currency::currency_name, decode::decode_failure, error::Failure};

/// The quote currency of prices; the `quote` label.
pub const QUOTE: &str = "usdt";

/// A good answer with prices in USDT. USDT itself is among them and is 1, the unit of the others; every other
/// stablecoin has its market price.
#[derive(Clone, Debug, PartialEq)]
pub struct PriceTable {
    /// Lower case, sorted, without duplicates.
    currencies: Arc<[SmolStr]>,
    /// Finite and above 0, in the order of the currencies.
    values: Vec<f64>,
    /// The number of prices that were left out because their markets are closed; `None` if that was not checked.
    closed: Option<usize>,
}

impl PriceTable {
    /// The price of `currency`, if it has one.
    #[must_use]
    pub fn get(&self, currency: &str) -> Option<f64> {
        self.values.get(self.index_of(currency)?).copied()
    }

    /// Whether `currency` has a price.
    #[must_use]
    pub fn contains(&self, currency: &str) -> bool {
        self.index_of(currency).is_some()
    }

    fn index_of(&self, currency: &str) -> Option<usize> {
        self.currencies.binary_search_by(|known| (**known).cmp(currency)).ok()
    }

    /// Every currency with its price, sorted by currency.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.currencies.iter().map(|currency| &**currency).zip(self.values.iter().copied())
    }

    /// The currencies that have a price, sorted.
    #[must_use]
    pub fn currencies(&self) -> &Arc<[SmolStr]> {
        &self.currencies
    }

    /// Reuses the list of currencies of `old` if it is equal, so that a comparison of pointers shows that only values
    /// changed.
    #[must_use]
    pub fn reusing(self, old: &Self) -> Self {
        if self.currencies == old.currencies {
            return Self { currencies: Arc::clone(&old.currencies), ..self };
        }
        self
    }

    /// How many currencies have no price because their markets against USDT are closed; `None` if no list of markets
    /// was ever read.
    #[must_use]
    pub fn closed(&self) -> Option<usize> {
        self.closed
    }

    /// Leaves out the price of every currency whose market against USDT is not open. The price of USDT stays.
    #[must_use]
    pub(super) fn without_closed(self, is_open: impl Fn(&str) -> bool) -> Self {
        let is_kept = |currency: &str| currency == QUOTE || is_open(currency);
        if self.currencies.iter().all(|currency| is_kept(currency)) {
            return Self { closed: Some(0), ..self };
        }
        let rows = self.currencies.iter().cloned().zip(self.values);
        let (currencies, values): (Vec<_>, Vec<_>) = rows.filter(|(currency, _)| is_kept(currency)).unzip();
        Self { closed: Some(self.currencies.len() - currencies.len()), currencies: currencies.into(), values }
    }

    /// Builds the table from markets and their last prices, `None` for an unusable price. Only markets against USDT
    /// count. A market with an unusable price gives no price, and neither do two markets with the same name, because
    /// neither can be trusted.
    ///
    /// # Errors
    /// If no price is left.
    pub(super) fn from_markets<'a>(
        markets: impl IntoIterator<Item = (&'a str, Option<Amount>)>,
    ) -> Result<Self, Failure> {
        let mut found: Vec<_> =
            markets.into_iter().filter_map(|(market, price)| Some((base_currency(market)?, price))).collect();
        found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let fit = |same: &[(SmolStr, Option<Amount>)]| match same {
            [(currency, Some(price))] if price.value() > 0.0 => Some((currency.clone(), price.value())),
            _ => None,
        };
        let mut fit: Vec<_> = found.chunk_by(|(a, _), (b, _)| a == b).filter_map(fit).collect();
        if fit.is_empty() {
            return Err(decode_failure(format!(
                "none of the {} markets against {QUOTE} has a usable price",
                found.len()
            )));
        }
        let place = fit.partition_point(|(currency, _)| **currency < *QUOTE);
        fit.insert(place, (QUOTE.into(), 1.0));
        let (currencies, values): (Vec<_>, _) = fit.into_iter().unzip();
        Ok(Self { currencies: currencies.into(), values, closed: None })
    }
}

/// The base currency of `market`, if its quote is USDT: `btc` of `btc_usdt`. Currency names may hold an underscore, so
/// the last one separates them.
pub(super) fn base_currency(market: &str) -> Option<SmolStr> {
    let (base, quote) = market.rsplit_once('_')?;
    if quote.to_lowercase() != QUOTE {
        return None;
    }
    currency_name(base).filter(|currency| **currency != *QUOTE)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::exchange::Reason;

    /// The outcome of an answer: every price, or the failure reason.
    pub(in crate::exchange) fn list_prices(outcome: Result<PriceTable, Failure>) -> Result<String, Reason> {
        let format_price = |(currency, price): (&str, f64)| format!("{currency} {price}");
        let join = |prices: PriceTable| prices.iter().map(format_price).collect::<Vec<_>>().join(", ");
        outcome.map(join).map_err(|failure| failure.reason)
    }

    fn decode_prices(markets: &[(&str, &str)]) -> Result<Vec<(String, f64)>, Failure> {
        let prices =
            PriceTable::from_markets(markets.iter().map(|(market, price)| (*market, Amount::parse(price))))?;
        Ok(prices.iter().map(|(currency, price)| (currency.to_owned(), price)).collect())
    }

    fn to_owned_prices(prices: &[(&str, f64)]) -> Vec<(String, f64)> {
        prices.iter().map(|(currency, price)| ((*currency).to_owned(), *price)).collect()
    }

    #[test]
    fn markets_against_usdt_give_prices_and_no_others_do() {
        let markets = [
            ("xt_usdt", "2.71"),
            ("eth_btc", "0.05"),
            ("btc_usdt", "64210.5"),
            ("usdc_usdt", "0.9987"),
            ("btc3l_x_usdt", "0.5"),
            ("gal(ft)_USDT", "3"),
            ("ETH_usdt", "1e3"),
            ("usdt_try", "41"),
            ("usdt_usdt", "0.5"),
            ("usdt", "7"),
            ("_usdt", "7"),
            ("btcusdt", "7"),
            ("btc_usdt_", "7"),
            ("btc_usdtx", "7"),
        ];
        let expected = [
            ("btc", 64_210.5),
            ("btc3l_x", 0.5),
            ("eth", 1_000.0),
            ("gal(ft)", 3.0),
            ("usdc", 0.9987),
            ("usdt", 1.0),
            ("xt", 2.71),
        ];
        assert_eq!(decode_prices(&markets), Ok(to_owned_prices(&expected)));
    }

    #[test]
    fn a_price_that_is_unusable_or_there_twice_is_none() {
        let twice = ("b_usdt", "2");
        for bad in ["0", "0.00", "-0", "-1", "NaN", "inf", "1e400", "1e-400", "", "0x1", "1,5"] {
            assert_eq!(
                decode_prices(&[("b_usdt", bad), ("a_usdt", "1.5")]),
                Ok(to_owned_prices(&[("a", 1.5), ("usdt", 1.0)])),
                "{bad}"
            );
            assert_eq!(
                decode_prices(&[("b_usdt", bad)]).map_err(|failure| failure.reason),
                Err(Reason::Decode),
                "{bad}"
            );
            let half = decode_prices(&[("B_usdt", bad), twice, ("a_usdt", "1.5")]);
            assert_eq!(
                half,
                Ok(to_owned_prices(&[("a", 1.5), ("usdt", 1.0)])),
                "{bad}: one of two may be as wrong"
            );
        }
        let doubled = decode_prices(&[twice, ("a_usdt", "1.5"), ("b_USDT", "2")]);
        assert_eq!(doubled, Ok(to_owned_prices(&[("a", 1.5), ("usdt", 1.0)])));
        for none in [&[][..], &[("eth_btc", "1")], &[("usdt_usdt", "1")], &[twice, twice]] {
            assert_eq!(
                decode_prices(none).map_err(|failure| failure.reason),
                Err(Reason::Decode),
                "{none:?}"
            );
        }
    }

    #[test]
    fn equal_lists_of_currencies_are_one() -> Result<(), Failure> {
        let prices = |price: &str| PriceTable::from_markets([("btc_usdt", Amount::parse(price))]);
        let (first, other) = (prices("1")?, PriceTable::from_markets([("eth_usdt", Amount::parse("1"))])?);
        let second = prices("2")?.reusing(&first);
        assert!(Arc::ptr_eq(first.currencies(), second.currencies()));
        assert_eq!((second.get("btc"), second.contains("eth")), (Some(2.0), false));
        assert_eq!(other.clone().reusing(&first), other);
        Ok(())
    }

    /// Compared each with each, the markets of the largest body there is would take minutes.
    #[test]
    fn an_answer_full_of_duplicates_is_decoded_quickly() {
        let names: Vec<_> = (0..200_000).map(|n| format!("c{}_usdt", n / 2)).collect();
        let markets = names.iter().map(|name| (&**name, Amount::parse("1")));
        let once = ("btc_usdt", Amount::parse("2"));
        let read = PriceTable::from_markets(markets.chain([once])).map(|prices| prices.currencies().len());
        assert_eq!(read, Ok(2));
    }
}
