//! Text of single values on the page: amounts, times, anchors. No markup: the template adds and escapes it.

use std::{
    cmp::Ordering,
    fmt::{self, Write as _},
    time::Duration,
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{
    clock::{Timestamp, UnixTime},
    exchange::Wallet,
    snapshot::wallet::Thresholds,
};

/// Both thresholds of a balance, as in `500 (page 250)`.
pub(super) struct ThresholdsText(pub(super) Thresholds);

impl fmt::Display for ThresholdsText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Thresholds { warn, page } = self.0;
        write!(f, "{} (page {})", PlainNumber(warn), PlainNumber(page))
    }
}

/// How far a balance is below its threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shortfall {
    free: f64,
    thresholds: Thresholds,
}

impl Shortfall {
    /// `None` if one of the two is unknown, or if `free` is not below `thresholds.warn`.
    pub(super) fn between(free: Option<f64>, thresholds: Option<Thresholds>) -> Option<Self> {
        let shortfall = Self { free: free?, thresholds: thresholds? };
        (shortfall.free < shortfall.thresholds.warn).then_some(shortfall)
    }

    /// Whether the balance is below its page threshold.
    pub(super) fn is_critical(self) -> bool {
        self.free < self.thresholds.page
    }

    /// The order of shortfalls, the worst first: critical ones, then the lowest fraction of the threshold.
    pub(super) fn cmp_worst_first(&self, other: &Self) -> Ordering {
        other.is_critical().cmp(&self.is_critical()).then_with(|| self.ratio().total_cmp(&other.ratio()))
    }

    /// The balance as a fraction of its threshold.
    fn ratio(self) -> f64 {
        self.free / self.thresholds.warn
    }
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.free >= 0.0 {
            // Rounded down: a balance below its threshold is never shown as 100 %.
            let percent = self.ratio() * 100.0;
            match percent {
                0.0 => f.write_str("0 % of ")?,
                ..0.1 => f.write_str("under 0.1 % of ")?,
                ..10.0 => write!(f, "{:.1} % of ", (percent * 10.0).floor() / 10.0)?,
                _ => write!(f, "{} % of ", percent.floor())?,
            }
        } else {
            f.write_str("under 0 % of ")?;
        }
        let missing = round_float_noise(self.thresholds.warn - self.free);
        write!(f, "{}, {} below the threshold", ThresholdsText(self.thresholds), PlainNumber(missing))
    }
}

/// A float in decimal notation; very large and very small ones have an exponent.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlainNumber(pub(super) f64);

impl fmt::Display for PlainNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.0.abs();
        if (1e-9..1e16).contains(&size) || size == 0.0 {
            write!(f, "{}", self.0)
        } else {
            write!(f, "{:e}", self.0)
        }
    }
}

/// The name of a currency in upper case, as people write it. Only ASCII letters change, so that different names stay
/// different.
#[derive(Clone, Copy, Debug)]
pub(super) struct CurrencyName<'a>(pub(super) &'a str);

impl CurrencyName<'_> {
    pub(super) fn is_ascii(self) -> bool {
        self.0.is_ascii()
    }
}

impl fmt::Display for CurrencyName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|letter| f.write_char(letter.to_ascii_uppercase()))
    }
}

/// The path of an account's own page below the root of the server; `None` for a name that a browser would take for a step
/// up the path.
pub(super) fn account_path(name: &str) -> Option<String> {
    const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    (name != "." && name != "..").then(|| format!("account/{}", utf8_percent_encode(name, ESCAPED)))
}

/// Longer amounts may wrap.
const LONG_AMOUNT_BYTES: usize = 24;

/// An amount with every digit that the exchange wrote.
#[derive(Clone, Copy, Debug)]
pub(super) struct AmountText<'a> {
    pub(super) text: &'a str,
}

/// The digits of an amount, as the page aligns them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AmountDigits<'a> {
    /// The digits before the decimal point, in groups of three if there are more than four digits.
    pub(super) groups: Vec<&'a str>,
    /// The decimal point and the digits up to the last that is not zero.
    pub(super) fraction: &'a str,
    /// The zeros after them, with the decimal point if nothing else follows it.
    pub(super) trailing_zeros: &'a str,
}

