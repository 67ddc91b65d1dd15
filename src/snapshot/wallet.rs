//! What is known of one wallet of one account, and how an answer or a failure changes it.
//! Pure: it reads no clock, asks nobody and knows no text format.

use std::{fmt, sync::Arc, time::Duration};

use smol_str::SmolStr;

use crate::{
    clock::Timestamp,
    exchange::{Amount, Balance, BalanceAnswer, Failure, RawBody, Reason, Wallet},
};

/// What is known of one wallet of one account. Every poll makes a new one out of the last.
#[derive(Clone, Debug)]
pub struct WalletSnapshot {
    /// Whose balances these are, and what to make of them.
    pub config: Arc<WalletConfig>,
    /// The last good answer, however old.
    pub last_good: Option<LastGood>,
    /// How the last poll failed; `None` if it did not, or none has ended yet.
    pub last_failure: Option<LastFailure>,
    /// What the last answer said that has to be confirmed; `None` if the last answer was believed.
    pub doubt: Option<Doubt>,
    /// Counts since the start.
    pub counters: Counters,
}

/// Whose balances, and the owner's wishes for them.
#[derive(Clone, Debug, PartialEq)]
pub struct WalletConfig {
    /// The `account` label.
    pub account: Box<str>,
    /// The `wallet` label.
    pub wallet: Wallet,
    /// Currencies that are always shown after a good poll, sorted by name.
    pub watch: Vec<WatchedCurrency>,
    /// Which of the others are shown.
    pub filter: CurrencyFilter,
    /// From this age on an answer is unknown.
    pub max_age: Duration,
}

impl WalletConfig {
    /// The watch on `currency`, if it is watched.
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
    /// Below this free amount, in the currency itself, its owner wants to know.
    pub threshold: Option<f64>,
}

/// Which currencies are shown; watched ones always are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CurrencyFilter {
    /// If not empty, only these.
    pub only: Vec<SmolStr>,
    /// Never these.
    pub exclude: Vec<SmolStr>,
    /// Leave out rows where both amounts are zero.
    pub hide_zero: bool,
}

impl CurrencyFilter {
    fn shows(&self, currency: &str, is_zero: impl Fn() -> bool) -> bool {
        let listed = |list: &[SmolStr]| list.iter().any(|name| name == currency);
        (self.only.is_empty() || listed(&self.only))
            && !listed(&self.exclude)
            && !(self.hide_zero && is_zero())
    }
}

/// A good answer, as it is shown.
#[derive(Clone, Debug)]
pub struct LastGood {
    /// When its request was sent. Ages count from here, so none is understated.
    pub at: Timestamp,
    /// What is shown of it, sorted by currency. The same allocation as before if nothing changed.
    pub holdings: Arc<[Holding]>,
    /// Rows in the answer, usable or not.
    pub currencies: u64,
    /// Unusable rows in the answer.
    pub rejected: u64,
    /// Whether any balance of the answer, shown or not, was other than 0.
    pub holds_anything: bool,
    /// Currencies that would be shown as well, were their rows usable; watched ones are.
    pub unusable: u64,
    /// The answer itself.
    pub raw_body: Option<RawBody>,
}

/// One currency of a good answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Holding {
    /// Lower case.
    pub currency: SmolStr,
    /// What the answer said of it.
    pub state: HoldingState,
}

/// What an answer said of a currency.
#[derive(Clone, Debug, PartialEq)]
pub enum HoldingState {
    /// Both amounts.
    Read {
        /// Free to trade or withdraw.
        free: Amount,
        /// Locked in orders or withdrawals.
        frozen: Amount,
    },
    /// Watched, and left out of the answer, as another answer confirmed: that is a zero.
    Missing,
    /// Watched, and present, but not as amounts: that is not a zero, and no other number either.
    Unreadable,
    /// Watched, and no row has its name, but a row without a usable name may be its own.
    Unnamed,
    /// Watched since the answer was read, and left out of it. Only the next answer can confirm that.
    Unconfirmed,
}

impl HoldingState {
    /// Whether the answer had a row for the currency; `None` if that cannot be told.
    #[must_use]
    pub fn is_present(&self) -> Option<bool> {
        match self {
            Self::Read { .. } | Self::Unreadable => Some(true),
            Self::Missing => Some(false),
            Self::Unnamed | Self::Unconfirmed => None,
        }
    }

