//! What is known of prices, and how an answer or a failure changes it; also what of a wallet has none.
//! Pure: it reads no clock, asks nobody and knows no text format.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use smol_str::SmolStr;

pub use crate::exchange::QUOTE;
use crate::{
    exchange::{Failure, Prices},
    moment::Moment,
    standing::{Freshness, Good, Holding, Row, Subject, Trouble},
};

/// What is known of prices. Every reading makes a new one out of the last.
#[derive(Clone, Debug)]
pub struct Quotation {
    /// From this age on prices are unknown.
    pub max_age: Duration,
    /// Which of them are shown.
    pub choice: Arc<Choice>,
    /// The last good answer, however old.
    pub good: Option<Quoted>,
    /// How the last reading failed; `None` if it was good, or none has ended yet.
    pub trouble: Option<Trouble>,
}

/// A good answer.
#[derive(Clone, Debug)]
pub struct Quoted {
    /// When its request was sent. Ages count from here, so none is understated.
    pub at: Moment,
    /// What it said. The same allocation as before if nothing changed.
    pub prices: Arc<Prices>,
}

impl Quotation {
    /// Nothing known yet, of prices for the wallets of `subjects`.
    #[must_use]
    pub fn new<'a>(max_age: Duration, subjects: impl IntoIterator<Item = &'a Subject>) -> Self {
        Self { max_age, choice: Arc::new(Choice::of(subjects)), good: None, trouble: None }
    }

    /// The answer that may be shown as of `now`, if there is one young enough.
    #[must_use]
    pub fn known(&self, now: Moment) -> Option<&Quoted> {
        self.good.as_ref().filter(|good| good.at.age(now) < self.max_age)
    }

    /// When the answer that may be shown as of `now` becomes too old, on [`Moment::elapsed`].
    #[must_use]
    pub fn known_until(&self, now: Moment) -> Option<Duration> {
        self.known(now).map(|good| good.at.elapsed + self.max_age)
    }

    /// Fresh, held or unknown, as of `now`.
    #[must_use]
    pub fn freshness(&self, now: Moment) -> Freshness {
        Freshness::of(self.known(now).is_some(), self.trouble.is_none())
    }

    /// Whether a reading has ended, well or not.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.good.is_some() || self.trouble.is_some()
    }

    /// What is known after a reading has ended `at` some moment, with prices and when they were asked for.
    #[must_use]
    pub fn after(&self, at: Moment, outcome: Result<(Moment, Prices), Failure>) -> Self {
        let mut next = self.clone();
        match outcome {
            Ok((sent, prices)) => {
                let prices = match self.good.as_ref().map(|good| &good.prices) {
                    Some(old) if **old == prices => Arc::clone(old),
                    Some(old) => Arc::new(prices.sharing(old)),
                    None => Arc::new(prices),
                };
                next.good = Some(Quoted { at: sent, prices });
                next.trouble = None;
            }
            Err(failure) => {
                let since = self.trouble.as_ref().map_or(at, |trouble| trouble.since);
                next.trouble = Some(Trouble { at, since, failure });
            }
        }
        next
    }
}

/// Currencies whose prices are shown: those that some wallet could show.
#[derive(Debug)]
pub struct Choice {
    /// What a wallet shows whatever others do.
    named: HashSet<SmolStr>,
    /// What every wallet leaves out that does not name what it shows; `None` if all name it.
    left_out: Option<BTreeSet<SmolStr>>,
}

impl Choice {
    fn of<'a>(subjects: impl IntoIterator<Item = &'a Subject>) -> Self {
        let (mut named, mut left_out) = (HashSet::from([QUOTE.into()]), None::<BTreeSet<SmolStr>>);
        for subject in subjects {
            named.extend(subject.watch.iter().map(|watch| watch.currency.clone()));
            let filter = &subject.filter;
            if filter.only.is_empty() {
                let exclude = &filter.exclude;
                left_out = Some(match left_out {
                    Some(others) => others.into_iter().filter(|name| exclude.contains(name)).collect(),
                    None => exclude.iter().cloned().collect(),
                });
            } else {
                named.extend(filter.only.iter().filter(|name| !filter.exclude.contains(name)).cloned());
            }
        }
        Self { named, left_out }
    }

    /// Whether the price of `currency` is shown. That of USDT itself always is.
    #[must_use]
    pub fn shows(&self, currency: &str) -> bool {
        self.named.contains(currency)
            || self.left_out.as_ref().is_some_and(|left_out| !left_out.contains(currency))
    }
}

