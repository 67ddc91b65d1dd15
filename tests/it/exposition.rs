//! What stands on `/metrics`: the whole of it against a golden file, through the states a balance
//! can be in, whole under change, and well formed whatever the exchange sends.

mod properties;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::json;

use crate::common::golden::assert_golden;
use crate::common::{
    Exchange, Exporter, get, sample,
    text_format::{self},
    until,
};
use xt_balance_exporter::{
    exposition::metrics::FAMILIES,
    simulator::{
        Effect, Fault, SimulatedAccount, SimulatedBalance, SimulatedEndpoint, SimulatedPosition,
        SimulatedSide, SimulatedWallet, SimulatorConfig,
    },
};

const ODD_NAME: &str = r#"a "quoted" back\slash"#;

fn write_config(folder: &Path, url: &str) -> PathBuf {
    for name in ["odd", "poor", "bots", "margin"] {
        fs::write(folder.join(format!("{name}.key")), format!("key-{name}")).unwrap();
        fs::write(folder.join(format!("{name}.secret")), format!("secret-{name}")).unwrap();
    }
    let account = |name: &str, files: &str, more: &str| {
        format!("- {{name: {name}, access_key_file: {files}.key, secret_key_file: {files}.secret, {more}}}\n")
    };
    let odd = "wallets: [spot, wallet, fiat], watch: {usdt: 500, gone: 0.25, garbled: 1e-8, btc: ~}";
    let margin = format!(
        "api: v4, base_urls: ['{url}'], futures_usdt_base_urls: ['{url}/fapi'], wallets: [spot, futures_usdt], futures_risk: true, max_positions: 2, watch: {{spot/usdt: ~, spot/xt: ~}}"
    );
    let text = format!(
        "api: v1\nbase_urls: [\"{url}\"]\nprices: usdt\npoll_interval: 6s\npoll_timeout: 1s\naccounts:\n{}{}{}{}",
        account(&format!("'{ODD_NAME}'"), "odd", odd),
        account("poor", "poor", "watch: {usdt: 1000000}, currencies: {hide_zero: true, exclude: [dust]}"),
        account("bots", "bots", "watch: {usdt: 20, btc: ~}"),
        account("margin", "margin", &margin),
    );
    let file = folder.join("accounts.yaml");
    fs::write(&file, text).unwrap();
    file
}

/// Several wallets, unusual names, invalid rows, and an account whose key is refused.
fn odd_exchange() -> Exchange {
    let odd = SimulatedAccount::new("odd", "key-odd", "secret-odd")
        .with_balance(SimulatedWallet::Spot, "BTC", "0.00000001", "0")
        .with_balance(SimulatedWallet::Spot, "usdt", "3867.43650012", "3062.17437341")
        .with_balance(SimulatedWallet::Spot, "garbled", "NaN", "0")
        .with_balance(SimulatedWallet::Spot, "eth", "0.00", "0.00")
        .with_balance(SimulatedWallet::Spot, "<script>alert(1)</script>", "1", "2")
        .with_balance(SimulatedWallet::Spot, "quote\"back\\slash", "3", "4")
        .with_balance(SimulatedWallet::Spot, "line\nfeed", "5", "6")
        .with_balance(SimulatedWallet::Spot, "ünï币", "7", "8")
        .with_balance(SimulatedWallet::Spot, "1e30", "1e30", "123456789012345678901234567890")
        .with_balance(SimulatedWallet::Spot, "dust", "0.000000000000000001", "-0")
        .with_balance(SimulatedWallet::Wallet, "usdt", "0", "12.5")
        .with_balance(SimulatedWallet::Wallet, "btc", "21000000", "0")
        .with_balance(SimulatedWallet::Fiat, "eur", "99.9", "0.1");
    let poor = SimulatedAccount::new("poor", "key-poor", "secret-poor")
        .with_balance(SimulatedWallet::Spot, "usdt", "0", "0")
        .with_balance(SimulatedWallet::Spot, "btc", "0", "0")
        .with_balance(SimulatedWallet::Spot, "dust", "1", "0")
        .with_balance(SimulatedWallet::Spot, "xrp", "0", "3");
    let bots = SimulatedAccount::new("bots", "key-bots", "secret-bots").with_balance(
        SimulatedWallet::Spot,
        "usdt",
        "1",
        "0",
    );
    let exchange = Exchange::new(SimulatorConfig::default(), vec![odd, poor, bots, parted_account()]);
    exchange.simulator.inject_fault(Fault::new(Effect::Revoked).for_account("bots"));
    exchange
}

