//! Which parts of a user's input an error may repeat. The user may have pasted a secret into the wrong place, so an
//! error repeats only numbers, durations, short names of currencies and labels, addresses, and paths that exist.

use std::{net::SocketAddr, path::Path};

/// The longest number, duration, currency or label that an error repeats: a key is longer.
const QUOTED_MAX_CHARS: usize = 20;

fn is_short(text: &str) -> bool {
    text.chars().count() <= QUOTED_MAX_CHARS
}

/// Whether an error may repeat `text`: it is a number or a duration.
pub(crate) fn is_quotable(text: &str) -> bool {
    is_short(text) && (text.parse::<f64>().is_ok() || humantime::parse_duration(text).is_ok())
}

/// The `text` in quotation marks if it is a number or a duration, or else `the value`.
pub(crate) fn quote_value(text: &str) -> String {
    if is_quotable(text) { format!("{text:?}") } else { "the value".to_owned() }
}

/// The valid name of a currency in quotation marks, or `a currency` if it is too long for one.
pub(crate) fn quote_currency(name: &str) -> String {
    if is_short(name) { format!("'{name}'") } else { "a currency".to_owned() }
}

/// The valid name of a label in quotation marks, or `a label` if it is too long for a word.
pub(crate) fn quote_label_name(name: &str) -> String {
    if is_short(name) { format!("'{name}'") } else { "a label".to_owned() }
}

/// A space and the `path` if a file exists there, or else nothing. May block.
pub(crate) fn quote_existing_path(path: &Path) -> String {
    if path.exists() { format!(" {}", path.display()) } else { String::new() }
}

/// A space and the listen `address` if it is an IP address or `localhost` with a port, or `:port`; or else nothing.
pub(crate) fn quote_address(address: &str) -> String {
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    let is_local = ["", "localhost"]
        .iter()
        .any(|host| address.strip_prefix(host).and_then(|rest| rest.strip_prefix(':')).is_some_and(is_port));
    let is_address = is_local || address.parse::<SocketAddr>().is_ok();
    if is_address { format!(" {address}") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_and_durations_are_repeated() {
        for text in ["30", "-1.5", "30s", "1m 30s", "500000000000years"] {
            assert_eq!(quote_value(text), format!("{text:?}"));
        }
        for text in ["", "five", "hunter2", "0123456789abc", "123456789012345678901"] {
            assert_eq!(quote_value(text), "the value", "{text}");
        }
    }

    #[test]
    fn only_short_currencies_and_label_names_are_repeated() {
        assert_eq!(quote_currency("usdt"), "'usdt'");
        assert_eq!(quote_currency(&"x".repeat(21)), "a currency");
        assert_eq!(quote_label_name("team"), "'team'");
        assert_eq!(quote_label_name(&"x".repeat(21)), "a label");
    }

    #[test]
    fn only_paths_that_exist_are_repeated() {
        assert_eq!(quote_existing_path(Path::new("/")), " /");
        assert_eq!(quote_existing_path(Path::new("/0123456789abcdef")), "");
    }

    #[test]
    fn only_ip_addresses_and_localhost_are_repeated() {
        for address in ["127.0.0.1:10770", "[::1]:80", ":80", "localhost:80"] {
            assert_eq!(quote_address(address), format!(" {address}"));
        }
        for address in ["", "hunter2", "hunter2:80", "localhost", ":hunter2", "127.0.0.1:hunter2"] {
            assert_eq!(quote_address(address), "", "{address}");
        }
    }
}
