//! The positions of the demo market. Their mark prices walk, and one position comes close to its liquidation price and
//! back in every cycle.
//!
//! Every amount is a pure function of the time since the start, in integers of 1e-8. Must not know limits, signatures or
//! answers.

use std::collections::BTreeMap;

use super::{
    account::SimulatedWallet,
    handle::Simulator,
    position::{PositionKey, SimulatedPosition, SimulatedSide},
};

const UNIT: i128 = 100_000_000;

/// The account that has positions.
pub(super) const ACCOUNT: &str = "arbitrage";

/// Seconds from the start to the moment at which the walk of the endangered position repeats.
const CYCLE: u64 = 240;
/// Seconds since the start of the cycle and the mark price in hundredths. The last point is the first point of the next
/// cycle.
const WALK: [(u64, i128); 6] =
    [(0, 370_000), (30, 352_000), (60, 315_000), (205, 312_000), (225, 371_000), (CYCLE, 370_000)];

/// Positions by wallet.
pub(super) type Positions = BTreeMap<SimulatedWallet, BTreeMap<PositionKey, SimulatedPosition>>;

/// Replaces each position that is still as in `old` by the one at `second` seconds since the start.
pub(super) fn move_positions(simulator: &Simulator, old: &mut Positions, second: u64) {
    let new = compute_positions(second);
    for (wallet, positions) in &new {
        for (key, position) in positions {
            let last = old.get(wallet).and_then(|positions| positions.get(key));
            let mut exchange = simulator.lock_exchange();
            let served = exchange.positions_mut(ACCOUNT, *wallet).ok();
            let served = served.and_then(|positions| positions.get_mut(key));
            if let Some(served) = served.filter(|served| last == Some(served)) {
                served.clone_from(position);
            }
        }
    }
    *old = new;
}

/// Every position at a time since the start, exact to the second.
pub(super) fn compute_positions(second: u64) -> Positions {
    let endangered = UnpricedPosition { size: 1_200, worth: UNIT / 100, entry: 3_180 * UNIT, leverage: 10 };
    let hedge = UnpricedPosition { size: 4_000, worth: UNIT / 10_000, entry: 63_900 * UNIT, leverage: 20 };
    let coin = UnpricedPosition { size: 50, worth: 100 * UNIT, entry: 63_500 * UNIT, leverage: 5 };
    let bitcoin_mark = 64_210 * UNIT + wave(second, 300) * (UNIT / 2);
    let usdt = [
        (
            ("eth_usdt".to_owned(), SimulatedSide::Long),
            endangered.linear(SimulatedSide::Long, walk(second), true),
        ),
        (
            ("btc_usdt".to_owned(), SimulatedSide::Short),
            hedge.linear(SimulatedSide::Short, bitcoin_mark, false),
        ),
    ];
    let coin = [(("btc_usd".to_owned(), SimulatedSide::Short), coin.inverse_short(bitcoin_mark))];
    BTreeMap::from([
        (SimulatedWallet::FuturesUsdt, BTreeMap::from(usdt)),
        (SimulatedWallet::FuturesCoin, BTreeMap::from(coin)),
    ])
}

/// The mark price of the endangered position.
fn walk(second: u64) -> i128 {
    let elapsed = second % CYCLE;
    let legs = WALK.iter().zip(WALK.iter().skip(1));
    let mut price = 0;
    for (&(from, start), &(to, end)) in legs {
        if (from..to).contains(&elapsed) {
            let (gone, left) = (i128::from(elapsed - from), i128::from(to - elapsed));
            price = (start * left + end * gone) * (UNIT / 100) / i128::from(to - from);
        }
    }
    price
}

/// A number from -200 to 200 that rises and falls with this period in seconds.
fn wave(second: u64, period: u64) -> i128 {
    let phase = i128::from(second % period) * 800 / i128::from(period);
    if phase < 400 { phase - 200 } else { 600 - phase }
}

/// A position before its mark price is known.
struct UnpricedPosition {
    /// Number of contracts.
    size: i128,
    /// What one contract is worth, in 1e-8 of the base currency; of USD if coin-margined.
    worth: i128,
    /// Entry price in 1e-8.
    entry: i128,
    leverage: u32,
}

