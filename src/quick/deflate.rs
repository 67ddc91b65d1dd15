//! A deflate encoder for text in lines that resemble each other, as samples of a family do. RFC 1951.
//!
//! A line of a family repeats the one before but for a name in its middle and a number at its end. So
//! nothing is searched for: a line is laid over the one before it, first with their beginnings and then
//! with the ends of their labels together, and what agrees is one copy each. Digits are left as letters,
//! for which the code is made to measure: four digits cost less than a copy of four. That makes less of
//! such text than zlib at its best, in a fraction of the time of zlib at its quickest.
//! Text of any other kind is compressed too, but no better than by others.
//! Knows no gzip, no metric and no text format beyond lines and blanks.

use std::{borrow::Cow, cmp::Reverse, collections::BinaryHeap, sync::LazyLock};

use memchr::{memchr_iter, memrchr};

/// Text this short is only wrapped: to compress it would save less than it costs.
const SHORT: usize = 160;
/// Text this short that is nearly all copies gets the code that every decoder knows: one made to measure
/// costs as much to tell as it saves, and much more time.
const FIXED: usize = 2_048;

/// Compresses one text after the other, in memory that it keeps.
#[derive(Debug)]
pub(crate) struct Deflater {
    runs: Vec<Run>,
    seen: Box<Seen>,
    out: Vec<u8>,
}

impl Deflater {
    pub(crate) fn new() -> Self {
        Self { runs: Vec::new(), seen: Box::new([0; 1 << HASH_BITS]), out: Vec::new() }
    }

    /// Compresses `text` to whole blocks of a deflate stream, none of them the last: they refer to
    /// nothing outside and end on a byte boundary, so that any such pieces strung together are one stream.
    pub(crate) fn deflate(&mut self, text: &[u8]) -> &[u8] {
        let Self { runs, seen, out } = self;
        if text.len() >= SHORT {
            Parting::new(text, runs, seen).run();
            let letters: usize = runs.iter().map(|run| run.letters as usize).sum();
            let is_copied = text.len() < FIXED && letters < text.len() / 3;
            let block = if is_copied { Block::fixed(text, runs) } else { Block::of(text, runs) };
            block.write(out);
        }
        if text.len() < SHORT || out.len() >= text.len() {
            store(text, out);
        }
        out
    }
}

/// Blocks that hold the text as it is.
fn store(text: &[u8], out: &mut Vec<u8>) {
    out.clear();
    for block in text.chunks(MAX_STORED) {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        out.push(0);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
}

const MAX_STORED: usize = u16::MAX as usize;

/// The shortest copy that is worth its distance.
const COPY_MIN: usize = 4;
/// The shortest copy that is worth one from far away, where a search found it.
const FOUND_MIN: usize = 6;
/// The longest copy there is.
const COPY_MAX: usize = 258;
/// From how far back a copy can be.
const REACH: usize = 32_768;

/// Symbol and further bits of a copy's length, and of its distance.
type Copied = [(usize, Word); 2];

/// So many bytes as letters, then a copy of so many of what lies this far behind. No copy has length 0.
#[derive(Clone, Copy, Debug)]
struct Run {
    letters: u32,
    /// 0, or 3 to [`COPY_MAX`].
    length: u32,
    /// 1 to [`REACH`].
    distance: u32,
}

impl Run {
    /// How the copy is told; `None` without one.
    fn copy(self) -> Option<Copied> {
        let (step, extra) = match self.length {
            0..3 => return None,
            258.. => (28, Word::NONE),
            length => steps(length - 3, 2),
        };
        Some([(END + 1 + step, extra), steps(self.distance - 1, 1)])
    }
}

/// Up to 32 bits, the first one lowest; those above `count` are 0.
#[derive(Clone, Copy, Default)]
struct Word {
    bits: u32,
    count: u32,
}

impl Word {
    const NONE: Self = Self { bits: 0, count: 0 };

    /// This and then `next`.
    fn and(self, next: Self) -> Self {
        Self { bits: self.bits | next.bits << self.count, count: self.count + next.count }
    }
}

/// The step that `value` is on, of 2 to the power of `fine` steps in every octave, and how far on it.
fn steps(value: u32, fine: u32) -> (usize, Word) {
    let count = value.checked_ilog2().unwrap_or(0).saturating_sub(fine);
    let step = (count << fine) + (value >> count);
    (step as usize, Word { bits: value & ((1 << count) - 1), count })
}

/// Where four bytes with this hash were seen last, plus one.
type Seen = [u32; 1 << HASH_BITS];
const HASH_BITS: u32 = 12;

/// A text on its way to runs.
struct Parting<'a> {
    text: &'a [u8],
    /// So much of the text is in `runs`, or among the letters of the next one.
    done: usize,
    letters: u32,
    runs: &'a mut Vec<Run>,
    /// As much of it as the text is worth: to forget all of it takes longer than to compress a short one.
    seen: &'a mut [u32],
    hash_bits: u32,
}

