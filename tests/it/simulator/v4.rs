//! v4: spot, futures and public calls.
//!
//! Python's `hmac` computed the signatures, over the text that the documentation describes.

use std::collections::BTreeSet;

use crate::common::{Answer, Exchange, get};
use serde_json::{Value, json};
use xt_balance_exporter::simulator::{
    Effect, Fault, LimitReply, NonceRefusal, RefusalCause, SimulatedAccount, SimulatedApi, SimulatedBalance,
    SimulatedEndpoint, SimulatedKeyState, SimulatedWallet, SimulatorConfig, UnknownCurrency,
};

const KEY: &str = "3976eb88-76d0-4f6e-a6b2-a57980770085";
const SECRET: &str = "bc6630d0231fda5cd98794f52c4998659beda290";
const TIME: i64 = 1_641_446_237_201;

const BALANCES: &str = "6f65f1289568e3ce07cfa8b1b9664e897e19fcaedc063aac74e4e4e510ab006b";
const BALANCES_XT: &str = "692c672a750d2d9782f1e8141ff352722766b5129a5733304d294dec73092a68";
const FUTURES: &str = "866cd718030736690ac19cc293859dcfb3330747fd6291e0de7e6fece4821c02";
const FUTURES_XT: &str = "c186af642eabd773b9a0661ee8eb626dc37e6707d88eef33946c4ba142d5188b";
const LIST: &str = "/future/user/v1/balance/list";

fn test_config() -> SimulatorConfig {
    SimulatorConfig { clock_start_ms: Some(TIME), ..SimulatorConfig::default() }
}

fn test_account() -> SimulatedAccount {
    SimulatedAccount::new("main", KEY, SECRET)
        .with_balance(SimulatedWallet::Spot, "usdt", "31.70995965", "0.03834082")
        .with_balance(SimulatedWallet::Spot, "btc", "1.50", "0")
        .with_balance(SimulatedWallet::FuturesUsdt, "usdt", "18.58902375", "0.709475")
        .with_balance(SimulatedWallet::FuturesCoin, "btc", "2", "1")
}

fn exchange() -> Exchange {
    Exchange::new(test_config(), vec![test_account()])
}

/// Headers of a signed call with one prefix.
struct SignedHeaders {
    prefix: &'static str,
    headers: Vec<(&'static str, String)>,
}

impl SignedHeaders {
    fn new(signature: &str) -> Self {
        let values = [
            ("algorithms", "HmacSHA256"),
            ("appkey", KEY),
            ("recvwindow", "5000"),
            ("timestamp", "1641446237201"),
            ("signature", signature),
        ];
        Self { prefix: "validate-", headers: values.map(|(name, value)| (name, value.to_owned())).into() }
    }

    fn under(self, prefix: &'static str) -> Self {
        Self { prefix, ..self }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self
    }

    fn send(&self, exchange: &Exchange, path: &str) -> Answer {
        let named: Vec<_> =
            self.headers.iter().map(|(name, value)| (format!("{}{name}", self.prefix), value)).collect();
        let headers: Vec<_> = named.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        get(exchange.address, path, &headers)
    }
}

fn json_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.text()))
}

fn refused(exchange: &Exchange, cause: RefusalCause) -> u64 {
    exchange.simulator.call_log().accounts["main"].count_refused(cause)
}

#[test]
fn spot_has_the_captured_shape_under_both_names_of_the_headers() {
    for signed in [SignedHeaders::new(BALANCES), SignedHeaders::new(BALANCES_XT).under("xt-validate-")] {
        let answer = signed.send(&exchange(), "/v4/balances");
        let body = json_of(&answer);
        assert_eq!((answer.status, &body["rc"], &body["mc"]), (200, &json!(0), &json!("SUCCESS")));
        let usdt = &body["result"]["assets"][1];
        assert_eq!(
            [&usdt["currency"], &usdt["availableAmount"], &usdt["frozenAmount"], &usdt["totalAmount"]],
            ["usdt", "31.70995965", "0.03834082", "31.74830047"]
        );
        assert_eq!(body["result"]["assets"].as_array().map(Vec::len), Some(2));
    }
    // A call must not mix prefixes.
    let mixed = exchange();
    let headers = [("validate-appkey", KEY), ("xt-validate-timestamp", "1641446237201")];
    assert_eq!(json_of(&get(mixed.address, "/v4/balances", &headers))["mc"], "AUTH_002");
}

