//! What the simulated exchange is strict about, and how it words a refusal.
//!
//! Knows nothing of sockets or accounts.

use std::time::Duration;

use serde_json::{Value, json};

/// The settings of the exchange. The default is what its documentation says, strict where it is silent.
#[derive(Clone, Debug)]
pub struct SimulatorConfig {
    /// How far a nonce may be from the server's time, either way.
    pub nonce_window: Duration,
    /// Refuse a nonce that is not above the last accepted one of the key.
    pub strict_nonce: bool,
    /// How old a request of futures may be; one of v4's spot says so itself.
    pub futures_window: Duration,
    /// How far a request of v4's spot may be ahead of the server's time.
    pub v4_ahead: Duration,
    /// The same of futures: one that was 58 ms ahead was refused.
    pub futures_ahead: Duration,
    /// Serve the amounts of v4 as bare numbers, as its documents show them, and not as texts.
    pub v4_numbers: bool,
    /// Calls of getBalance and getFunds, and of the balances of futures, per second and key.
    pub asset_calls_per_second: usize,
    /// Calls of each balance method of v4's spot per second and key.
    pub v4_calls_per_second: usize,
    /// Calls of all other methods per second and IP.
    pub other_calls_per_second: usize,
    /// Calls of any method per minute and IP.
    pub ip_calls_per_minute: usize,
    /// How long an account is locked after a limit was passed.
    pub lock: Duration,
    /// How the reply to a refused call looks.
    pub error_shape: ErrorShape,
    /// Wording of the refusal of a nonce, or of a v4 timestamp.
    pub nonce_refusal: NonceRefusal,
    /// How the reply to a call over a limit or during a lock looks.
    pub limit_reply: LimitReply,
    /// The Unix time in milliseconds at which the simulator starts; the machine's if not given.
    pub clock_start_ms: Option<i64>,
    /// The exchange's clock minus the machine's, in milliseconds.
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

/// The shapes of error replies of v1 seen from the exchange. All come with HTTP status 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorShape {
    /// `{"code":307,"info":"AccessKey error"}`
    Info,
    /// Like `Info`, but every refused key or signature is `{"code":404,"info":"请检查accesskey是否有效"}`.
    OldAuth,
    /// `{"code":307,"msg":"AccessKey error","msgInfo":{"template":"AccessKey error",…},"data":{}}`
    MsgInfo,
}

/// The reply to a call over a limit or during a lock. That of v1 is not documented; that of v4 is status 429, with who
/// knows what in its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitReply {
    /// v1: HTTP status 200, code 404 and a text that says the account is locked. v4: status 429.
    Code,
    /// HTTP status 429 with `Retry-After` in seconds, and the same bodies.
    Status429,
}

/// Wording of the refusal of a nonce (v1) or timestamp (v4) that is malformed, outside the window, or not above the last.
///
/// All but the first leave the client to guess the cause: v4's spot answers `AUTH_103` instead of `AUTH_105`, and
/// futures answer code 403 with the text of v1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceRefusal {
    /// v1: code 400 and a text that names the nonce. v4: `AUTH_105`. Futures: code 403 and a text that names the time.
    Named,
    /// v1: code 400, "Request error".
    RequestError,
    /// v1: code 404, "other errors".
    OtherErrors,
    /// v1: code 308, "Sign error".
    SignError,
}

impl NonceRefusal {
    /// The code and the text of v1, if they do not name the nonce.
    pub(super) fn unnamed(self) -> Option<(i64, &'static str)> {
        match self {
            Self::Named => None,
            Self::RequestError => Some((400, "Request error")),
            Self::OtherErrors => Some((404, "other errors")),
            Self::SignError => Some((308, "Sign error")),
        }
    }
}

impl ErrorShape {
    /// The body of an error reply; `code` is the documented one.
    pub(super) fn body(self, code: i64, text: &str) -> Value {
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
