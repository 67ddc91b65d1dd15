//! API v1 as XT documents it: endpoints, fields and codes.
//! Pure: sends nothing and reads no clock. No other file knows the shapes of its JSON.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    amount::Amount,
    balance::{BalanceAmounts, BalanceAnswer, Wallet},
    currency::currency_name,
    decode::{
        self, DecodedRow, decode_failure, failure_from_status, is_success, or_unavailable, parse_amount,
        parse_object,
    },
    error::{Failure, Reason},
    error_text::ErrorText,
    market_list::MarketList,
    price::PriceTable,
};

/// Path of the unsigned call for the exchange's time.
pub(super) const SERVER_TIME_PATH: &str = "/trade/api/v1/getServerTime";
/// Path of the unsigned call for the tickers of all markets.
pub(super) const PRICES_PATH: &str = "/data/api/v1/getTickers";
/// Path of the unsigned call for the list of markets.
pub(super) const MARKETS_PATH: &str = "/data/api/v1/getMarketConfig";

/// Path and parameters of a signed call, without the parameters that the signature adds.
pub(super) type V1Call = (&'static str, &'static [(&'static str, &'static str)]);

/// The call that reads `wallet`; `None` if v1 does not have the wallet.
#[must_use]
pub(super) fn balances_call(wallet: Wallet) -> Option<V1Call> {
    const FUNDS: &str = "/trade/api/v1/getFunds";
    match wallet {
        Wallet::Spot => Some(("/trade/api/v1/getBalance", &[])),
        Wallet::Wallet => Some((FUNDS, &[("account", "1")])),
        Wallet::Fiat => Some((FUNDS, &[("account", "3")])),
        Wallet::FuturesUsdt | Wallet::FuturesCoin | Wallet::Earn => None,
    }
}

/// Decodes the reply with balances. An unusable row is dropped and counted.
///
/// # Errors
/// Any reply except `code` 200 with a `data` object, with its reason, and a reply whose rows are all unusable. The text
/// may hold anything that the exchange sent.
pub fn decode_balances(status: u16, body: &[u8]) -> Result<BalanceAnswer, Failure> {
    // Each row is decoded separately, so that a bad one does not spoil the others.
    let rows: Option<V1Rows<'_>> = parse_object(unwrap_envelope(status, body)?);
    let V1Rows(rows) = rows.ok_or_else(|| decode_failure("`data` is not an object of currencies"))?;
    let parse_name = |V1Name(name): V1Name<'_>| std::str::from_utf8(&name).ok().and_then(currency_name);
    decode::build_answer(
        rows.into_iter().map(|(currency, row)| DecodedRow {
            currency: parse_name(currency),
            amounts: parse_amounts(row),
        }),
    )
}

/// Decodes the reply of getServerTime, in Unix milliseconds.
///
/// # Errors
/// As [`decode_balances`].
pub fn decode_server_time(status: u16, body: &[u8]) -> Result<u64, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct V1Time {
        server_time: u64,
    }
    let time: Option<V1Time> = parse_object(unwrap_envelope(status, body)?);
    time.map(|time| time.server_time)
        .ok_or_else(|| decode_failure("`data.serverTime` is no number of milliseconds"))
}

/// Decodes the reply of getTickers, an object of markets without an envelope.
///
/// # Errors
/// Any other reply, and one without a usable price, with its reason. The text may hold anything that the exchange sent.
pub fn decode_prices(status: u16, body: &[u8]) -> Result<PriceTable, Failure> {
    let V1Rows(rows) = parse_markets(status, body)?;
    PriceTable::from_markets(
        rows.iter()
            .filter_map(|(V1Name(name), row)| Some((std::str::from_utf8(name).ok()?, parse_price(row)))),
    )
}

