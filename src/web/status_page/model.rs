//! What the page has to say, before any markup: what is low, what is not fresh, what is in trouble.

use std::fmt;

use super::{
    StatusPage,
    format::{Quantity, Shortfall},
};
use crate::{
    clock::Timestamp,
    snapshot::prices::PriceSnapshot,
    snapshot::store::AccountEntry,
    snapshot::wallet::{Freshness, Holding, HoldingState, WalletSnapshot, WatchedCurrency},
};

/// All there is, counted.
pub(super) struct StatusPageModel<'a> {
    pub(super) wallets: Vec<WalletRow<'a>>,
    accounts: usize,
    /// Pollers that give no sign of life, that of prices included.
    stuck: usize,
    paused: usize,
    misconfigured: bool,
    /// `None` if prices are not asked for.
    prices: Option<WalletState>,
    thresholds: usize,
    /// Thresholds whose balance is not known.
    unjudged: usize,
    pub(super) low: Vec<LowBalance<'a>>,
}

/// A wallet, and what is to be said of it.
pub(super) struct WalletRow<'a> {
    pub(super) account: &'a AccountEntry,
    pub(super) snapshot: &'a WalletSnapshot,
    pub(super) state: WalletState,
    stuck: bool,
    /// Watched currencies under their threshold.
    pub(super) low: usize,
    /// Watched currencies that the answer had no amounts for.
    pub(super) unreadable: usize,
}

/// A balance under its threshold.
pub(super) struct LowBalance<'a> {
    pub(super) snapshot: &'a WalletSnapshot,
    pub(super) watch: &'a WatchedCurrency,
    pub(super) row: &'a HoldingState,
    pub(super) gap: Shortfall,
}

/// The answer to one of the three questions of the first glance.
pub(super) struct Banner {
    pub(super) level: BannerLevel,
    pub(super) text: String,
    /// Markup: nothing from outside belongs here.
    pub(super) note: String,
}

impl<'a> StatusPageModel<'a> {
    pub(super) fn of(page: &StatusPage<'a>) -> Self {
        let now = page.now;
        let stuck = |account: &AccountEntry| account.overdue(now).is_some();
        let prices_stuck = page.prices.is_some_and(|market| market.overdue(now).is_some());
        let mut model = Self {
            wallets: Vec::new(),
            accounts: page.accounts.len(),
            stuck: page.accounts.iter().filter(|account| stuck(account)).count() + usize::from(prices_stuck),
            prices: page.prices.map(|market| WalletState::of_prices(&market.snapshot, now)),
            paused: page.accounts.iter().filter(|account| account.facts.paused_until.is_some()).count(),
            misconfigured: page.misconfigured,
            thresholds: 0,
            unjudged: 0,
            low: Vec::new(),
        };
        for account in page.accounts {
            for wallet in &account.wallets {
                let snapshot = &wallet.snapshot;
                let before = model.low.len();
                model.add_wallet(snapshot, now);
                model.wallets.push(WalletRow {
                    account,
                    snapshot,
                    state: WalletState::of(snapshot, now),
                    stuck: stuck(account),
                    low: model.low.len() - before,
                    unreadable: holdings(snapshot, now)
                        .iter()
                        .filter(|holding| !holding.state.is_readable())
                        .count(),
                });
            }
        }
        model.low.sort_by(|a, b| a.gap.share().total_cmp(&b.gap.share()));
        model
    }

    fn add_wallet(&mut self, snapshot: &'a WalletSnapshot, now: Timestamp) {
        let holdings = holdings(snapshot, now);
        for watch in snapshot.config.watch.iter().filter(|watch| watch.threshold.is_some()) {
            self.thresholds += 1;
            let row = row_of(holdings, &watch.currency);
            let free = row.and_then(HoldingState::amounts).map(|(free, _)| free);
            match (row, Shortfall::between(free, watch.threshold)) {
                (Some(row), Some(gap)) => self.low.push(LowBalance { snapshot, watch, row, gap }),
                _ if free.is_none() => self.unjudged += 1,
                _ => {}
            }
        }
    }

