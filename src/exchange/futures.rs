//! The futures of API v4 as XT documents them, USDT-margined and coin-margined: the endpoint of balances on two hosts, its
//! fields, and the errors of all futures calls. `futures_positions` has the positions.
//! Pure: sends nothing and reads no clock. No other file knows the shapes of its JSON.

use serde::Deserialize;
use serde_json::value::RawValue;
use smol_str::SmolStr;

use super::{
    amount::Amount,
    balance::{BalanceAmounts, BalanceAnswer, RawBody},
    currency::currency_name,
    decode::{
        self, DecodedRow, decode_failure, decode_named_row, failure_from_status, is_success, or_unavailable,
        parse_amount, parse_integer, parse_object, parse_text,
    },
    error::{Detail, Failure, Reason},
    error_text::ErrorText,
    frozen::{FrozenParts, FrozenReason},
};

/// Path of the signed call that reads a futures wallet.
pub(super) const BALANCES_PATH: &str = "/future/user/v1/balance/list";

/// Decodes the reply with balances. An unusable row is dropped and counted.
///
/// Frozen is `openOrderMarginFrozen` + `isolatedMargin` + `crossedMargin`. Free is `availableBalance` or, if that is
/// missing, `walletBalance` minus frozen.
///
/// # Errors
/// Any reply except `returnCode` 0 with a list in `result`, with its reason; a reply whose rows are all unusable, or
/// with a row without a currency. The text may hold anything that the exchange sent.
pub fn decode_balances(status: u16, body: &[u8]) -> Result<BalanceAnswer, Failure> {
    let result = unwrap_envelope(status, body)?;
    let rows: Option<Vec<&RawValue>> = serde_json::from_str(result.get()).ok();
    let rows = rows.ok_or_else(|| decode_failure("`result` is not a list of coins"))?;
    decode::build_answer(rows.into_iter().map(decode_row).collect::<Result<Vec<_>, _>>()?)
}

/// What a futures wallet holds of a currency, besides its balance.
#[derive(Clone, Debug, PartialEq)]
pub struct CurrencyMargin {
    /// Lower case.
    pub currency: SmolStr,
    /// The balance without the profit of open positions; `None` if it is absent or unusable.
    pub wallet_balance: Option<Amount>,
    /// The margin of open positions; `None` if it is unusable.
    pub position_margin: Option<Amount>,
}

/// Decodes the margins from a good answer with balances. A currency that has no row of its own, or more than one, is
/// left out.
#[must_use]
pub fn decode_margins(raw_body: &RawBody) -> Vec<CurrencyMargin> {
    let result = unwrap_envelope(raw_body.status(), raw_body.body()).ok();
    let rows: Vec<&RawValue> =
        result.and_then(|result| serde_json::from_str(result.get()).ok()).unwrap_or_default();
    let mut margins: Vec<_> = rows.into_iter().filter_map(decode_margin).collect();
    margins.sort_unstable_by(|a, b| a.currency.cmp(&b.currency));
    let alone = margins.chunk_by(|a, b| a.currency == b.currency).filter_map(|same| match same {
        [one] => Some(one.clone()),
        _ => None,
    });
    alone.collect()
}

/// The envelope around every reply. Unknown fields are ignored, because new ones appear without notice.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FuturesEnvelope<'a> {
    #[serde(borrow)]
    return_code: Option<&'a RawValue>,
    #[serde(borrow)]
    msg_info: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct FuturesError<'a> {
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow)]
    msg: Option<&'a RawValue>,
}

