//! v1: responses, strictness and limits.

use super::{
    BALANCE, FUNDS_1, FUNDS_2, FUNDS_3, FrozenClock, KeepAliveConnection, NONCE, SPOT, START, ServedExchange,
    test_account, test_config,
};
use serde_json::json;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use xt_balance_exporter::simulator::{
    Effect, ErrorShape, Fault, LimitReply, NonceRefusal, RefusalCause, SimulatedAccount, SimulatedKeyState,
    SimulatedWallet, Simulator, SimulatorConfig, market, max_calls_in_window,
};

#[tokio::test]
async fn signed_calls_get_the_documented_shape() {
    let exchange = ServedExchange::documented().await;
    let response = exchange.get(BALANCE).await;
    assert_eq!((response.status, response.text()), (200, SPOT));
    assert_eq!(response.header("content-type"), Some("application/json;charset=utf-8"));
    assert_eq!(exchange.get(FUNDS_2).await.text(), SPOT);
    let wallet = r#"{"code":200,"data":{"btc":{"freeze":"0.00","available":"1.5"}},"info":"success"}"#;
    assert_eq!(exchange.get(FUNDS_1).await.text(), wallet);
    assert_eq!(exchange.simulator.call_log().accounts["main"].accepted, 3);
}

#[tokio::test]
async fn the_third_wallet_is_fiat() {
    let exchange = ServedExchange::documented().await;
    assert_eq!(exchange.get(FUNDS_3).await.json()["data"]["usd"]["available"], "20.00");
}

#[tokio::test]
async fn unsigned_calls_get_the_documented_shape() {
    let exchange = ServedExchange::documented().await;
    let time = exchange.get("/trade/api/v1/getServerTime").await.json();
    assert_eq!((&time["code"], &time["info"]), (&json!(200), &json!("success")));
    assert!(time["data"]["serverTime"].as_i64().unwrap() >= NONCE);
    let accounts = exchange.get("/trade/api/v1/getAccounts").await.json();
    assert_eq!(accounts["data"][1], json!({"name": " Trading account ", "id": 2}));
    let tickers = exchange.get("/data/api/v1/getTickers").await.json();
    assert_eq!(tickers["ltc_usdt"]["price"], json!(72.35));
    for field in ["high", "moneyVol", "rate", "low", "price", "ask", "bid", "coinVol"] {
        assert!(tickers["btc_usdt"][field].is_number(), "{field}: {tickers}");
    }
    assert_eq!(tickers.get("code"), None);
}

#[tokio::test]
async fn the_server_time_can_be_off() {
    let config = SimulatorConfig { clock_offset_ms: -90_000, ..test_config() };
    let exchange = ServedExchange::new(config, test_account()).await;
    let response = exchange.get(BALANCE).await.json();
    assert_eq!(response["code"], 400);
    let info = response["info"].as_str().unwrap();
    assert!(info.starts_with("nonce 1562919832183 is outside the window: server time is 15629197"), "{info}");
    assert_eq!(exchange.count_refused(RefusalCause::Nonce), 1);
}

#[tokio::test]
async fn a_signed_call_may_be_spelled_in_many_ways() {
    let signature = "84b2653615cbb0bbc19af3f4fdb609f3a60530651b75e2aa788029c5dfe7e452";
    let upper = signature.to_uppercase();
    for query in [
        format!("signature={signature}&nonce=1562919832183&accesskey=myAccessKey"),
        format!("accesskey=myAccessKey&nonce=1562919832183&signature={signature}&"),
        format!("accesskey=myAccessKey&nonce=1562919832183&signature={upper}"),
        format!("accesskey=my%41ccess%4bey&nonce=1562919832183&signature={signature}"),
        // The signature covers further parameters too: an example from the documentation.
        "accesskey=myAccessKey&nonce=1562919832183&market=btc_usdt&id=123\
         &signature=a4dbea1b723ef9f55bf236316977054b2628057811f92d35a7e932fe179de02e"
            .to_owned(),
    ] {
        let exchange = ServedExchange::documented().await;
        let response = exchange.get(&format!("/trade/api/v1/getBalance?{query}")).await;
        assert_eq!(response.text(), SPOT, "{query}");
    }
}