    /// The free and frozen amounts as numbers, where there are any.
    #[must_use]
    pub fn amounts(&self) -> Option<(f64, f64)> {
        match self {
            Self::Read { free, frozen } => Some((free.value(), frozen.value())),
            Self::Missing => Some((0.0, 0.0)),
            Self::Unreadable | Self::Unnamed | Self::Unconfirmed => None,
        }
    }

    /// Whether it says how much there is.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        matches!(self, Self::Read { .. } | Self::Missing)
    }

    fn is_zero(&self) -> bool {
        self.amounts() == Some((0.0, 0.0))
    }
}

/// A good answer's claims that look more like a slip of the exchange than like the truth, because less is left than
/// before. Until another answer makes the same claims, the last balances are held.
#[derive(Clone, Debug, PartialEq)]
pub struct Doubt {
    /// Watched currencies without a row or with nothing in it, which had one or held something. Sorted.
    pub lost: Vec<SmolStr>,
    /// Whether the answer has no balance other than 0, and that is news.
    pub holds_nothing: bool,
    /// When the answer came: from `max_age` on it confirms nothing any more.
    pub at: Timestamp,
}

impl Doubt {
    fn claims_anything(&self) -> bool {
        self.holds_nothing || !self.lost.is_empty()
    }

    /// Whether an answer that makes the claims of `self` confirms `earlier`: it claims nothing that the earlier one
    /// did not.
    #[must_use]
    pub fn confirms(&self, earlier: &Self) -> bool {
        self.holds_nothing <= earlier.holds_nothing
            && self.lost.iter().all(|name| earlier.lost.contains(name))
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.holds_nothing {
            return f.write_str("the answer holds no balance at all");
        }
        write!(f, "the answer has nothing of {}", self.lost.join(", "))
    }
}

/// How a poll failed, and when.
#[derive(Clone, Debug)]
pub struct LastFailure {
    /// When the last failed poll ended.
    pub at: Timestamp,
    /// When the first one ended since the last good poll.
    pub since: Timestamp,
    /// Why.
    pub failure: Failure,
}

/// Counts since the start of the process.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Polls ended.
    pub polls: u64,
    /// Polls failed, by the reason's place in [`Reason::ALL`].
    pub failures: [u64; Reason::ALL.len()],
    /// Unusable rows of good answers.
    pub rows_rejected: u64,
    /// Polls with an answer that had to be confirmed, whether it was or not.
    pub suspect_snapshots: u64,
    /// How long polls took.
    pub durations: DurationHistogram,
}

/// A histogram of durations.
#[derive(Clone, Debug, Default)]
pub struct DurationHistogram {
    /// Polls that took at most the bound of [`Durations::BOUNDS`] at the same place, and more
    /// than the bound before it.
    pub counts: [u64; Self::BOUNDS.len()],
    /// All polls together.
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

/// What may be said of a wallet's balances, or of prices, now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// The last poll was good.
    Fresh,
    /// The last poll failed, or its answer is not confirmed; the answer before it is younger than `max_age`.
    Held,
    /// Never read, or too long ago.
    Unknown,
}

impl Freshness {
    /// The freshness of an answer that is known or not, after a last poll whose answer was believed or not.
    #[must_use]
    pub fn of(is_known: bool, last_poll_believed: bool) -> Self {
        match (is_known, last_poll_believed) {
            (false, _) => Self::Unknown,
            (true, true) => Self::Fresh,
            (true, false) => Self::Held,
        }
    }
}

/// The end of one poll.
#[derive(Debug)]
pub struct PollResult {
    /// When.
    pub at: Timestamp,
    /// After how long.
    pub took: Duration,
    /// Whether an answer was doubted, be it confirmed by another base URL of the same poll.
    pub is_suspect: bool,
    /// With what.
    pub outcome: PollOutcome,
}

/// What a poll brought.
#[derive(Debug)]
pub enum PollOutcome {
    /// A believed answer.
    Answer {
        /// When its request was sent.
        sent: Timestamp,
        /// The answer; `None` is the last good one once more.
        answer: Option<BalanceAnswer>,
    },
    /// An answer that is not believed until another one confirms it.
    Doubted(Doubt),
    /// No good answer.
    Failed(Failure),
}

impl PollOutcome {
    /// A believed answer to a request that was sent at `sent`, `None` if it is the last good one once more, or a
    /// failure.
    #[must_use]
    pub fn new(sent: Timestamp, read: Result<Option<BalanceAnswer>, Failure>) -> Self {
        read.map_or_else(Self::Failed, |answer| Self::Answer { sent, answer })
    }
}

