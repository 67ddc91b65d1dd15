//! What is known → text. Balances and the course of polls are rendered and compressed when a poll
//! ends, and only what changed; a scrape strings the pieces together under their family headers.
//! Knows no socket and no exchange.

pub mod cache;
pub mod metrics;
pub mod process_metrics;

use std::{
    cell::Cell,
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use quick::memory::room;
pub use quick::{gzip, text};

use self::{
    gzip::{Member, Piece},
    metrics::{FAMILIES, MetricSource},
    process_metrics::ExporterFacts,
    text::Samples,
};
use crate::{
    snapshot::prices::PriceSnapshot,
    snapshot::store::AccountFacts,
    snapshot::wallet::{WalletConfig, WalletSnapshot},
};

/// The lines of one account, of one wallet or of prices: a piece per family, at the family's place in
/// [`FAMILIES`], empty where the family is none of its own.
#[derive(Clone, Debug)]
pub struct CachedFamilies(Arc<[Piece]>);

/// Pieces as a scrape wants them.
#[derive(Clone, Copy, Debug)]
pub struct VisibleFamilies<'a> {
    /// The lines.
    pub families: &'a CachedFamilies,
    /// Whether the answer in them may still be shown. What is too old to be known is left out.
    pub known: bool,
    /// The same of prices.
    pub priced: bool,
}

/// The whole exposition, ready to be sent any number of times.
#[derive(Clone, Debug)]
pub struct Exposition {
    /// As text.
    pub plain: Segments,
    /// The same as one gzip member.
    pub gzip: Segments,
}

/// Parts to be sent one after the other.
#[derive(Clone, Debug)]
pub struct Segments {
    /// None empty.
    pub parts: Arc<[Bytes]>,
    /// Of all parts together, in bytes.
    pub length: u64,
}

/// Strings the whole exposition together: families sorted by name, and within a family the accounts
/// and wallets in the order of `shown`.
#[must_use]
pub fn assemble(shown: &[VisibleFamilies<'_>], own: &ExporterFacts<'_>) -> Exposition {
    static HEADERS: LazyLock<Vec<Piece>> =
        LazyLock::new(|| FAMILIES.iter().map(|family| Piece::new(family.header().as_bytes())).collect());
    let mut own = process_metrics::render(own);
    let mut string = ExpositionBuilder::new();
    for ((place, family), header) in FAMILIES.iter().enumerate().zip(&*HEADERS) {
        if let MetricSource::Exporter = family.source {
            if let Some(text) = own.remove(family.name) {
                string.append(&Piece::new(text));
            }
            continue;
        }
        let hides = |shown: &VisibleFamilies<'_>| match family.source {
            MetricSource::Answer(_) => !shown.known,
            MetricSource::Price(_) => !shown.priced,
            MetricSource::Unpriced(_) => !(shown.known && shown.priced),
            _ => false,
        };
        let pieces =
            shown.iter().filter(|shown| !hides(shown)).filter_map(|shown| shown.families.0.get(place));
        let mut pieces = pieces.filter(|piece| !piece.plain.is_empty()).peekable();
        if pieces.peek().is_some() {
            string.append(header);
            pieces.for_each(|piece| string.append(piece));
        }
    }
    string.finish()
}

struct ExpositionBuilder {
    plain: SegmentBuilder,
    gzip: SegmentBuilder,
    member: Member,
}

impl ExpositionBuilder {
    fn new() -> Self {
        let mut gzip = SegmentBuilder::with_copy_budget(usize::MAX);
        gzip.joined.extend_from_slice(&Member::HEAD);
        Self {
            plain: SegmentBuilder::with_copy_budget(PLAIN_COPY_MAX_BYTES),
            gzip,
            member: Member::default(),
        }
    }

    fn append(&mut self, piece: &Piece) {
        self.plain.append(&piece.plain);
        self.gzip.append(self.member.append(piece));
    }

    fn finish(mut self) -> Exposition {
        self.gzip.joined.extend_from_slice(&self.member.tail());
        Exposition { plain: self.plain.finish(), gzip: self.gzip.finish() }
    }
}

/// What is copied of the plain text to make few parts of it; the rest is shared with the pieces.
const PLAIN_COPY_MAX_BYTES: usize = 1024 * 1024;

/// Joins parts, because a part may cost a call of the kernel of its own.
struct SegmentBuilder {
    parts: Vec<Bytes>,
    joined: Vec<u8>,
    /// How many bytes of long pieces may still be copied.
    budget: usize,
}

impl SegmentBuilder {
    /// From this length on a piece may be a part of its own.
    const LONG_BYTES: usize = 4096;
    /// No longer part is made of shorter ones: of one size, they leave gaps that fit.
    const PART_MAX: usize = 256 * 1024;

    fn with_copy_budget(budget: usize) -> Self {
        Self { parts: Vec::new(), joined: Vec::new(), budget }
    }

