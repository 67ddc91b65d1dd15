//! The proxy that other tests put between the program and the simulated exchange.

use super::{BALANCE, FUNDS_1, FrozenClock, KeepAliveConnection, SPOT, START, ServedExchange};
use crate::common::proxy::{Proxy, ProxyMode};
use std::time::Duration;
use xt_balance_exporter::simulator::{Effect, Fault, SimulatedWallet};

#[tokio::test]
async fn the_proxy_passes_the_date_on_and_adds_headers() {
    let _clock = FrozenClock::new();
    let exchange = ServedExchange::documented().await;
    let proxy = Proxy::new(exchange.address);
    let exchange = exchange.behind_proxy(&proxy);
    assert_eq!(exchange.get(BALANCE).await.header("date"), Some(START));
    let date = "Thu, 06 Jan 2022 05:17:17 GMT";
    proxy.set_mode(ProxyMode::AddHeaders(vec![("Age", "7".to_owned()), ("Date", date.to_owned())]));
    let response = exchange.get(BALANCE).await;
    assert_eq!((response.text(), response.header("age")), (SPOT, Some("7")));
    assert_eq!(response.head.matches("date: ").count(), 1);
    assert_eq!(response.header("date"), Some(date.to_lowercase().as_str()));
    proxy.set_mode(ProxyMode::Relay);
    exchange.simulator.inject_fault(Fault::new(Effect::Cached { age: Some(9), date_behind: Some(60) }));
    exchange.get(FUNDS_1).await;
    let cached = exchange.get(FUNDS_1).await;
    assert_eq!(
        (cached.header("age"), cached.header("date")),
        (Some("9"), Some("fri, 12 jul 2019 08:22:52 gmt"))
    );
}

#[tokio::test]
async fn the_proxy_may_be_a_shared_cache() {
    let exchange = ServedExchange::documented().await;
    let proxy = Proxy::new(exchange.address);
    let exchange = exchange.behind_proxy(&proxy);
    proxy.set_mode(ProxyMode::SharedCache);
    assert_eq!(exchange.get(BALANCE).await.text(), SPOT);
    exchange.simulator.set_balance("main", SimulatedWallet::Spot, "usdt", "1", "1").unwrap();
    assert_eq!(exchange.get(&format!("{BALANCE}0")).await.text(), SPOT);
    assert_eq!(exchange.get(FUNDS_1).await.json()["data"]["btc"]["available"], "1.5");
    assert_eq!(exchange.simulator.call_log().accounts["main"].total(), 2);
    proxy.set_mode(ProxyMode::Relay);
    assert_eq!(exchange.get(BALANCE).await.json()["data"]["usdt"]["available"], "1");
}

#[tokio::test]
async fn the_proxy_may_send_an_answer_once_more() {
    let exchange = ServedExchange::documented().await;
    let proxy = Proxy::new(exchange.address);
    let exchange = exchange.behind_proxy(&proxy);
    let after = Duration::from_millis(50);
    proxy.set_mode(ProxyMode::RepeatResponse(after));
    let start = std::time::Instant::now();
    let mut connection = KeepAliveConnection::new(&exchange).await;
    connection.send_get(BALANCE).await;
    assert_eq!(connection.read_response().await.text(), SPOT);
    assert_eq!(connection.read_response().await.text(), SPOT);
    assert!(start.elapsed() >= after);
    assert_eq!(exchange.simulator.call_log().accounts["main"].accepted, 1);
    // A client that closes the connection gets only one response.
    assert_eq!(exchange.get(BALANCE).await.text(), SPOT);
    // The proxy sends no copy of an answer about the time.
    connection.send_get("/trade/api/v1/getServerTime").await;
    assert!(connection.read_response().await.text().contains("serverTime"));
    tokio::time::sleep(after * 2).await;
    assert!(connection.is_quiet());
}
