//! The place of an error, as a path of known keys.

use std::fmt::Write as _;

use serde_path_to_error::{Path, Segment};

/// The longest name of a currency in a path.
const CURRENCY_MAX_CHARS: usize = 20;

/// The keys of a file, each with a line that is right. A path is written as in `accounts[].watch.*`, where `[]` stands for
/// each item of a list and `*` for each key that the user chooses. The empty path stands for the whole file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyExamples {
    /// Path and line of each key. An error puts the line between two backticks, so a line with two more shows two of them.
    pub lines: &'static [(&'static str, &'static str)],
    /// The path whose keys are names of currencies, which an error may repeat; or the empty path.
    pub currencies: &'static str,
}

/// The place of an error. It ends before the first key that is unknown, because that may be a secret.
#[derive(Debug, Default, PartialEq)]
pub(super) struct KeyPath {
    /// As in the table of examples: `accounts[].watch.*`.
    pub pattern: String,
    /// As in the file: `accounts[0].watch.usdt`.
    pub shown: String,
}

impl KeyPath {
    pub(super) fn new(path: Option<&Path>, examples: &KeyExamples) -> Self {
        let mut known = Self::default();
        for segment in path.into_iter().flatten() {
            let is_known = match segment {
                Segment::Seq { index } => {
                    known.pattern.push_str("[]");
                    let _ = write!(known.shown, "[{index}]");
                    true
                }
                Segment::Map { key } => known.push(key, examples),
                Segment::Enum { .. } | Segment::Unknown => false,
            };
            if !is_known {
                break;
            }
        }
        known
    }

    /// The path of `key` below this one; `None` if the key must not be repeated.
    pub(super) fn join(&self, key: &str, examples: &KeyExamples) -> Option<Self> {
        let mut path = Self { pattern: self.pattern.clone(), shown: self.shown.clone() };
        path.push(key, examples).then_some(path)
    }

    /// Appends `key` if it is known.
    fn push(&mut self, key: &str, examples: &KeyExamples) -> bool {
        let is_currency = self.pattern == examples.currencies && !examples.currencies.is_empty();
        if is_currency && is_quotable_currency(key) {
            self.pattern.push_str(".*");
        } else {
            let pattern = join(&self.pattern, key);
            if !examples.lines.iter().any(|(known, _)| *known == pattern) {
                return false;
            }
            self.pattern = pattern;
        }
        self.shown = join(&self.shown, key);
        true
    }

    /// The example of the path, or of the nearest path above it that has one.
    pub(super) fn example(&self, examples: &KeyExamples) -> Option<&'static str> {
        let mut pattern = self.pattern.as_str();
        loop {
            if let Some((_, line)) = examples.lines.iter().find(|(known, _)| *known == pattern) {
                return Some(line);
            }
            pattern = pattern.get(..pattern.rfind(['.', '['])?)?;
        }
    }
}

/// The path of `key` below `path`.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn is_quotable_currency(key: &str) -> bool {
    let is_allowed = |c: char| c.is_alphanumeric() || ".-_()$+/".contains(c);
    !key.is_empty() && key.chars().count() <= CURRENCY_MAX_CHARS && key.chars().all(is_allowed)
}
