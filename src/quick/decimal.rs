//! Decimal numbers as an exchange writes them, looked at as texts: their digits are all there is to say.

/// Whether `text` is digits with at most one point among them, and so a number that any f64 parser takes.
pub(crate) fn is_plain(text: &str) -> bool {
    let (mut digits, mut points) = (0, 0);
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' => digits += 1,
            b'.' => points += 1,
            _ => return false,
        }
    }
    digits > 0 && points <= 1
}

/// The f64 next to `text`, a decimal number.
pub(crate) fn value(text: &str) -> f64 {
    // Adding zero turns -0, which would be shown as such, into 0.
    text.parse().map_or(f64::NAN, |value: f64| value + 0.0)
}

/// The part of `text`, a decimal number, that is the shortest text of the f64 next to it, where a
/// look tells: no two numbers of up to 15 digits are next to the same f64, so theirs is what is left
/// of them without the zeros at their end. `None` where it takes more than a look.
pub(crate) fn shortest(text: &str) -> Option<&str> {
    if !is_plain(text) {
        return None;
    }
    let bytes = text.as_bytes();
    let whole = bytes.iter().position(|byte| *byte == b'.').unwrap_or(bytes.len());
    let decimals = bytes.get(whole + 1..).unwrap_or_default();
    let decimals = decimals.iter().rposition(|byte| *byte != b'0').map_or(0, |last| last + 1);
    let begins_with_zero = bytes.first() == Some(&b'0');
    // What is smaller is written with an exponent.
    let is_small = decimals > 5 && bytes.starts_with(b"0.00000");
    if whole == 0 || begins_with_zero && whole > 1 || is_small || whole + decimals > 15 {
        return None;
    }
    text.get(..if decimals > 0 { whole + 1 + decimals } else { whole })
}
