//! Types that all modules share: a wallet, a balance, an answer. `v1`, `v4` and `futures` decode replies into them.
//! Depends on neither JSON nor requests.

use std::{fmt, sync::Arc};

use smol_str::SmolStr;

use super::{amount::Amount, frozen::FrozenParts};

/// A wallet of an account; the `wallet` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wallet {
    /// The trading account: v1 getBalance, v4 balances.
    Spot,
    /// The wallet account: v1 getFunds with account 1.
    Wallet,
    /// The fiat account: v1 getFunds with account 3.
    Fiat,
    /// USDT-margined futures: v4, on hosts of their own.
    FuturesUsdt,
    /// Coin-margined futures: v4, on hosts of their own.
    FuturesCoin,
    /// Money in Earn products: v4, on the hosts of spot. All of it is frozen.
    Earn,
}

impl Wallet {
    /// All wallets, in the order of the documentation.
    pub const ALL: [Self; 6] =
        [Self::Spot, Self::Wallet, Self::Fiat, Self::FuturesUsdt, Self::FuturesCoin, Self::Earn];

    /// The value of the `wallet` label, and the name in flags and file.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Spot => "spot",
            Self::Wallet => "wallet",
            Self::Fiat => "fiat",
            Self::FuturesUsdt => "futures_usdt",
            Self::FuturesCoin => "futures_coin",
            Self::Earn => "earn",
        }
    }

    /// Whether the wallet can have open positions.
    #[must_use]
    pub fn has_positions(self) -> bool {
        matches!(self, Self::FuturesUsdt | Self::FuturesCoin)
    }

    /// Whether the wallet can have free money, so that a threshold makes sense.
    #[must_use]
    pub fn has_free_amounts(self) -> bool {
        self != Self::Earn
    }

    /// Whether reading the wallet needs a permission that a good key may lack, so that a refusal says nothing about the other
    /// wallets.
    #[must_use]
    pub(super) fn needs_own_permission(self) -> bool {
        matches!(self, Self::FuturesUsdt | Self::FuturesCoin | Self::Earn)
    }
}

impl fmt::Display for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl std::str::FromStr for Wallet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|wallet| wallet.label() == text).ok_or_else(|| {
            "unknown wallet: the wallets are spot, wallet and fiat with v1, and spot, futures_usdt, futures_coin and earn with v4".to_owned()
        })
    }
}

/// A currency's balance in a wallet.
#[derive(Clone, Debug, PartialEq)]
pub struct Balance {
    /// Lower case, 1 to 64 bytes, no control characters.
    pub currency: SmolStr,
    /// The amounts.
    pub amounts: BalanceAmounts,
}

/// The amounts of a balance.
#[derive(Clone, Debug, PartialEq)]
pub struct BalanceAmounts {
    /// The amount that can be traded or withdrawn: `available` of v1, `availableAmount` of v4, `availableBalance` of
    /// futures. 0 of earn, whose money must be redeemed first.
    pub free: Amount,
    /// The amount locked in orders, withdrawals or positions: `freeze` of v1, `frozenAmount` of v4, the margins of
    /// futures, `amount` of earn.
    pub frozen: Amount,
    /// Why it is frozen, as far as the exchange says so.
    pub frozen_parts: FrozenParts,
}

impl BalanceAmounts {
    /// Amounts without a word about why something is frozen.
    #[must_use]
    pub fn new(free: Amount, frozen: Amount) -> Self {
        Self { free, frozen, frozen_parts: FrozenParts::default() }
    }

    /// Whether both amounts are 0.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.free.value() == 0.0 && self.frozen.value() == 0.0
    }
}

/// A good answer with balances.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BalanceAnswer {
    /// Usable rows, sorted by currency. Each currency occurs once.
    pub balances: Vec<Balance>,
    /// The number of unusable rows.
    pub rejected: u64,
    /// The currencies of unusable rows with a usable name, sorted. The exchange did not leave these out, so a watched
    /// one must not become 0.
    pub unreadable: Vec<SmolStr>,
    /// The number of unusable rows without a usable name.
    pub nameless: u64,
    /// Balances that the list left out and the exchange gave when it was asked for the currency alone, sorted. None of them
    /// is 0.
    pub unlisted: Vec<Balance>,
    /// The exchange's own value of the wallet in USDT: `totalUsdtAmount` of v4 spot; `None` if it was not sent.
    pub exchange_total: Option<Amount>,
    /// The body that it was decoded from; `None` if it did not come from an exchange.
    pub raw_body: Option<RawBody>,
}

impl BalanceAnswer {
    /// Whether the exchange's list left `currency` out. False if a row without a usable name may belong to it.
    #[must_use]
    pub fn is_missing(&self, currency: &str) -> bool {
        self.nameless == 0
            && !self.unreadable.iter().any(|name| name == currency)
            && self.balances.binary_search_by(|row| (*row.currency).cmp(currency)).is_err()
    }
}

/// The body of an answer. An equal body holds the same answer. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct RawBody(Arc<(u16, Vec<u8>)>);

impl fmt::Debug for RawBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP {} and {} bytes", self.0.0, self.0.1.len())
    }
}

impl RawBody {
    /// A body with the HTTP status `status`.
    #[must_use]
    pub(crate) fn new(status: u16, body: Vec<u8>) -> Self {
        Self(Arc::new((status, body)))
    }

    /// Whether the body and the HTTP status are the same.
    #[must_use]
    pub(super) fn equals(&self, status: u16, body: &[u8]) -> bool {
        self.0.0 == status && self.body() == body
    }

    /// The HTTP status.
    #[must_use]
    pub(super) fn status(&self) -> u16 {
        self.0.0
    }

    /// The body.
    #[must_use]
    pub(super) fn body(&self) -> &[u8] {
        &self.0.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_the_same_by_its_status_and_its_bytes_and_is_not_printed() {
        let original = RawBody::new(200, b"canary".to_vec());
        assert!(original.equals(200, b"canary"));
        assert!(
            !original.equals(201, b"canary")
                && !original.equals(200, b"Canary")
                && !original.equals(200, b"")
        );
        assert_eq!(format!("{original:?}"), "HTTP 200 and 6 bytes");
    }

    #[test]
    fn every_wallet_reads_back_from_its_label() {
        for wallet in Wallet::ALL {
            assert_eq!(wallet.label().parse(), Ok(wallet));
        }
        assert!("Spot".parse::<Wallet>().is_err_and(|text| text.contains("spot, wallet and fiat")));
    }
}
