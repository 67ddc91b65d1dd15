//! The values that `page.html` shows, section by section. Escaping is the template's: askama escapes every value but the
//! style and the script of this program.

use std::{sync::Arc, time::Duration};

use askama::Template;

use super::{
    format::{Anchor, AnchorKind, HumanDuration, Quantity, UtcTime},
    model::{Banner, LowBalance, StatusPage, StatusPageModel, WalletLink, WalletRow, WalletState},
    position_table::WalletPositions,
    wallet_table::{Amounts, ThresholdCell, WalletBalances, align_fractions},
};
use crate::{
    clock::{MonotonicTime, Timestamp},
    exchange::{PriceTable, Reason, Wallet},
    snapshot::prices::QUOTE,
    snapshot::store::{AccountEntry, PriceEntry, WalletEntry},
    snapshot::wallet::LastFailure,
};

pub(super) const STYLE: &str = include_str!("page.css");
pub(super) const SCRIPT: &str = include_str!("page.js");

/// A page of at most this many accounts has no overview.
const MAX_ACCOUNTS_WITHOUT_OVERVIEW: usize = 3;
/// Low balances beyond this number are in a closed list.
const MAX_LOW_BALANCES_OPEN: usize = 12;
/// A list of more wallets without problems is closed.
const MAX_HEALTHY_WALLETS_OPEN: usize = 60;

/// The whole page.
#[derive(Template)]
#[template(path = "page.html")]
pub(super) struct PageTemplate<'a> {
    style: &'static str,
    script: &'static str,
    version: &'a str,
    /// Without the first slashes, so that a link behind a dot stays on this server.
    metrics_path: &'a str,
    title: String,
    icon: &'static str,
    as_of: UtcTime,
    banners: [Banner; 3],
    low_tables: Vec<LowTable<'a>>,
    overview: Option<Overview<'a>>,
    accounts: Vec<AccountSection<'a>>,
    prices: Option<PriceSection<'a>>,
}

/// Low balances, the worst first.
struct LowTable<'a> {
    /// How many there are, if the table is closed.
    closed: Option<usize>,
    fraction_digits: usize,
    balances: Vec<LowBalance<'a>>,
}

/// Wallets with problems, the worst first, and links to the others.
struct Overview<'a> {
    troubled: Vec<WalletRow<'a>>,
    healthy: Vec<WalletLink<'a>>,
    healthy_quantity: Quantity,
    is_healthy_open: bool,
}

struct AccountSection<'a> {
    name: &'a str,
    anchor: Anchor<'a>,
    proxy_routes: Option<&'a str>,
    next_poll: Option<HumanDuration>,
    stuck: Option<HumanDuration>,
    paused_until: Option<UtcTime>,
    wallets: Vec<WalletSection<'a>>,
}

struct WalletSection<'a> {
    wallet: Wallet,
    anchor: Anchor<'a>,
    state: WalletState,
    age: ReadAge,
    doubt: Option<String>,
    failure: Option<FailureNote<'a>>,
    balances: WalletBalances<'a>,
    /// `None` if positions are not read.
    positions: Option<WalletPositions<'a>>,
}

struct PriceSection<'a> {
    quote: &'static str,
    stuck: Option<HumanDuration>,
    state: WalletState,
    age: ReadAge,
    failure: Option<FailureNote<'a>>,
    /// Number of currencies with a price.
    priced_count: Option<usize>,
}

/// How old balances or prices are.
struct ReadAge {
    noun: &'static str,
    /// `None` if there was no good answer.
    age: Option<HumanDuration>,
    max_age: HumanDuration,
}

/// How long polls have been failing, why, and when the next one is due.
struct FailureNote<'a> {
    reason: Reason,
    text: &'a str,
    failing_for: HumanDuration,
    since: UtcTime,
    last: HumanDuration,
    last_at: UtcTime,
    next: Option<(HumanDuration, UtcTime)>,
}

impl<'a> PageTemplate<'a> {
    pub(super) fn new(page: &StatusPage<'a>) -> Self {
        let model = StatusPageModel::new(page);
        let (title, icon) = (model.title(), model.level().icon());
        let banners = [model.threshold_banner(), model.freshness_banner(), model.health_banner()];
        let StatusPageModel { low, wallets, .. } = model;
        let prices = page.prices.and_then(|prices| prices.snapshot.visible(page.now));
        let prices = prices.map(|good| &*good.prices);
        let section = |account: &'a Arc<AccountEntry>| AccountSection::new(account, prices, page.now);
        Self {
            style: STYLE,
            script: SCRIPT,
            version: page.version,
            metrics_path: page.telemetry_path.trim_start_matches('/'),
            title,
            icon,
            as_of: UtcTime { at: page.now.unix, now: page.now },
            banners,
            low_tables: LowTable::split(low),
            overview: (page.accounts.len() > MAX_ACCOUNTS_WITHOUT_OVERVIEW).then(|| Overview::new(wallets)),
            accounts: page.accounts.iter().map(section).collect(),
            prices: page.prices.map(|prices| PriceSection::new(prices, page.now)),
        }
    }
}