/// Decodes the reply of getMarketConfig, an object of markets without an envelope. It has no state of a market: every
/// listed market is open.
///
/// # Errors
/// Any other reply, and one without a market against USDT, with its reason.
pub fn decode_markets(status: u16, body: &[u8]) -> Result<MarketList, Failure> {
    let V1Rows(rows) = parse_markets(status, body)?;
    let is_config = |row: &RawValue| row.get().starts_with('{');
    MarketList::from_markets(
        rows.iter().filter_map(|(V1Name(name), row)| Some((std::str::from_utf8(name).ok()?, is_config(row)))),
    )
}

/// The rows of an object of markets. Errors come in the envelope of the other calls.
fn parse_markets(status: u16, body: &[u8]) -> Result<V1Rows<'_>, Failure> {
    // Names are read as bytes without validation, so the whole body is validated first.
    let whole: &RawValue = decode::decode_envelope(status, body)?;
    let V1Rows(rows) = parse_object(whole).ok_or_else(|| failure_from_status(status, body))?;
    // No market is called `code`, and no market is a number.
    if rows.iter().any(|(V1Name(name), row)| **name == *b"code" && !row.get().starts_with('{')) {
        unwrap_envelope(status, body)?;
        return Err(decode_failure("an envelope came in place of the markets"));
    }
    if is_success(status) { Ok(V1Rows(rows)) } else { Err(failure_from_status(status, body)) }
}

/// The envelope around every reply except the objects of markets. Unknown fields are ignored, because new ones appear without
/// notice.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct V1Envelope<'a> {
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    info: Option<&'a RawValue>,
    #[serde(borrow)]
    msg: Option<&'a RawValue>,
    #[serde(borrow)]
    msg_info: Option<&'a RawValue>,
}

impl V1Envelope<'_> {
    /// Whether it has only a code, like the error of a proxy in front of the exchange: `{"code":403,"message":""}`.
    fn is_empty(&self) -> bool {
        [self.data, self.info, self.msg, self.msg_info].iter().all(Option::is_none)
    }

    /// The exchange's error text: `info`, else `msg`, else `msgInfo` or its template.
    fn error_text(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct ErrorTemplate {
            template: String,
        }
        let parse_plain = |raw: &RawValue| serde_json::from_str::<String>(raw.get()).ok();
        let parse_template = |raw: &RawValue| parse_object::<ErrorTemplate>(raw).map(|info| info.template);
        let texts = [
            self.info.and_then(parse_plain),
            self.msg.and_then(parse_plain),
            self.msg_info.and_then(|raw| parse_plain(raw).or_else(|| parse_template(raw))),
        ];
        texts.into_iter().flatten().find(|text| !text.trim().is_empty())
    }
}

/// The `data` of a good reply. Errors come with any HTTP status and good replies only with 2xx, so the envelope decides
/// first, and the status only if no envelope came.
fn unwrap_envelope(status: u16, body: &[u8]) -> Result<&RawValue, Failure> {
    let status_failure = || failure_from_status(status, body);
    let envelope: V1Envelope<'_> = decode::decode_envelope(status, body)?;
    let code = envelope.code.ok_or_else(status_failure)?.get();
    let digits = code.trim_matches('"').parse::<i64>().map_err(|_| status_failure())?;
    match digits {
        200 if !is_success(status) => Err(status_failure()),
        _ if !is_success(status) && envelope.is_empty() => Err(status_failure()),
        200 if code.starts_with('"') => Err(decode_failure("`code` is the text \"200\", not the number 200")),
        200 => envelope.data.ok_or_else(|| decode_failure("`code` is 200 and there is no `data`")),
        error => {
            let text = envelope.error_text();
            let error_text = ErrorText::new(text.as_deref().unwrap_or_default());
            let reason = or_unavailable(classify_code(error, &error_text), status);
            let detail = (reason == Reason::Auth).then(|| error_text.refusal_detail());
            let suffix = text.map_or_else(|| ", without a text".to_owned(), |text| format!(": {text}"));
            let failure = Failure::new(reason, format!("the exchange answered code {error}{suffix}"));
            Err(failure.with_detail(detail))
        }
    }
}

