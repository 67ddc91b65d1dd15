//! Faults: the calls that they hit, and their effects.

use super::{
    BALANCE, FUNDS_1, FUNDS_2, FrozenClock, HttpResponse, KeepAliveConnection, NONCE, SPOT, START,
    ServedExchange, test_account, test_config,
};
use flate2::read::GzDecoder;
use serde_json::json;
use std::io::ErrorKind;
use std::io::Read as _;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::task::yield_now;
use xt_balance_exporter::simulator::{
    Effect, Fault, RefusalCause, SimulatedAccount, SimulatedEndpoint, SimulatedWallet,
};

/// Unusual currency names.
fn strange_names() -> Vec<String> {
    let long = "x".repeat(70);
    ["", " usdt", "\u{200b}usdt", "usdt\u{feff}", "us\ndt", &long].map(str::to_owned).into()
}

const OTHERS_BALANCE: &str = "/trade/api/v1/getBalance?accesskey=otherAccessKey&nonce=1562919832183\
    &signature=12ac78631034fb9a727da17628bf7fbf714c6cff7b1d20e488abbbf5cd086949";

#[tokio::test]
async fn a_fault_may_be_any_status() {
    for status in [301, 404, 429, 500, 502] {
        let effect = Effect::Status {
            status,
            body: "unchanged".to_owned(),
            content_type: Some("text/plain".to_owned()),
            retry_after: Some("30".to_owned()),
            location: Some("http://127.0.0.1:1/".to_owned()),
        };
        let response = ServedExchange::documented().await.get_with_fault(effect).await;
        assert_eq!((response.status, response.text()), (status, "unchanged"));
        assert_eq!(response.header("content-type"), Some("text/plain"));
        assert_eq!(response.header("retry-after"), Some("30"));
        assert_eq!(response.header("location"), Some("http://127.0.0.1:1/"));
    }
    let bare = ServedExchange::documented().await.get_with_fault(Effect::from_status(502)).await;
    assert_eq!(bare.status, 502);
    assert!(bare.text().contains("Bad Gateway"));
}

#[tokio::test]
async fn a_fault_may_be_a_maintenance_page() {
    let exchange = ServedExchange::documented().await;
    let response = exchange.get_with_fault(Effect::Maintenance).await;
    assert_eq!((response.status, response.header("content-type")), (503, Some("text/html; charset=utf-8")));
    assert!(response.text().starts_with("<!DOCTYPE html>"));
    assert_eq!(exchange.simulator.call_log().accounts["main"].faulted, 1);
}

#[tokio::test]
async fn a_fault_may_be_any_code() {
    let effect = Effect::Code {
        code: 500,
        info: None,
        msg: Some("price scale error".to_owned()),
        msg_info: Some(json!({"template": "price scale error"})),
    };
    let response = ServedExchange::documented().await.get_with_fault(effect).await;
    let expected = json!({
        "code": 500,
        "msg": "price scale error",
        "msgInfo": {"template": "price scale error"},
    });
    assert_eq!((response.status, response.json()), (200, expected));
}

#[tokio::test]
async fn a_fault_may_be_any_text() {
    for text in ["", "{", r#"{"code":200,"data":null}"#, "[]", "\u{0}"] {
        let response = ServedExchange::documented().await.get_with_fault(Effect::Body(text.to_owned())).await;
        assert_eq!((response.status, response.text()), (200, text));
    }
}

