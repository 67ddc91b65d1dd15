//! The control pages, and the simulator's own methods.

use crate::common::golden::{Transcript, assert_golden};

use super::{BALANCE, FrozenClock, HttpResponse, NONCE, SPOT, ServedExchange};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use xt_balance_exporter::simulator::{Effect, Fault, RefusalCause, SimulatedWallet, UnknownAccount};

#[tokio::test]
async fn balances_can_be_set_and_removed() {
    let exchange = ServedExchange::documented().await;
    let simulator = &exchange.simulator;
    simulator.set_balance("main", SimulatedWallet::Spot, "1inch", "1E-8", "").unwrap();
    simulator.set_balance("main", SimulatedWallet::Spot, "gal(ft)", "7", "0.1").unwrap();
    simulator.remove_balance("main", SimulatedWallet::Spot, "usdt").unwrap();
    assert_eq!(
        exchange.get(BALANCE).await.json()["data"],
        json!({
            "1inch": {"available": "1E-8", "freeze": ""},
            "gal(ft)": {"available": "7", "freeze": "0.1"},
        })
    );
    let nobody = simulator.set_balance("nobody", SimulatedWallet::Spot, "usdt", "1", "0");
    assert_eq!(nobody, Err(UnknownAccount("nobody".to_owned())));
}

