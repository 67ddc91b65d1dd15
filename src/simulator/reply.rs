//! A reply and the manner in which it is sent: whole, twice, late, byte by byte, cut short, or without end.
//!
//! Knows HTTP, but neither the socket nor what the exchange decides.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, UNIX_EPOCH},
};

use flate2::{Compress, Compression, Crc, FlushCompress};
use hyper::{
    Response, StatusCode,
    body::{Body, Bytes, Frame, SizeHint},
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderName, LOCATION, RETRY_AFTER},
};
use serde_json::json;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::{Effect, SimulatedBalance, fault::WireFormat, v4};

/// What goes back to the caller.
#[derive(Clone)]
pub(super) struct SimulatedReply {
    status: u16,
    headers: Vec<(HeaderName, String)>,
    body: Bytes,
    manner: Delivery,
    date: ReplyDate,
}

/// The `Date` of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplyDate {
    /// The exchange's time when the reply is sent.
    Now,
    /// So many seconds before that.
    Behind(u64),
    /// This Unix time in milliseconds.
    At(i64),
}

impl ReplyDate {
    /// The header's value; `now_ms` is the exchange's time.
    fn header(self, now_ms: i64) -> String {
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

/// How a reply is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    Whole,
    /// Whole, and once more this time later.
    Twice(Duration),
    /// Whole, but not before this time has passed.
    Late(Duration),
    /// One byte, this time, one byte, …
    Slow(Duration),
    /// Half of it under the full length, then the connection ends.
    CutShort,
    /// Followed by rows without end, in this dialect.
    Endless(WireFormat),
    /// Not at all: the connection stays open.
    Never,
    /// Not at all: the connection is reset.
    Reset,
}

impl Delivery {
    /// How an effect has the exchange's own answer sent.
    fn of(effect: &Effect) -> Self {
        match effect {
            Effect::Delay { ms } => Self::Late(Duration::from_millis(*ms)),
            Effect::Slow { every_ms } => Self::Slow(Duration::from_millis(*every_ms)),
            Effect::CutShort => Self::CutShort,
            Effect::Surplus { after_ms } => Self::Twice(Duration::from_millis(*after_ms)),
            _ => Self::Whole,
        }
    }
}

impl SimulatedReply {
    /// Status 200 and JSON.
    pub(super) fn json(body: String) -> Self {
        Self::of_type(200, "application/json;charset=UTF-8", body)
    }

    /// A status and plain text.
    pub(super) fn text(status: u16, body: String) -> Self {
        Self::of_type(status, "text/plain; charset=utf-8", body)
    }

    fn of_type(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: vec![(CONTENT_TYPE, content_type.to_owned())],
            body: body.into(),
            manner: Delivery::Whole,
            date: ReplyDate::Now,
        }
    }

