//! Counts and judgements of the page, without markup: which balances are low, which wallets are not fresh, which
//! pollers have problems.

use std::{fmt::Write as _, sync::Arc};

use super::format::{AmountText, Anchor, AnchorKind, HumanDuration, Quantity, Shortfall};
use crate::{
    clock::Timestamp,
    exchange::{Reason, Wallet},
    snapshot::prices::PriceSnapshot,
    snapshot::store::{AccountEntry, PriceEntry},
    snapshot::wallet::{Freshness, Holding, HoldingState, WalletConfig, WalletSnapshot},
};

/// Input of the status page.
#[derive(Clone, Copy, Debug)]
pub struct StatusPage<'a> {
    /// Accounts with their wallets, sorted by name.
    pub accounts: &'a [Arc<AccountEntry>],
    /// Prices; `None` if they are not enabled.
    pub prices: Option<&'a PriceEntry>,
    /// Whether the last reload failed.
    pub misconfigured: bool,
    /// The time at which the page is true.
    pub now: Timestamp,
    /// Path of the metrics, from the root.
    pub telemetry_path: &'a str,
    /// Version of this build. A page that is open in a browser reloads itself when the version changes.
    pub version: &'a str,
}

/// All wallets and their counts.
pub(super) struct StatusPageModel<'a> {
    pub(super) wallets: Vec<WalletRow<'a>>,
    account_count: usize,
    /// Pollers without a heartbeat, the price poller included.
    stuck_count: usize,
    paused_count: usize,
    is_misconfigured: bool,
    /// `None` if prices are not enabled.
    price_state: Option<WalletState>,
    threshold_count: usize,
    /// Thresholds of unknown balances.
    unknown_threshold_count: usize,
    /// Balances below their threshold, the worst first.
    pub(super) low: Vec<LowBalance<'a>>,
}

/// A wallet's row of the overview.
pub(super) struct WalletRow<'a> {
    pub(super) link: WalletLink<'a>,
    pub(super) state: WalletState,
    /// Age of the last good answer.
    pub(super) last_read: Option<HumanDuration>,
    /// How long its polls have been failing, and why the last one did.
    pub(super) failing: Option<(HumanDuration, Reason)>,
    is_stuck: bool,
    is_paused: bool,
    is_unconfirmed: bool,
    /// Watched currencies below their threshold.
    low_count: usize,
    /// Watched currencies whose amounts the answer did not hold in a readable form.
    unreadable_count: usize,
}

/// A link to a wallet's section.
#[derive(Clone, Copy)]
pub(super) struct WalletLink<'a> {
    pub(super) account: &'a str,
    pub(super) wallet: Wallet,
}

/// A balance below its threshold.
pub(super) struct LowBalance<'a> {
    pub(super) link: WalletLink<'a>,
    pub(super) currency: &'a str,
    /// `None` if the answer did not list the currency.
    pub(super) free: Option<AmountText<'a>>,
    pub(super) shortfall: Shortfall,
    /// Age of the balance if the last poll did not renew it.
    pub(super) held: Option<HumanDuration>,
}

/// The answer to one of the three questions that the top of the page answers.
pub(super) struct Banner {
    pub(super) level: BannerLevel,
    pub(super) text: String,
    pub(super) note: String,
    /// The state of prices, as a link to their section after the note.
    pub(super) price_state: Option<WalletState>,
}

impl<'a> StatusPageModel<'a> {
    pub(super) fn new(page: &StatusPage<'a>) -> Self {
        let now = page.now;
        let stuck = page.accounts.iter().filter(|account| account.overdue(now).is_some());
        let is_price_poller_stuck = page.prices.is_some_and(|prices| prices.overdue(now).is_some());
        let mut model = Self {
            wallets: Vec::new(),
            account_count: page.accounts.len(),
            stuck_count: stuck.count() + usize::from(is_price_poller_stuck),
            price_state: page.prices.map(|prices| WalletState::of_prices(&prices.snapshot, now)),
            paused_count: page.accounts.iter().filter(|account| account.state.paused_until.is_some()).count(),
            is_misconfigured: page.misconfigured,
            threshold_count: 0,
            unknown_threshold_count: 0,
            low: Vec::new(),
        };
        for account in page.accounts {
            for wallet in &account.wallets {
                let low_before = model.low.len();
                model.compare_thresholds(&wallet.snapshot, now);
                let low_count = model.low.len() - low_before;
                model.wallets.push(WalletRow::new(account, &wallet.snapshot, low_count, now));
            }
        }
        model.low.sort_by(|a, b| a.shortfall.cmp_worst_first(&b.shortfall));
        model
    }

