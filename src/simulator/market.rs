//! The demo's world: five made-up accounts that trade, drain and get topped up, on markets whose prices move.
//!
//! Every amount is a pure function of the time since the start, in integers of 1e-8; only [`run_market`] keeps time. Knows the
//! simulator, not the exchange's rules.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Effect, Fault, SimulatedAccount, SimulatedBalance, SimulatedWallet, Simulator, SimulatorConfig};

/// One unit of a currency in the integers of this module: amounts have 8 decimals.
const UNIT: u64 = 100_000_000;

/// The accounts as they are at the start.
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
    for (place, balance) in balances(Duration::ZERO) {
        if let Some(account) = accounts.iter_mut().find(|account| account.name == place.account) {
            let rows = account.wallets.entry(place.wallet).or_default();
            rows.insert(place.currency.to_owned(), balance);
        }
    }
    accounts
}

/// An exchange with these accounts, and the markets as they are at the start.
#[must_use]
pub fn create_simulator(accounts: Vec<SimulatedAccount>) -> Simulator {
    let simulator = Simulator::new(SimulatorConfig::default(), accounts);
    simulator.exchange().prices = prices(Duration::ZERO);
    simulator
}

/// Moves balances and prices once a second and begins the outages, until `shutdown` is done.
///
/// A balance or price that was set or removed by anyone else is left alone from then on.
pub async fn run_market(simulator: &Simulator, shutdown: impl Future<Output = ()>) {
    let mut shutdown = std::pin::pin!(shutdown);
    let start = Instant::now();
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut before, mut paid) = (balances(Duration::ZERO), prices(Duration::ZERO));
    let mut outages = 0;
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            _ = second.tick() => {}
        }
        let elapsed = start.elapsed();
        let after = balances(elapsed);
        for (place, balance) in &after {
            if let Some(last) = before.get(place).filter(|last| *last != balance) {
                let mut exchange = simulator.exchange();
                let row = exchange
                    .rows(place.account, place.wallet)
                    .ok()
                    .and_then(|rows| rows.get_mut(place.currency));
                if let Some(row) = row.filter(|row| *row == last) {
                    row.clone_from(balance);
                }
            }
        }
        before = after;
        let pays = prices(elapsed);
        for (market, price) in &pays {
            let mut exchange = simulator.exchange();
            let shown = exchange.prices.get_mut(market);
            if let Some(shown) = shown.filter(|shown| paid.get(market) == Some(shown)) {
                shown.clone_from(price);
            }
        }
        paid = pays;
        if let Some((outage, left)) = outage(elapsed).filter(|(outage, _)| *outage > outages) {
            outages = outage;
            simulator.inject_fault(Fault::new(Effect::Maintenance).for_account(OUTAGE_OF).for_duration(left));
        }
    }
}

const OUTAGE_OF: &str = "grid-bot";
const OUTAGE_FIRST: Duration = Duration::from_mins(1);
const OUTAGE_EVERY: Duration = Duration::from_mins(4);
const OUTAGE: Duration = Duration::from_secs(45);

/// The number of the outage that is on, counted from 1, and how much of it is left.
fn outage(elapsed: Duration) -> Option<(u128, Duration)> {
    let since = elapsed.checked_sub(OUTAGE_FIRST)?.as_millis();
    let every = OUTAGE_EVERY.as_millis();
    let into = Duration::from_millis(u64::try_from(since % every).ok()?);
    let left = OUTAGE.checked_sub(into).filter(|left| !left.is_zero())?;
    Some((since / every + 1, left))
}

/// Where a balance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct BalanceKey {
    account: &'static str,
    wallet: SimulatedWallet,
    currency: &'static str,
}

const NAMES: [&str; 5] = ["treasury", "market-maker", "arbitrage", "cold-storage", "grid-bot"];

/// A currency: its price in thousandths of a USDT, which sets how much of it an account holds, and its decimals.
struct CurrencyProfile {
    name: &'static str,
    price: u64,
    decimals: u32,
}

const fn currency(name: &'static str, price: u64, decimals: u32) -> CurrencyProfile {
    CurrencyProfile { name, price, decimals }
}

/// In the order in which accounts take them up: the first ones everywhere, the last ones only in a few.
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

