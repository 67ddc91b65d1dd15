//! What an error may repeat of what a user typed. A secret may have been pasted in the wrong place, so only text that is
//! too short for one is repeated, and of paths only those that lead to something.

use std::path::Path;

/// The longest text that an error repeats: longer than a number, a duration or a currency, shorter than a key.
const QUOTED_MAX_CHARS: usize = 12;

/// Whether `text` is too short for a key.
pub(crate) fn is_short(text: &str) -> bool {
    text.chars().count() <= QUOTED_MAX_CHARS
}

/// The `text` in quotation marks, or a phrase that stands for it.
pub(crate) fn quote_short(text: &str) -> String {
    if is_short(text) { format!("{text:?}") } else { "the given text".to_owned() }
}

/// A blank and the `path` if there is something at its end, or nothing. May block.
pub(crate) fn quote_existing_path(path: &Path) -> String {
    if path.exists() { format!(" {}", path.display()) } else { String::new() }
}

/// The `text` if it is short or ends in a port, or a mark that stands for it.
pub(crate) fn quote_address(text: &str) -> &str {
    let is_host = |host: &str| !host.contains(':') || host.starts_with('[');
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    let is_address = text.rsplit_once(':').is_some_and(|(host, port)| is_host(host) && is_port(port));
    if is_address || is_short(text) { text } else { "…" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_texts_and_paths_that_exist_are_repeated() {
        assert_eq!(quote_short("30 seconds"), "\"30 seconds\"");
        assert_eq!(quote_short("0123456789abc"), "the given text");
        assert_eq!(quote_existing_path(Path::new("/")), " /");
        assert_eq!(quote_existing_path(Path::new("/0123456789abcdef")), "");
        assert_eq!(quote_address("localhost:10770"), "localhost:10770");
        assert_eq!(quote_address("0123456789abcdef"), "…");
    }
}
