//! A key pair that cannot be printed and is wiped when dropped.
//! Depends on no source of keys and no request.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// A text that no log, error or page may show. Printing it shows a placeholder.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes over a text. Surrounding white space, such as the line break at the end of a file, is removed; the rest
    /// must be one word of visible ASCII.
    ///
    /// # Errors
    /// A sentence about the problem, without any part of the text.
    pub fn new(text: &Zeroizing<String>) -> Result<Self, &'static str> {
        let word = text.trim();
        if word.is_empty() {
            return Err("is empty");
        }
        if !word.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("is not one word of visible ASCII characters: was something else saved with it?");
        }
        Ok(Self(Zeroizing::new(word.to_owned())))
    }

    /// The text, for the signature and for redaction.
    fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The key pair of an account. Both halves are secret, because the access key identifies an account to every reader of
/// a log. Clones share them.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair(Arc<Halves>);

#[derive(PartialEq, Eq)]
struct Halves {
    access: Secret,
    secret: Secret,
    id: KeyId,
    pair_id: PairId,
}

/// Identifies a key without showing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub struct KeyId(Digest32);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from(self.0))
    }
}

impl FromStr for KeyId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Digest32::try_from(text.to_owned()).map(Self)
    }
}

/// Identifies a pair without showing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub(super) struct PairId(Digest32);

/// A SHA-256 hash. As text: 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
struct Digest32([u8; 32]);

impl From<Digest32> for String {
    fn from(Digest32(bytes): Digest32) -> Self {
        bytes.iter().fold(Self::new(), |text, byte| text + &format!("{byte:02x}"))
    }
}

impl TryFrom<String> for Digest32 {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const ERROR: &str = "is not 64 hexadecimal digits";
        let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16)?.try_into().ok()).collect();
        let (pairs, []) = digits.as_deref().ok_or(ERROR)?.as_chunks::<2>() else { return Err(ERROR) };
        let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
        bytes.try_into().map(Self).map_err(|_| ERROR)
    }
}

impl KeyPair {
    /// The pair of `access`, which every request holds, and `secret`, which signs and is never sent.
    #[must_use]
    pub fn new(access: Secret, secret: Secret) -> Self {
        let id = KeyId(Digest32(Sha256::digest(access.reveal().as_bytes()).into()));
        // Neither half can hold a line break.
        let whole = Sha256::new().chain_update(access.reveal()).chain_update("\n");
        let pair_id = PairId(Digest32(whole.chain_update(secret.reveal()).finalize().into()));
        Self(Arc::new(Halves { access, secret, id, pair_id }))
    }

    /// The access key, which every request holds.
    #[must_use]
    pub(super) fn access(&self) -> &str {
        self.0.access.reveal()
    }

    /// The secret key, which signs and is never sent.
    #[must_use]
    pub(super) fn secret(&self) -> &str {
        self.0.secret.reveal()
    }

    /// Whether `text` contains the access key or the secret key, in upper or lower case. Keys of under 8 characters, which no
    /// exchange makes, are not searched for: they may be part of any word.
    #[must_use]
    pub fn is_in(&self, text: &str) -> bool {
        self.is_in_lower_case(&Zeroizing::new(text.to_lowercase()))
    }

    /// [`is_in`](Self::is_in) for a text in lower case.
    #[must_use]
    pub fn is_in_lower_case(&self, text: &str) -> bool {
        [self.access(), self.secret()].into_iter().any(|key| {
            let key = Zeroizing::new(key.to_lowercase());
            key.len() >= 8 && text.contains(&**key)
        })
    }

    /// The same for equal access keys, whatever the secret: limits and nonces belong to the key.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.0.id
    }

    /// The same only for equal access and secret keys: the exchange refuses pairs.
    #[must_use]
    pub(super) fn pair_id(&self) -> PairId {
        self.0.pair_id
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Result<Secret, &'static str> {
        Secret::new(&Zeroizing::new(text.to_owned()))
    }

    #[test]
    fn a_key_pair_cannot_be_printed() -> Result<(), &'static str> {
        let pair = KeyPair::new(secret("visible-access")?, secret("visible-secret")?);
        let printed = format!("{pair:?} {pair:#?} {:?}", pair.id());
        assert!(!printed.contains("visible"), "{printed}");
        Ok(())
    }

    #[test]
    fn white_space_around_a_key_is_cut_off_and_inside_it_refused() {
        assert_eq!(secret(" abc\r\n").map(|secret| secret.reveal().to_owned()), Ok("abc".to_owned()));
        assert_eq!(secret(" \n"), Err("is empty"));
        for bad in ["a b", "a\nb", "schlüssel", "a\u{0}"] {
            assert!(secret(bad).is_err(), "{bad:?}");
        }
    }
}
