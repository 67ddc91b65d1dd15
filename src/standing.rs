//! What is known of one wallet of one account, and how an answer or a failure changes it.
//! Pure: it reads no clock, asks nobody and knows no text format.

use std::{sync::Arc, time::Duration};

use smol_str::SmolStr;

use crate::{
    exchange::{Amount, Answer, Balance, Failure, Original, Reason, Wallet},
    moment::Moment,
};

/// What is known of one wallet of one account. Every poll makes a new one out of the last.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Whose balances these are, and what to make of them.
    pub subject: Arc<Subject>,
    /// The last good answer, however old.
    pub good: Option<Good>,
    /// How the last poll failed; `None` if it was good, or none has ended yet.
    pub trouble: Option<Trouble>,
    /// Counts since the start.
    pub tally: Tally,
}

/// Whose balances, and the owner's wishes for them.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    /// The `account` label.
    pub account: Box<str>,
    /// The `wallet` label.
    pub wallet: Wallet,
    /// Currencies that are always shown after a good poll, sorted by name.
    pub watch: Vec<Watch>,
    /// Which of the others are shown.
    pub filter: Filter,
    /// From this age on an answer is unknown.
    pub max_age: Duration,
}

impl Subject {
    /// The watch on `currency`, if it is watched.
    #[must_use]
    pub fn watched(&self, currency: &str) -> Option<&Watch> {
        self.watch.iter().find(|watch| &*watch.currency == currency)
    }
}

/// A watched currency.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    /// Lower case.
    pub currency: SmolStr,
    /// Below this free amount, in the currency itself, its owner wants to know.
    pub threshold: Option<f64>,
}

/// Which currencies are shown; watched ones always are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// If not empty, only these.
    pub only: Vec<SmolStr>,
    /// Never these.
    pub exclude: Vec<SmolStr>,
    /// Leave out rows where both amounts are zero.
    pub hide_zero: bool,
}

impl Filter {
    fn shows(&self, currency: &str, is_zero: impl Fn() -> bool) -> bool {
        let listed = |list: &[SmolStr]| list.iter().any(|name| name == currency);
        (self.only.is_empty() || listed(&self.only))
            && !listed(&self.exclude)
            && !(self.hide_zero && is_zero())
    }
}

/// A good answer, as it is shown.
#[derive(Clone, Debug)]
pub struct Good {
    /// When the poll that brought it ended.
    pub at: Moment,
    /// What is shown of it, sorted by currency. The same allocation as before if nothing changed.
    pub holdings: Arc<[Holding]>,
    /// Rows in the answer, usable or not.
    pub currencies: u64,
    /// Unusable rows in the answer.
    pub rejected: u64,
    /// Currencies that would be shown as well, were their rows usable; watched ones are.
    pub unusable: u64,
    /// The answer itself.
    pub original: Option<Original>,
}

/// One currency of a good answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Holding {
    /// Lower case.
    pub currency: SmolStr,
    /// What the answer said of it.
    pub row: Row,
}

/// What an answer said of a currency.
#[derive(Clone, Debug, PartialEq)]
pub enum Row {
    /// Both amounts.
    Read {
        /// Free to trade or withdraw.
        free: Amount,
        /// Locked in orders or withdrawals.
        frozen: Amount,
    },
    /// Watched, and left out of the answer: that is a zero.
    Missing,
    /// Watched, and present, but not as amounts: that is not a zero, and no other number either.
    Unreadable,
}

impl Row {
    /// Whether the answer had a row for the currency.
    #[must_use]
    pub fn is_present(&self) -> bool {
        !matches!(self, Self::Missing)
    }

    /// The free and frozen amounts as numbers, where there are any.
    #[must_use]
    pub fn amounts(&self) -> Option<(f64, f64)> {
        match self {
            Self::Read { free, frozen } => Some((free.value(), frozen.value())),
            Self::Missing => Some((0.0, 0.0)),
            Self::Unreadable => None,
        }
    }
}

/// How a poll failed, and when.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// When the last failed poll ended.
    pub at: Moment,
    /// When the first one ended since the last good poll.
    pub since: Moment,
    /// Why.
    pub failure: Failure,
}