    /// What an effect sends in place of the exchange's answer in a dialect, if it does.
    pub(super) fn in_place(effect: &Effect, dialect: WireFormat) -> Option<Self> {
        Some(match effect {
            Effect::Status { status, body, content_type, retry_after, location } => {
                let content_type = content_type.as_deref().unwrap_or("text/html; charset=utf-8");
                Self::of_type(*status, content_type, body.clone())
                    .with(RETRY_AFTER, retry_after.as_deref())
                    .with(LOCATION, location.as_deref())
            }
            Effect::Maintenance => Self::of_type(503, "text/html; charset=utf-8", MAINTENANCE),
            Effect::Code { code, info, msg, msg_info } => {
                let mut body = json!({"code": code});
                for (name, text) in [("info", info), ("msg", msg)] {
                    if let (Some(text), Some(body)) = (text, body.as_object_mut()) {
                        body.insert(name.to_owned(), json!(text));
                    }
                }
                if let (Some(value), Some(body)) = (msg_info, body.as_object_mut()) {
                    body.insert("msgInfo".to_owned(), value.clone());
                }
                Self::json(body.to_string())
            }
            Effect::Mc(code) => Self::json(v4::error(code)),
            Effect::Error { code, msg } => Self::json(v4::futures_error(code, msg)),
            Effect::Body(text) => Self::json(text.clone()),
            Effect::Deep { levels } => {
                let (open, close) = ("[".repeat(*levels), "]".repeat(*levels));
                Self::json(match dialect {
                    WireFormat::V1 => format!(r#"{{"code":200,"data":{open}{close},"info":"success"}}"#),
                    WireFormat::V4 => format!(r#"{{"rc":0,"mc":"SUCCESS","ma":[],"result":{open}{close}}}"#),
                    WireFormat::Futures => {
                        format!(
                            r#"{{"returnCode":0,"msgInfo":"success","error":null,"result":{open}{close}}}"#
                        )
                    }
                })
            }
            Effect::Silence => Self::json(String::new()).sent(Delivery::Never),
            Effect::Reset => Self::json(String::new()).sent(Delivery::Reset),
            Effect::Endless => Self::json(endless_head(dialect)).sent(Delivery::Endless(dialect)),
            Effect::GzipBomb { mebibytes } => Self {
                body: gzip_of_blanks(*mebibytes),
                ..Self::json(String::new()).with(CONTENT_ENCODING, Some("gzip"))
            },
            Effect::Delay { .. }
            | Effect::Slow { .. }
            | Effect::CutShort
            | Effect::Restatus { .. }
            | Effect::Surplus { .. }
            | Effect::Cached { .. }
            | Effect::WrongTime { .. }
            | Effect::Revoked
            | Effect::DropCurrency(_)
            | Effect::EmptyData
            | Effect::Zeros
            | Effect::Row { .. } => return None,
        })
    }

    /// The same reply as an effect changes its status or its delivery.
    pub(super) fn changed_by(self, effect: &Effect) -> Self {
        match effect {
            Effect::Restatus { status } => Self { status: *status, ..self },
            _ => self.sent(Delivery::of(effect)),
        }
    }

    /// The same reply, sent in another manner.
    fn sent(self, manner: Delivery) -> Self {
        Self { manner, ..self }
    }

    /// The same reply under another `Date`.
    pub(super) fn dated(self, date: ReplyDate) -> Self {
        Self { date, ..self }
    }

    /// The time after which the same reply is sent once more.
    pub(super) fn repeats_after(&self) -> Option<Duration> {
        match self.manner {
            Delivery::Twice(time) => Some(time),
            _ => None,
        }
    }

    /// The same body under status 429, perhaps with the seconds to wait.
    pub(super) fn too_many(self, retry_after_seconds: Option<u64>) -> Self {
        let seconds = retry_after_seconds.map(|seconds| seconds.to_string());
        let reply = self.with(RETRY_AFTER, seconds.as_deref());
        Self { status: 429, ..reply }
    }

    /// The same reply with one more header, if there is a value.
    pub(super) fn with(mut self, name: HeaderName, value: Option<&str>) -> Self {
        let value = value.map(str::to_owned);
        self.headers.extend(value.map(|value| (name, value)));
        self
    }

    /// Waits as long as the manner demands and hands out the response; `clock` is the exchange's, in milliseconds.
    ///
    /// # Errors
    /// [`ConnectionReset`] if the connection is to be reset instead.
    pub(super) async fn respond(
        self,
        clock: impl Fn() -> i64,
    ) -> Result<Response<PacedBody>, ConnectionReset> {
        match self.manner {
            Delivery::Late(time) => sleep(time).await,
            Delivery::Never => std::future::pending().await,
            Delivery::Reset => return Err(ConnectionReset),
            Delivery::Whole
            | Delivery::Twice(_)
            | Delivery::Slow(_)
            | Delivery::CutShort
            | Delivery::Endless(_) => {}
        }
        let mut response = Response::builder().status(self.status).header(DATE, self.date.header(clock()));
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        if self.manner == Delivery::CutShort {
            response = response.header(CONTENT_LENGTH, self.body.len());
        }
        let whole = PacedBody::new(self.body, self.manner);
        // Only a fault can ask for what HTTP has no way to say.
        Ok(response.body(whole).unwrap_or_else(|error| {
            let text = format!("the fault cannot be sent: {error}\n");
            let mut response = Response::new(PacedBody::new(text.into(), Delivery::Whole));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }))
    }
}

/// The connection is to be reset.
#[derive(Debug)]
pub(super) struct ConnectionReset;

impl std::fmt::Display for ConnectionReset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a fault resets the connection")
    }
}

impl std::error::Error for ConnectionReset {}

/// A body that comes in its own time.
pub(super) struct PacedBody {
    left: Bytes,
    pace: BodyPace,
}

enum BodyPace {
    Whole,
    Slow {
        every: Duration,
        next: Pin<Box<Sleep>>,
    },
    /// Bytes still to be sent, and whether they were: the connection may end only once they have left.
    CutShort {
        half: usize,
        sent: bool,
    },
    Endless {
        row: u64,
        dialect: WireFormat,
    },
}

impl PacedBody {
    fn new(body: Bytes, manner: Delivery) -> Self {
        let pace = match manner {
            Delivery::Slow(every) => BodyPace::Slow { every, next: Box::pin(sleep_until(Instant::now())) },
            Delivery::CutShort => BodyPace::CutShort { half: body.len() / 2, sent: false },
            Delivery::Endless(dialect) => BodyPace::Endless { row: 0, dialect },
            Delivery::Whole | Delivery::Twice(_) | Delivery::Late(_) | Delivery::Never | Delivery::Reset => {
                BodyPace::Whole
            }
        };
        Self { left: body, pace }
    }

    /// A whole response in the bytes of HTTP/1.1.
    pub(super) fn to_bytes(response: &Response<Self>) -> Vec<u8> {
        let body = &response.body().left;
        let mut bytes = format!("HTTP/1.1 {}\r\n", response.status()).into_bytes();
        for (name, value) in response.headers() {
            let name = name.as_str().as_bytes();
            bytes.extend([name, b": ", value.as_bytes(), b"\r\n"].concat());
        }
        bytes.extend(format!("{CONTENT_LENGTH}: {}\r\n\r\n", body.len()).into_bytes());
        bytes.extend_from_slice(body);
        bytes
    }
}

