//! The demo market: five made-up accounts whose balances move, and markets whose prices move.
//!
//! Every amount is a pure function of the time since the start, in integers of 1e-8. Only [`run_market`] keeps time. Must
//! not know limits, signatures or answers.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{
    account::{SimulatedAccount, SimulatedBalance, SimulatedWallet},
    config::SimulatorConfig,
    fault::{Effect, Fault},
    futures_market,
    handle::Simulator,
};

/// One unit of a currency in the integers of this module: amounts have 8 decimals.
const UNIT: u64 = 100_000_000;

/// Time from the start to the moment at which the incidents repeat.
pub const STORY: Duration = Duration::from_mins(4);

/// Creates the accounts with their balances at the start.
#[must_use]
pub fn create_accounts() -> Vec<SimulatedAccount> {
    let mut accounts: Vec<_> = (1_u32..)
        .zip(NAMES)
        .map(|(number, name)| {
            let access_key = format!("de300000-0000-4000-8000-{number:012x}");
            let secret_key = format!("de300000000000000000000000000000{number:08x}");
            SimulatedAccount::new(name, &access_key, &secret_key)
        })
        .collect();
    if let Some(account) = accounts.iter_mut().find(|account| account.name == futures_market::ACCOUNT) {
        account.positions = futures_market::compute_positions(0);
    }
    for (key, balance) in compute_balances(Duration::ZERO) {
        if let Some(account) = accounts.iter_mut().find(|account| account.name == key.account) {
            let rows = account.wallets.entry(key.wallet).or_default();
            rows.insert(key.currency.to_owned(), balance);
        }
    }
    accounts
}

/// Creates an exchange with these accounts and the prices at the start.
#[must_use]
pub fn create_simulator(accounts: Vec<SimulatedAccount>) -> Simulator {
    let simulator = Simulator::new(SimulatorConfig::default(), accounts);
    simulator.lock_exchange().prices = compute_prices(Duration::ZERO);
    simulator
}

/// Moves balances and prices once a second and starts the outages, until `shutdown` is done.
///
/// The market no longer moves a balance or price that someone else has set or removed.
pub async fn run_market(simulator: &Simulator, shutdown: impl Future<Output = ()>) {
    let mut shutdown = std::pin::pin!(shutdown);
    let start = Instant::now();
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut balances, mut prices) = (compute_balances(Duration::ZERO), compute_prices(Duration::ZERO));
    let mut positions = futures_market::compute_positions(0);
    let mut outages = 0;
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            _ = second.tick() => {}
        }
        let elapsed = start.elapsed();
        let new_balances = compute_balances(elapsed);
        update_balances(simulator, &balances, &new_balances);
        balances = new_balances;
        futures_market::move_positions(simulator, &mut positions, elapsed.as_secs());
        let new_prices = compute_prices(elapsed);
        update_prices(simulator, &prices, &new_prices);
        prices = new_prices;
        if let Some((outage, left)) = find_outage(elapsed).filter(|(outage, _)| *outage > outages) {
            outages = outage;
            let fault = Fault::new(Effect::Maintenance).for_account(OUTAGE_ACCOUNT).for_duration(left);
            simulator.inject_fault(fault);
        }
    }
}

/// Replaces each balance that still has its old amounts.
fn update_balances(
    simulator: &Simulator,
    old: &BTreeMap<BalanceKey, SimulatedBalance>,
    new: &BTreeMap<BalanceKey, SimulatedBalance>,
) {
    for (key, balance) in new {
        if let Some(last) = old.get(key).filter(|last| *last != balance) {
            let mut exchange = simulator.lock_exchange();
            let rows = exchange.rows_mut(key.account, key.wallet).ok();
            let row = rows.and_then(|rows| rows.get_mut(key.currency));
            if let Some(row) = row.filter(|row| *row == last) {
                row.clone_from(balance);
            }
        }
    }
}

/// Replaces each price that still has its old value.
fn update_prices(simulator: &Simulator, old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) {
    for (market, price) in new {
        let mut exchange = simulator.lock_exchange();
        let served = exchange.prices.get_mut(market);
        if let Some(served) = served.filter(|served| old.get(market) == Some(served)) {
            served.clone_from(price);
        }
    }
}

const OUTAGE_ACCOUNT: &str = "grid-bot";
const FIRST_OUTAGE: Duration = Duration::from_mins(1);
const OUTAGE_DURATION: Duration = Duration::from_secs(45);

