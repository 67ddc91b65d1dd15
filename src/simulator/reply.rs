//! A reply and its delivery: whole, twice, late, byte by byte, cut short, without end, or not at all.
//!
//! Must not know the socket or the exchange's decisions.

use std::{
    fmt, io,
    time::{Duration, UNIX_EPOCH},
};

use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Response, StatusCode,
    body::{Bytes, Frame},
    header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderName, RETRY_AFTER},
};
use tokio::{task::yield_now, time::sleep};

use super::{endless, endpoint::WireFormat, fault::Effect};

/// A reply to the caller.
#[derive(Clone)]
pub(super) struct SimulatedReply {
    status: u16,
    headers: Vec<(HeaderName, String)>,
    body: Bytes,
    delivery: Delivery,
    date: ReplyDate,
}

/// Body of a response, delivered as its reply demands.
pub(super) type ReplyBody = UnsyncBoxBody<Bytes, io::Error>;

/// `Date` header of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplyDate {
    /// The exchange's time when the reply is sent.
    Now,
    /// This many seconds before the exchange's time.
    Behind(u64),
    /// This Unix time in milliseconds.
    At(i64),
}

impl ReplyDate {
    /// Formats the header's value. `now_ms` is the exchange's time.
    fn format_header(self, now_ms: i64) -> String {
        /// The last second that the format can express: the end of the year 9999.
        const LAST_SECOND: u64 = 253_402_300_799;
        let (unix_ms, behind) = match self {
            Self::Now => (now_ms, 0),
            Self::Behind(seconds) => (now_ms, seconds),
            Self::At(unix_ms) => (unix_ms, 0),
        };
        let seconds = u64::try_from(unix_ms / 1_000).unwrap_or(0).saturating_sub(behind).min(LAST_SECOND);
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds))
    }
}

/// Delivery of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    Whole,
    /// Whole, and a copy after this time.
    Twice(Duration),
    /// Whole, after this time.
    Late(Duration),
    /// One byte at a time, this time apart.
    Slow(Duration),
    /// The first half of the body under the full length, then the connection ends.
    CutShort,
    /// The body, then rows without end in this format.
    Endless(WireFormat),
    /// Nothing: the connection stays open.
    Never,
    /// Nothing: the connection is reset.
    Reset,
}

impl Delivery {
    /// Delivery that an effect demands for the exchange's own answer.
    fn from_effect(effect: &Effect) -> Self {
        match effect {
            Effect::Delay { ms } => Self::Late(Duration::from_millis(*ms)),
            Effect::Slow { every_ms } => Self::Slow(Duration::from_millis(*every_ms)),
            Effect::CutShort => Self::CutShort,
            Effect::Surplus { after_ms } => Self::Twice(Duration::from_millis(*after_ms)),
            _ => Self::Whole,
        }
    }
}

/// A response in the bytes of HTTP/1.1, to be sent again without a request.
pub(super) struct ResponseCopy {
    /// Time between the response and its copy.
    pub(super) after: Duration,
    pub(super) bytes: Vec<u8>,
}

impl SimulatedReply {
    /// Creates a reply with status 200 and JSON.
    pub(super) fn json(body: String) -> Self {
        Self::with_content_type(200, "application/json;charset=UTF-8", body)
    }

    /// Creates a reply with a status and plain text.
    pub(super) fn text(status: u16, body: impl Into<Bytes>) -> Self {
        Self::with_content_type(status, "text/plain; charset=utf-8", body)
    }

