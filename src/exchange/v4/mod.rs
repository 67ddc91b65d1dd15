//! API v4 as XT documents it, spot and public calls: endpoints, fields and codes. `futures` has its futures.
//! Pure: sends nothing and reads no clock. No other file knows the shapes of its JSON.

mod earn;

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    amount::Amount,
    balance::{Balance, BalanceAmounts, BalanceAnswer},
    decode::{
        self, DecodedRow, decode_failure, decode_named_row, failure_from_status, is_success, or_unavailable,
        parse_amount, parse_integer, parse_object, parse_text,
    },
    error::{Detail, Failure, Reason},
    frozen::{FrozenParts, FrozenReason},
    market_list::MarketList,
    price::PriceTable,
};

/// Path of the signed call that reads the spot wallet. Without its only parameter, a list of currencies, it reads all
/// of them.
pub(super) const BALANCES_PATH: &str = "/v4/balances";
/// Path of the signed call that reads one currency of the spot wallet, given as `currency`. Unlike the list, it has
/// currencies that the exchange hides.
pub(super) const BALANCE_PATH: &str = "/v4/balance";
/// Path of the signed call that reads the Earn wallet. The key needs the Earn permission. Without its only parameter, a
/// currency, it reads all of them.
pub(super) const EARN_PATH: &str = "/v4/finance/position-currency";
/// Path of the unsigned call for the exchange's time.
pub(super) const SERVER_TIME_PATH: &str = "/v4/public/time";
/// Path of the unsigned call for the last prices of all markets.
pub(super) const PRICES_PATH: &str = "/v4/public/ticker/price";
/// Path of the unsigned call for the list of markets.
pub(super) const MARKETS_PATH: &str = "/v4/public/symbol";

/// Decodes the reply with balances. An unusable row is dropped and counted.
///
/// # Errors
/// Any reply except `rc` 0, `mc` SUCCESS and a `result` with `assets`, with its reason; a reply whose rows are all
/// unusable, or with a row without a currency. The text may hold anything that the exchange sent.
pub fn decode_balances(status: u16, body: &[u8]) -> Result<BalanceAnswer, Failure> {
    #[derive(Deserialize)]
    struct V4Assets<'a> {
        #[serde(borrow)]
        assets: Vec<&'a RawValue>,
    }
    // On its own, so that a total that cannot be read, or is there twice, spoils no balance.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct V4Total<'a> {
        #[serde(borrow)]
        total_usdt_amount: &'a RawValue,
    }
    let result = unwrap_envelope(status, body)?;
    let assets: Option<V4Assets<'_>> = parse_object(result);
    let assets = assets.ok_or_else(|| decode_failure("`result.assets` is not a list of currencies"))?;
    let rows: Result<Vec<_>, _> =
        assets.assets.into_iter().map(|row| decode_row(row, "result.assets")).collect();
    let answer = decode::build_answer(rows?)?;
    let total = parse_object::<V4Total<'_>>(result).map(|total| total.total_usdt_amount);
    Ok(BalanceAnswer { exchange_total: total.and_then(parse_amount), ..answer })
}

/// Decodes the reply to the call for one `currency`; `None` if the account has none of it: a row of zeros, no row, or the
/// error that the currency is unknown. XT does not document which of these it sends.
///
/// # Errors
/// As [`decode_balances`], except for an unknown currency; also a row of another currency, or with unusable amounts.
pub fn decode_balance(status: u16, body: &[u8], currency: &str) -> Result<Option<Balance>, Failure> {
    let row = match unwrap_reply(status, body) {
        Ok(result) => result,
        Err(failure) if failure.detail == Some(Detail::UnknownCurrency) && is_success(status) => None,
        Err(failure) => return Err(failure),
    };
    let is_empty = |raw: &&RawValue| {
        let inside = raw.get().get(1..raw.get().len().saturating_sub(1)).unwrap_or_default();
        raw.get().starts_with(['{', '[']) && inside.trim().is_empty()
    };
    let Some(row) = row.filter(|row| !is_empty(row)) else { return Ok(None) };
    let DecodedRow { currency: name, amounts } = decode_row(row, "result")?;
    if name.as_deref() != Some(currency) {
        return Err(decode_failure("`result.currency` is not the currency that was asked for"));
    }
    let amounts = amounts.ok_or_else(|| decode_failure("the row of the currency has no usable amounts"))?;
    let is_nothing = amounts.is_zero() && amounts.frozen_parts.is_zero();
    Ok((!is_nothing).then(|| Balance { currency: currency.into(), amounts }))
}

