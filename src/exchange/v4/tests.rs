//! The replies of API v4: what a good one holds, and the reason of every other one.

use proptest::prelude::*;

use super::*;
use crate::exchange::price::tests::list_prices;

/// An answer that was captured from the exchange.
const CAPTURED: &str = r#"{"rc":0,"mc":"SUCCESS","ma":[],"result":{
    "totalUsdtAmount":"31.75931133","totalBtcAmount":"0.00115951",
    "assets":[{"currency":"usdt","currencyId":11,"frozenAmount":"0.03834082","availableAmount":"31.70995965",
    "totalAmount":"31.74830047","convertBtcAmount":"0.00115911","convertUsdtAmount":"31.74830047"}]}}"#;

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
    format!(r#"{{"rc":0,"mc":"SUCCESS","ma":[],"result":{{"assets":[{rows}]}}}}"#)
}

#[test]
fn the_captured_and_the_documented_answer_are_decoded() -> Result<(), Failure> {
    let list = |answer: BalanceAnswer| -> Vec<_> {
        let format_row = |row: &super::super::Balance| {
            format!("{} {} {}", row.currency, row.amounts.free.text(), row.amounts.frozen.text())
        };
        answer.balances.iter().map(format_row).collect()
    };
    assert_eq!(list(decode_body(CAPTURED)?), ["usdt 31.70995965 0.03834082"]);
    // The documents have bare numbers, and `ma` with an empty object in it.
    let documented = r#"{"rc":0,"mc":"SUCCESS","ma":[{}],"result":{"totalBtcAmount":0,"assets":[
        {"currency":"USDT","currencyId":0,"frozenAmount":0,"availableAmount":2.50,"totalAmount":0,"convertBtcAmount":0,
        "withdraw":null,"trade":"1","copyTrade":null,"lock":"0","freeze":"7","predictAmount":[]},
        {"currency":"btc","frozenAmount":"1E-8","availableAmount":"0"}]}}"#;
    assert_eq!(list(decode_body(documented)?), ["btc 0 1E-8", "usdt 2.50 0"]);
    assert_eq!(list(decode_body(&balance_reply(""))?), [""; 0]);
    Ok(())
}

