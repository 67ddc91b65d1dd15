//! The fire drill: each fault that should page does so once, and nothing else pages. A real Prometheus, a real Alertmanager,
//! the daemon, three simulated exchanges and a receiver run together.
//!
//! All faults begin at the same moment, each at another account, so that an alert can be muted or hidden by another one.
//! Then all faults are repaired. An unexpected message ends the drill when it arrives, a missing one at the end.
//!
//! `make drill` shows each step as it happens, and at the end a table of the messages and their times.
//! Needs the Debian packages prometheus and prometheus-alertmanager, and `vmalert` needs victoria-metrics.

mod demo;
mod drill;
pub mod servers;
pub mod shipped;
mod vmalert;

use std::{fmt::Write as _, fs, net::SocketAddr, path::Path, sync::mpsc, thread, time::Duration};

use crate::common::{Exporter, replace};
use drill::Drill;
use serde_json::json;
use servers::{Alertmanager, Exchange, NodeExporter, Prometheus, Receiver, ReservedPort};
use shipped::FACTOR;

/// Maximum wait for messages. Each is due at most two minutes after its cause.
const MESSAGE_TIMEOUT: Duration = Duration::from_mins(5);

/// Evaluations of the rules, one per second, before the faults begin: more than `max_age`, because the drill does not test
/// the start of an exporter.
const SETTLED_EVALUATIONS: u64 = 20;

/// Evaluations of the rules, one per second, after which Alertmanager has sent all messages: more than `group_interval`, its
/// longest wait of 20 seconds.
const QUIET_EVALUATIONS: u64 = 25;

#[test]
fn each_fault_pages_once_and_nothing_else_pages() {
    let mut deployment = Deployment::start();
    deployment.drill.wait_until_healthy(6);
    report(&format!("\nEvery time is {FACTOR} times shorter than shipped. These faults begin at once:"));
    deployment.inject_faults();
    deployment.drill.wait_for_messages();
    let hedge_down = format!("XtExporterInstanceDown warning of {}", deployment.hedge_port.address);
    for (muted, by) in [
        (&*hedge_down, "XtExporterDown critical"),
        ("XtBalanceLow warning of market-maker/usdt", "XtBalanceLow critical of market-maker/usdt"),
        ("XtBalanceLow warning of treasury/usdt", "XtBalanceLow critical of treasury/usdt"),
        ("XtWatchedCurrencyMissing warning of treasury/usdt", "XtBalanceLow critical of treasury/usdt"),
        ("XtBalanceUnknown critical of arbitrage/usdt", "XtAuthFailing critical of arbitrage"),
        ("XtPollFailing warning of arbitrage", "XtAuthFailing critical of arbitrage"),
        ("XtPollFailing warning of otc-desk", "XtBalanceUnknown critical of otc-desk/usdt"),
    ] {
        deployment.drill.wait_until_muted(muted, by);
    }
    report("\nThe faults are repaired:");
    deployment.repair_faults();
    deployment.drill.wait_for_messages();
    deployment.drill.wait_for_quiet();
    report(&deployment.drill.format_table());
}

/// The exchange refuses the key before the first scrape, so Prometheus never sees the counter of failures rise.
#[test]
fn a_key_that_never_worked_pages_once_as_a_refused_key() {
    let folder = tempfile::tempdir().unwrap();
    let desks = Exchange::start();
    desks.inject(&json!({"account": "arbitrage", "effect": "revoked"}));
    let file = write_config(folder.path(), "new", &[("newcomer", &desks, "arbitrage", "{usdt: 1}")]);
    let port = ReservedPort::new();
    let exporter = start_daemon(&file, port.address);
    exporter.ready();
    let receiver = Receiver::start();
    let alertmanager = Alertmanager::start(folder.path(), receiver.address);
    let prometheus = Prometheus::start(folder.path(), alertmanager.address, &[port.address]);
    let mut drill = Drill::new(prometheus, alertmanager, receiver);

    drill.run_step("newcomer: is watched from now on, with a key that does not work", || ());
    drill.expect_page(
        "XtAuthFailing critical of newcomer",
        "newcomer/spot: the exchange refuses the key (auth)",
    );
    drill.wait_for_messages();
    drill
        .wait_until_muted("XtBalanceUnknown critical of newcomer/usdt", "XtAuthFailing critical of newcomer");
    drill.run_step("newcomer: a key that works is put into its files", || {
        write_keys(folder.path(), "newcomer", &desks.key_pair("cold-storage"));
    });
    drill.expect_resolved(
        "page: XtAuthFailing critical of newcomer resolved and XtBalanceUnknown critical of newcomer/usdt resolved",
    );
    drill.wait_for_messages();
    drill.wait_for_quiet();
    report(&drill.format_table());
}

