//! `once` and `check` beside a running daemon: together they pass no limit of the exchange, and the daemon still polls.

use std::{fs, net::SocketAddr, thread, time::Duration};

use sha2::{Digest as _, Sha256};
use xt_balance_exporter::simulator::{
    Effect, Fault, SimulatedAccount, SimulatedWallet, SimulatorConfig, max_calls_in_window,
};

use crate::common::{
    ACCESS_KEY, Exchange, Exporter, Output, SECRET_KEY, messages, request, run_concurrently, sample, until,
};

const KEYS: [(&str, &str); 2] = [("XT_ACCESS_KEY", ACCESS_KEY), ("XT_SECRET_KEY", SECRET_KEY)];
const SECOND: Duration = Duration::from_secs(1);
const POLLS: &str = r#"xt_polls_total{account="main",wallet="spot"}"#;
const PAUSED_UNTIL: &str = r#"xt_paused_until_timestamp_seconds{account="main"}"#;
/// Makes a call a second with the key: half of its limit.
const FAST: [&str; 3] = ["--xt.api=v1", "--poll.interval=1s", "--poll.timeout=900ms"];

fn exchange() -> Exchange {
    let account = SimulatedAccount::new("main", ACCESS_KEY, SECRET_KEY)
        .with_balance(SimulatedWallet::Spot, "usdt", "5", "0")
        .with_balance(SimulatedWallet::Wallet, "usdt", "6", "0");
    Exchange::new(SimulatorConfig::default(), vec![account])
}

/// Runs `once` or `check` beside the daemon at `daemon`.
fn run_beside(daemon: SocketAddr, command: &str, exchange: &Exchange, more: &[&str]) -> Output {
    let (url, address) = (exchange.url(), format!("--web.listen-address={daemon}"));
    let args = [&[command, "--xt.api=v1", "--xt.base-url", &url, &address], more].concat();
    Exporter::run(&args, &KEYS)
}

/// The counters of failed polls that are not 0.
fn failed_polls(daemon: &Exporter) -> Vec<String> {
    let metrics = daemon.metrics();
    let failures = metrics.lines().filter(|line| line.starts_with("xt_poll_failures_total{"));
    failures.filter(|line| !line.ends_with(" 0")).map(str::to_owned).collect()
}

/// Waits until the daemon has polled `more` times.
fn wait_for_polls(daemon: &Exporter, more: f64) {
    let before = daemon.sample(POLLS).unwrap();
    until("the daemon polls on", || daemon.sample(POLLS).filter(|polls| *polls >= before + more));
}

/// The path that asks for a permit for the daemon's key.
fn permit_path() -> String {
    let hash = Sha256::digest(ACCESS_KEY);
    hash.iter().fold("/-/permit?key=".to_owned(), |path, byte| path + &format!("{byte:02x}"))
}

#[test]
fn any_number_of_commands_share_the_limits_of_the_daemon() {
    let exchange = exchange();
    let daemon = Exporter::serve(&exchange.url(), &FAST);
    daemon.ready();
    let address = daemon.address();
    run_concurrently(vec!["once", "check", "once", "check"], |command| {
        let output = run_beside(address, command, &exchange, &[]);
        assert!(output.status.success(), "{command}: {}{}", output.stdout, output.stderr);
    });
    wait_for_polls(&daemon, 2.0);
    assert_eq!(failed_polls(&daemon), [""; 0]);
    let log = exchange.simulator.call_log();
    assert_eq!(log.count_breaches(), 0);
    // Five processes keep the limit of one.
    let calls = log.asset_call_times("main");
    assert!(max_calls_in_window(&calls, SECOND) <= 2, "{calls:?}");
}

