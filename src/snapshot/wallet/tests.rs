//! How answers, failures and time change a wallet's snapshot.

use super::*;
use crate::clock::simulated::at;

fn wallet_config(filter: CurrencyFilter) -> Arc<WalletConfig> {
    Arc::new(WalletConfig {
        account: "main".into(),
        wallet: Wallet::Spot,
        watch: vec![
            WatchedCurrency { currency: "btc".into(), thresholds: None },
            WatchedCurrency {
                currency: "usdt".into(),
                thresholds: Some(Thresholds { warn: 500.0, page: 250.0 }),
            },
        ],
        filter,
        max_age: Duration::from_secs(90),
    })
}

/// An answer of these rows, which must be sorted by currency.
pub(crate) fn answer(rows: &[(&str, &str, &str)]) -> BalanceAnswer {
    let amount = |text: &str| crate::exchange::Amount::parse(text).unwrap_or_else(|| panic!("{text}"));
    let row = |(currency, free, frozen): &(&str, &str, &str)| Balance {
        currency: (*currency).into(),
        amounts: BalanceAmounts::new(amount(free), amount(frozen)),
    };
    BalanceAnswer { balances: rows.iter().map(row).collect(), ..BalanceAnswer::default() }
}

fn poll_result(seconds: u64, outcome: Result<BalanceAnswer, Failure>) -> PollResult {
    let outcome = PollOutcome::new(at(seconds), outcome.map(Some));
    let took = Duration::from_millis(120);
    PollResult { at: at(seconds + 1), took, is_suspect: false, outcome }
}

fn visible_amounts(snapshot: &WalletSnapshot) -> Vec<(&str, Option<(f64, f64)>)> {
    let holdings = snapshot.last_good.iter().flat_map(|good| good.holdings.iter());
    holdings.map(|holding| (&*holding.currency, holding.state.amounts())).collect()
}

#[test]
fn the_last_good_answer_once_more_is_as_good_as_a_new_one() {
    let mut bad_row = answer(&[("btc", "1", "0")]);
    bad_row.rejected = 2;
    let snapshot =
        WalletSnapshot::new(wallet_config(CurrencyFilter::default())).apply(poll_result(10, Ok(bad_row)));
    let failed = snapshot.apply(poll_result(20, Err(Failure::new(Reason::Dns, "no such name"))));
    let outcome = PollOutcome::Answer { sent: at(30), answer: None };
    let again = failed.apply(PollResult { outcome, ..poll_result(30, Ok(BalanceAnswer::default())) });
    assert_eq!(again.freshness(at(119)), Freshness::Fresh);
    assert_eq!(again.freshness(at(120)), Freshness::Unknown);
    assert_eq!((again.counters.polls, again.counters.rows_rejected), (3, 4));
    let holdings = |snapshot: &WalletSnapshot| snapshot.last_good.as_ref().map(|good| good.holdings.as_ptr());
    assert_eq!(holdings(&again), holdings(&snapshot));
}

#[test]
fn currencies_that_are_not_shown_for_their_rows_alone_are_counted() {
    let mut of_an_answer = answer(&[("btc", "1", "0")]);
    of_an_answer.rejected = 5;
    of_an_answer.unreadable = ["eth", "usdt", "xrp"].map(SmolStr::from).into();
    of_an_answer.nameless = 2;
    let count = |filter: CurrencyFilter| {
        let snapshot =
            WalletSnapshot::new(wallet_config(filter)).apply(poll_result(10, Ok(of_an_answer.clone())));
        snapshot.last_good.map(|good| good.unusable)
    };
    let name = |name: &str| vec![SmolStr::from(name)];
    assert_eq!(count(CurrencyFilter::default()), Some(4), "usdt is watched, and so among the holdings");
    assert_eq!(count(CurrencyFilter { exclude: name("eth"), ..CurrencyFilter::default() }), Some(3));
    let only_eth = CurrencyFilter { only: name("eth"), ..CurrencyFilter::default() };
    assert_eq!(count(only_eth.clone()), Some(1));
    of_an_answer.balances.clear();
    let snapshot = WalletSnapshot::new(wallet_config(only_eth)).apply(poll_result(10, Ok(of_an_answer)));
    assert_eq!(snapshot.last_good.map(|good| good.unusable), Some(3), "those without a name may be btc");
}

