//! The shapes of v4's answers: spot, futures and public.
//!
//! Only JSON: who gets which answer is decided in `exchange`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

use super::{SimulatedBalance, decimal};

/// The envelope of a good answer of spot and of public calls.
pub(super) fn success(result: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Envelope<'a, T> {
        rc: u8,
        mc: &'a str,
        ma: [(); 0],
        result: &'a T,
    }
    serde_json::to_string(&Envelope { rc: 0, mc: "SUCCESS", ma: [], result }).unwrap_or_default()
}

/// The envelope of an error of spot: a code, and no text.
pub(super) fn error(mc: &str) -> String {
    format!(r#"{{"rc":1,"mc":{},"ma":[],"result":null}}"#, json!(mc))
}

/// The envelope of a good answer of futures.
pub(super) fn futures_success(result: &impl Serialize) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Envelope<'a, T> {
        return_code: u8,
        msg_info: &'a str,
        error: Option<()>,
        result: &'a T,
    }
    let envelope = Envelope { return_code: 0, msg_info: "success", error: None, result };
    serde_json::to_string(&envelope).unwrap_or_default()
}

/// The envelope of an error of futures.
pub(super) fn futures_error(code: &str, msg: &str) -> String {
    format!(
        r#"{{"returnCode":1,"msgInfo":"failure","error":{{"code":{},"msg":{}}},"result":null}}"#,
        json!(code),
        json!(msg)
    )
}

/// A spot row. The documents have bare numbers, the exchange sends texts.
pub(super) fn asset(place: usize, currency: &str, row: &SimulatedBalance, as_numbers: bool) -> String {
    let amount = |text: &str| amount(text, as_numbers);
    let (currency, id) = (json!(currency), place + 2);
    let (free, frozen) = (amount(&row.available), amount(&row.freeze));
    let (total, zero) = (amount(&decimal::sum(&row.available, &row.freeze)), amount("0"));
    format!(
        r#"{{"currency":{currency},"currencyId":{id},"frozenAmount":{frozen},"availableAmount":{free},"totalAmount":{total},"convertBtcAmount":{zero},"convertUsdtAmount":{zero},"withdraw":{free},"trade":{free},"copyTrade":{zero},"lock":null,"freeze":{frozen},"predictAmount":null}}"#
    )
}