    pub(super) fn with_content_type(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: vec![(CONTENT_TYPE, content_type.to_owned())],
            body: body.into(),
            delivery: Delivery::Whole,
            date: ReplyDate::Now,
        }
    }

    /// Applies an effect that changes the status or the delivery of the exchange's own answer.
    pub(super) fn apply_effect(self, effect: &Effect) -> Self {
        match effect {
            Effect::Restatus { status } => Self { status: *status, ..self },
            _ => self.with_delivery(Delivery::from_effect(effect)),
        }
    }

    /// Replaces the delivery.
    pub(super) fn with_delivery(self, delivery: Delivery) -> Self {
        Self { delivery, ..self }
    }

    /// Replaces the `Date` header.
    pub(super) fn with_date(self, date: ReplyDate) -> Self {
        Self { date, ..self }
    }

    /// Replaces the body.
    pub(super) fn with_body(self, body: Bytes) -> Self {
        Self { body, ..self }
    }

    /// Replaces the status by 429 and adds `Retry-After` if there are seconds to wait.
    pub(super) fn into_too_many_requests(self, retry_after_seconds: Option<u64>) -> Self {
        let seconds = retry_after_seconds.map(|seconds| seconds.to_string());
        let reply = self.with_header(RETRY_AFTER, seconds.as_deref());
        Self { status: 429, ..reply }
    }

    /// Adds a header if there is a value.
    pub(super) fn with_header(mut self, name: HeaderName, value: Option<&str>) -> Self {
        let value = value.map(str::to_owned);
        self.headers.extend(value.map(|value| (name, value)));
        self
    }

    /// Waits as long as the delivery demands and returns the response, and its copy if there is one. `clock` returns the
    /// exchange's time in milliseconds.
    ///
    /// # Errors
    /// [`ConnectionReset`] if the connection must be reset instead.
    pub(super) async fn respond(
        self,
        clock: impl Fn() -> i64,
    ) -> Result<(Response<ReplyBody>, Option<ResponseCopy>), ConnectionReset> {
        match self.delivery {
            Delivery::Late(time) => sleep(time).await,
            Delivery::Never => std::future::pending().await,
            Delivery::Reset => return Err(ConnectionReset),
            Delivery::Whole
            | Delivery::Twice(_)
            | Delivery::Slow(_)
            | Delivery::CutShort
            | Delivery::Endless(_) => {}
        }
        let date = self.date.format_header(clock());
        let mut response = Response::builder().status(self.status).header(DATE, date);
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        if matches!(self.delivery, Delivery::CutShort | Delivery::Slow(_)) {
            response = response.header(CONTENT_LENGTH, self.body.len());
        }
        // Only a fault can demand a status or a header that HTTP cannot express.
        let response = response.body(self.body).unwrap_or_else(|error| {
            let mut response = Response::new(Bytes::from(format!("cannot send the fault: {error}\n")));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        });
        let copy = match self.delivery {
            Delivery::Twice(after) => Some(ResponseCopy { after, bytes: serialize_response(&response) }),
            _ => None,
        };
        Ok((response.map(|body| deliver_body(body, self.delivery)), copy))
    }
}

fn deliver_body(body: Bytes, delivery: Delivery) -> ReplyBody {
    let send = |bytes: Bytes| Ok(Frame::data(bytes));
    match delivery {
        Delivery::Slow(every) => {
            let bytes = stream::iter(body).enumerate().then(move |(index, byte)| async move {
                if index > 0 {
                    sleep(every).await;
                }
                send(Bytes::from(vec![byte]))
            });
            StreamBody::new(bytes).boxed_unsync()
        }
        Delivery::CutShort => {
            let half = stream::iter([send(body.slice(..body.len() / 2))]);
            let end = stream::once(async {
                yield_now().await; // the server sends the half before it asks again
                Err(io::Error::other("a fault cuts the body short"))
            });
            StreamBody::new(half.chain(end)).boxed_unsync()
        }
        Delivery::Endless(format) => {
            let rows = (0..).map(move |chunk| send(endless::render_rows(chunk, format)));
            StreamBody::new(stream::iter(std::iter::once(send(body)).chain(rows))).boxed_unsync()
        }
        Delivery::Whole | Delivery::Twice(_) | Delivery::Late(_) | Delivery::Never | Delivery::Reset => {
            Full::new(body).map_err(|never| match never {}).boxed_unsync()
        }
    }
}

/// The whole response in the bytes of HTTP/1.1.
fn serialize_response(response: &Response<Bytes>) -> Vec<u8> {
    let body = response.body();
    let mut bytes = format!("HTTP/1.1 {}\r\n", response.status()).into_bytes();
    for (name, value) in response.headers() {
        let name = name.as_str().as_bytes();
        bytes.extend([name, b": ", value.as_bytes(), b"\r\n"].concat());
    }
    bytes.extend(format!("{CONTENT_LENGTH}: {}\r\n\r\n", body.len()).into_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// Error: the connection must be reset.
#[derive(Debug)]
pub(super) struct ConnectionReset;

impl fmt::Display for ConnectionReset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a fault resets the connection")
    }
}

impl std::error::Error for ConnectionReset {}

#[cfg(test)]
mod tests {
    use super::ReplyDate;

    const NOW_MS: i64 = 1_562_919_832_999;

    #[test]
    fn a_date_has_the_http_format_and_whole_seconds() {
        for (date, text) in [
            (ReplyDate::Now, "Fri, 12 Jul 2019 08:23:52 GMT"),
            (ReplyDate::Behind(3_600), "Fri, 12 Jul 2019 07:23:52 GMT"),
            (ReplyDate::At(1_641_446_237_201), "Thu, 06 Jan 2022 05:17:17 GMT"),
        ] {
            assert_eq!(date.format_header(NOW_MS), text);
        }
    }

    #[test]
    fn a_date_stays_within_the_years_of_its_format() {
        assert_eq!(ReplyDate::Behind(u64::MAX).format_header(NOW_MS), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(ReplyDate::Now.format_header(-1), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(ReplyDate::Now.format_header(i64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