impl<'a> LowTable<'a> {
    fn split(mut worst: Vec<LowBalance<'a>>) -> Vec<Self> {
        let others = worst.split_off(worst.len().min(MAX_LOW_BALANCES_OPEN));
        let closed = Some(others.len());
        let tables = [(None, worst), (closed, others)].into_iter();
        let tables = tables.filter(|(_, balances)| !balances.is_empty());
        tables.map(|(closed, balances)| Self::new(closed, balances)).collect()
    }

    fn new(closed: Option<usize>, balances: Vec<LowBalance<'a>>) -> Self {
        let fraction_digits = align_fractions(balances.iter().filter_map(|low| low.free));
        Self { closed, fraction_digits, balances }
    }
}

impl<'a> Overview<'a> {
    fn new(wallets: Vec<WalletRow<'a>>) -> Self {
        let (mut troubled, healthy): (Vec<_>, Vec<_>) =
            wallets.into_iter().partition(|row| row.severity() > 0);
        troubled.sort_by_key(|row| std::cmp::Reverse(row.severity()));
        Self {
            troubled,
            healthy_quantity: Quantity(healthy.len(), "wallet"),
            is_healthy_open: healthy.len() <= MAX_HEALTHY_WALLETS_OPEN,
            healthy: healthy.into_iter().map(|row| row.link).collect(),
        }
    }
}

impl<'a> AccountSection<'a> {
    fn new(account: &'a AccountEntry, prices: Option<&PriceTable>, now: Timestamp) -> Self {
        let name = &account.state.name;
        let next_poll = account.next_poll();
        Self {
            name,
            anchor: Anchor { kind: AnchorKind::Account, account: name },
            proxy_routes: account.proxy_routes.as_deref(),
            next_poll: next_poll.map(|next| HumanDuration(next.saturating_duration_since(now.monotonic))),
            stuck: account.overdue(now).map(HumanDuration),
            paused_until: account.state.paused_until.map(|until| UtcTime { at: until, now }),
            wallets: account.wallets.iter().map(|wallet| WalletSection::new(wallet, prices, now)).collect(),
        }
    }
}

impl<'a> WalletSection<'a> {
    fn new(entry: &'a WalletEntry, prices: Option<&PriceTable>, now: Timestamp) -> Self {
        let snapshot = &entry.snapshot;
        let (wallet, account) = (snapshot.config.wallet, &snapshot.config.account);
        let read_at = snapshot.last_good.as_ref().map(|good| good.at);
        Self {
            wallet,
            anchor: Anchor { kind: AnchorKind::Wallet(wallet), account },
            state: WalletState::of(snapshot, now),
            age: ReadAge::new("balances", read_at, snapshot.config.max_age, now),
            doubt: snapshot.suspect_claims.as_ref().map(ToString::to_string),
            failure: FailureNote::new(snapshot.last_failure.as_ref(), entry.next_poll, now),
            balances: WalletBalances::new(snapshot, prices, now),
            positions: entry.positions.as_ref().map(|positions| WalletPositions::new(positions, now)),
        }
    }
}

impl<'a> PriceSection<'a> {
    fn new(entry: &'a PriceEntry, now: Timestamp) -> Self {
        let snapshot = &entry.snapshot;
        let read_at = snapshot.last_good.as_ref().map(|good| good.at);
        Self {
            quote: QUOTE,
            stuck: entry.overdue(now).map(HumanDuration),
            state: WalletState::of_prices(snapshot, now),
            age: ReadAge::new("prices", read_at, snapshot.max_age, now),
            failure: FailureNote::new(snapshot.last_failure.as_ref(), None, now),
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
        let next = next_poll.map(|next| next.saturating_duration_since(now.monotonic));
        Some(Self {
            reason: last.failure.reason,
            text: &last.failure.text,
            failing_for: HumanDuration(last.since.age(now)),
            since: UtcTime { at: last.since.unix, now },
            last: HumanDuration(last.at.age(now)),
            last_at: UtcTime { at: last.at.unix, now },
            next: next.map(|wait| (HumanDuration(wait), UtcTime { at: now.unix + wait, now })),
        })
    }
}