/// Counts since the start of the process.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Polls ended.
    pub polls: u64,
    /// Polls failed, by the reason's place in [`Reason::ALL`].
    pub failures: [u64; Reason::ALL.len()],
    /// Unusable rows of good answers.
    pub rows_rejected: u64,
    /// Answers that had to be confirmed by a second read.
    pub suspect_snapshots: u64,
    /// How long polls took.
    pub durations: Durations,
}

/// A histogram of durations.
#[derive(Clone, Debug, Default)]
pub struct Durations {
    /// Polls that took at most the bound of [`Durations::BOUNDS`] at the same place, and more
    /// than the bound before it.
    pub counts: [u64; Self::BOUNDS.len()],
    /// All polls together.
    pub sum: Duration,
}

impl Durations {
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
    /// The last poll failed; the answer before it is younger than `max_age`.
    Held,
    /// Never read, or too long ago.
    Unknown,
}

impl Freshness {
    /// That of an answer that is known or is not, after a last poll that met this `trouble` or none.
    #[must_use]
    pub fn of(is_known: bool, trouble: Option<&Trouble>) -> Self {
        match (is_known, trouble) {
            (false, _) => Self::Unknown,
            (true, None) => Self::Fresh,
            (true, Some(_)) => Self::Held,
        }
    }
}

/// The end of one poll.
#[derive(Debug)]
pub struct Ended {
    /// When.
    pub at: Moment,
    /// After how long.
    pub took: Duration,
    /// Whether a second read was needed to believe it.
    pub suspect: bool,
    /// With what; `None` is the last good answer once more.
    pub outcome: Result<Option<Answer>, Failure>,
}

impl Standing {
    /// Nothing known yet.
    #[must_use]
    pub fn new(subject: Arc<Subject>) -> Self {
        Self { subject, good: None, trouble: None, tally: Tally::default() }
    }

    /// The answer that may be shown as of `now`, if there is one young enough.
    #[must_use]
    pub fn known(&self, now: Moment) -> Option<&Good> {
        self.good.as_ref().filter(|good| good.at.age(now) < self.subject.max_age)
    }

    /// When the answer that may be shown as of `now` becomes too old, on [`Moment::elapsed`].
    #[must_use]
    pub fn known_until(&self, now: Moment) -> Option<Duration> {
        self.known(now).map(|good| good.at.elapsed + self.subject.max_age)
    }

    /// Fresh, held or unknown, as of `now`.
    #[must_use]
    pub fn freshness(&self, now: Moment) -> Freshness {
        Freshness::of(self.known(now).is_some(), self.trouble.as_ref())
    }

    /// Whether the last poll succeeded; false before the first.
    #[must_use]
    pub fn up(&self) -> bool {
        self.good.is_some() && self.trouble.is_none()
    }

    /// Whether `answer` looks more like an exchange's slip than like the truth: nothing in it, or
    /// every watched balance that was above zero gone or zero at once. An emptiness that a second
    /// read has confirmed is not doubted again.
    #[must_use]
    pub fn doubts(&self, answer: &Answer) -> bool {
        let Some(good) = &self.good else { return answer.balances.is_empty() };
        if answer.balances.is_empty() && good.currencies > 0 {
            return true;
        }
        let total = |row: &Row| row.amounts().map_or(0.0, |(free, frozen)| free + frozen);
        let mut held = good
            .holdings
            .iter()
            .filter(|holding| self.subject.watched(&holding.currency).is_some())
            .filter(|holding| total(&holding.row) > 0.0)
            .peekable();
        held.peek().is_some() && held.all(|holding| total(&row_of(answer, &holding.currency)) <= 0.0)
    }

    /// The same, as `subject` sees it: the owner's wishes have changed. `answer` is the last good one, taken
    /// apart again; without it nothing is known.
    #[must_use]
    pub fn seen_by(&self, subject: Arc<Subject>, answer: Option<Answer>) -> Self {
        let good = self.good.as_ref().zip(answer);
        let good = good.map(|(good, answer)| Good::of(answer, &subject, good.at, Some(good)));
        Self { subject, good, ..self.clone() }
    }

