//! A wallet's snapshot: its last good answer, and how the next poll changes it.
//! Pure: reads no clock, sends nothing and does not depend on the text format.

#[cfg(test)]
pub(crate) mod tests;

use std::{fmt, sync::Arc, time::Duration};

use smol_str::SmolStr;

use crate::{
    clock::{MonotonicTime, Timestamp},
    exchange::{
        Amount, Balance, BalanceAmounts, BalanceAnswer, Failure, FrozenParts, RawBody, Reason, Wallet,
    },
};

/// A wallet's last good answer, last failure, open suspicion and counters. Every poll makes a new snapshot from the previous
/// one.
#[derive(Clone, Debug)]
pub struct WalletSnapshot {
    /// The wallet's settings.
    pub config: Arc<WalletConfig>,
    /// The last good answer, however old.
    pub last_good: Option<LastGood>,
    /// The last poll's failure; `None` if it did not fail, and before the first.
    pub last_failure: Option<LastFailure>,
    /// The suspect claims of the last answer; `None` if it is not suspect.
    pub suspect_claims: Option<SuspectClaims>,
    /// Whether there was a good answer since the watched currencies were configured.
    pub has_checked_watch: bool,
    /// Counts since the start.
    pub counters: Counters,
}

/// The settings of a wallet.
#[derive(Clone, Debug, PartialEq)]
pub struct WalletConfig {
    /// The `account` label.
    pub account: Box<str>,
    /// The `wallet` label.
    pub wallet: Wallet,
    /// Currencies that are always visible after a good poll, sorted by name.
    pub watch: Vec<WatchedCurrency>,
    /// The filter for all other currencies.
    pub filter: CurrencyFilter,
    /// Balances of this age and older are unknown.
    pub max_age: Duration,
}

impl WalletConfig {
    /// The settings of the watched `currency`; `None` if it is not watched.
    #[must_use]
    pub fn find_watch(&self, currency: &str) -> Option<&WatchedCurrency> {
        self.watch.iter().find(|watch| &*watch.currency == currency)
    }
}

/// A watched currency.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchedCurrency {
    /// Lower case.
    pub currency: SmolStr,
    /// `None` if no balance of the currency counts as low.
    pub thresholds: Option<Thresholds>,
}

/// The free amounts below which a watched balance is low, in units of the currency.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// A balance below it is a warning. Finite and above 0.
    pub warn: f64,
    /// A balance below it pages. Above 0 and at most `warn`.
    pub page: f64,
}

/// The filter for currencies that are not watched.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CurrencyFilter {
    /// If not empty, only these are visible.
    pub only: Vec<SmolStr>,
    /// These are never visible.
    pub exclude: Vec<SmolStr>,
    /// Hides rows in which both amounts are zero.
    pub hide_zero: bool,
}

impl CurrencyFilter {
    /// Whether a currency that is not watched is visible.
    pub(crate) fn is_visible(&self, currency: &str, is_zero: impl Fn() -> bool) -> bool {
        let listed = |list: &[SmolStr]| list.iter().any(|name| name == currency);
        (self.only.is_empty() || listed(&self.only))
            && !listed(&self.exclude)
            && !(self.hide_zero && is_zero())
    }
}

/// The last good answer, filtered.
#[derive(Clone, Debug)]
pub struct LastGood {
    /// When its request was sent. Counting the age from here never understates it.
    pub at: Timestamp,
    /// The visible rows, sorted by currency. The same allocation as before if nothing changed.
    pub holdings: Arc<[Holding]>,
    /// Rows in the answer, usable or not.
    pub currencies: u64,
    /// Unusable rows in the answer.
    pub rejected: u64,
    /// Whether any balance of the answer, visible or not, was not 0.
    pub holds_anything: bool,
    /// Currencies that are not visible only because their rows are unusable. Watched ones are visible.
    pub unusable: u64,
    /// The exchange's own value of the wallet in USDT; `None` if it was not sent.
    pub exchange_total: Option<Amount>,
    /// The body of the answer.
    pub raw_body: Option<RawBody>,
}

/// A currency of a good answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Holding {
    /// Lower case.
    pub currency: SmolStr,
    /// What the answer holds for the currency.
    pub state: HoldingState,
}

