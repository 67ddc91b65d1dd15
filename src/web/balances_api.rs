//! `GET /api/v1/balances`: balances as JSON with every digit that the exchange wrote. A metric is a float64, which cannot
//! hold all of them. A balance that is unknown in `/metrics` is unknown here too.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Serialize, Serializer};

use crate::{
    clock::{Timestamp, UnixTime},
    exchange::{Amount, FrozenParts, MarginMode, Position},
    snapshot::positions::{CurrencyRisk, PositionsSnapshot},
    snapshot::store::{AccountEntry, WalletEntry},
    snapshot::wallet::{Freshness, Holding, HoldingState, Thresholds, WalletConfig, WalletSnapshot},
};

/// The body: every wallet of the requested accounts.
#[derive(Serialize)]
struct BalancesDocument<'a> {
    /// Time of the response, RFC 3339.
    time: String,
    wallets: Vec<WalletBalances<'a>>,
}

#[derive(Serialize)]
struct WalletBalances<'a> {
    account: &'a str,
    wallet: &'static str,
    /// `fresh`, `held` or `unknown`.
    state: &'static str,
    /// When the last good poll was sent, RFC 3339; null if there was none.
    answered: Option<String>,
    /// Time since then.
    age_seconds: Option<f64>,
    /// Null while the balances are unknown.
    balances: Option<Vec<CurrencyBalance<'a>>>,
    /// Absent if positions are not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    positions: Option<WalletPositions<'a>>,
}

/// The open positions of a wallet, which have a state of their own.
#[derive(Serialize)]
struct WalletPositions<'a> {
    state: &'static str,
    answered: Option<String>,
    age_seconds: Option<f64>,
    /// Positions that are not shown, because of `max_positions` and because their rows are unusable; null while unknown.
    over_limit: Option<u64>,
    unusable: Option<u64>,
    /// Null while unknown.
    open: Option<Vec<OpenPosition<'a>>>,
    currencies: Option<Vec<CurrencyProfit<'a>>>,
}

/// Decimal numbers as the exchange wrote them; null if the answer has none.
#[derive(Serialize)]
struct OpenPosition<'a> {
    symbol: &'a str,
    side: &'static str,
    margin_mode: Option<&'static str>,
    size_contracts: &'a str,
    entry_price: Option<&'a str>,
    mark_price: Option<&'a str>,
    liquidation_price: Option<&'a str>,
    leverage: Option<&'a str>,
    unrealised_pnl: Option<&'a str>,
}

#[derive(Serialize)]
struct CurrencyProfit<'a> {
    currency: &'a str,
    unrealised_pnl: Option<&'a str>,
    equity: Option<&'a str>,
}

#[derive(Serialize)]
struct CurrencyBalance<'a> {
    currency: &'a str,
    /// Decimal number as the exchange wrote it; null if it is unreadable.
    free: Option<&'a str>,
    frozen: Option<&'a str>,
    /// The parts of the frozen amount by reason, as far as the exchange sent them; null if the balance is unknown.
    frozen_parts: Option<PartTexts<'a>>,
    /// Whether the exchange's list has the currency. A watched currency that it leaves out is 0, unless the exchange has it
    /// when it is asked for the currency alone. Null if unknown.
    present: Option<bool>,
    /// Null if none are configured.
    thresholds: Option<CurrencyThresholds>,
}

/// The parts of a frozen amount as an object: the reason, and the decimal number.
struct PartTexts<'a>(&'a FrozenParts);

impl Serialize for PartTexts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|part| (part.reason.label(), part.amount.text())))
    }
}

/// The free amounts below which the alerts warn and page.
#[derive(Serialize)]
struct CurrencyThresholds {
    warn: f64,
    page: f64,
}

/// Why a query is invalid, as the text of the response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum QueryError {
    UnknownParameter(String),
    UnknownAccount(String),
}

/// Parses `account=NAME&account=…` into a set of names. An empty set stands for all accounts.
///
/// # Errors
/// If the query has another parameter, or a name that `accounts` does not have.
pub(super) fn parse_query(
    accounts: &[Arc<AccountEntry>],
    query: &str,
) -> Result<BTreeSet<Box<str>>, QueryError> {
    let mut names = BTreeSet::new();
    for (parameter, name) in form_urlencoded::parse(query.as_bytes()) {
        if parameter != "account" {
            let text = format!("unknown parameter {parameter:?}: use account=NAME, any number of times");
            return Err(QueryError::UnknownParameter(text));
        }
        if !accounts.iter().any(|account| *account.state.name == *name) {
            let known: Vec<_> = accounts.iter().map(|account| &*account.state.name).collect();
            let text = format!("unknown account {name:?}: use one of {}", known.join(", "));
            return Err(QueryError::UnknownAccount(text));
        }
        names.insert(name.into());
    }
    Ok(names)
}