    fn compare_thresholds(&mut self, snapshot: &'a WalletSnapshot, now: Timestamp) {
        let visible = snapshot.visible(now);
        let held = snapshot.last_good.as_ref().filter(|_| !snapshot.is_last_poll_good());
        let held = held.map(|good| HumanDuration(good.at.age(now)));
        for watch in snapshot.config.watch.iter().filter(|watch| watch.thresholds.is_some()) {
            self.threshold_count += 1;
            let state = visible.and_then(|good| good.find_state(&watch.currency));
            let free = state.and_then(HoldingState::amounts).map(|(free, _)| free);
            if free.is_none() {
                self.unknown_threshold_count += 1;
            }
            if let Some(shortfall) = Shortfall::between(free, watch.thresholds) {
                let written = state.and_then(HoldingState::written);
                let free = written.map(|amounts| AmountText::new(amounts.free.text()));
                let link = WalletLink::new(&snapshot.config);
                self.low.push(LowBalance { link, currency: &watch.currency, free, shortfall, held });
            }
        }
    }

    fn count(&self, state: WalletState) -> usize {
        self.wallets.iter().filter(|row| row.state == state).count()
    }

    fn unreadable_count(&self) -> usize {
        self.wallets.iter().map(|row| row.unreadable_count).sum()
    }

    /// Title of the browser tab: the worst first, then the program's name.
    pub(super) fn title(&self) -> String {
        let counts = [
            (self.low.len(), "low"),
            (self.stuck_count, "stuck"),
            (self.count(WalletState::Unknown), "unknown"),
            (self.count(WalletState::Held), "held"),
            (self.unreadable_count(), "unreadable"),
            (self.paused_count, "paused"),
            (self.count(WalletState::Unpolled), "not polled yet"),
        ];
        let listed = list_counts(&counts);
        let state = match listed.as_str() {
            "" if self.is_misconfigured => "invalid configuration",
            "" if self.level() == BannerLevel::Good => "healthy",
            "" => "partly unknown",
            listed => listed,
        };
        format!("{state} · xt-balance-exporter")
    }

    pub(super) fn level(&self) -> BannerLevel {
        self.threshold_banner().level.max(self.freshness_banner().level).max(self.health_banner().level)
    }

    pub(super) fn threshold_banner(&self) -> Banner {
        let (all, low, unknown) = (self.threshold_count, self.low.len(), self.unknown_threshold_count);
        let thresholds = Quantity(all, "threshold");
        let mut unknown_note = format!("balance unknown for {unknown} of {thresholds}");
        let mut low_note = format!("of {thresholds}");
        let critical = self.low.iter().filter(|low| low.shortfall.is_critical()).count();
        if critical > 0 {
            for note in [&mut low_note, &mut unknown_note] {
                let _ = write!(note, ", {critical} critical");
            }
        }
        let (level, text, note) = match (low, unknown) {
            _ if all == 0 => {
                (BannerLevel::Good, "No thresholds".to_owned(), "no balance can be low".to_owned())
            }
            (0, 0) => {
                (BannerLevel::Good, "Nothing low".to_owned(), format!("{all} of {all} above threshold"))
            }
            (0, _) if unknown == all => (BannerLevel::Warn, "Balances unknown".to_owned(), unknown_note),
            (0, _) => (BannerLevel::Warn, "None known to be low".to_owned(), unknown_note),
            (_, 0) => (BannerLevel::Bad, format!("{low} low"), low_note),
            _ => (BannerLevel::Bad, format!("{low} low"), unknown_note),
        };
        Banner { level, text, note, price_state: None }
    }

    pub(super) fn freshness_banner(&self) -> Banner {
        let all = self.wallets.len();
        let [held, unknown, unpolled] =
            [WalletState::Held, WalletState::Unknown, WalletState::Unpolled].map(|state| self.count(state));
        let (stale, unreadable) = (held + unknown + unpolled, self.unreadable_count());
        let level = match (unknown, stale + unreadable) {
            (0, 0) => BannerLevel::Good,
            (0, _) => BannerLevel::Warn,
            _ => BannerLevel::Bad,
        };
        let wallets = format!("{} of {}", Quantity(all, "wallet"), Quantity(self.account_count, "account"));
        let (text, note) = match (stale, unreadable) {
            (0, 0) if all == 0 => ("No wallets".to_owned(), "no account is configured".to_owned()),
            (0, 0) => ("All fresh".to_owned(), wallets),
            (0, _) => (format!("{unreadable} unreadable"), format!("all fresh: {wallets}")),
            _ => {
                let counts = [
                    (unknown, "unknown"),
                    (held, "held"),
                    (unpolled, "not polled yet"),
                    (unreadable, "unreadable"),
                ];
                (format!("{stale} of {all} not fresh"), list_counts(&counts))
            }
        };
        Banner { level, text, note, price_state: None }
    }

