//! A second opinion on sums of decimal numbers: digit by digit, as one learns it at school. Slow and plain on purpose.

use std::cmp::Ordering;

/// A number that ends so many digits after the point, or before it if that is below zero.
#[derive(Clone, Debug)]
pub struct Decimal {
    is_negative: bool,
    /// The last digit first.
    digits: Vec<u8>,
    places: i64,
}

/// The most digits after or before the point that are added, and the longest text of a sum.
const MOST: usize = 128;

impl Decimal {
    /// Reads digits with at most one point among them, a sign before, an exponent after; `None` if it has too many.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let is_negative = text.starts_with('-');
        let text = text.trim_start_matches(['+', '-']);
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let places = i64::try_from(fraction.len()).ok()? - exponent.parse::<i64>().ok()?;
        let digits = [whole, fraction].concat().bytes().rev().map(|digit| digit - b'0').collect();
        (places.unsigned_abs() <= MOST as u64).then_some(Self { is_negative, digits, places })
    }

    /// The text of the sum, without zeros at its end; `None` if it is too long.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Option<String> {
        let places = self.places.max(other.places).max(0);
        let (a, b) = (self.scaled(places), other.scaled(places));
        let length = a.len().max(b.len());
        let digit = |digits: &[u8], place: usize| digits.get(place).copied().unwrap_or(0);
        let larger_is_b = (0..length).rev().map(|place| digit(&a, place).cmp(&digit(&b, place)));
        let larger_is_b = larger_is_b.into_iter().find(|order| order.is_ne()) == Some(Ordering::Less);
        let (large, small) = if larger_is_b { (&b, &a) } else { (&a, &b) };
        let mut digits = Vec::new();
        let mut carry = 0;
        for place in 0..length {
            let (large, small) = (i16::from(digit(large, place)), i16::from(digit(small, place)));
            let sum = large + carry + if self.is_negative == other.is_negative { small } else { -small };
            carry = sum.div_euclid(10);
            digits.push(char::from(b'0' + u8::try_from(sum.rem_euclid(10)).ok()?));
        }
        if carry > 0 {
            digits.push('1');
        }
        let is_negative = if larger_is_b { other.is_negative } else { self.is_negative };
        let places = usize::try_from(places).ok()?;
        while digits.len() <= places {
            digits.push('0');
        }
        digits.reverse();
        let point = digits.len() - places;
        let whole: String = digits[..point].iter().collect();
        let fraction: String = digits[point..].iter().collect();
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        let sign = if is_negative && !(whole.is_empty() && fraction.is_empty()) { "-" } else { "" };
        let whole = if whole.is_empty() { "0" } else { whole };
        let point = if fraction.is_empty() { "" } else { "." };
        let text = format!("{sign}{whole}{point}{fraction}");
        (text.len() <= MOST).then_some(text)
    }

    /// The number with its sign turned.
    #[must_use]
    pub fn turned(self) -> Self {
        Self { is_negative: !self.is_negative, ..self }
    }

    fn scaled(&self, places: i64) -> Vec<u8> {
        let zeros = usize::try_from(places - self.places).unwrap_or(0);
        std::iter::repeat_n(0, zeros).chain(self.digits.iter().copied()).collect()
    }
}