/// The number of the current outage, counted from 1, and the time until its end.
fn find_outage(elapsed: Duration) -> Option<(u128, Duration)> {
    let since = elapsed.checked_sub(FIRST_OUTAGE)?.as_millis();
    let interval = STORY.as_millis();
    let elapsed_in_outage = Duration::from_millis(u64::try_from(since % interval).ok()?);
    let left = OUTAGE_DURATION.checked_sub(elapsed_in_outage).filter(|left| !left.is_zero())?;
    Some((since / interval + 1, left))
}

/// Account, wallet and currency of a balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct BalanceKey {
    account: &'static str,
    wallet: SimulatedWallet,
    currency: &'static str,
}

const NAMES: [&str; 5] = ["treasury", "market-maker", "arbitrage", "cold-storage", "grid-bot"];

/// A currency of the demo market.
struct CurrencyProfile {
    name: &'static str,
    /// Mean price in thousandths of a USDT. Accounts hold less of an expensive currency.
    mean_price: u64,
    decimals: u32,
}

const fn currency(name: &'static str, mean_price: u64, decimals: u32) -> CurrencyProfile {
    CurrencyProfile { name, mean_price, decimals }
}

/// Currencies. An account lists the first ones, so the last ones are only in the accounts with the longest lists.
const CURRENCIES: [CurrencyProfile; 44] = [
    currency("usdt", 1_000, 8),
    currency("btc", 64_210_000, 8),
    currency("eth", 3_180_000, 8),
    currency("usdc", 1_000, 6),
    currency("sol", 152_400, 8),
    currency("xrp", 588, 6),
    currency("bnb", 571_300, 8),
    currency("doge", 124, 8),
    currency("trx", 131, 6),
    currency("ltc", 72_350, 8),
    currency("xt", 2_710, 8),
    currency("link", 13_920, 8),
    currency("ada", 441, 6),
    currency("dot", 6_120, 8),
    currency("avax", 27_400, 8),
    currency("1inch", 402, 8),
    currency("bch", 361_000, 8),
    currency("atom", 6_880, 6),
    currency("uni", 7_940, 8),
    currency("etc", 22_750, 8),
    currency("fil", 4_430, 8),
    currency("near", 5_210, 8),
    currency("apt", 7_030, 8),
    currency("arb", 742, 8),
    currency("op", 1_810, 8),
    currency("bnb-bep2", 569_800, 8),
    currency("gal(ft)", 3_020, 8),
    currency("aleo(iou)", 5_400, 6),
    currency("xlm", 97, 7),
    currency("algo", 148, 6),
    currency("vet", 26, 8),
    currency("icp", 9_260, 8),
    currency("hbar", 71, 8),
    currency("inj", 24_100, 8),
    currency("sui", 912, 8),
    currency("sei", 361, 6),
    currency("tia", 6_450, 6),
    currency("pepe", 1, 2),
    currency("shib", 1, 2),
    currency("wld", 2_230, 8),
    currency("stx", 1_730, 6),
    currency("ftm", 487, 8),
    currency("kas", 168, 8),
    currency("ton", 7_190, 8),
];

/// Currencies without a market against USDT.
const UNTRADED: [&str; 2] = ["aleo(iou)", "gal(ft)"];

/// Markets against other currencies than USDT.
const CROSS_MARKETS: [(&str, &str); 4] = [("eth", "btc"), ("ltc", "btc"), ("sol", "eth"), ("xt", "btc")];

/// The price on every market at a time since the start, exact to the second.
fn compute_prices(elapsed: Duration) -> BTreeMap<String, String> {
    let second = elapsed.as_secs();
    let price_by_name = |name: &str| {
        let currency = CURRENCIES.iter().find(|currency| currency.name == name);
        currency.map_or(UNIT, |currency| compute_price(currency, second))
    };
    let traded = CURRENCIES.iter().skip(1).filter(|currency| !UNTRADED.contains(&currency.name));
    let against_usdt = traded
        .map(|currency| (format!("{}_usdt", currency.name), format_decimal(compute_price(currency, second))));
    let crosses = CROSS_MARKETS.into_iter().map(|(base, quote)| {
        let ratio = u128::from(price_by_name(base)) * u128::from(UNIT) / u128::from(price_by_name(quote));
        (format!("{base}_{quote}"), format_decimal(u64::try_from(ratio).unwrap_or(u64::MAX)))
    });
    against_usdt.chain(crosses).collect()
}