/// Without a market against USDT, as what is not listed yet or not any more.
const UNTRADED: [&str; 2] = ["aleo(iou)", "gal(ft)"];

/// Markets against others than USDT.
const CROSSES: [(&str, &str); 4] = [("eth", "btc"), ("ltc", "btc"), ("sol", "eth"), ("xt", "btc")];

/// What was last paid on every market at a time since the start, to the second.
fn prices(elapsed: Duration) -> BTreeMap<String, String> {
    let second = elapsed.as_secs();
    let of = |name: &str| {
        let currency = CURRENCIES.iter().find(|currency| currency.name == name);
        currency.map_or(UNIT, |currency| price(currency, second))
    };
    let traded = CURRENCIES.iter().skip(1).filter(|currency| !UNTRADED.contains(&currency.name));
    let against_usdt =
        traded.map(|currency| (format!("{}_usdt", currency.name), decimal(price(currency, second))));
    let crosses = CROSSES.into_iter().map(|(base, quote)| {
        let ratio = u128::from(of(base)) * u128::from(UNIT) / u128::from(of(quote));
        (format!("{base}_{quote}"), decimal(u64::try_from(ratio).unwrap_or(u64::MAX)))
    });
    against_usdt.chain(crosses).collect()
}

/// What was last paid for one of a currency, in 1e-8 USDT: half a percent up and down from minute to minute, but a
/// stablecoin keeps near its peg. Six digits of it.
fn price(currency: &CurrencyProfile, second: u64) -> u64 {
    let mean = currency.price * (UNIT / 1_000);
    let swing = if currency.name == "usdc" { mean * 3 / 10_000 } else { mean / 200 };
    let level = |minute: u64| hash(&[text(currency.name), minute, 3]) % 1_001;
    let (minute, into) = (second / 60, second % 60);
    let level = (level(minute) * (60 - into) + level(minute + 1) * into) / 60;
    let price = mean - swing + 2 * swing * level / 1_000;
    let grain = 10_u64.pow(price.checked_ilog10().unwrap_or_default().saturating_sub(5));
    price / grain * grain
}

/// How an account behaves.
struct AccountProfile {
    account: &'static str,
    wallet: SimulatedWallet,
    /// How many of the currencies it lists.
    listed: usize,
    /// About how many thousandths of a USDT it holds of each.
    worth: u64,
    /// One in so many of its rows is zero; 0 for none.
    empty: u64,
    /// Seconds between two of its trades of one currency; 0 if it never trades.
    pace: u64,
    /// The most of a balance that is in orders, in percent.
    in_orders: u64,
}

const HABITS: [AccountProfile; 9] = [
    habit("treasury", SimulatedWallet::Spot, 32, 180_000_000, 5, 41, 8),
    habit("treasury", SimulatedWallet::Wallet, 12, 420_000_000, 4, 0, 0),
    habit("market-maker", SimulatedWallet::Spot, 36, 9_000_000, 7, 3, 70),
    habit("arbitrage", SimulatedWallet::Spot, 28, 21_000_000, 6, 2, 35),
    habit("arbitrage", SimulatedWallet::FuturesUsdt, 1, 14_000_000, 0, 4, 60),
    habit("arbitrage", SimulatedWallet::FuturesCoin, 2, 8_000_000, 0, 6, 40),
    habit("cold-storage", SimulatedWallet::Spot, 24, 2_600_000_000, 3, 0, 0),
    habit("grid-bot", SimulatedWallet::Spot, 26, 1_400_000, 5, 5, 85),
    habit("grid-bot", SimulatedWallet::Wallet, 6, 300_000, 2, 0, 0),
];

const fn habit(
    account: &'static str,
    wallet: SimulatedWallet,
    listed: usize,
    worth: u64,
    empty: u64,
    pace: u64,
    in_orders: u64,
) -> AccountProfile {
    AccountProfile { account, wallet, listed, worth, empty, pace, in_orders }
}