/// An account of v4 whose frozen amounts have parts: matching, mismatching, null, missing, unusable and hidden ones.
fn parted_account() -> SimulatedAccount {
    let row = |free: &str, frozen: &str| SimulatedBalance::new(free, frozen);
    let all = [("trade", "2"), ("withdraw", "0.30"), ("lock", "0.2"), ("freeze", "0"), ("copyTrade", "1e-8")];
    let all = all.map(|(field, part)| (field, json!(part)));
    let some =
        [("trade", json!(null)), ("withdraw", json!("5")), ("lock", json!([])), ("freeze", json!(0.25))];
    let margins = [
        ("openOrderMarginFrozen", json!("11.5")),
        ("isolatedMargin", json!("0")),
        ("crossedMargin", json!("19.25")),
        ("openOrderFeeFrozen", json!("0.125")),
    ];
    let position = |isolated: bool, liquidation: &str| SimulatedPosition {
        isolated,
        size: "10.50".to_owned(),
        entry: "27060".to_owned(),
        mark: "27050.1".to_owned(),
        liquidation: liquidation.to_owned(),
        leverage: 25,
        margin: "1".to_owned(),
        profit: "-0.25".to_owned(),
    };
    let mut account = SimulatedAccount::new("margin", "key-margin", "secret-margin");
    let positions = [
        ("btc_usdt", SimulatedSide::Long, position(true, "24000")),
        ("odd\"_usdt", SimulatedSide::Short, position(false, "30000")),
        // Over max_positions.
        ("eth_usdt", SimulatedSide::Short, position(false, "0")),
    ];
    let positions = positions.map(|(symbol, side, position)| ((symbol.to_owned(), side), position));
    account.positions.insert(SimulatedWallet::FuturesUsdt, positions.into());
    account
        .with_row(SimulatedWallet::Spot, "btc", row("1", "2.5").with_parts(all))
        .with_row(SimulatedWallet::Spot, "eth", row("3", "5").with_parts(some))
        .with_row(SimulatedWallet::Spot, "ltc", row("1", "0").with_parts([("trade", json!("0.5"))]))
        .with_row(SimulatedWallet::Spot, "sol", row("1", "4").with_parts([]))
        .with_row(SimulatedWallet::Spot, "usdt", row("100", "0.00"))
        .with_row(SimulatedWallet::Spot, "xrp", row("1", "0"))
        .with_row(SimulatedWallet::Spot, "xt", row("1", "0").with_parts([("withdraw", json!(null))]))
        .with_row(SimulatedWallet::FuturesUsdt, "btc", row("2", "0"))
        .with_row(SimulatedWallet::FuturesUsdt, "usdt", row("50", "30.75").with_parts(margins))
}

/// Replaces everything that differs from run to run: values of times and of the process become NaN (except a time of 0,
/// which means never), and ports and builds get fixed texts.
fn normalize(exposition: &str, exchange: &str) -> String {
    let mut settled = String::new();
    for line in exposition.lines() {
        let name = line.split(['{', ' ']).next().unwrap();
        let volatile = name.starts_with("process_")
            || name == "xt_rate_limit_calls"
            || name.ends_with("_seconds")
            || name.starts_with("xt_poll_duration_seconds");
        let never = name.ends_with("_timestamp_seconds") && line.ends_with(" 0");
        match line.rsplit_once(' ') {
            _ if name == "xt_exporter_build_info" => {
                settled += "xt_exporter_build_info{revision=\"R\",rustversion=\"R\",version=\"V\"} 1";
            }
            Some((series, _)) if volatile && !never => {
                settled += &series.replace(exchange, "127.0.0.1:PORT");
                settled += " NaN";
            }
            _ => settled += line,
        }
        settled += "\n";
    }
    settled
}

/// The exposition of a daemon after exactly two polls of every wallet, which confirm suspect answers, but one poll with the
/// refused key. The prices are known.
fn polled_twice(config: &Path) -> String {
    until("a scrape saw every wallet polled exactly twice", || {
        let args = ["--web.listen-address=127.0.0.1:0", "--config.file", config.to_str().unwrap()];
        let exporter = Exporter::start(&args, &[]);
        let address = exporter.address();
        until("every wallet and the prices have been polled", || {
            let metrics = get(address, "/metrics", &[]).text();
            let polls: Vec<_> = metrics.lines().filter(|line| line.starts_with("xt_polls_total{")).collect();
            assert_eq!(polls.len(), 7, "{metrics}");
            let wanted = |line: &&str| if line.contains("\"bots\"") { 1 } else { 2 };
            let count =
                |line: &&str| line.rsplit(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0);
            let all = polls.iter().all(|line| count(line) >= wanted(line)) && metrics.contains("xt_price{");
            let exactly = polls.iter().all(|line| count(line) == wanted(line));
            all.then(|| exactly.then_some(metrics))
        })
    })
}

fn promtool(exposition: &str) {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("promtool is needed, from the Debian package prometheus: {error}"));
    child.stdin.take().unwrap().write_all(exposition.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let lint_output = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && lint_output.is_empty(), "{}", String::from_utf8_lossy(&lint_output));
}

