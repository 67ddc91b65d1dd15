//! The sections of accounts, wallets and prices: states, ages, failures with their fixes, and worth. No markup.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use super::{
    format::{Anchor, AnchorKind, HumanDuration, Quantity, UtcTime, account_path},
    input::{PageContext, PageScope, SortKey},
    model::{WalletRow, WalletState},
    position_table::WalletPositions,
    runbook::Runbook,
    wallet_table::WalletBalances,
    worth::Worth,
};
use crate::{
    clock::{MonotonicTime, Timestamp},
    exchange::{ApiVersion, Reason, Wallet, suggest_fix, suggest_opening_wallet, suggest_other_fix},
    snapshot::store::{AccountEntry, PriceEntry, WalletEntry},
    snapshot::wallet::LastFailure,
};

/// An account. Closed to a line while it has no problem.
pub(super) struct AccountSection<'a> {
    pub(super) name: &'a str,
    pub(super) anchor: Anchor<'a>,
    /// The path of its own page below the root of the server; `None` on that page.
    pub(super) path: Option<String>,
    pub(super) is_open: bool,
    pub(super) severity: u8,
    /// The worst state of its wallets; `None` without a wallet.
    pub(super) state: Option<WalletState>,
    pub(super) wallet_quantity: Quantity,
    /// Each problem, and whether the page emphasises it.
    pub(super) problems: Vec<(String, bool)>,
    /// Age of the oldest balances; `None` while a wallet has none.
    pub(super) oldest_read: Option<HumanDuration>,
    /// `None` while prices are unknown or if they are not enabled.
    pub(super) worth: Option<Worth<'a>>,
    /// The fastest fall among its watched balances.
    fastest_fall: f64,
    pub(super) proxy_routes: Option<&'a str>,
    pub(super) next_poll: Option<(HumanDuration, UtcTime)>,
    pub(super) stuck: Option<HumanDuration>,
    pub(super) paused_until: Option<UtcTime>,
    pub(super) wallets: Vec<WalletSection<'a>>,
}

/// A wallet. Closed while it has no problem, but its account has one.
pub(super) struct WalletSection<'a> {
    pub(super) wallet: Wallet,
    pub(super) anchor: Anchor<'a>,
    pub(super) is_open: bool,
    pub(super) row: WalletRow<'a>,
    pub(super) state: WalletState,
    pub(super) age: ReadAge,
    pub(super) doubt: Option<String>,
    pub(super) failure: Option<FailureNote<'a>>,
    pub(super) balances: WalletBalances<'a>,
    /// `None` if positions are not read.
    pub(super) positions: Option<WalletPositions<'a>>,
}

/// The state of prices.
pub(super) struct PriceSection<'a> {
    pub(super) is_open: bool,
    pub(super) stuck: Option<HumanDuration>,
    pub(super) state: WalletState,
    pub(super) age: ReadAge,
    pub(super) failure: Option<FailureNote<'a>>,
    /// Number of currencies with a price.
    pub(super) priced_count: Option<usize>,
}

/// How old balances or prices are.
pub(super) struct ReadAge {
    pub(super) noun: &'static str,
    /// `None` if there was no good answer.
    pub(super) age: Option<HumanDuration>,
    pub(super) max_age: HumanDuration,
}

/// Why polls fail, what to do, since when they have been failing, and when the next one is due.
pub(super) struct FailureNote<'a> {
    pub(super) reason: Reason,
    pub(super) text: &'a str,
    pub(super) fix: &'static str,
    /// Causes and fixes that may apply instead.
    pub(super) other_fixes: Vec<&'static str>,
    pub(super) failing_for: HumanDuration,
    pub(super) since: UtcTime,
    pub(super) last_at: UtcTime,
    pub(super) next: Option<(HumanDuration, UtcTime)>,
    pub(super) runbook: Runbook,
}