impl<'a> AmountText<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text }
    }

    pub(super) fn is_long(self) -> bool {
        self.text.len() > LONG_AMOUNT_BYTES
    }

    /// Digits after the decimal point.
    pub(super) fn fraction_digits(self) -> usize {
        self.split_at_point().map_or(0, |(_, fraction)| fraction.len().saturating_sub(1))
    }

    /// `None` if the amount has a sign or an exponent.
    pub(super) fn digits(self) -> Option<AmountDigits<'a>> {
        let (whole, fraction_and_zeros) = self.split_at_point()?;
        let fraction = fraction_and_zeros.trim_end_matches(['0', '.']);
        let trailing_zeros = fraction_and_zeros.strip_prefix(fraction).unwrap_or_default();
        Some(AmountDigits { groups: group_digits(whole), fraction, trailing_zeros })
    }

    /// The digits before the decimal point, and the point with the digits after it.
    fn split_at_point(self) -> Option<(&'a str, &'a str)> {
        let is_plain = self.text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        is_plain.then(|| self.text.split_at(self.text.find('.').unwrap_or(self.text.len())))
    }
}

fn group_digits(whole: &str) -> Vec<&str> {
    if whole.len() <= 4 {
        return vec![whole];
    }
    let (first, mut rest) = whole.split_at_checked(whole.len() % 3).unwrap_or((whole, ""));
    let mut groups = Vec::from_iter((!first.is_empty()).then_some(first));
    while let Some((group, others)) = rest.split_at_checked(3) {
        groups.push(group);
        rest = others;
    }
    groups
}

/// The `id` of an account's or a wallet's section: different for every name, and the same in a link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Anchor<'a> {
    pub(super) kind: AnchorKind,
    pub(super) account: &'a str,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum AnchorKind {
    Account,
    Wallet(Wallet),
}

impl fmt::Display for Anchor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            AnchorKind::Account => f.write_str("account.")?,
            AnchorKind::Wallet(wallet) => write!(f, "{wallet}.")?,
        }
        for byte in self.account.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => f.write_char(char::from(byte))?,
                other => write!(f, "_{other:02x}")?,
            }
        }
        Ok(())
    }
}

/// A duration in its two largest units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HumanDuration(pub(super) Duration);

impl HumanDuration {
    pub(super) fn as_secs(self) -> u64 {
        self.0.as_secs()
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (unit_seconds, unit, smaller_unit_seconds, smaller_unit) = match seconds {
            0..60 => (1, "s", 1, ""),
            60..3_600 => (60, "min", 1, "s"),
            3_600..86_400 => (3_600, "h", 60, "min"),
            _ => (86_400, "d", 3_600, "h"),
        };
        write!(f, "{} {unit}", seconds / unit_seconds)?;
        match seconds % unit_seconds / smaller_unit_seconds {
            0 => Ok(()),
            rest => write!(f, " {rest} {smaller_unit}"),
        }
    }
}

/// A time of day in UTC, with its date unless that is the date of `now`.
#[derive(Clone, Copy, Debug)]
pub(super) struct UtcTime {
    pub(super) at: UnixTime,
    pub(super) now: Timestamp,
}

impl UtcTime {
    pub(super) fn rfc3339(self) -> String {
        const END_OF_YEAR_9999: UnixTime = UnixTime::from_secs(253_402_300_799);
        let at = self.at.min(END_OF_YEAR_9999);
        humantime::format_rfc3339_seconds(at.into()).to_string()
    }
}

impl fmt::Display for UtcTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SECONDS_PER_DAY: u64 = 86_400;
        let rfc3339 = self.rfc3339();
        let (date, time) = rfc3339.split_once('T').unwrap_or_default();
        if self.at.as_secs() / SECONDS_PER_DAY != self.now.unix.as_secs() / SECONDS_PER_DAY {
            write!(f, "{date} ")?;
        }
        write!(f, "{} UTC", time.trim_end_matches('Z'))
    }
}

/// A count with its noun, in the plural unless it is 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quantity(pub(super) usize, pub(super) &'static str);

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.0, self.1, if self.0 == 1 { "" } else { "s" })
    }
}

