//! What the exporter promises of anything that comes from outside, as functions of bytes that panic when a promise is
//! broken. The programs in `bin` let the fuzzer call them; `tests/it/fuzz_corpus.rs` of the main crate calls the same
//! ones with every file of `corpus`.

use std::io::Read as _;

use flate2::bufread::GzDecoder;

pub mod config;
pub mod decimal;
pub mod decoder;
pub mod exposition;
pub mod http;
pub mod json;

/// Whether a person can read it where it is shown: on one line, not empty, no control character that would move the
/// cursor or forge another line.
#[must_use]
pub fn is_readable(text: &str) -> bool {
    !text.trim().is_empty() && !text.chars().any(char::is_control)
}

/// The content of a gzip member.
///
/// # Panics
/// If `member` is not a gzip member, or if more bytes follow it.
#[must_use]
pub fn unpacked(member: &[u8]) -> Vec<u8> {
    let (mut text, mut decoder) = (Vec::new(), GzDecoder::new(member));
    let read = decoder.read_to_end(&mut text);
    assert!(read.is_ok() && decoder.into_inner().is_empty(), "{read:?} of {} bytes", member.len());
    text
}
