//! JSON answers of v4: spot, futures and public.
//!
//! Only JSON. Must not know calls or accounts.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    account::{SimulatedAccount, SimulatedBalance},
    decimal,
    market_state::SimulatedMarketState,
};

/// The secret key of another key of every account, which no program should ever show.
pub(super) const OTHER_SECRET_KEY: &str = "c4na7yc4na7yc4na7yc4na7yc4na7yc4na7yc4na";

/// A good answer to a spot or public call.
pub(super) fn spot_success(result: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct SpotSuccess<'a, T> {
        rc: u8,
        mc: &'a str,
        ma: [(); 0],
        result: &'a T,
    }
    serde_json::to_string(&SpotSuccess { rc: 0, mc: "SUCCESS", ma: [], result }).unwrap_or_default()
}

/// An error of spot: a code without a text.
pub(super) fn spot_error(mc: &str) -> String {
    format!(r#"{{"rc":1,"mc":{},"ma":[],"result":null}}"#, json!(mc))
}

/// A good answer of futures.
pub(super) fn futures_success(result: &impl Serialize) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct FuturesSuccess<'a, T> {
        return_code: u8,
        msg_info: &'a str,
        error: Option<()>,
        result: &'a T,
    }
    let success = FuturesSuccess { return_code: 0, msg_info: "success", error: None, result };
    serde_json::to_string(&success).unwrap_or_default()
}

/// An error of futures.
pub(super) fn futures_error(code: &str, msg: &str) -> String {
    format!(
        r#"{{"returnCode":1,"msgInfo":"failure","error":{{"code":{},"msg":{}}},"result":null}}"#,
        json!(code),
        json!(msg)
    )
}