/// Renders the accounts whose names are in `names`, or all accounts if it is empty.
pub(super) fn render(accounts: &[Arc<AccountEntry>], names: &BTreeSet<Box<str>>, now: Timestamp) -> Vec<u8> {
    let is_requested = |account: &&Arc<AccountEntry>| names.is_empty() || names.contains(&account.state.name);
    let wallets = accounts.iter().filter(is_requested).flat_map(|account| &account.wallets);
    let wallets = wallets.map(|entry| wallet_balances(entry, now)).collect();
    let json = serde_json::to_vec(&BalancesDocument { time: rfc3339(now.unix), wallets });
    debug_assert!(json.is_ok(), "writing strings and numbers into memory cannot fail");
    json.unwrap_or_default()
}

fn wallet_balances(entry: &WalletEntry, now: Timestamp) -> WalletBalances<'_> {
    let snapshot: &WalletSnapshot = &entry.snapshot;
    let good = snapshot.last_good.as_ref();
    WalletBalances {
        account: &snapshot.config.account,
        wallet: snapshot.config.wallet.label(),
        state: state_name(snapshot.freshness(now)),
        answered: good.map(|good| rfc3339(good.at.unix)),
        age_seconds: good.map(|good| good.at.age(now).as_secs_f64()),
        balances: snapshot.visible(now).map(|good| {
            good.holdings.iter().map(|holding| currency_balance(&snapshot.config, holding)).collect()
        }),
        positions: entry.positions.as_ref().map(|positions| wallet_positions(positions, now)),
    }
}

fn state_name(freshness: Freshness) -> &'static str {
    match freshness {
        Freshness::Fresh => "fresh",
        Freshness::Held => "held",
        Freshness::Unknown => "unknown",
    }
}

fn wallet_positions(snapshot: &PositionsSnapshot, now: Timestamp) -> WalletPositions<'_> {
    let (good, visible) = (snapshot.last_good.as_ref(), snapshot.visible(now));
    WalletPositions {
        state: state_name(snapshot.freshness(now)),
        answered: good.map(|good| rfc3339(good.at.unix)),
        age_seconds: good.map(|good| good.at.age(now).as_secs_f64()),
        over_limit: visible.map(|good| good.over_limit),
        unusable: visible.map(|good| good.unusable),
        open: visible.map(|good| good.positions.iter().map(open_position).collect()),
        currencies: visible.map(|good| {
            let shown = good.currencies.iter().filter(|risk| snapshot.config.shows(risk));
            shown.map(currency_profit).collect()
        }),
    }
}

fn open_position(position: &Position) -> OpenPosition<'_> {
    OpenPosition {
        symbol: &position.symbol,
        side: position.side.label(),
        margin_mode: position.margin_mode.map(MarginMode::label),
        size_contracts: position.size.text(),
        entry_price: position.entry_price.as_ref().map(Amount::text),
        mark_price: position.mark_price.as_ref().map(Amount::text),
        liquidation_price: position.liquidation_price.as_ref().map(Amount::text),
        leverage: position.leverage.as_ref().map(Amount::text),
        unrealised_pnl: position.unrealised_pnl.as_ref().map(Amount::text),
    }
}

fn currency_profit(risk: &CurrencyRisk) -> CurrencyProfit<'_> {
    CurrencyProfit {
        currency: &risk.currency,
        unrealised_pnl: risk.unrealised_pnl.as_ref().map(Amount::text),
        equity: risk.equity.as_ref().map(Amount::text),
    }
}

fn currency_balance<'a>(config: &WalletConfig, holding: &'a Holding) -> CurrencyBalance<'a> {
    static NO_PARTS: FrozenParts = FrozenParts::NONE;
    let written = holding.state.written();
    let zero = (holding.state == HoldingState::Missing).then_some("0");
    let free = written.map(|amounts| amounts.free.text()).or(zero);
    let frozen = written.map(|amounts| amounts.frozen.text()).or(zero);
    let parts = written.map(|amounts| &amounts.frozen_parts).or(zero.map(|_| &NO_PARTS));
    let thresholds = config.find_watch(&holding.currency).and_then(|watch| watch.thresholds);
    CurrencyBalance {
        currency: &holding.currency,
        free,
        frozen,
        frozen_parts: parts.map(PartTexts),
        present: holding.state.is_present(),
        thresholds: thresholds.map(|Thresholds { warn, page }| CurrencyThresholds { warn, page }),
    }
}

fn rfc3339(time: UnixTime) -> String {
    humantime::format_rfc3339_millis(time.into()).to_string()
}
