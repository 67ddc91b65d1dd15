//! The balances of one wallet as rows: the watched currencies, then the largest of the others. The page of all accounts
//! bounds the number of rows, because hundreds of accounts with a thousand currencies each must stay small. No markup.

use std::cmp::Reverse;

use super::{
    format::{AmountText, CurrencyName, HumanDuration, Quantity, Shortfall, ThresholdsText},
    input::{PageContext, PageScope, SortKey, visible_holdings},
    trend::BalanceTrend,
    worth::{WorthText, worth_of_holding},
};
use crate::{
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
    pub(super) names: Vec<CurrencyName<'a>>,
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
    /// Whether there is a column of worth.
    pub(super) has_worth: bool,
    /// Whether there is a column of changes.
    pub(super) has_trends: bool,
    pub(super) watched: Vec<BalanceRow<'a>>,
    pub(super) others: Vec<BalanceRow<'a>>,
}

/// One currency.
pub(super) struct BalanceRow<'a> {
    pub(super) currency: CurrencyName<'a>,
    pub(super) amounts: Amounts<'a>,
    pub(super) thresholds: Option<ThresholdCell>,
    pub(super) worth: Option<WorthText>,
    /// `None` if the currency is not watched.
    pub(super) trend: Option<BalanceTrend>,
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
    pub(super) fn new(snapshot: &'a WalletSnapshot, context: PageContext<'a>) -> Self {
        let config = &snapshot.config;
        let holdings = visible_holdings(snapshot, context.now);
        let unwatched = holdings.iter().filter(|holding| config.find_watch(&holding.currency).is_none());
        let (zeros, others): (Vec<_>, Vec<_>) =
            unwatched.partition(|holding| holding.state.amounts() == Some((0.0, 0.0)));
        let max_rows = match context.scope {
            PageScope::All => MAX_ROWS,
            PageScope::Account => usize::MAX,
        };
        let has_rows = !config.watch.is_empty() || !others.is_empty();
        let hidden_count = others.len().saturating_sub(max_rows);
        let others = select_largest(others, max_rows, context);
        let table = has_rows.then(|| BalanceTable::new(snapshot, &others, context));
        let is_empty = zeros.is_empty() && !has_rows && snapshot.visible(context.now).is_some();
        Self { table, hidden_count, zeros: ZeroBalances::new(&zeros, max_rows), is_empty }
    }
}

impl<'a> ZeroBalances<'a> {
    fn new(zeros: &[&'a Holding], max_names: usize) -> Option<Self> {
        (!zeros.is_empty()).then(|| Self {
            quantity: Quantity(zeros.len(), "zero balance"),
            names: zeros.iter().take(max_names).map(|zero| CurrencyName(&zero.currency)).collect(),
            hidden_count: zeros.len().saturating_sub(max_names),
        })
    }
}

impl<'a> BalanceTable<'a> {
    fn new(snapshot: &'a WalletSnapshot, others: &[&'a Holding], context: PageContext<'a>) -> Self {
        let config = &snapshot.config;
        let visible = snapshot.visible(context.now);
        let held = visible.filter(|_| snapshot.last_failure.is_some());
        let watched_row = |watch: &'a WatchedCurrency| {
            let holding = visible.and_then(|good| good.find_holding(&watch.currency));
            let row = BalanceRow::new(&watch.currency, holding, watch.thresholds, context);
            BalanceRow { trend: Some(watch_trend(snapshot, watch, context)), ..row }
        };
        let other_row =
            |holding: &&'a Holding| BalanceRow::new(&holding.currency, Some(holding), None, context);
        let mut watched: Vec<_> = config.watch.iter().map(watched_row).collect();
        match context.sort {
            SortKey::Name => {}
            SortKey::Worth => watched.sort_by(|a, b| worth_key(b).total_cmp(&worth_key(a))),
            SortKey::Change => watched.sort_by(|a, b| change_key(a).total_cmp(&change_key(b))),
        }
        let others: Vec<_> = others.iter().map(other_row).collect();
        Self {
            account: &config.account,
            wallet: config.wallet,
            fraction_digits: align_fractions(watched.iter().chain(&others).flat_map(BalanceRow::amounts)),
            held: held.map(|good| HumanDuration(good.at.age(context.now))),
            has_thresholds: config.watch.iter().any(|watch| watch.thresholds.is_some()),
            has_worth: context.has_prices,
            has_trends: !config.watch.is_empty(),
            watched,
            others,
        }
    }
}

impl BalanceTable<'_> {
    /// The lowest change of a watched balance; `None` if none is known.
    pub(super) fn fastest_fall(&self) -> Option<f64> {
        let trends = self.watched.iter().filter_map(|row| row.trend.as_ref()?.change_ratio);
        trends.min_by(f64::total_cmp)
    }
}