/// A spot row. `index` counts the rows of the answer from 0, and `worth` is its value in USDT. The documentation shows bare
/// numbers, the exchange sends texts.
pub(super) fn spot_row(
    index: usize,
    currency: &str,
    row: &SimulatedBalance,
    worth: &str,
    as_numbers: bool,
) -> String {
    let amount = |text: &str| decimal::to_json(text, as_numbers);
    let (currency, id) = (json!(currency), index + 2);
    let (free, frozen, worth) = (amount(&row.available), amount(&row.freeze), amount(worth));
    let (total, zero) = (amount(&decimal::sum(&row.available, &row.freeze)), amount("0"));
    let parts = parts(row, || {
        format!(r#""withdraw":{zero},"trade":{frozen},"copyTrade":{zero},"lock":{zero},"freeze":{zero}"#)
    });
    format!(
        r#"{{"currency":{currency},"currencyId":{id},"frozenAmount":{frozen},"availableAmount":{free},"totalAmount":{total},"convertBtcAmount":{zero},"convertUsdtAmount":{worth}{parts},"predictAmount":null}}"#
    )
}

/// The parts of a frozen amount as fields, each after a comma.
fn parts(row: &SimulatedBalance, default: impl FnOnce() -> String) -> String {
    let Some(parts) = &row.parts else { return format!(",{}", default()) };
    let fields: Vec<_> = parts.iter().map(|(field, part)| format!(",{}:{part}", json!(field))).collect();
    fields.concat()
}

/// Answer of balances; `worth` is the value of the account in USDT.
pub(super) fn spot_rows(rows: &[&str], worth: &str) -> String {
    let rows = rows.join(",");
    let result = format!(r#"{{"totalUsdtAmount":"{worth}","totalBtcAmount":"0","assets":[{rows}]}}"#);
    spot_success(&RawValue::from_string(result).ok())
}

/// Answer of balance; `None` is an answer without a row.
pub(super) fn single_spot_row(row: Option<String>) -> String {
    spot_success(&row.and_then(|row| RawValue::from_string(row).ok()))
}

/// The types of Earn products.
pub(super) const EARN_PRODUCTS: [&str; 8] = [
    "DEMAND_SAVING",
    "TIME_SAVING",
    "FLASH_SALE",
    "ON_CHAIN_EARN",
    "XRWU",
    "WEALTH_MANAGEMENT",
    "SHARK_FIN",
    "SMART_TREND",
];

/// A row of position-currency. Without parts, all of it is in one product. Amounts are texts.
pub(super) fn earn_row(currency: &str, row: &SimulatedBalance) -> String {
    let position = |product: &str, amount: &Value| {
        json!({
            "category": "SAVING", "productType": product, "amount": amount, "apyList": [{"apy": "0.10"}],
            "accInterest": "5.00",
        })
    };
    let positions: Vec<_> = match &row.parts {
        Some(parts) => parts.iter().map(|(product, amount)| position(product, amount)).collect(),
        None => vec![position("DEMAND_SAVING", &json!(row.freeze))],
    };
    json!({"currency": currency, "amount": row.freeze, "positionList": positions}).to_string()
}

/// Answer of position-currency, which has no `ma`.
pub(super) fn earn_rows(rows: &[&str]) -> String {
    format!(r#"{{"rc":0,"mc":"SUCCESS","result":[{}]}}"#, rows.join(","))
}

/// A futures row. Without parts, the frozen amount is split among the three margins.
pub(super) fn futures_row(currency: &str, row: &SimulatedBalance, as_numbers: bool) -> String {
    let amount = |text: &str| decimal::to_json(text, as_numbers);
    let [isolated, crossed, in_orders] = decimal::split(&row.freeze).map(|part| amount(&part));
    let (currency, free, zero) = (json!(currency), amount(&row.available), amount("0"));
    let total = amount(&decimal::sum(&row.available, &row.freeze));
    let parts = parts(row, || {
        format!(
            r#""openOrderMarginFrozen":{in_orders},"openOrderFeeFrozen":{zero},"isolatedMargin":{isolated},"crossedMargin":{crossed}"#
        )
    });
    format!(
        r#"{{"coin":{currency},"walletBalance":{total}{parts},"availableBalance":{free},"bonus":{zero},"bonusCumPnl":null,"coupon":{zero}}}"#
    )
}

/// Answer of balance/list.
pub(super) fn futures_rows(rows: &[&str]) -> String {
    futures_success(&RawValue::from_string(format!("[{}]", rows.join(","))).ok())
}

/// Answer of balance/detail; `None` is an answer without a row.
pub(super) fn single_futures_row(row: Option<String>) -> String {
    futures_success(&row.and_then(|row| RawValue::from_string(row).ok()))
}

/// A row whose value a fault replaces. An object without the field `currency_field` gets that field.
pub(super) fn replaced_row(currency_field: &str, currency: &str, value: &Value) -> String {
    let mut value = value.clone();
    if let Some(fields) = value.as_object_mut() {
        fields.entry(currency_field).or_insert_with(|| json!(currency));
    }
    value.to_string()
}

/// Rows of a ticker endpoint, one for each market, with the last price; `None` if a requested market does not exist.
pub(super) fn tickers(
    time: i64,
    prices: &BTreeMap<String, String>,
    requested: Option<&str>,
    ticker: fn(i64, &str, &str) -> Value,
) -> Option<Value> {
    let row = |market: &str| prices.get(market).map(|price| ticker(time, market, price));
    requested.map_or_else(
        || prices.keys().map(|market| row(market)).collect(),
        |requested| requested.split(',').map(row).collect(),
    )
}

/// A row of ticker/price.
pub(super) fn price_ticker(time: i64, market: &str, price: &str) -> Value {
    json!({"s": market, "t": time, "p": price})
}

/// A row of ticker/24h. Nobody trades on the simulator, so every price of the day is the last price.
pub(super) fn day_ticker(time: i64, market: &str, price: &str) -> Value {
    json!({
        "s": market, "t": time, "cv": "0", "cr": "0", "o": price, "l": price, "h": price, "c": price,
        "q": "2944.20", "v": "33765013.61",
    })
}

/// Result of api-key: a withdrawn key of the account and the one in use, both with their secret keys, as in the
/// documentation's sample.
pub(super) fn api_keys(account: Option<&SimulatedAccount>) -> Value {
    let row = |id: u64, name: &str, account: &SimulatedAccount, access: &str, secret: &str| {
        let ips: Vec<_> = account.ips.iter().flatten().map(ToString::to_string).collect();
        json!({
            "id": id, "userAccountId": "1352123154435", "userAccountLevel": 1, "userId": 1_352_123_154_435_i64,
            "keyName": name, "bindIps": ips.join(","), "accessKey": access, "secretKey": secret,
            "isLock": u8::from(account.is_key_locked), "roleScopes": account.scopes, "tags": null,
            "createTime": "2023-02-17 05:41:43", "updateTime": "2023-02-17 05:41:43",
        })
    };
    account.map_or_else(
        || json!([]),
        |account| {
            json!([
                row(1, "old", account, "11111111-2222-3333-4444-555555555555", OTHER_SECRET_KEY),
                row(2, "exporter", account, &account.access_key, &account.secret_key),
            ])
        },
    )
}

/// Result of symbol: the markets, as in the documentation's sample.
pub(super) fn symbols(
    time: i64,
    prices: &BTreeMap<String, String>,
    states: &BTreeMap<String, SimulatedMarketState>,
) -> Value {
    let symbol = |(index, market): (usize, &String)| {
        let (base, quote) = market.rsplit_once('_').unwrap_or((market, "usdt"));
        let (state, is_enabled) = states.get(market).copied().unwrap_or_default().listed_as()?;
        Some(json!({
            "id": 640 + index, "symbol": market, "state": state, "stateTime": 1_554_048_000_000_i64,
            "tradingEnabled": is_enabled, "openapiEnabled": true, "nextStateTime": null, "nextState": null,
            "depthMergePrecision": 5, "baseCurrency": base, "baseCurrencyPrecision": 8, "baseCurrencyId": 128 + index,
            "quoteCurrency": quote, "quoteCurrencyPrecision": 8, "quoteCurrencyId": 11, "pricePrecision": 4,
            "quantityPrecision": 2, "orderTypes": ["LIMIT", "MARKET"], "timeInForces": ["GTC", "IOC"],
            "displayWeight": 10_002, "displayLevel": "FULL", "plates": [], "filters": [{"filter": "QUOTE_QTY", "min": "1"}],
        }))
    };
    let symbols: Vec<_> = prices.keys().enumerate().filter_map(symbol).collect();
    json!({"time": time, "version": "abb101d1543e54bee40687b135411ba0", "symbols": symbols})
}

/// Result of currencies: the currencies of all markets.
pub(super) fn currencies(time: i64, prices: &BTreeMap<String, String>) -> Value {
    let currency = |(index, name): (usize, &str)| {
        json!({
            "id": (index + 2).to_string(), "currency": name, "fullName": name, "logo": "", "cmcLink": "",
            "weight": "99999", "maxPrecision": "10", "depositStatus": "1", "withdrawStatus": "1", "convertEnabled": "1",
            "transferEnabled": "1", "isChainExist": "1", "plates": [],
        })
    };
    let traded = prices.keys().filter_map(|market| market.rsplit_once('_'));
    let names: BTreeSet<_> = traded.flat_map(|(base, quote)| [base, quote]).collect();
    let currencies: Vec<_> = names.into_iter().enumerate().map(currency).collect();
    json!({"time": time.to_string(), "version": "5dbbb2f2527c22b2b2e3b47187ef13d1", "currencies": currencies})
}

/// Result of wallet/support/currency.
pub(super) fn chains() -> Value {
    json!([{"currency": "btc", "supportChains": [{
        "chain": "Bitcoin", "depositEnabled": true, "withdrawEnabled": true, "withdrawFeeAmount": 0.0009,
        "withdrawMinAmount": 0.0005, "depositFeeRate": 0,
    }]}])
}

/// Result of the futures' symbol/list; `underlying` is `U_BASED` or `COIN_BASED`.
pub(super) fn futures_symbols(underlying: &str) -> Value {
    let is_linear = underlying == "U_BASED";
    let quote = if is_linear { "usdt" } else { "usd" };
    let symbol = |(index, (base, size)): (usize, (&str, &str))| {
        futures_symbol(52 + index, underlying, base, quote, if is_linear { size } else { "100" })
    };
    FUTURES_BASES.into_iter().enumerate().map(symbol).collect()
}

/// Base currencies of futures, with the size of a USDT-margined contract. A coin-margined one is 100 USD.
const FUTURES_BASES: [(&str, &str); 2] = [("btc", "0.0001"), ("eth", "0.01")];

/// Whether futures have this symbol.
pub(super) fn is_futures_symbol(symbol: &str) -> bool {
    let base = symbol.strip_suffix("_usdt").or_else(|| symbol.strip_suffix("_usd"));
    FUTURES_BASES.iter().any(|(listed, _)| base == Some(listed))
}

fn futures_symbol(id: usize, underlying: &str, base: &str, quote: &str, size: &str) -> Value {
    let symbol = format!("{base}_{quote}");
    json!({
        "id": id, "symbolGroupId": 71, "symbol": symbol, "pair": symbol, "contractType": "PERPETUAL",
        "productType": "perpetual", "predictEventType": null, "underlyingType": underlying, "contractSize": size,
        "tradeSwitch": true, "isDisplay": true, "isOpenApi": true, "state": 0, "initLeverage": 20,
        "initPositionType": "CROSSED", "baseCoin": base, "quoteCoin": quote, "baseCoinPrecision": 8,
        "baseCoinDisplayPrecision": 4, "quoteCoinPrecision": 8, "quoteCoinDisplayPrecision": 4, "quantityPrecision": 0,
        "pricePrecision": 1, "supportOrderType": "LIMIT,MARKET", "supportTimeInForce": "GTC,FOK,IOC,GTX",
        "minQty": "1", "minNotional": "5", "maxNotional": "20000000", "maxOpenOrders": 200, "makerFee": "0.0004",
        "takerFee": "0.0006", "onboardDate": 1_657_101_601_000_i64, "deliveryDate": null, "labels": ["HOT"],
    })
}