/// The parts of the only row, which has this JSON besides its name and free amount.
fn parts(fields: &str) -> Result<Vec<String>, Failure> {
    let row = format!(r#"{{"currency":"usdt","availableAmount":"1",{fields}}}"#);
    let answer = decode_body(&balance_reply(&row))?;
    let parts = answer.balances.iter().flat_map(|row| row.amounts.frozen_parts.iter());
    Ok(parts.map(|part| format!("{} {}", part.reason.label(), part.amount.text())).collect())
}

#[test]
fn parts_and_total_are_read_as_sent_and_what_was_not_sent_is_unknown() -> Result<(), Failure> {
    // Captured from the exchange, as far as the fields go.
    let sent = r#""frozenAmount":"4.50000000","freeze":"0.00000000","lock":"1.00000000","copyTrade":"0.50000000","trade":"2","withdraw":"1.0""#;
    let expected =
        ["trade 2", "withdraw 1.0", "lock 1.00000000", "freeze 0.00000000", "copy_trade 0.50000000"];
    assert_eq!(parts(sent)?, expected);
    assert_eq!(parts(r#""frozenAmount":"3","withdraw":null"#)?, [""; 0]);
    assert_eq!(parts(r#""frozenAmount":"3""#)?, [""; 0]);
    assert_eq!(parts(r#""frozenAmount":"3","withdraw":null,"trade":1.5"#)?, ["trade 1.5", "other 1.5"]);
    let totals = |total: &str| {
        let body = balance_reply("").replace("\"assets\"", &format!("{total}\"assets\""));
        Ok(decode_body(&body)?.exchange_total.map(|total| total.text().to_owned()))
    };
    assert_eq!(totals(r#""totalUsdtAmount":"200.0000","#)?.as_deref(), Some("200.0000"));
    for unknown in ["", r#""totalUsdtAmount":null,"#, r#""totalUsdtAmount":[],"#, r#""totalUsdtAmount":"","#]
    {
        assert_eq!(totals(unknown)?, None, "{unknown}");
    }
    for unusable in ["[]", "{}", "true", r#""NaN""#, r#""""#, r#"" 1""#, "1e999"] {
        let row = format!(r#""frozenAmount":"3","lock":{unusable},"trade":"3""#);
        assert_eq!(parts(&row)?, ["trade 3"], "{unusable}");
    }
    assert_eq!(parts(r#""frozenAmount":"3","trade":"3","trade":"3""#)?, [""; 0], "a part that occurs twice");
    Ok(())
}

#[test]
fn the_reply_for_one_currency_has_a_row_or_none() {
    let decode = |body: &str| {
        let row = decode_balance(200, body.as_bytes(), "usdt").map_err(|failure| failure.reason)?;
        Ok(row.map(|row| row.amounts.free.text().to_owned()))
    };
    let result = |result: &str| decode(&format!(r#"{{"rc":0,"mc":"SUCCESS","ma":[],"result":{result}}}"#));
    let row = |name: &str, free: &str, more: &str| {
        format!(r#"{{"currency":"{name}","availableAmount":"{free}","frozenAmount":"0"{more}}}"#)
    };
    assert_eq!(result(&row("USDT", "5.0", "")), Ok(Some("5.0".to_owned())));
    assert_eq!(result(&row("usdt", "0", r#","withdraw":"1""#)), Ok(Some("0".to_owned())), "a part is held");
    for none in ["null", "{}", "[ ]", &row("usdt", "0.00", r#","withdraw":"0.0""#)] {
        assert_eq!(result(none), Ok(None), "{none}");
    }
    assert_eq!(decode(r#"{"rc":0,"mc":"SUCCESS"}"#), Ok(None));
    assert_eq!(decode(r#"{"rc":1,"mc":"CURRENCY_001","ma":[],"result":null}"#), Ok(None));
    for wrong in
        [row("btc", "5", ""), row("usdt", "x", ""), r#"{"x":1}"#.to_owned(), "[1]".to_owned(), "7".to_owned()]
    {
        assert_eq!(result(&wrong), Err(Reason::Decode), "{wrong}");
    }
    assert_eq!(decode(r#"{"rc":1,"mc":"SYMBOL_001","result":null}"#), Err(Reason::Api));
    let failure =
        decode_balance(503, br#"{"rc":1,"mc":"CURRENCY_001"}"#, "usdt").map_err(|failure| failure.reason);
    assert_eq!(failure, Err(Reason::Unavailable));
}

#[test]
fn a_total_that_cannot_be_read_spoils_no_balance() -> Result<(), Failure> {
    for (total, expected) in [
        (r#""totalUsdtAmount":"31.75","#, Some("31.75")),
        (r#""totalUsdtAmount":1,"totalUsdtAmount":2,"#, None),
        (r#""totalUsdtAmount":null,"#, None),
        (r#""totalUsdtAmount":"much","#, None),
        ("", None),
    ] {
        let body = format!(
            r#"{{"rc":0,"mc":"SUCCESS","result":{{{total}"assets":[{{"currency":"usdt","availableAmount":"1","frozenAmount":"0"}}]}}}}"#
        );
        let answer = decode_body(&body)?;
        assert_eq!(
            (answer.balances.len(), answer.exchange_total.as_ref().map(Amount::text)),
            (1, expected),
            "{total}"
        );
    }
    Ok(())
}

#[test]
fn an_unusable_row_is_dropped_and_counted_and_the_others_are_kept() -> Result<(), Failure> {
    let good_row = r#"{"currency":"ok","availableAmount":"1","frozenAmount":"0"}"#;
    for (bad, has_name) in [
        (r#"{"currency":"b","availableAmount":null,"frozenAmount":"0"}"#, true),
        (r#"{"currency":"b","availableAmount":"NaN","frozenAmount":"0"}"#, true),
        (r#"{"currency":"b","availableAmount":"1"}"#, true),
        (r#"{"currency":"b","availableAmount":"1","frozenAmount":"0","frozenAmount":"1"}"#, true),
        (r#"{"currency":"b"}"#, true),
        (r#"{"currency":"a\nb","availableAmount":"1","frozenAmount":"0"}"#, false),
        (r#"{"currency":"","availableAmount":"1","frozenAmount":"0"}"#, false),
    ] {
        let answer = decode_body(&balance_reply(&format!("{bad},{good_row}")))?;
        let names: Vec<_> = answer.balances.iter().map(|row| &*row.currency).collect();
        assert_eq!((names, answer.rejected), (vec!["ok"], 1), "{bad}");
        assert_eq!(answer.unreadable, has_name.then_some("b").into_iter().collect::<Vec<_>>(), "{bad}");
        assert_eq!(decode_failed(200, &balance_reply(bad)).0, Reason::Decode, "{bad}");
    }
    let twice = decode_body(&balance_reply(&format!(
        "{good_row},{},{}",
        good_row.replace("ok", "b"),
        good_row.replace("ok", "B")
    )))?;
    assert_eq!((twice.balances.len(), twice.rejected, twice.unreadable), (1, 2, vec!["b".into()]));
    Ok(())
}

#[test]
fn an_answer_with_a_row_without_a_currency_is_rejected() {
    let good_row = r#"{"currency":"ok","availableAmount":"1","frozenAmount":"0"}"#;
    for bad in [
        "null",
        "[]",
        r#"["usdt","1","0"]"#,
        r#"{"availableAmount":"1","frozenAmount":"0"}"#,
        r#"{"currency":null,"availableAmount":"1","frozenAmount":"0"}"#,
        r#"{"currency":7,"availableAmount":"1","frozenAmount":"0"}"#,
        r#"{"currency":"\ud800","availableAmount":"1","frozenAmount":"0"}"#,
        r#"{"currency":"a","currency":"b","availableAmount":"1","frozenAmount":"0"}"#,
    ] {
        let (reason, text) = decode_failed(200, &balance_reply(&format!("{good_row},{bad}")));
        assert_eq!((reason, &*text), (Reason::Decode, "a row of `result.assets` has no `currency`"), "{bad}");
    }
}

#[test]
fn every_code_has_its_reason_and_its_description() {
    use Reason::{Api, Auth, Clock, RateLimited, Signature, Unavailable};
    for (codes, reason) in [
        (
            &["AUTH_001", "AUTH_002", "AUTH_003", "AUTH_004", "AUTH_005", "AUTH_006", "AUTH_007"][..],
            Signature,
        ),
        (&["AUTH_103"], Signature),
        (&["AUTH_101", "AUTH_102", "AUTH_104", "AUTH_106"], Auth),
        (&["AUTH_105"], Clock),
        (&["GATEWAY_0001", "GATEWAY_0004", "GATEWAY_9", "429"], RateLimited),
        (&["COMMON_002", "COMMON_003", "503"], Unavailable),
        (&["COMMON_001", "CURRENCY_001", "FUND_017", "FAILURE", "SUCCESS", "AUTH_107", "success", ""], Api),
    ] {
        for code in codes {
            let (actual, text) =
                decode_failed(200, &format!(r#"{{"rc":1,"mc":"{code}","ma":[],"result":null}}"#));
            assert_eq!(actual, reason, "{code}");
            let description = text.strip_prefix(&format!("the exchange answered {code}: "));
            assert!(description.is_some_and(|description| description.len() > 10), "{text}");
        }
    }
    // `rc` may be a text. Status 503 turns an unspecific error into an outage.
    assert_eq!(decode_failed(200, r#"{"rc":"1","mc":"AUTH_101"}"#).0, Auth);
    assert_eq!(decode_failed(503, r#"{"rc":1,"mc":"FAILURE"}"#).0, Unavailable);
    assert_eq!(decode_failed(401, r#"{"rc":1,"mc":"AUTH_101"}"#).0, Auth);
    assert_eq!(decode_failed(200, r#"{"rc":0,"mc":"AUTH_103","result":{"assets":[]}}"#).0, Signature);
}

#[test]
fn a_body_without_an_envelope_is_classified_by_its_status() {
    for body in [
        r#"{"rc":"0","mc":"SUCCESS","result":{"assets":[]}}"#,
        r#"{"rc":0,"result":{"assets":[]}}"#,
        r#"{"rc":null,"mc":"SUCCESS","result":{"assets":[]}}"#,
        r#"{"rc":0,"mc":"SUCCESS","result":null}"#,
        r#"{"rc":0,"mc":"SUCCESS"}"#,
        r#"{"rc":0,"mc":"SUCCESS","result":[]}"#,
        r#"{"rc":0,"mc":"SUCCESS","result":{}}"#,
        r#"{"rc":0,"mc":"SUCCESS","result":{"assets":null}}"#,
        r#"{"rc":0,"mc":"SUCCESS","result":{"assets":{"usdt":{}}}}"#,
        r#"{"rc":0,"rc":0,"mc":"SUCCESS","result":{"assets":[]}}"#,
        r#"[0,"SUCCESS",{"assets":[]}]"#,
        r#"{"code":200,"data":{},"info":"success"}"#,
        r#"{"returnCode":0,"msgInfo":"success","error":null,"result":[]}"#,
        "<html>",
        "",
    ] {
        assert_eq!(decode_failed(200, body).0, Reason::Decode, "{body}");
    }
    for (status, body, reason) in [
        (429, CAPTURED, Reason::RateLimited),
        (418, CAPTURED, Reason::RateLimited),
        (503, "<html>", Reason::Unavailable),
        (503, CAPTURED, Reason::Unavailable),
        (302, "", Reason::Http),
        (404, "{}", Reason::Http),
        (404, CAPTURED, Reason::Http),
    ] {
        assert_eq!(decode_failed(status, body).0, reason, "{status} {body}");
    }
    let deep =
        format!(r#"{{"rc":0,"mc":"SUCCESS","result":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(decode_failed(200, &deep).0, Reason::Decode);
}

#[test]
fn only_a_reply_that_is_not_from_the_exchange_is_the_hosts_fault() {
    for (status, body, is_host_fault) in [
        (403, r#"{"rc":1,"mc":"AUTH_104","ma":[],"result":null}"#, false),
        (401, r#"{"rc":1,"mc":"AUTH_101","ma":[],"result":null}"#, false),
        (451, r#"{"rc":1,"mc":"FAILURE","ma":[],"result":null}"#, false),
        (403, r#"{"code":307,"info":"AccessKey error"}"#, true),
        (403, "<html>", true),
        (403, "", true),
        (200, "<html>", true),
        (200, "{}", false),
        (404, "", false),
        (429, "<html>", false),
        (418, "<html>", false),
        (503, "<html>", true),
    ] {
        let failure = decode_balances(status, body.as_bytes()).err();
        assert_eq!(failure.map(|failure| failure.is_host_fault()), Some(is_host_fault), "{status} {body}");
    }
}

#[test]
fn server_time_is_read_from_the_documented_answer() {
    let body = br#"{"rc":0,"mc":"SUCCESS","ma":[],"result":{"serverTime":1662435658062}}"#;
    assert_eq!(decode_server_time(200, body), Ok(1_662_435_658_062));
    for bad in
        [r#"{"rc":0,"mc":"SUCCESS","result":{"serverTime":"x"}}"#, r#"{"rc":0,"mc":"SUCCESS","result":1}"#]
    {
        assert_eq!(
            decode_server_time(200, bad.as_bytes()).map_err(|f| f.reason),
            Err(Reason::Decode),
            "{bad}"
        );
    }
}

fn decode_tickers(status: u16, body: &str) -> Result<String, Reason> {
    list_prices(decode_prices(status, body.as_bytes()))
}

fn ticker_reply(tickers: &str) -> String {
    format!(r#"{{"rc":0,"mc":"SUCCESS","ma":[],"result":[{tickers}]}}"#)
}

#[test]
fn the_documented_tickers_are_decoded() {
    let documented = r#"{"s":"btc_usdt","t":1661856036925,"p":"9000.0000"}"#;
    assert_eq!(decode_tickers(200, &ticker_reply(documented)), Ok("btc 9000, usdt 1".to_owned()));
    let more = format!(r#"{documented},{{"p":0.05,"s":"eth_btc"}},{{"s":"XT_USDT","p":2.5,"new":{{}}}}"#);
    assert_eq!(decode_tickers(200, &ticker_reply(&more)), Ok("btc 9000, usdt 1, xt 2.5".to_owned()));
}

#[test]
fn an_unreadable_market_has_no_price_and_the_others_have_theirs() {
    for bad in [
        r#"{"s":"b_usdt","p":"0"}"#,
        r#"{"s":"b_usdt","p":null}"#,
        r#"{"s":"b_usdt","p":"NaN"}"#,
        r#"{"s":"b_usdt","p":"1","p":"1"}"#,
        r#"{"s":"b_usdt","s":"b_usdt","p":"1"}"#,
        r#"{"s":"b_usdt"}"#,
        r#"{"s":["b_usdt"],"p":"1"}"#,
        r#"{"s":"\ud800_usdt","p":"1"}"#,
        r#"{"p":"1"}"#,
        r#"["b_usdt",1,"1"]"#,
        "null",
        r#"{"s":"b_usdt","p":"1"},{"s":"B_usdt","p":"1"}"#,
    ] {
        let both = decode_tickers(200, &ticker_reply(&format!(r#"{bad},{{"s":"ok_usdt","p":"2"}}"#)));
        assert_eq!(both, Ok("ok 2, usdt 1".to_owned()), "{bad}");
        assert_eq!(decode_tickers(200, &ticker_reply(bad)), Err(Reason::Decode), "{bad}");
    }
}

#[test]
fn an_error_reply_to_the_call_for_tickers_has_its_reason() {
    let good = ticker_reply(r#"{"s":"btc_usdt","p":"1"}"#);
    for (status, body, reason) in [
        (200, r#"{"rc":1,"mc":"GATEWAY_0001","ma":[],"result":null}"#, Reason::RateLimited),
        (200, r#"{"rc":1,"mc":"SYMBOL_001","ma":[],"result":null}"#, Reason::Api),
        (200, r#"{"rc":0,"mc":"SUCCESS","result":{"s":"btc_usdt","p":"1"}}"#, Reason::Decode),
        (200, r#"{"rc":0,"mc":"SUCCESS","result":null}"#, Reason::Decode),
        (200, r#"{"btc_usdt":{"price":1}}"#, Reason::Decode),
        (200, &ticker_reply(""), Reason::Decode),
        (200, "", Reason::Decode),
        (429, &good, Reason::RateLimited),
        (503, &good, Reason::Unavailable),
        (404, &good, Reason::Http),
    ] {
        assert_eq!(decode_tickers(status, body), Err(reason), "{status} {body}");
    }
}

proptest! {
    /// An unusable row does not change the others.
    #[test]
    fn an_unusable_row_does_not_change_the_others(rows in prop::collection::vec(
        ("[a-cA-C]{1,2}", "\"[0-9]{1,9}(\\.[0-9]{1,9})?\"|\"[0-9eE.+-]{0,5}\"|[1-9]{1,3}\\.[0-9]{1,3}", "\"[0-9.-]{0,3}\"|-?[1-9][0-9]{0,3}"), 0..9)) {
        let row = |(name, free, frozen): &(String, String, String)| {
            format!(r#",{{"currency":"{name}","availableAmount":{free},"frozenAmount":{frozen}}}"#)
        };
        let rows: String = rows.iter().map(row).collect();
        let ok = r#"{"currency":"ok","availableAmount":"1","frozenAmount":"0"}"#;
        let body = |more| format!(r#"{{"rc":0,"mc":"SUCCESS","result":{{"assets":[{ok}{rows}{more}]}}}}"#);
        let (without, mut with) = (decode_body(&body("")), decode_body(&body(r#",{"currency":"x"}"#)));
        if let Ok(answer) = &mut with {
            answer.rejected -= 1;
            answer.unreadable.retain(|name| name != "x");
        }
        prop_assert_eq!(without, with);
    }
}

#[test]
fn a_market_is_open_if_it_is_online_and_trading_is_enabled() {
    let list = |rows: &str| {
        let body = format!(r#"{{"rc":0,"mc":"SUCCESS","ma":[],"result":{{"time":1,"symbols":[{rows}]}}}}"#);
        decode_markets(200, body.as_bytes())
    };
    let open = r#"{"symbol":"ok_usdt","state":"ONLINE","tradingEnabled":true,"openapiEnabled":false}"#;
    for closed in [
        r#"{"symbol":"b_usdt","state":"OFFLINE","tradingEnabled":true}"#,
        r#"{"symbol":"b_usdt","state":"ONLINE","tradingEnabled":false}"#,
        r#"{"symbol":"b_usdt","state":"ONLINE","tradingEnabled":null}"#,
        r#"{"symbol":"b_usdt","state":"ONLINE"}"#,
        r#"{"symbol":"b_usdt","tradingEnabled":true}"#,
        r#"{"symbol":"b_usdt","state":7,"tradingEnabled":true}"#,
        r#"{"symbol":7,"state":"ONLINE","tradingEnabled":true}"#,
        "null",
    ] {
        let markets = list(&format!("{closed},{open}")).map(|list| (list.is_open("ok"), list.is_open("b")));
        assert_eq!(markets, Ok((true, false)), "{closed}");
        assert_eq!(list(closed).map_err(|failure| failure.reason), Err(Reason::Decode), "{closed}");
    }
}

/// The Earn wallet.
mod earn_wallet {
    use super::*;
    use crate::exchange::frozen::EarnProduct;

    fn reply(rows: &str) -> Result<BalanceAnswer, Failure> {
        decode_earn(200, format!(r#"{{"rc":0,"mc":"SUCCESS","result":[{rows}]}}"#).as_bytes())
    }

    /// The only row of the reply: currency, free, frozen, and the parts.
    fn row(text: &str) -> (String, Vec<String>) {
        let answer = reply(text).unwrap_or_else(|why| panic!("{why}: {text}"));
        let [row] = answer.balances.as_slice() else { panic!("not one row: {answer:?}") };
        let amounts = &row.amounts;
        let parts = amounts.frozen_parts.iter();
        let parts = parts.map(|part| format!("{} {}", part.reason.label(), part.amount.text())).collect();
        (format!("{} {} {}", row.currency, amounts.free.text(), amounts.frozen.text()), parts)
    }

    fn positions(amount: &str, list: &str) -> Vec<String> {
        row(&format!(r#"{{"currency":"usdt","amount":"{amount}","positionList":[{list}]}}"#)).1
    }

    fn position(product: &str, amount: &str) -> String {
        format!(
            r#"{{"category":"SAVING","productType":"{product}","amount":"{amount}","accInterest":"5.00"}}"#
        )
    }

    #[test]
    fn the_documented_reply_is_frozen_money_with_its_product_as_part() {
        let text = r#"{"currency":"USDT","amount":"1200.00","positionList":[{"category":"SAVING","productType":
            "DEMAND_SAVING","amount":"1200.00","apyList":[{"apy":"0.10"}],"accInterest":"5.00"}]}"#;
        assert_eq!(row(text), ("usdt 0 1200.00".to_owned(), vec!["demand_saving 1200.00".to_owned()]));
    }

    #[test]
    fn every_documented_product_has_its_part_and_every_other_one_is_other() {
        for product in EarnProduct::ALL {
            let name = product.label().to_uppercase();
            assert_eq!(positions("7.0", &position(&name, "7.0")), [format!("{} 7.0", product.label())]);
        }
        assert_eq!(positions("7.0", &position("LAUNCHPOOL", "7.0")), ["other 7.0"]);
        assert_eq!(positions("7.0", r#"{"amount":"7.0"}"#), ["other 7.0"]);
    }

    #[test]
    fn positions_of_one_product_are_added_exactly() {
        let list =
            [position("TIME_SAVING", "0.1"), position("SHARK_FIN", "1"), position("TIME_SAVING", "0.2")];
        assert_eq!(positions("1.3", &list.join(",")), ["time_saving 0.3", "shark_fin 1"]);
    }

    #[test]
    fn the_amount_is_as_sent_and_the_rest_of_it_is_other() {
        let list = [position("DEMAND_SAVING", "5"), position("LAUNCHPOOL", "2")].join(",");
        assert_eq!(positions("7.5", &list), ["demand_saving 5", "other 2.5"]);
        assert_eq!(positions("6", &list), ["demand_saving 5", "other 1"]);
        assert_eq!(positions("6", &position("XRWU", "7")), ["xrwu 7", "other -1"]);
    }

    #[test]
    fn a_position_without_an_amount_makes_its_part_unknown_and_no_balance() {
        let list =
            format!("{},{{\"productType\":\"XRWU\"}},{}", position("XRWU", "1"), position("SHARK_FIN", "2"));
        assert_eq!(positions("5", &list), ["shark_fin 2", "other 3"]);
        for list in ["", r#""positionList":null"#, r#""positionList":7"#, r#""positionList":[7]"#] {
            let comma = if list.is_empty() { "" } else { "," };
            let found = row(&format!(r#"{{"currency":"btc","amount":"3"{comma}{list}}}"#));
            assert_eq!(found, ("btc 0 3".to_owned(), vec![]), "{list}");
        }
    }

    #[test]
    fn a_row_without_amount_is_rejected_and_one_that_is_there_twice_too() {
        let good = r#"{"currency":"eth","amount":"1","positionList":[]}"#;
        for bad in [
            r#"{"currency":"usdt"}"#,
            r#"{"currency":"usdt","amount":null}"#,
            r#"{"currency":"usdt","amount":"1"},{"currency":"USDT","amount":"2"}"#,
        ] {
            let answer = reply(&format!("{good},{bad}")).unwrap_or_else(|why| panic!("{why}"));
            assert_eq!(answer.unreadable, ["usdt"], "{bad}");
            assert!(answer.balances.iter().all(|row| row.currency == "eth") && answer.rejected > 0);
        }
    }

    #[test]
    fn an_empty_list_is_an_answer_and_no_list_is_none() {
        assert_eq!(reply(""), Ok(BalanceAnswer::default()));
        for body in [
            r#"{"rc":0,"mc":"SUCCESS","result":null}"#,
            r#"{"rc":0,"mc":"SUCCESS"}"#,
            r#"{"rc":0,"mc":"SUCCESS","result":{}}"#,
            r#"{"rc":0,"mc":"SUCCESS","result":[{"amount":"1"}]}"#,
        ] {
            let failure = decode_earn(200, body.as_bytes()).err();
            assert_eq!(failure.map(|failure| failure.reason), Some(Reason::Decode), "{body}");
        }
    }

    #[test]
    fn a_missing_permission_has_a_sentence_of_its_own() {
        let failure = |code: &str| {
            let body = format!(r#"{{"rc":1,"mc":"{code}","result":null}}"#);
            decode_earn(200, body.as_bytes()).err().unwrap_or_else(|| panic!("no failure: {code}"))
        };
        let denied = failure("PERMISSION_DENIED");
        assert_eq!((denied.reason, denied.detail), (Reason::Auth, Some(Detail::NoEarnPermission)));
        assert!(denied.text.ends_with("the key lacks the Earn permission"), "{denied}");
        assert_eq!(failure("PARAM_ERROR").reason, Reason::Api);
        assert_eq!(failure("AUTH_101").detail, Some(Detail::UnknownKey));
    }
}
