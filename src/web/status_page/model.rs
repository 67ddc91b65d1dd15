//! Counts and judgements of the page, without markup: which balances are low, which wallets are not fresh, which
//! pollers have problems.

use super::{
    format::{AmountText, CurrencyName, HumanDuration, Quantity, Shortfall},
    input::{PageContext, StatusPage, WalletLink, visible_holdings},
    trend::BalanceTrend,
    wallet_table::watch_trend,
    worth::Worth,
};
use crate::{
    clock::Timestamp,
    exchange::{Position, Reason},
    snapshot::positions::PositionsSnapshot,
    snapshot::prices::PriceSnapshot,
    snapshot::store::{AccountEntry, WalletEntry},
    snapshot::wallet::{Freshness, HoldingState, WalletSnapshot},
};

/// All wallets and their counts.
pub(super) struct StatusPageModel<'a> {
    pub(super) wallets: Vec<WalletRow<'a>>,
    account_count: usize,
    /// Pollers without a heartbeat, the price poller included.
    stuck_count: usize,
    paused_count: usize,
    has_reload_failed: bool,
    /// `None` if prices are not enabled.
    price_state: Option<WalletState>,
    threshold_count: usize,
    /// Thresholds of unknown balances.
    unknown_threshold_count: usize,
    /// Balances below their threshold, the worst first.
    pub(super) low: Vec<LowBalance<'a>>,
}

/// The state of a wallet and its problems.
#[derive(Clone)]
#[expect(clippy::struct_excessive_bools, reason = "problems that are independent of each other")]
pub(super) struct WalletRow<'a> {
    pub(super) link: WalletLink<'a>,
    pub(super) state: WalletState,
    /// Age of the last good answer.
    pub(super) last_read: Option<HumanDuration>,
    /// How long its polls have been failing, and why the last one did.
    pub(super) failing: Option<(HumanDuration, Reason)>,
    /// `None` while prices are unknown or if they are not enabled.
    pub(super) worth: Option<Worth<'a>>,
    is_stuck: bool,
    is_paused: bool,
    is_unconfirmed: bool,
    /// Watched currencies below their threshold.
    low_count: usize,
    /// Watched currencies whose amounts the answer did not hold in a readable form.
    unreadable_count: usize,
    /// Open positions that are near liquidation.
    near_liquidation_count: usize,
    are_positions_unknown: bool,
}

/// A balance below its threshold.
pub(super) struct LowBalance<'a> {
    pub(super) link: WalletLink<'a>,
    pub(super) currency: CurrencyName<'a>,
    /// `None` if the answer did not list the currency.
    pub(super) free: Option<AmountText<'a>>,
    pub(super) shortfall: Shortfall,
    /// Age of the balance if the last poll did not renew it.
    pub(super) held: Option<HumanDuration>,
    pub(super) trend: BalanceTrend,
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
    pub(super) fn new(page: &StatusPage<'a>, context: PageContext<'a>) -> Self {
        let now = page.now;
        let stuck = page.accounts.iter().filter(|account| account.overdue(now).is_some());
        let is_price_poller_stuck = page.prices.is_some_and(|prices| prices.overdue(now).is_some());
        let mut model = Self {
            wallets: Vec::new(),
            account_count: page.accounts.len(),
            stuck_count: stuck.count() + usize::from(is_price_poller_stuck),
            price_state: page.prices.map(|prices| WalletState::of_prices(&prices.snapshot, now)),
            paused_count: page.accounts.iter().filter(|account| account.state.paused_until.is_some()).count(),
            has_reload_failed: page.misconfigured,
            threshold_count: 0,
            unknown_threshold_count: 0,
            low: Vec::new(),
        };
        for account in page.accounts {
            for wallet in &account.wallets {
                let low_before = model.low.len();
                model.compare_thresholds(&wallet.snapshot, context);
                let low_count = model.low.len() - low_before;
                model.wallets.push(WalletRow::new(account, wallet, low_count, context));
            }
        }
        model.low.sort_by(|a, b| a.shortfall.cmp_worst_first(&b.shortfall));
        model
    }

    fn compare_thresholds(&mut self, snapshot: &'a WalletSnapshot, context: PageContext<'a>) {
        let now = context.now;
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
                let (currency, trend) =
                    (CurrencyName(&watch.currency), watch_trend(snapshot, watch, context));
                self.low.push(LowBalance { link, currency, free, shortfall, held, trend });
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
            "" if self.has_reload_failed => "invalid configuration",
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
        let critical = self.low.iter().filter(|low| low.shortfall.is_critical()).count();
        let critical = (critical > 0).then(|| format!("{critical} critical"));
        let join_notes = |note| critical.into_iter().chain([note]).collect::<Vec<_>>().join(" · ");
        let unknown_note = || format!("balance unknown for {unknown} of {thresholds}");
        let (level, text, note) = match (low, unknown) {
            _ if all == 0 => {
                (BannerLevel::Good, "No thresholds".to_owned(), "no balance can be low".to_owned())
            }
            (0, 0) => {
                (BannerLevel::Good, "Nothing low".to_owned(), format!("{all} of {all} above threshold"))
            }
            (0, _) if unknown == all => (BannerLevel::Warn, "Balances unknown".to_owned(), unknown_note()),
            (0, _) => (BannerLevel::Warn, "None known to be low".to_owned(), unknown_note()),
            (_, 0) => (BannerLevel::Bad, format!("{low} low"), join_notes(format!("of {thresholds}"))),
            _ => (BannerLevel::Bad, format!("{low} low"), join_notes(unknown_note())),
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
        let price_state = self.price_state.filter(|state| *state != WalletState::Fresh);
        let paused = format!("{} paused", Quantity(self.paused_count, "account"));
        let (level, text, note) = match (self.has_reload_failed, self.paused_count) {
            (true, paused_count) => {
                let note = "the new configuration is invalid, the previous one stays active: see the log";
                let note = if paused_count > 0 { format!("{note}, {paused}") } else { note.to_owned() };
                (BannerLevel::Warn, "Invalid configuration".to_owned(), note)
            }
            (false, 1..) => (BannerLevel::Warn, paused, "after a rate-limit reply".to_owned()),
            (false, 0) if price_state.is_some() => {
                (BannerLevel::Warn, "Exporter running".to_owned(), String::new())
            }
            (false, 0) => (BannerLevel::Good, "Exporter running".to_owned(), "no poller is stuck".to_owned()),
        };
        Banner { level, text, note, price_state }
    }
}

