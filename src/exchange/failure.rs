//! Why a poll failed: a closed set of reasons, and a sentence for people.
//! Knows no HTTP and no metric; the only place where a text from outside is made fit to be shown.

use std::{fmt, time::Duration};

/// The closed set of reasons; the `reason` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The key is unknown, inactive, or not allowed here.
    Auth,
    /// The signature was refused: most often a wrong secret.
    Signature,
    /// The nonce was outside the exchange's window.
    Clock,
    /// A limit was passed, or the account is locked for it.
    RateLimited,
    /// The exchange cannot answer now: 5xx or maintenance.
    Unavailable,
    /// Any other HTTP status, 3xx included.
    Http,
    /// No answer in time.
    Timeout,
    /// The host's name could not be resolved.
    Dns,
    /// No connection, or one that was closed before an answer came.
    Connect,
    /// No trusted connection: certificate, name or protocol.
    Tls,
    /// The body was cut short or over the size cap.
    Body,
    /// The body is not the documented JSON.
    Decode,
    /// Any other error code of the exchange.
    Api,
}

impl Reason {
    /// Every reason, in the order of declaration: a reason's place is its discriminant.
    pub const ALL: [Self; 13] = [
        Self::Auth,
        Self::Signature,
        Self::Clock,
        Self::RateLimited,
        Self::Unavailable,
        Self::Http,
        Self::Timeout,
        Self::Dns,
        Self::Connect,
        Self::Tls,
        Self::Body,
        Self::Decode,
        Self::Api,
    ];

    /// The value of the `reason` label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Signature => "signature",
            Self::Clock => "clock",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::Http => "http",
            Self::Timeout => "timeout",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Body => "body",
            Self::Decode => "decode",
            Self::Api => "api",
        }
    }

    /// Whether another base URL may fare better. A refused key is refused everywhere, and asking
    /// again after a limit reply is what gets an account locked.
    #[must_use]
    pub fn is_of_the_host(self) -> bool {
        matches!(self, Self::Connect | Self::Dns | Self::Tls | Self::Timeout | Self::Unavailable)
    }

    /// Whether a person must act on the key: asking again soon is of no use.
    #[must_use]
    pub fn is_of_the_key(self) -> bool {
        matches!(self, Self::Auth | Self::Signature)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// A failed call: its reason and the sentence a person reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// One of the closed set.
    pub reason: Reason,
    /// What was attempted and why it failed; one line, bounded, without secrets once
    /// [`Failure::without`] has been called.
    pub text: String,
    /// How long the exchange asked to be left alone (`Retry-After`).
    pub retry_after: Option<Duration>,
}

/// The longest text kept of a failure, in characters.
const TEXT_MAX_CHARS: usize = 300;

impl Failure {
    /// A failure whose text may still hold anything the exchange sent.
    #[must_use]
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into(), retry_after: None }
    }

    /// Makes the text fit to be shown: on one line, without the `secrets`, bounded. In this order,
    /// because a cut or a line break inside a secret would hide the rest of it from the search.
    #[must_use]
    pub fn without(mut self, secrets: &[&str]) -> Self {
        let mut text = one_line(&self.text);
        for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
            text = replace_ignoring_case(&text, secret);
        }
        self.text = bounded(text);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.reason)
    }
}

impl std::error::Error for Failure {}

/// Runs of white space and control characters become one blank.
fn one_line(text: &str) -> String {
    let fit = |c: char| if c.is_whitespace() { ' ' } else { c };
    let shown: String = text.chars().map(fit).filter(|c| !c.is_control()).collect();
    shown.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn bounded(text: String) -> String {
    match text.char_indices().nth(TEXT_MAX_CHARS) {
        None => text,
        Some((at, _)) => text.get(..at).map(|head| format!("{head}…")).unwrap_or_default(),
    }
}

/// Replaces each ASCII-case-insensitive occurrence of `secret`: hex may come back in either case.
fn replace_ignoring_case(text: &str, secret: &str) -> String {
    let (hay, needle) = (text.to_ascii_lowercase(), secret.to_ascii_lowercase());
    let mut shown = String::with_capacity(text.len());
    let mut from = 0;
    for (at, found) in hay.match_indices(&needle) {
        shown.push_str(text.get(from..at).unwrap_or_default());
        shown.push_str("[redacted]");
        from = at + found.len();
    }
    shown.push_str(text.get(from..).unwrap_or_default());
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_stands_at_its_own_place() {
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
        }
    }

    #[test]
    fn a_text_from_outside_is_made_fit_to_be_shown() {
        let shown = |text: &str| Failure::new(Reason::Api, text).without(&["s3cret", ""]).text;
        assert_eq!(shown("a\r\n\tb\u{0} \u{1b}[31mc"), "a b [31mc");
        assert_eq!(shown("key S3CRET and s3cret"), "key [redacted] and [redacted]");
        assert_eq!(shown("s3c\u{0}ret"), "[redacted]", "a control character hides nothing");
        assert_eq!(shown("").len(), 0);
        let long = shown(&"é".repeat(1_000));
        assert_eq!(long.chars().count(), TEXT_MAX_CHARS + 1);
        let cut = shown(&format!("{}s3cret", "x".repeat(TEXT_MAX_CHARS - 3)));
        assert!(!cut.contains("s3c"), "{cut}");
    }
}