    fn count(&self, state: WalletState) -> usize {
        self.wallets.iter().filter(|seen| seen.state == state).count()
    }

    fn unreadable(&self) -> usize {
        self.wallets.iter().map(|seen| seen.unreadable).sum()
    }

    /// What a browser tab says: the worst first, then the name.
    pub(super) fn title(&self) -> String {
        let counts = [
            (self.low.len(), "low"),
            (self.stuck, "stuck"),
            (self.count(WalletState::Unknown), "unknown"),
            (self.count(WalletState::Held), "held"),
            (self.unreadable(), "unreadable"),
            (self.paused, "paused"),
            (self.count(WalletState::Unpolled), "not polled yet"),
        ];
        let state = listing(&counts);
        let state = match state.as_str() {
            "" if self.misconfigured => "configuration unusable",
            "" if self.level() == BannerLevel::Good => "all well",
            "" => "not all known",
            some => some,
        };
        format!("{state} · xt-balance-exporter")
    }

    pub(super) fn level(&self) -> BannerLevel {
        self.threshold_banner().level.max(self.freshness_banner().level).max(self.health_banner().level)
    }

    pub(super) fn threshold_banner(&self) -> Banner {
        let thresholds = Quantity(self.thresholds, "threshold");
        let unjudged = format!("{} of {thresholds} cannot be judged", self.unjudged);
        let (level, text, note) = match (self.thresholds, self.low.len(), self.unjudged) {
            (0, ..) => {
                (BannerLevel::Good, "no thresholds".to_owned(), "none is set, so none can be low".to_owned())
            }
            (_, 0, 0) => (BannerLevel::Good, "nothing low".to_owned(), format!("{thresholds} kept")),
            (_, 0, all) if all == self.thresholds => {
                (BannerLevel::Warn, "low or not: unknown".to_owned(), unjudged)
            }
            (_, 0, _) => (BannerLevel::Warn, "nothing known is low".to_owned(), unjudged),
            (_, low, 0) => (BannerLevel::Bad, format!("{low} low"), format!("of {thresholds}")),
            (_, low, _) => (BannerLevel::Bad, format!("{low} low"), unjudged),
        };
        Banner { level, text, note }
    }

    pub(super) fn freshness_banner(&self) -> Banner {
        let all = self.wallets.len();
        let [held, unknown, unpolled] =
            [WalletState::Held, WalletState::Unknown, WalletState::Unpolled].map(|s| self.count(s));
        let (stale, unreadable) = (held + unknown + unpolled, self.unreadable());
        let level = match (unknown, stale + unreadable) {
            (0, 0) => BannerLevel::Good,
            (0, _) => BannerLevel::Warn,
            _ => BannerLevel::Bad,
        };
        let wallets = format!("{} of {}", Quantity(all, "wallet"), Quantity(self.accounts, "account"));
        let (text, note) = match (stale, unreadable) {
            (0, 0) if all == 0 => ("nothing to read".to_owned(), "no account is configured".to_owned()),
            (0, 0) => ("all fresh".to_owned(), wallets),
            (0, _) => (format!("{unreadable} unreadable"), format!("all fresh: {wallets}")),
            _ => {
                let counts = [
                    (unknown, "unknown"),
                    (held, "held"),
                    (unpolled, "not polled yet"),
                    (unreadable, "unreadable"),
                ];
                (format!("{stale} of {all} not fresh"), listing(&counts))
            }
        };
        Banner { level, text, note }
    }

