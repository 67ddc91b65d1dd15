//! The Prometheus text format 0.0.4: samples, headers, numbers, escapes.
//! Knows no metric by name.

use std::{fmt::Write as _, time::Duration};

use smol_str::SmolStr;

/// The `Content-Type` of what this module writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A writer of the samples of one family.
#[derive(Debug)]
pub struct Samples {
    name: &'static str,
    labels: &'static [&'static str],
    out: String,
}

impl Samples {
    /// A writer for the family `name`; its samples have `labels`.
    #[must_use]
    pub fn new(name: &'static str, labels: &'static [&'static str]) -> Self {
        Self { name, labels, out: String::new() }
    }

    /// Writes one sample; `values` are the label values in the order of the family's labels. A label without a value is left
    /// out, which means the same.
    pub fn sample(&mut self, values: &[&str], value: f64) {
        self.line("", values, &[], value);
    }

    /// Writes one sample with `more` labels than those of the family, as names and values. The names must be valid.
    pub fn sample_with(&mut self, values: &[&str], more: &[(SmolStr, SmolStr)], value: f64) {
        let more: Vec<_> = more.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.line("", values, &more, value);
    }

    /// Writes a histogram: `counts` of observations per bucket (not cumulative), `bounds` being
    /// the buckets' upper ends in seconds, and `total` observations that took `sum` together.
    pub fn histogram(&mut self, values: &[&str], bounds: &[f64], counts: &[u64], total: u64, sum: Duration) {
        let mut below = 0;
        for (bound, count) in bounds.iter().zip(counts) {
            below += count;
            let mut end = String::new();
            write_number(*bound, &mut end);
            self.line("_bucket", values, &[("le", &end)], count_to_float(below));
        }
        self.line("_bucket", values, &[("le", "+Inf")], count_to_float(total));
        self.line("_sum", values, &[], sum.as_secs_f64());
        self.line("_count", values, &[], count_to_float(total));
    }

    /// What was written.
    #[must_use]
    pub fn finish(self) -> String {
        self.out
    }

    fn line(&mut self, suffix: &str, values: &[&str], more: &[(&str, &str)], value: f64) {
        debug_assert_eq!(values.len(), self.labels.len(), "{}", self.name);
        self.out.push_str(self.name);
        self.out.push_str(suffix);
        let mut before = '{';
        let own = self.labels.iter().copied().zip(values.iter().copied());
        let own = own.filter(|(_, value)| !value.is_empty());
        for (name, value) in own.chain(more.iter().copied()) {
            self.out.push(before);
            self.out.push_str(name);
            self.out.push_str("=\"");
            write_escaped(value, &mut self.out);
            self.out.push('"');
            before = ',';
        }
        if before == ',' {
            self.out.push('}');
        }
        self.out.push(' ');
        write_number(value, &mut self.out);
        self.out.push('\n');
    }
}

/// The two comment lines that open the family `name`. `help` must hold nothing to escape, and
/// `kind` be a word of the format.
#[must_use]
pub fn header(name: &str, help: &str, kind: &str) -> String {
    format!("# HELP {name} {help}\n# TYPE {name} {kind}\n")
}

/// Writes the shortest text that reads back to the same f64.
fn write_number(value: f64, out: &mut String) {
    if value == f64::INFINITY {
        return out.push_str("+Inf");
    }
    let start = out.len();
    let size = value.abs();
    // Writing to a String cannot fail.
    let _ = if (1e-5..1e16).contains(&size) || size == 0.0 {
        write!(out, "{value}")
    } else {
        write!(out, "{value:e}")
    };
    debug_assert_eq!(out.get(start..).and_then(|text| text.parse().ok()), Some(value));
}

fn write_escaped(value: &str, out: &mut String) {
    if !value.bytes().any(|byte| matches!(byte, b'\\' | b'"' | b'\n')) {
        return out.push_str(value);
    }
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

/// Counts of events, rows and bytes stay far below 2^53, from where on an f64 rounds them.
#[expect(clippy::cast_precision_loss)]
pub(super) fn count_to_float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::Amount;

    #[test]
    fn a_sample_is_one_line_with_escaped_labels() {
        let labels = &["account", "currency", "wallet"];
        let mut samples = Samples::new("xt_balance_free", labels);
        samples.sample(&["a\"b\\c\nd", "usdt", "spot"], 3_867.436_500_12);
        let expected = r#"xt_balance_free{account="a\"b\\c\nd",currency="usdt",wallet="spot"} 3867.43650012"#;
        assert_eq!(samples.finish(), format!("{expected}\n"));
    }

    #[test]
    fn further_labels_follow_those_of_the_family() {
        let mut samples = Samples::new("xt_account_info", &["account"]);
        samples.sample_with(&["a"], &[("desk".into(), "7".into()), ("team".into(), "x\"y".into())], 1.0);
        assert_eq!(samples.finish(), "xt_account_info{account=\"a\",desk=\"7\",team=\"x\\\"y\"} 1\n");
    }

    #[test]
    fn a_histogram_is_cumulative_and_ends_in_infinity() {
        let mut samples = Samples::new("xt_poll_duration_seconds", &["account", "wallet"]);
        samples.histogram(&["m", "spot"], &[0.5, 1.0], &[2, 3], 7, Duration::from_millis(4_250));
        let expected = "xt_poll_duration_seconds_bucket{account=\"m\",wallet=\"spot\",le=\"0.5\"} 2\n\
                        xt_poll_duration_seconds_bucket{account=\"m\",wallet=\"spot\",le=\"1\"} 5\n\
                        xt_poll_duration_seconds_bucket{account=\"m\",wallet=\"spot\",le=\"+Inf\"} 7\n\
                        xt_poll_duration_seconds_sum{account=\"m\",wallet=\"spot\"} 4.25\n\
                        xt_poll_duration_seconds_count{account=\"m\",wallet=\"spot\"} 7\n";
        assert_eq!(samples.finish(), expected);
    }

    #[test]
    fn numbers_are_short() {
        for (value, expected) in [
            (0.0, "0"),
            (1.0, "1"),
            (-3.0, "-3"),
            (2_147_483_648.0, "2147483648"),
            (-1.5, "-1.5"),
            (1e-8, "1e-8"),
            (1.234e-6, "1.234e-6"),
            (0.000_1, "0.0001"),
            (1e30, "1e30"),
            (1_700_000_000.123, "1700000000.123"),
            (f64::MAX, "1.7976931348623157e308"),
            (f64::INFINITY, "+Inf"),
        ] {
            let mut out = String::new();
            write_number(value, &mut out);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn an_amount_is_the_number_that_it_is_next_to() {
        for (text, expected) in [
            ("0.00", "0"),
            ("12.", "12"),
            ("100", "100"),
            ("0.00001000", "0.00001"),
            ("0.00000001", "1e-8"),
            ("1E-8", "1e-8"),
            (".5", "0.5"),
            ("007", "7"),
            ("-1.50", "-1.5"),
            ("-0.0", "0"),
            ("123456789012.345", "123456789012.345"),
            ("9007199254740993", "9007199254740992"),
            ("0.30000000000000000001", "0.3"),
        ] {
            let mut out = String::new();
            write_number(Amount::parse(text).map_or(f64::NAN, |amount| amount.value()), &mut out);
            assert_eq!(out, expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_number_reads_back(value in proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL | proptest::num::f64::ZERO) {
            let mut out = String::new();
            write_number(value, &mut out);
            proptest::prop_assert_eq!(out.parse::<f64>().map(f64::to_bits), Ok(value.to_bits()));
        }
    }
}
