//! The files of deploy/ as the drill uses them: every time divided by [`FACTOR`], every address replaced, and nothing else
//! changed. Fails if there is nothing to shorten or replace. Must not know servers or the meaning of the files.

use std::{collections::BTreeMap, fmt::Write as _, fs, time::Duration};

use serde::Deserialize;

/// How many times faster than shipped. Divides every time in the files to a whole number of seconds.
pub const FACTOR: u32 = 15;

pub const RULES: &str = "deploy/prometheus/xt-balance.rules.yml";
pub const WITHDRAWAL_RULES: &str = "deploy/prometheus/xt-withdrawals.rules.yml";
pub const PROMETHEUS: &str = "deploy/prometheus/prometheus.yml";
pub const ALERTMANAGER: &str = "deploy/alertmanager/alertmanager.yml";

/// The text of a shipped file with every time divided by `factor`.
pub fn read_shortened(path: &str, factor: u32) -> String {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let (shortened, found) = shorten_text(&text, factor);
    assert!(found > 0, "{path} has no time in it that could be shortened");
    shortened
}

/// Replaces `from` by `to`; `from` must occur exactly `times` times.
pub fn replace_address(text: &str, from: &str, to: &str, times: usize) -> String {
    assert_eq!(text.matches(from).count(), times, "how often {from} stands in:\n{text}");
    text.replace(from, to)
}

/// Divides a time, which must give whole milliseconds.
pub fn shorten_duration(time: Duration, factor: u32) -> Duration {
    let is_whole = time.as_millis().is_multiple_of(u128::from(factor));
    assert!(is_whole, "{time:?} divided by {factor} is no whole number of milliseconds");
    time / factor
}

/// The shipped alerts by name and severity: `for` and `keep_firing_for` in seconds.
pub fn alerts() -> BTreeMap<(String, String), (f64, f64)> {
    #[derive(Deserialize)]
    struct File {
        groups: Vec<Group>,
    }
    #[derive(Deserialize)]
    struct Group {
        rules: Vec<Rule>,
    }
    #[derive(Deserialize)]
    struct Rule {
        alert: Option<String>,
        #[serde(default, rename = "for")]
        waits: String,
        #[serde(default)]
        keep_firing_for: String,
        #[serde(default)]
        labels: BTreeMap<String, String>,
    }
    let text = fs::read_to_string(RULES).unwrap_or_else(|error| panic!("{RULES}: {error}"));
    let file: File = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{RULES}: {error}"));
    let seconds = |time: &str| parse_duration(time).map_or(0.0, |(time, _)| time.as_secs_f64());
    let rules = file.groups.into_iter().flat_map(|group| group.rules);
    let alert = |rule: Rule| {
        let severity = rule.labels.get("severity").cloned().unwrap_or_default();
        Some(((rule.alert?, severity), (seconds(&rule.waits), seconds(&rule.keep_firing_for))))
    };
    rules.filter_map(alert).collect()
}

/// Shortens every time that is a word of its own, `5m` but not the one in `ratio_rate15m`. Returns their number.
fn shorten_text(text: &str, factor: u32) -> (String, usize) {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_.".contains(c);
    let (mut short_text, mut found) = (String::new(), 0);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word = rest.split_once(|c| !is_word(c)).map_or(rest, |(word, _)| word);
        let length = if let Some((time, "")) = parse_duration(word) {
            let _ = write!(short_text, "{}ms", shorten_duration(time, factor).as_millis());
            found += 1;
            word.len()
        } else {
            let length = word.len().max(first.len_utf8());
            short_text += &rest[..length];
            length
        };
        rest = &rest[length..];
    }
    (short_text, found)
}

/// Parses the time at the start of a text, such as `5m` or `1h30m`. Returns the rest of the text too.
fn parse_duration(text: &str) -> Option<(Duration, &str)> {
    const UNITS: [(&str, u64); 6] =
        [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];
    let (mut sum, mut rest) = (None, text);
    while let Some(digits) = rest.find(|c: char| !c.is_ascii_digit()).filter(|digits| *digits > 0) {
        let (number, tail) = rest.split_at(digits);
        let Some((tail, unit)) =
            UNITS.iter().find_map(|(name, unit)| Some((tail.strip_prefix(name)?, *unit)))
        else {
            break;
        };
        let part = Duration::from_millis(number.parse::<u64>().ok()? * unit);
        sum = Some(sum.unwrap_or_default() + part);
        rest = tail;
    }
    Some((sum?, rest))
}

#[test]
fn only_times_are_shortened() {
    let text = "group_wait: 30s # 1h30m, 2 m\nrate15m: rate(x_total[15m]) / 1800 {{ printf \"%.8f\" 5 }} [127.0.0.1:9099, offset 6h]";
    let shorten_duration = "group_wait: 2000ms # 360000ms, 2 m\nrate15m: rate(x_total[60000ms]) / 1800 {{ printf \"%.8f\" 5 }} [127.0.0.1:9099, offset 1440000ms]";
    assert_eq!(shorten_text(text, FACTOR), (shorten_duration.to_owned(), 4));
    assert_eq!(shorten_text("x[30m:15s]", FACTOR), ("x[120000ms:1000ms]".to_owned(), 2));
}

#[test]
#[should_panic(expected = "is no whole number")]
fn a_time_that_cannot_be_shortened_exactly_is_refused() {
    shorten_text("for: 1ms", FACTOR);
}

#[test]
#[should_panic(expected = "how often 127.0.0.1:9093 stands in")]
fn an_address_that_is_not_there_is_refused() {
    replace_address("targets: [127.0.0.1:9094]", "127.0.0.1:9093", "127.0.0.1:1", 1);
}
