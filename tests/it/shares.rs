//! Shares of the rate limits: two daemons with the same key pass no limit, and a reload changes a share.

use std::{fs, path::Path, time::Duration};

use xt_balance_exporter::simulator::{
    SimulatedAccount, SimulatedWallet, SimulatorConfig, max_calls_in_window,
};

use crate::common::{ACCESS_KEY, Exchange, Exporter, SECRET_KEY, replace, until};

const POLLS: &str = r#"xt_polls_total{account="main",wallet="spot"}"#;
const KEY: &str = r#"{account="main",scope="key"}"#;
const ADDRESS: &str = r#"{egress="default",scope="address"}"#;

/// A configuration that makes a call a second with its key.
fn write_config(folder: &Path, url: &str, share: &str) {
    fs::write(folder.join("k"), ACCESS_KEY).unwrap();
    fs::write(folder.join("s"), SECRET_KEY).unwrap();
    let text = format!(
        "api: v1\nbase_urls: ['{url}']\npoll_interval: 1s\npoll_timeout: 900ms\nlimits: {{share: {share}}}\n\
         accounts: [{{name: main, access_key_file: k, secret_key_file: s}}]\n"
    );
    replace(&folder.join("accounts.yml"), &text);
}

fn serve(folder: &Path) -> Exporter {
    let config = format!("--config.file={}", folder.join("accounts.yml").display());
    Exporter::start(&["--web.listen-address=127.0.0.1:0", &config], &[])
}

#[test]
fn two_daemons_with_halves_make_the_calls_of_one_and_a_reload_changes_a_share() {
    let account = SimulatedAccount::new("main", ACCESS_KEY, SECRET_KEY).with_balance(
        SimulatedWallet::Spot,
        "usdt",
        "5",
        "0",
    );
    let exchange = Exchange::new(SimulatorConfig::default(), vec![account]);
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), &exchange.url(), "1/2");
    let daemons = [serve(folder.path()), serve(folder.path())];
    let [first, second] = &daemons;
    for daemon in &daemons {
        until("it has polled", || daemon.sample(POLLS).filter(|polls| *polls >= 6.0));
        assert_eq!(daemon.sample(&format!("xt_rate_limit_capacity{KEY}")), Some(1.0));
        assert_eq!(daemon.sample(&format!("xt_rate_limit_capacity{ADDRESS}")), Some(450.0));
        assert!(daemon.sample(&format!("xt_rate_limit_calls{ADDRESS}")).is_some_and(|calls| calls >= 6.0));
    }
    let log = exchange.simulator.call_log();
    assert_eq!(log.count_breaches(), 0);
    let calls = log.asset_call_times("main");
    assert!(max_calls_in_window(&calls, Duration::from_secs(1)) <= 2, "{calls:?}");

    // The file of both, but only one of them reads it again.
    for (share, capacity) in [("1", 900.0), ("2/3", 600.0), ("0.5", 600.0)] {
        write_config(folder.path(), &exchange.url(), share);
        first.signal("HUP");
        let shown = || first.sample(&format!("xt_rate_limit_capacity{ADDRESS}"));
        until("the share changes", || (shown() == Some(capacity)).then_some(()));
    }
    first.stderr.wait_for("a fraction such as 1/2");
    assert_eq!(first.sample(&format!("xt_rate_limit_capacity{ADDRESS}")), Some(600.0));
    assert_eq!(second.sample(&format!("xt_rate_limit_capacity{ADDRESS}")), Some(450.0));
    assert_eq!(exchange.simulator.call_log().count_breaches(), 0);
}
