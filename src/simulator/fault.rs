//! Faults on request: the calls that a fault hits, its duration and its effect.
//!
//! Only data. Must not know when a fault applies (`active_faults`) or how a reply is sent (`reply`).

use std::time::Duration;

use hyper::{StatusCode, header::HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::endpoint::SimulatedEndpoint;

/// A fault on calls. It ends after `max_calls` or `duration`, whichever comes first, or when it is cleared.
///
/// Several faults can match one call. Every matching fault on rows applies. Of the faults with another target (reply, key
/// or time), only the oldest applies. Faults of one call each, injected one after the other, therefore apply in that order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Hits only calls with this account's key; `None` hits every call, unsigned calls included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Hits only calls of this endpoint; `None` hits every endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<SimulatedEndpoint>,
    /// Number of calls that the fault hits; `None` has no limit.
    #[serde(default, rename = "calls", skip_serializing_if = "Option::is_none")]
    pub max_calls: Option<u64>,
    /// Duration of the fault; `None` has no end.
    #[serde(default, rename = "seconds", with = "seconds", skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
    /// Effect on a call.
    pub effect: Effect,
}

impl Fault {
    /// Creates a fault that hits every call until it is cleared.
    #[must_use]
    pub fn new(effect: Effect) -> Self {
        Self { account: None, endpoint: None, max_calls: None, duration: None, effect }
    }

    /// Restricts the fault to calls with this account's key.
    #[must_use]
    pub fn for_account(mut self, name: &str) -> Self {
        self.account = Some(name.to_owned());
        self
    }

    /// Restricts the fault to calls of this endpoint.
    #[must_use]
    pub fn for_endpoint(mut self, endpoint: SimulatedEndpoint) -> Self {
        self.endpoint = Some(endpoint);
        self
    }

    /// Restricts the fault to this number of calls.
    #[must_use]
    pub fn for_calls(mut self, calls: u64) -> Self {
        self.max_calls = Some(calls);
        self
    }

    /// Restricts the fault to this duration from its injection on.
    #[must_use]
    pub fn for_duration(mut self, duration: Duration) -> Self {
        self.duration = Some(duration);
        self
    }
}

/// Effect of a fault on a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Effect {
    /// Another HTTP status with any body.
    Status {
        /// 200 to 599.
        status: u16,
        /// Body, sent unchanged.
        #[serde(default)]
        body: String,
        /// Media type; HTML if not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content_type: Option<String>,
        /// `Retry-After`, sent unchanged: seconds or a date.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<String>,
        /// `Location`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        location: Option<String>,
    },
    /// Status 503 with an HTML page about maintenance.
    Maintenance,
    /// Status 200 and an error of v1.
    Code {
        /// Code in the body.
        code: i64,
        /// `info`; omitted if not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        info: Option<String>,
        /// `msg`; omitted if not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        msg: Option<String>,
        /// `msgInfo`, a text or an object; omitted if not given.
        #[serde(default, rename = "msgInfo", skip_serializing_if = "Option::is_none")]
        msg_info: Option<Value>,
    },
    /// Status 200 and an error of v4 spot.
    Mc(String),
    /// Status 200 and an error of futures.
    Error {
        /// Code in the body.
        code: String,
        /// Text beside the code.
        msg: String,
    },
    /// Status 200 and this text.
    Body(String),
    /// Status 200 and well-formed JSON with `data` or `result` nested this deep.
    Deep {
        /// Depth of the arrays, at most 10 000 000.
        levels: usize,
    },
    /// No answer: the connection stays open.
    Silence,
    /// A connection reset once the request is read.
    Reset,
    /// Status 200 and rows without end.
    Endless,
    /// Status 200 and a small gzip body that grows to this many MiB of blanks.
    GzipBomb {
        /// Decoded size, at most 16 384.
        mebibytes: u32,
    },
    /// The true answer, later.
    Delay {
        /// Delay.
        ms: u64,
    },
    /// The true answer, one byte at a time.
    Slow {
        /// Time between two bytes.
        every_ms: u64,
    },
    /// The first half of the true answer under its full `Content-Length`, then the connection closes.
    CutShort,
    /// The true answer under another HTTP status.
    Restatus {
        /// 200 to 599.
        status: u16,
    },
    /// The true answer, and an unrequested copy of it. The copy needs a connection that the client keeps open.
    Surplus {
        /// Time between the answer and its copy.
        after_ms: u64,
    },
    /// A shared cache. It passes on the first answer of each endpoint and repeats that answer to every later call,
    /// including calls of other accounts.
    Cached {
        /// `Age` of a repeated answer, in seconds; no header if not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        age: Option<u64>,
        /// Seconds by which `Date` of a repeated answer is behind the exchange's clock. If not given, a repeated answer
        /// has the `Date` of the first answer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        date_behind: Option<u64>,
    },
    /// The time endpoints answer a wrong time. The exchange's own clock stays right.
    WrongTime {
        /// Answered time minus the exchange's time.
        ahead_ms: i64,
    },
    /// The exchange refuses the key as unknown.
    Revoked,
    /// The true rows without the row of this currency.
    DropCurrency(String),
    /// No rows.
    EmptyData,
    /// The true rows with "0" for every amount.
    Zeros,
    /// The true rows with this value as the row of a currency. Where rows are a list, an object also gets the currency's
    /// name.
    Row {
        /// Currency, listed or not.
        currency: String,
        /// Any JSON: `{"available":"NaN","freeze":null}`.
        value: Value,
    },
}