/// The price of a currency in 1e-8 USDT, with six significant digits. It moves half a percent up and down from minute to
/// minute; the price of a stablecoin moves less.
fn compute_price(currency: &CurrencyProfile, second: u64) -> u64 {
    let mean = currency.mean_price * (UNIT / 1_000);
    let swing = if currency.name == "usdc" { mean * 3 / 10_000 } else { mean / 200 };
    let level = |minute: u64| hash(&[hash_text(currency.name), minute, 3]) % 1_001;
    let (minute, remainder) = (second / 60, second % 60);
    let level = (level(minute) * (60 - remainder) + level(minute + 1) * remainder) / 60;
    let price = mean - swing + 2 * swing * level / 1_000;
    let grain = 10_u64.pow(price.checked_ilog10().unwrap_or_default().saturating_sub(5));
    price / grain * grain
}

/// Behaviour of one wallet of an account.
struct AccountProfile {
    account: &'static str,
    wallet: SimulatedWallet,
    /// Number of listed currencies.
    listed: usize,
    /// Mean worth of each balance in thousandths of a USDT.
    worth: u64,
    /// One in this many rows is zero; 0 means no row.
    zero_every: u64,
    /// Seconds between two trades of one currency; 0 means no trades.
    trade_seconds: u64,
    /// Maximum share of a balance in orders, in percent.
    max_in_orders: u64,
}

const PROFILES: [AccountProfile; 10] = [
    profile("treasury", SimulatedWallet::Spot, 32, 180_000_000).with_zeros(5).with_trades(41, 8),
    profile("treasury", SimulatedWallet::Wallet, 12, 420_000_000).with_zeros(4),
    profile("market-maker", SimulatedWallet::Spot, 36, 9_000_000).with_zeros(7).with_trades(3, 70),
    profile("market-maker", SimulatedWallet::Earn, 3, 3_000_000),
    profile("arbitrage", SimulatedWallet::Spot, 28, 21_000_000).with_zeros(6).with_trades(2, 35),
    profile("arbitrage", SimulatedWallet::FuturesUsdt, 1, 14_000_000).with_trades(4, 60),
    profile("arbitrage", SimulatedWallet::FuturesCoin, 2, 8_000_000).with_trades(6, 40),
    profile("cold-storage", SimulatedWallet::Spot, 24, 2_600_000_000).with_zeros(3),
    profile("grid-bot", SimulatedWallet::Spot, 26, 1_400_000).with_zeros(5).with_trades(5, 85),
    profile("grid-bot", SimulatedWallet::Wallet, 6, 300_000).with_zeros(2),
];

const fn profile(
    account: &'static str,
    wallet: SimulatedWallet,
    listed: usize,
    worth: u64,
) -> AccountProfile {
    AccountProfile { account, wallet, listed, worth, zero_every: 0, trade_seconds: 0, max_in_orders: 0 }
}

impl AccountProfile {
    const fn with_zeros(mut self, every: u64) -> Self {
        self.zero_every = every;
        self
    }

    const fn with_trades(mut self, seconds: u64, max_in_orders: u64) -> Self {
        self.trade_seconds = seconds;
        self.max_in_orders = max_in_orders;
        self
    }
}

/// Every balance at a time since the start, exact to the second.
fn compute_balances(elapsed: Duration) -> BTreeMap<BalanceKey, SimulatedBalance> {
    let second = elapsed.as_secs();
    let mut balances = BTreeMap::new();
    for profile in &PROFILES {
        // The first currency is USDT. Coin-margined futures have no USDT margin.
        let first = usize::from(profile.wallet == SimulatedWallet::FuturesCoin);
        for currency in CURRENCIES.iter().skip(first).take(profile.listed) {
            let key =
                BalanceKey { account: profile.account, wallet: profile.wallet, currency: currency.name };
            let amounts = compute_amounts(profile, currency, second);
            let balance = match (profile.account, profile.wallet, currency.name) {
                (_, SimulatedWallet::Earn, _) => invest(amounts),
                (WITHDRAWAL_ACCOUNT, SimulatedWallet::Spot, WITHDRAWAL_CURRENCY) => withdraw(amounts, second),
                _ => SimulatedBalance::new(&format_decimal(amounts.0), &format_decimal(amounts.1)),
            };
            balances.insert(key, balance);
        }
    }
    for (currency, amount) in [("usd", 48_120_350_000_000), ("eur", 1_204_900_000_000), ("try", 0)] {
        let key = BalanceKey { account: "treasury", wallet: SimulatedWallet::Fiat, currency };
        balances.insert(key, SimulatedBalance::new(&format_decimal(amount), &format_decimal(0)));
    }
    balances
}