/// Targets with the labels `account` and `host`: the shipped job keeps the exporter's own labels.
#[test]
fn target_labels_of_the_same_names_change_nothing() {
    target_labels(|config| config, false);
}

/// A job without `honor_labels`. An alert reports it, and the others still name the right account and threshold.
#[test]
fn target_labels_without_honor_labels_raise_an_alert_and_mix_no_accounts() {
    target_labels(
        |config| shipped::replace_address(&config, "honor_labels: true", "honor_labels: false", 1),
        true,
    );
}

/// Three accounts on one target with labels of the same names: one is low, one is unknown, and one is low with a far higher
/// threshold.
fn target_labels(edit: impl Fn(String) -> String, are_renamed: bool) {
    let folder = tempfile::tempdir().unwrap();
    let (desks, elsewhere) = (Exchange::start(), Exchange::start());
    desks.set("market-maker", "usdt", "1800");
    desks.set("treasury", "usdt", "9500");
    elsewhere.set("treasury", "usdt", "54000");
    let accounts = [
        ("desk", &desks, "market-maker", "{usdt: 500}"),
        ("treasury", &desks, "treasury", "{usdt: 9000}"),
        ("otc", &elsewhere, "treasury", "{usdt: 1}"),
    ];
    let file = write_config(folder.path(), "labels", &accounts);
    let port = ReservedPort::new();
    let exporter = start_daemon(&file, port.address);
    exporter.ready();
    let receiver = Receiver::start();
    let alertmanager = Alertmanager::start(folder.path(), receiver.address);
    let labels = "\"127.0.0.1:10770\"], labels: {account: prod, wallet: any, currency: eur, host: box, reason: none}}]";
    let prometheus =
        Prometheus::start_edited(folder.path(), alertmanager.address, &[port.address], |config| {
            shipped::replace_address(&edit(config), "\"127.0.0.1:10770\"]}]", labels, 1)
        });
    let mut drill = Drill::new(prometheus, alertmanager, receiver);

    let own = if are_renamed { "exported_account" } else { "account" };
    let query = format!("xt_balance_free{{{own}=\"desk\"}} and xt_balance_free_threshold");
    drill.wait_until("Prometheus keeps the label or renames it", |drill| drill.prometheus.count(&query) == 1);
    drill.run_step(
        "desk: 120.5 USDT, threshold 500; treasury: 4000, threshold 9000; otc: answers 500",
        || {
            desks.set("market-maker", "usdt", "120.5");
            desks.set("treasury", "usdt", "4000");
            elsewhere.inject(&json!({"effect": {"status": {"status": 500}}}));
        },
    );
    drill.expect_page("XtBalanceLow critical of desk/usdt", "desk/spot: 120.5 USDT free, 24 % of 500");
    drill
        .expect_page("XtBalanceLow critical of treasury/usdt", "treasury/spot: 4000 USDT free, 44 % of 9000");
    drill.expect_page(
        "XtBalanceUnknown critical of otc/usdt",
        "otc/spot: USDT unknown, was 54000, threshold 1",
    );
    if are_renamed {
        drill.expect_ticket(
            "XtLabelsRenamed warning of xt-balance-exporter",
            "Job xt-balance-exporter: its target labels rename labels of the exporter",
        );
    }
    drill.wait_for_messages();
    // Each cause mutes its own consequences, and every page of another account stays.
    for account in ["desk", "treasury"] {
        let page = format!("XtBalanceLow critical of {account}/usdt");
        drill.wait_until_muted(&format!("XtBalanceLow warning of {account}/usdt"), &page);
    }
    drill.wait_until_muted("XtPollFailing warning of otc", "XtBalanceUnknown critical of otc/usdt");
    for (name, muted_by) in drill.alertmanager.alerts() {
        assert!(name.contains("warning") || muted_by.is_empty(), "{muted_by:?} mutes the page {name}");
    }
    report(&drill.format_table());
}