/// Every balance at a time since the start, to the second.
fn balances(elapsed: Duration) -> BTreeMap<BalanceKey, SimulatedBalance> {
    let second = elapsed.as_secs();
    let mut balances = BTreeMap::new();
    for habit in &HABITS {
        // The first is what coins are priced in, and no margin among them.
        let first = usize::from(habit.wallet == SimulatedWallet::FuturesCoin);
        for currency in CURRENCIES.iter().skip(first).take(habit.listed) {
            let place = BalanceKey { account: habit.account, wallet: habit.wallet, currency: currency.name };
            let (available, freeze) = amounts(habit, currency, second);
            balances.insert(place, SimulatedBalance::new(&decimal(available), &decimal(freeze)));
        }
    }
    for (currency, amount) in [("usd", 48_120_350_000_000), ("eur", 1_204_900_000_000), ("try", 0)] {
        let place = BalanceKey { account: "treasury", wallet: SimulatedWallet::Fiat, currency };
        balances.insert(place, SimulatedBalance::new(&decimal(amount), &decimal(0)));
    }
    balances
}

/// What is free and what is frozen of one currency, in 1e-8.
fn amounts(habit: &AccountProfile, currency: &CurrencyProfile, second: u64) -> (u64, u64) {
    if habit.account == "market-maker" && currency.name == "usdt" {
        return market_maker_usdt(second);
    }
    let seed = hash(&[text(habit.account), habit.wallet as u64, text(currency.name)]);
    let is_major = matches!(currency.name, "usdt" | "btc" | "eth");
    if habit.empty > 0 && seed.is_multiple_of(habit.empty) && !is_major {
        return (0, 0);
    }
    // Between half and one and a half of the account's usual worth.
    let worth = u128::from(habit.worth * (500 + seed % 1_000) / 1_000);
    let total = worth * u128::from(UNIT) / u128::from(currency.price);
    let total = u64::try_from(total).unwrap_or(u64::MAX / 2);
    let total = total + hash(&[seed]) % (total / 1_000 + 1);
    let grain = 10_u64.pow(8 - currency.decimals.min(8));
    if habit.pace == 0 {
        return (total / grain * grain, 0);
    }
    // Each currency trades on its own beat: some of it moves between free and frozen, and up to a tenth of it is out in
    // other currencies.
    let beat = (second + seed % 60) / (habit.pace + seed % 7);
    let dice = hash(&[seed, beat]);
    let total = total - total / 10_000 * (dice % 1_000);
    let frozen = total / 1_000 * (hash(&[dice]) % (habit.in_orders * 10 + 1));
    let (total, frozen) = (total / grain * grain, frozen / grain * grain);
    (total - frozen, frozen)
}

/// The balance that runs low: from 1 800 below 500 after some 75 seconds, near 200 at 110, topped up at 130, again
/// every three minutes.
fn market_maker_usdt(second: u64) -> (u64, u64) {
    const CYCLE: u64 = 180;
    /// Seconds into the cycle and whole USDT, the last point being the first of the next cycle.
    const COURSE: [(u64, u64); 6] =
        [(0, 1_800), (75, 480), (110, 205), (130, 203), (131, 1_790), (CYCLE, 1_800)];
    let into = second % CYCLE;
    let legs = COURSE.iter().zip(COURSE.iter().skip(1));
    let mut available = 0;
    for (&(from, low), &(to, high)) in legs {
        if (from..to).contains(&into) {
            let (before, after) = (low * UNIT, high * UNIT);
            available = (before * (to - into) + after * (into - from)) / (to - from);
        }
    }
    let wobble = hash(&[second, 1]) % (4 * UNIT);
    let orders = 120 * UNIT + hash(&[second / 4, 2]) % (260 * UNIT);
    (available + wobble, orders)
}

/// A decimal of 1e-8 with at least two digits after the point and no further trailing zeros.
fn decimal(amount: u64) -> String {
    let digits = format!("{}.{:08}", amount / UNIT, amount % UNIT);
    let kept = digits.trim_end_matches('0').len();
    let least = digits.len() - 6;
    digits.chars().take(kept.max(least)).collect()
}

fn text(text: &str) -> u64 {
    text.bytes().fold(0, |sum, byte| hash(&[sum, u64::from(byte)]))
}

