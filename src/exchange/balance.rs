//! The nouns every floor above agrees on: a wallet, an amount, a balance, an answer.
//! Knows no JSON and no request: what the exchange writes is turned into these in `v1`, `v4` and
//! `futures`.

use std::fmt;

use bigdecimal::BigDecimal;
use sha2::{Digest as _, Sha256};
use smol_str::SmolStr;

/// Which pocket of an account a balance lies in; the `wallet` label.
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
}

impl Wallet {
    /// Every wallet there is, in the order of documentation.
    pub const ALL: [Self; 5] = [Self::Spot, Self::Wallet, Self::Fiat, Self::FuturesUsdt, Self::FuturesCoin];

    /// The value of the `wallet` label, and the word in flags and file.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Spot => "spot",
            Self::Wallet => "wallet",
            Self::Fiat => "fiat",
            Self::FuturesUsdt => "futures_usdt",
            Self::FuturesCoin => "futures_coin",
        }
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
        Self::ALL
            .into_iter()
            .find(|wallet| wallet.label() == text)
            .ok_or_else(|| {
                format!(
                    "unknown wallet '{text}': the wallets are spot, wallet and fiat with v1, and spot, futures_usdt and futures_coin with v4"
                )
            })
    }
}

/// An amount of one currency, in whole coins: the digits the exchange wrote, and the nearest f64.
#[derive(Clone, Debug, PartialEq)]
pub struct Amount {
    /// Nearly always short enough to stand here itself.
    text: SmolStr,
    value: f64,
}

/// The longest amount that is read; the longest exact text of a sane amount is far below it.
const AMOUNT_MAX_BYTES: usize = 128;

impl Amount {
    /// Reads a decimal number: sign, digits, point, exponent. Nothing else that f64 would take
    /// (`nan`, `inf`) and nothing that overflows it. `None` says that it is no usable amount.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |byte: u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
        if text.len() > AMOUNT_MAX_BYTES || !text.bytes().all(plain) {
            return None;
        }
        let value = text.parse::<f64>().ok().filter(|value| value.is_finite())?;
        // Adding zero turns -0, which would be shown as such, into 0.
        Some(Self { text: text.into(), value: value + 0.0 })
    }

    /// The exact sum; `None` if it, or what is added, takes more digits than an amount may have.
    #[must_use]
    pub(super) fn plus(&self, other: &Self) -> Option<Self> {
        Self::exact(&(self.decimal()? + other.decimal()?))
    }

    /// The exact difference; `None` as in [`Amount::plus`].
    #[must_use]
    pub(super) fn minus(&self, other: &Self) -> Option<Self> {
        Self::exact(&(self.decimal()? - other.decimal()?))
    }

    /// An exponent may ask for more digits than there is memory, in six letters.
    fn decimal(&self) -> Option<BigDecimal> {
        let number = self.text.parse::<BigDecimal>().ok()?;
        let places = number.fractional_digit_count().unsigned_abs();
        (places <= AMOUNT_MAX_BYTES as u64).then_some(number)
    }

    fn exact(number: &BigDecimal) -> Option<Self> {
        Self::parse(&number.normalized().to_plain_string())
    }

    /// The value rounded to an f64, always finite.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.value
    }

    /// The digits as the exchange wrote them.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// What one currency of one wallet holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Balance {
    /// Lower case, 1 to 64 bytes, no control characters.
    pub currency: SmolStr,
    /// Free to trade or withdraw: `available` of v1, `availableAmount` of v4, `availableBalance` of futures.
    pub free: Amount,
    /// Locked in orders, withdrawals or positions: `freeze` of v1, `frozenAmount` of v4, the margins
    /// of futures.
    pub frozen: Amount,
}

/// A good answer to a balance call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// Usable rows, sorted by currency, each currency once.
    pub balances: Vec<Balance>,
    /// Rows that could not be used.
    pub rejected: u64,
    /// Names of the unusable rows, where the name itself was fit: a watched currency among them
    /// was not left out by the exchange, so it must not read as zero. Sorted.
    pub unreadable: Vec<SmolStr>,
    /// Unusable rows that do not even say of which currency they are.
    pub nameless: u64,
    /// Of the body it was read from; `None` if it was read from none.
    pub print: Option<Print>,
}

