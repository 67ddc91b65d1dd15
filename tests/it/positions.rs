//! Open positions of futures: what the simulated exchange lists is what is exported, balances and positions fail apart
//! from each other, and a list that cannot be read never looks like an empty one.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;

use crate::common::golden::Transcript;
use crate::common::in_process::{MAX_AGE, TestPoller, advance_clock, key_source, to_millis, v4_account};
use crate::common::{ACCESS_KEY, Exchange, Exporter, SECRET_KEY, sample, until};
use xt_balance_exporter::{
    config,
    exchange::Wallet,
    poller::PollStatus,
    simulator::{
        Effect, Fault, SimulatedAccount, SimulatedEndpoint, SimulatedPosition, SimulatedSide,
        SimulatedWallet, SimulatorConfig,
    },
    snapshot::positions::FuturesRisk,
};

const UP: &str = "xt_up{account=\"main\",wallet=\"futures_usdt\"}";
const POSITIONS_UP: &str = "xt_positions_up{account=\"main\",wallet=\"futures_usdt\"}";
const POSITIONS: &str = "xt_positions{account=\"main\",wallet=\"futures_usdt\"}";
const FREE: &str = "xt_balance_free{account=\"main\",currency=\"usdt\",wallet=\"futures_usdt\"}";
const EQUITY: &str = "xt_futures_equity{account=\"main\",currency=\"usdt\",wallet=\"futures_usdt\"}";
const PROFIT: &str = "xt_futures_unrealised_pnl{account=\"main\",currency=\"usdt\",wallet=\"futures_usdt\"}";

fn position(mark: &str, liquidation: &str) -> SimulatedPosition {
    SimulatedPosition {
        isolated: true,
        size: "10".to_owned(),
        entry: "27060".to_owned(),
        mark: mark.to_owned(),
        liquidation: liquidation.to_owned(),
        leverage: 25,
        margin: "1.0824".to_owned(),
        profit: "0.01".to_owned(),
    }
}

fn exchange_with(rules: SimulatorConfig) -> Exchange {
    let account = SimulatedAccount::new("main", ACCESS_KEY, SECRET_KEY)
        .with_balance(SimulatedWallet::Spot, "usdt", "1", "0")
        .with_balance(SimulatedWallet::FuturesUsdt, "usdt", "18.58902375", "1.0824")
        .with_balance(SimulatedWallet::FuturesCoin, "btc", "2.50", "0");
    Exchange::new(rules, vec![account])
}

/// An exchange where the account has a short position in `btc_usdt`.
fn exchange() -> Exchange {
    // The tests advance the exporter's clock, but not the one by which the exchange counts calls.
    let rules = SimulatorConfig { asset_calls_per_second: usize::MAX, ..SimulatorConfig::default() };
    let exchange = exchange_with(rules);
    open(&exchange, "btc_usdt", position("27050", "28002.38"));
    exchange
}

fn open(exchange: &Exchange, symbol: &str, position: SimulatedPosition) {
    let key = (symbol.to_owned(), SimulatedSide::Short);
    exchange.simulator.set_position("main", SimulatedWallet::FuturesUsdt, key, position).unwrap();
}

fn close(exchange: &Exchange, symbol: &str) {
    let key = (symbol.to_owned(), SimulatedSide::Short);
    assert!(exchange.simulator.remove_position("main", SimulatedWallet::FuturesUsdt, &key).unwrap());
    exchange.simulator.set_balance("main", SimulatedWallet::FuturesUsdt, "usdt", "19.67142375", "0").unwrap();
}

fn config_for(url: &str, wallets: &[Wallet], risk: FuturesRisk) -> config::AccountConfig {
    config::AccountConfig {
        watch: Vec::new(),
        futures_risk: Some(risk),
        ..v4_account(url, wallets, key_source(ACCESS_KEY, SECRET_KEY))
    }
}

fn poller(exchange: &Exchange) -> TestPoller {
    TestPoller::for_account(config_for(&exchange.url(), &[Wallet::FuturesUsdt], FuturesRisk::default()))
}

/// Advances the clocks of the exporter and of the exchange by `time`. `before` is what they were advanced by before.
async fn advance(exchange: &Exchange, before: Duration, time: Duration) {
    exchange.simulator.set_clock_offset_ms(to_millis(before + time));
    advance_clock(time).await;
}