/// The free and the frozen amount of one currency, in 1e-8.
fn compute_amounts(profile: &AccountProfile, currency: &CurrencyProfile, second: u64) -> (u64, u64) {
    if profile.account == "market-maker" && currency.name == "usdt" {
        return compute_market_maker_usdt(second);
    }
    let seed = hash(&[hash_text(profile.account), profile.wallet as u64, hash_text(currency.name)]);
    let is_major = matches!(currency.name, "usdt" | "btc" | "eth");
    if profile.zero_every > 0 && seed.is_multiple_of(profile.zero_every) && !is_major {
        return (0, 0);
    }
    // Between 50 % and 150 % of the mean worth.
    let worth = u128::from(profile.worth * (500 + seed % 1_000) / 1_000);
    let total = worth * u128::from(UNIT) / u128::from(currency.mean_price);
    let total = u64::try_from(total).unwrap_or(u64::MAX / 2);
    let total = total + hash(&[seed]) % (total / 1_000 + 1);
    let grain = 10_u64.pow(8 - currency.decimals.min(8));
    if profile.trade_seconds == 0 {
        return (total / grain * grain, 0);
    }
    // Each currency trades at its own interval. A trade moves some of the balance between free and frozen, and up to a
    // tenth of the balance into other currencies.
    let trade = (second + seed % 60) / (profile.trade_seconds + seed % 7);
    let random = hash(&[seed, trade]);
    let total = total - total / 10_000 * (random % 1_000);
    let frozen = total / 1_000 * (hash(&[random]) % (profile.max_in_orders * 10 + 1));
    let (total, frozen) = (total / grain * grain, frozen / grain * grain);
    (total - frozen, frozen)
}

/// The balance that runs low. It falls from 1 800 below 500 after 40 seconds and to about 200 after 60 seconds. After 130
/// seconds it is topped up.
fn compute_market_maker_usdt(second: u64) -> (u64, u64) {
    const CYCLE: u64 = STORY.as_secs();
    /// Seconds since the start of the cycle and whole USDT. The last point is the first point of the next cycle.
    const COURSE: [(u64, u64); 6] =
        [(0, 1_800), (40, 490), (60, 205), (130, 203), (131, 1_790), (CYCLE, 1_800)];
    let elapsed = second % CYCLE;
    let legs = COURSE.iter().zip(COURSE.iter().skip(1));
    let mut available = 0;
    for (&(from, low), &(to, high)) in legs {
        if (from..to).contains(&elapsed) {
            let (before, after) = (low * UNIT, high * UNIT);
            available = (before * (to - elapsed) + after * (elapsed - from)) / (to - from);
        }
    }
    let wobble = hash(&[second, 1]) % (4 * UNIT);
    let orders = 120 * UNIT + hash(&[second / 4, 2]) % (260 * UNIT);
    (available + wobble, orders)
}

const WITHDRAWAL_ACCOUNT: &str = "market-maker";
const WITHDRAWAL_CURRENCY: &str = "btc";
/// Seconds since the start of the cycle. Long enough for the alert, which waits for a minute.
const WITHDRAWAL: Range<u64> = 70..200;
const WITHDRAWAL_AMOUNT: u64 = UNIT / 50;

/// A spot balance, of which a withdrawal holds a part for some time. Orders give up what the free amount lacks. In the end
/// the withdrawal is cancelled.
fn withdraw((available, in_orders): (u64, u64), second: u64) -> SimulatedBalance {
    let held = if WITHDRAWAL.contains(&(second % STORY.as_secs())) { WITHDRAWAL_AMOUNT } else { 0 };
    let left = (available + in_orders).saturating_sub(held);
    let in_orders = in_orders.min(left);
    let balance = SimulatedBalance::new(&format_decimal(left - in_orders), &format_decimal(in_orders + held));
    let part = |amount| Value::from(format_decimal(amount));
    balance.with_parts([
        ("withdraw", part(held)),
        ("trade", part(in_orders)),
        ("copyTrade", part(0)),
        ("lock", part(0)),
        ("freeze", part(0)),
    ])
}

/// A balance in two Earn products.
fn invest((amount, _): (u64, u64)) -> SimulatedBalance {
    let saved = amount / 3;
    SimulatedBalance::new(&format_decimal(0), &format_decimal(amount)).with_parts([
        ("DEMAND_SAVING", format_decimal(saved).into()),
        ("TIME_SAVING", format_decimal(amount - saved).into()),
    ])
}

