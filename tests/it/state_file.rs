//! The state file: a crash loop sends nothing for a locked account and tries no refused key, a new key is tried at once,
//! and a file that cannot be used costs one warning.

use std::{fs, path::Path, time::Duration};

use xt_balance_exporter::simulator::{
    Effect, Fault, SimulatedAccount, SimulatedEndpoint, SimulatedWallet, SimulatorConfig,
};

use crate::common::{Exchange, Exporter, hanging_folder::HangingFolder, messages, replace, until};

const REFUSAL_RETRY: Duration = Duration::from_mins(5);

/// An exchange on which `locked` gets limit replies, and whose `refused` has another secret key than the exporter.
fn exchange() -> Exchange {
    let account = |name: &str| {
        SimulatedAccount::new(name, &format!("{name}Key"), &format!("{name}Secret")).with_balance(
            SimulatedWallet::Spot,
            "usdt",
            "5",
            "0",
        )
    };
    let exchange =
        Exchange::new(SimulatorConfig::default(), ["locked", "refused", "well"].map(account).to_vec());
    let limit_reply = Fault::new(Effect::from_status(429)).for_account("locked");
    exchange.simulator.inject_fault(limit_reply.for_endpoint(SimulatedEndpoint::GetBalance));
    exchange
}

/// Writes the configuration and the key files.
fn write_config(folder: &Path, exchange: &Exchange) {
    let mut text = format!(
        "api: v1\nbase_urls: ['{}']\npoll_interval: 1s\npoll_timeout: 900ms\naccounts:\n",
        exchange.url()
    );
    for name in ["locked", "refused", "well"] {
        let account =
            format!("- {{name: {name}, access_key_file: {name}.key, secret_key_file: {name}.secret}}\n");
        text.push_str(&account);
        replace(&folder.join(format!("{name}.key")), &format!("{name}Key"));
        let secret = if name == "refused" { "wrong" } else { name };
        replace(&folder.join(format!("{name}.secret")), &format!("{secret}Secret"));
    }
    replace(&folder.join("accounts.yml"), &text);
}

fn start(folder: &Path, state: &Path) -> Exporter {
    let config = format!("--config.file={}", folder.join("accounts.yml").display());
    let state = [("STATE_DIRECTORY", state.to_str().unwrap())];
    Exporter::start(&["--web.listen-address=127.0.0.1:0", &config], &state)
}

/// Waits until the account `well` was polled twice.
fn wait_for_polls(exporter: &Exporter) {
    let polls = || exporter.sample("xt_polls_total{account=\"well\",wallet=\"spot\"}");
    until("the healthy account is polled", || polls().filter(|polls| *polls >= 2.0));
}

#[test]
fn a_crash_loop_calls_no_locked_account_and_tries_no_refused_key() {
    let (exchange, folder, state) = (exchange(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_config(folder.path(), &exchange);
    let saved = || fs::read_to_string(state.path().join("limits.json")).unwrap_or_default();
    let first = start(folder.path(), state.path());
    until("both are saved", || {
        let text = saved();
        (text.contains("\"account\": \"locked\"") && text.contains("\"spot\":")).then_some(())
    });
    assert!(!saved().contains("Key") && !saved().contains("Secret"), "{}", saved());
    first.signal("KILL");
    first.wait();
    for _ in 0..4 {
        let exporter = start(folder.path(), state.path());
        wait_for_polls(&exporter);
        let paused = exporter.sample("xt_paused_until_timestamp_seconds{account=\"locked\"}");
        assert!(paused.is_some_and(|until| until > 0.0), "{paused:?}");
        exporter.signal("KILL");
        exporter.wait();
    }
    let log = exchange.simulator.call_log();
    assert_eq!(log.asset_call_times("locked").len(), 1, "nothing was sent during the pause");
    let tries = log.asset_call_times("refused");
    assert!(tries.windows(2).all(|pair| pair[1] >= pair[0] + REFUSAL_RETRY), "{tries:?}");

    // A new key is tried at once.
    replace(&folder.path().join("refused.secret"), "refusedSecret");
    let exporter = start(folder.path(), state.path());
    until("the new key works", || {
        exporter.sample("xt_up{account=\"refused\",wallet=\"spot\"}").filter(|up| *up > 0.0)
    });
    assert_eq!(exchange.simulator.call_log().asset_call_times("locked").len(), 1);
}

#[test]
fn a_state_file_that_cannot_be_used_costs_one_warning() {
    let (exchange, folder, state) = (exchange(), tempfile::tempdir().unwrap(), HangingFolder::new());
    write_config(folder.path(), &exchange);
    let warnings = |exporter: &Exporter| exporter.stderr.text().matches(messages::STATE_FILE).count();
    fs::write(state.path().join("limits.json"), "{\"version\": 1, \"saved\"").unwrap();
    let exporter = start(folder.path(), &state.path());
    wait_for_polls(&exporter);
    assert_eq!(warnings(&exporter), 1, "{}", exporter.stderr.text());
    drop(exporter);

    state.hang();
    let exporter = start(folder.path(), &state.path());
    wait_for_polls(&exporter);
    assert_eq!(warnings(&exporter), 1, "{}", exporter.stderr.text());
    exporter.signal("TERM");
    assert_eq!(exporter.wait().status.code(), Some(0));

    let nowhere = folder.path().join("nowhere");
    let exporter = start(folder.path(), &nowhere);
    wait_for_polls(&exporter);
    exporter.stderr.wait_for(messages::STATE_FILE);
    assert_eq!(warnings(&exporter), 1, "{}", exporter.stderr.text());
}