/// How many currencies of an answer hold something and have no price. What is zero is worth nothing at any
/// price; what is unreadable may be worth anything.
#[must_use]
pub fn unpriced(good: &Good, prices: &Prices) -> u64 {
    let is_unpriced = |holding: &&Holding| match &holding.row {
        // The row that may be its own is counted among the unusable.
        Row::Unnamed => false,
        row if !row.is_readable() => true,
        row => !prices.has(&holding.currency) && row.amounts() != Some((0.0, 0.0)),
    };
    good.holdings.iter().filter(is_unpriced).count() as u64 + good.unusable
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        exchange::{Amount, Reason, Wallet, v1},
        standing::{Filter, Watch},
    };

    fn at(seconds: u64) -> Moment {
        let elapsed = Duration::from_secs(seconds);
        Moment { elapsed, awake: elapsed, unix: elapsed }
    }

    fn prices(body: &str) -> Result<Prices, Failure> {
        v1::prices(200, body.as_bytes())
    }

    /// What a reading at second `seconds` brought.
    fn read(seconds: u64, body: &str) -> Result<(Moment, Prices), Failure> {
        prices(body).map(|prices| (at(seconds), prices))
    }

    #[test]
    fn known_then_held_then_unknown_then_known_again() {
        let new = Quotation::new(Duration::from_secs(90), []);
        assert!(new.known(at(0)).is_none());
        let good = new.after(at(12), read(10, r#"{"btc_usdt":{"price":7}}"#));
        let price =
            |quotation: &Quotation, now| quotation.known(at(now)).and_then(|quoted| quoted.prices.get("btc"));
        assert_eq!(price(&good, 99), Some(7.0));
        let failed = good.after(at(40), Err(Failure::new(Reason::Timeout, "t")));
        let failed = failed.after(at(70), read(70, "{}"));
        assert_eq!((price(&failed, 99), price(&failed, 100)), (Some(7.0), None));
        assert_eq!(
            (failed.known_until(at(99)), failed.known_until(at(100))),
            (Some(Duration::from_secs(100)), None)
        );
        let trouble =
            failed.trouble.as_ref().map(|trouble| (trouble.since, trouble.at, trouble.failure.reason));
        assert_eq!(trouble, Some((at(40), at(70), Reason::Decode)));
        let back = failed.after(at(112), read(110, r#"{"btc_usdt":{"price":8}}"#));
        assert_eq!((price(&back, 110), back.trouble.is_none()), (Some(8.0), true));
    }

    fn subject(watch: &[&str], only: &[&str], exclude: &[&str]) -> Subject {
        let names = |names: &[&str]| names.iter().map(|name| (*name).into()).collect();
        let watch = watch.iter().map(|name| Watch { currency: (*name).into(), threshold: None });
        Subject {
            account: "a".into(),
            wallet: Wallet::Spot,
            watch: watch.collect(),
            filter: Filter { only: names(only), exclude: names(exclude), hide_zero: true },
            max_age: Duration::ZERO,
        }
    }

    #[test]
    fn the_prices_shown_are_of_what_some_wallet_could_show() {
        let chosen = |subjects: &[Subject]| {
            let choice = Choice::of(subjects);
            ["btc", "doge", "eth", "usdt", "xrp"]
                .into_iter()
                .filter(|name| choice.shows(name))
                .collect::<Vec<_>>()
        };
        let all = subject(&[], &[], &[]);
        let named = subject(&["xrp"], &["eth"], &[]);
        assert_eq!(chosen(&[subject(&[], &[], &[])]), ["btc", "doge", "eth", "usdt", "xrp"]);
        assert_eq!(chosen(&[subject(&["xrp"], &["eth"], &[])]), ["eth", "usdt", "xrp"]);
        assert_eq!(
            chosen(&[subject(&[], &[], &["doge", "xrp"]), subject(&["xrp"], &["eth"], &[])]),
            ["btc", "eth", "usdt", "xrp"]
        );
        let two = [subject(&[], &[], &["doge", "xrp"]), subject(&[], &[], &["doge", "btc"])];
        assert_eq!(chosen(&two), ["btc", "eth", "usdt", "xrp"], "both leave out doge");
        assert_eq!(chosen(&[named, all]).len(), 5);
    }

    #[test]
    fn what_holds_something_and_has_no_price_is_counted() -> Result<(), Failure> {
        let prices = prices(r#"{"btc_usdt":{"price":7}}"#)?;
        let amount = |text: &str| Amount::parse(text).unwrap_or_else(|| panic!("{text}"));
        let read = |free: &str, frozen: &str| Row::Read { free: amount(free), frozen: amount(frozen) };
        for (currency, row, counted) in [
            ("btc", read("1", "1"), 0),
            ("usdt", read("1", "0"), 0),
            ("eth", read("1", "0"), 1),
            ("eth", read("0", "0.00000001"), 1),
            ("eth", read("0.00", "0"), 0),
            ("eth", read("-1", "1"), 1),
            ("eth", Row::Missing, 0),
            ("eth", Row::Unreadable, 1),
            ("btc", Row::Unreadable, 1),
            ("btc", Row::Unnamed, 0),
            ("btc", Row::Unconfirmed, 1),
        ] {
            let holdings = [Holding { currency: currency.into(), row }];
            let good = |unusable| Good {
                at: at(0),
                holdings: holdings.clone().into(),
                currencies: 1,
                rejected: 0,
                holds_anything: true,
                unusable,
                original: None,
            };
            assert_eq!(unpriced(&good(0), &prices), counted, "{holdings:?}");
            assert_eq!(unpriced(&good(2), &prices), counted + 2, "nobody knows what those are worth");
        }
        Ok(())
    }
}
