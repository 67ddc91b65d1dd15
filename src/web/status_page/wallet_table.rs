//! The balances of one wallet as rows: the watched currencies, then the largest of the others. The number of rows is
//! bounded, because a page of hundreds of accounts with a thousand currencies each must stay small. No markup.

use std::cmp::Reverse;

use super::{
    format::{AmountText, HumanDuration, Quantity, Shortfall, ThresholdsText},
    model::visible_holdings,
};
use crate::{
    clock::Timestamp,
    exchange::{BalanceAmounts, FrozenPart, PriceTable, Wallet},
    snapshot::wallet::{Holding, HoldingState, Thresholds, WalletSnapshot, WatchedCurrency},
};

/// Maximum number of currencies in a table beside the watched ones, and of zero balances listed by name.
const MAX_ROWS: usize = 20;
/// Maximum number of digits after the decimal point that the page aligns.
const MAX_ALIGNED_DIGITS: usize = 8;

/// The balances of a wallet, as the page shows them.
pub(super) struct WalletBalances<'a> {
    /// `None` if there is no currency to list.
    pub(super) table: Option<BalanceTable<'a>>,
    /// Currencies that are neither watched nor zero, and have no row.
    pub(super) hidden_count: usize,
    pub(super) zeros: Option<ZeroBalances<'a>>,
    /// Whether the balances are known and the wallet is empty.
    pub(super) is_empty: bool,
}

/// Currencies with a balance of zero that are not watched.
pub(super) struct ZeroBalances<'a> {
    pub(super) quantity: Quantity,
    /// The first of them by name.
    pub(super) names: Vec<&'a str>,
    pub(super) hidden_count: usize,
}

/// Rows of watched currencies, then of others.
pub(super) struct BalanceTable<'a> {
    pub(super) account: &'a str,
    pub(super) wallet: Wallet,
    /// Digits after the decimal point to leave room for, so that the points are aligned.
    pub(super) fraction_digits: usize,
    /// Age of the balances if the last poll failed.
    pub(super) held: Option<HumanDuration>,
    /// Whether there is a column of thresholds.
    pub(super) has_thresholds: bool,
    pub(super) watched: Vec<BalanceRow<'a>>,
    pub(super) others: Vec<BalanceRow<'a>>,
}

/// One currency.
pub(super) struct BalanceRow<'a> {
    pub(super) currency: &'a str,
    pub(super) amounts: Amounts<'a>,
    pub(super) thresholds: Option<ThresholdCell>,
}

/// The amounts of a currency, or why they are unknown.
pub(super) enum Amounts<'a> {
    Read {
        free: AmountText<'a>,
        frozen: AmountText<'a>,
        is_nothing_frozen: bool,
        /// Whether the exchange's list has the currency.
        is_listed: bool,
        /// Reason and amount of each part of the frozen amount that is not 0.
        parts: Vec<(&'static str, Option<&'a str>)>,
    },
    /// The answer did not list the currency, which is a balance of zero.
    Missing,
    Unknown(&'static str),
}

impl<'a> Amounts<'a> {
    fn read(amounts: &'a BalanceAmounts, is_listed: bool) -> Self {
        let parts: Vec<_> = amounts.frozen_parts.iter().filter(|part| part.amount.value() != 0.0).collect();
        // A reason that explains the whole amount needs no number of its own.
        let is_whole = |part: &FrozenPart| {
            parts.len() == 1 && part.amount.value().total_cmp(&amounts.frozen.value()).is_eq()
        };
        let amount = |part: &'a FrozenPart| (!is_whole(part)).then(|| part.amount.text());
        Self::Read {
            free: AmountText::new(amounts.free.text()),
            frozen: AmountText::new(amounts.frozen.text()),
            is_nothing_frozen: amounts.frozen.value() == 0.0,
            is_listed,
            parts: parts.iter().map(|part| (part.reason.label(), amount(part))).collect(),
        }
    }
}

/// The thresholds, compared with the free balance.
pub(super) enum ThresholdCell {
    Below(Shortfall),
    Above(ThresholdsText),
    BalanceUnknown(ThresholdsText),
}

