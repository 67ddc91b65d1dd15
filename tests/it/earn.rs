//! The Earn wallet against the simulated exchange: frozen money by product, and a key that lacks the Earn permission.

use crate::common::golden::assert_golden;
use crate::common::in_process::{TestPoller, account, key_source};
use crate::common::{ACCESS_KEY, Exchange, Exporter, Output, SECRET_KEY};
use serde_json::json;
use xt_balance_exporter::{
    config::AccountConfig,
    exchange::{ApiVersion, Reason, Wallet},
    simulator::{
        Effect, Fault, SimulatedAccount, SimulatedBalance, SimulatedEndpoint, SimulatedKeyState,
        SimulatedWallet, SimulatorConfig,
    },
};

const SPOT_UP: &str = r#"xt_up{account="main",wallet="spot"}"#;
const EARN_UP: &str = r#"xt_up{account="main",wallet="earn"}"#;

fn exchange(key: SimulatedKeyState) -> Exchange {
    let earn = SimulatedBalance::new("0", "1200.50")
        .with_parts([("DEMAND_SAVING", json!("1000.50")), ("SHARK_FIN", json!("200"))]);
    let account = SimulatedAccount { key, ..SimulatedAccount::new("main", ACCESS_KEY, SECRET_KEY) }
        .with_balance(SimulatedWallet::Spot, "usdt", "31.7", "0")
        .with_row(SimulatedWallet::Earn, "usdt", earn);
    Exchange::new(SimulatorConfig::default(), vec![account])
}

fn reading(exchange: &Exchange, wallets: &[Wallet]) -> AccountConfig {
    let mut account = account("main", &[&exchange.url()], key_source(ACCESS_KEY, SECRET_KEY));
    account.hosts.api = ApiVersion::V4;
    AccountConfig { wallets: wallets.to_vec(), watch: Vec::new(), ..account }
}

fn run(exchange: &Exchange, command: &str, words: &[&str]) -> Output {
    let url = exchange.url();
    let words = [&[command, "--xt.base-url", &url, "--xt.wallet=spot", "--xt.wallet=earn"], words].concat();
    Exporter::run(&words, &[("XT_ACCESS_KEY", ACCESS_KEY), ("XT_SECRET_KEY", SECRET_KEY)])
}

/// The samples of the wallet that begin with `name`, without it and the labels that all have.
fn earn_samples<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let lines = text.lines().filter(|line| line.contains(r#"wallet="earn""#));
    lines.filter_map(|line| line.strip_prefix(name)).collect()
}

#[test]
fn earn_money_is_frozen_by_product_and_no_threshold_of_usdt_judges_it() {
    let exchange = exchange(SimulatedKeyState::Active);
    // An undocumented product, and one that occurs twice.
    let position = |product: &str, amount: &str| json!({"productType": product, "amount": amount});
    let positions = [position("XRWU", "0.1"), position("LAUNCHPOOL", "2.0"), position("XRWU", "0.2")];
    let value = json!({"currency": "BTC", "amount": "2.30", "positionList": positions});
    exchange.simulator.inject_fault(
        Fault::new(Effect::Row { currency: "BTC".to_owned(), value }).for_endpoint(SimulatedEndpoint::V4Earn),
    );
    let output = run(&exchange, "once", &["--balance.watch=usdt=5"]);
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
    let text = &output.stdout;
    assert_eq!(
        earn_samples(text, "xt_balance_free"),
        [
            r#"{account="main",currency="btc",wallet="earn"} 0"#,
            r#"{account="main",currency="usdt",wallet="earn"} 0"#
        ],
        "no threshold either"
    );
    assert_eq!(
        earn_samples(text, "xt_balance_frozen{"),
        [
            r#"account="main",currency="btc",wallet="earn"} 2.3"#,
            r#"account="main",currency="usdt",wallet="earn"} 1200.5"#
        ]
    );
    assert_eq!(
        earn_samples(text, "xt_balance_frozen_part"),
        [
            r#"{account="main",currency="btc",reason="xrwu",wallet="earn"} 0.3"#,
            r#"{account="main",currency="btc",reason="other",wallet="earn"} 2"#,
            r#"{account="main",currency="usdt",reason="demand_saving",wallet="earn"} 1000.5"#,
            r#"{account="main",currency="usdt",reason="shark_fin",wallet="earn"} 200"#,
        ]
    );
    assert_eq!(earn_samples(text, "xt_watch_present"), [""; 0]);
    assert!(text.contains(r#"xt_balance_free_threshold{account="main",currency="usdt",wallet="spot"} 5"#));
    let calls = exchange.simulator.call_log();
    assert_eq!((calls.count_breaches(), calls.unknown_requests), (0, 0));
}

#[test]
fn a_currency_is_watched_in_earn_by_its_name() {
    let output = run(&exchange(SimulatedKeyState::Active), "once", &["--balance.watch=earn/usdt"]);
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
    let present = earn_samples(&output.stdout, "xt_watch_present");
    assert_eq!(present, [r#"{account="main",currency="usdt",wallet="earn"} 1"#]);
}

#[tokio::test]
async fn a_key_without_the_earn_permission_reads_every_other_wallet() {
    // Earn is asked first, before the key has worked anywhere.
    let exchange = exchange(SimulatedKeyState::NotForEarn);
    let mut poller = TestPoller::for_account(reading(&exchange, &[Wallet::Earn, Wallet::Spot]));
    assert_eq!(poller.poller.run_once().await, (2, 1));
    assert_eq!([SPOT_UP, EARN_UP].map(|up| poller.sample(up)), [Some(1.0), Some(0.0)]);
    let failure = poller.failure().unwrap();
    assert_eq!(failure.reason, Reason::Auth);
    poller.poller.poll_wallets().await;
    assert_eq!(poller.sample(SPOT_UP), Some(1.0));
}

#[test]
fn check_names_the_permission_that_earn_needs() {
    let output = run(&exchange(SimulatedKeyState::NotForEarn), "check", &[]);
    assert_eq!(output.status.code(), Some(1), "{}", output.stdout);
    assert!(output.stdout.contains("ok   wallet spot: "), "{}", output.stdout);
    assert_golden("check_no_earn_permission", &output.stdout);
}