fn fault_of_positions(effect: Effect) -> Fault {
    Fault::new(effect).for_endpoint(SimulatedEndpoint::FuturesUsdtPositions)
}

/// Samples of position families by name and labels, without `account` and `wallet`.
fn position_series(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| line.starts_with("xt_position_") && line.contains("symbol="));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let series = series.replace("account=\"main\",", "").replace(",wallet=\"futures_usdt\"", "");
            (series.replace("xt_position_", ""), value.parse().unwrap())
        })
        .collect()
}

fn failures(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| line.starts_with("xt_positions_failures_total{"));
    let lines = lines.filter(|line| !line.ends_with(" 0"));
    lines.map(|line| line.split('"').nth(3).unwrap().to_owned() + line.rsplit_once('}').unwrap().1).collect()
}

#[tokio::test]
async fn every_value_of_a_position_is_exported_whether_text_or_number() {
    for v4_numbers in [false, true] {
        let exchange = exchange_with(SimulatorConfig { v4_numbers, ..SimulatorConfig::default() });
        open(&exchange, "btc_usdt", position("27050", "28002.38"));
        let cross = SimulatedPosition { isolated: false, profit: "-2".to_owned(), ..position("1.5", "0") };
        open(&exchange, "eth_usdt", cross);
        let mut poller = poller(&exchange);
        assert!(poller.poll().await);
        let text = poller.text();
        let expected = [
            ("entry_price{side=\"short\",symbol=\"btc_usdt\"}", 27_060.0),
            ("entry_price{side=\"short\",symbol=\"eth_usdt\"}", 27_060.0),
            ("info{margin_mode=\"crossed\",side=\"short\",symbol=\"eth_usdt\"}", 1.0),
            ("info{margin_mode=\"isolated\",side=\"short\",symbol=\"btc_usdt\"}", 1.0),
            ("leverage{side=\"short\",symbol=\"btc_usdt\"}", 25.0),
            ("leverage{side=\"short\",symbol=\"eth_usdt\"}", 25.0),
            ("liquidation_price{side=\"short\",symbol=\"btc_usdt\"}", 28_002.38),
            ("mark_price{side=\"short\",symbol=\"btc_usdt\"}", 27_050.0),
            ("mark_price{side=\"short\",symbol=\"eth_usdt\"}", 1.5),
            ("size_contracts{side=\"short\",symbol=\"btc_usdt\"}", 10.0),
            ("size_contracts{side=\"short\",symbol=\"eth_usdt\"}", 10.0),
        ];
        let expected = expected.map(|(series, value)| (series.to_owned(), value));
        assert_eq!(position_series(&text), BTreeMap::from(expected));
        let values = [POSITIONS, POSITIONS_UP, PROFIT, EQUITY].map(|series| sample(&text, series));
        assert_eq!(values, [Some(2.0), Some(1.0), Some(-1.99), Some(17.681_423_75)]);
        let calls = exchange.simulator.call_log();
        assert_eq!((calls.count_breaches(), calls.accounts["main"].accepted), (0, 2));
    }
}