/// The `result` of a good reply. Errors come with any HTTP status, and then without a `returnCode`, so the envelope
/// decides first, and the status only if no envelope came.
pub(super) fn unwrap_envelope(status: u16, body: &[u8]) -> Result<&RawValue, Failure> {
    let status_failure = || match failure_from_status(status, body) {
        // The documented reply to a call without a login. It may come without the envelope.
        failure if status == 401 => {
            Failure { reason: Reason::Auth, detail: Some(Detail::UnknownKey), ..failure }
        }
        failure => failure,
    };
    let envelope = decode::decode_envelope(status, body).map_err(|failure| match failure.reason {
        Reason::RateLimited => failure,
        _ => status_failure(),
    });
    let envelope: FuturesEnvelope<'_> = envelope?;
    let error = envelope.error.and_then(parse_object::<FuturesError<'_>>).unwrap_or_default();
    let code = error.code.map(|code| parse_text(code).unwrap_or(code.get().into())).unwrap_or_default();
    let is_good = envelope.return_code.and_then(parse_integer) == Some(0);
    // On success `error` is null, or has empty texts.
    if is_good && code.is_empty() {
        let return_code = envelope.return_code.map_or("", RawValue::get);
        return match envelope.result {
            _ if !is_success(status) => Err(status_failure()),
            _ if return_code.starts_with('"') => {
                Err(decode_failure("`returnCode` is the text \"0\", not the number 0"))
            }
            Some(result) => Ok(result),
            None => Err(decode_failure("`returnCode` is 0 and there is no `result`")),
        };
    }
    // With another status the code may come alone, but never without its text.
    let is_whole = !code.is_empty() && error.msg.is_some();
    if !is_whole && envelope.return_code.and_then(parse_integer).is_none() {
        return Err(status_failure());
    }
    let texts = [error.msg, envelope.msg_info].into_iter().flatten().filter_map(parse_text);
    let text = texts.into_iter().find(|text| !text.trim().is_empty()).unwrap_or_default();
    let error_text = ErrorText::new(&text);
    let reason = or_unavailable(classify_code(&code, &error_text), status);
    let detail = (reason == Reason::Auth).then(|| error_text.refusal_detail());
    let code = if code.is_empty() { "an error without a code".into() } else { code };
    let suffix = if text.is_empty() { ", without a text".to_owned() } else { format!(": {text}") };
    Err(Failure::new(reason, format!("the exchange answered {code}{suffix}")).with_detail(detail))
}

/// The reason of an error code and its text. 403 stands for everything that may be wrong with a signed call, and 400
/// for an unknown key as well as for an unreachable part of the exchange, so the text decides.
fn classify_code(code: &str, text: &ErrorText) -> Reason {
    match code {
        "418" | "429" => Reason::RateLimited,
        _ if text.reports_limit() => Reason::RateLimited,
        _ if code.starts_with("GATEWAY_") => Reason::RateLimited,
        "403" | "400" | "401" if text.reports_clock() => Reason::Clock,
        "403" | "400" | "401" if text.reports_signature() => Reason::Signature,
        "403" | "401" => Reason::Auth,
        "400" if text.reports_unreachable() => Reason::Unavailable,
        "400" if text.reports_key() => Reason::Auth,
        "500" | "502" | "503" => Reason::Unavailable,
        _ => Reason::Api,
    }
}

fn decode_row(raw: &RawValue) -> Result<DecodedRow, Failure> {
    #[derive(Deserialize)]
    struct FuturesCurrencyName<'a> {
        #[serde(borrow)]
        coin: Option<&'a RawValue>,
    }
    let name = parse_object::<FuturesCurrencyName<'_>>(raw).and_then(|row| row.coin);
    decode_named_row(name, parse_amounts(raw), "result", "coin")
}

fn decode_margin(raw: &RawValue) -> Option<CurrencyMargin> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct FuturesMarginRow<'a> {
        #[serde(borrow)]
        coin: &'a RawValue,
        #[serde(borrow)]
        wallet_balance: Option<&'a RawValue>,
        #[serde(borrow)]
        isolated_margin: Option<&'a RawValue>,
        #[serde(borrow)]
        crossed_margin: Option<&'a RawValue>,
    }
    let row: FuturesMarginRow<'_> = parse_object(raw)?;
    let isolated = row.isolated_margin.and_then(parse_amount);
    let crossed = row.crossed_margin.and_then(parse_amount);
    Some(CurrencyMargin {
        currency: currency_name(&parse_text(row.coin)?)?,
        wallet_balance: row.wallet_balance.and_then(parse_amount),
        position_margin: isolated.and_then(|isolated| isolated.plus(&crossed?)),
    })
}

