//! Proves the rate limits. Simulations run the real pollers, schedule, rate limiter, failover and clock through
//! thousands of hours with random accounts, faults, suspends, restarts and reloads. `checker` counts the calls
//! independently. Every run has the same cases, so that a failure can be repeated.

#![allow(clippy::indexing_slicing, reason = "a test ends at what it did not expect")]
#![allow(clippy::print_stdout, reason = "shows how much was proved")]

mod checker;
mod egress;
mod exchange;
mod record;
mod scenario;
mod second_reader;
mod simulation;

use std::time::Duration;

use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner},
};

use self::{
    checker::{check_record, count_max_in_window},
    record::{Record, RecordedCall},
    scenario::{Disruption, FaultRates, HostFault, NO_KEY, Scenario},
    simulation::run_scenario,
};

fn any_host_fault() -> impl Strategy<Value = HostFault> {
    prop_oneof![
        6 => Just(HostFault::None),
        1 => Just(HostFault::Unreachable),
        1 => Just(HostFault::Hanging),
        1 => Just(HostFault::Slow),
        1 => Just(HostFault::NoServerTime),
        1 => (-100i64..100).prop_map(HostFault::WrongServerTime),
        1 => Just(HostFault::WrongServerTime(i64::MAX)),
    ]
}

/// From no fault to hardly any successful call.
fn any_fault_rates() -> impl Strategy<Value = FaultRates> {
    let hosts = (any_host_fault(), any_host_fault(), any_host_fault());
    (prop_oneof![Just(1u32), Just(10), Just(100)], 0u64..1_100, hosts)
        .prop_flat_map(|(worst, latency, (a, b, c))| {
            let rate = 0..=worst;
            let first = (rate.clone(), rate.clone(), rate.clone(), rate.clone());
            (first, (rate.clone(), rate.clone(), rate.clone(), rate), Just((latency, [a, b, c])))
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

fn any_disruption() -> impl Strategy<Value = Disruption> {
    prop_oneof![
        (0u64..3_000).prop_map(Disruption::Restart),
        (0u64..600_000).prop_map(Disruption::Restart),
        (1u64..120).prop_map(Disruption::Suspend),
        (1u64..100_000).prop_map(Disruption::Suspend),
        any::<u64>().prop_map(Disruption::Reload),
        any::<u64>().prop_map(Disruption::Reload),
    ]
}

fn any_scenario(
    accounts: impl Strategy<Value = usize>,
    interval: impl Strategy<Value = u64>,
) -> impl Strategy<Value = Scenario> {
    let size = (accounts, interval, any::<bool>(), 1usize..=3, 1usize..=3);
    let more = (prop_oneof![4 => Just(1usize), 1 => 2usize..5], 1u64..1_000, prop::bool::weighted(0.1));
    let faults = prop_oneof![1 => Just(FaultRates::default()), 4 => any_fault_rates()];
    let disruptions = prop::collection::vec((0u64..1_000, any_disruption()), 0..8);
    (size, more, faults, disruptions, any::<u64>()).prop_map(|(size, more, faults, disruptions, seed)| {
        let (accounts, interval, varied, wallets, hosts) = size;
        let (sharing, timeout, over_limit) = more;
        Scenario {
            accounts,
            interval,
            varied,
            wallets,
            hosts,
            sharing,
            timeout,
            over_limit,
            is_v4: false,
            reads_positions: false,
            reads_prices: seed % 2 == 0,
            processes: 1,
            addresses: 1,
            has_second_reader: false,
            faults,
            disruptions,
            seed,
        }
    })
}

/// Runs `cases` scenarios. Returns the simulated hours and the number of calls.
fn prove(cases: u32, scenarios: &impl Strategy<Value = Scenario>) -> (f64, usize) {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 24, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let total = std::cell::Cell::new((0.0, 0));
    let result = TestRunner::new_with_rng(config, rng).run(scenarios, |scenario| {
        let record = run_scenario(&scenario);
        let (hours, calls) = total.get();
        total.set((hours + record.driven.as_secs_f64() / 3_600.0, calls + record.calls.len()));
        check_promises(&scenario, &record).map_err(TestCaseError::fail)
    });
    let (hours, calls) = total.get();
    println!("{cases} cases, {hours:.0} simulated hours, {calls} calls");
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, scenario)) => panic!("{why}\n{scenario:?}"),
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
    (hours, calls)
}

/// Checks everything that the exporter promises.
///
/// # Errors
/// The first broken promise.
fn check_promises(scenario: &Scenario, record: &Record) -> Result<(), String> {
    check_record(&record.calls, &record.log, scenario.processes)?;
    if let Some(false_alarm) = record.false_alarms.first() {
        return Err(format!("false alarm: {false_alarm}"));
    }
    check_even_spread(scenario, record)?;
    // The configuration would reject such a load. It must respect the limits, but accounts may be read too rarely.
    if scenario.over_limit {
        return Ok(());
    }
    record.last_processes.iter().try_for_each(|process| check_regular_reads(record, *process))
}

/// Checks that polls are spread evenly over the seconds while no call is repeated. A second may have twice the even
/// share, because jitter moves polls into the next second, plus two calls and the readings of each host's clock. This
/// includes the start, the end of a suspend, a restart, and the end of a pause of all accounts.
fn check_even_spread(scenario: &Scenario, record: &Record) -> Result<(), String> {
    let is_plain = scenario.addresses == 1 && scenario.processes == 1 && scenario.sharing == 1;
    if scenario.varied || scenario.over_limit || scenario.has_second_reader || !is_plain {
        return Ok(());
    }
    let has_no_faults = scenario.faults.is_none();
    let from = if has_no_faults { Duration::ZERO } else { record.faults_until };
    // This machine's clock is wrong, so a second reading must confirm the first.
    let clocks = 2.0 * f64::from(u32::try_from(scenario.hosts).unwrap_or(0));
    let bound = 2.0 * record.rate + 2.0 + clocks;
    let sent = record.calls.iter().filter(|call| call.start > from).map(|call| (call.start, call.start));
    let busiest = count_max_in_window(sent, Duration::from_secs(1));
    (f64::from(u32::try_from(busiest).unwrap_or(u32::MAX)) <= bound).then_some(()).ok_or_else(|| {
        format!("{busiest} calls in a second, {bound:.1} would be even, no faults: {has_no_faults}")
    })
}

/// Checks that the process reads every account about once per slot after the recovery.
fn check_regular_reads(record: &Record, process: usize) -> Result<(), String> {
    let (from, until) = record.recovered;
    // Close to the limits, polls wait for permits and miss slots.
    let max_slots = if record.load < 0.9 { 2.3 } else { 4.0 };
    let mut read = vec![vec![from]; record.slots.len()];
    let is_counted =
        |call: &&RecordedCall| call.process == process && call.good && call.end > from && call.end <= until;
    for call in record.calls.iter().filter(is_counted) {
        read[call.account].push(call.end);
    }
    for (account, (mut read, slot)) in read.into_iter().zip(&record.slots).enumerate() {
        read.push(until);
        let gap = read.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap_or_default();
        if gap > slot.mul_f64(max_slots) + Duration::from_secs(2) {
            return Err(format!(
                "account {account} was not read for {gap:?}, its slot is {slot:?}, load {}",
                record.load
            ));
        }
        let reads = f64::from(u32::try_from(read.len()).unwrap_or(u32::MAX)) - 2.0;
        let slot_count = until.saturating_sub(from).as_secs_f64() / slot.as_secs_f64();
        let min_reads = if record.load < 0.9 { 0.9 * slot_count - 2.0 } else { 0.6 * slot_count - 2.0 };
        if reads < min_reads || reads > slot_count + 2.0 {
            return Err(format!(
                "account {account} was read {reads} times in {slot_count:.1} slots, load {}",
                record.load
            ));
        }
    }
    Ok(())
}

const SECOND: u64 = 1_000;

#[test]
fn few_accounts_with_short_intervals_keep_every_promise() {
    let interval = prop_oneof![Just(SECOND), SECOND..10 * SECOND, 10 * SECOND..60 * SECOND];
    let (hours, _) = prove(32, &any_scenario(prop_oneof![1usize..4, 1usize..16], interval));
    assert!(hours > 40.0);
}

#[test]
fn many_accounts_keep_every_promise() {
    let interval = prop_oneof![Just(SECOND), Just(30 * SECOND), 10 * SECOND..300 * SECOND];
    let (hours, _) = prove(6, &any_scenario(prop_oneof![16usize..450, Just(450usize)], interval));
    assert!(hours > 3.0);
}

#[test]
fn accounts_with_long_intervals_keep_every_promise_for_thousands_of_hours() {
    let (hours, calls) = prove(130, &any_scenario(1usize..3, 100 * SECOND..300 * SECOND));
    assert!(hours > 2_000.0 && calls > 60_000);
}

/// Accounts without faults, each polled every 30 seconds.
fn plain_scenario(accounts: usize) -> Scenario {
    Scenario {
        accounts,
        interval: 30 * SECOND,
        varied: false,
        wallets: 1,
        hosts: 2,
        sharing: 1,
        timeout: 333,
        over_limit: false,
        is_v4: false,
        reads_positions: false,
        reads_prices: false,
        processes: 1,
        addresses: 1,
        has_second_reader: false,
        faults: FaultRates::default(),
        disruptions: Vec::new(),
        seed: 7,
    }
}

#[test]
fn the_largest_load_is_polled_evenly_after_a_suspend_and_a_restart() {
    let disruptions = vec![
        (200, Disruption::Suspend(29)),
        (500, Disruption::Suspend(8 * 3_600)),
        (700, Disruption::Restart(100)),
    ];
    let scenario = Scenario { disruptions, ..plain_scenario(450) };
    let record = run_scenario(&scenario);
    assert_eq!(check_promises(&scenario, &record), Ok(()));
    let (from, until) = record.recovered;
    let mut reads = vec![0u32; scenario.accounts];
    let good = record.calls.iter().filter(|call| call.good && call.end > from && call.end <= until);
    good.for_each(|call| reads[call.account] += 1);
    let slot_count = until.saturating_sub(from).as_secs_f64() / 30.0;
    let total: u32 = reads.iter().sum();
    assert!(f64::from(total) > 0.97 * slot_count * 450.0, "{total} reads in {slot_count:.1} slots");
    let min_reads = reads.iter().min().copied().unwrap_or(0);
    assert!(
        f64::from(min_reads) > slot_count - 2.5,
        "an account was read {min_reads} times in {slot_count:.1} slots"
    );
}

#[test]
fn after_a_suspend_polls_continue_in_their_slots() {
    let disruptions = vec![
        (200, Disruption::Suspend(29)),
        (400, Disruption::Suspend(15)),
        (600, Disruption::Suspend(8 * 3_600)),
    ];
    let scenario = Scenario { disruptions, ..plain_scenario(90) };
    assert_eq!(check_promises(&scenario, &run_scenario(&scenario)), Ok(()));
}

#[test]
fn a_key_at_its_limit_survives_any_number_of_restarts() {
    let restarts = (1..200).map(|number| (number * 5, Disruption::Restart(0)));
    let scenario =
        Scenario { interval: SECOND, wallets: 2, disruptions: restarts.collect(), ..plain_scenario(1) };
    assert_eq!(check_promises(&scenario, &run_scenario(&scenario)), Ok(()));
}

#[test]
fn accounts_that_wait_for_a_slow_shared_key_do_not_count_as_stuck() {
    let faults = FaultRates { hosts: [HostFault::Slow; 3], ..FaultRates::default() };
    let scenario = Scenario { hosts: 1, sharing: 12, timeout: 999, faults, ..plain_scenario(12) };
    assert_eq!(check_promises(&scenario, &run_scenario(&scenario)), Ok(()));
}

#[test]
fn the_largest_load_is_read_from_the_only_host_that_works() {
    let faults = FaultRates {
        hosts: [HostFault::Unreachable, HostFault::Unreachable, HostFault::None],
        ..FaultRates::default()
    };
    let scenario = Scenario { hosts: 3, faults, ..plain_scenario(450) };
    let record = run_scenario(&scenario);
    assert_eq!(check_promises(&scenario, &record), Ok(()));
    let last_minutes = record.faults_until.saturating_sub(Duration::from_mins(3));
    let mut unread = vec![true; scenario.accounts];
    let good = record.calls.iter().filter(|call| call.good && call.end > last_minutes);
    for call in good.filter(|call| call.end < record.faults_until) {
        unread[call.account] = false;
    }
    let unread = unread.iter().filter(|unread| **unread).count();
    assert_eq!(unread, 0, "accounts that were not read for three minutes");
}

#[test]
fn a_locked_address_is_called_twice_per_process_and_polls_resume_evenly() {
    let faults = FaultRates { limited: 1_000, ..FaultRates::default() };
    let disruptions = vec![
        (300, Disruption::Restart(0)),
        (310, Disruption::Restart(500)),
        (900, Disruption::Restart(1_000)),
    ];
    let scenario = Scenario { faults, disruptions, ..plain_scenario(90) };
    let record = run_scenario(&scenario);
    assert_eq!(check_promises(&scenario, &record), Ok(()));
    for process in 0..4 {
        let calls = record
            .calls
            .iter()
            .filter(|call| call.process == process && call.start < record.faults_until)
            .count();
        assert_eq!(calls, 2, "the second limit reply of process {process} pauses all");
    }
    let resumed = record.calls.iter().filter(|call| call.start >= record.faults_until);
    let first = resumed.map(|call| call.start).min().unwrap_or_default();
    assert!(first > record.faults_until + Duration::from_mins(5), "all were paused: {first:?}");
}

#[test]
fn accounts_and_prices_together_keep_every_promise() {
    // The largest load that the limits allow, and a small load with faults.
    let faults = FaultRates { limited: 5, unavailable: 50, ..FaultRates::default() };
    for (accounts, interval, faults) in [(14, SECOND, FaultRates::default()), (3, 2 * SECOND, faults)] {
        let disruptions = vec![
            (300, Disruption::Suspend(29)),
            (500, Disruption::Restart(0)),
            (700, Disruption::Restart(100)),
        ];
        let scenario =
            Scenario { reads_prices: true, interval, faults, disruptions, ..plain_scenario(accounts) };
        let record = run_scenario(&scenario);
        assert_eq!(check_promises(&scenario, &record), Ok(()));
        let read = record.calls.iter().filter(|call| call.key == NO_KEY && call.good);
        assert!(read.count() > 50, "prices were read");
    }
}

#[test]
fn accounts_that_ask_for_currencies_that_the_list_leaves_out_keep_every_promise() {
    let interval = prop_oneof![Just(SECOND), 10 * SECOND..60 * SECOND, 60 * SECOND..300 * SECOND];
    let scenarios = any_scenario(prop_oneof![1usize..4, 1usize..16], interval);
    let scenarios =
        scenarios.prop_map(|scenario| Scenario { is_v4: true, wallets: 1, reads_prices: false, ..scenario });
    let (hours, calls) = prove(20, &scenarios);
    assert!(hours > 40.0 && calls > 40_000);
}

#[test]
fn accounts_with_positions_and_prices_of_v4_keep_every_promise() {
    let interval = prop_oneof![Just(SECOND), 10 * SECOND..60 * SECOND, 60 * SECOND..300 * SECOND];
    let scenarios = any_scenario(prop_oneof![1usize..4, 1usize..16], interval);
    let scenarios =
        scenarios.prop_map(|scenario| Scenario { is_v4: true, reads_positions: true, ..scenario });
    let (hours, calls) = prove(20, &scenarios);
    assert!(hours > 30.0 && calls > 40_000);
}

#[test]
fn positions_and_the_list_of_markets_are_read_without_bursts_at_the_limit_of_the_address() {
    // Each of 150 accounts makes five calls a minute, and the first minute two more for currencies that the list lacks.
    let disruptions = vec![(300, Disruption::Suspend(29)), (600, Disruption::Restart(100))];
    let scenario = Scenario {
        interval: 60 * SECOND,
        wallets: 3,
        is_v4: true,
        reads_positions: true,
        reads_prices: true,
        over_limit: true,
        disruptions,
        ..plain_scenario(150)
    };
    let record = run_scenario(&scenario);
    assert_eq!(check_promises(&scenario, &record), Ok(()));
    let read =
        |path: &str| record.calls.iter().filter(|call| call.path == path && call.end < Duration::MAX).count();
    assert!(read(exchange::POSITIONS) > 1_000);
    assert_eq!(read(exchange::V4_MARKETS), 2, "once per process");
}

/// Several processes with the same keys and the same address, as if a standby woke up by mistake.
#[test]
fn processes_with_shares_pass_no_published_limit_together() {
    let interval = prop_oneof![Just(SECOND), SECOND..10 * SECOND, 10 * SECOND..60 * SECOND];
    let scenarios = any_scenario(prop_oneof![1usize..4, 1usize..16], interval);
    let scenarios =
        (scenarios, 2u32..=3).prop_map(|(scenario, processes)| Scenario { processes, ..scenario });
    let (hours, calls) = prove(16, &scenarios);
    assert!(hours > 20.0 && calls > 20_000, "{hours} hours, {calls} calls");
}

#[test]
fn two_processes_with_halves_pass_no_published_limit_at_the_largest_load() {
    let disruptions = vec![
        (200, Disruption::Suspend(29)),
        (400, Disruption::Restart(0)),
        (600, Disruption::Restart(0)),
        (800, Disruption::Reload(3)),
    ];
    // Each process has twice the accounts that it may poll.
    let scenario =
        Scenario { processes: 2, over_limit: true, disruptions: disruptions.clone(), ..plain_scenario(450) };
    let record = run_scenario(&scenario);
    assert_eq!(check_promises(&scenario, &record), Ok(()));
    let busiest =
        count_max_in_window(record.calls.iter().map(|call| (call.start, call.start)), Duration::from_mins(1));
    assert!(busiest > 800, "{busiest} calls in the busiest minute prove nothing");
    // Each key makes the calls that the share allows.
    let scenario = Scenario { processes: 2, interval: SECOND, disruptions, ..plain_scenario(3) };
    assert_eq!(check_promises(&scenario, &run_scenario(&scenario)), Ok(()));
}

/// Reloads move accounts between egress groups, rename groups, exchange their addresses and remove them. A second reader
/// calls the exchange with permits of the process.
#[test]
fn accounts_with_several_addresses_keep_every_promise() {
    let interval = prop_oneof![Just(SECOND), SECOND..10 * SECOND, 10 * SECOND..60 * SECOND];
    let scenarios = any_scenario(prop_oneof![1usize..8, 8usize..24], interval);
    let reloads = prop::collection::vec((0u64..1_000, any::<u64>().prop_map(Disruption::Reload)), 1..8);
    let scenarios = (scenarios, 2usize..=4, any::<bool>(), reloads).prop_map(
        |(scenario, addresses, has_second_reader, reloads)| {
            let disruptions = scenario.disruptions.into_iter().chain(reloads).collect();
            Scenario { addresses, has_second_reader, disruptions, ..scenario }
        },
    );
    let (hours, calls) = prove(20, &scenarios);
    assert!(hours > 20.0 && calls > 20_000, "{hours} hours, {calls} calls");
}

/// Calls take so long that a reload finds hundreds of them in flight.
#[test]
fn two_addresses_at_their_limits_keep_every_promise_over_reloads() {
    let faults = FaultRates { hosts: [HostFault::Slow; 3], ..FaultRates::default() };
    let disruptions = (1..8).map(|number| (number * 125, Disruption::Reload(number))).collect();
    let scenario = Scenario {
        addresses: 2,
        hosts: 1,
        timeout: 999,
        over_limit: true,
        has_second_reader: true,
        faults,
        disruptions,
        ..plain_scenario(900)
    };
    assert_eq!(check_promises(&scenario, &run_scenario(&scenario)), Ok(()));
}

#[test]
fn accounts_that_share_a_refused_key_make_one_call_in_five_minutes() {
    // The calls are so slow that all others wait for the first.
    let faults = FaultRates { refused: 1_000, hosts: [HostFault::Slow; 3], ..FaultRates::default() };
    let scenario = Scenario { hosts: 1, sharing: 6, wallets: 3, timeout: 999, faults, ..plain_scenario(6) };
    let record = run_scenario(&scenario);
    assert_eq!(check_promises(&scenario, &record), Ok(()));
    let calls = record.calls.iter().filter(|call| call.wallet.is_some() && call.start < record.faults_until);
    // Plus one: the first call used this machine's clock, and the next one the exchange's.
    let max_calls = record.faults_until.as_secs() / 300 + 2;
    assert!(
        calls.clone().count() as u64 <= max_calls,
        "{} calls in {:?}",
        calls.count(),
        record.faults_until
    );
}

#[test]
fn the_same_scenario_gives_the_same_record() {
    let faults =
        FaultRates { limited: 20, unavailable: 50, refused: 20, latency: 300, ..FaultRates::default() };
    let disruptions = vec![(300, Disruption::Restart(100)), (600, Disruption::Suspend(100))];
    let scenario = Scenario { sharing: 2, wallets: 2, faults, disruptions, ..plain_scenario(30) };
    let (first, second) = (run_scenario(&scenario), run_scenario(&scenario));
    let difference = (0..).zip(&first.log).zip(&second.log).find(|((_, one), other)| one != other);
    assert_eq!(difference, None);
    assert_eq!(first.calls, second.calls);
}

#[test]
fn calls_in_a_window_are_counted() {
    let ms = Duration::from_millis;
    let count = |calls: &[(u64, u64)]| {
        count_max_in_window(calls.iter().map(|(start, end)| (ms(*start), ms(*end))), Duration::from_secs(1))
    };
    assert_eq!(count(&[]), 0);
    assert_eq!(count(&[(0, 0), (1_001, 1_001)]), 1);
    assert_eq!(count(&[(0, 0), (1_000, 1_000)]), 2, "windows include both ends");
    assert_eq!(count(&[(0, 500), (1_500, 1_600)]), 2, "a call may be counted when it ends");
    assert_eq!(count(&[(0, 500), (600, 700), (1_500, 1_600), (1_700, 2_000)]), 3);
    assert_eq!(count(&[(0, 9_000), (100, 200), (5_000, 5_100)]), 2, "a long call touches many windows");
}