/// The reason of an error code and its text. The exchange documents its codes. Few of them concern a balance, and the
/// exchange has sent the text of a refused key with code 404, so a known text decides first.
fn classify_code(code: i64, text: &ErrorText) -> Reason {
    match code {
        106 | 124 | 418 | 429 => Reason::RateLimited,
        _ if text.reports_limit() => Reason::RateLimited,
        _ if text.reports_clock() => Reason::Clock,
        307 => Reason::Auth,
        308 => Reason::Signature,
        _ if text.reports_signature() => Reason::Signature,
        _ if text.reports_key() => Reason::Auth,
        _ if text.reports_outage() => Reason::Unavailable,
        _ => Reason::Api,
    }
}

/// Rows with their names, as they are in the reply, duplicates included.
struct V1Rows<'a>(Vec<(V1Name<'a>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for V1Rows<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V1RowsVisitor;

        impl<'de> Visitor<'de> for V1RowsVisitor {
            type Value = V1Rows<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut rows = Vec::new();
                while let Some(row) = map.next_entry()? {
                    rows.push(row);
                }
                Ok(V1Rows(rows))
            }
        }

        deserializer.deserialize_map(V1RowsVisitor)
    }
}

/// Not decoded, because an invalid name must not spoil the other rows.
struct V1Name<'a>(Cow<'a, [u8]>);

impl<'de: 'a, 'a> Deserialize<'de> for V1Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V1NameVisitor;

        impl<'de> Visitor<'de> for V1NameVisitor {
            type Value = V1Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_bytes<E>(self, name: &'de [u8]) -> Result<Self::Value, E> {
                Ok(V1Name(Cow::Borrowed(name)))
            }

            fn visit_bytes<E>(self, name: &[u8]) -> Result<Self::Value, E> {
                Ok(V1Name(Cow::Owned(name.to_vec())))
            }
        }

        // As bytes, a name may hold an escaped half of a surrogate pair, which is not valid text.
        deserializer.deserialize_bytes(V1NameVisitor)
    }
}

fn parse_amounts(row: &RawValue) -> Option<BalanceAmounts> {
    #[derive(Deserialize)]
    struct V1BalanceRow<'a> {
        #[serde(borrow)]
        available: &'a RawValue,
        #[serde(borrow)]
        freeze: &'a RawValue,
    }
    let row: V1BalanceRow<'_> = parse_object(row)?;
    Some(BalanceAmounts::new(parse_amount(row.available)?, parse_amount(row.freeze)?))
}