/// What an answer holds for a currency.
#[derive(Clone, Debug, PartialEq)]
pub enum HoldingState {
    /// Its amounts.
    Read(BalanceAmounts),
    /// Watched and missing from the list, but the exchange gave these amounts when it was asked for the currency alone.
    Unlisted(Box<BalanceAmounts>),
    /// Watched and missing from the answer, which another answer confirmed: a zero.
    Missing,
    /// Watched and present, but without usable amounts: neither a zero nor another number.
    Unreadable,
    /// Watched and missing, but a row without a usable name may belong to it.
    Unnamed,
    /// Missing from an answer that was read before the currency was watched. The next answer must confirm it.
    Unconfirmed,
}

impl HoldingState {
    /// Whether the answer had a row for the currency; `None` if unknown.
    #[must_use]
    pub fn is_present(&self) -> Option<bool> {
        match self {
            Self::Read(_) | Self::Unreadable => Some(true),
            Self::Unlisted(_) | Self::Missing => Some(false),
            Self::Unnamed | Self::Unconfirmed => None,
        }
    }

    /// The amounts as the exchange wrote them; `None` if it wrote none.
    #[must_use]
    pub fn written(&self) -> Option<&BalanceAmounts> {
        match self {
            Self::Read(amounts) => Some(amounts),
            Self::Unlisted(amounts) => Some(amounts),
            Self::Missing | Self::Unreadable | Self::Unnamed | Self::Unconfirmed => None,
        }
    }

    /// The free and frozen amounts; `None` if they are unknown.
    #[must_use]
    pub fn amounts(&self) -> Option<(f64, f64)> {
        match self {
            Self::Missing => Some((0.0, 0.0)),
            _ => self.written().map(|amounts| (amounts.free.value(), amounts.frozen.value())),
        }
    }

    /// Whether the amounts are known.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        matches!(self, Self::Read(_) | Self::Unlisted(_) | Self::Missing)
    }

    fn is_zero(&self) -> bool {
        self.amounts() == Some((0.0, 0.0))
    }
}

/// The suspect claims of an answer: balances that disappeared, which may be an error of the exchange. The last balances
/// are held until another answer makes the same claims.
#[derive(Clone, Debug, PartialEq)]
pub struct SuspectClaims {
    /// Watched currencies whose row or amounts disappeared, sorted.
    pub lost: Vec<SmolStr>,
    /// Whether every balance of the answer is 0, unlike before.
    pub holds_nothing: bool,
    /// When the answer arrived. It can be confirmed until it is `max_age` old.
    pub at: Timestamp,
}

impl SuspectClaims {
    fn claims_anything(&self) -> bool {
        self.holds_nothing || !self.lost.is_empty()
    }

    /// Whether an answer with the claims of `self` confirms `earlier`: all of its claims are among those of `earlier`.
    #[must_use]
    pub fn confirms(&self, earlier: &Self) -> bool {
        self.holds_nothing <= earlier.holds_nothing
            && self.lost.iter().all(|name| earlier.lost.contains(name))
    }
}

impl fmt::Display for SuspectClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.holds_nothing {
            return f.write_str("the answer has no balances");
        }
        write!(f, "the answer has no {}", self.lost.join(", "))
    }
}

/// The last poll's failure.
#[derive(Clone, Debug)]
pub struct LastFailure {
    /// When the last failed poll ended.
    pub at: Timestamp,
    /// When the first failed poll since the last good one ended.
    pub since: Timestamp,
    /// Why.
    pub failure: Failure,
}

impl LastFailure {
    /// The failure of a poll that ended at `at`, after the `previous` poll, if that failed too.
    #[must_use]
    pub fn after(previous: Option<&Self>, at: Timestamp, failure: Failure) -> Self {
        Self { at, since: previous.map_or(at, |previous| previous.since), failure }
    }
}

/// Counts since the start of the process.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Finished polls.
    pub polls: u64,
    /// Failed polls, in the order of [`Reason::ALL`].
    pub failures: [u64; Reason::ALL.len()],
    /// Unusable rows of good answers.
    pub rows_rejected: u64,
    /// Polls with a suspect answer.
    pub suspect_snapshots: u64,
    /// The durations of polls.
    pub durations: DurationHistogram,
}

/// A histogram of durations.
#[derive(Clone, Debug, Default)]
pub struct DurationHistogram {
    /// Polls that took at most the bound of [`Self::BOUNDS`] at the same place, and more
    /// than the bound before it.
    pub counts: [u64; Self::BOUNDS.len()],
    /// The sum of all durations.
    pub sum: Duration,
}

