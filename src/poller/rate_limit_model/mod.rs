//! The proof of the lockout guard: the real pollers, schedule, limits, failover and clock, driven
//! through thousands of simulated hours of random accounts, faults, suspends, restarts and reloads, and
//! judged by a count of its own. The cases are the same in every run, so that a red one stays red.

#![allow(clippy::indexing_slicing, reason = "a test ends at what it did not expect")]
#![allow(clippy::print_stdout, reason = "how much was proved is worth knowing")]

mod checker;
mod model;

use std::time::Duration;

use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner},
};

use self::{
    checker::{check_record, max_concurrent},
    model::{Disruption, FaultRates, HostFault, Record, Scenario},
};

fn fate() -> impl Strategy<Value = HostFault> {
    prop_oneof![
        6 => Just(HostFault::Well),
        1 => Just(HostFault::Unreachable),
        1 => Just(HostFault::Hanging),
        1 => Just(HostFault::Slow),
        1 => Just(HostFault::Timeless),
        1 => (-100i64..100).prop_map(HostFault::Off),
        1 => Just(HostFault::Off(i64::MAX)),
    ]
}

/// From fair to such that hardly a call succeeds.
fn weather() -> impl Strategy<Value = FaultRates> {
    let hosts = (fate(), fate(), fate());
    (prop_oneof![Just(1u32), Just(10), Just(100)], 0u64..1_100, hosts)
        .prop_flat_map(|(worst, latency, (a, b, c))| {
            let up_to = 0..=worst;
            let eight = (up_to.clone(), up_to.clone(), up_to.clone(), up_to.clone());
            (eight, (up_to.clone(), up_to.clone(), up_to.clone(), up_to), Just((latency, [a, b, c])))
        })
        .prop_map(|(first, second, (latency, hosts))| FaultRates {
            unreachable: first.0,
            hanging: first.1,
            unavailable: first.2,
            limited: first.3,
            refused: second.0,
            nonce: second.1,
            empty: second.2,
            garbage: second.3,
            latency,
            hosts,
        })
}

fn upset() -> impl Strategy<Value = Disruption> {
    prop_oneof![
        (0u64..3_000).prop_map(Disruption::Restart),
        (0u64..600_000).prop_map(Disruption::Restart),
        (1u64..120).prop_map(Disruption::Suspend),
        (1u64..100_000).prop_map(Disruption::Suspend),
        any::<u64>().prop_map(Disruption::Reload),
        any::<u64>().prop_map(Disruption::Reload),
    ]
}

fn plan(
    accounts: impl Strategy<Value = usize>,
    interval: impl Strategy<Value = u64>,
) -> impl Strategy<Value = Scenario> {
    let size = (accounts, interval, any::<bool>(), 1usize..=3, 1usize..=3);
    let more = (prop_oneof![4 => Just(1usize), 1 => 2usize..5], 1u64..1_000, prop::bool::weighted(0.1));
    let weather = prop_oneof![1 => Just(FaultRates::default()), 4 => weather()];
    let upsets = prop::collection::vec((0u64..1_000, upset()), 0..8);
    (size, more, weather, upsets, any::<u64>()).prop_map(|(size, more, weather, upsets, seed)| {
        let (accounts, interval, varied, wallets, hosts) = size;
        let (sharing, timeout, heedless) = more;
        Scenario {
            accounts,
            interval,
            varied,
            wallets,
            hosts,
            sharing,
            timeout,
            heedless,
            priced: seed % 2 == 0,
            weather,
            upsets,
            seed,
        }
    })
}

/// Runs `cases` plans and returns the simulated hours and the calls they came to.
fn prove(cases: u32, plans: &impl Strategy<Value = Scenario>) -> (f64, usize) {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 24, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let total = std::cell::Cell::new((0.0, 0));
    let result = TestRunner::new_with_rng(config, rng).run(plans, |plan| {
        let record = plan.run();
        let (hours, calls) = total.get();
        total.set((hours + record.driven.as_secs_f64() / 3_600.0, calls + record.calls.len()));
        promises(&plan, &record).map_err(TestCaseError::fail)
    });
    let (hours, calls) = total.get();
    println!("{cases} cases, {hours:.0} simulated hours, {calls} calls");
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, plan)) => panic!("{why}\n{plan:?}"),
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
    (hours, calls)
}