impl<'a> WalletBalances<'a> {
    /// `prices` decide which of the balances are the largest.
    pub(super) fn new(snapshot: &'a WalletSnapshot, prices: Option<&PriceTable>, now: Timestamp) -> Self {
        let config = &snapshot.config;
        let holdings = visible_holdings(snapshot, now);
        let unwatched = holdings.iter().filter(|holding| config.find_watch(&holding.currency).is_none());
        let (zeros, others): (Vec<_>, Vec<_>) =
            unwatched.partition(|holding| holding.state.amounts() == Some((0.0, 0.0)));
        let has_rows = !config.watch.is_empty() || !others.is_empty();
        let hidden_count = others.len().saturating_sub(MAX_ROWS);
        let table = has_rows.then(|| BalanceTable::new(snapshot, &select_largest(others, prices), now));
        let is_empty = zeros.is_empty() && !has_rows && snapshot.visible(now).is_some();
        Self { table, hidden_count, zeros: ZeroBalances::new(&zeros), is_empty }
    }
}

impl<'a> ZeroBalances<'a> {
    fn new(zeros: &[&'a Holding]) -> Option<Self> {
        (!zeros.is_empty()).then(|| Self {
            quantity: Quantity(zeros.len(), "zero balance"),
            names: zeros.iter().take(MAX_ROWS).map(|zero| zero.currency.as_str()).collect(),
            hidden_count: zeros.len().saturating_sub(MAX_ROWS),
        })
    }
}

impl<'a> BalanceTable<'a> {
    fn new(snapshot: &'a WalletSnapshot, others: &[&'a Holding], now: Timestamp) -> Self {
        let config = &snapshot.config;
        let visible = snapshot.visible(now);
        let held = visible.filter(|_| snapshot.last_failure.is_some());
        let watched_row = |watch: &'a WatchedCurrency| {
            let state = visible.and_then(|good| good.find_state(&watch.currency));
            BalanceRow::new(&watch.currency, state, watch.thresholds)
        };
        let other_row =
            |holding: &&'a Holding| BalanceRow::new(&holding.currency, Some(&holding.state), None);
        let watched: Vec<_> = config.watch.iter().map(watched_row).collect();
        let others: Vec<_> = others.iter().map(other_row).collect();
        Self {
            account: &config.account,
            wallet: config.wallet,
            fraction_digits: align_fractions(watched.iter().chain(&others).flat_map(BalanceRow::amounts)),
            held: held.map(|good| HumanDuration(good.at.age(now))),
            has_thresholds: config.watch.iter().any(|watch| watch.thresholds.is_some()),
            watched,
            others,
        }
    }
}

impl<'a> BalanceRow<'a> {
    fn new(currency: &'a str, state: Option<&'a HoldingState>, thresholds: Option<Thresholds>) -> Self {
        let amounts = match state {
            Some(HoldingState::Read(amounts)) => Amounts::read(amounts, true),
            Some(HoldingState::Unlisted(amounts)) => Amounts::read(amounts, false),
            Some(HoldingState::Missing) => Amounts::Missing,
            Some(HoldingState::Unreadable) => Amounts::Unknown("unreadable"),
            Some(HoldingState::Unnamed) => {
                Amounts::Unknown("unknown: a row of the answer has no usable name")
            }
            Some(HoldingState::Unconfirmed) => {
                Amounts::Unknown("missing from the last answer, not confirmed yet")
            }
            None => Amounts::Unknown("unknown"),
        };
        let free = state.and_then(HoldingState::amounts).map(|(free, _)| free);
        let thresholds = thresholds.map(|thresholds| match Shortfall::between(free, Some(thresholds)) {
            Some(shortfall) => ThresholdCell::Below(shortfall),
            None if free.is_none() => ThresholdCell::BalanceUnknown(ThresholdsText(thresholds)),
            None => ThresholdCell::Above(ThresholdsText(thresholds)),
        });
        Self { currency, amounts, thresholds }
    }

    /// The free balance, if it is below its threshold.
    pub(super) fn shortfall(&self) -> Option<Shortfall> {
        match self.thresholds {
            Some(ThresholdCell::Below(shortfall)) => Some(shortfall),
            _ => None,
        }
    }