impl<'a> Parting<'a> {
    fn new(text: &'a [u8], runs: &'a mut Vec<Run>, seen: &'a mut Seen) -> Self {
        runs.clear();
        let hash_bits = if text.len() < FIXED { 8 } else { HASH_BITS };
        let (seen, _) = seen.split_at_mut(1 << hash_bits);
        seen.fill(0);
        Self { text, done: 0, letters: 0, runs, seen, hash_bits }
    }

    fn run(mut self) {
        let mut before: Option<(usize, usize)> = None;
        let mut start = 0;
        for at in memchr_iter(b'\n', self.text) {
            let line = self.text.get(start..at).unwrap_or_default();
            let labels = start + memrchr(b' ', line).map_or(line.len(), |at| at + 1);
            if let Some((start_before, labels_before)) = before {
                // The break before a line is as good as a part of it.
                self.copy(start - start_before);
                let same = self.agreeing_ends(labels, start_before..labels_before);
                self.search(labels - same);
                self.copy(labels - labels_before);
            } else {
                self.search(labels);
            }
            self.letters(at);
            before = Some((start, labels));
            start = at + 1;
        }
        self.letters(self.text.len());
        self.runs.push(Run { letters: self.letters, length: 0, distance: 0 });
    }

    /// How many bytes before `labels` that are still to be done are those at the end of `before`.
    fn agreeing_ends(&self, labels: usize, before: std::ops::Range<usize>) -> usize {
        let open = self.text.get(self.done..labels).unwrap_or_default();
        let before = self.text.get(before).unwrap_or_default();
        let (mut open_rest, mut before_rest) = (open, before);
        while let (Some((rest, a)), Some((rest_before, b))) =
            (open_rest.split_last_chunk::<8>(), before_rest.split_last_chunk::<8>())
        {
            let differing = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
            if differing != 0 {
                return open.len() - open_rest.len() + (differing.leading_zeros() / 8) as usize;
            }
            (open_rest, before_rest) = (rest, rest_before);
        }
        let rest = open_rest.iter().rev().zip(before_rest.iter().rev());
        open.len() - open_rest.len() + rest.take_while(|(a, b)| a == b).count()
    }

    /// Copies all that agrees with what lies `distance` behind, if that is enough.
    fn copy(&mut self, distance: usize) {
        let length = self.agreeing(distance);
        if length >= COPY_MIN {
            self.take(length, distance);
        }
    }

    fn agreeing(&self, distance: usize) -> usize {
        if distance > REACH {
            return 0;
        }
        let open = self.text.get(self.done..).unwrap_or_default();
        let behind = self.done.checked_sub(distance).and_then(|from| self.text.get(from..));
        behind.map_or(0, |behind| agreeing(open, behind))
    }