/// The first promise that was broken, if any.
fn promises(plan: &Scenario, record: &Record) -> Result<(), String> {
    check_record(&record.calls, &record.log)?;
    if let Some(slander) = record.slandered.first() {
        return Err(format!("it is alive, and yet: {slander}"));
    }
    even(plan, record)?;
    // What the configuration would refuse need not work, only do no harm.
    if plan.heedless { Ok(()) } else { well(record) }
}

/// Whether polls were spread over the seconds when there was no reason to ask twice. No second had
/// more than twice the even share, for jitter moves polls from one second into the next, and two more,
/// and a reading of each host's clock. That goes for the start, for the wake after a suspend, for a
/// restart, and for the end of a pause of all accounts.
fn even(plan: &Scenario, record: &Record) -> Result<(), String> {
    if plan.varied || plan.sharing > 1 || plan.heedless {
        return Ok(());
    }
    let quiet = plan.weather.is_fair();
    let from = if quiet { Duration::ZERO } else { record.bad_until };
    // Our own clock is never a good one, so the first reading is a surprise, and there is a second.
    let clocks = 2.0 * f64::from(u32::try_from(plan.hosts).unwrap_or(0));
    let bound = 2.0 * record.rate + 2.0 + clocks;
    let sent = record.calls.iter().filter(|call| call.start > from).map(|call| (call.start, call.start));
    let busiest = max_concurrent(sent, Duration::from_secs(1));
    (f64::from(u32::try_from(busiest).unwrap_or(u32::MAX)) <= bound)
        .then_some(())
        .ok_or_else(|| format!("{busiest} calls in a second, {bound:.1} would be even, quiet: {quiet}"))
}

/// Whether every account was read about once a slot when all had become well.
fn well(record: &Record) -> Result<(), String> {
    let (from, until) = record.well;
    // Close to what the limits let through, polls wait for their turn and slots are missed.
    let patience = if record.load < 0.9 { 2.3 } else { 4.0 };
    let mut read = vec![vec![from]; record.slots.len()];
    for call in record.calls.iter().filter(|call| call.good && call.end > from && call.end <= until) {
        read[call.account].push(call.end);
    }
    for (account, (mut read, slot)) in read.into_iter().zip(&record.slots).enumerate() {
        read.push(until);
        let gap = read.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap_or_default();
        if gap > slot.mul_f64(patience) + Duration::from_secs(2) {
            return Err(format!(
                "account {account} was not read for {gap:?}, its slot is {slot:?}, load {}",
                record.load
            ));
        }
        let reads = f64::from(u32::try_from(read.len()).unwrap_or(u32::MAX)) - 2.0;
        let slots = until.saturating_sub(from).as_secs_f64() / slot.as_secs_f64();
        let least = if record.load < 0.9 { 0.9 * slots - 2.0 } else { 0.6 * slots - 2.0 };
        if reads < least || reads > slots + 2.0 {
            return Err(format!(
                "account {account} was read {reads} times in {slots:.1} slots, load {}",
                record.load
            ));
        }
    }
    Ok(())
}

const SECOND: u64 = 1_000;

#[test]
fn few_busy_accounts_keep_every_promise_through_any_faults() {
    let interval = prop_oneof![Just(SECOND), SECOND..10 * SECOND, 10 * SECOND..60 * SECOND];
    let (hours, _) = prove(32, &plan(prop_oneof![1usize..4, 1usize..16], interval));
    assert!(hours > 40.0);
}

#[test]
fn many_accounts_keep_every_promise_through_any_faults() {
    let interval = prop_oneof![Just(SECOND), Just(30 * SECOND), 10 * SECOND..300 * SECOND];
    let (hours, _) = prove(6, &plan(prop_oneof![16usize..450, Just(450usize)], interval));
    assert!(hours > 3.0);
}

