//! The state of a simulated market, as the lists of markets tell it.
//!
//! Only data. Must not know prices, calls or JSON answers.

use serde::{Deserialize, Serialize};

/// The state of a market. Its last price is served in every state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SimulatedMarketState {
    /// Open for trading.
    #[default]
    Online,
    /// Online in the list, but nobody may trade: `tradingEnabled` is false. v1 lists it like an open market.
    Halted,
    /// Closed for some time: `OFFLINE`. v1 lists it like an open market.
    Offline,
    /// Closed for good: `DELISTED`. v1 lists it like an open market.
    Delisted,
    /// No longer in the list of markets.
    Unlisted,
}

impl SimulatedMarketState {
    /// `state` and `tradingEnabled` of the list; `None` if the list does not hold the market.
    pub(super) fn listed_as(self) -> Option<(&'static str, bool)> {
        match self {
            Self::Online => Some(("ONLINE", true)),
            Self::Halted => Some(("ONLINE", false)),
            Self::Offline => Some(("OFFLINE", false)),
            Self::Delisted => Some(("DELISTED", false)),
            Self::Unlisted => None,
        }
    }
}
