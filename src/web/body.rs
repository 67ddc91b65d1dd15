//! What goes over the wire in answer: parts already rendered, sent one after the other without a
//! copy. Knows no route.

use std::{
    convert::Infallible,
    io::{self, Write as _},
    pin::Pin,
    task::{Context, Poll},
};

use flate2::{Compression, write::GzEncoder};
use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use super::connections::BusyGuard;
use crate::exposition::Segments;

/// So much of a shared document goes to the connection at once: between two frames others have their turn.
const FRAME_BYTES: usize = 64 * 1024;

/// Parts of a body, its length known.
#[derive(Debug)]
pub(super) struct ResponseBody {
    all: Segments,
    sent: usize,
    /// What is left of a shared document.
    document: Bytes,
    /// Whether others have had their turn since the last frame of the document.
    has_yielded: bool,
    /// Held until the last byte is handed to the connection, or the connection is gone.
    _permit: Option<OwnedSemaphorePermit>,
    /// The same, of the connection.
    _busy: Option<BusyGuard>,
    /// Called then.
    _end: OnDrop,
}

/// Something to do when an answer has been taken, or its connection is gone.
struct OnDrop(Option<Box<dyn FnOnce() + Send>>);

impl std::fmt::Debug for OnDrop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("End")
    }
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(end) = self.0.take() {
            end();
        }
    }
}

impl ResponseBody {
    pub(super) fn new(all: Segments) -> Self {
        Self {
            all,
            sent: 0,
            document: Bytes::new(),
            has_yielded: true,
            _permit: None,
            _busy: None,
            _end: OnDrop(None),
        }
    }

    /// A document that other answers share. Its bytes are not copied, and a client that takes them fast does not keep
    /// the thread from answering scrapes.
    pub(super) fn shared(document: Bytes) -> Self {
        let length = document.len() as u64;
        let mut parts = Self::new(Segments { parts: [].into(), length });
        parts.document = document;
        parts
    }

    pub(super) fn from_text(text: Vec<u8>) -> Self {
        let length = text.len() as u64;
        Self::new(Segments { parts: [Bytes::from(text)].into(), length })
    }

    pub(super) fn with_permit(self, permit: Option<OwnedSemaphorePermit>) -> Self {
        Self { _permit: permit, ..self }
    }
}

impl ResponseBody {
    /// Held until the last byte is handed to the connection, or the connection is gone.
    pub(super) fn with_busy(self, busy: BusyGuard) -> Self {
        Self { _busy: Some(busy), ..self }
    }

    /// Calls `end` when the last byte is handed to the connection, or the connection is gone.
    pub(super) fn on_end(self, end: impl FnOnce() + Send + 'static) -> Self {
        Self { _end: OnDrop(Some(Box::new(end))), ..self }
    }
}

/// A whole answer for whoever does not get as far as HTTP, after which the connection is closed.
pub(super) fn raw_response(status: &str, said: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\r\n{said}",
        said.len()
    )
}

/// `text`, compressed.
pub(super) fn gzip(text: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(5));
    encoder.write_all(text)?;
    encoder.finish()
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
        let part = self.all.parts.get(self.sent).cloned();
        self.sent += usize::from(part.is_some());
        Poll::Ready(part.map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.sent == self.all.parts.len() && self.document.is_empty()
    }

    /// Asked for before the first part is sent.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.all.length)
    }
}

/// Whether the client asks for gzip, from its `Accept-Encoding`. Quality values count: one of 0
/// refuses, and a client may like it plain better.
pub(super) fn wants_gzip(accept_encoding: &str) -> bool {
    let quality = |wanted: &[&str]| {
        accept_encoding.split(',').find_map(|item| {
            let mut words = item.split(';').map(str::trim);
            let name = words.next()?;
            let weight = words.find_map(|word| word.strip_prefix("q=").or_else(|| word.strip_prefix("Q=")));
            let fits = wanted.iter().any(|wanted| name.eq_ignore_ascii_case(wanted));
            fits.then(|| weight.map_or(Some(1.0), |weight| weight.trim().parse::<f32>().ok()).unwrap_or(0.0))
        })
    };
    let gzip = quality(&["gzip", "x-gzip"]).or_else(|| quality(&["*"])).unwrap_or(0.0);
    let plain = quality(&["identity"]).unwrap_or(0.0);
    gzip > 0.0 && gzip >= plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_answer_has_the_length_it_says() {
        let text = raw_response("400 Bad Request", "this is no HTTP: «»");
        let body = text.split("\r\n\r\n").nth(1).unwrap_or_default();
        assert!(text.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
        assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\n") && body.ends_with("«»"), "{text}");
    }

    #[test]
    fn gzip_is_sent_when_asked_and_only_then() {
        for yes in [
            "gzip",
            "x-gzip",
            "GZIP",
            "deflate, gzip;q=0.5",
            "br, *;q=0.1",
            "gzip;q=1.0, identity;q=0.5",
            "identity, gzip",
        ] {
            assert!(wants_gzip(yes), "{yes}");
        }
        for no in [
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
            assert!(!wants_gzip(no), "{no}");
        }
    }
}
