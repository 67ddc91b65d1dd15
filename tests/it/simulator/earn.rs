//! v4's Earn wallet.
//!
//! Python's `hmac` computed the signatures.

use crate::common::{Exchange, get};
use serde_json::{Value, json};
use xt_balance_exporter::simulator::{
    RefusalCause, SimulatedAccount, SimulatedBalance, SimulatedKeyState, SimulatedWallet, SimulatorConfig,
};

const KEY: &str = "11111111-2222-3333-4444-555555555555";
const SECRET: &str = "00112233445566778899aabbccddeeff00112233";
const TIME: i64 = 1_790_000_000_000;
const PATH: &str = "/v4/finance/position-currency";

const ALL: &str = "0c9da641f3f3bd5063b15a735e6e3e967925d2c426847411f2f4a630d763d199";
const USDT: &str = "3251d2bc4dd6852db0b3ac5e0a97804b586654d30a32da1b23c84b83f89a2a30";
const UNKNOWN_PARAMETER: &str = "65ccb2bbc470d905231773e9dee8ae4cfa4e1e53d07d8eb05409c16f021949df";

fn exchange(key: SimulatedKeyState) -> Exchange {
    let btc = SimulatedBalance::new("0", "3.50")
        .with_parts([("TIME_SAVING", json!("3.00")), ("ON_CHAIN_EARN", json!("0.50"))]);
    let account = SimulatedAccount { key, ..SimulatedAccount::new("main", KEY, SECRET) }
        .with_balance(SimulatedWallet::Earn, "usdt", "0", "1200.00")
        .with_balance(SimulatedWallet::Spot, "eth", "1", "0")
        .with_row(SimulatedWallet::Earn, "btc", btc);
    Exchange::new(SimulatorConfig { clock_start_ms: Some(TIME), ..SimulatorConfig::default() }, vec![account])
}

fn send(exchange: &Exchange, query: &str, signature: &str) -> Value {
    let time = TIME.to_string();
    let headers = [
        ("validate-algorithms", "HmacSHA256"),
        ("validate-appkey", KEY),
        ("validate-recvwindow", "5000"),
        ("validate-timestamp", &time),
        ("validate-signature", signature),
    ];
    let answer = get(exchange.address, &format!("{PATH}{query}"), &headers);
    assert_eq!(answer.status, 200);
    serde_json::from_slice(&answer.body).unwrap()
}

#[test]
fn earn_has_the_documented_shape() {
    let exchange = exchange(SimulatedKeyState::Active);
    let position = |product: &str, amount: &str| json!({"category": "SAVING", "productType": product, "amount": amount, "apyList": [{"apy": "0.10"}], "accInterest": "5.00"});
    let usdt = json!({"currency": "usdt", "amount": "1200.00", "positionList": [position("DEMAND_SAVING", "1200.00")]});
    let btc = [position("ON_CHAIN_EARN", "0.50"), position("TIME_SAVING", "3.00")];
    let btc = json!({"currency": "btc", "amount": "3.50", "positionList": btc});
    assert_eq!(send(&exchange, "", ALL), json!({"rc": 0, "mc": "SUCCESS", "result": [btc, usdt]}));
    assert_eq!(send(&exchange, "?currency=usdt", USDT), json!({"rc": 0, "mc": "SUCCESS", "result": [usdt]}));
}

#[test]
fn earn_refuses_what_is_wrong() {
    let refused =
        |exchange: &Exchange, cause| exchange.simulator.call_log().accounts["main"].count_refused(cause);
    let good_key = exchange(SimulatedKeyState::Active);
    assert_eq!(send(&good_key, "?currency=usdt", ALL)["mc"], "AUTH_103", "the query is not signed");
    assert_eq!(send(&good_key, "?coin=usdt", UNKNOWN_PARAMETER)["mc"], "FUND_017");
    assert_eq!(refused(&good_key, RefusalCause::Signature), 1);
    assert_eq!(refused(&good_key, RefusalCause::Parameters), 1);
    for (key, code) in [
        (SimulatedKeyState::NotForEarn, "PERMISSION_DENIED"),
        (SimulatedKeyState::NotAllowedToRead, "AUTH_106"),
    ] {
        let exchange = exchange(key);
        assert_eq!(send(&exchange, "", ALL)["mc"], code);
        assert_eq!(refused(&exchange, RefusalCause::Permission), 1);
    }
}
