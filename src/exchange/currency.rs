//! The name of a currency as a label and the configuration have it.
//! Knows no JSON and no amount.

use smol_str::SmolStr;

/// The longest currency name that is taken for one.
const CURRENCY_MAX_BYTES: usize = 64;

/// A currency's name as it stands in labels and in the configuration: without the blanks and
/// invisible characters around it, in lower case. `None` if nothing is left, if it is over 64 bytes,
/// or if a control character, or an invisible one other than a space, stands inside: two such names
/// would look the same.
#[must_use]
pub fn currency_name(text: &str) -> Option<SmolStr> {
    let name = SmolStr::from(text.trim_matches(is_blank).to_lowercase());
    let is_hidden = |c: char| c != ' ' && (c.is_control() || is_blank(c));
    let fit = !name.is_empty() && name.len() <= CURRENCY_MAX_BYTES && !name.chars().any(is_hidden);
    fit.then_some(name)
}

/// Whether `c` shows nothing: white space, and what Unicode calls default-ignorable or a filler. Control
/// characters are blank only where they are white space.
fn is_blank(c: char) -> bool {
    c.is_whitespace()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn currency_names_are_trimmed_lower_case_and_bounded() {
        assert_eq!(currency_name("GAL(FT)").as_deref(), Some("gal(ft)"));
        assert_eq!(currency_name("a b").as_deref(), Some("a b"));
        assert_eq!(currency_name(&"x".repeat(64)).map(|name| name.len()), Some(64));
        for pad in [
            " ",
            "\t",
            "\n",
            "\u{a0}",
            "\u{2003}",
            "\u{3000}",
            "\u{200b}",
            "\u{200d}",
            "\u{2060}",
            "\u{feff}",
            "\u{180e}",
            "\u{ad}",
            "\u{3164}",
            "\u{fe0f}",
            "\u{202e}",
            "\u{e0020}",
            " \u{feff} ",
        ] {
            for padded in [format!("{pad}USDT"), format!("usdt{pad}"), format!("{pad}usdt{pad}{pad}")] {
                assert_eq!(currency_name(&padded).as_deref(), Some("usdt"), "{padded:?}");
            }
            assert_eq!(currency_name(pad), None, "{pad:?}");
            assert_eq!(currency_name(&format!("us{pad}dt")).is_some(), pad == " ", "{pad:?}");
        }
        for bad in ["", "a\nb", "a\u{7f}", "\u{0}a", "\u{85}", &"x".repeat(65), &"İ".repeat(32)] {
            assert_eq!(currency_name(bad), None, "{bad:?}");
        }
    }
}