    fn take(&mut self, length: usize, distance: usize) {
        let mut left = length;
        while left >= 3 {
            let one = left.min(COPY_MAX);
            let letters = std::mem::take(&mut self.letters);
            // Both are far below 2^32.
            #[expect(clippy::cast_possible_truncation)]
            self.runs.push(Run { letters, length: one as u32, distance: distance as u32 });
            self.done += one;
            left -= one;
        }
    }

    /// Leaves all up to `end` as letters.
    fn letters(&mut self, end: usize) {
        let open = end.saturating_sub(self.done);
        // No text is as long as 2^32.
        #[expect(clippy::cast_possible_truncation)]
        let letters = open as u32;
        self.letters += letters;
        self.done += open;
    }

    /// Does all up to `end`, perhaps beyond, as letters and as copies of wherever the same was seen.
    fn search(&mut self, end: usize) {
        while self.done + FOUND_MIN <= end {
            let four = self.text.get(self.done..).and_then(|open| open.first_chunk::<4>());
            let Some(four) = four else { return self.letters(end) };
            let hash = u32::from_le_bytes(*four).wrapping_mul(0x9e37_79b1) >> (32 - self.hash_bits);
            let Some(seen) = self.seen.get_mut(hash as usize) else { return self.letters(end) };
            let here = u32::try_from(self.done + 1).unwrap_or(0);
            let last = std::mem::replace(seen, here);
            let distance = (here - last.min(here)) as usize;
            let length = if last > 0 && distance > 0 { self.agreeing(distance) } else { 0 };
            if length >= FOUND_MIN {
                self.take(length, distance);
            } else {
                self.letters(self.done + 1);
            }
        }
        self.letters(end);
    }
}

/// How many bytes at the beginnings of both are the same.
fn agreeing(a: &[u8], b: &[u8]) -> usize {
    let (mut rest_a, mut rest_b) = (a, b);
    while let (Some((x, after_x)), Some((y, after_y))) =
        (rest_a.split_first_chunk::<8>(), rest_b.split_first_chunk::<8>())
    {
        let differing = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if differing != 0 {
            return a.len() - rest_a.len() + (differing.trailing_zeros() / 8) as usize;
        }
        (rest_a, rest_b) = (after_x, after_y);
    }
    a.len() - rest_a.len() + rest_a.iter().zip(rest_b).take_while(|(x, y)| x == y).count()
}

/// A block, and what its runs are coded with.
struct Block<'a> {
    text: &'a [u8],
    runs: &'a [Run],
    letters: Cow<'static, Code<LETTERS>>,
    distances: Cow<'static, Code<DISTANCES>>,
    /// Whether the codes are not those that every decoder knows.
    is_made: bool,
}

/// Letters, the end of the block, lengths of copies, and two that never occur.
const LETTERS: usize = 288;
const END: usize = 256;
const DISTANCES: usize = 30;
/// The longest code of a letter, length or distance.
const BITS_MAX: u8 = 15;

impl<'a> Block<'a> {
    fn fixed(text: &'a [u8], runs: &'a [Run]) -> Self {
        static CODES: LazyLock<(Code<LETTERS>, Code<DISTANCES>)> = LazyLock::new(|| {
            let length = |symbol| match symbol {
                144..=255 => 9,
                256..=279 => 7,
                _ => 8,
            };
            (Code::with(std::array::from_fn(length)), Code::with([5; DISTANCES]))
        });
        let (letters, distances) = &*CODES;
        Self {
            text,
            runs,
            letters: Cow::Borrowed(letters),
            distances: Cow::Borrowed(distances),
            is_made: false,
        }
    }

