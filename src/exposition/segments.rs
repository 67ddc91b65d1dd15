//! A document as few segments of bytes, without a copy of all of it. Knows no metric.

use std::sync::Arc;

use bytes::Bytes;

/// Segments of bytes, to be sent one after the other.
#[derive(Clone, Debug)]
pub struct Segments {
    /// None of them is empty.
    pub parts: Arc<[Bytes]>,
    /// The bytes of all segments together.
    pub length: u64,
}

/// The most bytes of long chunks that are copied into the plain text, and as many into the gzip member. The rest shares the
/// chunks' memory, because slow clients keep several expositions alive.
pub(super) const COPY_MAX_BYTES: usize = 1024 * 1024;

/// Joins short chunks, because each segment can cost a system call.
pub(super) struct SegmentBuilder {
    parts: Vec<Bytes>,
    joined: Vec<u8>,
    /// The number of bytes of long chunks that may still be copied.
    budget: usize,
}

impl SegmentBuilder {
    /// A chunk of at least this length can be a segment of its own.
    const LONG_BYTES: usize = 4096;
    /// The most bytes that are joined. Segments of one size leave gaps in memory that the next ones fit into.
    const SEGMENT_MAX_BYTES: usize = 256 * 1024;

    pub(super) fn new() -> Self {
        Self { parts: Vec::new(), joined: Vec::new(), budget: COPY_MAX_BYTES }
    }

    pub(super) fn append(&mut self, bytes: &Bytes) {
        let is_long = bytes.len() >= Self::LONG_BYTES;
        if is_long && bytes.len() > self.budget.min(Self::SEGMENT_MAX_BYTES) {
            self.close_segment();
            self.parts.push(bytes.clone());
            return;
        }
        self.budget -= if is_long { bytes.len() } else { 0 };
        if self.joined.len() + bytes.len() > Self::SEGMENT_MAX_BYTES {
            self.close_segment();
            self.joined.reserve_exact(Self::SEGMENT_MAX_BYTES);
        }
        self.joined.extend_from_slice(bytes);
    }

    /// Ends the joined segment.
    fn close_segment(&mut self) {
        if !self.joined.is_empty() {
            self.parts.push(std::mem::take(&mut self.joined).into_boxed_slice().into());
        }
    }

    pub(super) fn finish(mut self) -> Segments {
        self.close_segment();
        let length = self.parts.iter().map(|part| part.len() as u64).sum();
        Segments { parts: self.parts.into(), length }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_chunks_are_joined_and_long_ones_beyond_the_budget_are_shared() {
        let long = Bytes::from(vec![b'x'; SegmentBuilder::SEGMENT_MAX_BYTES]);
        let short = Bytes::from_static(b"short");
        let mut builder = SegmentBuilder::new();
        let copies = COPY_MAX_BYTES / long.len();
        for _ in 0..copies + 2 {
            builder.append(&short);
            builder.append(&long);
        }
        let segments = builder.finish();
        let shared = segments.parts.iter().filter(|part| part.as_ptr() == long.as_ptr());
        assert_eq!(shared.count(), 2);
        let expected = [short, long].concat().repeat(copies + 2);
        assert_eq!(segments.length, expected.len() as u64);
        assert!(segments.parts.concat() == expected);
    }
}