#[test]
fn spot_accepts_its_parameters_and_signs_them_decoded() {
    let list = "4fbeb42a0387c0213ab32841d671904f0c28c8682a8913e99441b774e9200dfd";
    for query in ["currencies=usdt,btc", "currencies=usdt%2Cbtc"] {
        let body = json_of(&SignedHeaders::new(list).send(&exchange(), &format!("/v4/balances?{query}")));
        assert_eq!(body["result"]["assets"].as_array().map(Vec::len), Some(2), "{query}: {body}");
    }
    let encoded = "e6d6fd37b4063ddec68b84b22ec59ec8789d5a68669d682ca422ed637e109d2a";
    let body = json_of(&SignedHeaders::new(encoded).send(&exchange(), "/v4/balances?currencies=usdt%2Cbtc"));
    assert_eq!(body["mc"], "AUTH_103");
    for (query, signature, found) in [
        (
            "balance?currency=usdt",
            "6a5b72135f382ab8f1f1d99e404eb750c5a12236091830eba40de9f819ea0522",
            "SUCCESS",
        ),
        (
            "balance?currency=nope",
            "a75126ae2911ac3e5fcbeaf48a001327c245afa36c5be1549dbfa07c1374ac0c",
            "CURRENCY_001",
        ),
        ("balance", "7fdb96f1c02741b2e51e318ef6c41354ecb0e45aa5a5623652ac49e8e77a1f50", "FUND_017"),
        ("balances?page=1", "e72bd2295413d6489ccf0df8191f68decfd68859d3e10d2d7ae588ec93404ae4", "FUND_017"),
        // The headers are checked before the parameters.
        ("balances?page=1", BALANCES, "AUTH_103"),
    ] {
        let body = json_of(&SignedHeaders::new(signature).send(&exchange(), &format!("/v4/{query}")));
        assert_eq!(body["mc"], found, "{query}: {body}");
        if found == "SUCCESS" {
            assert_eq!(body["result"]["availableAmount"], "31.70995965");
        }
    }
}

