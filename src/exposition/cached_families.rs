//! Rendered samples, kept until the data behind them changes. Opens no socket and calls no exchange.

use std::sync::Arc;

use super::{
    gzip::Chunk,
    metrics::{FAMILIES, MetricFamily, MetricSource},
    text::Samples,
};
use crate::snapshot::{
    positions::PositionsSnapshot,
    prices::PriceSnapshot,
    store::AccountState,
    wallet::{WalletConfig, WalletSnapshot},
};

/// The rendered samples of one account, one wallet, its positions or of prices: the chunks that are not empty, each with
/// the index of its family in [`FAMILIES`], sorted. Most families have another source, and a chunk takes more memory than
/// a short line.
#[derive(Clone, Debug)]
pub struct CachedFamilies(Arc<[(usize, Chunk)]>);

impl CachedFamilies {
    /// Renders the state that all wallets of an account share.
    #[must_use]
    pub fn for_account(facts: &AccountState) -> Self {
        Self::from_families(|_, family| match family.source {
            MetricSource::Account(write) => render_family(family, |out| write(facts, out)),
            _ => Chunk::default(),
        })
    }

    /// Renders a wallet. Chunks that cannot have changed are taken from `before`.
    #[must_use]
    pub fn for_wallet(snapshot: &WalletSnapshot, before: Option<(&WalletSnapshot, &CachedFamilies)>) -> Self {
        let rows = |snapshot: &WalletSnapshot| snapshot.last_good.as_ref().map(|good| good.holdings.as_ptr());
        let same_rows = before.filter(|(old, _)| rows(old) == rows(snapshot));
        let old = |index| before.map(|(_, old)| old.shared(index)).unwrap_or_default();
        Self::from_families(|index, family| match (family.source, before, same_rows) {
            // set_unpriced renders the count of currencies without a price.
            (MetricSource::Config(_) | MetricSource::Unpriced(_), Some((_, old)), _)
            | (MetricSource::Holdings(_), _, Some((_, old))) => old.shared(index),
            (MetricSource::Config(write), ..) => render_family(family, |out| write(&snapshot.config, out)),
            (MetricSource::Holdings(write), ..) => match &snapshot.last_good {
                Some(good) => {
                    let rows = &good.holdings;
                    render_if_changed(&old(index), family, |out| write(&snapshot.config, rows, out))
                }
                None => Chunk::default(),
            },
            (MetricSource::Answer(write), ..) => match &snapshot.last_good {
                Some(good) => {
                    render_if_changed(&old(index), family, |out| write(&snapshot.config, good, out))
                }
                None => Chunk::default(),
            },
            (MetricSource::Poll(write), ..) => {
                render_if_changed(&old(index), family, |out| write(snapshot, out))
            }
            _ => Chunk::default(),
        })
    }

    /// Renders the number of a wallet's currencies without a price.
    pub fn set_unpriced(&mut self, wallet_config: &WalletConfig, unpriced: u64) {
        *self = Self::from_families(|index, family| match family.source {
            MetricSource::Unpriced(write) => render_family(family, |out| write(wallet_config, unpriced, out)),
            _ => self.shared(index),
        });
    }

    /// Renders the positions of a wallet. Chunks that cannot have changed are taken from `before`.
    #[must_use]
    pub fn for_positions(
        snapshot: &PositionsSnapshot,
        before: Option<(&PositionsSnapshot, &CachedFamilies)>,
    ) -> Self {
        let old = |index| before.map(|(_, old)| old.shared(index)).unwrap_or_default();
        Self::from_families(|index, family| match family.source {
            MetricSource::Positions(write) => match &snapshot.last_good {
                Some(good) => {
                    render_if_changed(&old(index), family, |out| write(&snapshot.config, good, out))
                }
                None => Chunk::default(),
            },
            MetricSource::PositionPoll(write) => {
                render_if_changed(&old(index), family, |out| write(snapshot, out))
            }
            _ => Chunk::default(),
        })
    }

    /// Renders prices. Chunks that cannot have changed are taken from `before`.
    #[must_use]
    pub fn for_prices(
        price_snapshot: &PriceSnapshot,
        before: Option<(&PriceSnapshot, &CachedFamilies)>,
    ) -> Self {
        let answer = |price_snapshot: &PriceSnapshot| {
            price_snapshot.last_good.as_ref().map(|good| Arc::as_ptr(&good.prices))
        };
        let same_answer = before.filter(|(old, _)| answer(old) == answer(price_snapshot));
        Self::from_families(|index, family| match (family.source, same_answer) {
            (MetricSource::Price(_), Some((_, old))) => old.shared(index),
            (MetricSource::Price(write), None) => match &price_snapshot.last_good {
                Some(good) => render_family(family, |out| write(&price_snapshot.filter, &good.prices, out)),
                None => Chunk::default(),
            },
            (MetricSource::PricePoll(write), _) => render_family(family, |out| write(price_snapshot, out)),
            _ => Chunk::default(),
        })
    }

    fn from_families(chunk: impl Fn(usize, &'static MetricFamily) -> Chunk) -> Self {
        let chunks = FAMILIES.iter().enumerate().map(|(index, family)| (index, chunk(index, family)));
        Self(chunks.filter(|(_, chunk)| !chunk.plain.is_empty()).collect::<Vec<_>>().into())
    }

    /// The chunk of the family at `index` in [`FAMILIES`]; `None` if it is empty.
    pub(super) fn chunk(&self, index: usize) -> Option<&Chunk> {
        let found = self.0.binary_search_by_key(&index, |(family, _)| *family).ok();
        found.and_then(|position| self.0.get(position)).map(|(_, chunk)| chunk)
    }

    fn shared(&self, index: usize) -> Chunk {
        self.chunk(index).cloned().unwrap_or_default()
    }
}

fn render_family(family: &'static MetricFamily, write: impl FnOnce(&mut Samples)) -> Chunk {
    render_if_changed(&Chunk::default(), family, write)
}

/// Renders a family. Returns `old` if its text is the same.
fn render_if_changed(old: &Chunk, family: &'static MetricFamily, write: impl FnOnce(&mut Samples)) -> Chunk {
    let mut samples = family.samples();
    write(&mut samples);
    let text = samples.finish();
    if *old.plain == *text.as_bytes() { old.clone() } else { Chunk::new(text.into_bytes()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixTime;

    #[test]
    fn only_chunks_with_samples_are_kept() {
        let facts =
            AccountState { credentials_loaded: UnixTime::from_secs(1), ..AccountState::at_start("main") };
        let families = CachedFamilies::for_account(&facts);
        let has_chunk = |(index, _): &(usize, &MetricFamily)| families.chunk(*index).is_some();
        let with_chunk = FAMILIES.iter().enumerate().filter(has_chunk);
        let is_of_account = |family: &MetricFamily| matches!(family.source, MetricSource::Account(_));
        assert!(
            with_chunk.clone().count() > 2 && with_chunk.clone().all(|(_, family)| is_of_account(family))
        );
        assert_eq!(families.0.len(), with_chunk.count());
    }
}
