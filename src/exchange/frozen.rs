//! Why an amount is frozen: the parts that the exchange sends beside it.
//! Depends on neither JSON nor wallets.

use super::amount::Amount;

/// Why a part of a balance is frozen; the `reason` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrozenReason {
    /// Held by open orders: `trade` of v4.
    Trade,
    /// Held by withdrawals: `withdraw` of v4.
    Withdraw,
    /// In locked products: `lock` of v4.
    Lock,
    /// Frozen by the exchange: `freeze` of v4.
    Freeze,
    /// Held by copy trading: `copyTrade` of v4.
    CopyTrade,
    /// The rest of the frozen amount, which no part explains, and Earn products of undocumented types.
    Other,
    /// Held by open orders of futures: `openOrderMarginFrozen`.
    OrderMargin,
    /// The margin of isolated positions: `isolatedMargin`.
    IsolatedMargin,
    /// The initial margin of cross positions: `crossedMargin`.
    CrossedMargin,
    /// Fees held for open orders of futures: `openOrderFeeFrozen`.
    OrderFee,
    /// In an Earn product.
    Earn(EarnProduct),
}

impl FrozenReason {
    /// The value of the `reason` label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Trade => "trade",
            Self::Withdraw => "withdraw",
            Self::Lock => "lock",
            Self::Freeze => "freeze",
            Self::CopyTrade => "copy_trade",
            Self::Other => "other",
            Self::OrderMargin => "order_margin",
            Self::IsolatedMargin => "isolated_margin",
            Self::CrossedMargin => "crossed_margin",
            Self::OrderFee => "order_fee",
            Self::Earn(product) => product.label(),
        }
    }
}

/// A documented type of Earn products, named as the exchange names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EarnProduct {
    /// `DEMAND_SAVING`.
    DemandSaving,
    /// `TIME_SAVING`.
    TimeSaving,
    /// `FLASH_SALE`.
    FlashSale,
    /// `ON_CHAIN_EARN`.
    OnChainEarn,
    /// `XRWU`.
    Xrwu,
    /// `WEALTH_MANAGEMENT`.
    WealthManagement,
    /// `SHARK_FIN`.
    SharkFin,
    /// `SMART_TREND`.
    SmartTrend,
}

impl EarnProduct {
    /// All documented types.
    pub const ALL: [Self; 8] = [
        Self::DemandSaving,
        Self::TimeSaving,
        Self::FlashSale,
        Self::OnChainEarn,
        Self::Xrwu,
        Self::WealthManagement,
        Self::SharkFin,
        Self::SmartTrend,
    ];

    /// The value of the `reason` label: the exchange's name in lower case.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::DemandSaving => "demand_saving",
            Self::TimeSaving => "time_saving",
            Self::FlashSale => "flash_sale",
            Self::OnChainEarn => "on_chain_earn",
            Self::Xrwu => "xrwu",
            Self::WealthManagement => "wealth_management",
            Self::SharkFin => "shark_fin",
            Self::SmartTrend => "smart_trend",
        }
    }
}

/// A part of a frozen amount.
#[derive(Clone, Debug, PartialEq)]
pub struct FrozenPart {
    /// Why it is frozen.
    pub reason: FrozenReason,
    /// The amount as the exchange wrote it; the exact difference for [`FrozenReason::Other`], and the exact sum of several
    /// Earn positions.
    pub amount: Amount,
}

/// The parts of a frozen amount that the exchange sent, each reason at most once. A part that it did not send is unknown,
/// and not 0. Most balances have none: as large as a pointer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FrozenParts(Option<Box<PartList>>);

/// Behind one pointer, because a slice would make every balance larger.
#[derive(Clone, Debug, PartialEq)]
struct PartList(Vec<FrozenPart>);

impl FrozenParts {
    /// No part.
    pub const NONE: Self = Self(None);

    /// The parts that are present among `parts`.
    #[must_use]
    pub(super) fn new<const N: usize>(parts: [(FrozenReason, Option<Amount>); N]) -> Self {
        let count = parts.iter().filter(|(_, amount)| amount.is_some()).count();
        let mut list = Vec::with_capacity(count);
        let part = |(reason, amount): (FrozenReason, Option<Amount>)| {
            amount.map(|amount| FrozenPart { reason, amount })
        };
        list.extend(parts.into_iter().filter_map(part));
        Self((count > 0).then(|| Box::new(PartList(list))))
    }