impl WalletSnapshot {
    /// Nothing known yet.
    #[must_use]
    pub fn new(config: Arc<WalletConfig>) -> Self {
        Self { config, last_good: None, last_failure: None, doubt: None, counters: Counters::default() }
    }

    /// The answer that may be shown as of `now`, if there is one young enough.
    #[must_use]
    pub fn visible(&self, now: Timestamp) -> Option<&LastGood> {
        self.last_good.as_ref().filter(|good| good.at.age(now) < self.config.max_age)
    }

    /// When the answer that may be shown as of `now` becomes too old, on [`Moment::elapsed`].
    #[must_use]
    pub fn visible_until(&self, now: Timestamp) -> Option<Duration> {
        self.visible(now).map(|good| good.at.elapsed + self.config.max_age)
    }

    /// Fresh, held or unknown, as of `now`.
    #[must_use]
    pub fn freshness(&self, now: Timestamp) -> Freshness {
        Freshness::of(self.visible(now).is_some(), self.last_poll_believed())
    }

    /// Whether the last poll brought an answer that was believed, or none has ended yet.
    #[must_use]
    pub fn last_poll_believed(&self) -> bool {
        self.last_failure.is_none() && self.doubt.is_none()
    }

    /// Whether the last poll succeeded; false before the first.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.last_good.is_some() && self.last_poll_believed()
    }

    /// What of `answer` must be confirmed before it is believed: a watched balance that falls to
    /// nothing (free and frozen), a watched row that vanishes, and an answer that holds nothing at all. Before the
    /// first believed answer every watched currency counts as having held something. `None` if nothing was lost, or if
    /// the open doubt, if it is not too old at `now`, already covers every loss.
    #[must_use]
    pub fn find_doubt(&self, answer: &BalanceAnswer, now: Timestamp) -> Option<Doubt> {
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
        let doubt = Doubt { lost, holds_nothing, at: now };
        let open = self.doubt.as_ref().filter(|open| open.at.age(now) < self.config.max_age);
        let is_confirmed = open.is_some_and(|open| doubt.confirms(open));
        (doubt.claims_anything() && !is_confirmed).then_some(doubt)
    }

    /// The same for a changed `subject`. `answer` is the last good one, decoded again; without it nothing is known.
    /// A currency that is watched only now, and that the answer left out, stays without a balance until the next
    /// answer confirms that.
    #[must_use]
    pub fn with_config(&self, wallet_config: Arc<WalletConfig>, answer: Option<BalanceAnswer>) -> Self {
        let good = self.last_good.as_ref().zip(answer).map(|(known, answer)| {
            let is_new = |holding: &Holding| {
                holding.state == HoldingState::Missing
                    && known.find_state(&holding.currency) != Some(&HoldingState::Missing)
            };
            let mut good = LastGood::of(answer, &wallet_config, known.at, Some(known));
            if good.holdings.iter().any(is_new) {
                let mark_unconfirmed = |holding: &Holding| {
                    let row = if is_new(holding) { HoldingState::Unconfirmed } else { holding.state.clone() };
                    Holding { currency: holding.currency.clone(), state: row }
                };
                good.holdings = good.holdings.iter().map(mark_unconfirmed).collect();
            }
            good
        });
        Self { config: wallet_config, last_good: good, ..self.clone() }
    }

    /// What is known after a poll has ended.
    #[must_use]
    pub fn apply(&self, ended: PollResult) -> Self {
        let mut next = self.clone();
        next.counters.polls += 1;
        next.counters.durations.observe(ended.took);
        next.counters.suspect_snapshots += u64::from(ended.is_suspect);
        match ended.outcome {
            PollOutcome::Answer { sent, answer } => {
                next.counters.rows_rejected += match (answer, &mut next.last_good) {
                    (Some(answer), _) => {
                        let good = LastGood::of(answer, &self.config, sent, self.last_good.as_ref());
                        next.last_good.insert(good).rejected
                    }
                    (None, Some(good)) => {
                        good.at = sent;
                        good.rejected
                    }
                    (None, None) => 0,
                };
                (next.last_failure, next.doubt) = (None, None);
            }
            PollOutcome::Doubted(doubt) => (next.last_failure, next.doubt) = (None, Some(doubt)),
            // A failure says nothing of the balances: what was to be confirmed still is.
            PollOutcome::Failed(failure) => {
                if let Some(count) = next.counters.failures.get_mut(failure.reason as usize) {
                    *count += 1;
                }
                let since = self.last_failure.as_ref().map_or(ended.at, |failure| failure.since);
                next.last_failure = Some(LastFailure { at: ended.at, since, failure });
            }
        }
        next
    }
}

