//! Strict YAML. The only module that names the YAML library. Reads no file.

use serde::de::DeserializeOwned;

/// Parses `text`.
///
/// # Errors
/// What is wrong and where. Does not repeat the text, because it may contain keys.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| redact(&error.to_string()))
}

/// Removes the key, the tag, the field or the variant that a library's error quotes.
fn redact(error: &str) -> String {
    let place =
        error.rsplit_once(" at line ").map(|(_, place)| format!(" at line {place}")).unwrap_or_default();
    if error.contains("duplicate mapping key") {
        return format!("duplicate key: remove one of the two{place}");
    }
    if error.contains("tagged enum") {
        return format!("a tag, which begins with !, is not supported: remove it{place}");
    }
    for kind in ["unknown field", "unknown variant"] {
        let Some((before, quoted)) = error.split_once(&format!("{kind} `")) else { continue };
        let Some((_, after)) = quoted.split_once("`, ") else { continue };
        return format!("{before}{kind}, {after}");
    }
    error.to_owned()
}