/// All spot rows in one.
pub(super) fn assets(rows: &[String]) -> String {
    let rows = rows.join(",");
    let result = format!(r#"{{"totalUsdtAmount":"0","totalBtcAmount":"0","assets":[{rows}]}}"#);
    success(&RawValue::from_string(result).ok())
}

/// One spot row alone.
pub(super) fn one_asset(row: String) -> String {
    success(&RawValue::from_string(row).ok())
}

/// A futures row. What is frozen is shared out among the three margins.
pub(super) fn coin(currency: &str, row: &SimulatedBalance, as_numbers: bool) -> String {
    let amount = |text: &str| amount(text, as_numbers);
    let [isolated, crossed, in_orders] = decimal::parts(&row.freeze).map(|part| amount(&part));
    let (currency, free, zero) = (json!(currency), amount(&row.available), amount("0"));
    let total = amount(&decimal::sum(&row.available, &row.freeze));
    format!(
        r#"{{"coin":{currency},"walletBalance":{total},"openOrderMarginFrozen":{in_orders},"openOrderFeeFrozen":{zero},"isolatedMargin":{isolated},"crossedMargin":{crossed},"availableBalance":{free},"bonus":{zero},"bonusCumPnl":null,"coupon":{zero}}}"#
    )
}

/// All futures rows in one.
pub(super) fn coins(rows: &[String]) -> String {
    futures_success(&RawValue::from_string(format!("[{}]", rows.join(","))).ok())
}

/// One futures row alone.
pub(super) fn one_coin(row: String) -> String {
    futures_success(&RawValue::from_string(row).ok())
}

/// A row as a fault wants it, under its name if it is an object that has none.
pub(super) fn odd(name: &str, currency: &str, value: &Value) -> String {
    let mut value = value.clone();
    if let Some(fields) = value.as_object_mut() {
        fields.entry(name).or_insert_with(|| json!(currency));
    }
    value.to_string()
}

/// An amount as a text, or as a number if it is to be one and is.
pub(super) fn amount(text: &str, as_number: bool) -> String {
    let is_number = as_number && serde_json::from_str::<serde_json::Number>(text).is_ok();
    if is_number { text.to_owned() } else { json!(text).to_string() }
}

/// The answers of the tickers, each market with what was last paid there; `None` if a market is asked for
/// that there is not.
pub(super) fn tickers(
    time: i64,
    prices: &BTreeMap<String, String>,
    asked: Option<&str>,
    ticker: fn(i64, &str, &str) -> Value,
) -> Option<Value> {
    let of = |market: &str| prices.get(market).map(|price| ticker(time, market, price));
    asked.map_or_else(
        || prices.keys().map(|market| of(market)).collect(),
        |asked| asked.split(',').map(of).collect(),
    )
}

/// A row of ticker/price.
pub(super) fn price(time: i64, market: &str, price: &str) -> Value {
    json!({"s": market, "t": time, "p": price})
}

/// A row of ticker/24h. Nobody trades here: all day long the price is the last.
pub(super) fn day(time: i64, market: &str, price: &str) -> Value {
    json!({
        "s": market, "t": time, "cv": "0", "cr": "0", "o": price, "l": price, "h": price, "c": price,
        "q": "2944.20", "v": "33765013.61",
    })
}

/// The answer of symbol: the markets in the form of the documentation's sample.
pub(super) fn symbols(time: i64, prices: &BTreeMap<String, String>) -> Value {
    let symbol = |(place, market): (usize, &String)| {
        let (base, quote) = market.rsplit_once('_').unwrap_or((market, "usdt"));
        json!({
            "id": 640 + place, "symbol": market, "state": "ONLINE", "stateTime": 1_554_048_000_000_i64,
            "tradingEnabled": true, "openapiEnabled": true, "nextStateTime": null, "nextState": null,
            "depthMergePrecision": 5, "baseCurrency": base, "baseCurrencyPrecision": 8, "baseCurrencyId": 128 + place,
            "quoteCurrency": quote, "quoteCurrencyPrecision": 8, "quoteCurrencyId": 11, "pricePrecision": 4,
            "quantityPrecision": 2, "orderTypes": ["LIMIT", "MARKET"], "timeInForces": ["GTC", "IOC"],
            "displayWeight": 10_002, "displayLevel": "FULL", "plates": [], "filters": [{"filter": "QUOTE_QTY", "min": "1"}],
        })
    };
    let symbols: Vec<_> = prices.keys().enumerate().map(symbol).collect();
    json!({"time": time, "version": "abb101d1543e54bee40687b135411ba0", "symbols": symbols})
}

/// The answer of currencies: those that are traded.
pub(super) fn currencies(time: i64, prices: &BTreeMap<String, String>) -> Value {
    let currency = |(place, name): (usize, &str)| {
        json!({
            "id": (place + 2).to_string(), "currency": name, "fullName": name, "logo": "", "cmcLink": "",
            "weight": "99999", "maxPrecision": "10", "depositStatus": "1", "withdrawStatus": "1", "convertEnabled": "1",
            "transferEnabled": "1", "isChainExist": "1", "plates": [],
        })
    };
    let traded = prices.keys().filter_map(|market| market.rsplit_once('_'));
    let names: BTreeSet<_> = traded.flat_map(|(base, quote)| [base, quote]).collect();
    let currencies: Vec<_> = names.into_iter().enumerate().map(currency).collect();
    json!({"time": time.to_string(), "version": "5dbbb2f2527c22b2b2e3b47187ef13d1", "currencies": currencies})
}

/// The answer of wallet/support/currency.
pub(super) fn chains() -> Value {
    json!([{"currency": "btc", "supportChains": [{
        "chain": "Bitcoin", "depositEnabled": true, "withdrawEnabled": true, "withdrawFeeAmount": 0.0009,
        "withdrawMinAmount": 0.0005, "depositFeeRate": 0,
    }]}])
}

/// The answer of the futures' symbol/list; `underlying` is `U_BASED` or `COIN_BASED`.
pub(super) fn futures_symbols(underlying: &str) -> Value {
    let (symbol, base, quote) =
        if underlying == "U_BASED" { ("btc_usdt", "btc", "usdt") } else { ("btc_usd", "btc", "usd") };
    json!([{
        "id": 52, "symbolGroupId": 71, "symbol": symbol, "pair": symbol, "contractType": "PERPETUAL",
        "productType": "perpetual", "predictEventType": null, "underlyingType": underlying, "contractSize": "0.0001",
        "tradeSwitch": true, "isDisplay": true, "isOpenApi": true, "state": 0, "initLeverage": 20,
        "initPositionType": "CROSSED", "baseCoin": base, "quoteCoin": quote, "baseCoinPrecision": 8,
        "baseCoinDisplayPrecision": 4, "quoteCoinPrecision": 8, "quoteCoinDisplayPrecision": 4, "quantityPrecision": 0,
        "pricePrecision": 1, "supportOrderType": "LIMIT,MARKET", "supportTimeInForce": "GTC,FOK,IOC,GTX",
        "minQty": "1", "minNotional": "5", "maxNotional": "20000000", "maxOpenOrders": 200, "makerFee": "0.0004",
        "takerFee": "0.0006", "onboardDate": 1_657_101_601_000_i64, "deliveryDate": null, "labels": ["HOT"],
    }])
}
