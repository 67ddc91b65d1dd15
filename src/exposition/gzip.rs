//! Compression that costs once a change and not once a scrape: each chunk of text is deflated alone and ends on a byte
//! boundary, so the deflated chunks, one after the other, are one deflate stream. Their checksums combine. RFC 1951
//! and 1952.
//! Knows no metric.

use std::{cell::RefCell, io, io::Write as _, mem};

use bytes::Bytes;
use flate2::{Compression, write::DeflateEncoder};
use zlib_rs::crc32;

/// A text, plain and deflated.
#[derive(Clone, Debug, Default)]
pub struct Chunk {
    /// The text.
    pub plain: Bytes,
    /// Whole blocks of a deflate stream, without the last block.
    deflated: Bytes,
    /// The CRC-32 of the text.
    checksum: u32,
    /// Combines the checksum of any text with that of a text of this length: costs more to make than to use.
    combine_operator: u32,
}

impl Chunk {
    /// Compresses `plain` and keeps both.
    #[must_use]
    pub fn new(plain: impl Into<Box<[u8]>>) -> Self {
        let plain = Bytes::from(plain.into());
        if plain.is_empty() {
            return Self::default();
        }
        Self {
            deflated: deflate(&plain).into_boxed_slice().into(),
            checksum: crc32::crc32(0, &plain),
            combine_operator: crc32::crc32_combine_gen(plain.len() as u64),
            plain,
        }
    }
}

/// A higher level costs a poll more than it saves a scrape.
const LEVEL: Compression = Compression::new(2);

fn deflate(text: &[u8]) -> Vec<u8> {
    thread_local! {
        static ENCODER: RefCell<DeflateEncoder<Vec<u8>>> = RefCell::new(DeflateEncoder::new(Vec::new(), LEVEL));
    }
    let deflated = ENCODER.with_borrow_mut(|encoder| {
        encoder.write_all(text)?;
        encoder.flush()?;
        let deflated = mem::take(encoder.get_mut());
        // The last block goes into what is dropped here.
        encoder.reset(Vec::new())?;
        io::Result::Ok(deflated)
    });
    #[expect(clippy::expect_used, reason = "neither the compressor nor a vector returns an error")]
    deflated.expect("a vector takes all that is written to it")
}

/// Builds a gzip member out of deflated chunks.
#[derive(Debug, Default)]
pub struct GzipMember {
    checksum: u32,
    /// The length of the text modulo 2^32.
    length: u32,
}

impl GzipMember {
    /// What every member begins with: deflate, no name, no time, made on Unix.
    pub const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

    /// Adds `chunk`. Returns the bytes to send for it.
    pub fn append<'a>(&mut self, chunk: &'a Chunk) -> &'a Bytes {
        // The operator of an empty chunk is 0, with which zlib-rs never returns.
        if chunk.plain.is_empty() {
            return &chunk.deflated;
        }
        self.checksum = crc32::crc32_combine_op(self.checksum, chunk.checksum, chunk.combine_operator);
        #[expect(clippy::cast_possible_truncation)]
        let length = chunk.plain.len() as u32;
        self.length = self.length.wrapping_add(length);
        &chunk.deflated
    }

    /// What every member ends with: an empty last block, the checksum, and the length modulo 2^32.
    #[must_use]
    pub fn tail(&self) -> Vec<u8> {
        [&[3, 0], &self.checksum.to_le_bytes()[..], &self.length.to_le_bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::bufread::GzDecoder;
    use proptest::prelude::*;

    use super::*;

    fn member(chunks: &[Chunk]) -> Vec<u8> {
        let mut member = GzipMember::default();
        let mut all = GzipMember::HEAD.to_vec();
        for chunk in chunks {
            all.extend_from_slice(member.append(chunk));
        }
        all.extend_from_slice(&member.tail());
        all
    }

    #[test]
    fn an_empty_chunk_adds_nothing() {
        let chunks = ["a", "", "b"].map(|text| Chunk::new(text.as_bytes()));
        let mut text = String::new();
        assert!(GzDecoder::new(&member(&chunks)[..]).read_to_string(&mut text).is_ok());
        assert_eq!(text, "ab");
    }

    proptest! {
        #[test]
        fn any_chunks_make_one_member(texts in prop::collection::vec(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..2_000),
            (any::<u8>(), 0usize..200_000).prop_map(|(byte, length)| vec![byte; length]),
        ], 0..6)) {
            let chunks: Vec<_> = texts.iter().map(|text| Chunk::new(&**text)).collect();
            let packed = member(&chunks);
            let mut decoder = GzDecoder::new(&packed[..]);
            let mut unpacked = Vec::new();
            prop_assert!(decoder.read_to_end(&mut unpacked).is_ok(), "the checksum is part of it");
            prop_assert_eq!(unpacked, texts.concat());
            prop_assert!(decoder.into_inner().is_empty(), "nothing is left for a second member");
        }
    }
}