impl Effect {
    /// Creates a bare status with a short HTML body, as proxies send it.
    #[must_use]
    pub fn from_status(status: u16) -> Self {
        let reason = StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason());
        let reason = reason.unwrap_or("Unknown");
        Self::Status {
            status,
            body: format!(
                "<html><head><title>{status} {reason}</title></head><body>{reason}</body></html>\n"
            ),
            content_type: None,
            retry_after: None,
            location: None,
        }
    }

    /// The part of a call that the effect changes.
    pub(super) fn target(&self) -> FaultTarget {
        match self {
            Self::Revoked => FaultTarget::Key,
            Self::DropCurrency(_) | Self::EmptyData | Self::Zeros | Self::Row { .. } => FaultTarget::Rows,
            Self::WrongTime { .. } => FaultTarget::Time,
            _ => FaultTarget::Reply,
        }
    }

    /// Checks that the simulator can carry out the effect.
    ///
    /// # Errors
    /// A sentence with the key, the value and the fix.
    pub(super) fn validate(&self) -> Result<(), String> {
        match self {
            Self::Status { status, .. } | Self::Restatus { status } if !(200..=599).contains(status) => {
                Err(format!("status {status} is not a final HTTP status: give 200 to 599"))
            }
            Self::Status { content_type, retry_after, location, .. } => {
                let headers =
                    [("content_type", content_type), ("retry_after", retry_after), ("location", location)];
                for (key, value) in headers {
                    if value.as_deref().is_some_and(|value| HeaderValue::from_str(value).is_err()) {
                        return Err(format!("{key} cannot be a header: give visible characters only"));
                    }
                }
                Ok(())
            }
            Self::Deep { levels } if *levels > 10_000_000 => {
                Err(format!("levels {levels} is too deep: give 10000000 at most"))
            }
            Self::GzipBomb { mebibytes } if *mebibytes > 16_384 => {
                Err(format!("mebibytes {mebibytes} is too large: give 16384 at most"))
            }
            _ => Ok(()),
        }
    }
}

/// The part of a call that an effect changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FaultTarget {
    /// The whole reply: content or delivery.
    Reply,
    /// Validity of the key.
    Key,
    /// Rows of a wallet.
    Rows,
    /// Time in the answer of a time endpoint.
    Time,
}

/// A duration as a number of seconds in JSON.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    #[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
    pub(super) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => serializer.serialize_f64(duration.as_secs_f64()),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let Some(seconds) = Option::<f64>::deserialize(deserializer)? else {
            return Ok(None);
        };
        let duration = Duration::try_from_secs_f64(seconds).ok();
        duration.map(Some).ok_or_else(|| {
            D::Error::custom(format!("seconds {seconds} is not a duration: give a number such as 45 or 0.5"))
        })
    }
}