/// A difference of two floats without the digits that come from their rounding alone.
fn round_float_noise(value: f64) -> f64 {
    let (mut decimals, mut scaled) = (0, value);
    while scaled < 100_000.0 && decimals < 18 {
        scaled *= 10.0;
        decimals += 1;
    }
    format!("{value:.decimals$}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::simulated::at;

    #[test]
    fn a_shortfall_is_never_rounded_up_to_the_threshold() {
        for (free, threshold, expected) in [
            (0.0, 500.0, "0 % of 500 (page 200), 500 below the threshold"),
            (120.5, 500.0, "24 % of 500 (page 200), 379.5 below the threshold"),
            (499.999, 500.0, "99 % of 500 (page 200), 0.001 below the threshold"),
            (0.1, 0.3, "33 % of 0.3 (page 0.12), 0.2 below the threshold"),
            (0.001, 500.0, "under 0.1 % of 500 (page 200), 499.999 below the threshold"),
            (9.99, 100.0, "9.9 % of 100 (page 40), 90.01 below the threshold"),
            (-1.5, 500.0, "under 0 % of 500 (page 200), 501.5 below the threshold"),
            (1e20, 1e21, "10 % of 1e21 (page 4e20), 9e20 below the threshold"),
        ] {
            let shortfall = shortfall(free, threshold, threshold * 0.4).map(|found| found.to_string());
            assert_eq!(shortfall.as_deref(), Some(expected));
        }
        assert_eq!(shortfall(500.0, 500.0, 500.0), None, "a balance at its threshold");
        assert_eq!(Shortfall::between(None, Some(Thresholds { warn: 500.0, page: 250.0 })), None);
    }

    fn shortfall(free: f64, warn: f64, page: f64) -> Option<Shortfall> {
        Shortfall::between(Some(free), Some(Thresholds { warn, page }))
    }

    #[test]
    fn critical_shortfalls_are_worse_than_all_others() {
        let (critical, lower) = (shortfall(4.9, 10.0, 5.0), shortfall(2.0, 10.0, 2.0));
        assert_eq!(critical.map(Shortfall::is_critical), Some(true));
        assert_eq!(lower.map(Shortfall::is_critical), Some(false), "a balance at its page threshold");
        let order = critical.zip(lower).map(|(critical, lower)| critical.cmp_worst_first(&lower));
        assert_eq!(order, Some(Ordering::Less));
    }

    #[test]
    fn an_amount_keeps_every_digit() {
        for (text, groups, fraction, trailing_zeros) in [
            ("0", &["0"][..], "", ""),
            ("1234.50", &["1234"], ".5", "0"),
            ("12345.00", &["12", "345"], "", ".00"),
            ("1234567", &["1", "234", "567"], "", ""),
            ("123456.7", &["123", "456"], ".7", ""),
            (".5", &[""], ".5", ""),
        ] {
            let expected = AmountDigits { groups: groups.to_vec(), fraction, trailing_zeros };
            assert_eq!(AmountText::new(text).digits(), Some(expected));
        }
        for text in ["1E-8", "-12345.6"] {
            assert_eq!(AmountText::new(text).digits(), None);
        }
    }

    #[test]
    fn a_path_leads_to_the_account_whatever_its_name() {
        for (name, expected) in [
            ("main", Some("account/main")),
            ("a b/c?d", Some("account/a%20b%2Fc%3Fd")),
            ("ä", Some("account/%C3%A4")),
            ("...", Some("account/...")),
            ("..", None),
            (".", None),
        ] {
            assert_eq!(account_path(name).as_deref(), expected);
        }
    }

    #[test]
    fn different_currencies_stay_different_in_upper_case() {
        assert_eq!(CurrencyName("gal(ft)1inch").to_string(), "GAL(FT)1INCH");
        assert_eq!(CurrencyName("\u{131}\u{df}").to_string(), "\u{131}\u{df}");
    }

    #[test]
    fn a_duration_has_at_most_two_units() {
        for (seconds, expected) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (724, "12 min 4 s"),
            (3_600, "1 h"),
            (3_659, "1 h"),
            (86_399, "23 h 59 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(HumanDuration(Duration::from_secs(seconds)).to_string(), expected);
        }
    }

    #[test]
    fn a_time_of_another_day_has_its_date() {
        let time = |seconds| UtcTime { at: UnixTime::from_secs(seconds), now: at(0) };
        assert_eq!(time(1_700_000_001).to_string(), "22:13:21 UTC");
        assert_eq!(time(1_700_000_001).rfc3339(), "2023-11-14T22:13:21Z");
        assert_eq!(time(1_700_100_000).to_string(), "2023-11-16 02:00:00 UTC");
        assert_eq!(time(u64::MAX).to_string(), "9999-12-31 23:59:59 UTC", "an absurd pause breaks nothing");
    }

    #[test]
    fn different_names_have_different_anchors() {
        let anchor = |account| Anchor { kind: AnchorKind::Account, account }.to_string();
        assert_eq!(
            [anchor("a b"), anchor("a_b"), anchor("ä")],
            ["account.a_20b", "account.a_5fb", "account._c3_a4"]
        );
    }
}