fn parse_price(row: &RawValue) -> Option<Amount> {
    #[derive(Deserialize)]
    struct V1TickerRow<'a> {
        #[serde(borrow)]
        price: &'a RawValue,
    }
    parse_amount(parse_object::<V1TickerRow<'_>>(row)?.price)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::exchange::price::tests::list_prices;

    fn decode_body(body: &str) -> Result<BalanceAnswer, Failure> {
        decode_balances(200, body.as_bytes())
    }

    fn decode_failed(status: u16, body: &str) -> (Reason, String) {
        match decode_balances(status, body.as_bytes()) {
            Ok(answer) => panic!("{status} {body}: {answer:?}"),
            Err(failure) => (failure.reason, failure.text),
        }
    }

    /// The answer in XT's documentation of getBalance.
    #[test]
    fn the_documented_answer_is_decoded() -> Result<(), Failure> {
        let body = r#"{"code":200,"data":{"btc":{"freeze":"0.00","available":"0.00"},
            "eth":{"freeze":"0.00","available":"0.00"},
            "usdt":{"freeze":"3062.17437341","available":"3867.43650012"},
            "ltc":{"freeze":"0.00","available":"0.00"}},"info":"success"}"#;
        let answer = decode_body(body)?;
        let names: Vec<_> = answer.balances.iter().map(|row| &*row.currency).collect();
        assert_eq!(names, ["btc", "eth", "ltc", "usdt"]);
        let usdt = answer.balances.last().map(|row| (row.amounts.free.value(), row.amounts.frozen.text()));
        assert_eq!(usdt, Some((3_867.436_500_12, "3062.17437341")));
        assert_eq!((answer.rejected, answer.unreadable.len()), (0, 0));
        Ok(())
    }

    #[test]
    fn code_200_is_a_success_with_any_info() -> Result<(), Failure> {
        for info in ["\"Success.\"", "\"操作成功\"", "null", "\"AccessKey error\"", "7"] {
            let body = format!(
                r#"{{"code":200,"new":[{{}}],"data":{{"a":{{"freeze":1,"available":2.50}}}},"info":{info}}}"#
            );
            assert_eq!(
                decode_body(&body)?.balances.first().map(|row| row.amounts.free.text()),
                Some("2.50"),
                "{info}"
            );
        }
        Ok(())
    }

    #[test]
    fn an_unusable_row_is_dropped_and_counted_and_the_others_are_kept() -> Result<(), Failure> {
        let good = r#""ok":{"available":"1","freeze":"0","extra":[1]}"#;
        let name = "x".repeat(65);
        for bad in [
            r#""b":{"available":"NaN","freeze":"0"}"#,
            r#""b":{"available":"inf","freeze":"0"}"#,
            r#""b":{"available":1e400,"freeze":"0"}"#,
            r#""b":{"available":"0x10","freeze":"0"}"#,
            r#""b":{"available":"","freeze":"0"}"#,
            r#""b":{"available":null,"freeze":"0"}"#,
            r#""b":{"available":true,"freeze":"0"}"#,
            r#""b":{"available":"1"}"#,
            r#""b":{"available":"1","freeze":"0","freeze":"1"}"#,
            r#""b":["1","0"]"#,
            r#""b":null"#,
            r#""b":"1""#,
            r#""":{"available":"1","freeze":"0"}"#,
            r#""a\nb":{"available":"1","freeze":"0"}"#,
            r#""\ud800":{"available":"1","freeze":"0"}"#,
            &format!(r#""{name}":{{"available":"1","freeze":"0"}}"#),
        ] {
            let answer = decode_body(&format!(r#"{{"code":200,"data":{{{bad},{good}}}}}"#))?;
            let names: Vec<_> = answer.balances.iter().map(|row| &*row.currency).collect();
            assert_eq!((names, answer.rejected), (vec!["ok"], 1), "{bad}");
            assert_eq!(
                answer.unreadable.first().is_some_and(|name| &**name == "b"),
                bad.starts_with(r#""b""#),
                "{bad}"
            );
            assert_eq!(
                decode_failed(200, &format!(r#"{{"code":200,"data":{{{bad}}}}}"#)).0,
                Reason::Decode,
                "{bad}"
            );
        }
        Ok(())
    }

    #[test]
    fn every_row_of_a_currency_with_two_rows_is_rejected() -> Result<(), Failure> {
        let row = r#"{"available":"1","freeze":"0"}"#;
        let duplicates = decode_body(&format!(
            r#"{{"code":200,"data":{{"usdt":{row},"btc":{row},"USDT":{row},"Usdt":{row}}}}}"#
        ))?;
        assert_eq!(duplicates.balances.len(), 1);
        assert_eq!((duplicates.rejected, duplicates.unreadable), (3, vec!["usdt".into()]));
        let half_usable =
            decode_body(&format!(r#"{{"code":200,"data":{{"usdt":{row},"btc":{row},"USDT":null}}}}"#))?;
        assert_eq!(
            (half_usable.balances.len(), half_usable.rejected, half_usable.unreadable),
            (1, 2, vec!["usdt".into()])
        );
        Ok(())
    }

    /// A comparison of every two rows of the largest body would take minutes.
    #[test]
    fn an_answer_full_of_duplicates_is_decoded_quickly() -> Result<(), Failure> {
        let rows = (0..90_000)
            .map(|n| format!(r#""c{n}":{{"available":1,"freeze":0}},"C{n}":{{"available":1,"freeze":0}}"#));
        let rows = rows.collect::<Vec<_>>().join(",");
        let unique = r#""usdt":{"available":1,"freeze":0}"#;
        let answer = decode_body(&format!(r#"{{"code":200,"data":{{{rows},{unique}}}}}"#))?;
        assert_eq!((answer.balances.len(), answer.rejected, answer.unreadable.len()), (1, 180_000, 90_000));
        Ok(())
    }

    #[test]
    fn each_code_and_text_gives_its_reason() {
        for (body, reason) in [
            (r#"{"code":307,"info":"AccessKey error"}"#, Reason::Auth),
            (r#"{"code":404,"info":"请检查accesskey是否有效"}"#, Reason::Auth),
            (r#"{"code":307,"info":"IP not in whitelist"}"#, Reason::Auth),
            (r#"{"code":308,"info":"Sign error"}"#, Reason::Signature),
            (r#"{"code":404,"info":"签名错误"}"#, Reason::Signature),
            (r#"{"code":400,"info":"nonce is outside the window"}"#, Reason::Clock),
            (r#"{"code":"308","info":"timestamp"}"#, Reason::Clock),
            (r#"{"code":106,"info":"x"}"#, Reason::RateLimited),
            (r#"{"code":404,"info":"Operate too frequently"}"#, Reason::RateLimited),
            (r#"{"code":404,"info":"操作过于频繁"}"#, Reason::RateLimited),
            (r#"{"code":307,"info":"Account locked"}"#, Reason::RateLimited),
            (r#"{"code":404,"info":"系统维护中"}"#, Reason::Unavailable),
            (r#"{"code":0,"info":"blocked"}"#, Reason::Api),
            (r#"{"code":0,"info":"locked"}"#, Reason::RateLimited),
            (r#"{"code":404,"info":"Your design is unlocked, see the announcement"}"#, Reason::Api),
            (r#"{"code":307,"info":"AccessKey is blocked"}"#, Reason::Auth),
            (r#"{"code":308,"info":"Sign error: request was blocked"}"#, Reason::Signature),
            (r#"{"code":418,"info":"x"}"#, Reason::RateLimited),
            (
                r#"{"code":500,"msg":"price scale error","msgInfo":{"template":"t","args":null},"data":{}}"#,
                Reason::Api,
            ),
            (r#"{"code":400,"info":"request error"}"#, Reason::Api),
            (r#"{"code":404}"#, Reason::Api),
            (r#"{"code":"200","data":{}}"#, Reason::Decode),
            (r#"{"code":200.0,"data":{}}"#, Reason::Decode),
            (r#"{"code":null,"data":{}}"#, Reason::Decode),
            (r#"{"code":200}"#, Reason::Decode),
            (r#"{"code":200,"data":null}"#, Reason::Decode),
            (r#"{"code":200,"data":[]}"#, Reason::Decode),
            (r#"{"code":200,"data":"x"}"#, Reason::Decode),
            (r#"{"code":200,"code":200,"data":{}}"#, Reason::Decode),
            (r"[200,{}]", Reason::Decode),
            ("<html>hello</html>", Reason::Decode),
            ("", Reason::Decode),
            (r#"{"code":200,"data":{"#, Reason::Decode),
        ] {
            assert_eq!(decode_failed(200, body).0, reason, "{body}");
        }
        let deep = format!(r#"{{"code":200,"data":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(decode_failed(200, &deep).0, Reason::Decode);
        assert_eq!(
            decode_balances(200, b"{\"code\":200,\"data\":{\"\xff\":1}}").map_err(|f| f.reason),
            Err(Reason::Decode)
        );
    }

    #[test]
    fn a_body_without_an_envelope_is_classified_by_its_status() {
        let good = r#"{"code":200,"data":{}}"#;
        for (status, body, reason) in [
            (503, "<html>maintenance</html>", Reason::Unavailable),
            (500, good, Reason::Unavailable),
            (302, "", Reason::Http),
            (403, "<html>", Reason::Http),
            (404, "{}", Reason::Http),
            (401, r#"{"code":307,"info":"AccessKey error"}"#, Reason::Auth),
            (503, r#"{"code":500,"info":"error"}"#, Reason::Unavailable),
            (503, r#"{"code":308,"info":"Sign error"}"#, Reason::Signature),
            (429, good, Reason::RateLimited),
            (418, good, Reason::RateLimited),
        ] {
            assert_eq!(decode_failed(status, body).0, reason, "{status} {body}");
        }
    }

    #[test]
    fn the_text_is_info_else_msg_else_msg_info() {
        for (fields, suffix) in [
            (r#""info":"i","msg":"m","msgInfo":"n""#, ": i"),
            (r#""info":" ","msg":"m","msgInfo":"n""#, ": m"),
            (r#""info":{},"msg":null,"msgInfo":"n""#, ": n"),
            (r#""msgInfo":{"template":"t","args":null}"#, ": t"),
            (r#""msgInfo":["t"]"#, ", without a text"),
        ] {
            let (_, text) = decode_failed(200, &format!(r#"{{"code":500,{fields}}}"#));
            assert_eq!(text, format!("the exchange answered code 500{suffix}"));
        }
    }

    #[test]
    fn server_time_is_read_from_the_documented_answer() {
        let body = br#"{"code":200,"data":{"serverTime":1562924059006},"info":"success"}"#;
        assert_eq!(decode_server_time(200, body), Ok(1_562_924_059_006));
        for bad in [r#"{"code":200,"data":{"serverTime":"x"}}"#, r#"{"code":200,"data":[1]}"#, "404"] {
            assert_eq!(
                decode_server_time(200, bad.as_bytes()).map_err(|f| f.reason),
                Err(Reason::Decode),
                "{bad}"
            );
        }
    }

    /// The answer in XT's documentation of getTickers, with later fields.
    #[test]
    fn the_documented_tickers_are_decoded() {
        let body = r#"{"ltc_usdt":{"high":106.99,"moneyVol":1589953.528784,"rate":4.3400,"low":97.51,"price":105.52,"ask":105.61,
            "bid":105.46,"coinVol":15507.7052},"btc_usdt":{"high":11776.93,"price":"11609.92","rate":-0.0119,
            "askVol":"1","depthTime":1663860050134,"new":[{}]},"eth_btc":{"price":0.05}}"#;
        assert_eq!(decode_tickers(200, body), Ok("btc 11609.92, ltc 105.52, usdt 1".to_owned()));
    }

    fn decode_tickers(status: u16, body: &str) -> Result<String, Reason> {
        list_prices(decode_prices(status, body.as_bytes()))
    }

    #[test]
    fn an_unreadable_market_has_no_price_and_the_others_have_theirs() {
        for bad in [
            r#""b_usdt":{"price":0}"#,
            r#""b_usdt":{"price":null}"#,
            r#""b_usdt":{"price":true}"#,
            r#""b_usdt":{"price":[1]}"#,
            r#""b_usdt":{"price":1,"price":1}"#,
            r#""b_usdt":{}"#,
            r#""b_usdt":[1]"#,
            r#""b_usdt":1"#,
            r#""b_usdt":null"#,
            r#""b_usdt":{"price":1},"B_USDT":{"price":1}"#,
            r#""b_usdt":{"price":1},"b_usdt":{"price":1}"#,
            r#""\ud800_usdt":{"price":1}"#,
            r#""a\nb_usdt":{"price":1}"#,
            r#""code":{"price":1}"#,
            r#""Code":7"#,
        ] {
            let both = decode_tickers(200, &format!(r#"{{{bad},"ok_usdt":{{"price":2}}}}"#));
            assert_eq!(both, Ok("ok 2, usdt 1".to_owned()), "{bad}");
            assert_eq!(decode_tickers(200, &format!("{{{bad}}}")), Err(Reason::Decode), "{bad}");
        }
    }

    #[test]
    fn an_error_reply_to_the_call_for_tickers_has_its_reason() {
        let good = r#"{"btc_usdt":{"price":1}}"#;
        let deep = format!(r#"{{"btc_usdt":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        for (status, body, reason) in [
            (200, r#"{"code":404,"info":"Account locked"}"#, Reason::RateLimited),
            (200, r#"{"code":"106","info":"x"}"#, Reason::RateLimited),
            (400, r#"{"code":400,"info":"system maintenance"}"#, Reason::Unavailable),
            (200, r#"{"code":404}"#, Reason::Api),
            (200, r#"{"code":200,"data":{"btc_usdt":{"price":1}}}"#, Reason::Decode),
            (200, r#"{"code":null,"btc_usdt":{"price":1}}"#, Reason::Decode),
            (200, "{}", Reason::Decode),
            (200, r#"[{"btc_usdt":{"price":1}}]"#, Reason::Decode),
            (200, "<html>", Reason::Decode),
            (200, "", Reason::Decode),
            (200, &deep, Reason::Decode),
            (429, good, Reason::RateLimited),
            (503, good, Reason::Unavailable),
            (404, good, Reason::Http),
            (302, "", Reason::Http),
        ] {
            assert_eq!(decode_tickers(status, body), Err(reason), "{status} {body}");
        }
    }

    proptest! {
        /// An unusable row does not change the others.
        #[test]
        fn an_unusable_row_does_not_change_the_others(rows in prop::collection::vec(
            ("[a-cA-C]{1,2}", "[0-9]{1,9}(\\.[0-9]{1,9})?|[0-9eE.+-]{0,5}", "[0-9]{1,3}|[0-9.-]{0,3}"), 0..9)) {
            let row = |(name, free, frozen): &(String, String, String)| {
                format!(r#","{name}":{{"available":"{free}","freeze":"{frozen}"}}"#)
            };
            let rows: String = rows.iter().map(row).collect();
            let body = |more| format!(r#"{{"code":200,"data":{{"ok":{{"available":"1","freeze":"0"}}{rows}{more}}}}}"#);
            let (without, mut with) = (decode_body(&body("")), decode_body(&body(r#","x":null"#)));
            if let Ok(answer) = &mut with {
                answer.rejected -= 1;
                answer.unreadable.retain(|name| name != "x");
            }
            prop_assert_eq!(without, with);
        }
    }

    #[test]
    fn a_market_is_open_if_it_is_listed() {
        let list = |body: &str| decode_markets(200, body.as_bytes());
        let good = list(r#"{"btc_usdt":{"minAmount":0.1,"pricePoint":4},"eth_usdt":null}"#);
        assert_eq!(
            good.map(|list| (list.is_open("btc"), list.is_open("eth"), list.is_open("xt"))),
            Ok((true, false, false))
        );
        for (body, reason) in [
            ("{}", Reason::Decode),
            (r#"{"btc_usdt":7}"#, Reason::Decode),
            (r#"{"eth_btc":{}}"#, Reason::Decode),
            (r#"{"code":404,"info":"Account locked"}"#, Reason::RateLimited),
            (r#"{"code":200,"data":{"btc_usdt":{}}}"#, Reason::Decode),
            ("[]", Reason::Decode),
        ] {
            assert_eq!(list(body).map_err(|failure| failure.reason), Err(reason), "{body}");
        }
    }
}
