//! The Prometheus text format 0.0.4: samples, headers, numbers, escapes.
//! Knows no metric by name.

use std::{fmt::Write as _, time::Duration};

use crate::decimal;

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
    /// A writer for the family `name` whose samples bear `labels`, into `out`, which is emptied.
    #[must_use]
    pub fn of(name: &'static str, labels: &'static [&'static str], mut out: String) -> Self {
        out.clear();
        Self { name, labels, out }
    }

    /// Writes one sample; `values` are the label values in the order of the family's labels.
    pub fn sample(&mut self, values: &[&str], value: f64) {
        self.line("", values, None, |out| number(value, out));
    }

    /// A writer of samples whose label values are all alike but for one, which is `None` in `values`.
    #[must_use]
    pub fn rows(&mut self, values: &[Option<&str>]) -> Rows<'_> {
        debug_assert_eq!(values.len(), self.labels.len(), "{}", self.name);
        let (mut before, mut after) = (self.name.to_owned(), String::new());
        let mut place = &mut before;
        let mut mark = '{';
        for (name, value) in self.labels.iter().zip(values) {
            place.push(mark);
            place.push_str(name);
            place.push_str("=\"");
            match value {
                Some(value) => escape(value, place),
                None => place = &mut after,
            }
            place.push('"');
            mark = ',';
        }
        place.push_str("} ");
        Rows { before, after, out: &mut self.out }
    }

    /// Writes a histogram: `counts` of observations per bucket (not cumulative), `bounds` being
    /// the buckets' upper ends in seconds, and `total` observations that took `sum` together.
    pub fn histogram(&mut self, values: &[&str], bounds: &[f64], counts: &[u64], total: u64, sum: Duration) {
        let mut below = 0;
        for (bound, count) in bounds.iter().zip(counts) {
            below += count;
            self.line("_bucket", values, Some(*bound), |out| number(count_value(below), out));
        }
        self.line("_bucket", values, Some(f64::INFINITY), |out| number(count_value(total), out));
        self.line("_sum", values, None, |out| number(sum.as_secs_f64(), out));
        self.line("_count", values, None, |out| number(count_value(total), out));
    }

    /// What was written.
    #[must_use]
    pub fn finish(self) -> String {
        self.out
    }

    fn line(&mut self, suffix: &str, values: &[&str], le: Option<f64>, value: impl FnOnce(&mut String)) {
        debug_assert_eq!(values.len(), self.labels.len(), "{}", self.name);
        self.out.push_str(self.name);
        self.out.push_str(suffix);
        let mut before = '{';
        for (name, value) in self.labels.iter().zip(values) {
            self.out.push(before);
            self.out.push_str(name);
            self.out.push_str("=\"");
            escape(value, &mut self.out);
            self.out.push('"');
            before = ',';
        }
        if let Some(bound) = le {
            self.out.push(before);
            self.out.push_str("le=\"");
            number(bound, &mut self.out);
            self.out.push('"');
            before = ',';
        }
        if before == ',' {
            self.out.push('}');
        }
        self.out.push(' ');
        value(&mut self.out);
        self.out.push('\n');
    }
}

/// A writer of samples that differ in the value of one label.
#[derive(Debug)]
pub struct Rows<'a> {
    /// From the name to where that value begins, and from its end to the number.
    before: String,
    after: String,
    out: &'a mut String,
}

impl Rows<'_> {
    /// Writes one sample; `label` is the value of the label that differs.
    pub fn sample(&mut self, label: &str, value: f64) {
        self.row(label, |out| number(value, out));
    }

    /// As [`Rows::sample`], of the number that is next to the decimal number `amount`.
    pub fn amount(&mut self, label: &str, amount: &str) {
        self.row(label, |out| match decimal::shortest(amount) {
            Some(text) => out.push_str(text),
            None => number(decimal::value(amount), out),
        });
    }

    fn row(&mut self, label: &str, value: impl FnOnce(&mut String)) {
        self.out.push_str(&self.before);
        escape(label, self.out);
        self.out.push_str(&self.after);
        value(self.out);
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
fn number(value: f64, out: &mut String) {
    if value == f64::INFINITY {
        return out.push_str("+Inf");
    }
    let start = out.len();
    let size = value.abs();
    // Most numbers are counts, and whole ones are soon written. What does not fit is cut off, and then another.
    #[expect(clippy::cast_possible_truncation)]
    let whole = value as i32;
    // Writing to a String cannot fail.
    if f64::from(whole).to_bits() == value.to_bits() {
        let _ = write!(out, "{whole}");
    } else if (1e-5..1e16).contains(&size) || size == 0.0 {
        let _ = write!(out, "{value}");
    } else {
        let _ = write!(out, "{value:e}");
    }
    debug_assert_eq!(out.get(start..).and_then(|text| text.parse().ok()), Some(value));
}

fn escape(value: &str, out: &mut String) {
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

/// Counts stay far below 2^53, where an f64 would begin to round them.
#[expect(clippy::cast_precision_loss)]
fn count_value(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_one_line_with_escaped_labels() {
        let labels = &["account", "currency", "wallet"];
        let mut samples = Samples::of("xt_balance_free", labels, "what was written before".to_owned());
        samples.sample(&["a\"b\\c\nd", "usdt", "spot"], 3_867.436_500_12);
        let expected = r#"xt_balance_free{account="a\"b\\c\nd",currency="usdt",wallet="spot"} 3867.43650012"#;
        assert_eq!(samples.finish(), format!("{expected}\n"));
    }

    #[test]
    fn rows_are_the_samples_they_stand_for() {
        let labels = &["one", "three", "two"];
        for [a, b, c] in [["x\n", "b\"", "c"], ["a", "x\n", "c"], ["a", "b", "x\n"]] {
            let all_but = |value| Some(value).filter(|value| *value != "x\n");
            let (mut samples, mut expected) =
                (Samples::of("n", labels, String::new()), Samples::of("n", labels, String::new()));
            samples.rows(&[all_but(a), all_but(b), all_but(c)]).sample("x\n", 1.5);
            expected.sample(&[a, b, c], 1.5);
            assert_eq!(samples.finish(), expected.finish());
        }
    }

    #[test]
    fn a_histogram_is_cumulative_and_ends_in_infinity() {
        let mut samples = Samples::of("xt_poll_duration_seconds", &["account", "wallet"], String::new());
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
            number(value, &mut out);
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
            let mut samples = Samples::of("n", &["l"], String::new());
            samples.rows(&[None]).amount("x", text);
            assert_eq!(samples.finish(), format!("n{{l=\"x\"}} {expected}\n"), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn the_shortest_text_of_an_amount_is_that_of_its_f64(text in "(0|[1-9][0-9]{0,17})(\\.[0-9]{0,18})?|0\\.0{0,8}[0-9]{1,9}") {
            if let (Some(short), Ok(value)) = (decimal::shortest(&text), text.parse()) {
                let mut expected = String::new();
                number(value, &mut expected);
                proptest::prop_assert_eq!(short, expected);
            }
        }

        #[test]
        fn every_number_reads_back(value in proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL | proptest::num::f64::ZERO) {
            let mut out = String::new();
            number(value, &mut out);
            proptest::prop_assert_eq!(out.parse::<f64>().map(f64::to_bits), Ok(value.to_bits()));
        }
    }
}