#[test]
fn quiet_accounts_keep_every_promise_for_thousands_of_hours() {
    let (hours, calls) = prove(130, &plan(1usize..3, 100 * SECOND..300 * SECOND));
    assert!(hours > 2_000.0 && calls > 60_000);
}

/// Accounts with nothing special about them, every 30 seconds.
fn plain(accounts: usize) -> Scenario {
    Scenario {
        accounts,
        interval: 30 * SECOND,
        varied: false,
        wallets: 1,
        hosts: 2,
        sharing: 1,
        timeout: 333,
        heedless: false,
        priced: false,
        weather: FaultRates::default(),
        upsets: Vec::new(),
        seed: 7,
    }
}

#[test]
fn the_fullest_load_makes_steady_progress_and_no_burst_after_a_sleep_or_a_restart() {
    let upsets = vec![
        (200, Disruption::Suspend(29)),
        (500, Disruption::Suspend(8 * 3_600)),
        (700, Disruption::Restart(100)),
    ];
    let plan = Scenario { upsets, ..plain(450) };
    let record = plan.run();
    assert_eq!(promises(&plan, &record), Ok(()));
    let (from, until) = record.well;
    let mut reads = vec![0u32; plan.accounts];
    let good = record.calls.iter().filter(|call| call.good && call.end > from && call.end <= until);
    good.for_each(|call| reads[call.account] += 1);
    let slots = until.saturating_sub(from).as_secs_f64() / 30.0;
    let all: u32 = reads.iter().sum();
    assert!(f64::from(all) > 0.97 * slots * 450.0, "{all} reads in {slots:.1} slots");
    let least = reads.iter().min().copied().unwrap_or(0);
    assert!(f64::from(least) > slots - 2.5, "an account was read {least} times in {slots:.1} slots");
}

#[test]
fn after_a_sleep_polls_go_on_in_their_slots() {
    let upsets = vec![
        (200, Disruption::Suspend(29)),
        (400, Disruption::Suspend(15)),
        (600, Disruption::Suspend(8 * 3_600)),
    ];
    let plan = Scenario { upsets, ..plain(90) };
    assert_eq!(promises(&plan, &plan.run()), Ok(()));
}

#[test]
fn a_key_that_is_used_to_the_full_stands_any_number_of_restarts() {
    let restarts = (1..200).map(|place| (place * 5, Disruption::Restart(0)));
    let plan = Scenario { interval: SECOND, wallets: 2, upsets: restarts.collect(), ..plain(1) };
    assert_eq!(promises(&plan, &plan.run()), Ok(()));
}

#[test]
fn a_crowd_behind_one_slow_key_does_not_pass_for_dead() {
    let weather = FaultRates { hosts: [HostFault::Slow; 3], ..FaultRates::default() };
    let plan = Scenario { hosts: 1, sharing: 12, timeout: 999, weather, ..plain(12) };
    assert_eq!(promises(&plan, &plan.run()), Ok(()));
}

#[test]
fn with_all_hosts_but_the_last_down_the_fullest_load_is_read_from_that() {
    let weather = FaultRates {
        hosts: [HostFault::Unreachable, HostFault::Unreachable, HostFault::Well],
        ..FaultRates::default()
    };
    let plan = Scenario { hosts: 3, weather, ..plain(450) };
    let record = plan.run();
    assert_eq!(promises(&plan, &record), Ok(()));
    let settled = record.bad_until.saturating_sub(Duration::from_mins(3));
    let mut unread = vec![true; plan.accounts];
    let good = record.calls.iter().filter(|call| call.good && call.end > settled);
    for call in good.filter(|call| call.end < record.bad_until) {
        unread[call.account] = false;
    }
    let unread = unread.iter().filter(|unread| **unread).count();
    assert_eq!(unread, 0, "accounts that were not read for three minutes");
}