/// Decodes the reply with the Earn wallet: all of it is frozen, with the product types as parts.
///
/// # Errors
/// As [`decode_balances`], with a list in `result`; also if the key lacks the Earn permission.
pub fn decode_earn(status: u16, body: &[u8]) -> Result<BalanceAnswer, Failure> {
    let explain_earn_code = |code: &str| earn::explain_code(code).unwrap_or_else(|| explain_code(code));
    earn::decode_result(unwrap_reply_with(status, body, explain_earn_code)?)
}

/// Decodes the reply with the exchange's time, in Unix milliseconds.
///
/// # Errors
/// As [`decode_balances`].
pub fn decode_server_time(status: u16, body: &[u8]) -> Result<u64, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct V4Time {
        server_time: u64,
    }
    let time: Option<V4Time> = parse_object(unwrap_envelope(status, body)?);
    time.map(|time| time.server_time)
        .ok_or_else(|| decode_failure("`result.serverTime` is no number of milliseconds"))
}

/// Decodes the reply with prices.
///
/// # Errors
/// As [`decode_balances`], and if there is no usable price.
pub fn decode_prices(status: u16, body: &[u8]) -> Result<PriceTable, Failure> {
    let tickers: Option<Vec<&RawValue>> = serde_json::from_str(unwrap_envelope(status, body)?.get()).ok();
    let tickers = tickers.ok_or_else(|| decode_failure("`result` is not a list of markets"))?;
    let markets: Vec<_> = tickers.into_iter().filter_map(parse_market).collect();
    PriceTable::from_markets(markets.iter().map(|(name, price)| (&**name, price.clone())))
}

/// Decodes the reply with the list of markets. A market is open if its `state` is ONLINE and it has `tradingEnabled`;
/// whether the API may trade it does not matter, because its price moves in any case.
///
/// # Errors
/// As [`decode_balances`], and if no market against USDT is open.
pub fn decode_markets(status: u16, body: &[u8]) -> Result<MarketList, Failure> {
    #[derive(Deserialize)]
    struct V4Symbols<'a> {
        #[serde(borrow)]
        symbols: Vec<&'a RawValue>,
    }
    let list: Option<V4Symbols<'_>> = parse_object(unwrap_envelope(status, body)?);
    let rows = list.ok_or_else(|| decode_failure("`result.symbols` is not a list of markets"))?.symbols;
    let markets: Vec<_> = rows.into_iter().filter_map(parse_market_state).collect();
    MarketList::from_markets(markets.iter().map(|(market, is_open)| (&**market, *is_open)))
}

/// The envelope around every reply. Unknown fields are ignored, because new ones appear without notice.
#[derive(Deserialize)]
struct V4Envelope<'a> {
    #[serde(borrow)]
    rc: Option<&'a RawValue>,
    #[serde(borrow)]
    mc: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
}

/// The `result` of a good reply.
fn unwrap_envelope(status: u16, body: &[u8]) -> Result<&RawValue, Failure> {
    unwrap_reply(status, body)?.ok_or_else(|| decode_failure("`mc` is SUCCESS and there is no `result`"))
}

/// The `result` of a good reply, which may be missing or null. Errors come with any HTTP status and good replies only with
/// 2xx, so the envelope decides first, and the status only if no envelope came.
fn unwrap_reply(status: u16, body: &[u8]) -> Result<Option<&RawValue>, Failure> {
    unwrap_reply_with(status, body, explain_code)
}

/// The reason, the detail and the description of an error code.
fn explain_code(code: &str) -> (Reason, Option<Detail>, &'static str) {
    (classify_code(code), refusal_detail(code), describe_code(code))
}