impl DurationHistogram {
    /// Upper bounds of the buckets, in seconds.
    pub const BOUNDS: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

    fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = self.counts.iter_mut().zip(Self::BOUNDS).find(|(_, bound)| seconds <= *bound);
        if let Some((count, _)) = bucket {
            *count += 1;
        }
        self.sum += took;
    }
}

/// Whether balances or prices are current.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// The last poll was good.
    Fresh,
    /// The last poll failed or its answer is suspect; the last good answer is younger than `max_age`.
    Held,
    /// There is no good answer that is younger than `max_age`.
    Unknown,
}

impl Freshness {
    /// `is_visible`: whether there is a good answer younger than `max_age`. `last_poll_good`: whether the last poll
    /// succeeded with an answer that is not suspect.
    #[must_use]
    pub fn new(is_visible: bool, last_poll_good: bool) -> Self {
        match (is_visible, last_poll_good) {
            (false, _) => Self::Unknown,
            (true, true) => Self::Fresh,
            (true, false) => Self::Held,
        }
    }
}

/// The result of a poll.
#[derive(Debug)]
pub struct PollResult {
    /// When it ended.
    pub at: Timestamp,
    /// Its duration.
    pub took: Duration,
    /// Whether an answer was suspect, even if another base URL confirmed it in the same poll.
    pub is_suspect: bool,
    /// Its outcome.
    pub outcome: PollOutcome,
}

/// The outcome of a poll.
#[derive(Debug)]
pub enum PollOutcome {
    /// A good answer that is not suspect.
    Answer {
        /// When its request was sent.
        sent: Timestamp,
        /// The answer; `None` if it equals the last good one.
        answer: Option<BalanceAnswer>,
    },
    /// A suspect answer, which another one must confirm.
    Suspect(SuspectClaims),
    /// No good answer.
    Failed(Failure),
}

impl PollOutcome {
    /// The outcome of a read whose request was sent at `sent`. `Ok(None)`: the answer equals the last good one.
    #[must_use]
    pub fn new(sent: Timestamp, read: Result<Option<BalanceAnswer>, Failure>) -> Self {
        read.map_or_else(Self::Failed, |answer| Self::Answer { sent, answer })
    }
}

impl WalletSnapshot {
    /// A snapshot before the first poll.
    #[must_use]
    pub fn new(config: Arc<WalletConfig>) -> Self {
        Self {
            config,
            last_good: None,
            last_failure: None,
            suspect_claims: None,
            has_checked_watch: false,
            counters: Counters::default(),
        }
    }

    /// The last good answer, if it is younger than `max_age` as of `now`.
    #[must_use]
    pub fn visible(&self, now: Timestamp) -> Option<&LastGood> {
        self.last_good.as_ref().filter(|good| good.at.age(now) < self.config.max_age)
    }

    /// When the answer that is visible as of `now` becomes too old.
    #[must_use]
    pub fn visible_until(&self, now: Timestamp) -> Option<MonotonicTime> {
        self.visible(now).map(|good| good.at.monotonic + self.config.max_age)
    }

    /// Fresh, held or unknown as of `now`.
    #[must_use]
    pub fn freshness(&self, now: Timestamp) -> Freshness {
        Freshness::new(self.visible(now).is_some(), self.is_last_poll_good())
    }

    /// Whether the last poll succeeded with an answer that is not suspect; also true before the first poll.
    #[must_use]
    pub fn is_last_poll_good(&self) -> bool {
        self.last_failure.is_none() && self.suspect_claims.is_none()
    }