    /// With codes made for what is in it.
    fn of(text: &'a [u8], runs: &'a [Run]) -> Self {
        let (mut letters, mut distances) = ([0; LETTERS], [0; DISTANCES]);
        let count = |counts: &mut [u32], symbol: usize| {
            if let Some(count) = counts.get_mut(symbol) {
                *count += 1;
            }
        };
        // One count for every other letter: the same ones in a row would wait for each other.
        let mut others = [0; LETTERS];
        for (run, copy) in parts(text, runs) {
            let (pairs, last) = run.as_chunks::<2>();
            for [a, b] in pairs {
                count(&mut letters, usize::from(*a));
                count(&mut others, usize::from(*b));
            }
            for byte in last {
                count(&mut letters, usize::from(*byte));
            }
            if let Some([(length, _), (distance, _)]) = copy {
                count(&mut letters, length);
                count(&mut distances, distance);
            }
        }
        letters.iter_mut().zip(others).for_each(|(count, others)| *count += others);
        count(&mut letters, END);
        let (letters, distances) = (Code::of(&letters, BITS_MAX), Code::of(&distances, BITS_MAX));
        Self { text, runs, letters: Cow::Owned(letters), distances: Cow::Owned(distances), is_made: true }
    }

    /// Writes it in the place of what stands in `out`.
    fn write(&self, out: &mut Vec<u8>) {
        let mut out = Bits::new(out);
        // Not the last block, and whether its codes come first.
        out.put(Word { bits: if self.is_made { 0b100 } else { 0b010 }, count: 3 });
        if self.is_made {
            self.write_codes(&mut out);
        }
        let letter = |byte: &u8| self.letters.word(usize::from(*byte));
        for (run, copy) in parts(self.text, self.runs) {
            let (threes, rest) = run.as_chunks::<3>();
            for [a, b, c] in threes {
                out.open(letter(a));
                out.open(letter(b));
                out.put(letter(c));
            }
            for byte in rest {
                out.put(letter(byte));
            }
            if let Some([(length, extra), (distance, further)]) = copy {
                out.open(self.letters.word(length).and(extra));
                out.put(self.distances.word(distance).and(further));
            }
        }
        out.put(self.letters.word(END));
        // An empty stored block, for it ends on a byte boundary.
        out.put(Word { bits: 0, count: 3 });
        out.finish().extend_from_slice(&[0, 0, 0xff, 0xff]);
    }

    /// The lengths of both codes, in a code of their own.
    fn write_codes(&self, out: &mut Bits<'_>) {
        /// In this order the lengths of that code are told.
        const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
        let letters = self.letters.told(END + 1);
        let distances = self.distances.told(1);
        let lengths: Vec<u8> = letters.iter().chain(distances).copied().collect();
        let runs = runs(&lengths);
        let mut counts = [0; 19];
        for (symbol, _) in &runs {
            if let Some(count) = counts.get_mut(*symbol) {
                *count += 1;
            }
        }
        let code = Code::of(&counts, 7);
        let length = |symbol: usize| code.lengths.get(symbol).copied().unwrap_or(0);
        let told = ORDER.iter().rposition(|symbol| length(*symbol) > 0).map_or(4, |last| (last + 1).max(4));
        for (value, least, count) in [(letters.len(), 257, 5), (distances.len(), 1, 5), (told, 4, 4)] {
            out.put(Word { bits: u32::try_from(value - least).unwrap_or(0), count });
        }
        for symbol in ORDER.iter().take(told) {
            out.put(Word { bits: u32::from(length(*symbol)), count: 3 });
        }
        for (symbol, extra) in runs {
            out.put(code.word(symbol).and(extra));
        }
    }
}

/// The letters and the copy of every run.
fn parts<'a>(text: &'a [u8], runs: &'a [Run]) -> impl Iterator<Item = (&'a [u8], Option<Copied>)> {
    let mut rest = text;
    runs.iter().map(move |run| {
        let (letters, after) = rest.split_at_checked(run.letters as usize).unwrap_or((rest, &[]));
        rest = after.get(run.length as usize..).unwrap_or_default();
        (letters, run.copy())
    })
}

