//! Parses URLs that are valid as they are. The library's parser repairs others, and a repaired URL may lead to a host that
//! the user did not mean.

use reqwest::Url;

/// Whether the parser accepts `authority` without changing it. It would decode and encode other names, with a crash for
/// some.
pub(super) fn is_plain_host(authority: &str) -> bool {
    authority.is_ascii() && !authority.contains('%')
}

/// The port that ends `authority`; `None` if it names no port. Other parsers ignore a port that does not exist, and use the
/// default port instead.
///
/// # Errors
/// The predicate of a sentence if the port is not a number from 1 to 65535.
pub(crate) fn parse_port(authority: &str) -> Result<Option<u16>, String> {
    let after_brackets = authority.rsplit_once(']').map_or(authority, |(_, rest)| rest);
    let Some((_, port)) = after_brackets.rsplit_once(':') else { return Ok(None) };
    // `parse` alone would accept a plus sign.
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse() {
        Ok(port @ 1..) if is_number => Ok(Some(port)),
        _ => Err("has an invalid port: write a number from 1 to 65535 after the colon, or remove the colon"
            .to_owned()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_a_number_from_1_to_65535() {
        for (authority, port) in
            [("a.b", None), ("[::1]", None), ("a.b:1", Some(1)), ("[::1]:65535", Some(65535))]
        {
            assert_eq!(parse_port(authority), Ok(port), "{authority}");
        }
        for authority in [
            "a.b:",
            "a.b:0",
            "a.b:65536",
            "a.b:99999",
            "a.b:4294967296",
            "a.b:+80",
            "a.b:-1",
            "[::1]:0",
            "a.b:x",
        ] {
            assert!(parse_port(authority).is_err(), "{authority}");
        }
    }
}