    /// What is known after a poll has ended.
    #[must_use]
    pub fn after(&self, ended: Ended) -> Self {
        let mut next = self.clone();
        next.tally.polls += 1;
        next.tally.durations.observe(ended.took);
        next.tally.suspect_snapshots += u64::from(ended.suspect);
        match ended.outcome {
            Ok(None) => {
                if let Some(good) = &mut next.good {
                    good.at = ended.at;
                    next.tally.rows_rejected += good.rejected;
                }
                next.trouble = None;
            }
            Ok(Some(answer)) => {
                next.tally.rows_rejected += answer.rejected;
                next.good = Some(Good::of(answer, &self.subject, ended.at, self.good.as_ref()));
                next.trouble = None;
            }
            Err(failure) => {
                if let Some(count) = next.tally.failures.get_mut(failure.reason as usize) {
                    *count += 1;
                }
                let since = self.trouble.as_ref().map_or(ended.at, |trouble| trouble.since);
                next.trouble = Some(Trouble { at: ended.at, since, failure });
            }
        }
        next
    }
}

impl Good {
    /// What is shown to `subject` of an `answer` that came `at` some moment after another.
    fn of(answer: Answer, subject: &Subject, at: Moment, before: Option<&Self>) -> Self {
        let (rejected, original) = (answer.rejected, answer.original.clone());
        let currencies = answer.balances.len() as u64 + rejected;
        let unusable = unusable(subject, &answer);
        let holdings = holdings(subject, answer);
        let unchanged = before.map(|good| &good.holdings).filter(|old| ***old == *holdings);
        let holdings = unchanged.cloned().unwrap_or_else(|| holdings.into());
        Self { at, holdings, currencies, rejected, unusable, original }
    }
}

/// What `answer` says of a watched `currency`.
fn row_of(answer: &Answer, currency: &str) -> Row {
    let found = answer.balances.binary_search_by(|row| (*row.currency).cmp(currency)).ok();
    match found.and_then(|at| answer.balances.get(at)) {
        Some(row) => Row::Read { free: row.free.clone(), frozen: row.frozen.clone() },
        None => without_amounts(answer, currency),
    }
}

/// What `answer` says of a watched `currency` that is not among its balances.
fn without_amounts(answer: &Answer, currency: &str) -> Row {
    if answer.unreadable.iter().any(|name| name == currency) { Row::Unreadable } else { Row::Missing }
}

/// How many currencies are not shown only because their rows are unusable. One without a name is
/// counted where it would be shown whatever its name.
fn unusable(subject: &Subject, answer: &Answer) -> u64 {
    let hidden = |name: &&SmolStr| subject.watched(name).is_none() && subject.filter.shows(name, || false);
    let nameless = if subject.filter.only.is_empty() { answer.nameless } else { 0 };
    answer.unreadable.iter().filter(hidden).count() as u64 + nameless
}

