//! What a metric family is, and what the tables of families share. Knows no family.

use crate::{
    clock::UnixTime,
    exchange::PriceTable,
    exposition::text::{self, Samples},
    snapshot::positions::{LastGoodPositions, PositionsConfig, PositionsSnapshot},
    snapshot::prices::{PriceFilter, PriceSnapshot},
    snapshot::store::AccountState,
    snapshot::wallet::{Holding, LastGood, WalletConfig, WalletSnapshot},
};

/// A metric family.
#[derive(Clone, Copy, Debug)]
pub struct MetricFamily {
    /// In `[a-z0-9_]`, base units, counters ending in `_total`.
    pub name: &'static str,
    /// The type in the `# TYPE` line.
    pub kind: MetricKind,
    /// Label names in the order in which they are written.
    pub labels: &'static [&'static str],
    /// One sentence of at most 120 characters, for the `# HELP` line.
    pub help: &'static str,
    /// Further sentences, for `--metrics` and README; can be empty.
    pub details: &'static str,
    /// The data that its samples are rendered from.
    pub source: MetricSource,
}

impl MetricFamily {
    /// The `# HELP` and `# TYPE` lines. No help text needs escaping, as a test of the table checks.
    #[must_use]
    pub fn header(&self) -> String {
        text::header(self.name, self.help, self.kind.type_name())
    }

    /// Help and details.
    #[must_use]
    pub fn meaning(&self) -> String {
        format!("{} {}", self.help, self.details).trim_end().to_owned()
    }

    /// A writer of its samples.
    #[must_use]
    pub fn samples(&self) -> Samples {
        Samples::new(self.name, self.labels)
    }
}

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Goes up and down.
    Gauge,
    /// Only goes up, from 0 at the start.
    Counter,
    /// Cumulative buckets.
    Histogram,
}

impl MetricKind {
    /// The word in the `# TYPE` line.
    #[must_use]
    pub fn type_name(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

/// The data that the samples of a family are rendered from. It decides when they must be rendered again.
#[derive(Clone, Copy, Debug)]
pub enum MetricSource {
    /// The settings of a wallet, which never change.
    Config(fn(&WalletConfig, &mut Samples)),
    /// The rows of the last good answer of a wallet. Hidden when it is too old.
    Holdings(fn(&WalletConfig, &[Holding], &mut Samples)),
    /// The last good answer of a wallet apart from its rows: a few samples, which may change while the rows stay the same.
    /// Hidden when it is too old.
    Answer(fn(&WalletConfig, &LastGood, &mut Samples)),
    /// The polls of a wallet: changes with every poll.
    Poll(fn(&WalletSnapshot, &mut Samples)),
    /// The state that all wallets of an account share.
    Account(fn(&AccountState, &mut Samples)),
    /// The last good answer with prices. Hidden when it is too old.
    Price(fn(&PriceFilter, &PriceTable, &mut Samples)),
    /// The polls of prices: changes with every poll.
    PricePoll(fn(&PriceSnapshot, &mut Samples)),
    /// The number of a wallet's currencies without a price: changes with the last good answer of the wallet and of prices.
    /// Hidden when one of them is too old.
    Unpriced(fn(&WalletConfig, u64, &mut Samples)),
    /// The last good answer with positions of a wallet. Hidden when it is too old.
    Positions(fn(&PositionsConfig, &LastGoodPositions, &mut Samples)),
    /// The polls of a wallet's positions: changes with every poll.
    PositionPoll(fn(&PositionsSnapshot, &mut Samples)),
    /// The exporter itself: rendered at the scrape.
    Exporter,
}

pub(super) const ACCOUNT_LABELS: &[&str] = &["account"];
pub(super) const WALLET_LABELS: &[&str] = &["account", "wallet"];
pub(super) const CURRENCY_LABELS: &[&str] = &["account", "currency", "wallet"];
pub(super) const POSITION_LABELS: &[&str] = &["account", "side", "symbol", "wallet"];

pub(super) const fn exporter_family(
    name: &'static str,
    kind: MetricKind,
    labels: &'static [&'static str],
    help: &'static str,
    details: &'static str,
) -> MetricFamily {
    MetricFamily { name, kind, labels, help, details, source: MetricSource::Exporter }
}

/// The value of a metric that is 0 without a time.
pub(super) fn timestamp_or_zero(time: Option<UnixTime>) -> f64 {
    time.map_or(0.0, UnixTime::as_secs_f64)
}

pub(super) fn wallet_labels(snapshot: &WalletSnapshot) -> [&str; 2] {
    [&snapshot.config.account, snapshot.config.wallet.label()]
}