#[test]
fn positions_that_cannot_be_read_are_held_then_unknown_and_harm_no_balance() {
    for (effect, reason) in [
        (Effect::Maintenance, "unavailable"),
        (Effect::Error { code: "403".to_owned(), msg: "no permission".to_owned() }, "auth"),
        (Effect::Error { code: "fail".to_owned(), msg: "x".to_owned() }, "api"),
        (Effect::Body(r#"{"returnCode":0,"error":null,"result":null}"#.to_owned()), "decode"),
        // The balances of the same poll show margin.
        (Effect::EmptyData, "decode"),
    ] {
        // Each case advances the clock of a runtime of its own.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(read_fails(&effect, reason));
    }
}

async fn read_fails(effect: &Effect, reason: &str) {
    let exchange = exchange();
    let mut poller = poller(&exchange);
    assert!(poller.poll().await);
    let good_at = poller.clock.now();
    exchange.simulator.inject_fault(fault_of_positions(effect.clone()));
    assert!(!poller.poll().await);
    let text = poller.text_at(good_at.later(MAX_AGE / 2));
    let values = [UP, POSITIONS_UP, POSITIONS, EQUITY].map(|series| sample(&text, series));
    assert_eq!(values, [Some(1.0), Some(0.0), Some(1.0), Some(19.681_423_75)], "{effect:?}");
    assert_eq!(failures(&text), [format!("{reason} 1")]);
    assert_eq!(position_series(&text).len(), 6, "held");
    // The second poll read newer balances.
    let text = poller.text_at(good_at.later(MAX_AGE));
    let values = [FREE, POSITIONS, EQUITY, PROFIT].map(|series| sample(&text, series));
    assert_eq!(values, [Some(18.589_023_75), None, None, None]);
    assert_eq!(position_series(&text).len(), 0, "unknown");
    assert_eq!(sample(&text, POSITIONS_UP), Some(0.0));
    exchange.simulator.clear_faults();
    advance(&exchange, Duration::ZERO, Duration::from_mins(5)).await;
    assert!(poller.poll().await);
    assert_eq!(position_series(&poller.text()).len(), 6);
}

#[tokio::test]
async fn an_empty_list_is_no_positions() {
    let exchange = exchange();
    let mut poller = poller(&exchange);
    assert!(poller.poll().await);
    close(&exchange, "btc_usdt");
    assert!(poller.poll().await);
    let text = poller.text();
    let values = [POSITIONS_UP, POSITIONS, PROFIT, EQUITY].map(|series| sample(&text, series));
    assert_eq!(values, [Some(1.0), Some(0.0), Some(0.0), Some(19.671_423_75)]);
    assert_eq!(position_series(&text).len(), 0);
}

#[tokio::test]
async fn positions_are_read_although_the_balances_cannot_be_decoded() {
    let exchange = exchange();
    let fault = |effect| Fault::new(effect).for_endpoint(SimulatedEndpoint::FuturesUsdtBalances);
    exchange.simulator.inject_fault(fault(Effect::Body("{}".to_owned())));
    let mut poller = poller(&exchange);
    assert!(!poller.poll().await);
    let text = poller.text();
    let values = [UP, POSITIONS_UP, POSITIONS, PROFIT, EQUITY].map(|series| sample(&text, series));
    assert_eq!(values, [Some(0.0), Some(1.0), Some(1.0), Some(0.01), None], "no wallet balance, no equity");
    exchange.simulator.clear_faults();
    exchange.simulator.inject_fault(fault(Effect::Maintenance));
    let asked = exchange.simulator.call_log().records.len();
    assert!(!poller.poll().await);
    assert_eq!(failures(&poller.text()), ["unavailable 1"], "a host that is down is not asked twice");
    assert_eq!(exchange.simulator.call_log().records.len(), asked + 1);
}

#[tokio::test]
async fn refused_positions_are_tried_again_after_five_minutes_and_the_key_stays_in_use() {
    let exchange = exchange();
    let refusal = Effect::Error { code: "403".to_owned(), msg: "no permission".to_owned() };
    exchange.simulator.inject_fault(fault_of_positions(refusal));
    let mut poller = poller(&exchange);
    let count = |exchange: &Exchange, endpoint| {
        let calls = exchange.simulator.call_log().records;
        calls.iter().filter(|call| call.endpoint == endpoint).count()
    };
    for minute in 0..4 {
        assert!(!poller.poll().await);
        advance(&exchange, Duration::from_mins(minute), Duration::from_mins(1)).await;
    }
    assert_eq!(count(&exchange, SimulatedEndpoint::FuturesUsdtBalances), 4);
    assert_eq!(count(&exchange, SimulatedEndpoint::FuturesUsdtPositions), 1);
    assert_eq!(failures(&poller.text()), ["auth 1"]);
    assert_eq!(poller.sample(UP), Some(1.0));
    exchange.simulator.clear_faults();
    advance(&exchange, Duration::from_mins(4), Duration::from_mins(1)).await;
    assert!(poller.poll().await);
    assert_eq!(poller.sample(POSITIONS_UP), Some(1.0));
}

/// The state file does not hold a refusal of positions, so each process asks once.
#[test]
fn a_restarted_exporter_asks_once_for_positions_that_it_may_not_read() {
    let (exchange, state) = (exchange(), tempfile::tempdir().unwrap());
    let refusal = Effect::Error { code: "403".to_owned(), msg: "no permission".to_owned() };
    exchange.simulator.inject_fault(fault_of_positions(refusal));
    let (url, fapi) = (exchange.url(), format!("{}/fapi", exchange.url()));
    let words = [
        "serve",
        "--web.listen-address=127.0.0.1:0",
        "--xt.base-url",
        &url,
        "--xt.futures-usdt-base-url",
        &fapi,
        "--xt.wallet=futures_usdt",
        "--xt.futures-risk",
        "--poll.interval=1s",
        "--poll.timeout=900ms",
    ];
    let state = state.path().to_str().unwrap();
    let environment =
        [("XT_ACCESS_KEY", ACCESS_KEY), ("XT_SECRET_KEY", SECRET_KEY), ("STATE_DIRECTORY", state)];
    for processes in 1..=3 {
        let exporter = Exporter::start(&words, &environment);
        let polls = || exporter.sample("xt_polls_total{account=\"main\",wallet=\"futures_usdt\"}");
        until("balances are read several times", || polls().filter(|polls| *polls >= 3.0));
        assert_eq!(exporter.sample(UP), Some(1.0), "the key stays in use");
        let calls = exchange.simulator.call_log().records;
        let asked = calls.iter().filter(|call| call.endpoint == SimulatedEndpoint::FuturesUsdtPositions);
        assert_eq!(asked.count(), processes);
        exporter.signal("KILL");
        exporter.wait();
    }
}

#[tokio::test]
async fn unusable_rows_and_positions_over_the_limit_are_counted() {
    let exchange = exchange();
    for (symbol, liquidation) in [("a_usdt", "27100"), ("b_usdt", "0"), ("c_usdt", "40000")] {
        open(&exchange, symbol, position("27050", liquidation));
    }
    let value = json!({"positionSide": "SHORT", "positionSize": "1", "calMarkPrice": "x"});
    let fault = fault_of_positions(Effect::Row { currency: "d_usdt".to_owned(), value });
    exchange.simulator.inject_fault(fault);
    let risk = FuturesRisk { max_positions: 2, ..FuturesRisk::default() };
    let mut poller = TestPoller::for_account(config_for(&exchange.url(), &[Wallet::FuturesUsdt], risk));
    assert!(poller.poll().await);
    let text = poller.text();
    let hidden = ["max_positions", "unusable"].map(|reason| {
        let labels = format!("account=\"main\",reason=\"{reason}\",wallet=\"futures_usdt\"");
        sample(&text, &format!("xt_positions_hidden{{{labels}}}"))
    });
    assert_eq!((hidden, sample(&text, POSITIONS)), ([Some(2.0), Some(1.0)], Some(5.0)));
    let shown: Vec<_> = position_series(&text).into_keys().filter(|name| name.starts_with("mark")).collect();
    assert_eq!(
        shown,
        ["a_usdt", "btc_usdt"].map(|symbol| format!("mark_price{{side=\"short\",symbol=\"{symbol}\"}}"))
    );
}

#[tokio::test]
async fn each_futures_wallet_takes_one_more_call_and_other_wallets_none() {
    let exchange = exchange();
    let wallets = [Wallet::Spot, Wallet::FuturesUsdt, Wallet::FuturesCoin];
    let config = config_for(&exchange.url(), &wallets, FuturesRisk::default());
    let mut poller = TestPoller::for_account(config);
    assert_eq!(poller.poller.poll_wallets().await, [PollStatus::Good; 3]);
    let calls = exchange.simulator.call_log();
    assert_eq!((calls.count_breaches(), calls.accounts["main"].accepted), (0, 5));
    let text = poller.text();
    let coin = |name: &str, labels: &str| {
        sample(&text, &format!("{name}{{account=\"main\",{labels}wallet=\"futures_coin\"}}"))
    };
    assert_eq!(coin("xt_positions", ""), Some(0.0));
    assert_eq!(coin("xt_futures_equity", "currency=\"btc\","), Some(2.5));
    assert!(!text.contains("xt_positions_up{account=\"main\",wallet=\"spot\"}"));
}

#[test]
fn the_flag_reads_positions_once() {
    let exchange = exchange();
    let url = exchange.url();
    let fapi = format!("{url}/fapi");
    let words = [
        "once",
        "--xt.base-url",
        &url,
        "--xt.futures-usdt-base-url",
        &fapi,
        "--xt.wallet=futures_usdt",
        "--xt.futures-risk",
    ];
    let keys = [("XT_ACCESS_KEY", ACCESS_KEY), ("XT_SECRET_KEY", SECRET_KEY)];
    let output = Exporter::run(&words, &keys);
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
    assert_eq!(sample(&output.stdout, POSITIONS), Some(1.0));
    exchange.simulator.inject_fault(fault_of_positions(Effect::Maintenance));
    let output = Exporter::run(&words, &keys);
    assert_eq!(output.status.code(), Some(1), "{}", output.stderr);
    assert_eq!(sample(&output.stdout, UP), Some(1.0), "{}", output.stdout);
}

#[test]
fn positions_have_the_digits_of_the_exchange_in_json_and_are_null_while_unknown() {
    let exchange = exchange();
    open(&exchange, "eth_usdt", SimulatedPosition { isolated: false, ..position("1.50", "0.00") });
    let fapi = format!("{}/fapi", exchange.url());
    let flags = [
        "--xt.api=v4",
        "--xt.futures-usdt-base-url",
        &fapi,
        "--xt.wallet=futures_usdt",
        "--xt.futures-risk",
        "--poll.interval=1s",
        "--poll.timeout=900ms",
        "--poll.max-age=2s",
    ];
    let exporter = Exporter::serve(&exchange.url(), &flags);
    let positions = || {
        let body = exporter.get("/api/v1/balances").text();
        serde_json::from_str::<serde_json::Value>(&body).unwrap()["wallets"][0]["positions"].clone()
    };
    let known = until("positions are read", || Some(positions()).filter(|known| known["state"] == "fresh"));
    let row = |symbol: &str, mode: &str, mark: &str, liquidation: Option<&str>| {
        json!({
            "symbol": symbol, "side": "short", "margin_mode": mode, "size_contracts": "10", "entry_price": "27060",
            "mark_price": mark, "liquidation_price": liquidation, "leverage": "25", "unrealised_pnl": "0.01",
        })
    };
    let rows =
        [row("btc_usdt", "isolated", "27050", Some("28002.38")), row("eth_usdt", "crossed", "1.50", None)];
    assert_eq!(known["open"], json!(rows));
    let currencies = json!([{"currency": "usdt", "unrealised_pnl": "0.02", "equity": "19.69142375"}]);
    assert_eq!((&known["currencies"], &known["over_limit"]), (&currencies, &json!(0)));
    exchange.simulator.inject_fault(fault_of_positions(Effect::Maintenance));
    let unknown = until("positions are unknown", || {
        Some(positions()).filter(|positions| positions["state"] == "unknown")
    });
    assert_eq!((&unknown["open"], &unknown["currencies"]), (&json!(null), &json!(null)));
}

#[test]
fn check_says_which_positions_it_found_in_each_wallet() {
    let exchange = exchange();
    let url = exchange.url();
    let (usdt, coin) = (format!("{url}/fapi"), format!("{url}/dapi"));
    let keys = [("XT_ACCESS_KEY", ACCESS_KEY), ("XT_SECRET_KEY", SECRET_KEY)];
    let run = |flags: &[&str]| {
        let hosts =
            ["--xt.base-url", &url, "--xt.futures-usdt-base-url", &usdt, "--xt.futures-coin-base-url", &coin];
        let wallets = ["--xt.wallet=spot", "--xt.wallet=futures_usdt", "--xt.wallet=futures_coin"];
        Exporter::run(&[&["check", "--xt.api=v4"], &hosts[..], &wallets, flags].concat(), &keys)
    };
    let mut transcript = Transcript::default();
    let mut check = |case: &str, code: i32| {
        let output = run(&["--xt.futures-risk"]);
        assert_eq!(output.status.code(), Some(code), "{}", output.stdout);
        transcript.add_output(case, &output);
    };
    check("near", 0);
    open(&exchange, "btc_usdt", position("27050", "31000"));
    check("nearer than the warning", 0);
    open(&exchange, "btc_usdt", position("27050", "0"));
    check("no liquidation price", 0);
    let value = json!({"positionSide": "BOTH", "positionSize": "1"});
    exchange.simulator.inject_fault(fault_of_positions(Effect::Row { currency: "d_usdt".to_owned(), value }));
    check("an unusable row", 1);
    exchange.simulator.clear_faults();
    exchange.simulator.inject_fault(fault_of_positions(Effect::Maintenance));
    check("positions cannot be read", 1);
    exchange.simulator.clear_faults();
    transcript.assert("check_positions");
    assert!(!run(&[]).stdout.contains("positions"));
}
