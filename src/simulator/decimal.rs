//! Exact sums and shares of decimal texts.
//!
//! Must not know balances. A test may store a text that is not a plain decimal: it is returned unchanged.

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
    let sum = parse(a).zip(parse(b)).and_then(|((a, a_places), (b, b_places))| {
        let places = a_places.max(b_places);
        Some(shown(scaled(a, places - a_places)?.checked_add(scaled(b, places - b_places)?)?, places))
    });
    sum.unwrap_or_else(|| a.to_owned())
}

/// Splits `whole` into three parts that add up to it: a half, a quarter and the rest. If `whole` is not a decimal, the
/// rest is `whole`.
pub(super) fn split(whole: &str) -> [String; 3] {
    let Some((digits, places)) = parse(whole) else {
        return ["0".to_owned(), "0".to_owned(), whole.to_owned()];
    };
    let (half, quarter) = (digits / 2, digits / 4);
    [half, quarter, digits - half - quarter].map(|part| shown(part, places))
}

/// All digits as one number, and how many of them stand after the point.
fn parse(text: &str) -> Option<(u128, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{fraction}");
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    Some((digits.parse().ok().filter(|_| plain)?, u32::try_from(fraction.len()).ok()?))
}

fn scaled(digits: u128, places: u32) -> Option<u128> {
    digits.checked_mul(10_u128.checked_pow(places)?)
}

fn shown(digits: u128, places: u32) -> String {
    if places == 0 {
        return digits.to_string();
    }
    let places = places as usize;
    let digits = format!("{digits:0>width$}", width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    format!("{whole}.{fraction}")
}

#[cfg(test)]
mod tests {
    use super::{split, sum};

    #[test]
    fn sums_keep_every_digit() {
        for (a, b, expected) in [
            ("31.70995965", "0.03834082", "31.74830047"),
            ("150", "0.00", "150.00"),
            ("0.9", "0.1", "1.0"),
            ("1", "2", "3"),
            ("NaN", "2", "NaN"),
        ] {
            assert_eq!(sum(a, b), expected);
        }
    }

    #[test]
    fn parts_add_up() {
        assert_eq!(split("0.709475"), ["0.354737", "0.177368", "0.177370"]);
        assert_eq!(split("7"), ["3", "1", "3"]);
        assert_eq!(split("x"), ["0", "0", "x"]);
    }
}
