//! What `serve` logs about watched currencies: one line at the first good poll, and one after a reload that changes them.

use std::path::Path;

use crate::common::{ACCESS_KEY, Exchange, Exporter, SECRET_KEY, messages, replace, until};
use xt_balance_exporter::simulator::{SimulatedAccount, SimulatedWallet, SimulatorConfig};

const POLLS: &str = "xt_polls_total{account=\"main\",wallet=\"spot\"}";

struct World {
    folder: tempfile::TempDir,
    exchange: Exchange,
}

impl World {
    fn new() -> Self {
        let account = SimulatedAccount::new("main", ACCESS_KEY, SECRET_KEY)
            .with_balance(SimulatedWallet::Spot, "btc", "0.5", "0")
            .with_balance(SimulatedWallet::Spot, "usdt", "471", "29");
        let exchange = Exchange::new(SimulatorConfig::default(), vec![account]);
        let world = Self { folder: tempfile::tempdir().unwrap(), exchange };
        replace(&world.path().join("k"), ACCESS_KEY);
        replace(&world.path().join("s"), SECRET_KEY);
        world
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, interval: &str, watch: &str) {
        let text = format!(
            "api: v1\nbase_urls: ['{}']\npoll_interval: {interval}\npoll_timeout: 900ms\naccounts:\n\
             - name: main\n  access_key_file: k\n  secret_key_file: s\n  watch: {watch}\n",
            self.exchange.url()
        );
        replace(&self.path().join("accounts.yml"), &text);
    }

    fn start(&self) -> Exporter {
        let config = format!("--config.file={}", self.path().join("accounts.yml").display());
        Exporter::start(&["--web.listen-address=127.0.0.1:0", &config], &[])
    }
}

fn warnings(exporter: &Exporter) -> Vec<String> {
    let log = exporter.stderr.text();
    log.lines().filter(|line| line.contains(messages::WATCH_PROBLEMS)).map(str::to_owned).collect()
}

/// Reloads the configuration, and waits for further good polls.
fn reload(exporter: &Exporter) {
    let reloads = || exporter.stderr.text().matches(messages::RELOADED).count();
    let before = reloads();
    exporter.signal("HUP");
    until("the configuration is reloaded", || (reloads() > before).then_some(()));
    poll_again(exporter);
}

fn poll_again(exporter: &Exporter) {
    let polls = || exporter.sample(POLLS).unwrap_or_default();
    let before = polls();
    until("there were three more polls", || (polls() >= before + 3.0).then_some(()));
}

#[test]
fn missing_and_low_currencies_are_one_line_until_a_reload_changes_them() {
    let world = World::new();
    world.write("1s", "{btc: 0.1, nosuch: 5, usdt: 500}");
    let exporter = world.start();
    let line = exporter.stderr.wait_for(messages::WATCH_PROBLEMS);
    let expected = "missing from the answer: nosuch (check the spelling); below the threshold: usdt";
    assert!(line.contains("level=warn") && line.contains(expected), "{line}");
    assert!(line.contains("account=main") && line.contains("wallet=spot"), "{line}");
    poll_again(&exporter);
    assert_eq!(warnings(&exporter).len(), 1);

    world.write("1100ms", "{btc: 0.1, nosuch: 5, usdt: 500}");
    reload(&exporter);
    assert_eq!(warnings(&exporter).len(), 1, "the watched currencies are the same");

    world.write("1s", "{btc: 0.1, usdt: 600}");
    reload(&exporter);
    let lines = warnings(&exporter);
    assert!(
        lines.len() == 2 && lines[1].contains("watched currencies below the threshold: usdt"),
        "{lines:?}"
    );

    world.write("1s", "{btc: 0.1, usdt: 400}");
    reload(&exporter);
    assert_eq!(warnings(&exporter).len(), 2, "nothing is missing or low");
}