    pub(super) fn health_banner(&self) -> Banner {
        if self.stuck_count > 0 {
            let all = Quantity(self.account_count + usize::from(self.price_state.is_some()), "poller");
            let note = format!("{} of {all} stuck", self.stuck_count);
            return Banner { level: BannerLevel::Bad, text: "Unhealthy".to_owned(), note, price_state: None };
        }
        let invalid = "the new configuration is invalid, the previous one stays active: see the log";
        let invalid = self.is_misconfigured.then(|| invalid.to_owned());
        let paused =
            (self.paused_count > 0).then(|| format!("{} paused", Quantity(self.paused_count, "account")));
        let problems: Vec<_> = invalid.into_iter().chain(paused).collect();
        let price_state = self.price_state.filter(|state| *state != WalletState::Fresh);
        let (level, note) = if problems.is_empty() && price_state.is_none() {
            (BannerLevel::Good, "all pollers running".to_owned())
        } else {
            (BannerLevel::Warn, problems.join(", "))
        };
        Banner { level, text: "Healthy".to_owned(), note, price_state }
    }
}

impl<'a> WalletRow<'a> {
    fn new(account: &AccountEntry, snapshot: &'a WalletSnapshot, low_count: usize, now: Timestamp) -> Self {
        let holdings = visible_holdings(snapshot, now);
        Self {
            link: WalletLink::new(&snapshot.config),
            state: WalletState::of(snapshot, now),
            last_read: snapshot.last_good.as_ref().map(|good| HumanDuration(good.at.age(now))),
            failing: snapshot
                .last_failure
                .as_ref()
                .map(|last| (HumanDuration(last.since.age(now)), last.failure.reason)),
            is_stuck: account.overdue(now).is_some(),
            is_paused: account.state.paused_until.is_some(),
            is_unconfirmed: snapshot.suspect_claims.is_some(),
            low_count,
            unreadable_count: holdings.iter().filter(|holding| !holding.state.is_readable()).count(),
        }
    }

    /// How urgent the wallet's problem is; 0 if it has none.
    pub(super) fn severity(&self) -> u8 {
        match self.state {
            _ if self.is_stuck => 4,
            WalletState::Unknown => 3,
            WalletState::Held => 2,
            WalletState::Unpolled => 1,
            WalletState::Fresh => u8::from(self.is_paused || self.low_count > 0 || self.unreadable_count > 0),
        }
    }

    /// Each problem, and whether the page emphasises it. Failing polls are in `failing`.
    pub(super) fn problems(&self) -> Vec<(String, bool)> {
        let problems = [
            (self.low_count > 0, format!("{} low", self.low_count), true),
            (self.unreadable_count > 0, format!("{} unreadable", self.unreadable_count), false),
            (self.is_stuck, "poller stuck".to_owned(), true),
            (self.is_paused, "paused".to_owned(), false),
            (self.is_unconfirmed, "not confirmed".to_owned(), false),
        ];
        let present = problems.into_iter().filter(|(is_present, ..)| *is_present);
        present.map(|(_, text, is_emphasised)| (text, is_emphasised)).collect()
    }
}

impl<'a> WalletLink<'a> {
    fn new(config: &'a WalletConfig) -> Self {
        Self { account: &config.account, wallet: config.wallet }
    }

    pub(super) fn anchor(&self) -> Anchor<'a> {
        Anchor { kind: AnchorKind::Wallet(self.wallet), account: self.account }
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

    /// A disc, a triangle or a square: the levels differ by more than their colour.
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

/// A wallet's freshness, or that of prices. `Unpolled` tells a new wallet from one that became unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WalletState {
    Fresh,
    Held,
    Unknown,
    Unpolled,
}

impl WalletState {
    pub(super) fn of(snapshot: &WalletSnapshot, now: Timestamp) -> Self {
        Self::from_freshness(snapshot.freshness(now), snapshot.counters.polls > 0)
    }

    pub(super) fn of_prices(snapshot: &PriceSnapshot, now: Timestamp) -> Self {
        Self::from_freshness(snapshot.freshness(now), snapshot.is_read())
    }

    fn from_freshness(freshness: Freshness, is_polled: bool) -> Self {
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

    pub(super) fn text(self) -> &'static str {
        if self == Self::Unpolled { "not polled yet" } else { self.class() }
    }
}

/// The counts that are not zero, with their nouns.
fn list_counts(counts: &[(usize, &str)]) -> String {
    let present = counts.iter().filter(|(count, _)| *count > 0);
    present.map(|(count, noun)| format!("{count} {noun}")).collect::<Vec<_>>().join(", ")
}

/// The balances that are young enough to show, sorted by currency; empty if they are too old.
pub(super) fn visible_holdings(snapshot: &WalletSnapshot, now: Timestamp) -> &[Holding] {
    snapshot.visible(now).map(|good| &*good.holdings).unwrap_or_default()
}
