//! Why a poll failed: a closed set of reasons, and a sentence for people.
//! Depends on neither HTTP nor metrics.

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
    /// A limit was passed, or the account is locked because of that.
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
    /// The reply is older than the request: something between the exchange and this machine cached it.
    Cached,
    /// Any other error code of the exchange.
    Api,
}

impl Reason {
    /// Every reason in the order of declaration, so that the index of a reason is its discriminant.
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

    /// Whether the host failed, or the network on the way to it.
    #[must_use]
    pub(super) fn is_host_fault(self) -> bool {
        matches!(
            self,
            Self::Connect | Self::Dns | Self::Tls | Self::Timeout | Self::Unavailable | Self::Cached
        )
    }

    /// Whether a wrong reading of the exchange's clock can be the cause. The exchange names the nonce in few of the
    /// refusals that a wrong time causes, and a reply looks old compared to a clock that is ahead.
    #[must_use]
    pub(super) fn may_be_clock_fault(self) -> bool {
        matches!(self, Self::Auth | Self::Signature | Self::Clock | Self::Http | Self::Api | Self::Cached)
    }

    /// Whether a person must replace or repair the key, so that another try soon is useless.
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

/// The cause of a failure, beyond its reason.
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
    /// The key lacks the separate permission for Earn. It may read every other wallet.
    NoEarnPermission,
    /// The exchange does not know the currency.
    UnknownCurrency,
    /// Something in front of the exchange made the answer: a CDN, a firewall or a proxy.
    NotFromTheExchange,
    /// This machine does not have the configured source address.
    NoSourceAddress,
    /// There is no connection to the configured proxy.
    ProxyUnreachable,
    /// The configured proxy opened no tunnel to the exchange.
    ProxyRefused,
    /// The configured proxy does not allow a connection to the exchange. Only `check` finds this out.
    ProxyForbids,
    /// The configured proxy cannot connect to the exchange. Only `check` finds this out.
    ProxyCannotConnect,
    /// The configured proxy requires a user and a password, or other ones.
    ProxyLogin,
    /// The certificate is not from a trusted authority: the configured proxy may intercept TLS.
    InterceptedTls,
}

/// A failed call: its reason, and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The reason.
    pub reason: Reason,
    /// The cause, if the reply names it.
    pub detail: Option<Detail>,
    /// What was attempted and why it failed: one line of limited length, without secrets after [`Failure::redact`].
    pub text: String,
    /// The delay that the exchange asked for with `Retry-After`.
    pub retry_after: Option<Duration>,
    /// Whether every host failed to tell its time, so that no signed call was sent.
    pub is_of_clock_sync: bool,
}

impl Failure {
    /// A failure whose text may still hold anything that the exchange sent.
    #[must_use]
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, detail: None, text: text.into(), retry_after: None, is_of_clock_sync: false }
    }

    /// Whether another base URL may do better: no reply came from this one, or the reply is not from the exchange. A
    /// refused key is refused everywhere, another call after a limit reply can get the account locked, and so can another
    /// wrong password the user of a proxy.
    #[must_use]
    pub fn is_host_fault(&self) -> bool {
        match self.detail {
            Some(Detail::NotFromTheExchange) => true,
            Some(Detail::ProxyLogin) => false,
            _ => self.reason.is_host_fault(),
        }
    }

    /// Adds a detail.
    #[must_use]
    pub(super) fn with_detail(self, detail: Option<Detail>) -> Self {
        Self { detail, ..self }
    }

    /// Makes the text safe to show: see the module `redact`.
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
    fn only_a_rejected_login_of_a_proxy_ends_the_poll() {
        let is_host_fault = |detail| Failure::new(Reason::Connect, "x").with_detail(detail).is_host_fault();
        assert!(!is_host_fault(Some(Detail::ProxyLogin)));
        for detail in [None, Some(Detail::ProxyRefused), Some(Detail::ProxyUnreachable)] {
            assert!(is_host_fault(detail), "{detail:?}");
        }
    }

    #[test]
    fn a_reason_stands_at_its_own_place() {
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
        }
    }
}
