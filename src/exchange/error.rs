//! Why a poll failed: a closed set of reasons, and a sentence for people.
//! Knows no HTTP and no metric; the only place where a text from outside is made fit to be shown.

use std::{fmt, time::Duration};

use super::redact::redact;

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
    /// An answer from before the question: something between the exchange and this machine kept it.
    Cached,
    /// Any other error code of the exchange.
    Api,
}

impl Reason {
    /// Every reason, in the order of declaration: a reason's place is its discriminant.
    pub const ALL: [Self; 14] = [
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
        Self::Cached,
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
            Self::Cached => "cached",
            Self::Api => "api",
        }
    }

    /// Whether the host failed, or whatever is on the way there.
    #[must_use]
    pub(super) fn is_host_fault(self) -> bool {
        matches!(
            self,
            Self::Connect | Self::Dns | Self::Tls | Self::Timeout | Self::Unavailable | Self::Cached
        )
    }

    /// Whether a wrong reading of the exchange's clock can be the cause. The exchange names the nonce in few of the
    /// refusals that a wrong one brings, and an answer looks old beside a clock that is ahead.
    #[must_use]
    pub(super) fn may_be_clock_fault(self) -> bool {
        matches!(self, Self::Auth | Self::Signature | Self::Clock | Self::Http | Self::Api | Self::Cached)
    }

    /// Whether a person must act on the key: asking again soon is of no use.
    #[must_use]
    pub fn is_key_fault(self) -> bool {
        matches!(self, Self::Auth | Self::Signature)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// What an answer says of a failure beyond its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// The exchange does not know the key, or names no other cause.
    UnknownKey,
    /// The key exists and is not active.
    InactiveKey,
    /// The key is bound to IP addresses, and this machine's address is not one of them.
    AddressNotAllowed,
    /// The key lacks a permission.
    NotPermitted,
    /// Something in front of the exchange made the answer: a CDN, a firewall or a proxy.
    NotFromTheExchange,
}

/// A failed call: its reason and the sentence a person reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// One of the closed set.
    pub reason: Reason,
    /// What else is known of the cause; `None` if the answer does not say.
    pub detail: Option<Detail>,
    /// What was attempted and why it failed; one line, bounded, without secrets once
    /// [`Failure::without`] has been called.
    pub text: String,
    /// How long the exchange asked to be left alone (`Retry-After`).
    pub retry_after: Option<Duration>,
    /// Whether every host that was tried failed to tell its time, so that no signed call was sent.
    pub is_of_clock_sync: bool,
}

impl Failure {
    /// A failure whose text may still hold anything the exchange sent.
    #[must_use]
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, detail: None, text: text.into(), retry_after: None, is_of_clock_sync: false }
    }

    /// Whether another base URL may fare better: nothing came from this one, or what came is not the exchange's answer.
    /// A refused key is refused everywhere, and asking again after a limit reply is what gets an account locked.
    #[must_use]
    pub fn is_host_fault(&self) -> bool {
        self.detail == Some(Detail::NotFromTheExchange) || self.reason.is_host_fault()
    }

    /// The same with a detail.
    #[must_use]
    pub(super) fn with_detail(self, detail: Option<Detail>) -> Self {
        Self { detail, ..self }
    }

    /// Makes the text safe to show: see [`redact`].
    #[must_use]
    pub fn redact(self, secrets: &[&str]) -> Self {
        Self { text: redact(&self.text, secrets), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.reason)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_stands_at_its_own_place() {
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
        }
    }
}