    fn append(&mut self, bytes: &Bytes) {
        let is_long = bytes.len() >= Self::LONG_BYTES;
        if is_long && bytes.len() > self.budget.min(Self::PART_MAX) {
            self.close_segment();
            self.parts.push(bytes.clone());
            return;
        }
        self.budget -= if is_long { bytes.len() } else { 0 };
        if self.joined.len() + bytes.len() > Self::PART_MAX {
            self.close_segment();
            self.joined.reserve_exact(Self::PART_MAX);
        }
        self.joined.extend_from_slice(bytes);
    }

    /// What is joined ends here.
    fn close_segment(&mut self) {
        if !self.joined.is_empty() {
            self.parts.push(std::mem::take(&mut self.joined).into_boxed_slice().into());
        }
    }

    fn finish(mut self) -> Segments {
        self.close_segment();
        let length = self.parts.iter().map(|part| part.len() as u64).sum();
        Segments { parts: self.parts.into(), length }
    }
}

impl CachedFamilies {
    /// Renders what is said of an account whatever the wallet.
    #[must_use]
    pub fn for_account(facts: &AccountFacts) -> Self {
        Self::from_families(|_, family| match family.source {
            MetricSource::Account(write) => render_family(family, |out| write(facts, out)),
            _ => Piece::default(),
        })
    }

    /// Renders a wallet. What cannot have changed since `before` is shared with it.
    #[must_use]
    pub fn for_wallet(snapshot: &WalletSnapshot, before: Option<(&WalletSnapshot, &CachedFamilies)>) -> Self {
        let answer = |snapshot: &WalletSnapshot| {
            snapshot.last_good.as_ref().map(|good| (good.holdings.as_ptr(), good.currencies))
        };
        let same_answer = before.filter(|(old, _)| answer(old) == answer(snapshot));
        let old = |place| before.map(|(_, old)| old.at(place)).unwrap_or_default();
        Self::from_families(|place, family| match (family.source, before, same_answer) {
            // How much has no price is counted anew by whoever knows the prices.
            (MetricSource::Config(_) | MetricSource::Unpriced(_), Some((_, old)), _)
            | (MetricSource::Answer(_), _, Some((_, old))) => old.at(place),
            (MetricSource::Config(write), ..) => render_family(family, |out| write(&snapshot.config, out)),
            (MetricSource::Answer(write), ..) => match &snapshot.last_good {
                Some(good) => {
                    render_if_changed(&old(place), family, |out| write(&snapshot.config, good, out))
                }
                None => Piece::default(),
            },
            (MetricSource::Poll(write), ..) => {
                render_if_changed(&old(place), family, |out| write(snapshot, out))
            }
            _ => Piece::default(),
        })
    }

    /// Renders how many currencies of a wallet have no price.
    pub fn set_unpriced(&mut self, wallet_config: &WalletConfig, unpriced: u64) {
        *self = Self::from_families(|place, family| match family.source {
            MetricSource::Unpriced(write) => render_family(family, |out| write(wallet_config, unpriced, out)),
            _ => self.at(place),
        });
    }

    /// Renders prices. What cannot have changed since `before` is shared with it.
    #[must_use]
    pub fn for_prices(
        price_snapshot: &PriceSnapshot,
        before: Option<(&PriceSnapshot, &CachedFamilies)>,
    ) -> Self {
        let answer = |price_snapshot: &PriceSnapshot| {
            price_snapshot.last_good.as_ref().map(|good| Arc::as_ptr(&good.prices))
        };
        let same_answer = before.filter(|(old, _)| answer(old) == answer(price_snapshot));
        Self::from_families(|place, family| match (family.source, same_answer) {
            (MetricSource::Price(_), Some((_, old))) => old.at(place),
            (MetricSource::Price(write), None) => match &price_snapshot.last_good {
                Some(good) => render_family(family, |out| write(&price_snapshot.filter, &good.prices, out)),
                None => Piece::default(),
            },
            (MetricSource::PricePoll(write), _) => render_family(family, |out| write(price_snapshot, out)),
            _ => Piece::default(),
        })
    }

    fn from_families(piece: impl Fn(usize, &'static metrics::MetricFamily) -> Piece) -> Self {
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

fn render_family(family: &'static metrics::MetricFamily, write: impl FnOnce(&mut Samples)) -> Piece {
    render_if_changed(&Piece::default(), family, write)
}

/// From this length on a text is written where it will stay.
const LONG: usize = 4096;

/// The piece `old` if its lines are the same.
fn render_if_changed(
    old: &Piece,
    family: &'static metrics::MetricFamily,
    write: impl FnOnce(&mut Samples),
) -> Piece {
    let is_long = old.plain.len() >= LONG;
    let spec = if is_long { String::with_capacity(room(old.plain.len())) } else { DRAFT.take() };
    let mut samples = family.samples(spec);
    write(&mut samples);
    let text = samples.finish();
    let is_same = *old.plain == *text.as_bytes();
    if is_long && !is_same {
        return Piece::new(text.into_bytes());
    }
    let piece = if is_same { old.clone() } else { Piece::new(text.as_bytes()) };
    DRAFT.set(text);
    piece
}