#[test]
fn fresh_then_held_then_unknown_then_fresh_again() {
    let new = WalletSnapshot::new(wallet_config(CurrencyFilter::default()));
    assert_eq!(new.freshness(at(0)), Freshness::Unknown);
    assert!(!new.is_up());

    let good = new.apply(poll_result(10, Ok(answer(&[("usdt", "7", "0")]))));
    assert_eq!(good.freshness(at(99)), Freshness::Fresh);
    assert_eq!(good.freshness(at(100)), Freshness::Unknown, "also when no poll ends any more");
    assert!(good.is_up());

    let failed = good.apply(poll_result(40, Err(Failure::new(Reason::Timeout, "t"))));
    let failed = failed.apply(poll_result(70, Err(Failure::new(Reason::Dns, "d"))));
    assert_eq!(failed.freshness(at(99)), Freshness::Held);
    assert_eq!(failed.freshness(at(100)), Freshness::Unknown);
    assert!(!failed.is_up());
    assert_eq!(visible_amounts(&failed), [("btc", Some((0.0, 0.0))), ("usdt", Some((7.0, 0.0)))]);
    let failure = failed.last_failure.as_ref().map(|failure| (failure.since, failure.at));
    assert_eq!(failure, Some((at(41), at(71))));

    let back = failed.apply(poll_result(110, Ok(answer(&[("usdt", "8", "0")]))));
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
        WalletSnapshot::new(wallet_config(CurrencyFilter::default())).apply(poll_result(1, Ok(half)));
    let expected = [("btc", Some((0.0, 0.0))), ("eth", Some((1.0, 0.0))), ("usdt", None)];
    assert_eq!(visible_amounts(&snapshot), expected);
    assert_eq!(snapshot.counters.rows_rejected, 1);
    assert_eq!(snapshot.last_good.map(|good| good.currencies), Some(2));
}

#[test]
fn a_row_costs_a_pointer_for_its_parts() {
    // A thousand currencies in each of 450 accounts: every 8 bytes are 3.4 MiB.
    assert_eq!(size_of::<Holding>(), 3 * size_of::<SmolStr>() + size_of::<usize>());
}

