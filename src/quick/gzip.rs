//! Compression that is paid once a change and not once a scrape: each piece is deflated for itself,
//! ending on a byte boundary and referring to nothing outside, so that any pieces strung together
//! are one deflate stream; their checksums combine. RFC 1951 and 1952.
//! Knows no metric.

use std::{array, cell::RefCell, iter, sync::LazyLock};

use bytes::Bytes;
use flate2::Crc;

use crate::{deflate::Deflater, memory::room};

/// A piece of text, plain and deflated.
#[derive(Clone, Debug, Default)]
pub struct Piece {
    /// As it is.
    pub plain: Bytes,
    /// Whole blocks of a deflate stream, not the last ones.
    deflated: Bytes,
    crc: u32,
    /// What a checksum is multiplied with when this is appended.
    shift: u32,
}

impl Piece {
    /// Compresses `plain`, of which a copy is kept.
    #[must_use]
    pub fn new(plain: &[u8]) -> Self {
        Self::keeping(if plain.is_empty() { Bytes::new() } else { lasting(plain) })
    }

    /// Compresses `plain` and keeps it, if it takes about as much memory as [`room`] says.
    #[must_use]
    pub fn of(plain: Vec<u8>) -> Self {
        if plain.capacity() > room(plain.len()) * 17 / 16 {
            Self::new(&plain)
        } else {
            Self::keeping(plain.into())
        }
    }

    fn keeping(plain: Bytes) -> Self {
        thread_local! {
            static DEFLATER: RefCell<Deflater> = RefCell::new(Deflater::new());
        }
        if plain.is_empty() {
            return Self::default();
        }
        let deflated = DEFLATER.with_borrow_mut(|deflater| lasting(deflater.deflate(&plain)));
        Self { crc: checksum(&plain), shift: shift(plain.len()), deflated, plain }
    }
}

/// Of text shorter than this, the library makes copies of all its tables, 48 KiB, before it begins.
const TABLED: usize = 64;

fn checksum(text: &[u8]) -> u32 {
    if text.len() < TABLED {
        return !text.iter().fold(!0, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), |sum, _| times_x(sum)));
    }
    let mut crc = Crc::new();
    crc.update(text);
    crc.sum()
}

fn lasting(text: &[u8]) -> Bytes {
    let mut kept = Vec::with_capacity(room(text.len()));
    kept.extend_from_slice(text);
    kept.into()
}

/// A gzip member in the making.
#[derive(Debug)]
pub struct Member {
    crc: u32,
    length: u32,
}

impl Member {
    /// What every member begins with: deflate, no name, no time, made on Unix.
    pub const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

    /// A member of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self { crc: 0, length: 0 }
    }

    /// Takes `piece` up. Returns what is to be sent for it.
    pub fn append<'a>(&mut self, piece: &'a Piece) -> &'a Bytes {
        if !piece.plain.is_empty() {
            self.crc = product(piece.shift, self.crc) ^ piece.crc;
            // The length is told modulo 2^32.
            #[expect(clippy::cast_possible_truncation)]
            let length = piece.plain.len() as u32;
            self.length = self.length.wrapping_add(length);
        }
        &piece.deflated
    }

    /// What every member ends with: an empty last block, checksum and length.
    #[must_use]
    pub fn tail(&self) -> [u8; 10] {
        let mut tail = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let sums = self.crc.to_le_bytes().into_iter().chain(self.length.to_le_bytes());
        tail.iter_mut().skip(2).zip(sums).for_each(|(to, from)| *to = from);
        tail
    }
}

impl Default for Member {
    fn default() -> Self {
        Self::new()
    }
}

// Checksums are polynomials over GF(2), modulo the one of CRC-32, the lowest bit the highest power.
// That of two texts in a row is that of the first, times x for every bit of the second, plus that
// of the second.

const POLYNOMIAL: u32 = 0xedb8_8320;
const ONE: u32 = 1 << 31;
const X: u32 = 1 << 30;

/// x to the power of eight times one, two, four, eight and so on.
static POWERS: LazyLock<[u32; usize::BITS as usize]> = LazyLock::new(|| {
    let first = (0..3).fold(X, |power, _| product(power, power));
    let mut powers = iter::successors(Some(first), |power| Some(product(*power, *power)));
    array::from_fn(|_| powers.next().unwrap_or_default())
});

/// x to the power of eight times `bytes`.
fn shift(bytes: usize) -> u32 {
    let powers = POWERS.iter().enumerate().filter(|(place, _)| bytes >> place & 1 == 1);
    powers.fold(ONE, |all, (_, power)| product(all, *power))
}

fn times_x(a: u32) -> u32 {
    (a >> 1) ^ if a & 1 == 1 { POLYNOMIAL } else { 0 }
}

fn product(a: u32, b: u32) -> u32 {
    let (mut a, mut b, mut sum) = (a, b, 0);
    while a != 0 {
        if a & ONE != 0 {
            sum ^= b;
        }
        a <<= 1;
        b = times_x(b);
    }
    sum
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::bufread::GzDecoder;
    use proptest::prelude::*;

    use super::*;

    fn member(pieces: &[Piece]) -> Vec<u8> {
        let mut member = Member::new();
        let mut all = Member::HEAD.to_vec();
        for piece in pieces {
            all.extend_from_slice(member.append(piece));
        }
        all.extend_from_slice(&member.tail());
        all
    }

    proptest! {
        #[test]
        fn any_pieces_make_one_member(texts in prop::collection::vec(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..2_000),
            (any::<u8>(), 0usize..200_000).prop_map(|(byte, length)| vec![byte; length]),
        ], 0..6)) {
            let pieces: Vec<_> = texts.iter().map(|text| Piece::new(text)).collect();
            let packed = member(&pieces);
            let mut decoder = GzDecoder::new(&packed[..]);
            let mut unpacked = Vec::new();
            prop_assert!(decoder.read_to_end(&mut unpacked).is_ok(), "the checksum is part of it");
            prop_assert_eq!(unpacked, texts.concat());
            prop_assert!(decoder.into_inner().is_empty(), "nothing is left for a second member");
        }
    }
}