/// Formats an amount of 1e-8 with at least two digits after the point and no further trailing zeros.
fn format_decimal(amount: u64) -> String {
    let digits = format!("{}.{:08}", amount / UNIT, amount % UNIT);
    let trimmed = digits.trim_end_matches('0').len();
    let min = digits.len() - 6;
    digits.chars().take(trimmed.max(min)).collect()
}

/// A hash of a text.
fn hash_text(text: &str) -> u64 {
    text.bytes().fold(0, |sum, byte| hash(&[sum, u64::from(byte)]))
}

/// A hash of numbers that is the same on every run: the finalizer of `SplitMix64` over each value.
fn hash(values: &[u64]) -> u64 {
    values.iter().fold(0x9e37_79b9_7f4a_7c15, |sum, value| {
        let mut mixed = (sum ^ value).wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::simulator::decimal;

    fn free_usdt(second: u64) -> u64 {
        compute_market_maker_usdt(second).0
    }

    #[test]
    fn the_market_maker_runs_low_and_is_topped_up_every_cycle() {
        for cycle in [0, 240, 2_400] {
            let free = |seconds: Range<u64>| seconds.map(|second| free_usdt(cycle + second));
            assert!(free_usdt(cycle) >= 1_800 * UNIT);
            assert!(free(0..40).all(|free| free > 500 * UNIT));
            // More than one poll of the demo sees each level.
            assert!(free(41..52).all(|free| free < 500 * UNIT && free > 300 * UNIT));
            assert!(free(56..131).all(|free| free < 300 * UNIT && free > 200 * UNIT));
            assert!(free(131..240).all(|free| free > 1_700 * UNIT));
        }
    }

    /// The demo has a page threshold of 20 000.
    #[test]
    fn the_free_usdt_of_arbitrage_stays_below_20_000() {
        let is_spot = |profile: &&AccountProfile| {
            profile.account == "arbitrage" && profile.wallet == SimulatedWallet::Spot
        };
        let profile = PROFILES.iter().find(is_spot).unwrap_or_else(|| panic!("no profile"));
        for second in 0..86_400 {
            let (free, _) = compute_amounts(profile, &CURRENCIES[0], second);
            assert!(free < 19_000 * UNIT, "{free} after {second} s");
        }
    }

    #[test]
    fn a_withdrawal_holds_bitcoin_for_longer_than_its_alert_waits_and_is_cancelled() {
        let btc = BalanceKey { account: "market-maker", wallet: SimulatedWallet::Spot, currency: "btc" };
        let is_pending = |second| {
            let balance = &compute_balances(Duration::from_secs(second))[&btc];
            let parts = balance.parts.clone().unwrap_or_default();
            let part = |name: &str| parts[name].as_str().unwrap_or_default().to_owned();
            assert_eq!(decimal::sum(&part("withdraw"), &part("trade")), balance.freeze, "after {second} s");
            assert!(part("withdraw") == "0.02" || part("withdraw") == "0.00");
            part("withdraw") == "0.02"
        };
        for cycle in [0, 240, 2_400] {
            let pending: Vec<_> = (0..240).filter(|second| is_pending(cycle + second)).collect();
            assert_eq!(pending, WITHDRAWAL.collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_grid_bot_has_an_outage_of_45_seconds_every_four_minutes() {
        let at = |second| find_outage(Duration::from_secs(second));
        assert_eq!(at(59), None);
        assert_eq!(at(60), Some((1, Duration::from_secs(45))));
        assert_eq!(at(104), Some((1, Duration::from_secs(1))));
        assert_eq!(at(105), None);
        assert_eq!(at(300), Some((2, Duration::from_secs(45))));
    }

    #[test]
    fn decimals_look_like_the_exchanges() {
        for (amount, text) in [
            (0, "0.00"),
            (1, "0.00000001"),
            (150 * UNIT, "150.00"),
            (306_217_437_341, "3062.17437341"),
            (UNIT / 2, "0.50"),
        ] {
            assert_eq!(format_decimal(amount), text);
        }
    }

    /// A part of the state page.
    fn read_state(simulator: &Simulator, pointer: &str) -> serde_json::Value {
        let state = simulator.lock_exchange().to_json(Instant::now());
        state.pointer(pointer).cloned().unwrap_or_default()
    }

    #[tokio::test(start_paused = true)]
    async fn the_market_moves_only_its_own_balances() -> Result<(), Box<dyn std::error::Error>> {
        let simulator = Simulator::new(SimulatorConfig::default(), create_accounts());
        let rows = "/accounts/market-maker/balances/spot";
        let before = read_state(&simulator, rows);
        simulator.set_balance("market-maker", SimulatedWallet::Spot, "btc", "1", "2")?;
        simulator.remove_balance("market-maker", SimulatedWallet::Spot, "eth")?;
        run_market(&simulator, tokio::time::sleep(Duration::from_millis(95_500))).await;
        let after = read_state(&simulator, rows);
        let market_maker = compute_balances(Duration::from_secs(95));
        let usdt =
            market_maker.iter().find(|(key, _)| key.account == "market-maker" && key.currency == "usdt");
        assert_eq!(Some(after["usdt"].clone()), usdt.map(|(_, balance)| serde_json::json!(balance)));
        assert_ne!(before["usdt"], after["usdt"]);
        assert_eq!(after["btc"], serde_json::json!({"available": "1", "freeze": "2"}));
        assert_eq!(after["eth"], serde_json::Value::Null);
        let fault = serde_json::json!({"account": "grid-bot", "seconds": 45.0, "effect": "maintenance"});
        assert_eq!(read_state(&simulator, "/faults/0/fault"), fault);
        assert_eq!(read_state(&simulator, "/faults/0/ends_in_seconds"), 10);
        assert_eq!(read_state(&simulator, "/faults/1"), serde_json::Value::Null);
        Ok(())
    }

    #[test]
    fn prices_move_a_little_and_are_the_same_on_every_run() {
        let at = |second| compute_prices(Duration::from_secs(second));
        assert_eq!(at(77), at(77));
        let number = |text: &str| text.parse::<f64>().unwrap_or_else(|error| panic!("{text}: {error}"));
        let (mut least, mut most) = (f64::MAX, 0.0_f64);
        for second in 0..1_800 {
            let now = at(second);
            for currency in &CURRENCIES[1..] {
                let market = format!("{}_usdt", currency.name);
                let Some(price) = now.get(&market).map(|price| number(price)) else {
                    assert!(UNTRADED.contains(&currency.name), "{market}");
                    continue;
                };
                let mean = f64::from(u32::try_from(currency.mean_price).unwrap_or(u32::MAX)) / 1_000.0;
                assert!((price / mean - 1.0).abs() <= 0.005_01, "{market} at {second}: {price}");
            }
            let usdc = number(&now["usdc_usdt"]);
            (least, most) = (least.min(usdc), most.max(usdc));
        }
        assert!(least >= 0.9997 && most <= 1.000_3 && most - least > 0.000_2, "{least} to {most}");
        let (now, later) = (at(77), at(107));
        let moved = now.iter().filter(|(market, price)| later.get(*market) != Some(price)).count();
        assert!(moved > now.len() * 9 / 10, "{moved} of {} moved", now.len());
        assert!(now.keys().any(|market| market.ends_with("_btc")));
    }

    #[tokio::test(start_paused = true)]
    async fn the_market_moves_only_its_own_prices() {
        let simulator = create_simulator(create_accounts());
        simulator.set_price("btc_usdt", "1");
        assert!(simulator.remove_price("eth_usdt"));
        run_market(&simulator, tokio::time::sleep(Duration::from_millis(95_500))).await;
        let after = read_state(&simulator, "/prices");
        let expected = compute_prices(Duration::from_secs(95));
        assert_eq!(after["usdc_usdt"], serde_json::json!(expected["usdc_usdt"]));
        assert_ne!(expected["usdc_usdt"], compute_prices(Duration::ZERO)["usdc_usdt"]);
        assert_eq!(
            (&after["btc_usdt"], &after["eth_usdt"]),
            (&serde_json::json!("1"), &serde_json::Value::Null)
        );
    }

    #[test]
    fn balances_move_and_are_the_same_on_every_run() {
        let at = |second| compute_balances(Duration::from_secs(second));
        assert_eq!(at(77), at(77));
        let (now, later) = (at(77), at(78));
        let moved = now.iter().filter(|(key, balance)| later.get(key) != Some(balance)).count();
        assert!((5..120).contains(&moved), "{moved} of {} moved", now.len());
        let zeros =
            now.values().filter(|balance| balance.available == "0.00" && balance.freeze == "0.00").count();
        assert!((10..60).contains(&zeros), "{zeros} of {} are zero", now.len());
    }
}