#[tokio::test]
async fn refusals_state_their_cause() {
    let signed = "signature=84b2653615cbb0bbc19af3f4fdb609f3a60530651b75e2aa788029c5dfe7e452";
    let account_4 = "getFunds?accesskey=myAccessKey&account=4&nonce=1562919832183\
        &signature=43cfd339f59ec0c9c0f3db6986d04752f758cb677c1381c901a6640c3a12f432";
    for (call, code, info) in [
        ("getBalance".to_owned(), 400, "parameter accesskey is missing"),
        ("getBalance?accesskey=no".to_owned(), 307, "AccessKey error"),
        ("getBalance?accesskey=myAccessKey".to_owned(), 400, "parameter nonce is missing"),
        (
            "getBalance?accesskey=myAccessKey&nonce=156291983218".to_owned(),
            400,
            "nonce 156291983218 is not a Unix time of 13 digits",
        ),
        (
            "getBalance?accesskey=myAccessKey&nonce=%2B562919832183".to_owned(),
            400,
            "nonce +562919832183 is not a Unix time of 13 digits",
        ),
        ("getBalance?accesskey=myAccessKey&nonce=1562919832183".to_owned(), 308, "Sign error"),
        (format!("getFunds?accesskey=myAccessKey&account=1&nonce=1562919832183&{signed}"), 308, "Sign error"),
        (
            format!("getBalance?accesskey=myAccessKey&nonce=1562919832183&nonce=1562919832183&{signed}"),
            400,
            "parameter nonce is given more than once",
        ),
        ("getBalance?accesskey=%zz".to_owned(), 400, "parameter accesskey is not percent-encoded"),
        (
            format!("getFunds?accesskey=myAccessKey&nonce=1562919832183&{signed}"),
            400,
            "parameter account is missing: it must be 1, 2 or 3",
        ),
        (account_4.to_owned(), 400, "parameter account is 4: it must be 1, 2 or 3"),
    ] {
        let exchange = ServedExchange::documented().await;
        let response = exchange.get(&format!("/trade/api/v1/{call}")).await;
        let body = response.json();
        assert_eq!((response.status, &body["code"]), (200, &json!(code)), "{call}: {body}");
        assert!(body["info"].as_str().unwrap().starts_with(info), "{call}: {body}");
        assert_eq!(body.get("data"), None);
    }
}

#[tokio::test]
async fn a_key_may_be_unusable() {
    let elsewhere = SimulatedAccount { ips: Some(vec!["10.0.0.1".parse().unwrap()]), ..test_account() };
    let inactive = SimulatedAccount { key: SimulatedKeyState::Inactive, ..test_account() };
    let blind = SimulatedAccount { key: SimulatedKeyState::NotAllowedToRead, ..test_account() };
    for (account, cause, info) in [
        (elsewhere, RefusalCause::Ip, "AccessKey error: IP 127.0.0.1 is not on the IP whitelist of the key"),
        (inactive, RefusalCause::Inactive, "AccessKey error: the key is not activated"),
        (blind, RefusalCause::Permission, "AccessKey error: the key has no read permission"),
    ] {
        let exchange = ServedExchange::new(test_config(), account).await;
        assert_eq!(exchange.get(BALANCE).await.json(), json!({"code": 307, "info": info}));
        assert_eq!(exchange.count_refused(cause), 1);
    }
    let listed = SimulatedAccount { ips: Some(vec!["127.0.0.1".parse().unwrap()]), ..test_account() };
    assert_eq!(ServedExchange::new(test_config(), listed).await.get(BALANCE).await.text(), SPOT);
}

#[tokio::test]
async fn a_nonce_is_accepted_once() {
    let config = SimulatorConfig { strict_nonce: true, ..test_config() };
    let exchange = ServedExchange::new(config, test_account()).await;
    assert_eq!(exchange.get(BALANCE).await.text(), SPOT);
    let response = exchange.get(FUNDS_1).await.json();
    let info = "nonce 1562919832183 is not above the last accepted nonce 1562919832183";
    assert_eq!(response, json!({"code": 400, "info": info}));
    assert_eq!(exchange.count_refused(RefusalCause::Replay), 1);
}

