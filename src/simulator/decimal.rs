//! Exact sums and shares of decimal texts, and their JSON.
//!
//! Must not know balances. A test may store a text that is not a plain decimal: it is returned unchanged.

use bigdecimal::{BigDecimal, RoundingMode};
use serde_json::json;

/// Whether a text consists of digits with at most one point between them.
pub(super) fn is_decimal(text: &str) -> bool {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.split_once('.') {
        Some((whole, fraction)) => is_digits(whole) && is_digits(fraction),
        None => is_digits(text),
    }
}

/// `a` plus `b`; `a` if one of them is not a decimal.
pub(super) fn sum(a: &str, b: &str) -> String {
    let sum = parse(a).zip(parse(b)).map(|(a, b)| (a + b).to_plain_string());
    sum.unwrap_or_else(|| a.to_owned())
}

/// `amount` times `price`; 0 if one of them is not a decimal.
pub(super) fn worth(amount: &str, price: &str) -> String {
    let product = parse(amount).zip(parse(price)).map(|(amount, price)| (amount * price).normalized());
    product.map_or_else(|| "0".to_owned(), |product| product.to_plain_string())
}

/// The sum of decimals with at most four digits after the point.
pub(super) fn total<'a>(amounts: impl IntoIterator<Item = &'a str>) -> String {
    let sum: BigDecimal = amounts.into_iter().filter_map(parse).sum();
    sum.with_scale_round(4, RoundingMode::Down).normalized().to_plain_string()
}

/// Splits `whole` into three parts that add up to it: a half, a quarter and the rest. If `whole` is not a decimal, the
/// rest is `whole`.
pub(super) fn split(whole: &str) -> [String; 3] {
    let Some(decimal) = parse(whole) else {
        return ["0".to_owned(), "0".to_owned(), whole.to_owned()];
    };
    let share = |divisor: u32| {
        let share = &decimal / BigDecimal::from(divisor);
        share.with_scale_round(decimal.fractional_digit_count(), RoundingMode::Down)
    };
    let (half, quarter) = (share(2), share(4));
    let rest = &decimal - &half - &quarter;
    [half, quarter, rest].map(|part| part.to_plain_string())
}

/// Formats a text as a JSON string, or as a JSON number if `as_number` and the text is a number.
pub(super) fn to_json(text: &str, as_number: bool) -> String {
    let is_number = as_number && serde_json::from_str::<serde_json::Number>(text).is_ok();
    if is_number { text.to_owned() } else { json!(text).to_string() }
}

fn parse(text: &str) -> Option<BigDecimal> {
    text.parse().ok().filter(|_| is_decimal(text))
}

#[cfg(test)]
mod tests {
    use super::{split, sum, total, worth};

    #[test]
    fn sums_keep_every_digit() {
        for (a, b, expected) in [
            ("31.70995965", "0.03834082", "31.74830047"),
            ("150", "0.00", "150.00"),
            ("0.9", "0.1", "1.0"),
            ("1", "2", "3"),
            ("0.00", "0.00", "0.00"),
            ("0", "0.10", "0.10"),
            ("NaN", "2", "NaN"),
            ("1e3", "2", "1e3"),
        ] {
            assert_eq!(sum(a, b), expected);
        }
    }

    #[test]
    fn worths_are_exact_and_their_total_has_four_digits() {
        assert_eq!(worth("0.00000001", "64210.00"), "0.0006421");
        assert_eq!([worth("NaN", "2"), worth("2", ""), worth("0.00", "3")], ["0", "0", "0"]);
        assert_eq!(total(["1.00009", "2", "x"]), "3");
        assert_eq!(total(["1.0001", "2.5"]), "3.5001");
        assert_eq!(total([]), "0");
    }

    #[test]
    fn parts_add_up() {
        assert_eq!(split("0.709475"), ["0.354737", "0.177368", "0.177370"]);
        assert_eq!(split("7"), ["3", "1", "3"]);
        assert_eq!(split("0.00"), ["0.00", "0.00", "0.00"]);
        assert_eq!(split("x"), ["0", "0", "x"]);
    }
}