    /// The parts with the amounts of each reason added exactly. If one amount of a reason is unknown, so is its part.
    #[must_use]
    pub(super) fn sum(parts: impl IntoIterator<Item = (FrozenReason, Option<Amount>)>) -> Self {
        let mut sums: Vec<(FrozenReason, Option<Amount>)> = Vec::new();
        for (reason, amount) in parts {
            match sums.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, sum)) => *sum = sum.take().zip(amount).and_then(|(sum, amount)| sum.plus(&amount)),
                None => sums.push((reason, amount)),
            }
        }
        let part = |(reason, amount): (FrozenReason, Option<Amount>)| {
            amount.map(|amount| FrozenPart { reason, amount })
        };
        let list: Vec<_> = sums.into_iter().filter_map(part).collect();
        Self((!list.is_empty()).then(|| Box::new(PartList(list))))
    }

    /// Adds what the parts leave of `frozen`, if that is not 0 and there are parts.
    ///
    /// A part that was not sent may be in the rest. Without any part the rest would repeat the whole amount and explain
    /// nothing, so it is left out.
    #[must_use]
    pub(super) fn with_rest_of(mut self, frozen: &Amount) -> Self {
        if let Some(list) = &mut self.0 {
            let mut parts = list.0.iter().filter(|part| part.amount.value() != 0.0);
            let rest = parts.try_fold(frozen.clone(), |rest, part| rest.minus(&part.amount));
            if let Some(amount) = rest.filter(|rest| rest.value() != 0.0) {
                match list.0.iter_mut().find(|part| part.reason == FrozenReason::Other) {
                    Some(other) => other.amount = other.amount.plus(&amount).unwrap_or(amount),
                    None => list.0.push(FrozenPart { reason: FrozenReason::Other, amount }),
                }
            }
        }
        self
    }

    /// The parts.
    pub fn iter(&self) -> impl Iterator<Item = &FrozenPart> {
        self.0.iter().flat_map(|list| &list.0)
    }

    /// Whether every part is 0.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.iter().all(|part| part.amount.value() == 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(parts: &FrozenParts) -> Vec<String> {
        parts.iter().map(|part| format!("{} {}", part.reason.label(), part.amount.text())).collect()
    }

    fn parts(trade: Option<&str>, withdraw: Option<&str>, frozen: &str) -> Vec<String> {
        let amount = |text: &str| Amount::parse(text).unwrap_or_else(|| panic!("{text}"));
        let sent = [(FrozenReason::Trade, trade), (FrozenReason::Withdraw, withdraw)];
        let parts = FrozenParts::new(sent.map(|(reason, text)| (reason, text.map(amount))));
        list(&parts.with_rest_of(&amount(frozen)))
    }

    #[test]
    fn the_rest_is_exact_and_only_there_if_it_is_not_zero() {
        assert_eq!(parts(Some("0.10"), Some("0.20"), "0.3"), ["trade 0.10", "withdraw 0.20"]);
        assert_eq!(parts(Some("0.1"), Some("0"), "0.3"), ["trade 0.1", "withdraw 0", "other 0.2"]);
        assert_eq!(
            parts(Some("5"), Some("0.00000001"), "5"),
            ["trade 5", "withdraw 0.00000001", "other -0.00000001"]
        );
        assert_eq!(parts(Some("0.00000000"), Some("0"), "0.00"), ["trade 0.00000000", "withdraw 0"]);
        let long = "123456789012345678.123456789012345678";
        assert_eq!(
            parts(Some(long), None, "123456789012345678.123456789012345679"),
            [format!("trade {long}"), "other 0.000000000000000001".to_owned()]
        );
        // A rest with more digits than an amount may have is unknown.
        assert_eq!(parts(Some("1e-200"), None, "5"), ["trade 1e-200"]);
    }

    #[test]
    fn a_part_that_was_not_sent_may_be_in_the_rest_and_without_parts_there_is_none() {
        assert_eq!(parts(None, Some("1"), "3"), ["withdraw 1", "other 2"]);
        assert_eq!(parts(None, None, "3"), [""; 0]);
    }

    #[test]
    fn parts_cost_a_pointer() {
        assert_eq!(size_of::<FrozenParts>(), size_of::<usize>());
    }
}
