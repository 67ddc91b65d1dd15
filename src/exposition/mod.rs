//! What is known → text. Balances and the course of polls are rendered when a poll ends, and only
//! what changed; a scrape strings the pieces together under their family headers.
//! Knows no socket and no exchange.

pub mod families;
pub mod own;
pub mod text;

use bytes::Bytes;

use self::{
    families::{AccountFacts, FAMILIES, Source},
    own::OwnFacts,
    text::Samples,
};
use crate::standing::Standing;

/// The lines of one account or one wallet: a piece per family, at the family's place in
/// [`FAMILIES`], empty where the family is none of its own.
#[derive(Clone, Debug)]
pub struct Pieces(Vec<Bytes>);

/// Pieces as a scrape wants them.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// The lines.
    pub pieces: &'a Pieces,
    /// Whether the answer in them may still be shown. What is too old to be known is left out.
    pub known: bool,
}

/// The whole exposition, in parts to be sent one after the other: families sorted by name, and
/// within a family the accounts and wallets in the order of `shown`.
#[must_use]
pub fn assemble(shown: &[Shown<'_>], own: &OwnFacts<'_>) -> Vec<Bytes> {
    let mut own = own::render(own);
    let mut parts = Vec::new();
    for (place, family) in FAMILIES.iter().enumerate() {
        if let Source::Own = family.source {
            parts.extend(own.remove(family.name).map(Bytes::from));
            continue;
        }
        let hides = |shown: &Shown<'_>| matches!(family.source, Source::Answer(_)) && !shown.known;
        let pieces = shown.iter().filter(|shown| !hides(shown)).map(|shown| shown.pieces.at(place));
        let mut pieces = pieces.filter(|piece| !piece.is_empty()).peekable();
        if pieces.peek().is_some() {
            parts.push(family.header().into());
            parts.extend(pieces);
        }
    }
    parts
}

impl Pieces {
    /// Renders what is said of an account whatever the wallet.
    #[must_use]
    pub fn of_account(facts: &AccountFacts) -> Self {
        Self::each(|_, family| match family.source {
            Source::Account(write) => lines(family, |out| write(facts, out)),
            _ => Bytes::new(),
        })
    }

    /// Renders a wallet. What cannot have changed since `before` is shared with it.
    #[must_use]
    pub fn of_wallet(standing: &Standing, before: Option<(&Standing, &Pieces)>) -> Self {
        let answer = |standing: &Standing| {
            standing.good.as_ref().map(|good| (good.holdings.as_ptr(), good.currencies))
        };
        let same_answer = before.filter(|(old, _)| answer(old) == answer(standing));
        Self::each(|place, family| match (family.source, before, same_answer) {
            (Source::Wish(_), Some((_, old)), _) | (Source::Answer(_), _, Some((_, old))) => old.at(place),
            (Source::Wish(write), ..) => lines(family, |out| write(&standing.subject, out)),
            (Source::Answer(write), ..) => match &standing.good {
                Some(good) => lines(family, |out| write(&standing.subject, good, out)),
                None => Bytes::new(),
            },
            (Source::Poll(write), ..) => lines(family, |out| write(standing, out)),
            (Source::Account(_) | Source::Own, ..) => Bytes::new(),
        })
    }

    fn each(piece: impl Fn(usize, &'static families::Family) -> Bytes) -> Self {
        Self(FAMILIES.iter().enumerate().map(|(place, family)| piece(place, family)).collect())
    }

    fn at(&self, place: usize) -> Bytes {
        self.0.get(place).cloned().unwrap_or_default()
    }
}

fn lines(family: &'static families::Family, write: impl FnOnce(&mut Samples)) -> Bytes {
    let mut samples = family.samples();
    write(&mut samples);
    samples.finish()
}
