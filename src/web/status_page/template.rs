//! The values that `page.html` shows, section by section. Escaping is the template's: askama escapes every value but the
//! style and the script of this program.

use askama::Template;

use super::{
    account_section::{AccountSection, PriceSection},
    format::{HumanDuration, Quantity, UtcTime},
    input::{PageContext, PageScope, SortKey, StatusPage},
    model::{Banner, LowBalance, StatusPageModel},
    runbook::Runbook,
    trend::Runway,
    wallet_table::{Amounts, ThresholdCell, align_fractions},
    worth::Worth,
};

pub(super) const STYLE: &str = include_str!("page.css");
pub(super) const SCRIPT: &str = include_str!("page.js");

/// Low balances beyond this number are in a closed list.
const MAX_LOW_BALANCES_OPEN: usize = 12;
/// Unknown wallets beyond this number are counted and not named beside a sum.
const MAX_UNKNOWN_NAMES: usize = 3;

/// The whole page.
#[derive(Template)]
#[template(path = "page.html")]
pub(super) struct PageTemplate<'a> {
    style: &'static str,
    script: &'static str,
    version: &'a str,
    /// The way from this page to the root of the server.
    root: &'static str,
    is_all: bool,
    /// Without the first slashes, so that a link behind a dot stays on this server.
    metrics_path: &'a str,
    title: String,
    icon: &'static str,
    as_of: UtcTime,
    banners: [Banner; 3],
    low_tables: Vec<LowTable<'a>>,
    total: Option<Worth<'a>>,
    /// Age of the prices if the last poll did not renew them.
    held_prices: Option<HumanDuration>,
    /// Whether prices are enabled.
    has_prices: bool,
    sort: SortKey,
    accounts: Vec<AccountSection<'a>>,
    /// The number of accounts with problems, which come first.
    troubled_count: usize,
    prices: Option<PriceSection<'a>>,
}

/// Low balances, the worst first.
struct LowTable<'a> {
    /// How many there are, if the table is closed.
    closed: Option<usize>,
    fraction_digits: usize,
    balances: Vec<LowBalance<'a>>,
}

impl<'a> PageTemplate<'a> {
    pub(super) fn new(page: &StatusPage<'a>) -> Self {
        let context = PageContext::new(page);
        let model = StatusPageModel::new(page, context);
        let (title, icon) = (model.title(), model.level().icon());
        let banners = [model.threshold_banner(), model.freshness_banner(), model.health_banner()];
        let StatusPageModel { low, wallets, .. } = model;
        let total: Option<Vec<_>> = wallets.iter().map(|row| row.worth.as_ref()).collect();
        let total = total.filter(|parts| !parts.is_empty()).map(Worth::sum);
        let held = page.prices.filter(|prices| prices.snapshot.last_failure.is_some());
        let held = held.and_then(|prices| prices.snapshot.visible(page.now));
        let accounts = AccountSection::sorted(page.accounts, wallets, context);
        let is_all = page.scope == PageScope::All;
        Self {
            style: STYLE,
            script: SCRIPT,
            version: page.version,
            root: if is_all { "./" } else { "../" },
            is_all,
            metrics_path: page.telemetry_path.trim_start_matches('/'),
            title,
            icon,
            as_of: UtcTime { at: page.now.unix, now: page.now },
            banners,
            low_tables: LowTable::split(low),
            total,
            held_prices: held.map(|good| HumanDuration(good.at.age(page.now))),
            has_prices: context.has_prices,
            sort: context.sort,
            troubled_count: accounts.iter().filter(|account| account.severity > 0).count(),
            accounts,
            prices: page.prices.map(|prices| PriceSection::new(prices, page.now)),
        }
    }

    fn sort_keys(&self) -> impl Iterator<Item = SortKey> {
        let is_shown = |key: &SortKey| self.has_prices || *key != SortKey::Worth;
        SortKey::ALL.into_iter().filter(is_shown)
    }

    fn healthy_quantity(&self) -> Quantity {
        Quantity(self.accounts.len() - self.troubled_count, "account")
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
