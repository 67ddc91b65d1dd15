//! What is known → text. Balances and the course of polls are rendered and compressed when a poll
//! ends, and only what changed; a scrape strings the pieces together under their family headers.
//! Knows no socket and no exchange.

pub mod families;
pub mod own;

use std::{
    cell::Cell,
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use quick::memory::room;
pub use quick::{gzip, text};

use self::{
    families::{AccountFacts, FAMILIES, Source},
    gzip::{Member, Piece},
    own::OwnFacts,
    text::Samples,
};
use crate::{
    quotation::Quotation,
    standing::{Standing, Subject},
};

/// The lines of one account, of one wallet or of prices: a piece per family, at the family's place in
/// [`FAMILIES`], empty where the family is none of its own.
#[derive(Clone, Debug)]
pub struct Pieces(Arc<[Piece]>);

/// Pieces as a scrape wants them.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// The lines.
    pub pieces: &'a Pieces,
    /// Whether the answer in them may still be shown. What is too old to be known is left out.
    pub known: bool,
    /// The same of prices.
    pub priced: bool,
}

/// The whole exposition, ready to be sent any number of times.
#[derive(Clone, Debug)]
pub struct Whole {
    /// As text.
    pub plain: Strung,
    /// The same as one gzip member.
    pub gzip: Strung,
}

/// Parts to be sent one after the other.
#[derive(Clone, Debug)]
pub struct Strung {
    /// None empty.
    pub parts: Arc<[Bytes]>,
    /// Of all parts together, in bytes.
    pub length: u64,
}

/// Strings the whole exposition together: families sorted by name, and within a family the accounts
/// and wallets in the order of `shown`.
#[must_use]
pub fn assemble(shown: &[Shown<'_>], own: &OwnFacts<'_>) -> Whole {
    static HEADERS: LazyLock<Vec<Piece>> =
        LazyLock::new(|| FAMILIES.iter().map(|family| Piece::new(family.header().as_bytes())).collect());
    let mut own = own::render(own);
    let mut string = Stringing::new();
    for ((place, family), header) in FAMILIES.iter().enumerate().zip(&*HEADERS) {
        if let Source::Own = family.source {
            if let Some(text) = own.remove(family.name) {
                string.append(&Piece::new(&text));
            }
            continue;
        }
        let hides = |shown: &Shown<'_>| match family.source {
            Source::Answer(_) => !shown.known,
            Source::Price(_) => !shown.priced,
            Source::Unpriced(_) => !(shown.known && shown.priced),
            _ => false,
        };
        let pieces = shown.iter().filter(|shown| !hides(shown)).filter_map(|shown| shown.pieces.0.get(place));
        let mut pieces = pieces.filter(|piece| !piece.plain.is_empty()).peekable();
        if pieces.peek().is_some() {
            string.append(header);
            pieces.for_each(|piece| string.append(piece));
        }
    }
    string.finish()
}

struct Stringing {
    plain: Joining,
    gzip: Joining,
    member: Member,
}

impl Stringing {
    fn new() -> Self {
        let mut gzip = Joining::up_to(usize::MAX);
        gzip.joined.extend_from_slice(&Member::HEAD);
        Self { plain: Joining::up_to(PLAIN_COPIED_MAX), gzip, member: Member::new() }
    }

    fn append(&mut self, piece: &Piece) {
        self.plain.append(&piece.plain);
        self.gzip.append(self.member.append(piece));
    }

    fn finish(mut self) -> Whole {
        self.gzip.joined.extend_from_slice(&self.member.tail());
        Whole { plain: self.plain.finish(), gzip: self.gzip.finish() }
    }
}

/// What is copied of the plain text to make few parts of it; the rest is shared with the pieces.
const PLAIN_COPIED_MAX: usize = 1024 * 1024;

/// Joins parts, because a part may cost a call of the kernel of its own.
struct Joining {
    parts: Vec<Bytes>,
    joined: Vec<u8>,
    /// How many bytes of long pieces may still be copied.
    budget: usize,
}

impl Joining {
    /// From this length on a piece may be a part of its own.
    const LONG: usize = 4096;
    /// No longer part is made of shorter ones: of one size, they leave gaps that fit.
    const PART_MAX: usize = 256 * 1024;

    fn up_to(budget: usize) -> Self {
        Self { parts: Vec::new(), joined: Vec::new(), budget }
    }

    fn append(&mut self, bytes: &Bytes) {
        let is_long = bytes.len() >= Self::LONG;
        if is_long && bytes.len() > self.budget.min(Self::PART_MAX) {
            self.part();
            self.parts.push(bytes.clone());
            return;
        }
        self.budget -= if is_long { bytes.len() } else { 0 };
        if self.joined.len() + bytes.len() > Self::PART_MAX {
            self.part();
            self.joined.reserve_exact(Self::PART_MAX);
        }
        self.joined.extend_from_slice(bytes);
    }

