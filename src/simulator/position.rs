//! Open positions of the simulated exchange and their rows in JSON.
//!
//! Only data and JSON. Must not know limits, signatures or faults.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use super::decimal;

/// Symbol and side of a position; an account has at most one position of each.
pub type PositionKey = (String, SimulatedSide);

/// Side of a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SimulatedSide {
    /// Gains when the price rises.
    Long,
    /// Gains when the price falls.
    Short,
}

/// An open position: decimal texts, served unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimulatedPosition {
    /// Whether the margin of the position alone covers its losses.
    pub isolated: bool,
    /// Number of contracts.
    pub size: String,
    /// Mean entry price.
    pub entry: String,
    /// Mark price.
    pub mark: String,
    /// Mark price at which the exchange liquidates the position; "0" if it never does.
    pub liquidation: String,
    /// Whole number.
    pub leverage: u32,
    /// Initial margin in the settlement currency.
    pub margin: String,
    /// Unrealised profit in the settlement currency.
    pub profit: String,
}

/// The endpoints that list positions have different fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PositionList {
    /// `/future/user/v1/position`
    Whole,
    /// `/future/user/v1/position/list`
    Plain,
    /// `/future/user/v1/position/break-list`
    Break,
}

/// A row. Sizes and prices are texts, as the exchange sends them, or numbers if `as_numbers`.
pub(super) fn render_row(
    (symbol, side): &PositionKey,
    position: &SimulatedPosition,
    list: PositionList,
    as_numbers: bool,
) -> String {
    let amount = |text: &str| {
        RawValue::from_string(decimal::to_json(text, as_numbers))
            .unwrap_or_else(|_| RawValue::NULL.to_owned())
    };
    let mut fields: Vec<(&str, Box<RawValue>)> = Vec::new();
    let mut push = |name: &'static str, value: Box<RawValue>| fields.push((name, value));
    let raw =
        |value: Value| serde_json::value::to_raw_value(&value).unwrap_or_else(|_| RawValue::NULL.to_owned());
    push("symbol", raw(json!(symbol)));
    push("positionType", raw(json!(if position.isolated { "ISOLATED" } else { "CROSSED" })));
    push("positionSide", raw(json!(side)));
    push("contractType", raw(json!("PERPETUAL")));
    push("positionSize", amount(&position.size));
    push("entryPrice", amount(&position.entry));
    push("isolatedMargin", amount(&position.margin));
    push("leverage", raw(json!(position.leverage)));
    if list != PositionList::Break {
        push("closeOrderSize", amount("0"));
        push("availableCloseSize", amount(&position.size));
        push("openOrderSize", amount("0"));
        push("openOrderMarginFrozen", amount("0"));
        push("realizedProfit", amount("0"));
        push("autoMargin", raw(json!(false)));
    }
    if list == PositionList::Plain {
        push("markPrice", amount(&position.mark));
    } else {
        push("calMarkPrice", amount(&position.mark));
        push("breakPrice", amount(&position.liquidation));
    }
    if list == PositionList::Whole {
        push("floatingPL", amount(&position.profit));
        push("welfareAccount", raw(json!(false)));
        for name in ["profitId", "triggerPriceType", "triggerProfitPrice", "triggerStopPrice"] {
            push(name, raw(json!(null)));
        }
    }
    let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
    format!("{{{}}}", fields.join(","))
}
