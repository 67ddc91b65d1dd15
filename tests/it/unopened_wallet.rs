//! Futures that an account may not have opened. An empty list is an answer. Every other reply is undocumented: it fails this
//! wallet alone, and `check` and the log say what may be wrong.

use crate::common::golden::Transcript;
use crate::common::in_process::{TestPoller, key_source, v4_account};
use crate::common::{ACCESS_KEY, Exchange, Exporter, SECRET_KEY, messages, until};
use xt_balance_exporter::{
    config::AccountConfig,
    exchange::Wallet,
    simulator::{Effect, Fault, SimulatedAccount, SimulatedEndpoint, SimulatedWallet, SimulatorConfig},
};

/// An account without coin-margined futures.
fn exchange() -> Exchange {
    let account = SimulatedAccount::new("main", ACCESS_KEY, SECRET_KEY)
        .with_balance(SimulatedWallet::Spot, "usdt", "31.7", "0")
        .with_balance(SimulatedWallet::FuturesUsdt, "usdt", "18.5", "0");
    Exchange::new(SimulatorConfig::default(), vec![account])
}

/// Replies that may mean that the wallet is not open, and do not say so.
fn unclear_replies() -> [(&'static str, Effect); 4] {
    let error = |code: &str, msg: &str| Effect::Error { code: code.to_owned(), msg: msg.to_owned() };
    let nothing = r#"{"returnCode":0,"msgInfo":"success","error":null,"result":null}"#;
    [
        ("an unknown error", error("account_not_exist", "account not exist")),
        ("an error without a text", error("fail", "")),
        ("a refusal", error("403", "account not exist")),
        ("no list", Effect::Body(nothing.to_owned())),
    ]
}

fn inject(exchange: &Exchange, effect: Effect) {
    exchange.simulator.inject_fault(Fault::new(effect).for_endpoint(SimulatedEndpoint::FuturesCoinBalances));
}

/// Coin-margined futures are read first, before the key has worked anywhere.
fn poller(exchange: &Exchange) -> TestPoller {
    let wallets = [Wallet::FuturesCoin, Wallet::FuturesUsdt, Wallet::Spot];
    let account = v4_account(&exchange.url(), &wallets, key_source(ACCESS_KEY, SECRET_KEY));
    TestPoller::for_account(AccountConfig { watch: Vec::new(), ..account })
}

/// `xt_up` of each wallet, in the order of the polls.
fn up(poller: &TestPoller) -> [Option<f64>; 3] {
    ["futures_coin", "futures_usdt", "spot"]
        .map(|wallet| poller.sample(&format!("xt_up{{account=\"main\",wallet=\"{wallet}\"}}")))
}

/// Starts a command for futures, and with these words.
fn start(exchange: &Exchange, command: &str, more: &[&str]) -> Exporter {
    let url = exchange.url();
    let (usdt, coin) = (format!("{url}/fapi"), format!("{url}/dapi"));
    let mut words = vec![command, "--xt.base-url", &url, "--xt.futures-usdt-base-url", &usdt];
    words.extend(["--xt.futures-coin-base-url", &coin, "--xt.wallet=futures_coin"]);
    words.push("--xt.wallet=futures_usdt");
    words.extend(more);
    Exporter::start(&words, &[("XT_ACCESS_KEY", ACCESS_KEY), ("XT_SECRET_KEY", SECRET_KEY)])
}

#[tokio::test]
async fn an_empty_list_of_futures_is_an_answer() {
    let exchange = exchange();
    let mut poller = poller(&exchange);
    assert_eq!(poller.poller.run_once().await, (3, 0));
    assert_eq!(up(&poller), [Some(1.0); 3]);
    assert_eq!(poller.failure(), None);
}

#[tokio::test]
async fn an_unclear_reply_fails_the_polls_of_its_wallet_alone() {
    for (name, effect) in unclear_replies() {
        let exchange = exchange();
        inject(&exchange, effect);
        let mut poller = poller(&exchange);
        assert_eq!(poller.poller.run_once().await, (3, 1), "{name}");
        assert_eq!(up(&poller), [Some(0.0), Some(1.0), Some(1.0)], "{name}");
    }
}

#[test]
fn check_says_that_the_wallet_may_not_be_open_and_what_to_do() {
    let exchange = exchange();
    let mut transcript = Transcript::default();
    for (name, effect) in unclear_replies() {
        exchange.simulator.clear_faults();
        inject(&exchange, effect);
        let output = start(&exchange, "check", &["--xt.wallet=spot"]).wait();
        assert_eq!(output.status.code(), Some(1), "{}", output.stdout);
        transcript.add_output(name, &output);
    }
    transcript.assert("check_unopened_futures");
}

#[test]
fn the_first_failure_in_the_log_says_that_the_wallet_may_not_be_open() {
    let exchange = exchange();
    inject(
        &exchange,
        Effect::Error { code: "account_not_exist".to_owned(), msg: "account not exist".to_owned() },
    );
    let exporter = start(&exchange, "serve", &["--web.listen-address=127.0.0.1:0", "--xt.wallet=spot"]);
    let line = exporter.stderr.wait_for(messages::POLL_FAILED);
    assert!(line.contains(messages::MAY_NOT_BE_OPEN) && line.contains("remove futures_coin"), "{line}");
}

/// USDT-margined futures are read first, so their refusal is the first that the key meets.
#[test]
fn a_refusal_of_one_futures_wallet_does_not_stop_the_other() {
    let exchange = exchange();
    let refusal = Effect::Error { code: "403".to_owned(), msg: "account not exist".to_owned() };
    let refusal = Fault::new(refusal).for_endpoint(SimulatedEndpoint::FuturesUsdtBalances);
    exchange.simulator.inject_fault(refusal);
    let timing = ["--web.listen-address=127.0.0.1:0", "--poll.interval=1s", "--poll.timeout=900ms"];
    let exporter = start(&exchange, "serve", &timing);
    let up = |wallet: &str| exporter.sample(&format!("xt_up{{account=\"main\",wallet=\"{wallet}\"}}"));
    until("coin-margined futures are read", || up("futures_coin").filter(|up| *up > 0.0));
    assert_eq!(up("futures_usdt"), Some(0.0));
}