/// The amounts of a row. The fee held for open orders is not in the frozen amount: how the exchange counts it is not
/// documented.
fn parse_amounts(raw: &RawValue) -> Option<BalanceAmounts> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct FuturesBalanceRow<'a> {
        #[serde(borrow)]
        wallet_balance: Option<&'a RawValue>,
        #[serde(borrow)]
        open_order_margin_frozen: &'a RawValue,
        #[serde(borrow)]
        isolated_margin: &'a RawValue,
        #[serde(borrow)]
        crossed_margin: &'a RawValue,
        #[serde(borrow)]
        available_balance: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct FuturesOrderFee<'a> {
        #[serde(borrow)]
        open_order_fee_frozen: Option<&'a RawValue>,
    }
    let row: FuturesBalanceRow<'_> = parse_object(raw)?;
    let in_orders = parse_amount(row.open_order_margin_frozen)?;
    let (isolated, crossed) = (parse_amount(row.isolated_margin)?, parse_amount(row.crossed_margin)?);
    let frozen = in_orders.plus(&isolated.plus(&crossed)?)?;
    let free = match row.available_balance {
        Some(free) => parse_amount(free)?,
        None => parse_amount(row.wallet_balance?)?.minus(&frozen)?,
    };
    let held_fee = parse_object::<FuturesOrderFee<'_>>(raw).and_then(|row| row.open_order_fee_frozen);
    let frozen_parts = FrozenParts::new([
        (FrozenReason::OrderMargin, Some(in_orders)),
        (FrozenReason::IsolatedMargin, Some(isolated)),
        (FrozenReason::CrossedMargin, Some(crossed)),
        (FrozenReason::OrderFee, held_fee.and_then(parse_amount)),
    ]);
    Some(BalanceAmounts { free, frozen, frozen_parts })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer in XT's documentation.
    const DOCUMENTED: &str = r#"{"returnCode":0,"msgInfo":"success","error":null,"result":[{"coin":"usdt","walletBalance":"19.29849875",
        "openOrderMarginFrozen":"0","isolatedMargin":"0.709475","crossedMargin":"0","availableBalance":"18.58902375",
        "bonus":"0","coupon":"0"}]}"#;

    fn decode_body(body: &str) -> Result<BalanceAnswer, Failure> {
        decode_balances(200, body.as_bytes())
    }

    fn decode_failed(status: u16, body: &str) -> (Reason, String) {
        match decode_balances(status, body.as_bytes()) {
            Ok(answer) => panic!("{status} {body}: {answer:?}"),
            Err(failure) => (failure.reason, failure.text),
        }
    }

    fn balance_reply(rows: &str) -> String {
        format!(r#"{{"returnCode":0,"msgInfo":"success","error":{{"code":"","msg":""}},"result":[{rows}]}}"#)
    }

    fn decode_to_list(body: &str) -> Result<Vec<String>, Failure> {
        let answer = decode_body(body)?;
        let format_row = |row: &super::super::Balance| {
            format!("{} {} {}", row.currency, row.amounts.free.text(), row.amounts.frozen.text())
        };
        Ok(answer.balances.iter().map(format_row).collect())
    }

    #[test]
    fn frozen_is_the_sum_of_the_margins_and_free_is_the_available_balance() -> Result<(), Failure> {
        assert_eq!(decode_to_list(DOCUMENTED)?, ["usdt 18.58902375 0.709475"]);
        let margins = r#""openOrderMarginFrozen":"0.1","isolatedMargin":0.20,"crossedMargin":"0.00000001""#;
        // Free may differ from balance minus frozen because of bonuses and losses.
        let row = format!(
            r#"{{"coin":"BTC","walletBalance":"1",{margins},"availableBalance":"0.9","bonus":null}}"#
        );
        assert_eq!(decode_to_list(&balance_reply(&row))?, ["btc 0.9 0.30000001"]);
        for absent in ["", r#","availableBalance":null"#] {
            let row = format!(r#"{{"coin":"btc","walletBalance":"1",{margins}{absent}}}"#);
            assert_eq!(decode_to_list(&balance_reply(&row))?, ["btc 0.69999999 0.30000001"]);
        }
        assert_eq!(decode_to_list(&balance_reply(""))?, [""; 0]);
        Ok(())
    }

    #[test]
    fn the_margins_and_the_fee_are_parts_as_they_were_sent() -> Result<(), Failure> {
        let margins = r#""coin":"usdt","openOrderMarginFrozen":"11.419247","isolatedMargin":"0","crossedMargin":"19.62351083","availableBalance":"1""#;
        let margin_parts = ["order_margin 11.419247", "isolated_margin 0", "crossed_margin 19.62351083"];
        for (fee, part) in [
            ("", None),
            (r#","openOrderFeeFrozen":null"#, None),
            (r#","openOrderFeeFrozen":"x""#, None),
            (r#","openOrderFeeFrozen":"1","openOrderFeeFrozen":"1""#, None),
            (r#","openOrderFeeFrozen":"0.50""#, Some("order_fee 0.50")),
        ] {
            let answer = decode_body(&balance_reply(&format!("{{{margins}{fee}}}")))?;
            let parts = answer.balances.iter().flat_map(|row| row.amounts.frozen_parts.iter());
            let parts: Vec<_> =
                parts.map(|part| format!("{} {}", part.reason.label(), part.amount.text())).collect();
            assert_eq!(parts, margin_parts.into_iter().chain(part).collect::<Vec<_>>(), "{fee}");
            let frozen = answer.balances.first().map(|row| row.amounts.frozen.text());
            assert_eq!(frozen, Some("31.04275783"), "{fee}");
        }
        Ok(())
    }

    #[test]
    fn margins_are_decoded_from_a_good_answer() {
        let list = |body: &str| -> Vec<String> {
            let text =
                |amount: Option<Amount>| amount.map_or("-".to_owned(), |amount| amount.text().to_owned());
            let row = |margin: CurrencyMargin| {
                format!(
                    "{} {} {}",
                    margin.currency,
                    text(margin.wallet_balance),
                    text(margin.position_margin)
                )
            };
            decode_margins(&RawBody::new(200, body.as_bytes().to_vec())).into_iter().map(row).collect()
        };
        assert_eq!(list(DOCUMENTED), ["usdt 19.29849875 0.709475"]);
        let rows = r#"{"coin":"XRP","walletBalance":null,"isolatedMargin":"x","crossedMargin":"1"},{"coin":"btc","isolatedMargin":1,
            "crossedMargin":"0.5"},{"coin":"eth"},{"coin":"eth","walletBalance":"2"},{"coin":7},null"#;
        assert_eq!(list(&balance_reply(rows)), ["btc - 1.5", "xrp - -"], "two rows for eth");
        assert_eq!(list("{}"), [""; 0]);
    }

    #[test]
    fn a_row_without_one_of_its_amounts_is_rejected() -> Result<(), Failure> {
        let row = r#"{"coin":"b","walletBalance":"1","openOrderMarginFrozen":"0","isolatedMargin":"0","crossedMargin":"0"}"#;
        assert_eq!(decode_to_list(&balance_reply(row))?, ["b 1 0"]);
        for (good, bad) in [
            (r#""crossedMargin":"0""#, r#""crossedMargin":null"#),
            (r#","crossedMargin":"0""#, ""),
            (r#""isolatedMargin":"0""#, r#""isolatedMargin":"x""#),
            (r#""openOrderMarginFrozen":"0""#, r#""openOrderMarginFrozen":"1e-999999999""#),
            (r#""walletBalance":"1","#, ""),
            (r#""walletBalance":"1""#, r#""walletBalance":"1","availableBalance":"""#),
        ] {
            let answer = decode_body(&balance_reply(&format!(
                "{},{}",
                row.replace(good, bad),
                row.replace("\"b\"", "\"ok\"")
            )))?;
            assert_eq!(
                (answer.balances.len(), answer.rejected, answer.unreadable),
                (1, 1, vec!["b".into()]),
                "{bad}"
            );
        }
        for nameless in ["null", r#"{"currency":"b"}"#, r#"{"coin":null}"#] {
            assert_eq!(
                decode_failed(200, &balance_reply(nameless)),
                (Reason::Decode, "a row of `result` has no `coin`".to_owned())
            );
        }
        Ok(())
    }

    #[test]
    fn each_code_and_text_gives_its_reason() {
        use Reason::{Api, Auth, Clock, RateLimited, Signature, Unavailable};
        for (code, msg, reason) in [
            ("\"403\"", "invalid signature", Signature),
            (
                "\"403\"",
                "The request time 1682869381327 exceeds the specified time 1682869381269 limit by 5 second",
                Clock,
            ),
            ("\"403\"", "ip is not in the whitelist", Auth),
            ("403", "forbidden", Auth),
            ("\"401\"", "login required", Auth),
            ("\"400\"", "Connection refused: /10.0.26.71:8080", Unavailable),
            ("\"400\"", "invalid appkey", Auth),
            ("\"400\"", "bad request", Api),
            ("\"429\"", "", RateLimited),
            ("\"fail\"", "too many requests", RateLimited),
            ("\"fail\"", "blocked", Api),
            ("\"400\"", "design of the request is refused", Api),
            ("\"403\"", "your IP was blocked", Auth),
            ("\"418\"", "", RateLimited),
            ("\"503\"", "", Unavailable),
            ("\"invalid_coin\"", "invalid coin", Api),
            ("null", "", Api),
        ] {
            let body = format!(
                r#"{{"returnCode":1,"msgInfo":"failure","error":{{"code":{code},"msg":"{msg}"}},"result":null}}"#
            );
            let (actual, text) = decode_failed(200, &body);
            assert_eq!(actual, reason, "{body}");
            assert!(text.starts_with("the exchange answered ") && text.contains(msg), "{text}");
        }
        // With another status the code may come without the other fields.
        assert_eq!(decode_failed(403, r#"{"error":{"code":"403","msg":"invalid signature"}}"#).0, Signature);
        assert_eq!(decode_failed(500, r#"{"returnCode":1,"msgInfo":"failure","error":null}"#).0, Unavailable);
        assert_eq!(
            decode_failed(200, r#"{"returnCode":0,"error":{"code":"403","msg":"x"},"result":[]}"#).0,
            Auth
        );
    }

    #[test]
    fn a_body_without_an_envelope_is_classified_by_its_status() {
        for body in [
            r#"{"returnCode":"0","result":[]}"#,
            r#"{"returnCode":0,"result":null}"#,
            r#"{"returnCode":0}"#,
            r#"{"returnCode":0,"result":{"coin":"usdt"}}"#,
            r#"{"rc":0,"mc":"SUCCESS","ma":[],"result":[]}"#,
            r#"{"error":null}"#,
            "[]",
            "<html>",
        ] {
            assert_eq!(decode_failed(200, body).0, Reason::Decode, "{body}");
        }
        for (status, body, reason) in [
            (429, DOCUMENTED, Reason::RateLimited),
            (418, DOCUMENTED, Reason::RateLimited),
            (401, "login", Reason::Auth),
            (401, "", Reason::Auth),
            (403, r#"{"error":{"code":403,"message":"Forbidden"}}"#, Reason::Http),
            (403, r#"{"timestamp":1,"status":403,"error":"Forbidden","path":"/"}"#, Reason::Http),
            (403, "<html>", Reason::Http),
            (405, "", Reason::Http),
            (302, DOCUMENTED, Reason::Http),
            (502, "<html>", Reason::Unavailable),
        ] {
            assert_eq!(decode_failed(status, body).0, reason, "{status} {body}");
        }
    }

    #[test]
    fn only_a_reply_that_is_not_from_the_exchange_is_the_hosts_fault() {
        for (status, body, is_host_fault) in [
            (403, r#"{"returnCode":1,"error":{"code":"403","msg":"invalid signature"}}"#, false),
            (403, r#"{"error":{"code":"403","msg":"forbidden"}}"#, false),
            (403, r#"{"error":{"code":403,"message":"Forbidden"}}"#, true),
            (401, "login", false),
            (401, "<html>", false),
            (403, "", true),
            (429, "<html>", false),
        ] {
            let failure = decode_balances(status, body.as_bytes()).err();
            assert_eq!(
                failure.map(|failure| failure.is_host_fault()),
                Some(is_host_fault),
                "{status} {body}"
            );
        }
    }
}