    fn amounts(&self) -> Vec<AmountText<'a>> {
        match self.amounts {
            Amounts::Read { free, frozen, .. } => vec![free, frozen],
            Amounts::Missing | Amounts::Unknown(_) => vec![],
        }
    }
}

/// Digits after the decimal point to leave room for in a column of `amounts`.
pub(super) fn align_fractions<'a>(amounts: impl Iterator<Item = AmountText<'a>>) -> usize {
    amounts.map(AmountText::fraction_digits).max().unwrap_or(0).min(MAX_ALIGNED_DIGITS)
}

/// The first [`MAX_ROWS`] holdings by [`rank`], sorted by name.
fn select_largest<'a>(mut holdings: Vec<&'a Holding>, prices: Option<&PriceTable>) -> Vec<&'a Holding> {
    if holdings.len() <= MAX_ROWS {
        return holdings;
    }
    // Cached, because each key costs a search among the prices.
    holdings.sort_by_cached_key(|holding| Reverse(rank(holding, prices)));
    holdings.truncate(MAX_ROWS);
    holdings.sort_unstable_by(|a, b| a.currency.cmp(&b.currency));
    holdings
}

/// Sort key of a holding: unreadable ones come first, then the highest value, then those with a frozen amount. Without a
/// price the value is 0.
fn rank(holding: &Holding, prices: Option<&PriceTable>) -> (bool, u64, bool) {
    let amounts = holding.state.amounts();
    let price = prices.and_then(|prices| prices.get(&holding.currency));
    let value = amounts.zip(price).map_or(0.0, |((free, frozen), price)| ((free + frozen) * price).max(0.0));
    // The bits of floats that are not negative are in the order of the floats.
    (amounts.is_none(), value.to_bits(), amounts.is_some_and(|(_, frozen)| frozen != 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{exchange::v1, snapshot::wallet::tests::answer};

    /// The names of the rows that are listed of these.
    fn visible_names(rows: &[(&str, &str, &str)], prices: Option<&PriceTable>) -> Vec<String> {
        let row = |balance: crate::exchange::Balance| Holding {
            currency: balance.currency,
            state: HoldingState::Read(balance.amounts),
        };
        let holdings: Vec<_> = answer(rows).balances.into_iter().map(row).collect();
        let chosen = select_largest(holdings.iter().collect(), prices);
        chosen.iter().map(|holding| holding.currency.to_string()).collect()
    }

    /// So many rows as the table lists, `c00`, `c01` …, and then these.
    fn with_others<'a>(
        names: &'a [String],
        more: &[(&'a str, &'a str, &'a str)],
    ) -> Vec<(&'a str, &'a str, &'a str)> {
        names.iter().map(|name| (&**name, "1", "0")).chain(more.iter().copied()).collect()
    }

    #[test]
    fn the_rows_are_those_of_the_highest_worth_then_those_with_something_frozen_then_the_first_by_name() {
        let names: Vec<_> = (0..MAX_ROWS).map(|number| format!("c{number:02}")).collect();
        assert_eq!(visible_names(&with_others(&names, &[]), None), names, "all, if they are few enough");
        let more = [("x_frozen", "0", "0.1"), ("y_rich", "5", "0"), ("z_free", "9", "0")];
        let rows = with_others(&names, &more);
        let first = |count: usize| names.iter().take(count).cloned();
        let with = |count: usize, more: &[&str]| -> Vec<String> {
            first(count).chain(more.iter().map(|name| (*name).to_owned())).collect()
        };
        assert_eq!(visible_names(&rows, None), with(MAX_ROWS - 1, &["x_frozen"]));
        let prices = v1::decode_prices(200, br#"{"y_rich_usdt":{"price":2},"c19_usdt":{"price":3}}"#);
        let prices = prices.unwrap_or_else(|failure| panic!("{failure:?}"));
        let expected = [with(MAX_ROWS - 3, &[]), vec!["c19".into(), "x_frozen".into(), "y_rich".into()]];
        assert_eq!(visible_names(&rows, Some(&prices)), expected.concat());
    }
}