/// As [`unwrap_reply`]; `explain_code` returns the reason, the detail and the description of an error code.
fn unwrap_reply_with(
    status: u16,
    body: &[u8],
    explain_code: impl FnOnce(&str) -> (Reason, Option<Detail>, &'static str),
) -> Result<Option<&RawValue>, Failure> {
    let status_failure = || failure_from_status(status, body);
    let envelope: V4Envelope<'_> = decode::decode_envelope(status, body)?;
    let rc = envelope.rc.ok_or_else(status_failure)?;
    let mc = envelope.mc.and_then(parse_text);
    match (parse_integer(rc).ok_or_else(status_failure)?, mc.as_deref()) {
        (0, Some("SUCCESS")) if !is_success(status) => Err(status_failure()),
        (0, Some("SUCCESS")) if rc.get().starts_with('"') => {
            Err(decode_failure("`rc` is the text \"0\", not the number 0"))
        }
        (0, Some("SUCCESS")) => Ok(envelope.result),
        (rc, None) => {
            let text = format!("the exchange answered rc {rc} without a code in `mc`");
            Err(Failure::new(
                if rc == 0 { Reason::Decode } else { or_unavailable(Reason::Api, status) },
                text,
            ))
        }
        (_, Some(code)) => {
            let (reason, detail, description) = explain_code(code);
            let text = format!("the exchange answered {code}: {description}");
            Err(Failure::new(or_unavailable(reason, status), text).with_detail(detail))
        }
    }
}

/// The reason of an error code.
fn classify_code(code: &str) -> Reason {
    match code {
        "AUTH_001" | "AUTH_002" | "AUTH_003" | "AUTH_004" | "AUTH_005" | "AUTH_006" | "AUTH_007"
        | "AUTH_103" => Reason::Signature,
        "AUTH_101" | "AUTH_102" | "AUTH_104" | "AUTH_106" => Reason::Auth,
        "AUTH_105" => Reason::Clock,
        "429" => Reason::RateLimited,
        code if code.starts_with("GATEWAY_") => Reason::RateLimited,
        "COMMON_002" | "COMMON_003" | "500" | "502" | "503" => Reason::Unavailable,
        _ => Reason::Api,
    }
}

/// Why a key or a currency was refused, according to the error code.
fn refusal_detail(code: &str) -> Option<Detail> {
    match code {
        "AUTH_101" => Some(Detail::UnknownKey),
        "AUTH_102" => Some(Detail::InactiveKey),
        "AUTH_104" => Some(Detail::AddressNotAllowed),
        "AUTH_106" => Some(Detail::NotPermitted),
        "CURRENCY_001" => Some(Detail::UnknownCurrency),
        _ => None,
    }
}

/// The documents' description of an error code: a reply of v4 has no text for people.
fn describe_code(code: &str) -> &'static str {
    match code {
        "AUTH_001" => "the header validate-appkey is missing",
        "AUTH_002" => "the header validate-timestamp is missing",
        "AUTH_003" => "the header validate-recvwindow is missing",
        "AUTH_004" => "the header validate-recvwindow is wrong",
        "AUTH_005" => "the header validate-algorithms is missing",
        "AUTH_006" => "the header validate-algorithms is wrong",
        "AUTH_007" => "the header validate-signature is missing",
        "AUTH_101" => "the key does not exist",
        "AUTH_102" => "the key is not activated",
        "AUTH_103" => "the signature is wrong",
        "AUTH_104" => "the key is bound to other addresses, and this IP is not on its list",
        "AUTH_105" => "the time of the request is outside the window",
        "AUTH_106" => "the key lacks the permission",
        "COMMON_001" => "the user does not exist",
        "COMMON_002" => "the system is busy",
        "COMMON_003" => "the operation failed, to be tried again later",
        "CURRENCY_001" => "something is wrong with a currency",
        "FUND_017" => "a parameter is wrong",
        "SYMBOL_001" => "there is no such market",
        "FAILURE" => "it failed, without saying why",
        "SUCCESS" => "which does not go with its `rc`",
        "429" => "too many calls",
        "500" | "502" | "503" => "it is not available",
        code if code.starts_with("GATEWAY_") => "risk control was triggered",
        _ => "a code that concerns no balance, or is new",
    }
}