    pub(super) fn health_banner(&self) -> Banner {
        let prices = self.prices.filter(|state| *state != WalletState::Fresh);
        let prices = prices.map(|state| format!("<a href=\"#prices\">prices {}</a>", state.word()));
        let paused = (self.paused > 0).then(|| format!("{} paused", Quantity(self.paused, "account")));
        let misconfigured = "the changed configuration cannot be used: see the log";
        let misconfigured = self.misconfigured.then(|| misconfigured.to_owned());
        let troubles: Vec<_> = misconfigured.into_iter().chain(paused).chain(prices).collect();
        let (level, text, note) = match self.stuck {
            0 if troubles.is_empty() => (BannerLevel::Good, "exporter works", "all pollers alive".to_owned()),
            0 => (BannerLevel::Warn, "exporter works", troubles.join(", ")),
            stuck => {
                let all = Quantity(self.accounts + usize::from(self.prices.is_some()), "poller");
                (BannerLevel::Bad, "exporter in trouble", format!("{stuck} of {all} stuck or dead"))
            }
        };
        Banner { level, text: text.to_owned(), note }
    }
}

impl WalletRow<'_> {
    /// How soon it should be looked at; 0 if all is well. What is merely low has its own list.
    pub(super) fn rank(&self) -> u8 {
        let paused = self.account.facts.paused_until.is_some();
        match self.state {
            _ if self.stuck => 4,
            WalletState::Unknown => 3,
            WalletState::Held => 2,
            WalletState::Unpolled => 1,
            WalletState::Fresh => u8::from(paused || self.low > 0 || self.unreadable > 0),
        }
    }
}

/// How bad it is, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum BannerLevel {
    Good,
    Warn,
    Bad,
}

impl BannerLevel {
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }

    /// A disc, a triangle or a square: the tab tells it by more than the colour.
    pub(super) fn icon(self) -> &'static str {
        match self {
            Self::Good => {
                "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E\
                 %3Ccircle cx='4' cy='4' r='3' fill='%23279a4d'/%3E%3C/svg%3E"
            }
            Self::Warn => {
                "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E\
                 %3Cpath d='M4 0.5 8 7.5H0z' fill='%23e09a1a'/%3E%3C/svg%3E"
            }
            Self::Bad => {
                "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E\
                 %3Cpath d='M0 0h8v8H0z' fill='%23d93025'/%3E%3C/svg%3E"
            }
        }
    }
}

/// What a wallet, or prices, are called: their freshness, but that nobody is alarmed before the first poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WalletState {
    Fresh,
    Held,
    Unknown,
    Unpolled,
}

impl WalletState {
    pub(super) fn of(snapshot: &WalletSnapshot, now: Timestamp) -> Self {
        Self::named(snapshot.freshness(now), snapshot.counters.polls > 0)
    }

    /// The same of prices.
    pub(super) fn of_prices(price_snapshot: &PriceSnapshot, now: Timestamp) -> Self {
        Self::named(price_snapshot.freshness(now), price_snapshot.is_read())
    }

    fn named(freshness: Freshness, is_polled: bool) -> Self {
        match freshness {
            Freshness::Fresh => Self::Fresh,
            Freshness::Held => Self::Held,
            Freshness::Unknown if is_polled => Self::Unknown,
            Freshness::Unknown => Self::Unpolled,
        }
    }

    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Held => "held",
            Self::Unknown => "unknown",
            Self::Unpolled => "unpolled",
        }
    }

    fn word(self) -> &'static str {
        if self == Self::Unpolled { "not polled yet" } else { self.class() }
    }
}

impl fmt::Display for WalletState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<span class=\"state {}\">{}</span>", self.class(), self.word())
    }
}

/// The counts that are not zero, in words.
fn listing(counts: &[(usize, &str)]) -> String {
    let some = counts.iter().filter(|(count, _)| *count > 0);
    some.map(|(count, word)| format!("{count} {word}")).collect::<Vec<_>>().join(", ")
}

/// What may be shown of the balances as of `now`.
pub(super) fn holdings(snapshot: &WalletSnapshot, now: Timestamp) -> &[Holding] {
    snapshot.visible(now).map(|good| &*good.holdings).unwrap_or_default()
}

/// What the answer said of a currency; holdings are sorted.
pub(super) fn row_of<'a>(holdings: &'a [Holding], currency: &str) -> Option<&'a HoldingState> {
    let found = holdings.binary_search_by(|holding| (*holding.currency).cmp(currency)).ok();
    found.and_then(|at| holdings.get(at)).map(|holding| &holding.state)
}
