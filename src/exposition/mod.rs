//! Snapshots rendered in the Prometheus text format. A wallet is rendered and compressed again only after its poll; a
//! scrape concatenates cached chunks.
//! Opens no socket and calls no exchange.

pub mod cache;
mod cached_families;
pub mod gzip;
pub mod listing;
pub mod metrics;
pub mod process_metrics;
mod segments;
pub mod text;

use std::sync::LazyLock;

use bytes::Bytes;

pub use self::{cached_families::CachedFamilies, segments::Segments};
use self::{
    gzip::{Chunk, GzipMember},
    metrics::{FAMILIES, MetricSource},
    process_metrics::ExporterFacts,
    segments::SegmentBuilder,
};

/// A whole exposition. It can be sent any number of times.
#[derive(Clone, Debug)]
pub struct Exposition {
    /// The text.
    pub plain: Segments,
    /// The text as one gzip member.
    pub gzip: Segments,
}

/// Rendered samples, and which of them are visible.
#[derive(Clone, Copy, Debug)]
pub struct VisibleFamilies<'a> {
    /// The samples.
    pub families: &'a CachedFamilies,
    /// Whether the wallet's last good answer is young enough to be visible.
    pub balances_visible: bool,
    /// Whether the last good answer with positions is young enough to be visible.
    pub positions_visible: bool,
    /// Whether the last good answer with prices is young enough to be visible.
    pub prices_visible: bool,
}

/// Concatenates the exposition: families sorted by name, and within a family the samples in the order of `visible`.
#[must_use]
pub fn assemble(visible: &[VisibleFamilies<'_>], facts: &ExporterFacts<'_>) -> Exposition {
    static HEADERS: LazyLock<Vec<Chunk>> =
        LazyLock::new(|| FAMILIES.iter().map(|family| Chunk::new(family.header().as_bytes())).collect());
    let mut exporter = process_metrics::render(facts);
    let mut builder = ExpositionBuilder::new();
    for ((index, family), header) in FAMILIES.iter().enumerate().zip(&*HEADERS) {
        if let MetricSource::Exporter = family.source {
            if let Some(text) = exporter.remove(family.name) {
                builder.append(&Chunk::new(text));
            }
            continue;
        }
        let is_hidden = |samples: &VisibleFamilies<'_>| match family.source {
            MetricSource::Holdings(_) | MetricSource::Answer(_) => !samples.balances_visible,
            MetricSource::Positions(_) => !samples.positions_visible,
            MetricSource::Price(_) => !samples.prices_visible,
            MetricSource::Unpriced(_) => !(samples.balances_visible && samples.prices_visible),
            _ => false,
        };
        let mut chunks = visible
            .iter()
            .filter(|samples| !is_hidden(samples))
            .filter_map(|samples| samples.families.chunk(index))
            .peekable();
        if chunks.peek().is_some() {
            builder.append(header);
            chunks.for_each(|chunk| builder.append(chunk));
        }
    }
    builder.finish()
}

/// Builds the text and its gzip member side by side.
struct ExpositionBuilder {
    plain: SegmentBuilder,
    gzip: SegmentBuilder,
    member: GzipMember,
}

impl ExpositionBuilder {
    fn new() -> Self {
        let mut gzip = SegmentBuilder::new();
        gzip.append(&Bytes::from_static(&GzipMember::HEAD));
        Self { plain: SegmentBuilder::new(), gzip, member: GzipMember::default() }
    }

    fn append(&mut self, chunk: &Chunk) {
        self.plain.append(&chunk.plain);
        self.gzip.append(self.member.append(chunk));
    }

    fn finish(mut self) -> Exposition {
        self.gzip.append(&Bytes::copy_from_slice(&self.member.tail()));
        Exposition { plain: self.plain.finish(), gzip: self.gzip.finish() }
    }
}
