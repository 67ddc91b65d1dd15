//! The list of all metrics for people, as `--metrics` prints it. It knows no value.

use std::fmt::Write as _;

use super::metrics::FAMILIES;

/// Longest line, indentation included.
const WIDTH: usize = 80;
const INDENT: &str = "  ";

/// Every family with its type, labels and meaning, in the order of the exposition.
#[must_use]
pub fn list_metrics() -> String {
    let mut text = String::new();
    for family in FAMILIES.iter() {
        let _ = writeln!(text, "{} ({})", family.name, family.kind.type_name());
        if !family.labels.is_empty() {
            let _ = writeln!(text, "{INDENT}labels: {}", family.labels.join(", "));
        }
        write_wrapped(&mut text, &family.meaning());
        text.push('\n');
    }
    text
}

/// Writes indented lines of at most [`WIDTH`] characters.
fn write_wrapped(out: &mut String, text: &str) {
    let mut length = 0;
    for word in text.split(' ') {
        let word_length = word.chars().count();
        if length == 0 {
            out.push_str(INDENT);
            length = INDENT.len();
        } else if length + 1 + word_length > WIDTH {
            let _ = write!(out, "\n{INDENT}");
            length = INDENT.len();
        } else {
            out.push(' ');
            length += 1;
        }
        out.push_str(word);
        length += word_length;
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_listed_and_no_line_is_too_long() {
        let text = list_metrics();
        for family in FAMILIES.iter() {
            let title = format!("{} ({})\n", family.name, family.kind.type_name());
            assert!(text.contains(&title), "{}", family.name);
            assert!(text.replace("\n  ", " ").contains(&family.meaning()), "{}", family.name);
        }
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    }
}
