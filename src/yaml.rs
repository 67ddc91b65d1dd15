//! YAML, strict: the one place that names the library for it. Reads no file.

use serde::de::DeserializeOwned;

use crate::quoting;

/// What `text` says.
///
/// # Errors
/// What is wrong with it and where, without the lines around it or the word itself: they may hold keys.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| unquoted(&error.to_string()))
}

/// The error without a key, a tag, or a long field or variant that it quotes.
fn unquoted(error: &str) -> String {
    let place =
        error.rsplit_once(" at line ").map(|(_, place)| format!(" at line {place}")).unwrap_or_default();
    if error.contains("duplicate mapping key") {
        return format!("a key is there twice: keep one of them{place}");
    }
    if error.contains("tagged enum") {
        return format!("a tag, which begins with !, has no meaning here: remove it{place}");
    }
    for kind in ["unknown field", "unknown variant"] {
        let Some((before, quoted)) = error.split_once(&format!("{kind} `")) else { continue };
        let Some((word, after)) = quoted.split_once("`, ") else { continue };
        if !quoting::is_short(word) {
            return format!("{before}{kind}, {after}");
        }
    }
    error.to_owned()
}
