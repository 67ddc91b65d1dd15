//! How single things are written into HTML: amounts, times, names from outside.
//! Knows nothing of the page around them.

use std::{
    fmt::{self, Write as _},
    time::{Duration, UNIX_EPOCH},
};

use crate::{
    clock::Timestamp,
    snapshot::wallet::{HoldingState, WalletSnapshot},
};

/// How far a balance is below its threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shortfall {
    free: f64,
    threshold: f64,
}

impl Shortfall {
    pub(super) fn between(free: Option<f64>, threshold: Option<f64>) -> Option<Self> {
        let gap = Self { free: free?, threshold: threshold? };
        (gap.free < gap.threshold).then_some(gap)
    }

    pub(super) fn share(self) -> f64 {
        if self.threshold > 0.0 { self.free / self.threshold } else { self.free - self.threshold }
    }
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.threshold > 0.0 && self.free >= 0.0 {
            // Rounded down: what is under the threshold is never 100 % of it.
            let percent = self.share() * 100.0;
            match percent {
                0.0 => f.write_str("0 % of ")?,
                ..0.1 => f.write_str("under 0.1 % of ")?,
                ..10.0 => write!(f, "{:.1} % of ", (percent * 10.0).floor() / 10.0)?,
                _ => write!(f, "{} % of ", percent.floor())?,
            }
        } else {
            f.write_str("below ")?;
        }
        write!(
            f,
            "{}, {} short",
            PlainNumber(self.threshold),
            PlainNumber(rounded(self.threshold - self.free))
        )
    }
}

/// A number of ours, short also where it is very large or very small.
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

/// A cell of a class with an amount in it.
pub(super) struct NumberCell<'a>(pub(super) &'static str, pub(super) &'a str);

impl fmt::Display for NumberCell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(class, text) = self;
        match (*class, text.len() > LONG_AMOUNT) {
            ("", false) => write!(f, "<td>{}</td>", Digits(text)),
            (_, false) => write!(f, "<td class=\"{class}\">{}</td>", Digits(text)),
            (_, true) => write!(f, "<td class=\"{class} long\">{}</td>", Digits(text)),
        }
    }
}

/// A longer amount may be broken into lines.
const LONG_AMOUNT: usize = 24;

/// An amount as the exchange wrote it, digit by digit, with room for the places it does not have.
struct Digits<'a>(&'a str);

impl fmt::Display for Digits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((whole, fraction)) = split(self.0) else { return f.write_str(self.0) };
        let first = whole.len() % 3;
        for (at, digit) in whole.char_indices() {
            // The gap is in the style: what is copied are the digits alone.
            let group = whole.len() > 4 && at > 0 && at % 3 == first;
            if group { write!(f, "<i>{digit}</i>")? } else { f.write_char(digit)? }
        }
        let figures = fraction.trim_end_matches(['0', '.']);
        let rest = fraction.strip_prefix(figures).unwrap_or_default();
        write!(f, "<span class=\"places\">{figures}")?;
        if !rest.is_empty() {
            write!(f, "<s>{rest}</s>")?;
        }
        f.write_str("</span>")
    }
}

/// The digits before the point, and the point with what follows; `None` for signs and exponents.
fn split(text: &str) -> Option<(&str, &str)> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    plain.then(|| text.split_at(text.find('.').unwrap_or(text.len())))
}

/// Places behind the point to make room for, so that the points stand below each other.
pub(super) fn places<'a>(rows: impl Iterator<Item = &'a HoldingState>) -> usize {
    let fraction = |text: &str| split(text).map_or(0, |(_, fraction)| fraction.len().saturating_sub(1));
    let of_row = |row: &HoldingState| match row {
        HoldingState::Read { free, frozen } => fraction(free.text()).max(fraction(frozen.text())),
        _ => 0,
    };
    rows.map(of_row).max().unwrap_or(0).min(8)
}

/// A text from outside: nothing in it is markup, neither between tags nor in a quoted attribute.
pub(super) struct EscapedText<'a>(pub(super) &'a str);

impl fmt::Display for EscapedText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// A text from outside that also keeps its writing direction to itself. ASCII has none to keep,
/// and does without the element: a page of many accounts has tens of thousands of names.
pub(super) struct AccountName<'a>(pub(super) &'a str);

impl fmt::Display for AccountName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = EscapedText(self.0);
        if self.0.is_ascii() { write!(f, "{text}") } else { write!(f, "<bdi>{text}</bdi>") }
    }
}

/// A name as part of an id: the same in the attribute and in a link, different for every name.
pub(super) struct ElementId<'a>(pub(super) &'a str);

impl fmt::Display for ElementId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => f.write_char(char::from(byte))?,
                other => write!(f, "_{other:02x}")?,
            }
        }
        Ok(())
    }
}

/// A link to a wallet's section.
pub(super) struct WalletPath<'a>(pub(super) &'a WalletSnapshot);

impl fmt::Display for WalletPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (account, wallet) = (&self.0.config.account, self.0.config.wallet);
        write!(
            f,
            "<a href=\"#{wallet}.{}\">{} <span>{wallet}</span></a>",
            ElementId(account),
            AccountName(account)
        )
    }
}

