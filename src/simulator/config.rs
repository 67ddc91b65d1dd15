//! Settings of the simulated exchange: limits, windows and error formats.
//!
//! Must not know sockets or accounts.

use std::time::Duration;

use serde_json::{Value, json};

/// Settings of the exchange. The defaults follow its documentation, and are strict where the documentation is silent.
#[derive(Clone, Debug)]
pub struct SimulatorConfig {
    /// Maximum difference between a nonce and the server's time, in both directions.
    pub nonce_window: Duration,
    /// Whether the exchange refuses a nonce that is not above the key's last accepted nonce.
    pub strict_nonce: bool,
    /// Maximum age of a futures request. A v4 spot request states its own.
    pub futures_window: Duration,
    /// Maximum time by which a v4 spot request may be ahead of the server's time.
    pub v4_ahead: Duration,
    /// Maximum time by which a futures request may be ahead of the server's time. The real exchange refused 58 ms.
    pub futures_ahead: Duration,
    /// Whether v4 serves amounts as bare numbers, as its documentation shows them, or as texts.
    pub v4_numbers: bool,
    /// Reply of v4 to the call for one currency that the account does not have.
    pub unknown_currency: UnknownCurrency,
    /// Limit of getBalance, getFunds and futures balance calls, per second and key.
    pub asset_calls_per_second: usize,
    /// Limit of each v4 spot balance endpoint, per second and key.
    pub v4_calls_per_second: usize,
    /// Limit of all other calls together, per second and IP.
    pub other_calls_per_second: usize,
    /// Limit of all calls, per minute and IP.
    pub ip_calls_per_minute: usize,
    /// Duration of the lock after an exceeded limit.
    pub lock: Duration,
    /// Format of v1 errors.
    pub error_shape: ErrorShape,
    /// Wording of the error about a nonce or a v4 timestamp.
    pub nonce_refusal: NonceRefusal,
    /// Format of the reply to a call over a limit or during a lock.
    pub limit_reply: LimitReply,
    /// Unix time in milliseconds at which the exchange's clock starts; `None` means the machine's time.
    pub clock_start_ms: Option<i64>,
    /// The exchange's clock minus the machine's clock, in milliseconds.
    pub clock_offset_ms: i64,
}

impl Default for SimulatorConfig {
    fn default() -> Self {
        Self {
            nonce_window: Duration::from_mins(1),
            strict_nonce: true,
            futures_window: Duration::from_secs(5),
            v4_ahead: Duration::from_secs(1),
            futures_ahead: Duration::from_millis(50),
            v4_numbers: false,
            unknown_currency: UnknownCurrency::Error,
            asset_calls_per_second: 3,
            v4_calls_per_second: 10,
            other_calls_per_second: 10,
            ip_calls_per_minute: 1000,
            lock: Duration::from_mins(10),
            error_shape: ErrorShape::Info,
            nonce_refusal: NonceRefusal::Named,
            limit_reply: LimitReply::Code,
            clock_start_ms: None,
            clock_offset_ms: 0,
        }
    }
}

/// Reply of v4 to the call for one currency that the account does not have. The documents do not say which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownCurrency {
    /// `CURRENCY_001`, and `invalid_coin` of futures.
    Error,
    /// A good answer with `null` in place of a row.
    NoRow,
    /// A row of zeros.
    Zeros,
}

/// Formats of v1 errors that the real exchange has sent. All have HTTP status 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorShape {
    /// `{"code":307,"info":"AccessKey error"}`
    Info,
    /// Like `Info`, but every error about a key or signature is `{"code":404,"info":"请检查accesskey是否有效"}`.
    OldAuth,
    /// `{"code":307,"msg":"AccessKey error","msgInfo":{"template":"AccessKey error",…},"data":{}}`
    MsgInfo,
}

/// Reply to a call over a limit or during a lock. v1 does not document its reply. v4 documents status 429, but no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitReply {
    /// v1: HTTP status 200, code 404 and the text "account locked". v4: status 429.
    Code,
    /// HTTP status 429 with `Retry-After` in seconds, and the same bodies.
    Status429,
}

/// Wording of the error about a nonce (v1) or timestamp (v4) that is malformed, outside the window, or not above the last
/// accepted one.
///
/// Only `Named` states the cause. With the others, v4 spot answers `AUTH_103` instead of `AUTH_105`, and futures answer
/// code 403 with v1's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceRefusal {
    /// v1: code 400 and a text with the nonce. v4: `AUTH_105`. Futures: code 403 and a text with the time.
    Named,
    /// v1: code 400, "Request error".
    RequestError,
    /// v1: code 404, "other errors".
    OtherErrors,
    /// v1: code 308, "Sign error".
    SignError,
}

impl NonceRefusal {
    /// Code and text of v1 that hide the cause; `None` for `Named`.
    pub(super) fn vague_error(self) -> Option<(i64, &'static str)> {
        match self {
            Self::Named => None,
            Self::RequestError => Some((400, "Request error")),
            Self::OtherErrors => Some((404, "other errors")),
            Self::SignError => Some((308, "Sign error")),
        }
    }
}

impl ErrorShape {
    /// Formats the body of an error. `code` is the documented code.
    pub(super) fn format_body(self, code: i64, text: &str) -> Value {
        match self {
            Self::OldAuth if matches!(code, 307 | 308) => {
                json!({"code": 404, "info": "请检查accesskey是否有效"})
            }
            Self::Info | Self::OldAuth => json!({"code": code, "info": text}),
            Self::MsgInfo => json!({
                "code": code,
                "msg": text,
                "msgInfo": {"template": text, "args": null, "code": null},
                "data": {},
            }),
        }
    }
}
