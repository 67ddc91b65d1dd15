//! Strict YAML. An error names the key path and the line, and shows the line that would be right. The only module that
//! names the YAML library. Reads no file, and knows no key.

mod error_text;
mod key_path;

use serde::de::DeserializeOwned;
use serde_path_to_error::{Deserializer, Track};
use serde_saphyr::Error;

pub(crate) use self::key_path::KeyExamples;
use self::{error_text::describe, key_path::KeyPath};

/// Parses `text`, a file with these keys.
///
/// # Errors
/// What is wrong, where, and how to write it. Repeats only known keys, and short names of currencies, because the text may
/// contain secrets.
pub(crate) fn read<T: DeserializeOwned>(text: &str, examples: &KeyExamples) -> Result<T, String> {
    let mut path = None;
    parse(text, &mut path).map_err(|error| {
        if let Some(line) = error.location().and_then(|at| find_tab(text, at.line())) {
            return format!("line {line}: a tab is not allowed here: indent with spaces");
        }
        let path = KeyPath::new(path.as_ref(), examples);
        let place = error.location().map(|at| format!("line {}, column {}: ", at.line(), at.column()));
        format!("{}{}", place.unwrap_or_default(), describe(error.without_snippet(), text, &path, examples))
    })
}

/// The number of the line that a tab indents, if that is the line of an error or the next one. The parser takes such a line
/// for more of the value before it.
fn find_tab(text: &str, error_line: u64) -> Option<u64> {
    let is_tabbed = |line: &str| line.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t');
    let lines = (1..).zip(text.lines()).skip_while(|(number, _)| *number < error_line).take(2);
    lines.filter(|(_, line)| is_tabbed(line)).map(|(number, _)| number).next()
}

/// Deserializes a key that may be absent, but not without a value: `prices:` would say nothing, and `ca_file: #x` neither.
///
/// # Errors
/// As `T`, and if there is no value.
pub(crate) fn required_value<'de, D: serde::Deserializer<'de>, T: serde::Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Parses `text`, and sets `path` to the place of an error.
fn parse<T: DeserializeOwned>(text: &str, path: &mut Option<serde_path_to_error::Path>) -> Result<T, Error> {
    // `1_000` is a number for some programs and a text for others.
    let options = serde_saphyr::options! { with_snippet: false, underscored_numbers_as_strings: true };
    serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
        let mut track = Track::new();
        let value = T::deserialize(Deserializer::new(deserializer, &mut track));
        if value.is_err() {
            *path = Some(track.path());
        }
        value
    })
}

/// The keys that a map in a file of the type `T` accepts, for tests. `text` has an unknown key there.
#[cfg(test)]
pub(crate) fn accepted_keys<T: DeserializeOwned>(text: &str) -> Vec<&'static str> {
    match parse::<T>(text, &mut None) {
        Err(Error::SerdeUnknownField { expected, .. }) => expected,
        _ => Vec::new(),
    }
}