#[tokio::test]
async fn people_can_set_the_clock() {
    let _clock = FrozenClock::new();
    let exchange = ServedExchange::documented().await;
    let set = exchange.request("PUT", "/simulator/clock", r#"{"ahead_ms":3600000}"#).await;
    assert_eq!(set.status, 200);
    assert_golden("simulator_clock", set.text());
    let time = exchange.get("/trade/api/v1/getServerTime").await;
    assert_eq!(time.header("date"), Some("fri, 12 jul 2019 09:23:52 gmt"));
    assert_eq!(time.json()["data"]["serverTime"], NONCE + 3_600_000);
    assert_eq!(exchange.get(BALANCE).await.json()["code"], 400);
    assert_eq!(exchange.count_refused(RefusalCause::Nonce), 1);
    // The offset is relative to the machine's clock, not to the last offset.
    assert_eq!(exchange.request("PUT", "/simulator/clock", r#"{"ahead_ms":-60000}"#).await.status, 200);
    assert_eq!(exchange.simulator.server_time_ms(), NONCE - 60_000);
    assert_eq!(exchange.get(BALANCE).await.text(), SPOT);
    let mut transcript = Transcript::default();
    for body in ["", r#"{"ahead_ms":"1"}"#, r#"{"ahead_ms":1,"x":1}"#, r#"{"ahead_ms":-315360000001}"#] {
        let response = exchange.request("PUT", "/simulator/clock", body).await;
        assert_eq!(response.status, 400, "{body}");
        transcript.add(body, response.text());
    }
    transcript.assert("simulator_bad_clock");
    assert_eq!(exchange.simulator.server_time_ms(), NONCE - 60_000);
}

#[tokio::test]
async fn the_help_page_and_the_state_page_are_readable() {
    let exchange = ServedExchange::documented().await;
    for path in ["/simulator/", "/simulator"] {
        let help = exchange.get(path).await;
        assert_eq!((help.status, help.header("content-type")), (200, Some("text/plain; charset=utf-8")));
        for part in [
            "main",
            "myAccessKey",
            "mySecretKey",
            &format!("curl http://{}/simulator/state", exchange.address),
        ] {
            assert!(help.text().contains(part), "{part} is not in {}", help.text());
        }
        assert!(!help.text().contains("{first}") && !help.text().contains("{base}"));
    }
    exchange.get(BALANCE).await;
    exchange.get("/trade/api/v1/getBalance?accesskey=myAccessKey&nonce=1562919832183").await;
    exchange.simulator.inject_fault(Fault::new(Effect::Silence).for_duration(Duration::from_mins(1)));
    let state = exchange.get("/simulator/state").await.json();
    let main = &state["accounts"]["main"];
    assert_eq!((&main["calls"]["accepted"], &main["calls"]["refused"]["signature"]), (&json!(1), &json!(1)));
    assert_eq!(main["balances"]["fiat"]["usd"]["available"], "20.00");
    assert_eq!(state["ips"]["127.0.0.1"]["accepted"], 1);
    assert_eq!(state["faults"][0]["fault"], json!({"effect": "silence", "seconds": 60.0}));
    assert!(!state.to_string().contains("mySecretKey"));
}

#[tokio::test]
async fn people_can_inject_and_end_faults() {
    let exchange = ServedExchange::documented().await;
    let fault = r#"{"account":"main","endpoint":"getBalance","calls":9,"seconds":60,"effect":"maintenance"}"#;
    let injected = exchange.request("POST", "/simulator/faults", fault).await;
    assert_eq!(injected.status, 200, "{}", injected.text());
    assert_eq!(exchange.get(BALANCE).await.status, 503);
    let ended = exchange.request("DELETE", "/simulator/faults", "").await;
    assert_eq!(ended.status, 200);
    assert_golden("simulator_faults_ended", ended.text());
    assert_eq!(exchange.get(BALANCE).await.status, 200);
}

#[tokio::test]
async fn the_help_page_spells_every_effect() {
    let exchange = ServedExchange::documented().await;
    let help = exchange.get("/simulator/").await;
    let effects = help.text().split("Effects\n").nth(1).unwrap();
    let mut tried = 0;
    for line in effects.lines().map(str::trim_start).filter(|line| line.starts_with(['{', '"'])) {
        // A description follows the JSON of an effect.
        let effect = serde_json::Deserializer::from_str(line).into_iter::<Value>().next().unwrap().unwrap();
        let fault = json!({"calls": 1, "effect": effect}).to_string();
        let response = exchange.request("POST", "/simulator/faults", &fault).await;
        assert_eq!(response.status, 200, "{fault}: {}", response.text());
        tried += 1;
    }
    assert_eq!(tried, 23);
}

#[tokio::test]
async fn bad_faults_are_refused_with_a_sentence() {
    let mut transcript = Transcript::default();
    for fault in [
        "",
        r#"{"effect":"explode"}"#,
        r#"{"effect":"silence","minutes":1}"#,
        r#"{"effect":{"delay":{"ms":1,"s":2}}}"#,
        r#"{"effect":"silence","seconds":-1}"#,
        r#"{"effect":"silence","seconds":1e300}"#,
        r#"{"effect":"silence","account":"nobody"}"#,
        r#"{"effect":{"status":{"status":101}}}"#,
        r#"{"effect":{"status":{"status":301,"location":"a\nb"}}}"#,
        r#"{"effect":{"restatus":{"status":600}}}"#,
        r#"{"effect":{"cached":{"ages":1}}}"#,
        r#"{"effect":{"cached":{"age":-1}}}"#,
        r#"{"effect":{"surplus":{}}}"#,
        r#"{"effect":{"wrong_time":{}}}"#,
        r#"{"effect":{"deep":{"levels":10000001}}}"#,
        r#"{"effect":{"gzip_bomb":{"mebibytes":16385}}}"#,
    ] {
        let exchange = ServedExchange::documented().await;
        let response = exchange.request("POST", "/simulator/faults", fault).await;
        assert_eq!(response.status, 400, "{fault}");
        transcript.add(fault, response.text());
        assert_eq!(exchange.get(BALANCE).await.text(), SPOT);
    }
    transcript.assert("simulator_bad_faults");
}

#[tokio::test]
async fn people_can_set_and_remove_balances() {
    let exchange = ServedExchange::documented().await;
    let path = "/simulator/accounts/main/spot/gal%28ft%29";
    let set = exchange.request("PUT", path, r#"{"available":"120.5","freeze":"0"}"#).await;
    assert_eq!(set.status, 200, "{}", set.text());
    assert_eq!(exchange.get(BALANCE).await.json()["data"]["gal(ft)"]["available"], "120.5");
    assert_eq!(exchange.request("DELETE", path, "").await.status, 200);
    assert_eq!(exchange.get(BALANCE).await.text(), SPOT);
    assert_eq!(exchange.request("DELETE", path, "").await.status, 404);
}

#[tokio::test]
async fn bad_balances_are_refused_with_a_sentence() {
    let exchange = ServedExchange::documented().await;
    let good = r#"{"available":"1","freeze":"0"}"#;
    let mut transcript = Transcript::default();
    for (path, body, status) in [
        ("nobody/spot/usdt", good, 404),
        ("main/margin/usdt", good, 404),
        ("main/spot/", good, 404),
        ("main/spot/usdt", r#"{"available":"1"}"#, 400),
        ("main/spot/usdt", r#"{"available":1,"freeze":"0"}"#, 400),
        ("main/spot/usdt", r#"{"available":"1","freeze":"0","x":1}"#, 400),
        ("main/spot/usdt", r#"{"available":"-1","freeze":"0"}"#, 400),
        ("main/spot/usdt", r#"{"available":"1","freeze":"1."}"#, 400),
        ("main/spot/usdt", r#"{"available":"1","freeze":"1","parts":{"isolatedMargin":"1"}}"#, 400),
        ("main/wallet/usdt", r#"{"available":"1","freeze":"1","parts":{"trade":"1"}}"#, 400),
    ] {
        let response = exchange.request("PUT", &format!("/simulator/accounts/{path}"), body).await;
        assert_eq!(response.status, status, "{path} {body}");
        transcript.add(&format!("{path} {body}"), response.text());
    }
    transcript.assert("simulator_bad_balances");
    assert_eq!(exchange.get(BALANCE).await.text(), SPOT);
}

#[tokio::test]
async fn people_can_set_and_remove_prices() {
    let exchange = ServedExchange::documented().await;
    let path = "/simulator/prices/gal%28ft%29_usdt";
    let set = exchange.request("PUT", path, r#"{"price":"3.25"}"#).await;
    assert_eq!(set.status, 200, "{}", set.text());
    assert_eq!(exchange.get("/data/api/v1/getTickers").await.json()["gal(ft)_usdt"]["price"], json!(3.25));
    let v4 = exchange.get("/v4/public/ticker/price?symbol=gal%28ft%29_usdt").await.json();
    assert_eq!(v4["result"][0]["p"], "3.25");
    assert_eq!(exchange.get("/simulator/state").await.json()["prices"]["gal(ft)_usdt"], "3.25");
    assert_eq!(exchange.request("DELETE", path, "").await.status, 200);
    assert_eq!(exchange.get("/data/api/v1/getTickers").await.json().get("gal(ft)_usdt"), None);
    let mut transcript = Transcript::default();
    for (method, path, body, status) in [
        ("DELETE", path, "", 404),
        ("PUT", path, r#"{"price":3.25}"#, 400),
        ("PUT", path, r#"{"price":"-1"}"#, 400),
        ("PUT", path, r#"{"price":"1","x":1}"#, 400),
        ("PUT", "/simulator/prices/", r#"{"price":"1"}"#, 404),
        ("GET", path, "", 405),
    ] {
        let response = exchange.request(method, path, body).await;
        assert_eq!(response.status, status, "{method} {path} {body}");
        transcript.add(&format!("{method} {path} {body}"), response.text());
    }
    transcript.assert("simulator_bad_prices");
}

#[tokio::test]
async fn the_control_pages_know_their_methods_and_cap() {
    let exchange = ServedExchange::documented().await;
    for (method, path, status) in [
        ("POST", "/simulator/", 405),
        ("PUT", "/simulator/state", 405),
        ("GET", "/simulator/faults", 405),
        ("GET", "/simulator/clock", 405),
        ("GET", "/simulator/accounts/main/spot/usdt", 405),
        ("GET", "/simulator/nothing", 404),
    ] {
        assert_eq!(exchange.request(method, path, "").await.status, status, "{method} {path}");
    }
    let padded = format!(r#"{{"effect":"silence"}}{}"#, " ".repeat(64 * 1024));
    let mut stream = exchange.send_request("POST", "/simulator/faults", &padded).await;
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await; // unread body: the close may be a reset
    assert_eq!(HttpResponse::parse(&bytes).status, 413);
    let calls = exchange.simulator.call_log();
    assert!(calls.records.is_empty() && calls.unknown_requests == 0);
}