/// Decodes a row of `list`, which names it in errors.
fn decode_row(raw: &RawValue, list: &str) -> Result<DecodedRow, Failure> {
    #[derive(Deserialize)]
    struct V4CurrencyName<'a> {
        #[serde(borrow)]
        currency: Option<&'a RawValue>,
    }
    let name = parse_object::<V4CurrencyName<'_>>(raw).and_then(|row| row.currency);
    decode_named_row(name, parse_amounts(raw), list, "currency")
}

/// The amounts of a row. A part of the frozen amount that is missing, null or unusable is unknown.
fn parse_amounts(raw: &RawValue) -> Option<BalanceAmounts> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct V4BalanceRow<'a> {
        #[serde(borrow)]
        available_amount: &'a RawValue,
        #[serde(borrow)]
        frozen_amount: &'a RawValue,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct V4PartedRow<'a> {
        #[serde(borrow)]
        available_amount: &'a RawValue,
        #[serde(borrow)]
        frozen_amount: &'a RawValue,
        #[serde(borrow)]
        trade: Option<&'a RawValue>,
        #[serde(borrow)]
        withdraw: Option<&'a RawValue>,
        #[serde(borrow)]
        lock: Option<&'a RawValue>,
        #[serde(borrow)]
        freeze: Option<&'a RawValue>,
        #[serde(borrow)]
        copy_trade: Option<&'a RawValue>,
    }
    let Some(row) = parse_object::<V4PartedRow<'_>>(raw) else {
        // A part that occurs twice does not make the amounts unusable.
        let row: V4BalanceRow<'_> = parse_object(raw)?;
        return Some(BalanceAmounts::new(
            parse_amount(row.available_amount)?,
            parse_amount(row.frozen_amount)?,
        ));
    };
    let (free, frozen) = (parse_amount(row.available_amount)?, parse_amount(row.frozen_amount)?);
    let parts = [
        (FrozenReason::Trade, row.trade),
        (FrozenReason::Withdraw, row.withdraw),
        (FrozenReason::Lock, row.lock),
        (FrozenReason::Freeze, row.freeze),
        (FrozenReason::CopyTrade, row.copy_trade),
    ];
    let parts = parts.map(|(reason, part)| (reason, part.and_then(parse_amount)));
    let frozen_parts = FrozenParts::new(parts).with_rest_of(&frozen);
    Some(BalanceAmounts { free, frozen, frozen_parts })
}

/// A market's name and last price, as far as they are usable. A market without a name gives no price, and no known
/// currency lacks one because of it.
fn parse_market(raw: &RawValue) -> Option<(Cow<'_, str>, Option<Amount>)> {
    #[derive(Deserialize)]
    struct V4MarketName<'a> {
        #[serde(borrow)]
        s: &'a RawValue,
    }
    #[derive(Deserialize)]
    struct V4PriceRow<'a> {
        #[serde(borrow)]
        p: &'a RawValue,
    }
    let name = parse_text(parse_object::<V4MarketName<'_>>(raw)?.s)?;
    Some((name, parse_object::<V4PriceRow<'_>>(raw).and_then(|price| parse_amount(price.p))))
}

/// A market's name, and whether it is open. A market whose state cannot be read is closed.
fn parse_market_state(raw: &RawValue) -> Option<(Cow<'_, str>, bool)> {
    #[derive(Deserialize)]
    struct V4SymbolName<'a> {
        #[serde(borrow)]
        symbol: &'a RawValue,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct V4SymbolState<'a> {
        #[serde(borrow)]
        state: &'a RawValue,
        trading_enabled: bool,
    }
    let name = parse_text(parse_object::<V4SymbolName<'_>>(raw)?.symbol)?;
    let is_open = |market: V4SymbolState<'_>| {
        market.trading_enabled && parse_text(market.state).as_deref() == Some("ONLINE")
    };
    Some((name, parse_object(raw).is_some_and(is_open)))
}

#[cfg(test)]
mod tests;