/// Numbers that look random and never change: the finalizer of `SplitMix64` over each value.
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

    fn free_usdt(second: u64) -> u64 {
        market_maker_usdt(second).0
    }

    #[test]
    fn the_market_maker_runs_low_and_is_topped_up_every_cycle() {
        for cycle in [0, 180, 1_800] {
            assert!(free_usdt(cycle) >= 1_800 * UNIT);
            assert!((0..60).all(|second| free_usdt(cycle + second) > 500 * UNIT));
            assert!((90..130).all(|second| free_usdt(cycle + second) < 500 * UNIT));
            assert!((110..130).any(|second| free_usdt(cycle + second) < 210 * UNIT));
            assert!((150..180).all(|second| free_usdt(cycle + second) > 1_700 * UNIT));
        }
    }

    #[test]
    fn the_grid_bot_is_out_for_45_seconds_in_every_four_minutes() {
        let at = |second| outage(Duration::from_secs(second));
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
            assert_eq!(decimal(amount), text);
        }
    }

    /// The world as the exchange's state shows it.
    fn shown(simulator: &Simulator, pointer: &str) -> serde_json::Value {
        let state = simulator.exchange().state(Instant::now());
        state.pointer(pointer).cloned().unwrap_or_default()
    }

    #[tokio::test(start_paused = true)]
    async fn live_moves_what_nobody_else_has_touched() -> Result<(), Box<dyn std::error::Error>> {
        let simulator = Simulator::new(super::super::SimulatorConfig::default(), create_accounts());
        let rows = "/accounts/market-maker/balances/spot";
        let before = shown(&simulator, rows);
        simulator.set_balance("market-maker", SimulatedWallet::Spot, "btc", "1", "2")?;
        simulator.remove_balance("market-maker", SimulatedWallet::Spot, "eth")?;
        run_market(&simulator, tokio::time::sleep(Duration::from_millis(95_500))).await;
        let after = shown(&simulator, rows);
        let market_maker = balances(Duration::from_secs(95));
        let usdt = market_maker
            .iter()
            .find(|(place, _)| place.account == "market-maker" && place.currency == "usdt");
        assert_eq!(Some(after["usdt"].clone()), usdt.map(|(_, balance)| serde_json::json!(balance)));
        assert_ne!(before["usdt"], after["usdt"]);
        assert_eq!(after["btc"], serde_json::json!({"available": "1", "freeze": "2"}));
        assert_eq!(after["eth"], serde_json::Value::Null);
        let fault = serde_json::json!({"account": "grid-bot", "seconds": 45.0, "effect": "maintenance"});
        assert_eq!(shown(&simulator, "/faults/0/fault"), fault);
        assert_eq!(shown(&simulator, "/faults/0/ends_in_seconds"), 10);
        assert_eq!(shown(&simulator, "/faults/1"), serde_json::Value::Null);
        Ok(())
    }

    #[test]
    fn prices_move_a_little_and_are_the_same_every_time() {
        let at = |second| prices(Duration::from_secs(second));
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
                let mean = f64::from(u32::try_from(currency.price).unwrap_or(u32::MAX)) / 1_000.0;
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
    async fn live_moves_prices_that_nobody_else_has_touched() {
        let simulator = create_simulator(create_accounts());
        simulator.set_price("btc_usdt", "1");
        assert!(simulator.remove_price("eth_usdt"));
        run_market(&simulator, tokio::time::sleep(Duration::from_millis(95_500))).await;
        let after = shown(&simulator, "/prices");
        let expected = prices(Duration::from_secs(95));
        assert_eq!(after["usdc_usdt"], serde_json::json!(expected["usdc_usdt"]));
        assert_ne!(expected["usdc_usdt"], prices(Duration::ZERO)["usdc_usdt"]);
        assert_eq!(
            (&after["btc_usdt"], &after["eth_usdt"]),
            (&serde_json::json!("1"), &serde_json::Value::Null)
        );
    }

    #[test]
    fn the_world_is_lively_and_the_same_every_time() {
        let at = |second| balances(Duration::from_secs(second));
        assert_eq!(at(77), at(77));
        let (now, later) = (at(77), at(78));
        let moved = now.iter().filter(|(place, balance)| later.get(place) != Some(balance)).count();
        assert!((5..120).contains(&moved), "{moved} of {} moved", now.len());
        let zeros =
            now.values().filter(|balance| balance.available == "0.00" && balance.freeze == "0.00").count();
        assert!((10..60).contains(&zeros), "{zeros} of {} are zero", now.len());
    }
}