#[tokio::test]
async fn errors_have_the_formats_of_the_real_exchange() {
    let bad_key = "/trade/api/v1/getBalance?accesskey=no";
    let shaped = async |error_shape, target| {
        let config = SimulatorConfig { error_shape, ..test_config() };
        ServedExchange::new(config, test_account()).await.get(target).await.json()
    };
    assert_eq!(
        shaped(ErrorShape::OldAuth, bad_key).await,
        json!({"code": 404, "info": "请检查accesskey是否有效"})
    );
    let missing = shaped(ErrorShape::OldAuth, "/trade/api/v1/getBalance").await;
    assert_eq!(missing, json!({"code": 400, "info": "parameter accesskey is missing"}));
    let msg_info = json!({"template": "AccessKey error", "args": null, "code": null});
    assert_eq!(
        shaped(ErrorShape::MsgInfo, bad_key).await,
        json!({"code": 307, "msg": "AccessKey error", "msgInfo": msg_info, "data": {}})
    );
}

#[tokio::test]
async fn the_fourth_asset_call_locks_the_account_for_ten_minutes() {
    let config = SimulatorConfig { nonce_window: Duration::from_hours(1), ..test_config() };
    let exchange = ServedExchange::new(config, test_account()).await;
    let _clock = FrozenClock::new();
    let mut responses = Vec::new();
    for _ in 0..4 {
        responses.push(exchange.get(BALANCE).await.json());
    }
    assert!(responses[..3].iter().all(|response| response["code"] == 200), "{responses:?}");
    let info = "account locked: more than 3 asset calls in a second, try again in 600 seconds";
    assert_eq!(responses[3], json!({"code": 404, "info": info}));
    assert_eq!(exchange.get(FUNDS_1).await.json()["code"], 404);
    let calls = exchange.simulator.call_log();
    assert_eq!((calls.count_breaches(), calls.accounts["main"].locks), (1, 1));
    assert_eq!(calls.accounts["main"].locked_for_seconds, Some(600));
    assert_eq!(
        (exchange.count_refused(RefusalCause::Limit), exchange.count_refused(RefusalCause::Locked)),
        (1, 1)
    );
    assert_eq!(max_calls_in_window(&calls.asset_call_times("main"), Duration::from_secs(1)), 5);
    assert_eq!(calls.call_times_from("127.0.0.1".parse().unwrap()).len(), 5);

    tokio::time::advance(Duration::from_mins(10)).await;
    assert_eq!(exchange.get(BALANCE).await.text(), SPOT);
}

#[tokio::test]
async fn a_limit_may_be_reported_by_status_429() {
    let config =
        SimulatorConfig { asset_calls_per_second: 0, limit_reply: LimitReply::Status429, ..test_config() };
    let exchange = ServedExchange::new(config, test_account()).await;
    let response = exchange.get(BALANCE).await;
    assert_eq!((response.status, response.header("retry-after")), (429, Some("600")));
    assert_eq!(response.json()["code"], 404);
}

#[tokio::test]
async fn other_paths_and_methods_are_refused_and_counted() {
    let exchange = ServedExchange::documented().await;
    assert_eq!(exchange.get("/trade/api/v1/getOpenOrders").await.status, 404);
    assert_eq!(exchange.get("/").await.status, 404);
    let posted = exchange.request("POST", "/trade/api/v1/getBalance", "").await;
    assert_eq!((posted.status, posted.header("allow")), (405, Some("get")));
    assert_eq!(exchange.simulator.call_log().unknown_requests, 3);
}

#[tokio::test]
async fn one_connection_may_carry_many_calls() {
    let exchange = ServedExchange::documented().await;
    let mut connection = KeepAliveConnection::new(&exchange).await;
    for _ in 0..2 {
        connection.send_get(BALANCE).await;
        assert_eq!(connection.read_response().await.text(), SPOT);
    }
}