    /// Whether the last poll succeeded with an answer that is not suspect; false before the first poll.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.last_good.is_some() && self.is_last_poll_good()
    }

    /// The suspect claims of `answer`: a watched balance that falls to zero (free and frozen), a watched row that
    /// disappears, and an answer without any balance. Before the first good answer every watched currency counts as
    /// having had a balance. `None` if nothing is suspect, or if the open suspicion covers every claim and is not too old at
    /// `now`.
    #[must_use]
    pub fn find_suspect_claims(&self, answer: &BalanceAnswer, now: Timestamp) -> Option<SuspectClaims> {
        let before = self.last_good.as_ref();
        let is_lost = |watch: &&WatchedCurrency| {
            let known = before.and_then(|good| good.find_state(&watch.currency));
            match state_in_answer(answer, &watch.currency) {
                HoldingState::Missing => {
                    !matches!(known, Some(HoldingState::Missing | HoldingState::Unconfirmed))
                }
                row => row.is_zero() && !known.is_some_and(HoldingState::is_zero),
            }
        };
        let lost: Vec<_> =
            self.config.watch.iter().filter(is_lost).map(|watch| watch.currency.clone()).collect();
        let holds_nothing = answer.rejected == 0
            && !holds_anything(answer)
            && before
                .is_none_or(|good| good.holds_anything || answer.balances.is_empty() && good.currencies > 0);
        let claims = SuspectClaims { lost, holds_nothing, at: now };
        let open = self.suspect_claims.as_ref().filter(|open| open.at.age(now) < self.config.max_age);
        let is_confirmed = open.is_some_and(|open| claims.confirms(open));
        (claims.claims_anything() && !is_confirmed).then_some(claims)
    }

    /// The snapshot under other settings. `answer` is the last good answer, decoded again; without it the balances are
    /// unknown. A newly watched currency that is missing from it has no balance until the next answer confirms that.
    #[must_use]
    pub fn with_config(&self, wallet_config: Arc<WalletConfig>, answer: Option<BalanceAnswer>) -> Self {
        let good = self.last_good.as_ref().zip(answer).map(|(known, answer)| {
            let is_new = |holding: &Holding| {
                holding.state == HoldingState::Missing
                    && known.find_state(&holding.currency) != Some(&HoldingState::Missing)
            };
            let mut good = LastGood::new(answer, &wallet_config, known.at, Some(known));
            if good.holdings.iter().any(is_new) {
                let mark_unconfirmed = |holding: &Holding| {
                    let row = if is_new(holding) { HoldingState::Unconfirmed } else { holding.state.clone() };
                    Holding { currency: holding.currency.clone(), state: row }
                };
                good.holdings = good.holdings.iter().map(mark_unconfirmed).collect();
            }
            good
        });
        let has_checked_watch = self.has_checked_watch && self.config.watch == wallet_config.watch;
        Self { config: wallet_config, last_good: good, has_checked_watch, ..self.clone() }
    }

    /// The snapshot after a poll.
    #[must_use]
    pub fn apply(&self, result: PollResult) -> Self {
        let mut next = self.clone();
        next.counters.polls += 1;
        next.counters.durations.observe(result.took);
        next.counters.suspect_snapshots += u64::from(result.is_suspect);
        match result.outcome {
            PollOutcome::Answer { sent, answer } => {
                next.counters.rows_rejected += match (answer, &mut next.last_good) {
                    (Some(answer), _) => {
                        let good = LastGood::new(answer, &self.config, sent, self.last_good.as_ref());
                        next.last_good.insert(good).rejected
                    }
                    (None, Some(good)) => {
                        good.at = sent;
                        good.rejected
                    }
                    (None, None) => 0,
                };
                (next.last_failure, next.suspect_claims) = (None, None);
                next.has_checked_watch = true;
            }
            PollOutcome::Suspect(claims) => (next.last_failure, next.suspect_claims) = (None, Some(claims)),
            // A failure does not resolve an open suspicion.
            PollOutcome::Failed(failure) => {
                if let Some(count) = next.counters.failures.get_mut(failure.reason as usize) {
                    *count += 1;
                }
                next.last_failure = Some(LastFailure::after(self.last_failure.as_ref(), result.at, failure));
            }
        }
        next
    }
}

impl LastGood {
    /// Filters an `answer` whose request was sent at `at`, and reuses the rows of the `previous` answer if they are equal.
    fn new(
        answer: BalanceAnswer,
        wallet_config: &WalletConfig,
        at: Timestamp,
        previous: Option<&Self>,
    ) -> Self {
        let (rejected, raw_body) = (answer.rejected, answer.raw_body.clone());
        let exchange_total = answer.exchange_total.clone();
        let currencies = answer.balances.len() as u64 + rejected;
        let holds_anything = holds_anything(&answer);
        let unusable = count_unusable(wallet_config, &answer);
        let holdings = visible_holdings(wallet_config, answer);
        let unchanged = previous.map(|good| &good.holdings).filter(|old| ***old == *holdings);
        let holdings = unchanged.cloned().unwrap_or_else(|| holdings.into());
        Self { at, holdings, currencies, rejected, holds_anything, unusable, exchange_total, raw_body }
    }

