//! An amount of one currency: the digits that the exchange wrote, and exact sums of them.
//! Depends on neither JSON nor currencies.

use bigdecimal::BigDecimal;
use smol_str::SmolStr;

/// An amount of one currency, in whole coins: the digits the exchange wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct Amount {
    /// A decimal number that an f64 parser takes and that does not overflow it. Nearly always short
    /// enough to stand here itself.
    text: SmolStr,
}

/// The longest amount that is read; the longest exact text of a sane amount is far below it.
const AMOUNT_MAX_BYTES: usize = 128;

impl Amount {
    /// Reads a decimal number: sign, digits, point, exponent. Nothing else that f64 would take
    /// (`nan`, `inf`) and nothing that overflows it. `None` says that it is no usable amount.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_known = |byte: u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
        let is_amount = text.len() <= AMOUNT_MAX_BYTES
            && text.bytes().all(is_known)
            && text.parse::<f64>().is_ok_and(f64::is_finite);
        is_amount.then(|| Self { text: text.into() })
    }

    /// The exact sum; `None` if it, or what is added, takes more digits than an amount may have.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Option<Self> {
        Self::exact(&(self.decimal()? + other.decimal()?))
    }

    /// The exact difference; `None` as in [`Amount::plus`].
    #[must_use]
    pub fn minus(&self, other: &Self) -> Option<Self> {
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
        // Adding zero turns -0, which would be shown as such, into 0.
        self.text.parse().map_or(f64::NAN, |value: f64| value + 0.0)
    }

    /// The digits as the exchange wrote them.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
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
}