/// The rules of withdrawals are a file of their own, which `prometheus.yml` names in a comment.
#[test]
fn a_pending_withdrawal_pages_once_until_it_is_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let desks = Exchange::start();
    desks.set("market-maker", "usdt", "1800");
    desks.set("market-maker", "btc", "1.5");
    let accounts = [("desk", &desks, "market-maker", "{usdt: 500}, api: v4")];
    let file = write_config(folder.path(), "withdrawal", &accounts);
    let port = ReservedPort::new();
    let exporter = start_daemon(&file, port.address);
    exporter.ready();
    let receiver = Receiver::start();
    let alertmanager = Alertmanager::start(folder.path(), receiver.address);
    let rules = Path::new(shipped::WITHDRAWAL_RULES).file_name().unwrap().to_str().unwrap();
    fs::write(folder.path().join(rules), shipped::read_shortened(shipped::WITHDRAWAL_RULES, FACTOR)).unwrap();
    let prometheus =
        Prometheus::start_edited(folder.path(), alertmanager.address, &[port.address], |config| {
            let both = format!("[xt-balance.rules.yml, {rules}]");
            shipped::replace_address(&config, "[xt-balance.rules.yml]", &both, 1)
        });
    let mut drill = Drill::new(prometheus, alertmanager, receiver);
    drill.wait_until("the part of withdrawals is known, and nothing is wrong", |drill| {
        let query = "xt_balance_frozen_part{currency=\"usdt\",reason=\"withdraw\"}";
        drill.prometheus.count(query) == 1
            && drill.prometheus.evaluations() >= SETTLED_EVALUATIONS
            && drill.prometheus.alerts().is_empty()
    });

    drill.run_step("desk: a withdrawal of 0.5 BTC, which is not watched, is submitted", || {
        let row = json!({"available": "1", "freeze": "0.5", "parts": {"trade": "0", "withdraw": "0.5"}});
        desks.set_row("market-maker", "btc", &row);
    });
    let page = "XtWithdrawalPending critical of desk/btc";
    drill.expect_page(page, "desk/spot: withdrawals hold 0.5 BTC");
    drill.wait_for_messages();
    drill.run_step("desk: the withdrawal is cancelled", || desks.set("market-maker", "btc", "1.5"));
    drill.expect_resolved(&format!("page: {page} resolved"));
    drill.wait_for_messages();
    drill.wait_for_quiet();
    report(&drill.format_table());
}

#[test]
fn a_textfile_that_nobody_rewrites_pages() {
    with_textfile(|drill, node, cron, _| {
        let page = format!("XtTextfileStale critical of {node}");
        let summary = format!("{node}: textfile not updated for at least 15 minutes, wallets in it: 1");
        drill.run_step("desk: cron no longer rewrites its textfile", || cron.stop());
        drill.expect_page(&page, &summary);
        drill.wait_for_messages();
        drill.run_step("desk: cron runs again", || cron.start());
        drill.expect_resolved(&format!("page: {page} resolved"));
    });
}

#[test]
fn a_textfile_that_is_deleted_pages() {
    with_textfile(|drill, _, cron, textfile| {
        drill.run_step("desk: cron stops, and its textfile is deleted", || {
            cron.stop();
            fs::remove_file(textfile).unwrap();
        });
        drill.expect_page("XtExporterDown critical", "Not watched any more: desk/spot");
        drill.wait_for_messages();
        drill.run_step("desk: cron runs again", || cron.start());
        drill.expect_resolved("page: XtExporterDown critical resolved");
    });
}

/// Runs `story` on an account that `once` writes to a textfile, as cron runs it, and that a `node_exporter` serves.
fn with_textfile(scenario: impl FnOnce(&mut Drill, SocketAddr, &mut Cron, &Path)) {
    let folder = tempfile::tempdir().unwrap();
    let desks = Exchange::start();
    desks.set("market-maker", "usdt", "1800");
    let file = write_config(folder.path(), "once", &[("desk", &desks, "market-maker", "{usdt: 500}")]);
    let textfile = folder.path().join("xt-balance.prom");
    let mut cron = Cron { config: file, textfile: textfile.display().to_string(), runs: None };
    cron.start();
    let node = NodeExporter::start(textfile.clone()).address;
    let receiver = Receiver::start();
    let alertmanager = Alertmanager::start(folder.path(), receiver.address);
    let prometheus = Prometheus::start_edited(folder.path(), alertmanager.address, &[node], |config| {
        shipped::replace_address(&config, "job_name: xt-balance-exporter", "job_name: node", 1)
    });
    let mut drill = Drill::new(prometheus, alertmanager, receiver);
    drill.wait_until_healthy(1);
    scenario(&mut drill, node, &mut cron, &textfile);
    drill.wait_for_messages();
    report(&drill.format_table());
}