/// How a watched balance moved.
pub(super) fn watch_trend(
    snapshot: &WalletSnapshot,
    watch: &WatchedCurrency,
    context: PageContext<'_>,
) -> BalanceTrend {
    let config = &snapshot.config;
    let series = context.history.find(&config.account, config.wallet, &watch.currency);
    let state = snapshot.visible(context.now).and_then(|good| good.find_state(&watch.currency));
    let free = state.and_then(HoldingState::amounts).map(|(free, _)| free);
    BalanceTrend::new(series, free, watch.thresholds.map(|thresholds| thresholds.warn), context.now)
}

/// Sort key of a row: without a worth it comes last.
fn worth_key(row: &BalanceRow<'_>) -> f64 {
    row.worth.map_or(f64::NEG_INFINITY, |worth| worth.0)
}

/// Sort key of a row: the fastest fall comes first, and a row without a change last.
fn change_key(row: &BalanceRow<'_>) -> f64 {
    row.trend.as_ref().and_then(|trend| trend.change_ratio).unwrap_or(f64::INFINITY)
}

impl<'a> BalanceRow<'a> {
    fn new(
        currency: &'a str,
        holding: Option<&'a Holding>,
        thresholds: Option<Thresholds>,
        context: PageContext<'_>,
    ) -> Self {
        let state = holding.map(|holding| &holding.state);
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
        let worth =
            holding.zip(context.prices).and_then(|(holding, prices)| worth_of_holding(holding, prices));
        Self {
            currency: CurrencyName(currency),
            amounts,
            thresholds,
            worth: worth.map(WorthText),
            trend: None,
        }
    }

    /// Whether the exchange sent amounts for which there is no price.
    pub(super) fn is_unpriced(&self) -> bool {
        self.worth.is_none() && matches!(self.amounts, Amounts::Read { .. })
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

/// The first `max` holdings by [`rank`], sorted by worth or by name.
fn select_largest<'a>(
    mut holdings: Vec<&'a Holding>,
    max: usize,
    context: PageContext<'_>,
) -> Vec<&'a Holding> {
    let is_by_worth = context.sort == SortKey::Worth && context.prices.is_some();
    if holdings.len() <= max && !is_by_worth {
        return holdings;
    }
    // Cached, because each key costs a search among the prices.
    holdings.sort_by_cached_key(|holding| Reverse(rank(holding, context.prices)));
    holdings.truncate(max);
    if !is_by_worth {
        holdings.sort_unstable_by(|a, b| a.currency.cmp(&b.currency));
    }
    holdings
}

/// Sort key of a holding: unreadable ones come first, then the highest worth, then those with a frozen amount. Without a
/// price the worth is 0.
fn rank(holding: &Holding, prices: Option<&PriceTable>) -> (bool, u64, bool) {
    let amounts = holding.state.amounts();
    let worth = prices.and_then(|prices| worth_of_holding(holding, prices)).unwrap_or(0.0).max(0.0);
    // The bits of floats that are not negative are in the order of the floats.
    (amounts.is_none(), worth.to_bits(), amounts.is_some_and(|(_, frozen)| frozen != 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::simulated::at,
        exchange::v1,
        snapshot::{history::History, wallet::tests::answer},
    };

    /// The names of the rows that are listed of these.
    fn visible_names(rows: &[(&str, &str, &str)], prices: Option<&PriceTable>, sort: SortKey) -> Vec<String> {
        let history = History::default();
        let context = PageContext {
            now: at(0),
            prices,
            has_prices: prices.is_some(),
            history: &history,
            sort,
            scope: PageScope::All,
        };
        let row = |balance: crate::exchange::Balance| Holding {
            currency: balance.currency,
            state: HoldingState::Read(balance.amounts),
        };
        let holdings: Vec<_> = answer(rows).balances.into_iter().map(row).collect();
        let chosen = select_largest(holdings.iter().collect(), MAX_ROWS, context);
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
        assert_eq!(
            visible_names(&with_others(&names, &[]), None, SortKey::Worth),
            names,
            "all, if they are few enough"
        );
        let more = [("x_frozen", "0", "0.1"), ("y_rich", "5", "0"), ("z_free", "9", "0")];
        let rows = with_others(&names, &more);
        let first = |count: usize| names.iter().take(count).cloned();
        let with = |count: usize, more: &[&str]| -> Vec<String> {
            first(count).chain(more.iter().map(|name| (*name).to_owned())).collect()
        };
        assert_eq!(visible_names(&rows, None, SortKey::Worth), with(MAX_ROWS - 1, &["x_frozen"]));
        let prices = v1::decode_prices(200, br#"{"y_rich_usdt":{"price":2},"c19_usdt":{"price":3}}"#);
        let prices = prices.unwrap_or_else(|failure| panic!("{failure:?}"));
        let expected = [with(MAX_ROWS - 3, &[]), vec!["c19".into(), "x_frozen".into(), "y_rich".into()]];
        assert_eq!(visible_names(&rows, Some(&prices), SortKey::Name), expected.concat());
        let by_worth = visible_names(&rows, Some(&prices), SortKey::Worth);
        assert_eq!(by_worth.get(..3), Some(&["y_rich".to_owned(), "c19".into(), "x_frozen".into()][..]));
    }
}
