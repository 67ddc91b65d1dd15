//! The open positions of one wallet as rows, the nearest to liquidation first. No markup.

use super::format::HumanDuration;
use crate::{
    clock::Timestamp,
    exchange::{Amount, MarginMode, Position},
    snapshot::positions::{LastGoodPositions, PositionsSnapshot},
};

/// Maximum number of positions in a table.
const MAX_ROWS: usize = 20;

/// The open positions of a wallet, as the page shows them.
pub(super) struct WalletPositions<'a> {
    /// Why they could not be read, if the last read failed: reason and text.
    pub(super) failure: Option<(&'static str, &'a str)>,
    /// Age of the positions; `None` while they are unknown.
    pub(super) age: Option<HumanDuration>,
    /// Empty if nothing is open, or while the positions are unknown.
    pub(super) rows: Vec<PositionRow<'a>>,
    /// Open positions that have no row.
    pub(super) hidden_count: u64,
}

/// One position.
pub(super) struct PositionRow<'a> {
    pub(super) symbol: &'a str,
    pub(super) side: &'static str,
    pub(super) margin_mode: &'static str,
    pub(super) size: &'a str,
    pub(super) mark_price: &'a str,
    pub(super) liquidation_price: &'a str,
    /// In per cent.
    pub(super) distance: String,
    /// `page` or `warn` if the distance is below a threshold, otherwise empty: a class of the row.
    pub(super) level: &'static str,
}

impl<'a> WalletPositions<'a> {
    pub(super) fn new(snapshot: &'a PositionsSnapshot, now: Timestamp) -> Self {
        let visible = snapshot.visible(now);
        let mut positions: Vec<_> = visible.iter().flat_map(|good| &*good.positions).collect();
        let distance = |position: &Position| position.liquidation_distance().unwrap_or(f64::INFINITY);
        positions.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
        let rows: Vec<_> =
            positions.iter().take(MAX_ROWS).map(|position| PositionRow::new(snapshot, position)).collect();
        let open = visible.map_or(0, LastGoodPositions::open);
        let failure = snapshot.last_failure.as_ref().map(|last| &last.failure);
        Self {
            failure: failure.map(|failure| (failure.reason.label(), failure.text.as_str())),
            age: visible.map(|good| HumanDuration(good.at.age(now))),
            hidden_count: open - rows.len() as u64,
            rows,
        }
    }
}

impl<'a> PositionRow<'a> {
    fn new(snapshot: &PositionsSnapshot, position: &'a Position) -> Self {
        let text = |amount: &'a Option<Amount>| amount.as_ref().map_or("–", Amount::text);
        let distance = position.liquidation_distance();
        let risk = &snapshot.config.risk;
        Self {
            symbol: &position.symbol,
            side: position.side.label(),
            margin_mode: position.margin_mode.map_or("–", MarginMode::label),
            size: position.size.text(),
            mark_price: text(&position.mark_price),
            liquidation_price: text(&position.liquidation_price),
            distance: distance.map_or("–".to_owned(), |distance| format!("{:.1} %", distance * 100.0)),
            level: match distance {
                Some(distance) if distance < risk.page_distance => "page",
                Some(distance) if distance < risk.warn_distance => "warn",
                _ => "",
            },
        }
    }
}