/// Writes a textfile every other second.
struct Cron {
    config: String,
    textfile: String,
    runs: Option<(mpsc::Sender<()>, thread::JoinHandle<()>)>,
}

impl Cron {
    /// Returns once the file is there.
    fn start(&mut self) {
        let (config, textfile) = (self.config.clone(), self.textfile.clone());
        let run = move || {
            let output = Exporter::run(&["once", "--config.file", &config, "--output", &textfile], &[]);
            assert!(output.status.success(), "{}", output.stderr);
        };
        run();
        let (stop, stopped) = mpsc::channel();
        let runs = thread::spawn(move || {
            while stopped.recv_timeout(Duration::from_secs(2)) == Err(mpsc::RecvTimeoutError::Timeout) {
                run();
            }
        });
        self.runs = Some((stop, runs));
    }

    /// Returns between two runs.
    fn stop(&mut self) {
        let (stop, runs) = self.runs.take().unwrap();
        drop(stop);
        runs.join().unwrap();
    }
}

/// Two exporters, their accounts on three exchanges, and the drill.
struct Deployment {
    drill: Drill,
    desks: Exchange,
    /// The exchange of otc-desk only.
    elsewhere: Exchange,
    third: Exchange,
    _main: Exporter,
    hedge: Option<Exporter>,
    hedge_file: String,
    hedge_port: ReservedPort,
    _main_port: ReservedPort,
    folder: tempfile::TempDir,
}

impl Deployment {
    /// Starts everything; no alert is due.
    fn start() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path();
        let (desks, elsewhere, third) = (Exchange::start(), Exchange::start(), Exchange::start());
        desks.set("market-maker", "usdt", "1800");
        desks.set("treasury", "usdt", "9000");
        desks.set("treasury", "btc", "2");
        elsewhere.set("treasury", "usdt", "54000");
        third.set("cold-storage", "usdt", "500.01");
        let accounts = [
            ("market-maker", &desks, "market-maker", "{usdt: 500}"),
            ("treasury", &desks, "treasury", "{usdt: 500, btc: ~, eth: ~}"),
            // Unknown as soon as a poll fails: what follows from a refused key does not wait for it to page.
            ("arbitrage", &desks, "arbitrage", "{usdt: 1}, max_age: 3s"),
            ("otc-desk", &elsewhere, "treasury", "{usdt: 1}"),
            ("reserve", &third, "cold-storage", "{usdt: 500}"),
        ];
        let main_file = write_config(folder, "main", &accounts);
        let hedge_file = write_config(folder, "hedge", &[("hedge", &third, "treasury", "{usdt: 1}")]);
        let (main_port, hedge_port) = (ReservedPort::new(), ReservedPort::new());
        let main = start_daemon(&main_file, main_port.address);
        let hedge = start_daemon(&hedge_file, hedge_port.address);
        main.ready();
        hedge.ready();