#[test]
fn amounts_may_be_bare_numbers_with_all_their_digits() {
    let exchange = Exchange::new(SimulatorConfig { v4_numbers: true, ..test_config() }, vec![test_account()]);
    let text = SignedHeaders::new(BALANCES).send(&exchange, "/v4/balances").text();
    assert!(
        text.contains(r#""currency":"btc","currencyId":2,"frozenAmount":0,"availableAmount":1.50,"#),
        "{text}"
    );
}

#[test]
fn spot_checks_its_headers_in_the_documented_order() {
    for (signed, mc, cause) in [
        (SignedHeaders::new(BALANCES).without("appkey"), "AUTH_001", None),
        (SignedHeaders::new(BALANCES).with("appkey", "nobody"), "AUTH_101", None),
        (SignedHeaders::new(BALANCES).without("timestamp"), "AUTH_002", Some(RefusalCause::Headers)),
        (SignedHeaders::new(BALANCES).without("recvwindow"), "AUTH_003", Some(RefusalCause::Headers)),
        (SignedHeaders::new(BALANCES).with("recvwindow", "1999"), "AUTH_004", Some(RefusalCause::Headers)),
        (SignedHeaders::new(BALANCES).with("recvwindow", "60001"), "AUTH_004", Some(RefusalCause::Headers)),
        (SignedHeaders::new(BALANCES).with("recvwindow", "x"), "AUTH_004", Some(RefusalCause::Headers)),
        (SignedHeaders::new(BALANCES).without("algorithms"), "AUTH_005", Some(RefusalCause::Headers)),
        (
            SignedHeaders::new(BALANCES).with("algorithms", "HmacSHA512"),
            "AUTH_006",
            Some(RefusalCause::Headers),
        ),
        (SignedHeaders::new(BALANCES).without("signature"), "AUTH_007", Some(RefusalCause::Headers)),
        (SignedHeaders::new("00"), "AUTH_103", Some(RefusalCause::Signature)),
        // The signature covers the window too.
        (SignedHeaders::new(BALANCES).with("recvwindow", "5001"), "AUTH_103", Some(RefusalCause::Signature)),
        (
            SignedHeaders::new(BALANCES).with("timestamp", "164144623720"),
            "AUTH_105",
            Some(RefusalCause::Nonce),
        ),
    ] {
        let exchange = exchange();
        let answer = signed.send(&exchange, "/v4/balances");
        let expected = format!(r#"{{"rc":1,"mc":"{mc}","ma":[],"result":null}}"#);
        assert_eq!((answer.status, answer.text()), (200, expected));
        if let Some(cause) = cause {
            assert_eq!(refused(&exchange, cause), 1, "{mc}");
        }
    }
}

#[test]
fn the_window_of_spot_is_the_requests_own_and_a_second_ahead() {
    let wide = "7895b225794de57ff4b64651d174e6e01df47fff40e880124a14328d6c938714";
    let narrow = "37dbd719aa2afe509c00422191096e260b5c21a6d07e059782ae5c91afd38704";
    // The server is this far ahead. Some milliseconds pass during the call.
    for (offset, window, signature, mc) in [
        (-1_000, "5000", BALANCES, "SUCCESS"),
        (-5_000, "5000", BALANCES, "AUTH_105"),
        (1_000, "5000", BALANCES, "SUCCESS"),
        (5_000, "5000", BALANCES, "AUTH_105"),
        (2_000, "2000", narrow, "AUTH_105"),
        (50_000, "60000", wide, "SUCCESS"),
        (60_000, "60000", wide, "AUTH_105"),
    ] {
        let exchange =
            Exchange::new(SimulatorConfig { clock_offset_ms: offset, ..test_config() }, vec![test_account()]);
        let signed = SignedHeaders::new(signature).with("recvwindow", window);
        assert_eq!(json_of(&signed.send(&exchange, "/v4/balances"))["mc"], mc, "{offset} {window}");
    }
}

#[test]
fn futures_have_their_own_format_and_signature() {
    for (signed, path, coin) in [
        (SignedHeaders::new(FUTURES), "/fapi", "usdt"),
        (SignedHeaders::new(FUTURES_XT).under("xt-validate-"), "/dapi", "btc"),
        // Futures neither sign nor require these two headers.
        (SignedHeaders::new(FUTURES).without("algorithms").without("recvwindow"), "/fapi", "usdt"),
    ] {
        let body = json_of(&signed.send(&exchange(), &format!("{path}{LIST}")));
        assert_eq!((&body["returnCode"], &body["error"]), (&json!(0), &Value::Null), "{body}");
        assert_eq!(body["result"][0]["coin"], coin);
    }
    let body = json_of(&SignedHeaders::new(FUTURES).send(&exchange(), &format!("/fapi{LIST}")));
    let expected = json!({
        "coin": "usdt", "walletBalance": "19.29849875", "openOrderMarginFrozen": "0.177370", "openOrderFeeFrozen": "0",
        "isolatedMargin": "0.354737", "crossedMargin": "0.177368", "availableBalance": "18.58902375", "bonus": "0",
        "bonusCumPnl": null, "coupon": "0",
    });
    assert_eq!(body["result"][0], expected);
    let one = "3e226fb7c08e4b63e0e6aceb93d7e59a6753fc756c6bb9143485ad2c42c3b2b7";
    let body =
        json_of(&SignedHeaders::new(one).send(&exchange(), "/fapi/future/user/v1/balance/detail?coin=usdt"));
    assert_eq!(body["result"], expected);
}

#[test]
fn futures_errors_have_a_text() {
    let nope = "78a9a10adf38317d5ea90b81901905554221c2dbd0944f8595255a58637c806c";
    let strange = "2d6ec7f2eaf84f5ea4cadd21fa013dceaf6a2d7023839d63b5add3aeed133960";
    for (signed, path, code, msg) in [
        (SignedHeaders::new(FUTURES).without("appkey"), LIST, "400", "the header validate-appkey is missing"),
        (SignedHeaders::new(FUTURES).with("appkey", "nobody"), LIST, "400", "the appkey does not exist"),
        (
            SignedHeaders::new(FUTURES).without("timestamp"),
            LIST,
            "400",
            "the header validate-timestamp is missing",
        ),
        (
            SignedHeaders::new(FUTURES).without("signature"),
            LIST,
            "400",
            "the header validate-signature is missing",
        ),
        (SignedHeaders::new(BALANCES), LIST, "403", "invalid signature"),
        (
            SignedHeaders::new(nope),
            "/future/user/v1/balance/detail?coin=nope",
            "invalid_coin",
            "invalid coin",
        ),
        (
            SignedHeaders::new(strange),
            "/future/user/v1/balance/list?page=1",
            "400",
            "parameter page is unknown or given more than once",
        ),
    ] {
        let answer = signed.send(&exchange(), &format!("/dapi{path}"));
        let expected = json!({
            "returnCode": 1, "msgInfo": "failure", "error": {"code": code, "msg": msg}, "result": null,
        });
        assert_eq!((answer.status, json_of(&answer)), (200, expected));
    }
}

#[test]
fn futures_refuse_timestamps_in_the_future() {
    for (offset, is_good) in [(0, true), (-900, false), (4_000, true), (5_000, false)] {
        let config = SimulatorConfig { clock_offset_ms: offset, ..test_config() };
        let exchange = Exchange::new(config, vec![test_account()]);
        let body = json_of(&SignedHeaders::new(FUTURES).send(&exchange, &format!("/fapi{LIST}")));
        let msg = body["error"]["msg"].as_str().unwrap_or_default();
        assert_eq!(msg.contains("The request time 1641446237201 exceeds"), !is_good, "{offset}: {body}");
        assert_eq!(msg.contains("limit by 5 second"), !is_good, "{offset}: {body}");
    }
}

#[test]
fn a_key_may_be_unusable_for_spot_for_futures_or_for_this_version() {
    let elsewhere = SimulatedAccount { ips: Some(vec!["10.0.0.1".parse().unwrap()]), ..test_account() };
    for (account, spot, futures) in [
        (elsewhere, "AUTH_104", "ip 127.0.0.1 is not on the whitelist"),
        (
            SimulatedAccount { key: SimulatedKeyState::Inactive, ..test_account() },
            "AUTH_102",
            "the appkey is not activated",
        ),
        (
            SimulatedAccount { key: SimulatedKeyState::NotAllowedToRead, ..test_account() },
            "AUTH_106",
            "the appkey has no permission for this",
        ),
        (
            SimulatedAccount { key: SimulatedKeyState::NotForFutures, ..test_account() },
            "SUCCESS",
            "the appkey has no permission for this",
        ),
        (
            SimulatedAccount { api: Some(SimulatedApi::V1), ..test_account() },
            "AUTH_101",
            "the appkey does not exist",
        ),
    ] {
        let exchange = Exchange::new(test_config(), vec![account]);
        assert_eq!(json_of(&SignedHeaders::new(BALANCES).send(&exchange, "/v4/balances"))["mc"], spot);
        let body = json_of(&SignedHeaders::new(FUTURES).send(&exchange, &format!("/fapi{LIST}")));
        assert_eq!(body["error"]["msg"], futures);
    }
    let new = Exchange::new(
        test_config(),
        vec![SimulatedAccount { api: Some(SimulatedApi::V4), ..test_account() }],
    );
    let old = get(new.address, &format!("/trade/api/v1/getBalance?accesskey={KEY}"), &[]);
    assert_eq!(json_of(&old), json!({"code": 307, "info": "AccessKey error"}));
    let body = json_of(&SignedHeaders::new(BALANCES).send(&new, "/v4/balances"));
    assert_eq!(body["mc"], "SUCCESS");
}

#[test]
fn a_call_over_the_limit_gets_status_429_and_locks_the_account() {
    for (limit_reply, retry_after) in [(LimitReply::Code, None), (LimitReply::Status429, Some("600"))] {
        let config = SimulatorConfig { v4_calls_per_second: 0, limit_reply, ..test_config() };
        let exchange = Exchange::new(config, vec![test_account()]);
        let answer = SignedHeaders::new(BALANCES).send(&exchange, "/v4/balances");
        assert_eq!((answer.status, answer.header("retry-after")), (429, retry_after));
        assert_eq!(json_of(&answer)["mc"], "GATEWAY_0001");
        let answer = SignedHeaders::new(FUTURES).send(&exchange, &format!("/fapi{LIST}"));
        assert_eq!((answer.status, &json_of(&answer)["error"]["code"]), (429, &json!("429")));
        let calls = exchange.simulator.call_log();
        assert_eq!((calls.count_breaches(), calls.accounts["main"].locks), (1, 1));
        assert_eq!(
            (refused(&exchange, RefusalCause::Limit), refused(&exchange, RefusalCause::Locked)),
            (1, 1)
        );
    }
}

#[test]
fn each_balance_endpoint_has_its_own_window() {
    let config = SimulatorConfig { v4_calls_per_second: 1, asset_calls_per_second: 1, ..test_config() };
    let exchange = Exchange::new(config, vec![test_account()]);
    assert_eq!(SignedHeaders::new(BALANCES).send(&exchange, "/v4/balances").status, 200);
    assert_eq!(SignedHeaders::new(USDT_BALANCE).send(&exchange, "/v4/balance?currency=usdt").status, 200);
    assert_eq!(SignedHeaders::new(FUTURES).send(&exchange, &format!("/fapi{LIST}")).status, 200);
    assert_eq!(exchange.simulator.call_log().count_breaches(), 0);
}

#[test]
fn tickers_list_the_requested_markets_or_all() {
    let exchange = exchange();
    let public = |path: &str| json_of(&get(exchange.address, path, &[]));
    assert_eq!(public("/v4/public/ticker/price")["result"].as_array().unwrap().len(), 4);
    let two = public("/v4/public/ticker/price?symbols=xt_usdt,btc_usdt");
    assert_eq!((&two["result"][0]["p"], &two["result"][1]["p"]), (&json!("2.71"), &json!("64210.00")));
    assert_eq!(public("/v4/public/ticker/24h?symbol=xt_usdt")["result"][0]["c"], "2.71");
    assert_eq!(public("/v4/public/ticker/price?symbols=xt_usdt,no_usdt")["mc"], "SYMBOL_001");
}

#[test]
fn public_calls_need_no_key() {
    let exchange = exchange();
    let public = |path: &str| json_of(&get(exchange.address, path, &[]));
    assert!(public("/v4/public/time")["result"]["serverTime"].as_i64().unwrap() >= TIME);
    assert_eq!(public("/v4/public/client")["result"]["ip"], "127.0.0.1");
    assert_eq!(public("/v4/public/symbol")["result"]["symbols"][0]["symbol"], "btc_usdt");
    assert_eq!(public("/v4/public/currencies")["result"]["currencies"][0]["currency"], "btc");
    assert_eq!(public("/v4/public/ticker/price?symbol=btc_usdt")["result"][0]["s"], "btc_usdt");
    assert_eq!(public("/v4/public/ticker/price?symbol=no_usdt")["mc"], "SYMBOL_001");
    assert_eq!(public("/v4/public/ticker/price?simbol=no_usdt")["mc"], "FUND_017");
    let list = "future/market/v1/public/symbol/list";
    assert_eq!(public(&format!("/fapi/{list}"))["result"][0]["underlyingType"], "U_BASED");
    assert_eq!(public(&format!("/dapi/{list}"))["result"][0]["underlyingType"], "COIN_BASED");
    // Futures have separate hosts, without spot.
    for path in ["/future/market/v1/public/symbol/list", "/fapi/v4/public/time", "/dapi/v4/balances"] {
        assert_eq!(get(exchange.address, path, &[]).status, 404, "{path}");
    }
    assert_eq!(exchange.simulator.call_log().unknown_requests, 3);
}

#[test]
fn faults_have_the_format_of_the_called_endpoint() {
    let under = |effect: Effect, path: &str| {
        let exchange = exchange();
        exchange.simulator.inject_fault(Fault::new(effect));
        let signature = if path == "/v4/balances" { BALANCES } else { FUTURES };
        SignedHeaders::new(signature).send(&exchange, path).text()
    };
    let list = format!("/fapi{LIST}");
    let spot = |effect| under(effect, "/v4/balances");
    assert_eq!(spot(Effect::Mc("X".to_owned())), r#"{"rc":1,"mc":"X","ma":[],"result":null}"#);
    assert_eq!(spot(Effect::Revoked), r#"{"rc":1,"mc":"AUTH_101","ma":[],"result":null}"#);
    assert_eq!(spot(Effect::Deep { levels: 2 }), r#"{"rc":0,"mc":"SUCCESS","ma":[],"result":[[]]}"#);
    let empty = r#"{"rc":0,"mc":"SUCCESS","ma":[],"result":{"totalUsdtAmount":"0","totalBtcAmount":"0","assets":[]}}"#;
    assert_eq!(spot(Effect::EmptyData), empty);
    let odd = || Effect::Row { currency: "btc".to_owned(), value: json!({"availableAmount": null}) };
    assert!(
        spot(odd()).contains(r#"[{"availableAmount":null,"currency":"btc"},{"currency":"usdt""#),
        "{}",
        spot(odd())
    );
    assert!(!spot(Effect::DropCurrency("btc".to_owned())).contains("btc\""));
    let error = Effect::Error { code: "403".to_owned(), msg: "x".to_owned() };
    let expected = r#"{"returnCode":1,"msgInfo":"failure","error":{"code":"403","msg":"x"},"result":null}"#;
    assert_eq!(under(error, &list), expected);
    assert!(under(Effect::Deep { levels: 1 }, &list).ends_with(r#""error":null,"result":[]}"#));
    assert!(under(odd(), &list).contains(r#"{"availableAmount":null,"coin":"btc"},{"coin":"usdt""#));
    let exchange = exchange();
    exchange
        .simulator
        .inject_fault(Fault::new(Effect::Maintenance).for_endpoint(SimulatedEndpoint::FuturesCoinBalances));
    assert_eq!(SignedHeaders::new(FUTURES).send(&exchange, &list).status, 200);
    assert_eq!(SignedHeaders::new(FUTURES).send(&exchange, &format!("/dapi{LIST}")).status, 503);
}

/// The signature of the call for one currency, usdt.
const USDT_BALANCE: &str = "6a5b72135f382ab8f1f1d99e404eb750c5a12236091830eba40de9f819ea0522";

#[test]
fn parts_are_served_unchanged_and_a_hidden_row_is_only_in_the_call_for_one_currency() {
    let exchange = exchange();
    let list = || json_of(&SignedHeaders::new(BALANCES).send(&exchange, "/v4/balances"))["result"].take();
    let single = || json_of(&SignedHeaders::new(USDT_BALANCE).send(&exchange, "/v4/balance?currency=usdt"));
    let default =
        json!({"trade": "0.03834082", "withdraw": "0", "lock": "0", "freeze": "0", "copyTrade": "0"});
    for (field, part) in default.as_object().unwrap() {
        assert_eq!(&list()["assets"][1][field], part, "{field}");
    }
    assert_eq!(list()["totalUsdtAmount"], "96346.7483", "1.5 BTC for 64 210 USDT, and 31.74830047 USDT");
    let row = SimulatedBalance::new("2", "5").with_parts([
        ("withdraw", json!("1.50")),
        ("lock", json!(null)),
        ("freeze", json!(7)),
    ]);
    exchange.simulator.set_row("main", SimulatedWallet::Spot, "usdt", row.clone()).unwrap();
    let text = SignedHeaders::new(BALANCES).send(&exchange, "/v4/balances").text();
    assert!(text.contains(r#","freeze":7,"lock":null,"withdraw":"1.50","predictAmount""#), "{text}");
    assert!(!text.contains(r#""trade":"5""#), "{text}");

    exchange.simulator.set_row("main", SimulatedWallet::Spot, "usdt", row.hidden()).unwrap();
    let hidden = list();
    assert_eq!(
        (hidden["assets"].as_array().unwrap().len(), &hidden["assets"][0]["currency"]),
        (1, &json!("btc"))
    );
    assert_eq!(hidden["totalUsdtAmount"], "96322", "the total knows the hidden row");
    assert_eq!(single()["result"]["frozenAmount"], "5");

    let margins = [("openOrderMarginFrozen", json!("1")), ("isolatedMargin", json!("2"))];
    let row = SimulatedBalance::new("2", "3").with_parts(margins);
    exchange.simulator.set_row("main", SimulatedWallet::FuturesUsdt, "usdt", row).unwrap();
    let text = SignedHeaders::new(FUTURES).send(&exchange, &format!("/fapi{LIST}")).text();
    assert!(
        text.contains(r#","isolatedMargin":"2","openOrderMarginFrozen":"1","availableBalance""#),
        "{text}"
    );
}

#[test]
fn the_call_for_a_currency_without_a_balance_has_three_replies() {
    for (unknown_currency, code, result) in [
        (UnknownCurrency::Error, "CURRENCY_001", json!(null)),
        (UnknownCurrency::NoRow, "SUCCESS", json!(null)),
        (UnknownCurrency::Zeros, "SUCCESS", json!("0")),
    ] {
        let account = SimulatedAccount::new("main", KEY, SECRET);
        let exchange = Exchange::new(SimulatorConfig { unknown_currency, ..test_config() }, vec![account]);
        let mut body =
            json_of(&SignedHeaders::new(USDT_BALANCE).send(&exchange, "/v4/balance?currency=usdt"));
        let result_of =
            if body["result"].is_null() { json!(null) } else { body["result"]["totalAmount"].take() };
        assert_eq!((&body["mc"], result_of), (&json!(code), result));
    }
}

#[test]
fn every_amount_may_be_zero() {
    let exchange = exchange();
    exchange.simulator.inject_fault(Fault::new(Effect::Zeros));
    let spot = SignedHeaders::new(BALANCES).send(&exchange, "/v4/balances").text();
    let row = |name: &str, id: u8| {
        format!(
            r#"{{"currency":"{name}","currencyId":{id},"frozenAmount":"0","availableAmount":"0","totalAmount":"0","convertBtcAmount":"0","convertUsdtAmount":"0","withdraw":"0","trade":"0","copyTrade":"0","lock":"0","freeze":"0","predictAmount":null}}"#
        )
    };
    assert!(spot.contains(&format!("[{},{}]", row("btc", 2), row("usdt", 3))), "{spot}");
    let body = json_of(&SignedHeaders::new(FUTURES).send(&exchange, &format!("/fapi{LIST}")));
    let expected = json!([{
        "coin": "usdt", "walletBalance": "0", "openOrderMarginFrozen": "0", "openOrderFeeFrozen": "0",
        "isolatedMargin": "0", "crossedMargin": "0", "availableBalance": "0", "bonus": "0", "bonusCumPnl": null,
        "coupon": "0",
    }]);
    assert_eq!(body["result"], expected);
}

#[test]
fn a_row_may_be_added_under_any_name() {
    let long = "x".repeat(70);
    for name in ["", " usdt", "\u{200b}usdt", "usdt\u{feff}", "us\ndt", &long] {
        let exchange = exchange();
        let value = json!({"availableAmount": "7", "availableBalance": "7"});
        exchange.simulator.inject_fault(Fault::new(Effect::Row { currency: name.to_owned(), value }));
        let names = |rows: &Value, field: &str| -> BTreeSet<String> {
            let rows = rows.as_array().unwrap().iter();
            rows.map(|row| row[field].as_str().unwrap().to_owned()).collect()
        };
        let spot = json_of(&SignedHeaders::new(BALANCES).send(&exchange, "/v4/balances"));
        assert_eq!(
            names(&spot["result"]["assets"], "currency"),
            BTreeSet::from(["btc", "usdt", name].map(str::to_owned))
        );
        let futures = json_of(&SignedHeaders::new(FUTURES).send(&exchange, &format!("/fapi{LIST}")));
        assert_eq!(names(&futures["result"], "coin"), BTreeSet::from(["usdt", name].map(str::to_owned)));
    }
}

#[test]
fn an_answer_may_be_cached_or_have_another_status() {
    let exchange =
        Exchange::new(SimulatorConfig { asset_calls_per_second: 100, ..test_config() }, vec![test_account()]);
    exchange.simulator.inject_fault(Fault::new(Effect::Cached { age: Some(5), date_behind: None }));
    let send = |path: &str| SignedHeaders::new(FUTURES).send(&exchange, &format!("{path}{LIST}"));
    assert_eq!(send("/fapi").header("age"), None);
    exchange.simulator.set_balance("main", SimulatedWallet::FuturesUsdt, "usdt", "1", "0").unwrap();
    let again = send("/fapi");
    assert_eq!(again.header("age"), Some("5"));
    assert_eq!(json_of(&again)["result"][0]["availableBalance"], "18.58902375");
    // USDT-margined and coin-margined futures are different endpoints.
    assert_eq!(json_of(&send("/dapi"))["result"][0]["coin"], "btc");
    exchange.simulator.clear_faults();
    exchange.simulator.inject_fault(Fault::new(Effect::Restatus { status: 203 }));
    let answer = send("/fapi");
    assert_eq!((answer.status, &json_of(&answer)["result"][0]["availableBalance"]), (203, &json!("1")));
}

#[test]
fn the_answered_time_may_be_wrong_while_the_clock_is_right() {
    let exchange = exchange();
    exchange.simulator.inject_fault(Fault::new(Effect::WrongTime { ahead_ms: 600_000 }).for_calls(1));
    // Only a time endpoint uses the fault up.
    assert_eq!(get(exchange.address, "/v4/public/client", &[]).status, 200);
    assert_eq!(json_of(&SignedHeaders::new(BALANCES).send(&exchange, "/v4/balances"))["mc"], "SUCCESS");
    let ahead = || {
        let body = json_of(&get(exchange.address, "/v4/public/time", &[]));
        body["result"]["serverTime"].as_i64().unwrap() - TIME
    };
    assert!((600_000..660_000).contains(&ahead()));
    assert!((0..60_000).contains(&ahead()));
}

#[test]
fn the_clock_may_step() {
    let exchange = exchange();
    let mc = || json_of(&SignedHeaders::new(BALANCES).send(&exchange, "/v4/balances"))["mc"].clone();
    assert_eq!(mc(), "SUCCESS");
    exchange.simulator.set_clock_offset_ms(3_600_000);
    assert_eq!(mc(), "AUTH_105");
    let date =
        SignedHeaders::new(BALANCES).send(&exchange, "/v4/balances").header("date").unwrap().to_owned();
    assert!(date.starts_with("Thu, 06 Jan 2022 06:1") && date.ends_with(" GMT"), "{date}");
    assert_eq!(
        json_of(&SignedHeaders::new(FUTURES).send(&exchange, &format!("/fapi{LIST}")))["returnCode"],
        1
    );
    exchange.simulator.set_clock_offset_ms(0);
    assert_eq!(mc(), "SUCCESS");
}

#[test]
fn the_error_about_a_timestamp_may_be_vague() {
    for (nonce_refusal, text) in [
        (NonceRefusal::RequestError, "Request error"),
        (NonceRefusal::OtherErrors, "other errors"),
        (NonceRefusal::SignError, "Sign error"),
    ] {
        let config = SimulatorConfig { nonce_refusal, clock_offset_ms: 90_000, ..test_config() };
        let exchange = Exchange::new(config, vec![test_account()]);
        assert_eq!(json_of(&SignedHeaders::new(BALANCES).send(&exchange, "/v4/balances"))["mc"], "AUTH_103");
        let body = json_of(&SignedHeaders::new(FUTURES).send(&exchange, &format!("/fapi{LIST}")));
        assert_eq!(body["error"], json!({"code": "403", "msg": text}));
        assert_eq!(refused(&exchange, RefusalCause::Nonce), 2);
    }
}