impl<'a> AccountSection<'a> {
    /// The accounts with problems, the worst first, then the others. `rows` are of all wallets in the order of `accounts`.
    pub(super) fn sorted(
        accounts: &'a [Arc<AccountEntry>],
        rows: Vec<WalletRow<'a>>,
        context: PageContext<'a>,
    ) -> Vec<Self> {
        let mut rows = rows.into_iter();
        let section = |account: &'a Arc<AccountEntry>| {
            Self::new(account, rows.by_ref().take(account.wallets.len()).collect(), context)
        };
        let mut sections: Vec<_> = accounts.iter().map(section).collect();
        match context.sort {
            SortKey::Name => {}
            SortKey::Worth => sections.sort_by(|a, b| b.worth_key().total_cmp(&a.worth_key())),
            SortKey::Change => sections.sort_by(|a, b| a.fastest_fall.total_cmp(&b.fastest_fall)),
        }
        sections.sort_by_key(|section| Reverse(section.severity));
        sections
    }

    fn new(account: &'a AccountEntry, rows: Vec<WalletRow<'a>>, context: PageContext<'a>) -> Self {
        let (name, now) = (&account.state.name, context.now);
        let severity = rows.iter().map(WalletRow::severity).max().unwrap_or(0);
        let is_alone = context.scope == PageScope::Account;
        let worst = rows.iter().max_by_key(|row| row.severity()).map(|row| row.state);
        let problems = list_problems(account, &rows, now);
        let ages: Option<Vec<_>> = rows.iter().map(|row| row.last_read.map(|age| age.0)).collect();
        let worth: Option<Vec<_>> = rows.iter().map(|row| row.worth.as_ref()).collect();
        let worth = worth.filter(|parts| !parts.is_empty()).map(Worth::sum);
        let section = |(entry, row): (&'a WalletEntry, WalletRow<'a>)| {
            let is_open = is_alone || severity == 0 || row.severity() > 0;
            WalletSection::new((entry, row), account.api, is_open, context)
        };
        let wallets: Vec<_> = account.wallets.iter().zip(rows).map(section).collect();
        let falls = wallets.iter().filter_map(|wallet| wallet.balances.table.as_ref()?.fastest_fall());
        Self {
            name,
            anchor: Anchor { kind: AnchorKind::Account, account: name },
            path: if is_alone { None } else { account_path(name) },
            is_open: is_alone || severity > 0,
            severity,
            state: worst,
            wallet_quantity: Quantity(wallets.len(), "wallet"),
            problems,
            oldest_read: ages.and_then(|ages| ages.into_iter().max()).map(HumanDuration),
            worth,
            fastest_fall: falls.min_by(f64::total_cmp).unwrap_or(f64::INFINITY),
            proxy_routes: account.proxy_routes.as_deref(),
            next_poll: account.next_poll().map(|next| next_time(next, now)),
            stuck: account.overdue(now).map(HumanDuration),
            paused_until: account.state.paused_until.map(|until| UtcTime { at: until, now }),
            wallets,
        }
    }

    fn worth_key(&self) -> f64 {
        self.worth.as_ref().map_or(f64::NEG_INFINITY, |worth| worth.usdt)
    }
}

/// The problems of the account, then those of each wallet, with the wallet's name if there are several.
fn list_problems(account: &AccountEntry, rows: &[WalletRow<'_>], now: Timestamp) -> Vec<(String, bool)> {
    let stuck = account.overdue(now).map(|_| ("poller stuck".to_owned(), true));
    let paused = account.state.paused_until.map(|until| UtcTime { at: until, now });
    let paused = paused.map(|until| (format!("paused until {until}"), false));
    let of_wallet = |row: &WalletRow<'_>| {
        let wallet = row.link.wallet;
        let name = move |(text, is_emphasised)| match rows.len() {
            1 => (text, is_emphasised),
            _ => (format!("{wallet} {text}"), is_emphasised),
        };
        row.problems().into_iter().map(name).collect::<Vec<_>>()
    };
    stuck.into_iter().chain(paused).chain(rows.iter().flat_map(of_wallet)).collect()
}

