//! Refusals of calls: cause, error and reply.
//!
//! Must not know when a call is refused.

use tokio::time::Instant;

use super::{
    super::{
        call_log::RefusalCause,
        clock::seconds_until,
        config::{LimitReply, NonceRefusal, SimulatorConfig},
        endpoint::WireFormat,
        reply::SimulatedReply,
        v4_json,
    },
    call::ParsedCall,
};

/// A refusal of a call.
pub(super) struct CallRefusal {
    pub(super) cause: RefusalCause,
    error: WireError,
    /// End of a lock.
    retry_at: Option<Instant>,
}

/// Error in the reply to a refused call.
enum WireError {
    V1 { code: i64, text: String },
    V4Spot(&'static str),
    Futures { code: &'static str, text: String },
}

impl CallRefusal {
    pub(super) fn v1(cause: RefusalCause, code: i64, text: &str) -> Self {
        Self { cause, error: WireError::V1 { code, text: text.to_owned() }, retry_at: None }
    }

    /// A v1 refusal because of the parameters.
    pub(super) fn v1_parameter(text: &str) -> Self {
        Self::v1(RefusalCause::Parameters, 400, text)
    }

    pub(super) fn v4_spot(cause: RefusalCause, code: &'static str) -> Self {
        Self { cause, error: WireError::V4Spot(code), retry_at: None }
    }

    pub(super) fn futures(cause: RefusalCause, code: &'static str, text: &str) -> Self {
        Self { cause, error: WireError::Futures { code, text: text.to_owned() }, retry_at: None }
    }

    /// Replaces the error if this is a v1 refusal of a nonce and the configured wording hides the cause.
    pub(super) fn with_nonce_wording(self, wording: NonceRefusal) -> Self {
        match (self.cause, wording.vague_error()) {
            (cause @ (RefusalCause::Nonce | RefusalCause::Replay), Some((code, text))) => {
                Self::v1(cause, code, text)
            }
            _ => self,
        }
    }

    pub(super) fn to_reply(&self, config: &SimulatorConfig, now: Instant) -> SimulatedReply {
        let reply = SimulatedReply::json(match &self.error {
            WireError::V1 { code, text } => config.error_shape.format_body(*code, text).to_string(),
            WireError::V4Spot(code) => v4_json::spot_error(code),
            WireError::Futures { code, text } => v4_json::futures_error(code, text),
        });
        let sends_retry_after = config.limit_reply == LimitReply::Status429;
        match (self.retry_at, &self.error) {
            (None, _) => reply,
            (Some(_), WireError::V1 { .. }) if !sends_retry_after => reply,
            (end, _) => reply.into_too_many_requests(seconds_until(end, now).filter(|_| sends_retry_after)),
        }
    }
}

impl ParsedCall {
    /// Refuses a signed v4 call: spot answers `spot_code`, futures answer `futures_code` and `text`.
    pub(super) fn refuse_v4(
        &self,
        cause: RefusalCause,
        spot_code: &'static str,
        futures_code: &'static str,
        text: &str,
    ) -> CallRefusal {
        if self.endpoint.wire_format() == WireFormat::Futures {
            CallRefusal::futures(cause, futures_code, text)
        } else {
            CallRefusal::v4_spot(cause, spot_code)
        }
    }

    /// Refuses a v4 call because of its parameters. Spot has a code for it, but no text.
    pub(super) fn refuse_v4_parameter(&self, text: &str) -> CallRefusal {
        self.refuse_v4(RefusalCause::Parameters, "FUND_017", "400", text)
    }

    /// Refuses a call over a limit or during a lock.
    pub(super) fn refuse_locked(&self, cause: RefusalCause, reason: &str, end: Instant) -> CallRefusal {
        let seconds = seconds_until(Some(end), self.now).unwrap_or_default();
        let text = format!("account locked: {reason}, try again in {seconds} seconds");
        let error = match self.endpoint.wire_format() {
            WireFormat::V1 => WireError::V1 { code: 404, text },
            WireFormat::V4Spot => WireError::V4Spot("GATEWAY_0001"),
            WireFormat::Futures => WireError::Futures { code: "429", text },
        };
        CallRefusal { cause, error, retry_at: Some(end) }
    }
}
