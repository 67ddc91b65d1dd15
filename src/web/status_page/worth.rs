//! The worth of balances in USDT, and sums of it. A balance without a price is counted and not taken for 0, and an unknown
//! wallet is named. No markup.

use std::fmt;

use super::input::WalletLink;
use crate::{
    clock::Timestamp,
    exchange::PriceTable,
    snapshot::{
        prices::count_unpriced,
        wallet::{Holding, WalletSnapshot},
    },
};

/// The worth of one wallet or of several.
#[derive(Clone, Default)]
pub(super) struct Worth<'a> {
    /// The worth of all balances that have a price.
    pub(super) usdt: f64,
    /// Balances without a price.
    pub(super) unpriced: u64,
    /// Wallets with unknown balances.
    pub(super) unknown: Vec<WalletLink<'a>>,
}

impl<'a> Worth<'a> {
    pub(super) fn of_wallet(
        link: WalletLink<'a>,
        snapshot: &WalletSnapshot,
        prices: &PriceTable,
        now: Timestamp,
    ) -> Self {
        let Some(good) = snapshot.visible(now) else {
            return Self { unknown: vec![link], ..Self::default() };
        };
        let usdt = good.holdings.iter().filter_map(|holding| worth_of_holding(holding, prices)).sum();
        Self { usdt, unpriced: count_unpriced(good, prices), unknown: Vec::new() }
    }

    pub(super) fn sum<'b>(parts: impl IntoIterator<Item = &'b Self>) -> Self
    where
        'a: 'b,
    {
        parts.into_iter().fold(Self::default(), |mut sum, part| {
            sum.usdt += part.usdt;
            sum.unpriced += part.unpriced;
            sum.unknown.extend(&part.unknown);
            sum
        })
    }

    pub(super) fn text(&self) -> WorthText {
        WorthText(self.usdt)
    }

    /// The first unknown wallets, and the number of the others.
    pub(super) fn unknown_names(&self, max: usize) -> (&[WalletLink<'a>], usize) {
        let shown = self.unknown.get(..max).unwrap_or(&self.unknown);
        (shown, self.unknown.len() - shown.len())
    }
}

/// `None` without a price or known amounts.
pub(super) fn worth_of_holding(holding: &Holding, prices: &PriceTable) -> Option<f64> {
    let (free, frozen) = holding.state.amounts()?;
    Some((free + frozen) * prices.get(&holding.currency)?)
}

/// A worth in USDT: whole numbers from a thousand on, in groups of three digits, and two decimals below.
#[derive(Clone, Copy, Debug)]
pub(super) struct WorthText(pub(super) f64);

impl fmt::Display for WorthText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NARROW_SPACE: char = '\u{202f}';
        let size = self.0.abs();
        if size > 0.0 && size < 0.005 {
            return f.write_str(if self.0 < 0.0 { "> −0.01" } else { "< 0.01" });
        }
        if self.0 < 0.0 {
            f.write_str("−")?;
        }
        if !(999.995..1e18).contains(&size) {
            return write!(f, "{size:.2}");
        }
        let digits = format!("{size:.0}");
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place).is_multiple_of(3) {
                write!(f, "{NARROW_SPACE}")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worth_is_short_and_never_rounded_to_zero() {
        for (usdt, expected) in [
            (0.0, "0.00"),
            (0.004, "< 0.01"),
            (-0.001, "> −0.01"),
            (12.345, "12.35"),
            (999.994, "999.99"),
            (999.999, "1\u{202f}000"),
            (42_130_512.4, "42\u{202f}130\u{202f}512"),
            (-1_234.0, "−1\u{202f}234"),
            (100_000.0, "100\u{202f}000"),
        ] {
            assert_eq!(WorthText(usdt).to_string(), expected, "{usdt}");
        }
    }
}
