//! The query of one call: taken apart, decoded, and its signature verified over the secret.
//!
//! Knows nothing of accounts, clocks or limits. The exchange signs decoded values and does not care for the order of
//! parameters on the wire, so this parses instead of comparing text.

use std::{collections::BTreeSet, fmt::Write as _};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The decoded parameters of a call, in the order they were sent.
#[derive(Debug)]
pub(super) struct QueryParameters(Vec<(String, String)>);

impl QueryParameters {
    /// Parses the text after `?`. One trailing `&` is tolerated, as clients of the exchange send it.
    ///
    /// # Errors
    /// A sentence naming the parameter that cannot be read.
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
                let decoded = decode(name).zip(decode(value));
                decoded.ok_or_else(|| format!("parameter {name} is not percent-encoded UTF-8"))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The first value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find_map(|(key, value)| (key == name).then_some(value.as_str()))
    }

    /// The name of a parameter that was sent more than once.
    pub(super) fn repeated(&self) -> Option<&str> {
        let mut seen = BTreeSet::new();
        let mut names = self.0.iter().map(|(name, _)| name.as_str());
        names.find(|name| !seen.insert(*name))
    }

    /// Whether the parameter `signature` is the hex HMAC-SHA256 of all the others under `secret`, in either case.
    pub(super) fn signed_with(&self, secret: &str) -> bool {
        let Some(sent) = self.get("signature").and_then(unhex) else {
            return false;
        };
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
            return false;
        };
        mac.update(self.string_to_sign().as_bytes());
        mac.verify_slice(&sent).is_ok() // constant time
    }

    /// The name of a parameter that is none of `known`.
    pub(super) fn strange(&self, known: &[&str]) -> Option<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).find(|name| !known.contains(name))
    }

    /// `name=value` of every parameter but `signature`, sorted by name and joined by `&`.
    pub(super) fn string_to_sign(&self) -> String {
        let mut pairs: Vec<_> = self.0.iter().filter(|(name, _)| name != "signature").collect();
        pairs.sort_unstable();
        let mut text = String::new();
        for (name, value) in pairs {
            let joint = if text.is_empty() { "" } else { "&" };
            let _ = write!(text, "{joint}{name}={value}");
        }
        text
    }
}

/// Undoes percent-encoding and `+`; nothing if the text is malformed or not UTF-8.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => nibble(bytes.next()?)? << 4 | nibble(bytes.next()?)?,
            plain => plain,
        });
    }
    String::from_utf8(decoded).ok()
}

/// The bytes of hex digits in either case; nothing if they are none.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let mut digits = text.bytes();
    let mut bytes = Vec::with_capacity(text.len() / 2);
    while let Some(high) = digits.next() {
        bytes.push(nibble(high)? << 4 | nibble(digits.next()?)?);
    }
    Some(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::{QueryParameters, decode};

    const SIGNED: &str = "3946649833a2e67308da1446a7f1ae8e122bd6bb627badc783e1f9cef6912dec";

    fn verified(query: &str) -> bool {
        QueryParameters::parse(query).is_ok_and(|query| query.signed_with("mySecretKey"))
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
        let repeated = |query: &str| QueryParameters::parse(query).ok()?.repeated().map(str::to_owned);
        assert_eq!(repeated("a=1&b=2&a=1").as_deref(), Some("a"));
        assert_eq!(repeated("a=1&b=1"), None);
    }

    #[test]
    fn decodes_percent_and_plus() {
        assert_eq!(decode("gal%28ft%29+x").as_deref(), Some("gal(ft) x"));
    }
}