/// Lengths of codes as symbols: 0 to 15 for themselves, 16 for 3 to 6 more of the last, 17 and 18
/// for 3 to 10 and 11 to 138 zeros.
fn runs(lengths: &[u8]) -> Vec<(usize, Word)> {
    let mut runs = Vec::new();
    for run in lengths.chunk_by(|a, b| a == b) {
        let Some(length) = run.first() else { continue };
        let mut left = run.len();
        if *length > 0 {
            runs.push((usize::from(*length), Word::NONE));
            left -= 1;
        }
        while left > 0 {
            let (symbol, least, most, count) = match (*length, left) {
                (_, ..3) => (usize::from(*length), 1, 1, 0),
                (0, 11..) => (18, 11, 138, 7),
                (0, _) => (17, 3, 10, 3),
                _ => (16, 3, 6, 2),
            };
            let taken = left.min(most);
            runs.push((symbol, Word { bits: u32::try_from(taken - least).unwrap_or(0), count }));
            left -= taken;
        }
    }
    runs
}

/// A prefix code over `N` symbols, as deflate has them: fixed by the lengths alone.
#[derive(Clone)]
struct Code<const N: usize> {
    /// Bits of each symbol; 0 of those that do not occur.
    lengths: [u8; N],
    words: [Word; N],
}

impl<const N: usize> Code<N> {
    /// The shortest code for symbols that occur so often, none of them longer than `most` bits.
    fn of(counts: &[u32; N], most: u8) -> Self {
        let mut counts = *counts;
        let lengths = loop {
            let lengths = huffman(&counts);
            if lengths.iter().all(|length| *length <= most) {
                break lengths;
            }
            // Made more alike, the counts make a flatter code; it costs the rare ones next to nothing.
            counts.iter_mut().filter(|count| **count > 0).for_each(|count| *count = *count / 2 + 1);
        };
        Self::with(lengths)
    }

    fn with(lengths: [u8; N]) -> Self {
        Self { words: canonical(&lengths), lengths }
    }

    fn word(&self, symbol: usize) -> Word {
        self.words.get(symbol).copied().unwrap_or_default()
    }

    /// The lengths that have to be told: all but the zeros at the end, and `least` of them.
    fn told(&self, least: usize) -> &[u8] {
        let told = self.lengths.iter().rposition(|length| *length > 0).map_or(0, |last| last + 1);
        self.lengths.get(..told.max(least)).unwrap_or(&self.lengths)
    }
}

/// The lengths of the best prefix code. A lone symbol has one bit.
fn huffman<const N: usize>(counts: &[u32; N]) -> [u8; N] {
    let mut lengths = [0; N];
    // Symbols come first, then the pairs that are made of them; a pair comes after both its parts.
    let mut above = vec![0; N];
    let occurring = counts.iter().enumerate().filter(|(_, count)| **count > 0);
    let mut open: BinaryHeap<_> = occurring.map(|(symbol, count)| Reverse((*count, symbol))).collect();
    if let (1, Some(Reverse((_, lone)))) = (open.len(), open.peek()) {
        lengths.iter_mut().skip(*lone).take(1).for_each(|length| *length = 1);
        return lengths;
    }
    while let (Some(Reverse((count, a))), Some(Reverse((other, b)))) = (open.pop(), open.pop()) {
        let pair = above.len();
        above.push(0);
        for part in [a, b] {
            if let Some(above) = above.get_mut(part) {
                *above = pair;
            }
        }
        open.push(Reverse((count + other, pair)));
        if open.len() == 1 {
            break;
        }
    }
    let mut depths = vec![0_u8; above.len()];
    for node in (0..above.len().saturating_sub(1)).rev() {
        let depth = above.get(node).and_then(|above| depths.get(*above)).map_or(0, |depth| depth + 1);
        if let Some(own) = depths.get_mut(node) {
            *own = depth;
        }
    }
    for ((length, depth), count) in lengths.iter_mut().zip(depths).zip(counts) {
        *length = if *count > 0 { depth } else { 0 };
    }
    lengths
}

/// The codes that go with these lengths: in the order of length, then of symbol.
fn canonical<const N: usize>(lengths: &[u8; N]) -> [Word; N] {
    let mut words = [Word::NONE; N];
    let mut next = 0_u32;
    for count in 1..=u32::from(BITS_MAX) {
        next <<= 1;
        for (word, _) in words.iter_mut().zip(lengths).filter(|(_, own)| u32::from(**own) == count) {
            *word = Word { bits: next.reverse_bits() >> (32 - count), count };
            next += 1;
        }
    }
    words
}