    /// The body to compare the next answer with; `None` while a row is unconfirmed, because then an equal answer must be
    /// decoded to confirm it.
    #[must_use]
    pub fn comparable_body(&self) -> Option<&RawBody> {
        let is_settled = !self.holdings.iter().any(|holding| holding.state == HoldingState::Unconfirmed);
        self.raw_body.as_ref().filter(|_| is_settled)
    }

    /// Watched currencies that the exchange's list left out.
    pub fn missing_currencies(&self) -> impl Iterator<Item = &SmolStr> {
        let is_missing = |holding: &&Holding| holding.state.is_present() == Some(false);
        self.holdings.iter().filter(is_missing).map(|holding| &holding.currency)
    }

    /// What the answer holds for a visible `currency`.
    #[must_use]
    pub fn find_state(&self, currency: &str) -> Option<&HoldingState> {
        self.find_holding(currency).map(|holding| &holding.state)
    }

    /// The row of a visible `currency`.
    #[must_use]
    pub fn find_holding(&self, currency: &str) -> Option<&Holding> {
        let place = self.holdings.binary_search_by(|holding| (*holding.currency).cmp(currency)).ok()?;
        self.holdings.get(place)
    }
}

/// What `answer` holds for a watched `currency`.
fn state_in_answer(answer: &BalanceAnswer, currency: &str) -> HoldingState {
    let found = answer.balances.binary_search_by(|row| (*row.currency).cmp(currency)).ok();
    match found.and_then(|at| answer.balances.get(at)) {
        Some(row) => HoldingState::Read(row.amounts.clone()),
        None => state_without_amounts(answer, currency),
    }
}

/// What `answer` holds for a watched `currency` that is not among its balances.
fn state_without_amounts(answer: &BalanceAnswer, currency: &str) -> HoldingState {
    if let Some(row) = answer.unlisted.iter().find(|row| &*row.currency == currency) {
        return HoldingState::Unlisted(Box::new(row.amounts.clone()));
    }
    match answer.unreadable.iter().any(|name| name == currency) {
        true => HoldingState::Unreadable,
        false if answer.nameless > 0 => HoldingState::Unnamed,
        false => HoldingState::Missing,
    }
}

/// Whether any balance in the list of `answer`, visible or not, is not 0. A balance that the list left out says nothing about the
/// others.
fn holds_anything(answer: &BalanceAnswer) -> bool {
    answer.balances.iter().any(|row| !row.amounts.is_zero())
}

/// The number of currencies that are not visible only because their rows are unusable. A row without a name counts if
/// every name would be visible, or if it may belong to a watched currency.
fn count_unusable(wallet_config: &WalletConfig, answer: &BalanceAnswer) -> u64 {
    let hidden = |name: &&SmolStr| {
        wallet_config.find_watch(name).is_none() && wallet_config.filter.is_visible(name, || false)
    };
    let may_be = |watch: &WatchedCurrency| state_in_answer(answer, &watch.currency) == HoldingState::Unnamed;
    let is_shown = wallet_config.filter.only.is_empty() || wallet_config.watch.iter().any(may_be);
    let nameless = if is_shown { answer.nameless } else { 0 };
    answer.unreadable.iter().filter(hidden).count() as u64 + nameless
}

/// The visible rows: watched currencies, and others that pass the filter.
fn visible_holdings(wallet_config: &WalletConfig, mut answer: BalanceAnswer) -> Vec<Holding> {
    let show = |mut row: Balance| {
        if wallet_config.find_watch(&row.currency).is_none() {
            if !wallet_config.filter.is_visible(&row.currency, || row.amounts.is_zero()) {
                return None;
            }
            drop_zero_parts(&mut row.amounts);
        }
        Some(Holding { currency: row.currency, state: HoldingState::Read(row.amounts) })
    };
    let mut shown: Vec<_> = std::mem::take(&mut answer.balances).into_iter().filter_map(show).collect();
    for watch in &wallet_config.watch {
        if let Err(place) = shown.binary_search_by(|holding| holding.currency.cmp(&watch.currency)) {
            let row = state_without_amounts(&answer, &watch.currency);
            shown.insert(place, Holding { currency: watch.currency.clone(), state: row });
        }
    }
    shown
}

/// Drops the parts of the frozen amount of a currency that is not watched, if nothing of it is frozen. Otherwise the
/// exposition would have five lines of zeros for most currencies.
fn drop_zero_parts(amounts: &mut BalanceAmounts) {
    if amounts.frozen.value() == 0.0 && amounts.frozen_parts.is_zero() {
        amounts.frozen_parts = FrozenParts::default();
    }
}