impl Body for PacedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let Self { left, pace } = &mut *self;
        let frame = match pace {
            BodyPace::Whole => std::mem::take(left),
            BodyPace::Slow { every, next } => {
                std::task::ready!(next.as_mut().poll(context));
                next.set(sleep(*every));
                left.split_to(left.len().min(1))
            }
            BodyPace::CutShort { sent: true, half: 0 } => {
                return Poll::Ready(Some(Err(io::Error::other("a fault cuts the body short"))));
            }
            BodyPace::CutShort { half: 0, sent } => {
                *sent = true;
                context.waker().wake_by_ref();
                return Poll::Pending; // the server flushes before it asks again
            }
            BodyPace::CutShort { half, .. } => left.split_to(std::mem::take(half)),
            BodyPace::Endless { row: row @ 0, .. } => {
                *row = 1;
                std::mem::take(left)
            }
            BodyPace::Endless { row, dialect } => endless_rows(row, *dialect),
        };
        if frame.is_empty() {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && matches!(self.pace, BodyPace::Whole)
    }

    fn size_hint(&self) -> SizeHint {
        match self.pace {
            BodyPace::Whole | BodyPace::Slow { .. } => SizeHint::with_exact(self.left.len() as u64),
            BodyPace::CutShort { .. } | BodyPace::Endless { .. } => SizeHint::default(),
        }
    }
}

/// An answer without end up to its first row.
fn endless_head(dialect: WireFormat) -> String {
    let envelope = match dialect {
        WireFormat::V1 => r#"{"code":200,"info":"success","data":{"#,
        WireFormat::V4 => r#"{"rc":0,"mc":"SUCCESS","ma":[],"result":{"assets":["#,
        WireFormat::Futures => r#"{"returnCode":0,"msgInfo":"success","error":null,"result":["#,
    };
    format!("{envelope}{}", endless_row("usdt", dialect))
}

fn endless_row(name: &str, dialect: WireFormat) -> String {
    let row = SimulatedBalance::new("1.00", "0.00");
    match dialect {
        WireFormat::V1 => format!(r#""{name}":{{"freeze":"0.00","available":"1.00"}}"#),
        WireFormat::V4 => v4::asset(0, name, &row, false),
        WireFormat::Futures => v4::coin(name, &row, false),
    }
}

/// The next few hundred rows of an answer without end.
fn endless_rows(row: &mut u64, dialect: WireFormat) -> Bytes {
    let first = *row;
    *row = first + 256;
    let rows = (first..*row).map(|row| format!(",{}", endless_row(&format!("c{row}"), dialect)));
    rows.collect::<String>().into()
}

/// A valid gzip file of blanks, which JSON allows between any two of its tokens.
///
/// One compressed MiB ends in a full flush, after which the next is the same bytes again; so nothing large is ever built.
fn gzip_of_blanks(mebibytes: u32) -> Bytes {
    let block = vec![b' '; 1 << 20];
    let mut compress = Compress::new(Compression::best(), false);
    let mut deflated = Vec::with_capacity(1 << 16);
    let flushed = compress.compress_vec(&block, &mut deflated, FlushCompress::Full);
    debug_assert!(flushed.is_ok());
    let mut checksum = Crc::new();
    let mut one = Crc::new();
    one.update(&block);
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]; // the header of a file without a name
    for _ in 0..mebibytes {
        file.extend_from_slice(&deflated);
        checksum.combine(&one);
    }
    file.extend_from_slice(&[3, 0]); // an empty last block
    file.extend_from_slice(&checksum.sum().to_le_bytes());
    file.extend_from_slice(&checksum.amount().to_le_bytes());
    file.into()
}

const MAINTENANCE: &str = "<!DOCTYPE html>
<html>
<head><title>503 Service Temporarily Unavailable</title></head>
<body>
<center><h1>503 Service Temporarily Unavailable</h1></center>
<p>The system is under maintenance. Please come back later.</p>
</body>
</html>
";

#[cfg(test)]
mod tests {
    use super::ReplyDate;

    const NOW_MS: i64 = 1_562_919_832_999;

    #[test]
    fn a_date_has_the_form_of_http_and_is_cut_to_the_second() {
        for (date, text) in [
            (ReplyDate::Now, "Fri, 12 Jul 2019 08:23:52 GMT"),
            (ReplyDate::Behind(3_600), "Fri, 12 Jul 2019 07:23:52 GMT"),
            (ReplyDate::At(1_641_446_237_201), "Thu, 06 Jan 2022 05:17:17 GMT"),
        ] {
            assert_eq!(date.header(NOW_MS), text);
        }
    }

    #[test]
    fn a_date_stays_within_the_years_of_its_form() {
        assert_eq!(ReplyDate::Behind(u64::MAX).header(NOW_MS), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(ReplyDate::Now.header(-1), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(ReplyDate::Now.header(i64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
