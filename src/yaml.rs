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

/// The error without a long field or variant that it quotes in backticks.
fn unquoted(error: &str) -> String {
    for kind in ["unknown field", "unknown variant"] {
        let Some((before, quoted)) = error.split_once(&format!("{kind} `")) else { continue };
        let Some((word, after)) = quoted.split_once("`, ") else { continue };
        if !quoting::is_short(word) {
            return format!("{before}{kind}, {after}");
        }
    }
    error.to_owned()
}