    /// What is joined ends here.
    fn part(&mut self) {
        if !self.joined.is_empty() {
            self.parts.push(std::mem::take(&mut self.joined).into_boxed_slice().into());
        }
    }

    fn finish(mut self) -> Strung {
        self.part();
        let length = self.parts.iter().map(|part| part.len() as u64).sum();
        Strung { parts: self.parts.into(), length }
    }
}

impl Pieces {
    /// Renders what is said of an account whatever the wallet.
    #[must_use]
    pub fn of_account(facts: &AccountFacts) -> Self {
        Self::each(|_, family| match family.source {
            Source::Account(write) => lines(family, |out| write(facts, out)),
            _ => Piece::default(),
        })
    }

    /// Renders a wallet. What cannot have changed since `before` is shared with it.
    #[must_use]
    pub fn of_wallet(standing: &Standing, before: Option<(&Standing, &Pieces)>) -> Self {
        let answer = |standing: &Standing| {
            standing.good.as_ref().map(|good| (good.holdings.as_ptr(), good.currencies))
        };
        let same_answer = before.filter(|(old, _)| answer(old) == answer(standing));
        let old = |place| before.map(|(_, old)| old.at(place)).unwrap_or_default();
        Self::each(|place, family| match (family.source, before, same_answer) {
            // How much has no price is counted anew by whoever knows the prices.
            (Source::Wish(_) | Source::Unpriced(_), Some((_, old)), _)
            | (Source::Answer(_), _, Some((_, old))) => old.at(place),
            (Source::Wish(write), ..) => lines(family, |out| write(&standing.subject, out)),
            (Source::Answer(write), ..) => match &standing.good {
                Some(good) => lines_unless(&old(place), family, |out| write(&standing.subject, good, out)),
                None => Piece::default(),
            },
            (Source::Poll(write), ..) => lines_unless(&old(place), family, |out| write(standing, out)),
            _ => Piece::default(),
        })
    }

    /// Renders how many currencies of a wallet have no price.
    pub fn set_unpriced(&mut self, subject: &Subject, unpriced: u64) {
        *self = Self::each(|place, family| match family.source {
            Source::Unpriced(write) => lines(family, |out| write(subject, unpriced, out)),
            _ => self.at(place),
        });
    }

    /// Renders prices. What cannot have changed since `before` is shared with it.
    #[must_use]
    pub fn of_prices(quotation: &Quotation, before: Option<(&Quotation, &Pieces)>) -> Self {
        let answer = |quotation: &Quotation| quotation.good.as_ref().map(|good| Arc::as_ptr(&good.prices));
        let same_answer = before.filter(|(old, _)| answer(old) == answer(quotation));
        Self::each(|place, family| match (family.source, same_answer) {
            (Source::Price(_), Some((_, old))) => old.at(place),
            (Source::Price(write), None) => match &quotation.good {
                Some(good) => lines(family, |out| write(&quotation.choice, &good.prices, out)),
                None => Piece::default(),
            },
            (Source::Ticker(write), _) => lines(family, |out| write(quotation, out)),
            _ => Piece::default(),
        })
    }

    fn each(piece: impl Fn(usize, &'static families::Family) -> Piece) -> Self {
        Self(FAMILIES.iter().enumerate().map(|(place, family)| piece(place, family)).collect())
    }

    /// The text at a family's place.
    #[cfg(test)]
    pub(crate) fn plain(&self, place: usize) -> Bytes {
        self.at(place).plain
    }

    fn at(&self, place: usize) -> Piece {
        self.0.get(place).cloned().unwrap_or_default()
    }
}

thread_local! {
    /// Written into for every piece that is not long: memory that comes and goes in ever other sizes
    /// would be scattered between what stays.
    static DRAFT: Cell<String> = const { Cell::new(String::new()) };
}

fn lines(family: &'static families::Family, write: impl FnOnce(&mut Samples)) -> Piece {
    lines_unless(&Piece::default(), family, write)
}

/// From this length on a text is written where it will stay.
const LONG: usize = 4096;

/// The piece `old` if its lines are the same.
fn lines_unless(old: &Piece, family: &'static families::Family, write: impl FnOnce(&mut Samples)) -> Piece {
    let is_long = old.plain.len() >= LONG;
    let draft = if is_long { String::with_capacity(room(old.plain.len())) } else { DRAFT.take() };
    let mut samples = family.samples(draft);
    write(&mut samples);
    let text = samples.finish();
    let is_same = *old.plain == *text.as_bytes();
    if is_long && !is_same {
        return Piece::of(text.into_bytes());
    }
    let piece = if is_same { old.clone() } else { Piece::new(text.as_bytes()) };
    DRAFT.set(text);
    piece
}