#[test]
fn a_command_that_gets_no_permits_leaves_room_for_the_daemon() {
    let exchange = exchange();
    let folder = tempfile::tempdir().unwrap();
    let web = folder.path().join("web.yml");
    // Of `hunter2`, by Python's bcrypt.
    let hash = "$2b$04$zcJ9CRqi.V8swiImsw8DYeRhPRTQXbenYWojITkx4vLNdL4Al0c0O";
    fs::write(&web, format!("basic_auth_users:\n  alice: {hash}\n")).unwrap();
    let config = format!("--web.config.file={}", web.display());
    let daemon = Exporter::serve(
        &exchange.url(),
        &[&FAST[..], &["--xt.wallet=spot", "--xt.wallet=wallet", &config]].concat(),
    );
    let address = daemon.address();
    assert_eq!(request("POST", address, "/-/permit", &[]).status, 401);
    let output = run_beside(address, "once", &exchange, &["--xt.wallet=spot", "--xt.wallet=wallet"]);
    assert!(output.status.success(), "{}", output.stderr);
    let log = exchange.simulator.call_log();
    assert_eq!(log.count_breaches(), 0);
    assert!(max_calls_in_window(&log.asset_call_times("main"), SECOND) <= 3);
}

#[test]
fn a_command_sends_nothing_while_the_daemon_is_paused() {
    let exchange = exchange();
    let daemon = Exporter::serve(&exchange.url(), &FAST);
    daemon.ready();
    let limited = Effect::Status {
        status: 429,
        body: String::new(),
        content_type: None,
        retry_after: Some("3600".to_owned()),
        location: None,
    };
    exchange.simulator.inject_fault(Fault::new(limited));
    let paused_until =
        until("the daemon is paused", || daemon.sample(PAUSED_UNTIL).filter(|until| *until > 0.0));
    let calls = exchange.simulator.call_log().records.len();
    let run = |command| {
        let output = run_beside(daemon.address(), command, &exchange, &[]);
        assert_eq!(output.status.code(), Some(1), "{}", output.stderr);
        output
    };
    let once = run("once");
    // The pause travels as whole seconds.
    let learned = sample(&once.stdout, PAUSED_UNTIL).unwrap();
    assert!((paused_until..paused_until + 60.0).contains(&learned), "{paused_until} {learned}");
    let lines = once.stderr.lines().filter(|line| line.contains(messages::PAUSED));
    let lines: Vec<_> = lines.collect();
    assert!(matches!(&*lines, [line] if line.contains("account=main paused_until=")), "{}", once.stderr);
    let check = run("check");
    assert!(!check.stdout.contains("another 0 min"), "{}", check.stdout);
    assert_eq!(exchange.simulator.call_log().records.len(), calls);
}

#[test]
fn requests_for_permits_starve_no_poll() {
    let exchange = exchange();
    let daemon = Exporter::serve(&exchange.url(), &FAST);
    daemon.ready();
    let address = daemon.address();
    let path = permit_path();
    // More requests than the daemon keeps waiting, all for its key, and no process says that its call has ended.
    let statuses: Vec<_> = thread::scope(|scope| {
        let ask = || request("POST", address, &path, &[]).status;
        let asking: Vec<_> = (0..40).map(|_| scope.spawn(ask)).collect();
        wait_for_polls(&daemon, 3.0);
        asking.into_iter().map(|status| status.join().unwrap()).collect()
    });
    assert!(
        statuses.contains(&200) && statuses.iter().all(|status| [200, 503].contains(status)),
        "{statuses:?}"
    );
    assert_eq!(failed_polls(&daemon), [""; 0]);

    let answer = request("POST", address, "/-/permit", &[]);
    let permit: serde_json::Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!((answer.status, permit["valid_seconds"].as_u64()), (200, Some(10)), "{permit}");
    let path = format!("/-/permit?id={}", permit["id"].as_str().unwrap());
    assert_eq!(request("DELETE", address, &path, &[]).status, 200);
}

#[test]
fn only_programs_of_this_machine_get_permits() {
    let exchange = exchange();
    let daemon = Exporter::serve(&exchange.url(), &["--xt.api=v1"]);
    let address = daemon.address();
    for (method, path, status) in [
        ("GET", "/-/permit", 405),
        ("POST", "/-/permit?key=0f", 400),
        ("POST", "/-/permit?id=0f", 400),
        ("DELETE", "/-/permit", 400),
        ("DELETE", "/-/permit?id=0f", 200),
    ] {
        let answer = request(method, address, path, &[]);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
    }
    let page = [("Origin", "https://evil.example")];
    assert_eq!(request("POST", address, "/-/permit", &page).status, 403);
}