#[test]
fn a_locked_address_is_tried_twice_a_life_and_resumed_without_a_burst() {
    let weather = FaultRates { limited: 1_000, ..FaultRates::default() };
    let upsets = vec![
        (300, Disruption::Restart(0)),
        (310, Disruption::Restart(500)),
        (900, Disruption::Restart(1_000)),
    ];
    let plan = Scenario { weather, upsets, ..plain(90) };
    let record = plan.run();
    assert_eq!(promises(&plan, &record), Ok(()));
    for life in 0..4 {
        let tried =
            record.calls.iter().filter(|call| call.life == life && call.start < record.bad_until).count();
        assert_eq!(tried, 2, "the second limit reply of life {life} pauses all");
    }
    let resumed = record.calls.iter().filter(|call| call.start >= record.bad_until);
    let first = resumed.map(|call| call.start).min().unwrap_or_default();
    assert!(first > record.bad_until + Duration::from_mins(5), "all were paused: {first:?}");
}

#[test]
fn prices_are_read_beside_accounts_and_keep_every_promise_with_them() {
    // As many as the limits let through, and some that meet with every trouble.
    let weather = FaultRates { limited: 5, unavailable: 50, ..FaultRates::default() };
    for (accounts, interval, weather) in [(14, SECOND, FaultRates::default()), (3, 2 * SECOND, weather)] {
        let upsets = vec![
            (300, Disruption::Suspend(29)),
            (500, Disruption::Restart(0)),
            (700, Disruption::Restart(100)),
        ];
        let plan = Scenario { priced: true, interval, weather, upsets, ..plain(accounts) };
        let record = plan.run();
        assert_eq!(promises(&plan, &record), Ok(()));
        let read = record.calls.iter().filter(|call| call.key == model::NO_KEY && call.good);
        assert!(read.count() > 50, "prices were read");
    }
}

#[test]
fn accounts_that_share_a_refused_key_make_one_try_in_five_minutes() {
    // Calls so slow that all the others wait for the first to end.
    let weather = FaultRates { refused: 1_000, hosts: [HostFault::Slow; 3], ..FaultRates::default() };
    let plan = Scenario { hosts: 1, sharing: 6, wallets: 3, timeout: 999, weather, ..plain(6) };
    let record = plan.run();
    assert_eq!(promises(&plan, &record), Ok(()));
    let tried = record.calls.iter().filter(|call| call.wallet.is_some() && call.start < record.bad_until);
    // One more by the clock of the exchange, which was read after the first had gone by the machine's.
    let most = record.bad_until.as_secs() / 300 + 2;
    assert!(tried.clone().count() as u64 <= most, "{} tries in {:?}", tried.count(), record.bad_until);
}

#[test]
fn the_same_plan_goes_the_same_way() {
    let weather =
        FaultRates { limited: 20, unavailable: 50, refused: 20, latency: 300, ..FaultRates::default() };
    let upsets = vec![(300, Disruption::Restart(100)), (600, Disruption::Suspend(100))];
    let plan = Scenario { sharing: 2, wallets: 2, weather, upsets, ..plain(30) };
    let (first, second) = (plan.run(), plan.run());
    let differ = (0..).zip(&first.log).zip(&second.log).find(|((_, one), other)| one != other);
    assert_eq!(differ, None);
    assert_eq!(first.calls, second.calls);
}

#[test]
fn the_count_itself_counts() {
    let ms = Duration::from_millis;
    let count = |calls: &[(u64, u64)]| {
        max_concurrent(calls.iter().map(|(start, end)| (ms(*start), ms(*end))), Duration::from_secs(1))
    };
    assert_eq!(count(&[]), 0);
    assert_eq!(count(&[(0, 0), (1_001, 1_001)]), 1);
    assert_eq!(count(&[(0, 0), (1_000, 1_000)]), 2, "windows include both their ends");
    assert_eq!(count(&[(0, 500), (1_500, 1_600)]), 2, "a call may be counted when it ends");
    assert_eq!(count(&[(0, 500), (600, 700), (1_500, 1_600), (1_700, 2_000)]), 3);
    assert_eq!(count(&[(0, 9_000), (100, 200), (5_000, 5_100)]), 2, "a long one touches many windows");
}
