//! The `labels:` of an account, which become labels of `xt_account_info`.
//! An error repeats no label's value, and a name only if it is short: a user may have pasted a key.

use std::collections::BTreeMap;

use crate::{exposition::metrics::FAMILIES, quoting::quote_label_name, snapshot::store::AccountLabels};

const MAX_LABELS: usize = 10;
const MAX_BYTES: usize = 64;
/// The least number of hexadecimal digits in a row, dashes aside, that count as a key: XT's have 32 and 40.
const KEY_DIGITS: usize = 32;

/// Labels that Prometheus or the alerting rules set.
const RESERVED: &[&str] = &["alertname", "instance", "job", "le", "quantile", "severity"];
/// Prefixes of labels that Prometheus sets: its own, and those of labels that a target has too.
const RESERVED_PREFIXES: &[&str] = &["__", "exported_"];

/// Validates `labels`, by name.
///
/// # Errors
/// What is wrong with the first invalid label, and how to write it.
pub(super) fn validate(labels: &BTreeMap<String, String>) -> Result<AccountLabels, String> {
    if labels.len() > MAX_LABELS {
        return Err(format!("labels has {} labels, but at most {MAX_LABELS} are allowed", labels.len()));
    }
    for (name, value) in labels {
        check_name(name).map_err(|why| format!("labels: {why}"))?;
        check_value(value).map_err(|why| format!("labels: the value of {} {why}", quote_label_name(name)))?;
    }
    Ok(labels.iter().map(|(name, value)| (name.into(), value.into())).collect())
}

fn check_name(name: &str) -> Result<(), String> {
    const EXAMPLE: &str = "write `labels: {team: desk-a}`";
    let is_valid = name.len() <= MAX_BYTES
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_valid {
        return Err(format!(
            "the name of a label has 1 to {MAX_BYTES} letters, digits and _, and does not begin with a digit: {EXAMPLE}"
        ));
    }
    if looks_like_key(name) {
        return Err(format!("the name of a label looks like a key: {EXAMPLE}"));
    }
    let is_own = FAMILIES.iter().any(|family| family.labels.contains(&name)) || RESERVED.contains(&name);
    if is_own || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return Err(format!(
            "{} is a label of Prometheus, of the exporter or of the alerting rules: choose another name",
            quote_label_name(name)
        ));
    }
    Ok(())
}

/// Checks a value. The error is the predicate of a sentence.
fn check_value(value: &str) -> Result<(), String> {
    let is_valid = (1..=MAX_BYTES).contains(&value.len())
        && !value.chars().any(char::is_control)
        && value.trim() == value;
    if !is_valid {
        return Err(format!(
            "must have 1 to {MAX_BYTES} bytes, no control characters and no surrounding spaces"
        ));
    }
    if looks_like_key(value) {
        return Err("looks like a key, and is shown in metrics: write something else there".to_owned());
    }
    Ok(())
}

fn looks_like_key(text: &str) -> bool {
    let mut digits = 0;
    text.chars().filter(|c| *c != '-').any(|c| {
        digits = if c.is_ascii_hexdigit() { digits + 1 } else { 0 };
        digits >= KEY_DIGITS
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(name: &str, value: &str) -> String {
        validate(&[(name.to_owned(), value.to_owned())].into()).err().unwrap_or_default()
    }

    #[test]
    fn labels_are_valid_for_prometheus_and_not_taken() {
        for (name, value) in [
            ("team", "desk-a"),
            ("_private", "Händler 7"),
            ("T2", &"x".repeat(64)),
            ("version_", "9f1e2c3d-4b5a"),
            (&"n".repeat(64), "1"),
        ] {
            assert_eq!(error(name, value), "", "{name}: {value}");
        }
        for name in ["", "2nd", "te-am", "te:am", "größe", &"n".repeat(65)] {
            assert!(error(name, "x").starts_with("labels: the name of a label has"), "{name}");
        }
        for name in ["account", "wallet", "currency", "reason", "job", "severity", "__name__", "exported_x"] {
            let expected = format!(
                "labels: '{name}' is a label of Prometheus, of the exporter or of the alerting rules"
            );
            assert!(error(name, "x").starts_with(&expected), "{}", error(name, "x"));
        }
        for value in ["", " desk", "desk\n", &"x".repeat(65)] {
            let error = error("team", value);
            assert!(error.starts_with("labels: the value of 'team' must have 1 to 64 bytes"), "{error}");
        }
        let many: BTreeMap<_, _> = (0..11).map(|n| (format!("l{n}"), "x".to_owned())).collect();
        assert!(validate(&many).is_err_and(|why| why.contains("has 11 labels")));
    }

    #[test]
    fn a_pasted_key_is_rejected_and_not_repeated() {
        let access = "1f2e3d4c-5b6a-7980-8192-a3b4c5d6e7f8";
        let secret = "0123456789ABCDEF0123456789abcdef01234567";
        for (name, value) in [("team", access), ("team", secret), ("a123456789abcdef0123456789abcdef", "x")] {
            let error = error(name, value);
            assert!(error.contains("looks like a key"), "{error}");
            assert!(!error.contains("123456789") && !error.contains("1f2e3d4c"), "{error}");
        }
        // A longer name than a word may be a key of another exchange.
        let error = error("qzqzqzqzqzqzqzqzqzqzqzqz", "");
        assert!(error.contains("the value of a label must"), "{error}");
    }
}
