//! Open futures positions, as all modules share them. `futures_positions` decodes replies into them.
//! Depends on neither JSON nor requests.

use smol_str::SmolStr;

use super::{amount::Amount, balance::Wallet};

/// An open position: one symbol and one side.
#[derive(Clone, Debug, PartialEq)]
pub struct Position {
    /// Lower case, 1 to 64 bytes, no control characters.
    pub symbol: SmolStr,
    /// Whether the position gains or loses when the price rises.
    pub side: PositionSide,
    /// `None` if the answer names no known mode.
    pub margin_mode: Option<MarginMode>,
    /// The number of contracts, above 0.
    pub size: Amount,
    /// The mean price at which it was opened, above 0; `None` if the answer has none. Prices are in the quote currency.
    pub entry_price: Option<Amount>,
    /// The mark price, above 0, which triggers liquidation; `None` if the answer has none.
    pub mark_price: Option<Amount>,
    /// The mark price at which the exchange liquidates the position, above 0; `None` if it has no such price.
    pub liquidation_price: Option<Amount>,
    /// Above 0; `None` if the answer has none.
    pub leverage: Option<Amount>,
    /// The profit or loss if it was closed at the mark price, in the settlement currency; `None` if the answer has none.
    pub unrealised_pnl: Option<Amount>,
}

impl Position {
    /// The distance from the mark price to the liquidation price as a part of the mark price; negative if the mark price is
    /// beyond the liquidation price. `None` if one of them is unknown.
    #[must_use]
    pub fn liquidation_distance(&self) -> Option<f64> {
        let (mark, liquidation) =
            (self.mark_price.as_ref()?.value(), self.liquidation_price.as_ref()?.value());
        let gap = match self.side {
            PositionSide::Long => mark - liquidation,
            PositionSide::Short => liquidation - mark,
        };
        Some(gap / mark).filter(|distance| distance.is_finite())
    }
}

/// The side of a position; the `side` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PositionSide {
    /// Gains when the price rises.
    Long,
    /// Gains when the price falls.
    Short,
}

impl PositionSide {
    /// The value of the `side` label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Long => "long",
            Self::Short => "short",
        }
    }
}

/// What covers the losses of a position; the `margin_mode` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarginMode {
    /// The whole available balance of the settlement currency.
    Crossed,
    /// The margin of the position alone.
    Isolated,
}

impl MarginMode {
    /// The value of the `margin_mode` label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Crossed => "crossed",
            Self::Isolated => "isolated",
        }
    }
}

/// A good answer with positions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PositionAnswer {
    /// Usable rows of open positions, sorted by symbol and side. Each symbol and side occurs once.
    pub positions: Vec<Position>,
    /// The number of unusable rows.
    pub rejected: u64,
}

/// The currency in which positions of `symbol` settle: USDT for USDT-margined ones, the base currency for coin-margined
/// ones. `None` for symbols of other forms and for wallets without positions.
#[must_use]
pub fn settlement_currency(wallet: Wallet, symbol: &str) -> Option<&str> {
    let mut parts = symbol.split('_');
    let (base, quote) = (parts.next()?, parts.next()?);
    match (wallet, quote) {
        (Wallet::FuturesUsdt, "usdt") => Some(quote),
        (Wallet::FuturesCoin, "usd") => Some(base).filter(|base| !base.is_empty()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_settle_in_usdt_or_in_their_base_currency() {
        for (wallet, symbol, expected) in [
            (Wallet::FuturesUsdt, "btc_usdt", Some("usdt")),
            (Wallet::FuturesUsdt, "btc_usdt_260326", Some("usdt")),
            (Wallet::FuturesUsdt, "btc_usdc", None),
            (Wallet::FuturesUsdt, "btcusdt", None),
            (Wallet::FuturesUsdt, "usdt", None),
            (Wallet::FuturesCoin, "btc_usd", Some("btc")),
            (Wallet::FuturesCoin, "btc_usd_260326", Some("btc")),
            (Wallet::FuturesCoin, "_usd", None),
            (Wallet::FuturesCoin, "btc_usdt", None),
            (Wallet::Spot, "btc_usdt", None),
        ] {
            assert_eq!(settlement_currency(wallet, symbol), expected, "{wallet} {symbol}");
        }
    }

    #[test]
    fn the_distance_is_a_part_of_the_mark_price_on_both_sides() {
        let position = |side: PositionSide, mark: &str, liquidation: &str| Position {
            symbol: "btc_usdt".into(),
            side,
            margin_mode: None,
            size: Amount::parse("1").unwrap_or_else(|| panic!("1 is an amount")),
            entry_price: None,
            mark_price: Amount::parse(mark),
            liquidation_price: Amount::parse(liquidation),
            leverage: None,
            unrealised_pnl: None,
        };
        for (mark, liquidation, expected) in [
            ("100", "75", Some(0.25)),
            ("100", "125", Some(-0.25)),
            ("100", "100", Some(0.0)),
            ("", "75", None),
            ("100", "", None),
            ("1e-320", "1e300", None),
        ] {
            let [long, short] = [PositionSide::Long, PositionSide::Short]
                .map(|side| position(side, mark, liquidation).liquidation_distance());
            let opposite = expected.map(|distance| 0.0 - distance);
            assert_eq!((long, short), (expected, opposite), "{mark} {liquidation}");
        }
    }
}