impl UnpricedPosition {
    /// A USDT-margined position. If isolated, its liquidation price is where its margin is down to the maintenance margin
    /// of half a percent.
    fn linear(&self, side: SimulatedSide, mark: i128, isolated: bool) -> SimulatedPosition {
        let sign = if side == SimulatedSide::Long { 1 } else { -1 };
        let coins = self.size * self.worth;
        let margin = coins * self.entry / UNIT / i128::from(self.leverage);
        let profit = sign * coins * (mark - self.entry) / UNIT;
        let margin_per_coin = self.entry / i128::from(self.leverage);
        let liquidation = (self.entry - sign * margin_per_coin) * 1_000 / (1_000 - sign * 5);
        self.position(mark, if isolated { liquidation } else { 0 }, margin, profit)
    }

    /// A coin-margined short position with isolated margin, in the same way.
    fn inverse_short(&self, mark: i128) -> SimulatedPosition {
        let dollars = self.size * self.worth;
        let coins_at = |price: i128| dollars * UNIT / price;
        let margin = coins_at(self.entry) / i128::from(self.leverage);
        let profit = coins_at(mark) - coins_at(self.entry);
        let leverage = i128::from(self.leverage);
        let liquidation = self.entry * 995 * leverage / (1_000 * (leverage - 1));
        self.position(mark, liquidation, margin, profit)
    }

    fn position(&self, mark: i128, liquidation: i128, margin: i128, profit: i128) -> SimulatedPosition {
        // Prices have two decimals.
        let price = |amount: i128| format_decimal(amount / 1_000_000 * 1_000_000);
        SimulatedPosition {
            isolated: liquidation != 0,
            size: self.size.to_string(),
            entry: price(self.entry),
            mark: price(mark),
            liquidation: price(liquidation),
            leverage: self.leverage,
            margin: format_decimal(margin),
            profit: format_decimal(profit),
        }
    }
}

/// Formats an amount of 1e-8 without trailing zeros.
fn format_decimal(amount: i128) -> String {
    let sign = if amount < 0 { "-" } else { "" };
    let size = amount.unsigned_abs();
    let unit = UNIT.unsigned_abs();
    let text = format!("{sign}{}.{:08}", size / unit, size % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(second: u64, wallet: SimulatedWallet, symbol: &str) -> SimulatedPosition {
        let positions = compute_positions(second);
        let mut rows = positions.get(&wallet).into_iter().flatten();
        let found = rows.find(|((listed, _), _)| listed == symbol);
        found.map_or_else(|| panic!("no {symbol}"), |(_, position)| position.clone())
    }

    fn distance(second: u64) -> f64 {
        let position = position(second, SimulatedWallet::FuturesUsdt, "eth_usdt");
        let number = |text: &str| text.parse::<f64>().unwrap_or(f64::NAN);
        1.0 - number(&position.liquidation) / number(&position.mark)
    }

    #[test]
    fn one_position_comes_close_to_liquidation_and_back_in_every_cycle() {
        for cycle in [0, CYCLE, 10 * CYCLE] {
            let all = |mut seconds: std::ops::Range<u64>, holds: fn(f64) -> bool| {
                seconds.all(|second| holds(distance(cycle + second)))
            };
            assert!(all(0..15, |distance| distance > 0.2));
            assert!(all(20..50, |distance| distance < 0.2 && distance > 0.1));
            // Long enough for an alert that waits for two minutes.
            assert!(all(60..205, |distance| distance < 0.1 && distance > 0.05));
            assert!(all(225..240, |distance| distance > 0.2));
        }
    }

    #[test]
    fn amounts_follow_the_formulas_of_linear_and_inverse_contracts() {
        let long = position(0, SimulatedWallet::FuturesUsdt, "eth_usdt");
        // 12 ETH, (3700 - 3180) * 12, 12 * 3180 / 10 and (3180 - 318) / 0.995.
        let amounts = [&long.profit, &long.margin, &long.liquidation].map(String::as_str);
        assert_eq!(amounts, ["6240", "3816", "2876.38"]);
        let short = position(0, SimulatedWallet::FuturesUsdt, "btc_usdt");
        // 0.4 BTC, crossed: (63900 - 64110) * 0.4.
        let amounts = [&short.mark, &short.profit, &short.liquidation].map(String::as_str);
        assert_eq!(amounts, ["64110", "-84", "0"]);
        let coin = position(0, SimulatedWallet::FuturesCoin, "btc_usd");
        // 5000 / 64110 - 5000 / 63500, and 0.995 / ((1 - 1/5) / 63500).
        let amounts = [&coin.profit, &coin.liquidation].map(String::as_str);
        assert_eq!(amounts, ["-0.0007492", "78978.12"]);
    }
}