impl LastGood {
    /// What is shown to `subject` of an `answer` that was asked for `at` some moment, after another answer.
    fn of(answer: BalanceAnswer, wallet_config: &WalletConfig, at: Timestamp, before: Option<&Self>) -> Self {
        let (rejected, raw_body) = (answer.rejected, answer.raw_body.clone());
        let currencies = answer.balances.len() as u64 + rejected;
        let holds_anything = holds_anything(&answer);
        let unusable = count_unusable(wallet_config, &answer);
        let holdings = visible_holdings(wallet_config, answer);
        let unchanged = before.map(|good| &good.holdings).filter(|old| ***old == *holdings);
        let holdings = unchanged.cloned().unwrap_or_else(|| holdings.into());
        Self { at, holdings, currencies, rejected, holds_anything, unusable, raw_body }
    }

    /// The body to compare the next answer with; `None` while a row is unconfirmed, because then an equal answer must be
    /// decoded to confirm it.
    #[must_use]
    pub fn comparable_body(&self) -> Option<&RawBody> {
        let is_settled = !self.holdings.iter().any(|holding| holding.state == HoldingState::Unconfirmed);
        self.raw_body.as_ref().filter(|_| is_settled)
    }

    fn find_state(&self, currency: &str) -> Option<&HoldingState> {
        let place = self.holdings.binary_search_by(|holding| (*holding.currency).cmp(currency)).ok()?;
        self.holdings.get(place).map(|holding| &holding.state)
    }
}

/// What `answer` says of a watched `currency`.
fn state_in_answer(answer: &BalanceAnswer, currency: &str) -> HoldingState {
    let found = answer.balances.binary_search_by(|row| (*row.currency).cmp(currency)).ok();
    match found.and_then(|at| answer.balances.get(at)) {
        Some(row) => HoldingState::Read { free: row.free.clone(), frozen: row.frozen.clone() },
        None => state_without_amounts(answer, currency),
    }
}

/// What `answer` says of a watched `currency` that is not among its balances.
fn state_without_amounts(answer: &BalanceAnswer, currency: &str) -> HoldingState {
    match answer.unreadable.iter().any(|name| name == currency) {
        true => HoldingState::Unreadable,
        false if answer.nameless > 0 => HoldingState::Unnamed,
        false => HoldingState::Missing,
    }
}

/// Whether any balance of `answer`, shown or not, is other than 0.
fn holds_anything(answer: &BalanceAnswer) -> bool {
    answer.balances.iter().any(|row| row.free.value() != 0.0 || row.frozen.value() != 0.0)
}

/// How many currencies are not shown only because their rows are unusable. One without a name is
/// counted where it would be shown whatever its name, or may be a watched one.
fn count_unusable(wallet_config: &WalletConfig, answer: &BalanceAnswer) -> u64 {
    let hidden = |name: &&SmolStr| {
        wallet_config.find_watch(name).is_none() && wallet_config.filter.shows(name, || false)
    };
    let may_be = |watch: &WatchedCurrency| state_in_answer(answer, &watch.currency) == HoldingState::Unnamed;
    let is_shown = wallet_config.filter.only.is_empty() || wallet_config.watch.iter().any(may_be);
    let nameless = if is_shown { answer.nameless } else { 0 };
    answer.unreadable.iter().filter(hidden).count() as u64 + nameless
}

