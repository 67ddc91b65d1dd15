//! `/api/v1/balances`: the exchange's own digits, and nothing where nothing is known.

use crate::common::{ACCESS_KEY, Exchange, Exporter, SECRET_KEY, until};
use serde_json::{Value, json};
use xt_balance_exporter::simulator::{
    Effect, Fault, SimulatedAccount, SimulatedBalance, SimulatedWallet, SimulatorConfig,
};

/// More digits than any float holds.
const LONG: &str = "12345678901234567.123456789012345678";

fn exchange() -> Exchange {
    let account = SimulatedAccount::new("main", ACCESS_KEY, SECRET_KEY)
        .with_balance(SimulatedWallet::Spot, "usdt", LONG, "0.10")
        .with_balance(SimulatedWallet::Spot, "btc", "0.00000001", "0.00");
    Exchange::new(SimulatorConfig::default(), vec![account])
}

fn json(exporter: &Exporter, query: &str) -> Value {
    let answer = exporter.get(&format!("/api/v1/balances{query}"));
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{query}");
    serde_json::from_slice(&answer.body).unwrap()
}

#[test]
fn amounts_have_the_digits_of_the_exchange() {
    let exchange = exchange();
    let exporter = Exporter::serve(
        &exchange.url(),
        &[
            "--balance.watch=usdt=500:200",
            "--balance.watch=xrp",
            "--poll.interval=1s",
            "--poll.timeout=900ms",
        ],
    );
    let all = until("the second poll confirms that xrp is missing", || {
        let all = json(&exporter, "");
        (all["wallets"][0]["state"] == "fresh").then_some(all)
    });
    let wallet = &all["wallets"][0];
    assert_eq!((&wallet["account"], &wallet["wallet"]), (&json!("main"), &json!("spot")));
    let in_orders = json!({"trade": "0.10", "withdraw": "0", "lock": "0", "freeze": "0", "copy_trade": "0"});
    let expected = json!([
        {"currency": "btc", "free": "0.00000001", "frozen": "0.00", "frozen_parts": {}, "present": true, "thresholds": null},
        {"currency": "usdt", "free": LONG, "frozen": "0.10", "frozen_parts": in_orders, "present": true, "thresholds": {"warn": 500.0, "page": 200.0}},
        {"currency": "xrp", "free": "0", "frozen": "0", "frozen_parts": {}, "present": false, "thresholds": null},
    ]);
    assert_eq!(wallet["balances"], expected);
    let age = wallet["age_seconds"].as_f64().unwrap();
    assert!((0.0..60.0).contains(&age), "{age}");
    let answered = humantime::parse_rfc3339(wallet["answered"].as_str().unwrap()).unwrap();
    let response_time = humantime::parse_rfc3339(all["time"].as_str().unwrap()).unwrap();
    let apart = response_time.duration_since(answered).unwrap().as_secs_f64();
    assert!((apart - age).abs() < 0.01, "{all}");

    assert_eq!(json(&exporter, "?account=main&account=main")["wallets"].as_array().unwrap().len(), 1);
    let packed = crate::common::get(exporter.address(), "/api/v1/balances", &[("Accept-Encoding", "gzip")]);
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
}

#[test]
fn the_parts_of_a_frozen_amount_have_the_digits_of_the_exchange() {
    let row = SimulatedBalance::new("1", LONG).with_parts([
        ("trade", json!("2.50")),
        ("withdraw", json!(null)),
        ("lock", json!("0E-8")),
        ("freeze", json!("x")),
    ]);
    let account =
        SimulatedAccount::new("main", ACCESS_KEY, SECRET_KEY).with_row(SimulatedWallet::Spot, "usdt", row);
    let exchange = Exchange::new(SimulatorConfig::default(), vec![account]);
    let exporter = Exporter::serve(&exchange.url(), &[]);
    exporter.ready();
    let parts = json!({"trade": "2.50", "lock": "0E-8", "other": "12345678901234564.623456789012345678"});
    assert_eq!(json(&exporter, "")["wallets"][0]["balances"][0]["frozen_parts"], parts);
}

#[test]
fn an_unknown_balance_is_null_and_not_zero() {
    let exchange = exchange();
    let exporter = Exporter::serve(
        &exchange.url(),
        &["--poll.interval=1s", "--poll.timeout=500ms", "--poll.max-age=2s"],
    );
    exporter.ready();
    exchange.simulator.inject_fault(Fault::new(Effect::Maintenance));
    let held = until("the balances are held", || {
        let wallet = json(&exporter, "")["wallets"][0].clone();
        (wallet["state"] != "fresh").then_some(wallet)
    });
    assert!(held["state"] == "unknown" || held["balances"][1]["free"] == LONG, "{held}");
    let unknown = until("they are unknown", || {
        let wallet = json(&exporter, "")["wallets"][0].clone();
        (wallet["state"] == "unknown").then_some(wallet)
    });
    assert_eq!(unknown["balances"], Value::Null);
    assert!(unknown["answered"].is_string() && unknown["age_seconds"].as_f64().unwrap() >= 2.0, "{unknown}");
}

#[test]
fn an_unknown_account_is_rejected_by_name() {
    let exchange = exchange();
    let exporter = Exporter::serve(&exchange.url(), &[]);
    let ask = |query: &str| exporter.get(&format!("/api/v1/balances?{query}"));
    let (unknown, misspelt) = (ask("account=m%61in&account=other"), ask("acount=main"));
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.text(), "unknown account \"other\": use one of main\n");
    assert_eq!(misspelt.status, 400);
    assert_eq!(misspelt.text(), "unknown parameter \"acount\": use account=NAME, any number of times\n");
}