/// What tells one body from another: equal prints are of equal bodies, which say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Print([u8; 32]);

impl Print {
    /// The print of a body that came with the HTTP status `status`.
    #[must_use]
    pub(super) fn of(status: u16, body: &[u8]) -> Self {
        Self(Sha256::new().chain_update(status.to_be_bytes()).chain_update(body).finalize().into())
    }
}

/// The longest currency name that is taken for one.
const CURRENCY_MAX_BYTES: usize = 64;

/// A currency name as it stands in labels: lower case. `None` if it is empty, over 64 bytes or
/// bears control characters.
#[must_use]
pub fn currency_name(text: &str) -> Option<SmolStr> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase());
    let name = if is_plain { SmolStr::new(text) } else { SmolStr::from(text.to_lowercase()) };
    let fit = !name.is_empty() && name.len() <= CURRENCY_MAX_BYTES && !name.chars().any(char::is_control);
    fit.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_decimal_numbers_and_nothing_else() {
        for (text, value) in [
            ("3867.43650012", 3_867.436_500_12),
            ("0", 0.0),
            ("0.00", 0.0),
            ("150", 150.0),
            ("1E-8", 1e-8),
            ("2.5e+3", 2_500.0),
            ("-1.5", -1.5),
            ("007", 7.0),
            (".5", 0.5),
        ] {
            let amount = Amount::parse(text).unwrap_or_else(|| panic!("{text} is an amount"));
            assert_eq!((amount.value(), amount.text()), (value, text));
        }
        for text in [
            "", " 1", "1 ", "nan", "NaN", "inf", "-inf", "infinity", "1e400", "-1e400", "0x10", "1,5",
            "1_000", "--1", "1e", ".", "e5", "１", "null", "1.2.3",
        ] {
            assert_eq!(Amount::parse(text), None, "{text:?} is no amount");
        }
        assert_eq!(Amount::parse(&"9".repeat(129)), None);
    }

    #[test]
    fn sums_and_differences_are_exact() {
        let amount = |text: &str| Amount::parse(text).unwrap_or_else(|| panic!("{text} is an amount"));
        for (a, b, sum, difference) in [
            ("0.1", "0.2", "0.3", "-0.1"),
            ("0", "0.709475", "0.709475", "-0.709475"),
            ("19.29849875", "-0.709475", "18.58902375", "20.00797375"),
            ("1E-8", "1e2", "100.00000001", "-99.99999999"),
            ("5.", ".5", "5.5", "4.5"),
            ("+1", "1", "2", "0"),
        ] {
            let (a, b) = (amount(a), amount(b));
            let text = |amount: Option<Amount>| amount.map(|amount| amount.text().to_owned());
            assert_eq!(text(a.plus(&b)).as_deref(), Some(sum));
            assert_eq!(text(a.minus(&b)).as_deref(), Some(difference));
        }
        let (one, vast) = (amount("1"), amount("1e-999999999"));
        assert_eq!((one.plus(&vast), vast.minus(&one)), (None, None));
        assert_eq!(amount(&"9".repeat(128)).plus(&one), None, "the sum has a digit too many");
    }

    #[test]
    fn minus_zero_is_zero() {
        let amount = Amount::parse("-0.0").map(|amount| amount.value().is_sign_positive());
        assert_eq!(amount, Some(true));
    }

    #[test]
    fn currency_names_are_lower_case_and_bounded() {
        assert_eq!(currency_name("GAL(FT)").as_deref(), Some("gal(ft)"));
        assert_eq!(currency_name(&"x".repeat(64)).map(|name| name.len()), Some(64));
        for bad in ["", "a\nb", "a\u{7f}", "\u{85}", &"x".repeat(65), &"İ".repeat(32)] {
            assert_eq!(currency_name(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn every_wallet_reads_back_from_its_label() {
        for wallet in Wallet::ALL {
            assert_eq!(wallet.label().parse(), Ok(wallet));
        }
        assert!("Spot".parse::<Wallet>().is_err_and(|text| text.contains("spot, wallet and fiat")));
    }
}
