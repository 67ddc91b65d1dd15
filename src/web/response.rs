//! Bodies and headers of responses. Does not depend on routes.

use std::{
    convert::Infallible,
    fmt,
    io::{self, Write as _},
    pin::Pin,
    task::{Context, Poll},
};

use flate2::{Compression, write::GzEncoder};
use hyper::{
    HeaderMap, Response, StatusCode,
    body::{Body, Bytes, Frame, SizeHint},
    header::{self, HeaderName, HeaderValue},
};
use tokio::sync::OwnedSemaphorePermit;

use super::connections::BusyGuard;
use crate::exposition::Segments;

const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

/// Size of one frame of a shared document. Other tasks run between two frames.
const FRAME_BYTES: usize = 64 * 1024;

/// A body of known length: cached segments or a shared document, sent without a copy.
#[derive(Debug)]
pub(super) struct ResponseBody {
    segments: Segments,
    sent_segments: usize,
    /// The rest of a shared document.
    document: Bytes,
    /// Whether other tasks have run since the last frame of the document.
    has_yielded: bool,
    /// Held until the last byte is handed to the connection, or the connection is closed.
    _permit: Option<OwnedSemaphorePermit>,
    /// Held for the same time.
    _busy: Option<BusyGuard>,
    /// Called after the same time.
    _on_end: OnDrop,
}

/// A function that is called on drop.
struct OnDrop(Option<Box<dyn FnOnce() + Send>>);

impl fmt::Debug for OnDrop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnDrop")
    }
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(call) = self.0.take() {
            call();
        }
    }
}

impl ResponseBody {
    pub(super) fn new(segments: Segments) -> Self {
        Self {
            segments,
            sent_segments: 0,
            document: Bytes::new(),
            has_yielded: true,
            _permit: None,
            _busy: None,
            _on_end: OnDrop(None),
        }
    }

    /// A document that several responses share. Its bytes are not copied, and a fast client does not keep the thread from
    /// serving scrapes.
    pub(super) fn shared(document: Bytes) -> Self {
        let length = document.len() as u64;
        let mut body = Self::new(Segments { parts: [].into(), length });
        body.document = document;
        body
    }

    pub(super) fn from_text(text: Vec<u8>) -> Self {
        let length = text.len() as u64;
        Self::new(Segments { parts: [Bytes::from(text)].into(), length })
    }

    /// Holds `permit` until the response is sent or its connection is closed.
    pub(super) fn with_permit(self, permit: Option<OwnedSemaphorePermit>) -> Self {
        Self { _permit: permit, ..self }
    }

    /// Holds `busy` until the response is sent or its connection is closed.
    pub(super) fn with_busy(self, busy: BusyGuard) -> Self {
        Self { _busy: Some(busy), ..self }
    }

    /// Calls `on_end` when the response is sent or its connection is closed.
    pub(super) fn on_end(self, on_end: impl FnOnce() + Send + 'static) -> Self {
        Self { _on_end: OnDrop(Some(Box::new(on_end))), ..self }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.document.is_empty() {
            if !self.has_yielded {
                self.has_yielded = true;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.has_yielded = false;
            let length = self.document.len().min(FRAME_BYTES);
            return Poll::Ready(Some(Ok(Frame::data(self.document.split_to(length)))));
        }
        let segment = self.segments.parts.get(self.sent_segments).cloned();
        self.sent_segments += usize::from(segment.is_some());
        Poll::Ready(segment.map(|segment| Ok(Frame::data(segment))))
    }

    fn is_end_stream(&self) -> bool {
        self.sent_segments == self.segments.parts.len() && self.document.is_empty()
    }

    /// hyper calls this before the first frame.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.segments.length)
    }
}

/// A plain-text response.
pub(super) fn text_response(status: StatusCode, text: String) -> Response<ResponseBody> {
    build_response(status, PLAIN_TEXT, ResponseBody::from_text(text.into_bytes()))
}

/// A response with status 200 and a small JSON document.
pub(super) fn json_response(text: String) -> Response<ResponseBody> {
    build_response(StatusCode::OK, "application/json", ResponseBody::from_text(text.into_bytes()))
}

/// The response with another status.
pub(super) fn with_status(
    mut response: Response<ResponseBody>,
    status: StatusCode,
) -> Response<ResponseBody> {
    *response.status_mut() = status;
    response
}

