//! JSON answers of v1.
//!
//! Only JSON. Must not know calls or accounts.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::{decimal, market_state::SimulatedMarketState};

/// A good answer, its members in the documented order.
pub(super) fn success(data: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct V1Success<'a, T> {
        code: u16,
        data: &'a T,
        info: &'a str,
    }
    let success = V1Success { code: 200, data, info: "success" };
    serde_json::to_string(&success).unwrap_or_default()
}

/// Data of getAccounts.
pub(super) fn wallets() -> Value {
    json!([
        {"name": " wallet account ", "id": 1},
        {"name": " Trading account ", "id": 2},
        {"name": " Fiat account ", "id": 3},
    ])
}

/// Answer of getTickers, as in the documentation's sample: amounts are numbers, and there is no envelope.
pub(super) fn tickers(prices: &BTreeMap<String, String>) -> String {
    let ticker = |(market, price): (&String, &String)| {
        let (market, price) = (json!(market), decimal::to_json(price, true));
        format!(
            r#"{market}:{{"high":{price},"moneyVol":33765013.61761934,"rate":1.3900,"low":{price},"price":{price},"ask":{price},"bid":{price},"coinVol":2944.208780}}"#
        )
    };
    format!("{{{}}}", prices.iter().map(ticker).collect::<Vec<_>>().join(","))
}

/// Answer of getMarketConfig, as in the documentation's sample: amounts are numbers, and there is no envelope and no
/// state. It holds every market except the unlisted ones.
pub(super) fn market_configs(
    prices: &BTreeMap<String, String>,
    states: &BTreeMap<String, SimulatedMarketState>,
) -> String {
    let is_listed = |market: &&String| states.get(*market) != Some(&SimulatedMarketState::Unlisted);
    let config = |market: &String| {
        let market = json!(market);
        format!(
            r#"{market}:{{"minAmount":0.00010,"minMoney":5,"pricePoint":4,"coinPoint":4,"maker":0.00100000,"taker":0.00100000}}"#
        )
    };
    format!("{{{}}}", prices.keys().filter(is_listed).map(config).collect::<Vec<_>>().join(","))
}
