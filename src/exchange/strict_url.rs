//! Parses URLs that are valid as they are. The library's parser repairs others, and a repaired URL may lead to a host that
//! the user did not mean.

use reqwest::Url;

/// Whether the parser accepts `authority` without changing it. It would decode and encode other names, with a crash for
/// some.
pub(super) fn is_plain_host(authority: &str) -> bool {
    authority.is_ascii() && !authority.contains('%')
}

/// The URL of these parts; `None` if it is not valid as it is.
pub(super) fn parse_host(scheme: &str, authority: &str, path: &str) -> Option<Url> {
    // The parser repairs backslashes, slashes and blanks. A URL must be correct as it is.
    let is_sound = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if authority.is_empty()
        || authority.contains('@')
        || !is_plain_host(authority)
        || !is_sound(authority)
        || !is_sound(path)
    {
        return None;
    }
    let authority = authority.to_ascii_lowercase();
    let url = Url::parse(&format!("{scheme}://{authority}{path}")).ok()?;
    // The parser reads 010.1.2.3 as 8.1.2.3, and 10.1 as 10.0.0.1. An IPv6 address has many spellings of one address.
    let host = authority.split_once(':').map_or(&*authority, |(host, _)| host);
    (authority.starts_with('[') || url.host_str() == Some(host)).then_some(url)
}