        let receiver = Receiver::start();
        let alertmanager = Alertmanager::start(folder, receiver.address);
        let exporters = [main_port.address, hedge_port.address];
        let prometheus = Prometheus::start(folder, alertmanager.address, &exporters);
        Self {
            drill: Drill::new(prometheus, alertmanager, receiver),
            desks,
            elsewhere,
            third,
            _main: main,
            hedge: Some(hedge),
            hedge_file,
            hedge_port,
            _main_port: main_port,
            folder: temporary,
        }
    }

    fn inject_faults(&mut self) {
        let Self { drill, desks, elsewhere, third, .. } = self;

        drill.run_step("market-maker: 1800 USDT become 120.5, threshold 500", || {
            desks.set("market-maker", "usdt", "120.5");
        });
        drill.expect_page(
            "XtBalanceLow critical of market-maker/usdt",
            "market-maker/spot: 120.5 USDT free, 24 % of 500",
        );

        drill.run_step("otc-desk: its exchange answers 500", || {
            elsewhere.inject(&json!({"effect": {"status": {"status": 500}}}));
        });
        drill.expect_page(
            "XtBalanceUnknown critical of otc-desk/usdt",
            "otc-desk/spot: USDT unknown, was 54000, threshold 1",
        );

        drill.run_step("arbitrage: its key is revoked", || {
            desks.inject(&json!({"account": "arbitrage", "effect": "revoked"}));
        });
        drill.expect_page(
            "XtAuthFailing critical of arbitrage",
            "arbitrage/spot: the exchange refuses the key (auth)",
        );

        drill.run_step("treasury: its rows of USDT (threshold 500) and BTC (no threshold) vanish", || {
            desks.remove("treasury", "usdt");
            desks.remove("treasury", "btc");
        });
        drill.expect_page("XtBalanceLow critical of treasury/usdt", "treasury/spot: 0 USDT free, 0 % of 500");
        drill.expect_ticket(
            "XtWatchedCurrencyMissing warning of treasury/btc",
            "treasury/spot: the exchange does not list BTC",
        );

        let hedge = self.hedge.take();
        drill.run_step("hedge: its exporter is killed", || drop(hedge));
        drill.expect_page("XtExporterDown critical", "Not watched any more: hedge/spot");

        drill.run_step("reserve: 500.01 USDT, threshold 500, and its exchange answers 500 for 4 s", || {
            let fault =
                json!({"effect": {"status": {"status": 500}}, "seconds": 4, "account": "cold-storage"});
            third.inject(&fault);
        });
    }

    fn repair_faults(&mut self) {
        let Self { drill, desks, elsewhere, hedge, .. } = self;

        drill.run_step("market-maker: topped up to 1800 USDT", || desks.set("market-maker", "usdt", "1800"));
        drill.expect_resolved("page: XtBalanceLow critical of market-maker/usdt resolved");

        drill.run_step("otc-desk: its exchange answers again", || elsewhere.clear_faults());
        drill.expect_resolved("page: XtBalanceUnknown critical of otc-desk/usdt resolved");
        // Muted until now, and still true: most polls of the last quarter of an hour failed.
        drill.expect_ticket("XtPollFailing warning of otc-desk", "otc-desk/spot: polls fail (unavailable)");
        drill.expect_resolved("ticket: XtPollFailing warning of otc-desk resolved");

        drill.run_step("arbitrage: a new key is put into its files", || {
            write_keys(self.folder.path(), "arbitrage", &desks.key_pair("cold-storage"));
        });
        // What was muted until now is over as well, and the one message says so.
        drill.expect_resolved(
            "page: XtAuthFailing critical of arbitrage resolved and XtBalanceUnknown critical of arbitrage/usdt resolved",
        );

        drill.run_step("treasury: both rows are back", || {
            desks.set("treasury", "usdt", "9000");
            desks.set("treasury", "btc", "2");
        });
        drill.expect_resolved("ticket: XtWatchedCurrencyMissing warning of treasury/btc resolved");
        drill.expect_resolved("page: XtBalanceLow critical of treasury/usdt resolved");

        let address = self.hedge_port.address;
        drill.run_step("hedge: its exporter is started again", || {
            *hedge = Some(start_daemon(&self.hedge_file, address));
        });
        drill.expect_resolved("page: XtExporterDown critical resolved");
    }
}

fn report(text: &str) {
    println!("{text}");
}

/// Writes a configuration with the daemon's default times, shortened. Each account has its name, its exchange, its name
/// there, and its `watch` with further settings. Returns the file.
fn write_config(folder: &Path, name: &str, accounts: &[(&str, &Exchange, &str, &str)]) -> String {
    let interval = shipped::shorten_duration(Duration::from_secs(30), FACTOR);
    // The timeout is for a machine, which is not faster than it is: nearly the interval.
    let mut text =
        format!("api: v1\npoll_interval: {}ms\npoll_timeout: 1900ms\naccounts:\n", interval.as_millis());
    for (account, exchange, there, watch) in accounts {
        write_keys(folder, account, &exchange.key_pair(there));
        let _ = writeln!(
            text,
            "  - {{name: {account}, base_urls: [\"http://{}\"], access_key_file: {account}.key, secret_key_file: {account}.secret, watch: {watch}}}",
            exchange.address
        );
    }
    let file = folder.join(name).with_extension("yml");
    fs::write(&file, text).unwrap();
    file.display().to_string()
}

/// Writes a key pair into an account's files.
fn write_keys(folder: &Path, account: &str, (access, secret): &(String, String)) {
    for (kind, text) in [("key", access), ("secret", secret)] {
        replace(&folder.join(format!("{account}.{kind}")), text);
    }
}

fn start_daemon(file: &str, address: SocketAddr) -> Exporter {
    let exporter =
        Exporter::start(&["serve", "--config.file", file, &format!("--web.listen-address={address}")], &[]);
    assert_eq!(exporter.address(), address);
    exporter
}
