//! What is known → text. Balances and the course of polls are rendered and compressed when a poll
//! ends, and only what changed; a scrape concatenates the chunks under their family headers.
//! Knows no socket and no exchange.

pub mod cache;
pub mod gzip;
pub mod metrics;
pub mod process_metrics;
pub mod text;

use std::sync::{Arc, LazyLock};

use bytes::Bytes;

use self::{
    gzip::{Chunk, GzipMember},
    metrics::{FAMILIES, MetricSource},
    process_metrics::ExporterFacts,
    text::Samples,
};
use crate::{
    snapshot::prices::PriceSnapshot,
    snapshot::store::AccountFacts,
    snapshot::wallet::{WalletConfig, WalletSnapshot},
};

/// The lines of one account, of one wallet or of prices: a chunk per family, at the family's place in
/// [`FAMILIES`], empty where the family is none of its own.
#[derive(Clone, Debug)]
pub struct CachedFamilies(Arc<[Chunk]>);

/// Chunks as a scrape wants them.
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
    static HEADERS: LazyLock<Vec<Chunk>> =
        LazyLock::new(|| FAMILIES.iter().map(|family| Chunk::new(family.header().as_bytes())).collect());
    let mut own = process_metrics::render(own);
    let mut string = ExpositionBuilder::new();
    for ((place, family), header) in FAMILIES.iter().enumerate().zip(&*HEADERS) {
        if let MetricSource::Exporter = family.source {
            if let Some(text) = own.remove(family.name) {
                string.append(&Chunk::new(text));
            }
            continue;
        }
        let hides = |shown: &VisibleFamilies<'_>| match family.source {
            MetricSource::Answer(_) => !shown.known,
            MetricSource::Price(_) => !shown.priced,
            MetricSource::Unpriced(_) => !(shown.known && shown.priced),
            _ => false,
        };
        let chunks =
            shown.iter().filter(|shown| !hides(shown)).filter_map(|shown| shown.families.0.get(place));
        let mut chunks = chunks.filter(|chunk| !chunk.plain.is_empty()).peekable();
        if chunks.peek().is_some() {
            string.append(header);
            chunks.for_each(|chunk| string.append(chunk));
        }
    }
    string.finish()
}

struct ExpositionBuilder {
    plain: SegmentBuilder,
    gzip: SegmentBuilder,
    member: GzipMember,
}

impl ExpositionBuilder {
    fn new() -> Self {
        let mut gzip = SegmentBuilder::with_copy_budget(usize::MAX);
        gzip.joined.extend_from_slice(&GzipMember::HEAD);
        Self {
            plain: SegmentBuilder::with_copy_budget(PLAIN_COPY_MAX_BYTES),
            gzip,
            member: GzipMember::default(),
        }
    }

    fn append(&mut self, chunk: &Chunk) {
        self.plain.append(&chunk.plain);
        self.gzip.append(self.member.append(chunk));
    }

    fn finish(mut self) -> Exposition {
        self.gzip.joined.extend_from_slice(&self.member.tail());
        Exposition { plain: self.plain.finish(), gzip: self.gzip.finish() }
    }
}

/// What is copied of the plain text to make few parts of it; the rest is shared with the chunks.
const PLAIN_COPY_MAX_BYTES: usize = 1024 * 1024;

/// Joins parts, because a part may cost a call of the kernel of its own.
struct SegmentBuilder {
    parts: Vec<Bytes>,
    joined: Vec<u8>,
    /// How many bytes of long chunks may still be copied.
    budget: usize,
}

impl SegmentBuilder {
    /// From this length on a chunk may be a part of its own.
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
            _ => Chunk::default(),
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
                None => Chunk::default(),
            },
            (MetricSource::Poll(write), ..) => {
                render_if_changed(&old(place), family, |out| write(snapshot, out))
            }
            _ => Chunk::default(),
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
                None => Chunk::default(),
            },
            (MetricSource::PricePoll(write), _) => render_family(family, |out| write(price_snapshot, out)),
            _ => Chunk::default(),
        })
    }

    fn from_families(chunk: impl Fn(usize, &'static metrics::MetricFamily) -> Chunk) -> Self {
        Self(FAMILIES.iter().enumerate().map(|(place, family)| chunk(place, family)).collect())
    }

    /// The text at a family's place.
    #[cfg(test)]
    pub(crate) fn plain(&self, place: usize) -> Bytes {
        self.at(place).plain
    }

    fn at(&self, place: usize) -> Chunk {
        self.0.get(place).cloned().unwrap_or_default()
    }
}

fn render_family(family: &'static metrics::MetricFamily, write: impl FnOnce(&mut Samples)) -> Chunk {
    render_if_changed(&Chunk::default(), family, write)
}

/// The chunk `old` if its lines are the same.
fn render_if_changed(
    old: &Chunk,
    family: &'static metrics::MetricFamily,
    write: impl FnOnce(&mut Samples),
) -> Chunk {
    let mut samples = family.samples();
    write(&mut samples);
    let text = samples.finish();
    if *old.plain == *text.as_bytes() { old.clone() } else { Chunk::new(text.into_bytes()) }
}