impl<'a> WalletRow<'a> {
    fn new(
        account: &AccountEntry,
        entry: &'a WalletEntry,
        low_count: usize,
        context: PageContext<'a>,
    ) -> Self {
        let (snapshot, now): (&'a WalletSnapshot, _) = (&entry.snapshot, context.now);
        let holdings = visible_holdings(snapshot, now);
        let link = WalletLink::new(&snapshot.config);
        let positions = entry.positions.as_deref();
        Self {
            link,
            worth: context.prices.map(|prices| Worth::of_wallet(link, snapshot, prices, now)),
            state: WalletState::from_snapshot(snapshot, now),
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
            near_liquidation_count: positions.map_or(0, |positions| count_near_liquidation(positions, now)),
            are_positions_unknown: positions.is_some_and(|positions| positions.visible(now).is_none()),
        }
    }

    /// How urgent the wallet's problem is; 0 if it has none.
    pub(super) fn severity(&self) -> u8 {
        match self.state {
            _ if self.is_stuck => 4,
            WalletState::Unknown => 3,
            WalletState::Held => 2,
            WalletState::Unpolled => 1,
            WalletState::Fresh => u8::from(
                self.is_paused
                    || self.low_count > 0
                    || self.unreadable_count > 0
                    || self.near_liquidation_count > 0
                    || self.are_positions_unknown,
            ),
        }
    }

    /// Whether the positions are unknown, or one is near liquidation.
    pub(super) fn has_position_problem(&self) -> bool {
        self.are_positions_unknown || self.near_liquidation_count > 0
    }

    /// Each problem, and whether the page emphasises it. Those of the whole account are not among them.
    pub(super) fn problems(&self) -> Vec<(String, bool)> {
        let failing = self.failing.map_or_else(String::new, |(_, reason)| format!("failing ({reason})"));
        let near = Quantity(self.near_liquidation_count, "position");
        let problems = [
            (self.low_count > 0, format!("{} low", self.low_count), true),
            (self.unreadable_count > 0, format!("{} unreadable", self.unreadable_count), false),
            (self.near_liquidation_count > 0, format!("{near} near liquidation"), true),
            (self.failing.is_some(), failing, false),
            (self.are_positions_unknown, "positions unknown".to_owned(), false),
            (self.is_unconfirmed, "not confirmed".to_owned(), false),
        ];
        let present = problems.into_iter().filter(|(is_present, ..)| *is_present);
        present.map(|(_, text, is_emphasised)| (text, is_emphasised)).collect()
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
    pub(super) fn from_snapshot(snapshot: &WalletSnapshot, now: Timestamp) -> Self {
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

/// The number of open positions that are nearer to liquidation than a threshold; 0 while they are unknown.
fn count_near_liquidation(positions: &PositionsSnapshot, now: Timestamp) -> usize {
    let open = positions.visible(now).into_iter().flat_map(|good| &*good.positions);
    let distances = open.filter_map(Position::liquidation_distance);
    distances.filter(|distance| *distance < positions.config.risk.warn_distance).count()
}

/// The counts that are not zero, with their nouns.
fn list_counts(counts: &[(usize, &str)]) -> String {
    let present = counts.iter().filter(|(count, _)| *count > 0);
    present.map(|(count, noun)| format!("{count} {noun}")).collect::<Vec<_>>().join(", ")
}