/// The rows that are shown: what the filter lets through and, whatever it says, the watched ones.
fn holdings(subject: &Subject, mut answer: Answer) -> Vec<Holding> {
    let is_shown = |row: &Balance| {
        let is_zero = || row.free.value() == 0.0 && row.frozen.value() == 0.0;
        subject.watched(&row.currency).is_some() || subject.filter.shows(&row.currency, is_zero)
    };
    let holding = |row: Balance| Holding {
        currency: row.currency,
        row: Row::Read { free: row.free, frozen: row.frozen },
    };
    // Nothing is moved: a holding is as large as a balance.
    let mut shown: Vec<_> =
        std::mem::take(&mut answer.balances).into_iter().filter(is_shown).map(holding).collect();
    for watch in &subject.watch {
        if let Err(place) = shown.binary_search_by(|holding| holding.currency.cmp(&watch.currency)) {
            let row = without_amounts(&answer, &watch.currency);
            shown.insert(place, Holding { currency: watch.currency.clone(), row });
        }
    }
    shown
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn subject(filter: Filter) -> Arc<Subject> {
        Arc::new(Subject {
            account: "main".into(),
            wallet: Wallet::Spot,
            watch: vec![
                Watch { currency: "btc".into(), threshold: None },
                Watch { currency: "usdt".into(), threshold: Some(500.0) },
            ],
            filter,
            max_age: Duration::from_secs(90),
        })
    }

    /// An answer of these rows, which must be sorted by currency.
    pub(crate) fn answer(rows: &[(&str, &str, &str)]) -> Answer {
        let amount = |text: &str| Amount::parse(text).unwrap_or_else(|| panic!("{text}"));
        let row = |(currency, free, frozen): &(&str, &str, &str)| Balance {
            currency: (*currency).into(),
            free: amount(free),
            frozen: amount(frozen),
        };
        Answer { balances: rows.iter().map(row).collect(), ..Answer::default() }
    }

    fn at(seconds: u64) -> Moment {
        let elapsed = Duration::from_secs(seconds);
        Moment { elapsed, awake: elapsed, unix: Duration::from_secs(1_700_000_000) + elapsed }
    }

    fn ended(seconds: u64, outcome: Result<Answer, Failure>) -> Ended {
        let outcome = outcome.map(Some);
        let took = Duration::from_millis(120);
        Ended { at: at(seconds), took, suspect: false, outcome }
    }

    fn shown(standing: &Standing) -> Vec<(&str, Option<(f64, f64)>)> {
        let holdings = standing.good.iter().flat_map(|good| good.holdings.iter());
        holdings.map(|holding| (&*holding.currency, holding.row.amounts())).collect()
    }

    #[test]
    fn the_last_good_answer_once_more_is_as_good_as_a_new_one() {
        let mut bad_row = answer(&[("btc", "1", "0")]);
        bad_row.rejected = 2;
        let known = Standing::new(subject(Filter::default())).after(ended(10, Ok(bad_row)));
        let failed = known.after(ended(20, Err(Failure::new(Reason::Dns, "no such name"))));
        let again = failed.after(Ended { outcome: Ok(None), ..ended(30, Ok(Answer::default())) });
        assert_eq!(again.freshness(at(119)), Freshness::Fresh);
        assert_eq!(again.freshness(at(120)), Freshness::Unknown);
        assert_eq!((again.tally.polls, again.tally.rows_rejected), (3, 4));
        let holdings = |standing: &Standing| standing.good.as_ref().map(|good| good.holdings.as_ptr());
        assert_eq!(holdings(&again), holdings(&known));
    }

    #[test]
    fn currencies_that_are_not_shown_for_their_rows_alone_are_counted() {
        let mut of_an_answer = answer(&[("btc", "1", "0")]);
        of_an_answer.rejected = 5;
        of_an_answer.unreadable = ["eth", "usdt", "xrp"].map(SmolStr::from).into();
        of_an_answer.nameless = 2;
        let count = |filter: Filter| {
            let known = Standing::new(subject(filter)).after(ended(10, Ok(of_an_answer.clone())));
            known.good.map(|good| good.unusable)
        };
        let name = |name: &str| vec![SmolStr::from(name)];
        assert_eq!(count(Filter::default()), Some(4), "usdt is watched, and so among the holdings");
        assert_eq!(count(Filter { exclude: name("eth"), ..Filter::default() }), Some(3));
        assert_eq!(count(Filter { only: name("eth"), ..Filter::default() }), Some(1));
    }

    #[test]
    fn fresh_then_held_then_unknown_then_fresh_again() {
        let new = Standing::new(subject(Filter::default()));
        assert_eq!(new.freshness(at(0)), Freshness::Unknown);
        assert!(!new.up());

        let good = new.after(ended(10, Ok(answer(&[("usdt", "7", "0")]))));
        assert_eq!(good.freshness(at(99)), Freshness::Fresh);
        assert_eq!(good.freshness(at(100)), Freshness::Unknown, "also when no poll ends any more");
        assert!(good.up());

        let failed = good.after(ended(40, Err(Failure::new(Reason::Timeout, "t"))));
        let failed = failed.after(ended(70, Err(Failure::new(Reason::Dns, "d"))));
        assert_eq!(failed.freshness(at(99)), Freshness::Held);
        assert_eq!(failed.freshness(at(100)), Freshness::Unknown);
        assert!(!failed.up());
        assert_eq!(shown(&failed), [("btc", Some((0.0, 0.0))), ("usdt", Some((7.0, 0.0)))]);
        let trouble = failed.trouble.as_ref().map(|trouble| (trouble.since, trouble.at));
        assert_eq!(trouble, Some((at(40), at(70))));

        let back = failed.after(ended(110, Ok(answer(&[("usdt", "8", "0")]))));
        assert_eq!(back.freshness(at(110)), Freshness::Fresh);
        assert_eq!(back.tally.polls, 4);
        assert_eq!(back.tally.failures.iter().sum::<u64>(), 2);
        assert_eq!(back.tally.durations.counts, [0, 0, 4, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_watched_currency_is_zero_when_left_out_but_not_when_unreadable() {
        let mut half = answer(&[("eth", "1", "0")]);
        half.unreadable = vec!["usdt".into()];
        half.rejected = 1;
        let standing = Standing::new(subject(Filter::default())).after(ended(1, Ok(half)));
        let expected = [("btc", Some((0.0, 0.0))), ("eth", Some((1.0, 0.0))), ("usdt", None)];
        assert_eq!(shown(&standing), expected);
        assert_eq!(standing.tally.rows_rejected, 1);
        assert_eq!(standing.good.map(|good| good.currencies), Some(2));
    }

    #[test]
    fn the_filter_hides_what_it_should_and_never_a_watched_currency() {
        let rows = [("btc", "0", "0"), ("doge", "5", "0"), ("eth", "1", "0"), ("xrp", "0", "0")];
        let names = |filter: Filter| {
            let standing = Standing::new(subject(filter)).after(ended(1, Ok(answer(&rows))));
            shown(&standing).into_iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
        };
        let only = Filter { only: vec!["eth".into()], ..Filter::default() };
        assert_eq!(names(only), ["btc", "eth", "usdt"]);
        let exclude = Filter { exclude: vec!["eth".into(), "btc".into()], ..Filter::default() };
        assert_eq!(names(exclude), ["btc", "doge", "usdt", "xrp"]);
        let hide_zero = Filter { hide_zero: true, ..Filter::default() };
        assert_eq!(names(hide_zero), ["btc", "doge", "eth", "usdt"]);
    }

    #[test]
    fn an_unchanged_answer_keeps_its_allocation() {
        let rows = [("eth", "1", "0")];
        let first = Standing::new(subject(Filter::default())).after(ended(1, Ok(answer(&rows))));
        let second = first.after(ended(2, Ok(answer(&rows))));
        let third = second.after(ended(3, Ok(answer(&[("eth", "1.0", "0")]))));
        let holdings = |standing: &Standing| standing.good.as_ref().map(|good| Arc::as_ptr(&good.holdings));
        assert_eq!(holdings(&first), holdings(&second));
        assert_ne!(holdings(&second), holdings(&third), "the digits changed, if not the value");
    }

    #[test]
    fn emptiness_and_a_sudden_loss_of_all_that_is_watched_are_doubted() {
        let new = Standing::new(subject(Filter::default()));
        assert!(new.doubts(&answer(&[])), "an empty answer, also as the first");
        assert!(!new.doubts(&answer(&[("eth", "1", "0")])), "nothing was held that could be lost");
        let empty = new.after(ended(1, Ok(answer(&[]))));
        assert!(!empty.doubts(&answer(&[])), "confirmed once, emptiness is the truth");

        let rich = new.after(ended(1, Ok(answer(&[("btc", "1", "0"), ("usdt", "0", "9")]))));
        assert!(rich.doubts(&answer(&[("eth", "1", "0")])), "both gone");
        assert!(rich.doubts(&answer(&[("btc", "0", "0"), ("usdt", "0", "0")])), "both zero");
        assert!(!rich.doubts(&answer(&[("usdt", "0", "0.1")])), "one is left");

        let poor = new.after(ended(1, Ok(answer(&[("eth", "1", "0")]))));
        assert!(!poor.doubts(&answer(&[("eth", "2", "0")])), "what was zero is not lost");
    }
}