/// Bits, the first one lowest.
struct Bits<'a> {
    /// Grows where there is no room: to make room for all that may come would take longer than to fill
    /// what is needed of it.
    out: &'a mut Vec<u8>,
    /// So many bytes are done.
    done: usize,
    /// Those that do not fill a byte yet, in all below [`Bits::MOST`] of them.
    open: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    /// More than these are not kept open.
    const MOST: u32 = 56;

    /// Bits in the place of what stands in `out`.
    fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, done: 0, open: 0, count: 0 }
    }

    /// Adds bits that are kept until others are put. In all there is room for [`Bits::MOST`] of them.
    fn open(&mut self, word: Word) {
        self.open |= u64::from(word.bits) << self.count;
        self.count += word.count;
        debug_assert!(self.count <= Self::MOST, "{}", self.count);
    }

    fn put(&mut self, word: Word) {
        self.open(word);
        let end = self.done + size_of::<u64>();
        if self.out.len() < end {
            self.out.resize(end.next_power_of_two(), 0);
        }
        if let Some(place) = self.out.get_mut(self.done..).and_then(|out| out.first_chunk_mut::<8>()) {
            *place = self.open.to_le_bytes();
        }
        let whole = self.count / 8;
        self.done += whole as usize;
        self.open >>= whole * 8;
        self.count %= 8;
    }

    /// Fills up the last byte with zeros.
    fn finish(self) -> &'a mut Vec<u8> {
        self.out.truncate(self.done + usize::from(self.count > 0));
        self.out
    }
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write as _, io::Read as _, iter};

    use flate2::{Compress, Compression, FlushCompress, read::DeflateDecoder};
    use proptest::prelude::*;

    use super::*;

    fn deflate(text: &[u8]) -> Vec<u8> {
        let mut deflater = Deflater::new();
        // What is left of the text before must not matter.
        deflater.deflate(&noise(1_000));
        deflater.deflate(text).to_vec()
    }

    /// What a decoder makes of these blocks, ended with an empty last one.
    fn inflated(blocks: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        let read = DeflateDecoder::new(&*[blocks, &[3, 0]].concat()).read_to_end(&mut text);
        assert!(read.is_ok(), "{read:?}");
        text
    }

    /// Lines as a family has them, with names and numbers of all lengths.
    fn lines() -> impl Strategy<Value = Vec<u8>> {
        let line =
            ("[a-z0-9]{0,9}", prop_oneof![Just("0".to_owned()), "[0-9]{1,9}(\\.[0-9]{1,8})?", ".{0,300}"]);
        let whole = |lines: Vec<(String, String)>| {
            lines.iter().fold(String::new(), |mut text, (name, number)| {
                let _ = writeln!(
                    text,
                    "xt_balance_free{{account=\"main\",currency=\"{name}\",wallet=\"spot\"}} {number}"
                );
                text
            })
        };
        prop::collection::vec(line, 0..60).prop_map(move |lines| whole(lines).into_bytes())
    }

    proptest! {
        #[test]
        fn whatever_is_deflated_is_inflated_to_the_same(text in prop_oneof![
            lines(),
            prop::collection::vec(any::<u8>(), 0..3_000),
            prop::collection::vec(prop_oneof![Just(b'\n'), Just(b' '), Just(b'a')], 0..3_000),
            prop::collection::vec(prop::collection::vec(any::<u8>(), 1..9), 1..9).prop_map(|words| words.concat().repeat(300)),
        ]) {
            let blocks = deflate(&text);
            prop_assert!(inflated(&blocks) == text);
            prop_assert!(blocks.len() <= text.len() + 5, "{} of {}", blocks.len(), text.len());
        }
    }

    #[test]
    fn a_long_text_that_cannot_be_compressed_is_wrapped_in_several_blocks() {
        let text: Vec<u8> =
            (0..200_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        let mut blocks = Vec::new();
        store(&text, &mut blocks);
        assert!(inflated(&blocks) == text);
    }

    /// Bytes without rhyme or reason, none of them a blank or a line break.
    fn noise(count: usize) -> Vec<u8> {
        let mut random = 1_u64;
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            random.to_be_bytes()[0] | 0x80
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn a_line_is_laid_over_the_one_before_it_if_that_is_within_reach() {
        for (length, is_copied) in [(REACH, true), (REACH + 1, false)] {
            let line = [&*noise(length - 1), b"\n"].concat();
            let blocks = deflate(&line.repeat(2));
            assert!(inflated(&blocks) == line.repeat(2), "{length}");
            assert_eq!(blocks.len() < line.len() * 5 / 4, is_copied, "{length}: {}", blocks.len());
        }
    }

    #[test]
    fn what_was_seen_elsewhere_in_a_line_is_copied_from_there() {
        let text = [&noise(400)[..], b"once", &noise(400)[..], b"\n"].concat();
        let blocks = deflate(&text);
        assert!(inflated(&blocks) == text);
        assert!(blocks.len() < 600, "{}", blocks.len());
    }

    /// The blank and the end of the block are the rarest; what is no line is not copied.
    #[test]
    fn letters_as_rare_as_can_be_are_spelt_with_the_longest_codes() {
        let mut text = b" ".to_vec();
        let mut rabbits = (2, 3);
        for letter in b'a'..=b'n' {
            text.extend(iter::repeat_n(letter, rabbits.0));
            rabbits = (rabbits.1, rabbits.0 + rabbits.1);
        }
        let letters = u32::try_from(text.len()).unwrap_or(0);
        let alone = [Run { letters, length: 0, distance: 0 }];
        assert_eq!(Block::of(&text, &alone).letters.lengths.iter().max(), Some(&BITS_MAX));
        assert!(inflated(&deflate(&text)) == text);
    }

    /// Counts like those of rabbits make the deepest code there is: too deep for deflate.
    #[test]
    fn no_code_is_too_long() {
        let mut counts = [0; LETTERS];
        let mut rabbits = (1, 1);
        for count in counts.iter_mut().take(32) {
            *count = rabbits.0;
            rabbits = (rabbits.1, rabbits.0 + rabbits.1);
        }
        assert_eq!(huffman(&counts).iter().max(), Some(&31));
        let code = Code::of(&counts, BITS_MAX);
        let share: f64 = code
            .lengths
            .iter()
            .filter(|length| **length > 0)
            .map(|length| 0.5_f64.powi((*length).into()))
            .sum();
        assert_eq!(code.lengths.iter().max(), Some(&BITS_MAX));
        assert!((share - 1.0).abs() < f64::EPSILON, "every sequence of bits means something: {share}");
    }

    #[test]
    fn a_thousand_balances_take_less_room_than_with_zlib_at_its_best() {
        let mut random = 1_u64;
        let mut text = String::new();
        for number in 0..1_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let amount = (random >> 20) % 10_u64.pow(8 + number % 6);
            let (whole, rest) = (amount / 100_000_000, amount % 100_000_000);
            let _ = writeln!(
                text,
                "xt_balance_free{{account=\"main\",currency=\"c{number:03x}\",wallet=\"spot\"}} {whole}.{rest:08}"
            );
        }
        let mut best = Vec::with_capacity(text.len());
        let compressed = Compress::new(Compression::best(), false).compress_vec(
            text.as_bytes(),
            &mut best,
            FlushCompress::Full,
        );
        assert!(compressed.is_ok() && inflated(&best) == text.as_bytes());
        let ours = deflate(text.as_bytes());
        assert!(inflated(&ours) == text.as_bytes());
        assert!(ours.len() < best.len(), "{} and {}", ours.len(), best.len());
    }
}