/// The rows that are shown: what the filter lets through and, whatever it says, the watched ones.
fn visible_holdings(wallet_config: &WalletConfig, mut answer: BalanceAnswer) -> Vec<Holding> {
    let is_shown = |row: &Balance| {
        let is_zero = || row.free.value() == 0.0 && row.frozen.value() == 0.0;
        wallet_config.find_watch(&row.currency).is_some()
            || wallet_config.filter.shows(&row.currency, is_zero)
    };
    let holding = |row: Balance| Holding {
        currency: row.currency,
        state: HoldingState::Read { free: row.free, frozen: row.frozen },
    };
    // Nothing is moved: a holding is as large as a balance.
    let mut shown: Vec<_> =
        std::mem::take(&mut answer.balances).into_iter().filter(is_shown).map(holding).collect();
    for watch in &wallet_config.watch {
        if let Err(place) = shown.binary_search_by(|holding| holding.currency.cmp(&watch.currency)) {
            let row = state_without_amounts(&answer, &watch.currency);
            shown.insert(place, Holding { currency: watch.currency.clone(), state: row });
        }
    }
    shown
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn wallet_config(filter: CurrencyFilter) -> Arc<WalletConfig> {
        Arc::new(WalletConfig {
            account: "main".into(),
            wallet: Wallet::Spot,
            watch: vec![
                WatchedCurrency { currency: "btc".into(), threshold: None },
                WatchedCurrency { currency: "usdt".into(), threshold: Some(500.0) },
            ],
            filter,
            max_age: Duration::from_secs(90),
        })
    }

    /// An answer of these rows, which must be sorted by currency.
    pub(crate) fn answer(rows: &[(&str, &str, &str)]) -> BalanceAnswer {
        let amount = |text: &str| Amount::parse(text).unwrap_or_else(|| panic!("{text}"));
        let row = |(currency, free, frozen): &(&str, &str, &str)| Balance {
            currency: (*currency).into(),
            free: amount(free),
            frozen: amount(frozen),
        };
        BalanceAnswer { balances: rows.iter().map(row).collect(), ..BalanceAnswer::default() }
    }

    fn at(seconds: u64) -> Timestamp {
        let elapsed = Duration::from_secs(seconds);
        Timestamp { elapsed, uptime: elapsed, unix: Duration::from_secs(1_700_000_000) + elapsed }
    }

    fn ended(seconds: u64, outcome: Result<BalanceAnswer, Failure>) -> PollResult {
        let outcome = PollOutcome::new(at(seconds), outcome.map(Some));
        let took = Duration::from_millis(120);
        PollResult { at: at(seconds + 1), took, is_suspect: false, outcome }
    }

    fn shown(snapshot: &WalletSnapshot) -> Vec<(&str, Option<(f64, f64)>)> {
        let holdings = snapshot.last_good.iter().flat_map(|good| good.holdings.iter());
        holdings.map(|holding| (&*holding.currency, holding.state.amounts())).collect()
    }

    #[test]
    fn the_last_good_answer_once_more_is_as_good_as_a_new_one() {
        let mut bad_row = answer(&[("btc", "1", "0")]);
        bad_row.rejected = 2;
        let known =
            WalletSnapshot::new(wallet_config(CurrencyFilter::default())).apply(ended(10, Ok(bad_row)));
        let failed = known.apply(ended(20, Err(Failure::new(Reason::Dns, "no such name"))));
        let outcome = PollOutcome::Answer { sent: at(30), answer: None };
        let again = failed.apply(PollResult { outcome, ..ended(30, Ok(BalanceAnswer::default())) });
        assert_eq!(again.freshness(at(119)), Freshness::Fresh);
        assert_eq!(again.freshness(at(120)), Freshness::Unknown);
        assert_eq!((again.counters.polls, again.counters.rows_rejected), (3, 4));
        let holdings =
            |snapshot: &WalletSnapshot| snapshot.last_good.as_ref().map(|good| good.holdings.as_ptr());
        assert_eq!(holdings(&again), holdings(&known));
    }

    #[test]
    fn currencies_that_are_not_shown_for_their_rows_alone_are_counted() {
        let mut of_an_answer = answer(&[("btc", "1", "0")]);
        of_an_answer.rejected = 5;
        of_an_answer.unreadable = ["eth", "usdt", "xrp"].map(SmolStr::from).into();
        of_an_answer.nameless = 2;
        let count = |filter: CurrencyFilter| {
            let known = WalletSnapshot::new(wallet_config(filter)).apply(ended(10, Ok(of_an_answer.clone())));
            known.last_good.map(|good| good.unusable)
        };
        let name = |name: &str| vec![SmolStr::from(name)];
        assert_eq!(count(CurrencyFilter::default()), Some(4), "usdt is watched, and so among the holdings");
        assert_eq!(count(CurrencyFilter { exclude: name("eth"), ..CurrencyFilter::default() }), Some(3));
        let only_eth = CurrencyFilter { only: name("eth"), ..CurrencyFilter::default() };
        assert_eq!(count(only_eth.clone()), Some(1));
        of_an_answer.balances.clear();
        let known = WalletSnapshot::new(wallet_config(only_eth)).apply(ended(10, Ok(of_an_answer)));
        assert_eq!(known.last_good.map(|good| good.unusable), Some(3), "those without a name may be btc");
    }

    #[test]
    fn fresh_then_held_then_unknown_then_fresh_again() {
        let new = WalletSnapshot::new(wallet_config(CurrencyFilter::default()));
        assert_eq!(new.freshness(at(0)), Freshness::Unknown);
        assert!(!new.is_up());

        let good = new.apply(ended(10, Ok(answer(&[("usdt", "7", "0")]))));
        assert_eq!(good.freshness(at(99)), Freshness::Fresh);
        assert_eq!(good.freshness(at(100)), Freshness::Unknown, "also when no poll ends any more");
        assert!(good.is_up());

        let failed = good.apply(ended(40, Err(Failure::new(Reason::Timeout, "t"))));
        let failed = failed.apply(ended(70, Err(Failure::new(Reason::Dns, "d"))));
        assert_eq!(failed.freshness(at(99)), Freshness::Held);
        assert_eq!(failed.freshness(at(100)), Freshness::Unknown);
        assert!(!failed.is_up());
        assert_eq!(shown(&failed), [("btc", Some((0.0, 0.0))), ("usdt", Some((7.0, 0.0)))]);
        let failure = failed.last_failure.as_ref().map(|failure| (failure.since, failure.at));
        assert_eq!(failure, Some((at(41), at(71))));

        let back = failed.apply(ended(110, Ok(answer(&[("usdt", "8", "0")]))));
        assert_eq!(back.freshness(at(110)), Freshness::Fresh);
        assert_eq!(back.counters.polls, 4);
        assert_eq!(back.counters.failures.iter().sum::<u64>(), 2);
        assert_eq!(back.counters.durations.counts, [0, 0, 4, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_watched_currency_is_zero_when_left_out_but_not_when_unreadable() {
        let mut half = answer(&[("eth", "1", "0")]);
        half.unreadable = vec!["usdt".into()];
        half.rejected = 1;
        let snapshot =
            WalletSnapshot::new(wallet_config(CurrencyFilter::default())).apply(ended(1, Ok(half)));
        let expected = [("btc", Some((0.0, 0.0))), ("eth", Some((1.0, 0.0))), ("usdt", None)];
        assert_eq!(shown(&snapshot), expected);
        assert_eq!(snapshot.counters.rows_rejected, 1);
        assert_eq!(snapshot.last_good.map(|good| good.currencies), Some(2));
    }

    #[test]
    fn the_filter_hides_what_it_should_and_never_a_watched_currency() {
        let rows = [("btc", "0", "0"), ("doge", "5", "0"), ("eth", "1", "0"), ("xrp", "0", "0")];
        let names = |filter: CurrencyFilter| {
            let snapshot = WalletSnapshot::new(wallet_config(filter)).apply(ended(1, Ok(answer(&rows))));
            shown(&snapshot).into_iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
        };
        let only = CurrencyFilter { only: vec!["eth".into()], ..CurrencyFilter::default() };
        assert_eq!(names(only), ["btc", "eth", "usdt"]);
        let exclude =
            CurrencyFilter { exclude: vec!["eth".into(), "btc".into()], ..CurrencyFilter::default() };
        assert_eq!(names(exclude), ["btc", "doge", "usdt", "xrp"]);
        let hide_zero = CurrencyFilter { hide_zero: true, ..CurrencyFilter::default() };
        assert_eq!(names(hide_zero), ["btc", "doge", "eth", "usdt"]);
    }

    #[test]
    fn an_unchanged_answer_keeps_its_allocation() {
        let rows = [("eth", "1", "0")];
        let first =
            WalletSnapshot::new(wallet_config(CurrencyFilter::default())).apply(ended(1, Ok(answer(&rows))));
        let second = first.apply(ended(2, Ok(answer(&rows))));
        let third = second.apply(ended(3, Ok(answer(&[("eth", "1.0", "0")]))));
        let holdings =
            |snapshot: &WalletSnapshot| snapshot.last_good.as_ref().map(|good| Arc::as_ptr(&good.holdings));
        assert_eq!(holdings(&first), holdings(&second));
        assert_ne!(holdings(&second), holdings(&third), "the digits changed, if not the value");
    }

    /// What of an answer with these rows must be confirmed.
    fn doubted(snapshot: &WalletSnapshot, rows: &[(&str, &str, &str)]) -> Option<(String, bool)> {
        doubted_at(snapshot, 60, rows)
    }

    fn doubted_at(
        snapshot: &WalletSnapshot,
        seconds: u64,
        rows: &[(&str, &str, &str)],
    ) -> Option<(String, bool)> {
        snapshot
            .find_doubt(&answer(rows), at(seconds))
            .map(|doubt| (doubt.lost.join(" "), doubt.holds_nothing))
    }

    fn lost(names: &str) -> (String, bool) {
        (names.to_owned(), false)
    }

    #[test]
    fn a_loss_of_anything_watched_and_of_everything_is_doubted() {
        let new = WalletSnapshot::new(wallet_config(CurrencyFilter::default()));
        let known = |rows: &[(&str, &str, &str)]| new.apply(ended(1, Ok(answer(rows))));

        let rich = known(&[("btc", "1", "0"), ("eth", "3", "0"), ("usdt", "0", "9")]);
        assert_eq!(doubted(&rich, &[("btc", "1", "0"), ("usdt", "0", "0.1")]), None, "eth is not watched");
        assert_eq!(
            doubted(&rich, &[("btc", "0", "1"), ("usdt", "5", "0")]),
            None,
            "free at 0, something frozen"
        );
        assert_eq!(
            doubted(&rich, &[("btc", "1", "0"), ("eth", "3", "0")]),
            Some(lost("usdt")),
            "one row vanished"
        );
        assert_eq!(
            doubted(&rich, &[("btc", "0.00", "0"), ("usdt", "1", "0")]),
            Some(lost("btc")),
            "one is zero"
        );
        assert_eq!(doubted(&rich, &[("eth", "1", "0")]), Some(lost("btc usdt")));
        assert_eq!(doubted(&rich, &[("btc", "0", "0"), ("usdt", "0", "0")]), Some(("btc usdt".into(), true)));
        assert_eq!(doubted(&rich, &[]), Some(("btc usdt".into(), true)));

        let poor = known(&[("btc", "0", "0"), ("eth", "1", "0")]);
        assert_eq!(
            doubted(&poor, &[("btc", "0", "0"), ("eth", "2", "0")]),
            None,
            "what was zero is not lost"
        );
        assert_eq!(doubted(&poor, &[("btc", "0", "0"), ("usdt", "0", "0"), ("eth", "2", "0")]), None);
        assert_eq!(doubted(&poor, &[("eth", "2", "0")]), Some(lost("btc")), "its row vanished");
        let empty = known(&[]);
        assert_eq!(doubted(&empty, &[]), None, "believed once, emptiness is the truth");
        assert_eq!(doubted(&empty, &[("btc", "0", "0")]), None);
    }

    #[test]
    fn before_the_first_believed_answer_every_zero_is_doubted() {
        let new = WalletSnapshot::new(wallet_config(CurrencyFilter::default()));
        assert_eq!(doubted(&new, &[("btc", "1", "0"), ("usdt", "0", "1")]), None);
        assert_eq!(doubted(&new, &[("btc", "1", "0"), ("usdt", "0", "0")]), Some(lost("usdt")));
        assert_eq!(doubted(&new, &[("btc", "1", "0")]), Some(lost("usdt")));
        assert_eq!(doubted(&new, &[]), Some(("btc usdt".into(), true)));
        let unwatched = Arc::new(WalletConfig { watch: Vec::new(), ..WalletConfig::clone(&new.config) });
        let unwatched = WalletSnapshot::new(unwatched);
        assert_eq!(doubted(&unwatched, &[("eth", "0", "0")]), Some((String::new(), true)), "all is zero");
        assert_eq!(doubted(&unwatched, &[("eth", "1", "0")]), None);
    }

    #[test]
    fn a_doubted_answer_is_held_until_the_next_one_says_the_same() {
        let new = WalletSnapshot::new(wallet_config(CurrencyFilter::default()));
        let rich = new.apply(ended(10, Ok(answer(&[("btc", "1", "0"), ("usdt", "7", "0")]))));
        let doubt = |snapshot: &WalletSnapshot, seconds, rows: &[(&str, &str, &str)]| {
            let outcome = snapshot.find_doubt(&answer(rows), at(seconds)).map(PollOutcome::Doubted);
            let outcome = outcome.unwrap_or_else(|| panic!("{rows:?} is believed"));
            snapshot.apply(PollResult {
                outcome,
                is_suspect: true,
                ..ended(seconds, Ok(BalanceAnswer::default()))
            })
        };
        let held = doubt(&rich, 40, &[("btc", "1", "0")]);
        assert_eq!(
            (held.is_up(), held.freshness(at(99)), held.freshness(at(100))),
            (false, Freshness::Held, Freshness::Unknown)
        );
        assert_eq!(shown(&held), shown(&rich));
        assert_eq!((held.counters.suspect_snapshots, held.counters.failures.iter().sum::<u64>()), (1, 0));

        assert_eq!(doubted(&held, &[("btc", "2", "0")]), None, "the same claim");
        let believed = held.apply(ended(70, Ok(answer(&[("btc", "2", "0")]))));
        assert_eq!(shown(&believed), [("btc", Some((2.0, 0.0))), ("usdt", Some((0.0, 0.0)))]);
        assert!(believed.is_up());

        assert_eq!(
            doubted(&held, &[("usdt", "7", "0")]),
            Some(lost("btc")),
            "another claim confirms nothing"
        );
        assert_eq!(doubted(&held, &[]), Some(("btc usdt".into(), true)), "nor does one that goes further");
        let empty = doubt(&rich, 40, &[]);
        assert_eq!(doubted(&empty, &[("btc", "1", "0")]), None, "what is claimed again is believed");
        let failed = held.apply(ended(50, Err(Failure::new(Reason::Dns, "d"))));
        assert_eq!(doubted(&failed, &[("btc", "1", "0")]), None, "a failure in between says nothing");
        assert_eq!(doubted_at(&failed, 129, &[("btc", "1", "0")]), None);
        assert_eq!(
            doubted_at(&failed, 130, &[("btc", "1", "0")]),
            Some(lost("usdt")),
            "but that was long ago"
        );
        let back = held.apply(ended(50, Ok(answer(&[("btc", "1", "0"), ("usdt", "7", "0")]))));
        assert_eq!(doubted(&back, &[("btc", "1", "0")]), Some(lost("usdt")), "it was a slip");
    }

    #[test]
    fn a_watched_currency_without_a_row_is_unknown_while_some_row_has_no_usable_name() {
        let mut of_an_answer = answer(&[("btc", "1", "0")]);
        (of_an_answer.rejected, of_an_answer.nameless) = (1, 1);
        let snapshot = WalletSnapshot::new(wallet_config(CurrencyFilter::default()));
        assert_eq!(snapshot.find_doubt(&of_an_answer, at(1)), None);
        let snapshot = snapshot.apply(ended(1, Ok(of_an_answer)));
        assert_eq!(shown(&snapshot), [("btc", Some((1.0, 0.0))), ("usdt", None)]);
        let present = snapshot.last_good.iter().flat_map(|good| good.holdings.iter());
        let present: Vec<_> = present.map(|holding| holding.state.is_present()).collect();
        assert_eq!(present, [Some(true), None]);
    }

    #[test]
    fn a_currency_watched_since_the_last_answer_is_zero_once_the_next_one_confirms_that() {
        let unwatched = Arc::new(WalletConfig {
            watch: Vec::new(),
            ..WalletConfig::clone(&wallet_config(CurrencyFilter::default()))
        });
        let rows = [("eth", "1", "0")];
        let original = Some(RawBody::new(200, b"{}".to_vec()));
        let known = WalletSnapshot::new(unwatched)
            .apply(ended(1, Ok(BalanceAnswer { raw_body: original.clone(), ..answer(&rows) })));
        let decoded = || Some(BalanceAnswer { raw_body: original.clone(), ..answer(&rows) });
        let seen = known.with_config(wallet_config(CurrencyFilter::default()), decoded());
        assert_eq!(shown(&seen), [("btc", None), ("eth", Some((1.0, 0.0))), ("usdt", None)]);
        assert!(seen.is_up(), "nothing has failed");
        assert!(
            seen.last_good
                .as_ref()
                .is_some_and(|good| good.raw_body.is_some() && good.comparable_body().is_none())
        );
        let again = seen.with_config(wallet_config(CurrencyFilter::default()), decoded());
        assert_eq!(shown(&again), shown(&seen), "also after another change");
        assert_eq!(doubted(&seen, &rows), None);
        let next = seen.apply(ended(2, Ok(answer(&rows))));
        assert_eq!(
            shown(&next),
            [("btc", Some((0.0, 0.0))), ("eth", Some((1.0, 0.0))), ("usdt", Some((0.0, 0.0)))]
        );
    }
}
