//! YAML, strict: the one place that names the library for it. Reads no file.

use serde::de::DeserializeOwned;

/// What `text` says.
///
/// # Errors
/// What is wrong with it and where, without the lines around it: they may hold keys.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())
}