/// The time until `next`, and its time of day.
fn next_time(next: MonotonicTime, now: Timestamp) -> (HumanDuration, UtcTime) {
    let wait = next.saturating_duration_since(now.monotonic);
    (HumanDuration(wait), UtcTime { at: now.unix + wait, now })
}

impl<'a> WalletSection<'a> {
    fn new(
        (entry, row): (&'a WalletEntry, WalletRow<'a>),
        api: ApiVersion,
        is_open: bool,
        context: PageContext<'a>,
    ) -> Self {
        let (snapshot, now) = (&entry.snapshot, context.now);
        let (wallet, account) = (snapshot.config.wallet, &snapshot.config.account);
        let read_at = snapshot.last_good.as_ref().map(|good| good.at);
        let failure = FailureNote::new(snapshot.last_failure.as_ref(), entry.next_poll, now).map(|note| {
            // A wallet that has been read before is open, and its key is for this version.
            let last = snapshot.last_failure.as_ref().filter(|_| read_at.is_none());
            let suggest = |last: &LastFailure| {
                let other = suggest_other_fix(api, Some(wallet), &last.failure);
                other.into_iter().chain(suggest_opening_wallet(Some(wallet), &last.failure)).collect()
            };
            FailureNote { other_fixes: last.map(suggest).unwrap_or_default(), ..note }
        });
        Self {
            wallet,
            anchor: Anchor { kind: AnchorKind::Wallet(wallet), account },
            is_open,
            state: row.state,
            row,
            age: ReadAge::new("balances", read_at, snapshot.config.max_age, now),
            doubt: snapshot.suspect_claims.as_ref().map(ToString::to_string),
            failure,
            balances: WalletBalances::new(snapshot, context),
            positions: entry.positions.as_ref().map(|positions| WalletPositions::new(positions, now)),
        }
    }

    /// The runbook for the problem of the positions.
    pub(super) fn positions_runbook(&self) -> Runbook {
        match &self.positions {
            Some(positions) if positions.failure.is_none() => Runbook::LIQUIDATION,
            _ => Runbook::POSITIONS,
        }
    }
}

impl<'a> PriceSection<'a> {
    pub(super) fn new(entry: &'a PriceEntry, now: Timestamp) -> Self {
        let snapshot = &entry.snapshot;
        let read_at = snapshot.last_good.as_ref().map(|good| good.at);
        let failure = FailureNote::new(snapshot.last_failure.as_ref(), entry.next_poll, now);
        let state = WalletState::of_prices(snapshot, now);
        Self {
            is_open: state != WalletState::Fresh || entry.overdue(now).is_some(),
            stuck: entry.overdue(now).map(HumanDuration),
            state,
            age: ReadAge::new("prices", read_at, snapshot.max_age, now),
            failure: failure.map(|note| FailureNote { runbook: Runbook::PRICES, ..note }),
            priced_count: snapshot.visible(now).map(|good| good.prices.currencies().len()),
        }
    }
}

impl ReadAge {
    fn new(noun: &'static str, read_at: Option<Timestamp>, max_age: Duration, now: Timestamp) -> Self {
        let age = read_at.map(|read_at| HumanDuration(read_at.age(now)));
        Self { noun, age, max_age: HumanDuration(max_age) }
    }
}

impl<'a> FailureNote<'a> {
    fn new(last: Option<&'a LastFailure>, next_poll: Option<MonotonicTime>, now: Timestamp) -> Option<Self> {
        let last = last?;
        Some(Self {
            reason: last.failure.reason,
            text: &last.failure.text,
            fix: suggest_fix(&last.failure),
            other_fixes: Vec::new(),
            failing_for: HumanDuration(last.since.age(now)),
            since: UtcTime { at: last.since.unix, now },
            last_at: UtcTime { at: last.at.unix, now },
            next: next_poll.map(|next| next_time(next, now)),
            runbook: Runbook::of_failure(last.failure.reason),
        })
    }

    /// Whether the key itself is refused, so that the next try is far away.
    pub(super) fn is_key_refused(&self) -> bool {
        self.reason.is_key_fault()
    }
}