#[test]
fn the_exposition_is_the_golden_file() {
    let exchange = odd_exchange();
    let folder = tempfile::tempdir().unwrap();
    let config = write_config(folder.path(), &exchange.url());
    let metrics = polled_twice(&config);
    let families = text_format::read(&metrics).unwrap();
    promtool(&metrics);
    let metrics = normalize(&metrics, &exchange.address.to_string());

    assert_golden("metrics", &metrics);
    let known: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
    assert_eq!(families.keys().collect::<Vec<_>>(), known, "every family there is stands in the golden file");
}

const SPOT_USDT: &str = r#"{account="main",currency="usdt",wallet="spot"}"#;
const MAIN: &str = r#"{account="main",wallet="spot"}"#;

#[test]
fn a_balance_is_fresh_then_held_then_unknown_then_fresh_again() {
    let exchange = Exchange::documented();
    let flags = ["--poll.interval=1s", "--poll.timeout=900ms", "--poll.max-age=8s"];
    let watch = ["--balance.watch=usdt=500", "--balance.watch=xrp"];
    let exporter = Exporter::serve(&exchange.url(), &[&flags[..], &watch].concat());
    let address = exporter.address();
    let state = |wanted: &str, is_it: &dyn Fn(&str) -> bool| {
        until(wanted, || Some(get(address, "/metrics", &[]).text()).filter(|metrics| is_it(metrics)))
    };
    let value = |metrics: &str, name: &str, labels: &str| sample(metrics, &format!("{name}{labels}"));
    let up = |metrics: &str| value(metrics, "xt_up", MAIN);
    let of_the_answer = ["xt_balance_free", "xt_balance_frozen", "xt_currencies", "xt_watch_present"];
    let has = |metrics: &str, name: &str| text_format::read(metrics).unwrap().contains_key(name);
    let always = |metrics: &str| {
        assert_eq!(value(metrics, "xt_balance_free_threshold", SPOT_USDT), Some(500.0), "{metrics}");
        for name in ["xt_poll_failures_total", "xt_polls_total", "xt_last_success_timestamp_seconds"] {
            assert!(has(metrics, name), "{name} in\n{metrics}");
        }
    };

    let fresh = state("it is fresh", &|metrics| up(metrics) == Some(1.0));
    always(&fresh);
    assert_eq!(value(&fresh, "xt_balance_free", SPOT_USDT), Some(3_867.436_500_12));
    assert_eq!(value(&fresh, "xt_balance_free", &SPOT_USDT.replace("usdt", "xrp")), Some(0.0));
    assert_eq!(value(&fresh, "xt_currencies", MAIN), Some(4.0));

    exchange.simulator.inject_fault(Fault::new(Effect::Maintenance));
    exchange.simulator.set_balance("main", SimulatedWallet::Spot, "usdt", "12.5", "0").unwrap();
    exchange.simulator.remove_balance("main", SimulatedWallet::Spot, "btc").unwrap();
    let held = state("it is held", &|metrics| up(metrics) == Some(0.0));
    always(&held);
    for name in of_the_answer {
        let lines = |metrics: &str| {
            let mine = |line: &&str| line.starts_with(&format!("{name}{{"));
            metrics.lines().filter(mine).map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(!lines(&held).is_empty() && lines(&held) == lines(&fresh), "{name} in\n{held}");
    }
    let unavailable = r#"xt_poll_failures_total{account="main",reason="unavailable",wallet="spot"}"#;
    assert!(sample(&held, unavailable) >= Some(1.0), "{held}");

    let unknown = state("it is unknown", &|metrics| !metrics.contains("xt_balance_free{"));
    always(&unknown);
    assert_eq!(up(&unknown), Some(0.0));
    for name in of_the_answer {
        assert!(!has(&unknown, name), "{name} in\n{unknown}");
    }
    let last_success = |metrics: &str| value(metrics, "xt_last_success_timestamp_seconds", MAIN);
    assert!(last_success(&unknown) > Some(0.0));
    assert_eq!(last_success(&unknown), last_success(&held), "no poll was good in between");

    exchange.simulator.clear_faults();
    let again = state("it is fresh again", &|metrics| up(metrics) == Some(1.0));
    always(&again);
    assert_eq!(value(&again, "xt_balance_free", SPOT_USDT), Some(12.5));
    assert_eq!(value(&again, "xt_balance_free", &SPOT_USDT.replace("usdt", "btc")), None, "its row is gone");
    assert!(last_success(&again) > last_success(&unknown));
}

/// The accounts of the test below, and the rows of each.
const ACCOUNTS: usize = 10;
const ROWS: usize = 150;

/// Starts an exchange and a daemon that polls all accounts every second. Every amount is 1.
fn serve_many_rows(folder: &Path) -> (Exchange, Exporter) {
    let mut accounts = Vec::new();
    let mut config = String::new();
    for number in 0..ACCOUNTS {
        fs::write(folder.join(format!("{number}.key")), format!("key-{number}")).unwrap();
        fs::write(folder.join(format!("{number}.secret")), "secret").unwrap();
        let keys = format!("access_key_file: {number}.key, secret_key_file: {number}.secret");
        writeln!(config, "- {{name: a{number}, {keys}}}").unwrap();
        let account = SimulatedAccount::new(&format!("a{number}"), &format!("key-{number}"), "secret");
        let rows = (0..ROWS).fold(account, |account, row| {
            account.with_balance(SimulatedWallet::Spot, &format!("c{row}"), "1", "1")
        });
        accounts.push(rows);
    }
    let exchange = Exchange::new(SimulatorConfig::default(), accounts);
    let file = folder.join("accounts.yaml");
    let head = format!(
        "api: v1\nbase_urls: [\"{}\"]\npoll_interval: 1s\npoll_timeout: 900ms\naccounts:\n",
        exchange.url()
    );
    fs::write(&file, head + &config).unwrap();
    let exporter =
        Exporter::start(&["--config.file", file.to_str().unwrap(), "--web.listen-address=127.0.0.1:0"], &[]);
    (exchange, exporter)
}

#[test]
fn a_scrape_sees_one_whole_answer_of_each_account() {
    let folder = tempfile::tempdir().unwrap();
    let (exchange, exporter) = serve_many_rows(folder.path());
    let address = exporter.address();
    let rows: Vec<_> = (0..ROWS).map(|row| format!(r#""c{row}":{{"available":"2","freeze":"2"}}"#)).collect();
    let second_answer = format!(r#"{{"code":200,"data":{{{}}}}}"#, rows.join(","));

    // The answers that were seen of each account: the first has the amount 1, the second 2.
    let seen: Mutex<BTreeSet<(String, u64)>> = Mutex::default();
    let all_seen = || seen.lock().unwrap().len() == 2 * ACCOUNTS;
    let is_over = AtomicBool::new(false);
    let scrape = || {
        while !is_over.load(Ordering::Relaxed) {
            let metrics = get(address, "/metrics", &[]).text();
            let mut answers: BTreeMap<String, Vec<u64>> = BTreeMap::new();
            for line in metrics.lines().filter(|line| line.starts_with("xt_balance_fr") && line.contains('{'))
            {
                let account = line.split('"').nth(1).unwrap().to_owned();
                answers.entry(account).or_default().push(line.rsplit(' ').next().unwrap().parse().unwrap());
            }
            for (account, values) in answers {
                let is_whole = values.len() == 2 * ROWS && values.iter().all(|value| *value == values[0]);
                if !is_whole {
                    is_over.store(true, Ordering::Relaxed);
                }
                assert!(is_whole, "a mixture for {account}: {values:?}");
                seen.lock().unwrap().insert((account, values[0]));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(scrape);
        }
        let mut is_second = false;
        until("both answers of every account were seen", || {
            is_second = !is_second;
            if is_second {
                let fault = Fault::new(Effect::Body(second_answer.clone()))
                    .for_endpoint(SimulatedEndpoint::GetBalance);
                exchange.simulator.inject_fault(fault);
            } else {
                exchange.simulator.clear_faults();
            }
            thread::sleep(Duration::from_millis(330));
            (all_seen() || is_over.load(Ordering::Relaxed)).then_some(())
        });
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn the_strict_reader_refuses_what_prometheus_would_or_should() {
    let good = "# HELP a b\n# TYPE a gauge\na{x=\"1\"} 1\n";
    assert!(text_format::read(good).is_ok());
    for (bad, why) in [
        (good.trim_end().to_owned(), "line feed"),
        (good.replace(" 1\n", " 1 1700000000000\n"), "no sample"),
        (good.replace(" 1\n", " one\n"), "no sample"),
        (good.replace("\"1\"", "\"1"), "no sample"),
        (good.replace("\"1\"", "\"a\\tb\""), "no sample"),
        (good.replace("a{x", "b{x"), "another family"),
        (good.replace("gauge", "counter").replace(" 1\n", " -1\n"), "no count"),
        (good.replace("# TYPE a gauge\n", ""), "no type"),
        (format!("{good}a{{x=\"1\"}} 2\n"), "second time"),
        (format!("{good}{good}").replacen("a{x=\"1\"}", "a{x=\"2\"}", 1), "family for the second time"),
        ("# HELP a b\n# TYPE a gauge\n".to_owned(), "without samples"),
        (
            "# HELP a b\n# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 2\n".to_owned(),
            "no histogram",
        ),
    ] {
        let error = text_format::read(&bad).unwrap_err();
        assert!(error.contains(why), "{error} for {bad:?}");
    }
}
