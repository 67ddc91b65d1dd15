//! The query of a call: parsing, decoding and v1's signature.
//!
//! Must not know accounts, clocks or limits. The exchange signs decoded values in the order of their names. The signature
//! therefore covers the parsed parameters and not the text on the wire.

use std::{collections::BTreeSet, fmt::Write as _};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Decoded parameters of a call, in the order of the query.
#[derive(Debug)]
pub(super) struct QueryParameters(Vec<(String, String)>);

impl QueryParameters {
    /// Parses the text after `?`. One trailing `&` is allowed, because clients of the exchange send it. The
    /// `form_urlencoded` crate would accept malformed percent-encoding, so this parser is stricter.
    ///
    /// # Errors
    /// A sentence with the name of the malformed parameter.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.strip_suffix('&').unwrap_or(text);
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        text.split('&')
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                if name.is_empty() {
                    return Err("a parameter has no name".to_owned());
                }
                let decoded = decode_percent(name).zip(decode_percent(value));
                decoded.ok_or_else(|| format!("parameter {name} is not percent-encoded UTF-8"))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The first value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find_map(|(key, value)| (key == name).then_some(value.as_str()))
    }

    /// Finds a parameter that is given more than once.
    pub(super) fn find_repeated(&self) -> Option<&str> {
        let mut seen = BTreeSet::new();
        let mut names = self.0.iter().map(|(name, _)| name.as_str());
        names.find(|name| !seen.insert(*name))
    }

    /// Whether the parameter `signature` is the hex HMAC-SHA256 of all other parameters with the key `secret`. Upper and
    /// lower case are equal.
    pub(super) fn verify_signature(&self, secret: &str) -> bool {
        let Some(sent) = self.get("signature").and_then(decode_hex) else {
            return false;
        };
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
            return false;
        };
        mac.update(self.string_to_sign().as_bytes());
        mac.verify_slice(&sent).is_ok() // constant time
    }

    /// Finds a parameter that is not in `allowed`.
    pub(super) fn find_unknown(&self, allowed: &[&str]) -> Option<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).find(|name| !allowed.contains(name))
    }

    /// `name=value` of every parameter except `signature`, sorted by name and joined by `&`.
    pub(super) fn string_to_sign(&self) -> String {
        let mut pairs: Vec<_> = self.0.iter().filter(|(name, _)| name != "signature").collect();
        pairs.sort_unstable();
        let mut text = String::new();
        for (name, value) in pairs {
            let separator = if text.is_empty() { "" } else { "&" };
            let _ = write!(text, "{separator}{name}={value}");
        }
        text
    }
}

/// Decodes percent-encoding and `+`; `None` if the text is malformed or not UTF-8.
pub(super) fn decode_percent(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => decode_nibble(bytes.next()?)? << 4 | decode_nibble(bytes.next()?)?,
            plain => plain,
        });
    }
    String::from_utf8(decoded).ok()
}

/// Decodes hex digits in either case; `None` if the text is malformed.
pub(super) fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let mut digits = text.bytes();
    let mut bytes = Vec::with_capacity(text.len() / 2);
    while let Some(high) = digits.next() {
        bytes.push(decode_nibble(high)? << 4 | decode_nibble(digits.next()?)?);
    }
    Some(bytes)
}

fn decode_nibble(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::{QueryParameters, decode_percent};

    const SIGNED: &str = "3946649833a2e67308da1446a7f1ae8e122bd6bb627badc783e1f9cef6912dec";

    fn verified(query: &str) -> bool {
        QueryParameters::parse(query).is_ok_and(|query| query.verify_signature("mySecretKey"))
    }

    #[test]
    fn order_case_and_a_trailing_ampersand_do_not_matter() {
        assert!(verified(&format!(
            "signature={SIGNED}&nonce=1562919832183&account=1&accesskey=myAccessKey&"
        )));
        assert!(verified(&format!(
            "accesskey=my%41ccessKey&account=1&nonce=1562919832183&signature={}",
            SIGNED.to_uppercase()
        )));
    }

    #[test]
    fn one_changed_digit_or_value_is_refused() {
        let wrong = SIGNED.replacen('3', "4", 1);
        for (account, signature) in
            [("1", wrong.as_str()), ("2", SIGNED), ("1", ""), ("1", "zz"), ("1", "394")]
        {
            let query =
                format!("accesskey=myAccessKey&account={account}&nonce=1562919832183&signature={signature}");
            assert!(!verified(&query), "{query}");
        }
        assert!(!verified("accesskey=myAccessKey&account=1&nonce=1562919832183"));
    }

    #[test]
    fn names_what_cannot_be_read() {
        for (query, sentence) in [
            ("a=%zz", "parameter a is not percent-encoded UTF-8"),
            ("a=%f", "parameter a is not percent-encoded UTF-8"),
            ("a=%ff", "parameter a is not percent-encoded UTF-8"),
            ("=1", "a parameter has no name"),
            ("a=1&&b=2", "a parameter has no name"),
        ] {
            assert_eq!(QueryParameters::parse(query).err().as_deref(), Some(sentence), "{query}");
        }
    }

    #[test]
    fn finds_a_repeated_name() {
        let repeated = |query: &str| QueryParameters::parse(query).ok()?.find_repeated().map(str::to_owned);
        assert_eq!(repeated("a=1&b=2&a=1").as_deref(), Some("a"));
        assert_eq!(repeated("a=1&b=1"), None);
    }

    #[test]
    fn decodes_percent_and_plus() {
        assert_eq!(decode_percent("gal%28ft%29+x").as_deref(), Some("gal(ft) x"));
    }
}
