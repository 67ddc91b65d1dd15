//! What a row of an answer is made of: the name of a currency, and amounts.

use bigdecimal::BigDecimal;
use smol_str::SmolStr;

use crate::decimal;

/// One row of an answer, as far as it could be read.
#[derive(Debug)]
pub struct Row {
    /// The currency as a label has it; `None` if it cannot be one.
    pub currency: Option<SmolStr>,
    /// Free and frozen; `None` if one of them is no usable amount.
    pub amounts: Option<(Amount, Amount)>,
}

impl Row {
    pub(crate) fn of(name: &str, free: &str, frozen: &str) -> Self {
        Self { currency: currency_name(name), amounts: Amount::parse(free).zip(Amount::parse(frozen)) }
    }
}

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
        let known = |byte: u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
        let is_number = || text.bytes().all(known) && text.parse::<f64>().is_ok_and(f64::is_finite);
        // So many digits overflow nothing.
        let fits = text.len() <= AMOUNT_MAX_BYTES && (decimal::is_plain(text) || is_number());
        fits.then(|| Self { text: text.into() })
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
        decimal::value(&self.text)
    }

    /// The digits as the exchange wrote them.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// The longest currency name that is taken for one.
const CURRENCY_MAX_BYTES: usize = 64;

/// A currency's name as it stands in labels and in the configuration: without the blanks and
/// invisible characters around it, in lower case. `None` if nothing is left, if it is over 64 bytes,
/// or if a control character, or an invisible one other than a space, stands inside: two such names
/// would look the same.
#[must_use]
pub fn currency_name(text: &str) -> Option<SmolStr> {
    if (1..=CURRENCY_MAX_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase())
    {
        return Some(SmolStr::new(text));
    }
    let name = SmolStr::from(text.trim_matches(is_blank).to_lowercase());
    let is_hidden = |c: char| c != ' ' && (c.is_control() || is_blank(c));
    let fit = !name.is_empty() && name.len() <= CURRENCY_MAX_BYTES && !name.chars().any(is_hidden);
    fit.then_some(name)
}

/// Whether `c` shows nothing: white space, and what Unicode calls default-ignorable or a filler. Control
/// characters are blank only where they are white space.
fn is_blank(c: char) -> bool {
    c.is_whitespace()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
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
    fn currency_names_are_trimmed_lower_case_and_bounded() {
        assert_eq!(currency_name("GAL(FT)").as_deref(), Some("gal(ft)"));
        assert_eq!(currency_name("a b").as_deref(), Some("a b"));
        assert_eq!(currency_name(&"x".repeat(64)).map(|name| name.len()), Some(64));
        for pad in [
            " ",
            "\t",
            "\n",
            "\u{a0}",
            "\u{2003}",
            "\u{3000}",
            "\u{200b}",
            "\u{200d}",
            "\u{2060}",
            "\u{feff}",
            "\u{180e}",
            "\u{ad}",
            "\u{3164}",
            "\u{fe0f}",
            "\u{202e}",
            "\u{e0020}",
            " \u{feff} ",
        ] {
            for padded in [format!("{pad}USDT"), format!("usdt{pad}"), format!("{pad}usdt{pad}{pad}")] {
                assert_eq!(currency_name(&padded).as_deref(), Some("usdt"), "{padded:?}");
            }
            assert_eq!(currency_name(pad), None, "{pad:?}");
            assert_eq!(currency_name(&format!("us{pad}dt")).is_some(), pad == " ", "{pad:?}");
        }
        for bad in ["", "a\nb", "a\u{7f}", "\u{0}a", "\u{85}", &"x".repeat(65), &"İ".repeat(32)] {
            assert_eq!(currency_name(bad), None, "{bad:?}");
        }
    }
}