/// A response to a method that the path does not have. `allowed` lists the others.
pub(super) fn method_not_allowed(text: &str, allowed: &'static str) -> Response<ResponseBody> {
    with_header(text_response(StatusCode::METHOD_NOT_ALLOWED, text.to_owned()), header::ALLOW, allowed)
}

/// A response with status 200 that may be compressed.
pub(super) fn encoded_response(
    content_type: &'static str,
    body: ResponseBody,
    is_gzip: bool,
) -> Response<ResponseBody> {
    let response = build_response(StatusCode::OK, content_type, body);
    let response = with_header(response, header::VARY, "Accept-Encoding");
    if is_gzip { with_header(response, header::CONTENT_ENCODING, "gzip") } else { response }
}

/// Marks a response that is not sent: the connection is closed, and the client connects again.
#[derive(Clone, Copy, Debug)]
pub(super) struct CloseConnection;

/// Makes the client repeat its TLS handshake, because the rules for client certificates have changed. Without a response
/// a scraper reconnects at once; it would count an error status as a failed scrape.
pub(super) fn reconnect_response() -> Response<ResponseBody> {
    let mut response = text_response(StatusCode::MISDIRECTED_REQUEST, String::new());
    response.extensions_mut().insert(CloseConnection);
    response
}

fn build_response(
    status: StatusCode,
    content_type: &'static str,
    body: ResponseBody,
) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let response = with_header(response, header::CONTENT_TYPE, content_type);
    // Balances are private, and a cached copy would show old ones as new.
    let response = with_header(response, header::CACHE_CONTROL, "no-store");
    with_header(response, header::X_CONTENT_TYPE_OPTIONS, "nosniff")
}

pub(super) fn with_header(
    mut response: Response<ResponseBody>,
    name: HeaderName,
    value: &'static str,
) -> Response<ResponseBody> {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}

/// A complete HTTP response as text, for connections that never reach the HTTP library.
pub(super) fn raw_response(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: {PLAIN_TEXT}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Compresses `bytes` with gzip.
pub(super) fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(5));
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// Whether the client prefers gzip. All `Accept-Encoding` headers count as one list.
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let Some(first) = values.next() else { return false };
    match values.next() {
        None => prefers_gzip(first),
        Some(second) => {
            prefers_gzip(&[first, second].into_iter().chain(values).collect::<Vec<_>>().join(","))
        }
    }
}

/// Whether a value of `Accept-Encoding` prefers gzip. Quality values count: 0 rejects gzip, and `identity` may have a
/// higher one.
fn prefers_gzip(accept_encoding: &str) -> bool {
    let quality = |encodings: &[&str]| {
        accept_encoding.split(',').find_map(|item| {
            let mut parts = item.split(';').map(str::trim);
            let name = parts.next()?;
            let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            let quality =
                || quality.map_or(Some(1.0), |quality| quality.trim().parse::<f32>().ok()).unwrap_or(0.0);
            encodings.iter().any(|encoding| name.eq_ignore_ascii_case(encoding)).then(quality)
        })
    };
    let gzip = quality(&["gzip", "x-gzip"]).or_else(|| quality(&["*"])).unwrap_or(0.0);
    let identity = quality(&["identity"]).unwrap_or(0.0);
    gzip > 0.0 && gzip >= identity
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raw_response_has_the_right_length() {
        let text = raw_response("400 Bad Request", "not HTTP: «»");
        let body = text.split("\r\n\r\n").nth(1).unwrap_or_default();
        assert!(text.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
        assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\n") && body.ends_with("«»"), "{text}");
    }

    #[test]
    fn gzip_is_chosen_only_if_the_client_prefers_it() {
        for preferring in [
            "gzip",
            "x-gzip",
            "GZIP",
            "deflate, gzip;q=0.5",
            "br, *;q=0.1",
            "gzip;q=1.0, identity;q=0.5",
            "identity, gzip",
        ] {
            assert!(prefers_gzip(preferring), "{preferring}");
        }
        for other in [
            "",
            "identity",
            "gzip;q=0",
            "gzip; q=0.0",
            "*;q=0",
            "identity;q=1, gzip;q=0.5",
            "gzipped",
            "gzip;q=x",
            "deflate",
        ] {
            assert!(!prefers_gzip(other), "{other}");
        }
    }
}