#[tokio::test]
async fn the_date_follows_the_exchanges_clock() {
    let _clock = FrozenClock::new();
    let exchange = ServedExchange::documented().await;
    for path in [BALANCE, "/nothing", "/simulator/"] {
        assert_eq!(exchange.get(path).await.header("date"), Some(START), "{path}");
    }
    tokio::time::advance(Duration::from_secs(30)).await;
    let date = async || exchange.get(BALANCE).await.header("date").map(str::to_owned);
    assert_eq!(date().await.as_deref(), Some("fri, 12 jul 2019 08:24:22 gmt"));
    exchange.simulator.set_clock_offset_ms(-90_000);
    assert_eq!(date().await.as_deref(), Some("fri, 12 jul 2019 08:22:52 gmt"));
    exchange.simulator.inject_fault(Fault::new(Effect::Maintenance));
    assert_eq!(date().await.as_deref(), Some("fri, 12 jul 2019 08:22:52 gmt"));
}

#[tokio::test]
async fn the_error_about_a_nonce_may_be_vague() {
    for (nonce_refusal, code, info) in [
        (NonceRefusal::RequestError, 400, "Request error"),
        (NonceRefusal::OtherErrors, 404, "other errors"),
        (NonceRefusal::SignError, 308, "Sign error"),
    ] {
        let expected = json!({"code": code, "info": info});
        let config = SimulatorConfig { nonce_refusal, strict_nonce: true, ..test_config() };
        let exchange = ServedExchange::new(config, test_account()).await;
        assert_eq!(exchange.get(BALANCE).await.text(), SPOT);
        assert_eq!(exchange.get(FUNDS_1).await.json(), expected);
        exchange.simulator.set_clock_offset_ms(90_000);
        assert_eq!(exchange.get(BALANCE).await.json(), expected);
        assert_eq!(
            (exchange.count_refused(RefusalCause::Replay), exchange.count_refused(RefusalCause::Nonce)),
            (1, 1)
        );
        let exchange =
            ServedExchange::new(SimulatorConfig { nonce_refusal, ..test_config() }, test_account()).await;
        let short = "/trade/api/v1/getBalance?accesskey=myAccessKey&nonce=1";
        assert_eq!(exchange.get(short).await.json(), expected);
        // A missing nonce is not a wrong nonce.
        let missing = exchange.get("/trade/api/v1/getBalance?accesskey=myAccessKey").await.json();
        assert_eq!(missing, json!({"code": 400, "info": "parameter nonce is missing"}));
    }
}

#[tokio::test]
async fn serving_ends_even_while_a_call_hangs() {
    let simulator = Simulator::new(test_config(), vec![test_account()]);
    simulator.inject_fault(Fault::new(Effect::Silence));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let served = simulator.clone();
    let serving = tokio::spawn(async move { served.serve(listener, async { drop(stopped.await) }).await });
    let exchange = ServedExchange { simulator, address };
    let mut silent = exchange.send_request("GET", BALANCE, "").await;
    while exchange.simulator.call_log().records.is_empty() {
        yield_now().await;
    }
    tokio::time::pause();
    stop.send(()).unwrap();
    serving.await.unwrap();
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn the_demo_accounts_have_plausible_keys_and_amounts() {
    let accounts = market::create_accounts();
    let names: Vec<_> = accounts.iter().map(|account| account.name.as_str()).collect();
    assert_eq!(names, ["treasury", "market-maker", "arbitrage", "cold-storage", "grid-bot"]);
    for account in &accounts {
        let spot = &account.wallets[&SimulatedWallet::Spot];
        assert!(spot.len() >= 24, "{} lists {}", account.name, spot.len());
        assert!(account.access_key.starts_with("de300000-") && account.access_key.len() == 36);
        assert!(account.secret_key.starts_with("de300000") && account.secret_key.len() == 40);
        for (currency, balance) in spot {
            for amount in [&balance.available, &balance.freeze] {
                let (whole, part) = amount.split_once('.').unwrap();
                assert!((2..=8).contains(&part.len()), "{currency} {amount}");
                assert!(whole.parse::<u64>().is_ok() && part.parse::<u64>().is_ok(), "{currency} {amount}");
            }
        }
    }
}