#[tokio::test]
async fn a_fault_may_be_deep() {
    let response = ServedExchange::documented().await.get_with_fault(Effect::Deep { levels: 100_000 }).await;
    assert_eq!(response.text().matches('[').count(), 100_000);
    assert!(response.text().ends_with(r#"]],"info":"success"}"#));
}

#[tokio::test]
async fn a_fault_may_be_silence() {
    let exchange = ServedExchange::documented().await;
    exchange.simulator.inject_fault(Fault::new(Effect::Silence).for_calls(1));
    let silent = exchange.send_request("GET", BALANCE, "").await;
    while exchange.simulator.call_log().accounts["main"].faulted == 0 {
        yield_now().await;
    }
    // The exchange answers another call meanwhile, so it had time to answer the first one.
    assert_eq!(exchange.get(BALANCE).await.text(), SPOT);
    let read = silent.try_read(&mut [0]);
    assert_eq!(read.unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_fault_may_be_a_reset() {
    let exchange = ServedExchange::documented().await;
    exchange.simulator.inject_fault(Fault::new(Effect::Reset));
    let mut stream = exchange.send_request("GET", BALANCE, "").await;
    let read = stream.read_to_end(&mut Vec::new()).await;
    assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_fault_may_be_endless() {
    let exchange = ServedExchange::documented().await;
    exchange.simulator.inject_fault(Fault::new(Effect::Endless));
    let mut stream = exchange.send_request("GET", BALANCE, "").await;
    let mut bytes = vec![0; 4 << 20];
    stream.read_exact(&mut bytes).await.unwrap();
    let response = HttpResponse::parse(&bytes);
    assert_eq!((response.status, response.header("content-length")), (200, None));
    assert!(
        String::from_utf8_lossy(&response.body).contains(r#""c9999":{"freeze":"0.00","available":"1.00"}"#)
    );
}

#[tokio::test]
async fn a_fault_may_be_a_gzip_bomb() {
    let exchange = ServedExchange::documented().await;
    let response = exchange.get_with_fault(Effect::GzipBomb { mebibytes: 5 }).await;
    assert_eq!(response.header("content-encoding"), Some("gzip"));
    assert!(response.body.len() < 20_000, "{} bytes on the wire", response.body.len());
    let mut decoded = Vec::new();
    GzDecoder::new(response.body.as_slice()).read_to_end(&mut decoded).unwrap();
    assert_eq!(decoded.len(), 5 << 20);
    assert!(decoded.iter().all(|&byte| byte == b' '));
}

#[tokio::test]
async fn a_fault_may_be_late_or_slow() {
    let bytes = u32::try_from(SPOT.len()).unwrap();
    for (effect, least) in [
        (Effect::Delay { ms: 3_000 }, Duration::from_secs(3)),
        (Effect::Slow { every_ms: 20 }, Duration::from_millis(20) * (bytes - 1)),
    ] {
        let exchange = ServedExchange::documented().await;
        exchange.simulator.inject_fault(Fault::new(effect));
        let clock = FrozenClock::new();
        let start = tokio::time::Instant::now();
        let mut stream = exchange.send_request("GET", BALANCE, "").await;
        while exchange.simulator.call_log().records.is_empty() {
            yield_now().await;
        }
        drop(clock); // from now on the clock skips every wait
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(HttpResponse::parse(&bytes).text(), SPOT);
        assert!(start.elapsed() >= least);
        assert_eq!(exchange.simulator.call_log().accounts["main"].accepted, 1);
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_fault_may_cut_the_answer_short() {
    let response = ServedExchange::documented().await.get_with_fault(Effect::CutShort).await;
    assert_eq!(response.header("content-length"), Some(SPOT.len().to_string().as_str()));
    assert_eq!(response.text(), &SPOT[..SPOT.len() / 2]);
}

#[tokio::test]
async fn a_fault_may_revoke_the_key() {
    let exchange = ServedExchange::documented().await;
    let response = exchange.get_with_fault(Effect::Revoked).await;
    assert_eq!(response.json(), json!({"code": 307, "info": "AccessKey error"}));
    assert_eq!(exchange.count_refused(RefusalCause::AccessKey), 1);
}

#[tokio::test]
async fn a_fault_may_change_the_rows() {
    let row = json!({"available": "NaN", "freeze": null});
    let odd = Effect::Row { currency: "eth".to_owned(), value: row.clone() };
    let exchange = ServedExchange::documented().await;
    exchange.simulator.inject_fault(Fault::new(Effect::DropCurrency("usdt".to_owned())));
    let response = exchange.get_with_fault(odd).await.json();
    assert_eq!(response["data"], json!({"1inch": {"freeze": "0", "available": "150"}, "eth": row}));
    let response = exchange.get_with_fault(Effect::EmptyData).await;
    assert_eq!(response.text(), r#"{"code":200,"data":{},"info":"success"}"#);
}

#[tokio::test]
async fn a_fault_may_make_every_amount_zero() {
    let exchange = ServedExchange::documented().await;
    let zeros = r#"{"code":200,"data":{"1inch":{"freeze":"0","available":"0"},"usdt":{"freeze":"0","available":"0"}},"info":"success"}"#;
    assert_eq!(exchange.get_with_fault(Effect::Zeros).await.text(), zeros);
    let wallet = r#"{"code":200,"data":{"btc":{"freeze":"0","available":"0"}},"info":"success"}"#;
    assert_eq!(exchange.get(FUNDS_1).await.text(), wallet);
    exchange.simulator.clear_faults();
    assert_eq!(exchange.get(FUNDS_2).await.text(), SPOT);
}

#[tokio::test]
async fn a_fault_may_add_a_row_of_any_name() {
    let row = json!({"available": "7", "freeze": "1"});
    for name in strange_names() {
        let exchange = ServedExchange::documented().await;
        let effect = json!({"row": {"currency": name, "value": row}});
        let fault = json!({"effect": effect}).to_string();
        assert_eq!(exchange.request("POST", "/simulator/faults", &fault).await.status, 200, "{fault}");
        let data = exchange.get(BALANCE).await.json()["data"].clone();
        assert_eq!((data.as_object().unwrap().len(), &data[&name]), (3, &row), "{data}");
        assert_eq!(data["usdt"]["available"], "3867.43650012");
    }
}

#[tokio::test]
async fn a_fault_may_change_the_status_alone() {
    for status in [203, 500] {
        let exchange = ServedExchange::documented().await;
        let response = exchange.get_with_fault(Effect::Restatus { status }).await;
        assert_eq!((response.status, response.text()), (status, SPOT));
        assert_eq!(response.header("content-type"), Some("application/json;charset=utf-8"));
        assert_eq!(exchange.simulator.call_log().accounts["main"].accepted, 1);
        let refused = exchange.get("/trade/api/v1/getBalance?accesskey=myAccessKey").await;
        assert_eq!((refused.status, &refused.json()["code"]), (status, &json!(400)));
    }
}

#[tokio::test]
async fn a_fault_may_be_a_shared_cache() {
    let _clock = FrozenClock::new();
    for (age, date_behind, sent_age, sent_date) in [
        (None, None, None, START),
        (Some(3_600), None, Some("3600"), START),
        (None, Some(0), None, "fri, 12 jul 2019 08:24:22 gmt"),
        (Some(90), Some(90), Some("90"), "fri, 12 jul 2019 08:22:52 gmt"),
    ] {
        let other = SimulatedAccount::new("other", "otherAccessKey", "mySecretKey").with_balance(
            SimulatedWallet::Spot,
            "eth",
            "9",
            "0",
        );
        let exchange = ServedExchange::with_accounts(test_config(), vec![test_account(), other]).await;
        assert_eq!(exchange.get(OTHERS_BALANCE).await.json()["data"]["eth"]["available"], "9");

        exchange.simulator.inject_fault(Fault::new(Effect::Cached { age, date_behind }));
        let first = exchange.get(BALANCE).await;
        assert_eq!((first.text(), first.header("age"), first.header("date")), (SPOT, None, Some(START)));

        exchange.simulator.set_balance("main", SimulatedWallet::Spot, "usdt", "1", "1").unwrap();
        tokio::time::advance(Duration::from_secs(30)).await;
        for target in [BALANCE, OTHERS_BALANCE] {
            let again = exchange.get(target).await;
            assert_eq!((again.status, again.text()), (200, SPOT));
            assert_eq!(again.header("content-type"), Some("application/json;charset=utf-8"));
            assert_eq!((again.header("age"), again.header("date")), (sent_age, Some(sent_date)));
        }
        let calls = exchange.simulator.call_log();
        assert_eq!((calls.accounts["main"].accepted, calls.accounts["main"].faulted), (1, 1));
        // The cache holds one answer for each endpoint.
        assert_eq!(exchange.get(FUNDS_1).await.json()["data"]["btc"]["available"], "1.5");

        // A fault that is injected again begins with an empty cache.
        exchange.simulator.clear_faults();
        exchange.simulator.inject_fault(Fault::new(Effect::Cached { age, date_behind }));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(exchange.get(BALANCE).await.json()["data"]["usdt"]["available"], "1");
    }
}

#[tokio::test]
async fn a_fault_may_send_an_answer_once_more() {
    let _clock = FrozenClock::new();
    let exchange = ServedExchange::documented().await;
    exchange.simulator.inject_fault(Fault::new(Effect::Surplus { after_ms: 130 }).for_calls(1));
    let mut connection = KeepAliveConnection::new(&exchange).await;
    connection.send_get(BALANCE).await;
    let first = connection.read_response().await;
    assert_eq!(first.text(), SPOT);

    // A call before the copy is due gets its own response.
    exchange.simulator.set_balance("main", SimulatedWallet::Spot, "usdt", "1", "1").unwrap();
    connection.send_get(BALANCE).await;
    assert_eq!(connection.read_response().await.json()["data"]["usdt"]["available"], "1");
    tokio::time::advance(Duration::from_millis(125)).await;
    exchange.get("/trade/api/v1/getServerTime").await;
    assert!(connection.is_quiet());

    tokio::time::advance(Duration::from_millis(6)).await; // timers are exact to a millisecond
    let copy = connection.read_response().await;
    assert_eq!((copy.status, copy.text()), (200, SPOT));
    for name in ["content-type", "content-length", "date"] {
        assert_eq!(copy.header(name), first.header(name), "{name}");
        assert!(copy.header(name).is_some(), "{name}");
    }
    // The connection still works.
    connection.send_get(BALANCE).await;
    assert_eq!(connection.read_response().await.json()["data"]["usdt"]["available"], "1");
    assert_eq!(exchange.simulator.call_log().accounts["main"].accepted, 3);
}

#[tokio::test]
async fn a_client_that_closes_gets_no_answer_twice() {
    let exchange = ServedExchange::documented().await;
    assert_eq!(exchange.get_with_fault(Effect::Surplus { after_ms: 0 }).await.text(), SPOT);
}

#[tokio::test]
async fn a_fault_may_make_the_answered_time_wrong() {
    const TIME: &str = "/trade/api/v1/getServerTime";
    let _clock = FrozenClock::new();
    let exchange = ServedExchange::documented().await;
    let time = async || exchange.get(TIME).await.json()["data"]["serverTime"].as_i64().unwrap() - NONCE;
    for ahead_ms in [600_000, -600_000] {
        exchange.simulator.inject_fault(Fault::new(Effect::WrongTime { ahead_ms }).for_calls(1));
        // A call for balances does not use the fault up, and the nonce is still in the window.
        assert_eq!(exchange.get(BALANCE).await.text(), SPOT);
        let response = exchange.get(TIME).await;
        assert_eq!(response.json()["data"]["serverTime"], NONCE + ahead_ms);
        assert_eq!(response.header("date"), Some(START));
        assert_eq!((time().await, exchange.simulator.server_time_ms()), (0, NONCE));
    }
}

#[tokio::test]
async fn faults_hit_only_what_they_name_and_play_in_order() {
    let exchange = ServedExchange::documented().await;
    let simulator = &exchange.simulator;
    simulator.inject_fault(Fault::new(Effect::from_status(500)).for_account("other"));
    simulator.inject_fault(Fault::new(Effect::from_status(501)).for_endpoint(SimulatedEndpoint::GetFunds));
    simulator.inject_fault(Fault::new(Effect::from_status(502)).for_account("main").for_calls(1));
    simulator.inject_fault(
        Fault::new(Effect::Maintenance).for_endpoint(SimulatedEndpoint::GetBalance).for_calls(1),
    );
    assert_eq!(exchange.get("/trade/api/v1/getServerTime").await.status, 200);
    assert_eq!(exchange.get(BALANCE).await.status, 502);
    assert_eq!(exchange.get(BALANCE).await.status, 503);
    assert_eq!(exchange.get(FUNDS_1).await.status, 501);
    simulator.clear_faults();
    let _clock = FrozenClock::new();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(exchange.get(FUNDS_1).await.status, 200);
}

#[tokio::test]
async fn a_fault_may_last_for_a_time() {
    let exchange = ServedExchange::documented().await;
    let _clock = FrozenClock::new();
    exchange.simulator.inject_fault(Fault::new(Effect::Maintenance).for_duration(Duration::from_secs(45)));
    tokio::time::advance(Duration::from_millis(44_999)).await;
    assert_eq!(exchange.get(BALANCE).await.status, 503);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(exchange.get(BALANCE).await.status, 200);
}