#[test]
fn parts_are_kept_of_watched_currencies_and_of_others_while_anything_is_frozen() {
    let row = |currency: &str, frozen: &str, trade: &str| {
        format!(
            r#"{{"currency":"{currency}","availableAmount":"1","frozenAmount":"{frozen}","trade":"{trade}"}}"#
        )
    };
    let rows =
        [row("eth", "0", "0.00"), row("ltc", "0", "2"), row("usdt", "0", "0.00"), row("xrp", "5", "5")];
    let body = format!(r#"{{"rc":0,"mc":"SUCCESS","result":{{"assets":[{}]}}}}"#, rows.join(","));
    let answer = crate::exchange::v4::decode_balances(200, body.as_bytes()).map_err(|failure| failure.text);
    let answer = answer.unwrap_or_else(|why| panic!("{why}"));
    let snapshot =
        WalletSnapshot::new(wallet_config(CurrencyFilter::default())).apply(poll_result(10, Ok(answer)));
    let parts = |holding: &Holding| match &holding.state {
        HoldingState::Read(amounts) => amounts
            .frozen_parts
            .iter()
            .map(|part| format!("{} {}", part.reason.label(), part.amount.text()))
            .collect(),
        _ => Vec::new(),
    };
    let holdings = snapshot.last_good.iter().flat_map(|good| good.holdings.iter());
    let parts: Vec<_> = holdings.map(|holding| (&*holding.currency, parts(holding).join(", "))).collect();
    let expected =
        [("btc", ""), ("eth", ""), ("ltc", "trade 2, other -2"), ("usdt", "trade 0.00"), ("xrp", "trade 5")];
    assert_eq!(parts, expected.map(|(name, parts)| (name, parts.to_owned())));
}

#[test]
fn the_filter_hides_what_it_should_and_never_a_watched_currency() {
    let rows = [("btc", "0", "0"), ("doge", "5", "0"), ("eth", "1", "0"), ("xrp", "0", "0")];
    let names = |filter: CurrencyFilter| {
        let snapshot = WalletSnapshot::new(wallet_config(filter)).apply(poll_result(1, Ok(answer(&rows))));
        visible_amounts(&snapshot).into_iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
    };
    let only = CurrencyFilter { only: vec!["eth".into()], ..CurrencyFilter::default() };
    assert_eq!(names(only), ["btc", "eth", "usdt"]);
    let exclude = CurrencyFilter { exclude: vec!["eth".into(), "btc".into()], ..CurrencyFilter::default() };
    assert_eq!(names(exclude), ["btc", "doge", "usdt", "xrp"]);
    let hide_zero = CurrencyFilter { hide_zero: true, ..CurrencyFilter::default() };
    assert_eq!(names(hide_zero), ["btc", "doge", "eth", "usdt"]);
}

#[test]
fn an_unchanged_answer_keeps_its_allocation() {
    let rows = [("eth", "1", "0")];
    let first = WalletSnapshot::new(wallet_config(CurrencyFilter::default()))
        .apply(poll_result(1, Ok(answer(&rows))));
    let second = first.apply(poll_result(2, Ok(answer(&rows))));
    let third = second.apply(poll_result(3, Ok(answer(&[("eth", "1.0", "0")]))));
    let holdings =
        |snapshot: &WalletSnapshot| snapshot.last_good.as_ref().map(|good| Arc::as_ptr(&good.holdings));
    assert_eq!(holdings(&first), holdings(&second));
    assert_ne!(holdings(&second), holdings(&third), "the digits changed, if not the value");
}

/// What of an answer with these rows must be confirmed.
fn suspect_claims(snapshot: &WalletSnapshot, rows: &[(&str, &str, &str)]) -> Option<(String, bool)> {
    doubted_at(snapshot, 60, rows)
}

fn doubted_at(
    snapshot: &WalletSnapshot,
    seconds: u64,
    rows: &[(&str, &str, &str)],
) -> Option<(String, bool)> {
    snapshot
        .find_suspect_claims(&answer(rows), at(seconds))
        .map(|doubt| (doubt.lost.join(" "), doubt.holds_nothing))
}

fn lost(names: &str) -> (String, bool) {
    (names.to_owned(), false)
}

#[test]
fn a_loss_of_anything_watched_and_of_everything_is_doubted() {
    let new = WalletSnapshot::new(wallet_config(CurrencyFilter::default()));
    let snapshot_after = |rows: &[(&str, &str, &str)]| new.apply(poll_result(1, Ok(answer(rows))));

    let three_balances = snapshot_after(&[("btc", "1", "0"), ("eth", "3", "0"), ("usdt", "0", "9")]);
    assert_eq!(
        suspect_claims(&three_balances, &[("btc", "1", "0"), ("usdt", "0", "0.1")]),
        None,
        "eth is not watched"
    );
    assert_eq!(
        suspect_claims(&three_balances, &[("btc", "0", "1"), ("usdt", "5", "0")]),
        None,
        "free at 0, something frozen"
    );
    assert_eq!(
        suspect_claims(&three_balances, &[("btc", "1", "0"), ("eth", "3", "0")]),
        Some(lost("usdt")),
        "one row vanished"
    );
    assert_eq!(
        suspect_claims(&three_balances, &[("btc", "0.00", "0"), ("usdt", "1", "0")]),
        Some(lost("btc")),
        "one is zero"
    );
    assert_eq!(suspect_claims(&three_balances, &[("eth", "1", "0")]), Some(lost("btc usdt")));
    assert_eq!(
        suspect_claims(&three_balances, &[("btc", "0", "0"), ("usdt", "0", "0")]),
        Some(("btc usdt".into(), true))
    );
    assert_eq!(suspect_claims(&three_balances, &[]), Some(("btc usdt".into(), true)));

    let fewer_balances = snapshot_after(&[("btc", "0", "0"), ("eth", "1", "0")]);
    assert_eq!(
        suspect_claims(&fewer_balances, &[("btc", "0", "0"), ("eth", "2", "0")]),
        None,
        "what was zero is not lost"
    );
    assert_eq!(
        suspect_claims(&fewer_balances, &[("btc", "0", "0"), ("usdt", "0", "0"), ("eth", "2", "0")]),
        None
    );
    assert_eq!(suspect_claims(&fewer_balances, &[("eth", "2", "0")]), Some(lost("btc")), "its row vanished");
    let empty = snapshot_after(&[]);
    assert_eq!(suspect_claims(&empty, &[]), None, "believed once, emptiness is the truth");
    assert_eq!(suspect_claims(&empty, &[("btc", "0", "0")]), None);
}

#[test]
fn before_the_first_believed_answer_every_zero_is_doubted() {
    let new = WalletSnapshot::new(wallet_config(CurrencyFilter::default()));
    assert_eq!(suspect_claims(&new, &[("btc", "1", "0"), ("usdt", "0", "1")]), None);
    assert_eq!(suspect_claims(&new, &[("btc", "1", "0"), ("usdt", "0", "0")]), Some(lost("usdt")));
    assert_eq!(suspect_claims(&new, &[("btc", "1", "0")]), Some(lost("usdt")));
    assert_eq!(suspect_claims(&new, &[]), Some(("btc usdt".into(), true)));
    let unwatched = Arc::new(WalletConfig { watch: Vec::new(), ..WalletConfig::clone(&new.config) });
    let unwatched = WalletSnapshot::new(unwatched);
    assert_eq!(suspect_claims(&unwatched, &[("eth", "0", "0")]), Some((String::new(), true)), "all is zero");
    assert_eq!(suspect_claims(&unwatched, &[("eth", "1", "0")]), None);
}

#[test]
fn a_doubted_answer_is_held_until_the_next_one_says_the_same() {
    let new = WalletSnapshot::new(wallet_config(CurrencyFilter::default()));
    let rich = new.apply(poll_result(10, Ok(answer(&[("btc", "1", "0"), ("usdt", "7", "0")]))));
    let doubt = |snapshot: &WalletSnapshot, seconds, rows: &[(&str, &str, &str)]| {
        let outcome = snapshot.find_suspect_claims(&answer(rows), at(seconds)).map(PollOutcome::Suspect);
        let outcome = outcome.unwrap_or_else(|| panic!("{rows:?} is believed"));
        snapshot.apply(PollResult {
            outcome,
            is_suspect: true,
            ..poll_result(seconds, Ok(BalanceAnswer::default()))
        })
    };
    let held = doubt(&rich, 40, &[("btc", "1", "0")]);
    assert_eq!(
        (held.is_up(), held.freshness(at(99)), held.freshness(at(100))),
        (false, Freshness::Held, Freshness::Unknown)
    );
    assert_eq!(visible_amounts(&held), visible_amounts(&rich));
    assert_eq!((held.counters.suspect_snapshots, held.counters.failures.iter().sum::<u64>()), (1, 0));

    assert_eq!(suspect_claims(&held, &[("btc", "2", "0")]), None, "the same claim");
    let believed = held.apply(poll_result(70, Ok(answer(&[("btc", "2", "0")]))));
    assert_eq!(visible_amounts(&believed), [("btc", Some((2.0, 0.0))), ("usdt", Some((0.0, 0.0)))]);
    assert!(believed.is_up());

    assert_eq!(
        suspect_claims(&held, &[("usdt", "7", "0")]),
        Some(lost("btc")),
        "another claim confirms nothing"
    );
    assert_eq!(suspect_claims(&held, &[]), Some(("btc usdt".into(), true)), "nor does one that goes further");
    let empty = doubt(&rich, 40, &[]);
    assert_eq!(suspect_claims(&empty, &[("btc", "1", "0")]), None, "what is claimed again is believed");
    let failed = held.apply(poll_result(50, Err(Failure::new(Reason::Dns, "d"))));
    assert_eq!(suspect_claims(&failed, &[("btc", "1", "0")]), None, "a failure in between says nothing");
    assert_eq!(doubted_at(&failed, 129, &[("btc", "1", "0")]), None);
    assert_eq!(doubted_at(&failed, 130, &[("btc", "1", "0")]), Some(lost("usdt")), "but that was long ago");
    let back = held.apply(poll_result(50, Ok(answer(&[("btc", "1", "0"), ("usdt", "7", "0")]))));
    assert_eq!(suspect_claims(&back, &[("btc", "1", "0")]), Some(lost("usdt")), "it was a slip");
}

#[test]
fn a_watched_currency_without_a_row_is_unknown_while_some_row_has_no_usable_name() {
    let mut of_an_answer = answer(&[("btc", "1", "0")]);
    (of_an_answer.rejected, of_an_answer.nameless) = (1, 1);
    let snapshot = WalletSnapshot::new(wallet_config(CurrencyFilter::default()));
    assert_eq!(snapshot.find_suspect_claims(&of_an_answer, at(1)), None);
    let snapshot = snapshot.apply(poll_result(1, Ok(of_an_answer)));
    assert_eq!(visible_amounts(&snapshot), [("btc", Some((1.0, 0.0))), ("usdt", None)]);
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
    let unwatched_snapshot = WalletSnapshot::new(unwatched)
        .apply(poll_result(1, Ok(BalanceAnswer { raw_body: original.clone(), ..answer(&rows) })));
    let decoded = || Some(BalanceAnswer { raw_body: original.clone(), ..answer(&rows) });
    let watched_snapshot =
        unwatched_snapshot.with_config(wallet_config(CurrencyFilter::default()), decoded());
    assert_eq!(
        visible_amounts(&watched_snapshot),
        [("btc", None), ("eth", Some((1.0, 0.0))), ("usdt", None)]
    );
    assert!(watched_snapshot.is_up(), "nothing has failed");
    assert!(
        watched_snapshot
            .last_good
            .as_ref()
            .is_some_and(|good| good.raw_body.is_some() && good.comparable_body().is_none())
    );
    let again = watched_snapshot.with_config(wallet_config(CurrencyFilter::default()), decoded());
    assert_eq!(visible_amounts(&again), visible_amounts(&watched_snapshot), "also after another change");
    assert_eq!(suspect_claims(&watched_snapshot, &rows), None);
    let next = watched_snapshot.apply(poll_result(2, Ok(answer(&rows))));
    assert_eq!(
        visible_amounts(&next),
        [("btc", Some((0.0, 0.0))), ("eth", Some((1.0, 0.0))), ("usdt", Some((0.0, 0.0)))]
    );
}

#[test]
fn watched_currencies_are_checked_by_a_good_answer_and_again_after_they_change() {
    let new = WalletSnapshot::new(wallet_config(CurrencyFilter::default()));
    let failed = new.apply(poll_result(1, Err(Failure::new(Reason::Timeout, "late"))));
    assert!(!failed.has_checked_watch);
    let rows = [("btc", "1", "0"), ("usdt", "1", "0")];
    let good = failed.apply(poll_result(2, Ok(answer(&rows))));
    assert!(good.has_checked_watch);
    let other_filter = CurrencyFilter { hide_zero: true, ..CurrencyFilter::default() };
    let refiltered = good.with_config(wallet_config(other_filter), Some(answer(&rows)));
    assert!(refiltered.has_checked_watch);
    let unwatched = WalletConfig { watch: Vec::new(), ..WalletConfig::clone(&good.config) };
    let changed = good.with_config(Arc::new(unwatched), Some(answer(&rows)));
    assert!(!changed.has_checked_watch);
}