/// A length of time that the script lets grow.
pub(super) struct TickingAge(pub(super) Duration);

impl fmt::Display for TickingAge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<span data-age=\"{}\">{}</span>", self.0.as_secs(), HumanDuration(self.0))
    }
}

/// A time ahead that the script lets come.
pub(super) struct Countdown(pub(super) Duration);

impl fmt::Display for Countdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        if seconds == 0 {
            return f.write_str("<span data-in=\"0\">due</span>");
        }
        write!(f, "<span data-in=\"{seconds}\">in {}</span>", HumanDuration(self.0))
    }
}

/// A length of time in its two largest units.
pub(super) struct HumanDuration(pub(super) Duration);

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (one, word, two, half) = match seconds {
            0..60 => (1, "s", 1, ""),
            60..3_600 => (60, "min", 1, "s"),
            3_600..86_400 => (3_600, "h", 60, "min"),
            _ => (86_400, "d", 3_600, "h"),
        };
        write!(f, "{} {word}", seconds / one)?;
        match seconds % one / two {
            0 => Ok(()),
            rest => write!(f, " {rest} {half}"),
        }
    }
}

/// A time of day, with the date unless it is that of `now`.
pub(super) struct UtcTime {
    pub(super) at: Duration,
    pub(super) now: Timestamp,
}

impl fmt::Display for UtcTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const END_OF_9999: u64 = 253_402_300_799;
        let at = Duration::from_secs(self.at.as_secs().min(END_OF_9999));
        let stamp = humantime::format_rfc3339_seconds(UNIX_EPOCH + at).to_string();
        let (date, time) = stamp.split_once('T').unwrap_or_default();
        let time = time.trim_end_matches('Z');
        write!(f, "<time datetime=\"{stamp}\">")?;
        if at.as_secs() / 86_400 != self.now.unix.as_secs() / 86_400 {
            write!(f, "{date} ")?;
        }
        write!(f, "{time} UTC</time>")
    }
}

/// A number of things.
pub(super) struct Quantity(pub(super) usize, pub(super) &'static str);

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.0, self.1, if self.0 == 1 { "" } else { "s" })
    }
}

/// A difference of two f64, without the digits that only their rounding made.
fn rounded(value: f64) -> f64 {
    let (mut places, mut scaled) = (0, value);
    while scaled < 100_000.0 && places < 18 {
        scaled *= 10.0;
        places += 1;
    }
    format!("{value:.places$}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_below_is_never_rounded_up_to_the_threshold() {
        for (free, threshold, expected) in [
            (0.0, 500.0, "0 % of 500, 500 short"),
            (120.5, 500.0, "24 % of 500, 379.5 short"),
            (499.999, 500.0, "99 % of 500, 0.001 short"),
            (0.1, 0.3, "33 % of 0.3, 0.2 short"),
            (0.001, 500.0, "under 0.1 % of 500, 499.999 short"),
            (9.99, 100.0, "9.9 % of 100, 90.01 short"),
            (-1.5, 500.0, "below 500, 501.5 short"),
            (1e20, 1e21, "10 % of 1e21, 9e20 short"),
        ] {
            let gap = Shortfall::between(Some(free), Some(threshold)).map(|gap| gap.to_string());
            assert_eq!(gap.as_deref(), Some(expected));
        }
        assert_eq!(Shortfall::between(Some(500.0), Some(500.0)), None, "at the threshold is not under it");
        assert_eq!(Shortfall::between(None, Some(500.0)), None);
    }

    #[test]
    fn an_amount_keeps_every_digit() {
        let places = |text: &str| format!("<span class=\"places\">{text}</span>");
        for (amount, expected) in [
            ("0", format!("0{}", places(""))),
            ("1234.50", format!("1234{}", places(".5<s>0</s>"))),
            ("12345.00", format!("12<i>3</i>45{}", places("<s>.00</s>"))),
            ("1234567", format!("1<i>2</i>34<i>5</i>67{}", places(""))),
            (".5", places(".5")),
            ("1E-8", "1E-8".to_owned()),
            ("-12345.6", "-12345.6".to_owned()),
        ] {
            assert_eq!(Digits(amount).to_string(), expected);
        }
    }

    #[test]
    fn a_length_of_time_has_at_most_two_units() {
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
        let now = Timestamp {
            elapsed: Duration::ZERO,
            uptime: Duration::ZERO,
            unix: Duration::from_secs(1_700_000_000),
        };
        let shown = |seconds| UtcTime { at: Duration::from_secs(seconds), now }.to_string();
        assert_eq!(shown(1_700_000_001), "<time datetime=\"2023-11-14T22:13:21Z\">22:13:21 UTC</time>");
        assert!(shown(1_700_100_000).contains(">2023-11-16 02:00:00 UTC<"));
        assert!(shown(u64::MAX).contains(">9999-12-31 23:59:59 UTC<"), "an absurd pause breaks nothing");
    }
}
