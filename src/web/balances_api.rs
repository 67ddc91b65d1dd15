//! `GET /api/v1/balances`: what is known, as JSON with the exchange's own digits, for whoever adds
//! money up. A metric is a float64, and an accountant's sum must not be.
//! What is unknown on `/metrics` is unknown here too.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use serde::Serialize;

use crate::{
    clock::Timestamp,
    snapshot::store::AccountEntry,
    snapshot::wallet::{Freshness, Holding, HoldingState, WalletSnapshot},
};

/// The body: every wallet of the accounts asked for, or why there is none.
#[derive(Serialize)]
struct BalancesDocument<'a> {
    /// When this was asked.
    time: String,
    wallets: Vec<WalletBalances<'a>>,
}

#[derive(Serialize)]
struct WalletBalances<'a> {
    account: &'a str,
    wallet: &'static str,
    /// `fresh`, `held` or `unknown`.
    state: &'static str,
    /// When the last good answer was asked for, however old it is; null if there was none.
    answered: Option<String>,
    /// How long ago that is.
    age_seconds: Option<f64>,
    /// Null while unknown.
    balances: Option<Vec<CurrencyBalance<'a>>>,
}

#[derive(Serialize)]
struct CurrencyBalance<'a> {
    currency: &'a str,
    /// As the exchange wrote it; null if it was no amount.
    free: Option<&'a str>,
    frozen: Option<&'a str>,
    /// Whether the answer had a row for it. A watched currency that was left out reads 0. Null if that cannot be told.
    present: Option<bool>,
}

/// Names of the accounts that the `query` asks for as `account=…`; empty for all of `accounts`.
///
/// # Errors
/// A sentence, if the query holds anything else or an account that there is not.
pub(super) fn parse_query(
    accounts: &[Arc<AccountEntry>],
    query: &str,
) -> Result<BTreeSet<Box<str>>, (QueryError, String)> {
    let mut wanted = BTreeSet::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if name != "account" {
            let said = format!("there is no parameter {name:?}: only account=NAME, any number of times");
            return Err((QueryError::Misspelt, said));
        }
        if !accounts.iter().any(|account| *account.facts.name == *value) {
            let names: Vec<_> = accounts.iter().map(|account| &*account.facts.name).collect();
            let said = format!("there is no account {value:?}: there is {}", names.join(", "));
            return Err((QueryError::Unknown, said));
        }
        wanted.insert(value.into());
    }
    Ok(wanted)
}

/// Renders those of `accounts` that are `wanted` by name, as of `now`; all if no name is given.
pub(super) fn render(accounts: &[Arc<AccountEntry>], wanted: &BTreeSet<Box<str>>, now: Timestamp) -> Vec<u8> {
    let is_wanted = |account: &&Arc<AccountEntry>| wanted.is_empty() || wanted.contains(&account.facts.name);
    let wallets = accounts.iter().filter(is_wanted).flat_map(|account| &account.wallets);
    let wallets = wallets.map(|known| wallet(&known.snapshot, now)).collect();
    let body = BalancesDocument { time: rfc3339(now.unix), wallets };
    let json = serde_json::to_vec(&body);
    debug_assert!(json.is_ok(), "writing strings and numbers into memory cannot fail");
    json.unwrap_or_default()
}

/// Why a query is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueryError {
    /// It asks in a way that nothing can answer.
    Misspelt,
    /// It asks for what there is not.
    Unknown,
}

fn wallet(snapshot: &WalletSnapshot, now: Timestamp) -> WalletBalances<'_> {
    let good = snapshot.last_good.as_ref();
    WalletBalances {
        account: &snapshot.config.account,
        wallet: snapshot.config.wallet.label(),
        state: match snapshot.freshness(now) {
            Freshness::Fresh => "fresh",
            Freshness::Held => "held",
            Freshness::Unknown => "unknown",
        },
        answered: good.map(|good| rfc3339(good.at.unix)),
        age_seconds: good.map(|good| good.at.age(now).as_secs_f64()),
        balances: snapshot.visible(now).map(|good| good.holdings.iter().map(balance).collect()),
    }
}

fn balance(holding: &Holding) -> CurrencyBalance<'_> {
    let (free, frozen) = match &holding.state {
        HoldingState::Read { free, frozen } => (Some(free.text()), Some(frozen.text())),
        HoldingState::Missing => (Some("0"), Some("0")),
        HoldingState::Unreadable | HoldingState::Unnamed | HoldingState::Unconfirmed => (None, None),
    };
    CurrencyBalance { currency: &holding.currency, free, frozen, present: holding.state.is_present() }
}

fn rfc3339(unix: Duration) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + unix).to_string()
}
