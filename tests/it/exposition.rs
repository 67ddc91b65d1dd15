//! What stands on `/metrics`: the whole of it against a golden file, through the states a balance
//! can be in, whole under change, and well formed whatever the exchange sends.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crate::common::golden::assert_golden;
use crate::common::in_process::at;
use crate::common::{
    Exchange, Exporter, SECRET_KEY, get, sample,
    text_format::{self, Family, Sample},
    until,
};
use proptest::prelude::*;
use xt_balance_exporter::{
    clock::{Clock, MonotonicTime, UnixTime},
    config,
    exchange::{
        self, Amount, Balance, BalanceAnswer, BaseUrl, Credentials, ExchangeHosts, Failure, KeyHalf,
        KeySource, Reason, Secret,
    },
    exposition::{cache, metrics::FAMILIES},
    poller,
    simulator::{Effect, Fault, SimulatedAccount, SimulatedEndpoint, SimulatedWallet, SimulatorConfig},
    snapshot::store::AccountState,
    snapshot::store::{self, Store},
    snapshot::wallet::{
        CurrencyFilter, PollOutcome, PollResult, Thresholds, WalletConfig, WalletSnapshot, WatchedCurrency,
    },
};

const ODD_NAME: &str = r#"a "quoted" back\slash"#;

fn write_config(folder: &Path, url: &str) -> PathBuf {
    for name in ["odd", "poor", "bots"] {
        fs::write(folder.join(format!("{name}.key")), format!("key-{name}")).unwrap();
        fs::write(folder.join(format!("{name}.secret")), format!("secret-{name}")).unwrap();
    }
    let account = |name: &str, files: &str, more: &str| {
        format!("- {{name: {name}, access_key_file: {files}.key, secret_key_file: {files}.secret, {more}}}\n")
    };
    let odd = "wallets: [spot, wallet, fiat], watch: {usdt: 500, gone: 0.25, garbled: 1e-8, btc: ~}";
    let text = format!(
        "api: v1\nbase_urls: [\"{url}\"]\nprices: usdt\npoll_interval: 6s\npoll_timeout: 1s\naccounts:\n{}{}{}",
        account(&format!("'{ODD_NAME}'"), "odd", odd),
        account("poor", "poor", "watch: {usdt: 1000000}, currencies: {hide_zero: true, exclude: [dust]}"),
        account("bots", "bots", "watch: {usdt: 20, btc: ~}"),
    );
    let file = folder.join("accounts.yaml");
    fs::write(&file, text).unwrap();
    file
}

/// Several wallets, odd names, rows that are no rows, and an account whose key is refused.
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
    let exchange = Exchange::new(SimulatorConfig::default(), vec![odd, poor, bots]);
    exchange.simulator.inject_fault(Fault::new(Effect::Revoked).for_account("bots"));
    exchange
}

/// What differs from run to run, made the same: the values of what measures time or the process are
/// NaN (a time of 0 means never, and stays), and so much for ports and builds.
fn settle(exposition: &str, exchange: &str) -> String {
    let mut settled = String::new();
    for line in exposition.lines() {
        let name = line.split(['{', ' ']).next().unwrap();
        let volatile = name.starts_with("process_")
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

/// The exposition of a daemon at a moment when every wallet has been polled exactly twice, so that what must be
/// confirmed is, but once with the key that is refused, and the prices are known.
fn polled_twice(config: &Path) -> String {
    until("a scrape saw every wallet polled exactly twice", || {
        let args = ["--web.listen-address=127.0.0.1:0", "--config.file", config.to_str().unwrap()];
        let exporter = Exporter::start(&args, &[]);
        let address = exporter.address();
        until("every wallet and the prices have been polled", || {
            let metrics = get(address, "/metrics", &[]).text();
            let polls: Vec<_> = metrics.lines().filter(|line| line.starts_with("xt_polls_total{")).collect();
            assert_eq!(polls.len(), 5, "{metrics}");
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
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn the_exposition_is_the_golden_file() {
    let exchange = odd_exchange();
    let folder = tempfile::tempdir().unwrap();
    let config = write_config(folder.path(), &exchange.url());
    let metrics = polled_twice(&config);
    let families = text_format::read(&metrics).unwrap();
    promtool(&metrics);
    let metrics = settle(&metrics, &exchange.address.to_string());

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

// Whatever the exchange sends

/// Text of any characters, including all special characters of the text format. A few texts are frequent, so that some
/// watched currencies are also sent.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(vec!["usdt", "btc", "a\"b"]).prop_map(str::to_owned),
        "[a-z0-9]{1,6}",
        r#"[a-c"\\{}=, #\n\r<>&;]{1,8}"#,
        "\\PC{1,12}",
        proptest::collection::vec(any::<char>(), 1..12).prop_map(String::from_iter),
    ]
}

fn any_amount() -> impl Strategy<Value = Amount> {
    let texts = prop_oneof![
        any::<f64>().prop_map(|value| format!("{value:e}")),
        any::<f64>().prop_map(|value| value.to_string()),
        "-?[0-9]{1,20}(\\.[0-9]{1,20})?",
        "[0-9]\\.[0-9]{1,4}[eE]-?[0-9]{1,3}",
        Just("-0.0".to_owned()),
    ];
    texts.prop_filter_map("no amount", |text| Amount::parse(&text))
}

/// A decoded answer: every currency once, sorted; currencies without amounts are listed separately.
fn any_answer() -> impl Strategy<Value = BalanceAnswer> {
    let row = (any_text(), proptest::option::weighted(0.9, (any_amount(), any_amount())));
    (proptest::collection::vec(row, 0..20), prop_oneof![3 => Just(0u64), 1 => 1u64..3]).prop_map(
        |(rows, nameless)| {
            let rows: BTreeMap<_, _> = rows
                .into_iter()
                .filter_map(|(name, amounts)| Some((exchange::currency_name(&name)?, amounts)))
                .collect();
            let mut answer = BalanceAnswer { rejected: nameless, nameless, ..BalanceAnswer::default() };
            for (currency, amounts) in rows {
                if let Some((free, frozen)) = amounts {
                    answer.balances.push(Balance { currency, free, frozen });
                } else {
                    answer.rejected += 1;
                    answer.unreadable.push(currency);
                }
            }
            answer
        },
    )
}

fn any_outcome() -> impl Strategy<Value = Result<BalanceAnswer, Failure>> {
    prop_oneof![
        3 => any_answer().prop_map(Ok),
        1 => (proptest::sample::select(Reason::ALL.to_vec()), any_text())
            .prop_map(|(reason, text)| Err(Failure::new(reason, text))),
    ]
}

/// A wallet: its watched currencies and thresholds, and the results of its polls.
type WalletHistory = (Vec<(String, Option<f64>)>, Vec<Result<BalanceAnswer, Failure>>);

fn any_wallet_history() -> impl Strategy<Value = WalletHistory> {
    let watch = (any_text(), proptest::option::of(1e-8..1e12_f64));
    (proptest::collection::vec(watch, 0..4), proptest::collection::vec(any_outcome(), 0..4))
}

const MAX_AGE: u64 = 10;

/// The samples of `name`: account, currency and wallet, with the bits of the value.
fn series(families: &BTreeMap<String, Family>, name: &str) -> BTreeMap<[String; 3], u64> {
    let key = |sample: &Sample| ["account", "currency", "wallet"].map(|label| sample.label(label).to_owned());
    let samples = families.get(name).into_iter().flat_map(|family| &family.samples);
    samples.map(|sample| (key(sample), sample.value.to_bits())).collect()
}

fn is_well_formed(families: &BTreeMap<String, Family>) -> Result<(), TestCaseError> {
    for (name, family) in families {
        let known = FAMILIES.iter().find(|known| known.name == name).unwrap();
        prop_assert_eq!(&family.kind, known.kind.type_name());
        for sample in &family.samples {
            let labels: Vec<_> = sample.labels.keys().filter(|name| *name != "le").collect();
            prop_assert_eq!(labels, known.labels, "{}", name);
        }
    }
    Ok(())
}

/// The expected series of balances and watched currencies: account, currency and wallet, with the bits of the value.
#[derive(Default)]
struct ExpectedSeries {
    free: BTreeMap<[String; 3], u64>,
    frozen: BTreeMap<[String; 3], u64>,
    present: BTreeMap<[String; 3], u64>,
    thresholds: BTreeMap<[String; 3], u64>,
    page_thresholds: BTreeMap<[String; 3], u64>,
}

impl ExpectedSeries {
    /// Adds a wallet whose polls, one per second, had these results.
    fn add_wallet(&mut self, config: &WalletConfig, outcomes: &[Result<BalanceAnswer, Failure>], now: u64) {
        let key = |currency: &str| {
            [config.account.to_string(), currency.to_owned(), config.wallet.label().to_owned()]
        };
        for WatchedCurrency { currency, thresholds } in &config.watch {
            if let Some(Thresholds { warn, page }) = thresholds {
                self.thresholds.insert(key(currency), warn.to_bits());
                self.page_thresholds.insert(key(currency), page.to_bits());
            }
        }
        let good = (0..).zip(outcomes).filter_map(|(second, outcome)| Some((outcome.as_ref().ok()?, second)));
        let Some((answer, _)) = good.last().filter(|(_, second)| now.saturating_sub(*second) < MAX_AGE)
        else {
            return;
        };
        for row in &answer.balances {
            self.free.insert(key(&row.currency), row.free.value().to_bits());
            self.frozen.insert(key(&row.currency), row.frozen.value().to_bits());
        }
        for WatchedCurrency { currency, .. } in &config.watch {
            let is_readable = answer.balances.iter().any(|row| row.currency == *currency);
            let is_present = is_readable || answer.unreadable.contains(currency);
            if is_present || answer.nameless == 0 {
                self.present.insert(key(currency), f64::from(u8::from(is_present)).to_bits());
            }
            if !is_present && answer.nameless == 0 {
                self.free.insert(key(currency), 0);
                self.frozen.insert(key(currency), 0);
            }
        }
    }
}

fn wallet_config(account: &str, wallet: exchange::Wallet, watch: &[(String, Option<f64>)]) -> WalletConfig {
    let watch =
        watch.iter().filter_map(|(name, threshold)| Some((exchange::currency_name(name)?, *threshold)));
    let watch: BTreeMap<_, _> = watch.collect();
    let watch = watch.into_iter().map(|(currency, warn)| WatchedCurrency {
        currency,
        thresholds: warn.map(|warn| Thresholds { warn, page: warn * 0.4 }),
    });
    WalletConfig {
        account: account.into(),
        wallet,
        watch: watch.collect(),
        filter: CurrencyFilter::default(),
        max_age: Duration::from_secs(MAX_AGE),
    }
}

/// The snapshot of a wallet after polls with these results, one per second.
fn apply_outcomes(config: &Arc<WalletConfig>, outcomes: &[Result<BalanceAnswer, Failure>]) -> WalletSnapshot {
    let mut snapshot = WalletSnapshot::new(Arc::clone(config));
    for (second, outcome) in (0..).zip(outcomes) {
        let took = Duration::from_millis(second * 700);
        let sent = at(second);
        let outcome = PollOutcome::new(sent, outcome.clone().map(Some));
        snapshot = snapshot.apply(PollResult { at: sent, took, is_suspect: second == 1, outcome });
    }
    snapshot
}

proptest! {
    #[test]
    fn the_exposition_has_every_known_value_once(
        accounts in proptest::collection::btree_map(any_text(), proptest::collection::vec(any_wallet_history(), 1..=3), 1..4),
        now in 0..MAX_AGE * 3,
        clocks in proptest::collection::vec((any_text(), any::<u64>()), 0..3),
    ) {
        let mut expected = ExpectedSeries::default();
        let mut entries = Vec::new();
        let mut snapshots = Vec::new();
        for (name, histories) in &accounts {
            let mut configs = Vec::new();
            for (wallet, (watch, outcomes)) in exchange::Wallet::ALL.into_iter().zip(histories) {
                let config = Arc::new(wallet_config(name, wallet, watch));
                expected.add_wallet(&config, outcomes, now);
                snapshots.push((name.clone(), wallet, apply_outcomes(&config, outcomes)));
                configs.push(config);
            }
            let state = AccountState { name: name.as_str().into(), paused_until: None, credentials_loaded: at(0).unix, poller_restarts: 0 };
            entries.push(store::AccountEntry::new(state, configs, at(0).uptime));
        }
        let store = Store::new(entries);
        for (name, wallet, snapshot) in snapshots {
            store.update_account(&name, |account| {
                let entry = account.wallets.iter_mut().find(|entry| entry.snapshot.config.wallet == wallet);
                entry.unwrap().set_snapshot(snapshot.clone());
            });
        }
        for (host, server_ms) in &clocks {
            let reading = exchange::ClockReading::new(*server_ms, at(0), at(0));
            store.set_clocks(&[(host.clone(), reading)], MonotonicTime::START + Duration::MAX);
        }

        let bytes = cache::render(&store, at(now), Some(UnixTime::from_secs(1))).plain.parts.concat();
        let exposition = String::from_utf8(bytes).unwrap();
        let families = text_format::read(&exposition).map_err(TestCaseError::fail)?;
        is_well_formed(&families)?;
        prop_assert_eq!(series(&families, "xt_balance_free"), expected.free);
        prop_assert_eq!(series(&families, "xt_balance_frozen"), expected.frozen);
        prop_assert_eq!(series(&families, "xt_watch_present"), expected.present);
        prop_assert_eq!(series(&families, "xt_balance_free_threshold"), expected.thresholds);
        prop_assert_eq!(series(&families, "xt_balance_free_page_threshold"), expected.page_thresholds);
        let ups: BTreeSet<_> = families["xt_up"].samples.iter().map(|sample| sample.label("account")).collect();
        prop_assert_eq!(ups, accounts.keys().map(String::as_str).collect());
    }
}

/// A token of JSON that stands where an amount should, and the number it is, if it is one.
fn amount_token() -> impl Strategy<Value = (String, Option<f64>)> {
    let number = |text: String| (text.clone(), text.parse::<f64>().ok().filter(|value| value.is_finite()));
    let quoted = move |text: String| {
        let (text, value) = number(text);
        (format!("\"{text}\""), value)
    };
    prop_oneof![
        6 => "(0|[1-9][0-9]{0,12})(\\.[0-9]{1,18})?".prop_map(quoted),
        2 => "(0|[1-9][0-9]{0,12})(\\.[0-9]{1,18})?(e-?[0-9]{1,3})?".prop_map(number),
        1 => proptest::sample::select(vec!["null", "true", "[]", "{}", "\"\"", "\"NaN\"", "\"inf\"", "\"1e999\"", "\"0x1\"", "\" 1\"", "1e999"])
            .prop_map(|token| (token.to_owned(), None)),
    ]
}

/// A body, and what may be shown of it: the amounts free by currency.
type Body = (String, Vec<(String, Option<f64>)>);

fn any_body() -> impl Strategy<Value = Body> {
    let row = (any_text(), amount_token(), amount_token());
    let rows = proptest::collection::vec(row, 0..12).prop_map(|rows| {
        let written: Vec<_> = rows
            .iter()
            .map(|(name, (free, _), (frozen, _))| {
                let name = serde_json::to_string(name).unwrap();
                format!(r#"{name}:{{"freeze":{frozen},"available":{free}}}"#)
            })
            .collect();
        let shown =
            rows.into_iter().map(|(name, (_, free), (_, frozen))| (name, free.filter(|_| frozen.is_some())));
        (format!(r#"{{"code":200,"data":{{{}}}}}"#, written.join(",")), shown.collect())
    });
    let garbage = prop_oneof![
        any_text(),
        any_text().prop_map(|text| format!("{{\"code\":200,\"data\":{text}}}")),
        any_text().prop_map(|text| serde_json::json!({"code": 307, "info": text}).to_string()),
    ];
    prop_oneof![8 => rows, 1 => garbage.prop_map(|body| (body, Vec::new()))]
}

/// Polls an account per body twice, so that what must be confirmed is, all in this process, and returns the
/// exposition.
fn exposition_of(bodies: &[Body]) -> String {
    let accounts = (0..bodies.len())
        .map(|number| SimulatedAccount::new(&format!("a{number}"), &format!("key-{number}"), SECRET_KEY));
    let exchange = Exchange::new(SimulatorConfig::default(), accounts.collect());
    for (number, (body, _)) in bodies.iter().enumerate() {
        let fault = Fault::new(Effect::Body(body.clone())).for_account(&format!("a{number}"));
        exchange.simulator.inject_fault(fault.for_endpoint(SimulatedEndpoint::GetBalance));
    }
    let half = |text: String| KeyHalf::Given(Secret::new(&text.into()).unwrap());
    let configs = (0..bodies.len()).map(|number| config::AccountConfig {
        name: format!("a{number}").into(),
        hosts: ExchangeHosts {
            api: exchange::ApiVersion::V1,
            base_urls: vec![BaseUrl::parse(&exchange.url()).unwrap()],
            ..ExchangeHosts::default()
        },
        credentials: Credentials::open(
            KeySource { access: half(format!("key-{number}")), secret: half(SECRET_KEY.to_owned()) },
            at(0).unix,
        )
        .unwrap(),
        wallets: vec![exchange::Wallet::Spot],
        watch: Vec::new(),
        filter: CurrencyFilter::default(),
        poll_interval: Duration::from_mins(2),
        poll_timeout: Duration::from_mins(1),
        max_age: Duration::from_mins(5),
    });
    let clock = Clock::start();
    let asking = Arc::new(exchange::Client::simulated(clock).unwrap());
    let (pollers, _, store) = poller::create_pollers(configs.collect(), None, &asking, clock);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut polling = tokio::task::JoinSet::new();
        for mut poller in pollers {
            polling.spawn(async move {
                poller.poll_wallets().await;
                poller.poll_wallets().await
            });
        }
        polling.join_all().await;
    });
    String::from_utf8(cache::render(&store, clock.now(), None).plain.parts.concat()).unwrap()
}

proptest! {
    // A case polls many accounts over real sockets.
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn the_exposition_shows_only_values_of_the_body(bodies in proptest::collection::vec(any_body(), 24)) {
        let exposition = exposition_of(&bodies);
        let families = text_format::read(&exposition).map_err(TestCaseError::fail)?;
        is_well_formed(&families)?;
        let shown = series(&families, "xt_balance_free");
        let mut expected = BTreeMap::new();
        for (number, (_, rows)) in bodies.iter().enumerate() {
            let account = format!("a{number}");
            let mut names: BTreeMap<_, Vec<_>> = BTreeMap::new();
            for (name, free) in rows {
                // The fuzzer's judge has a rule for names of its own.
                if let Some(name) = exchange::currency_name(name) {
                    names.entry(name.to_string()).or_default().push(*free);
                }
            }
            // Of a currency with two rows nobody knows which is true.
            let single = names.into_iter().filter_map(|(name, frees)| match frees[..] {
                [Some(free)] => Some((name, free)),
                _ => None,
            });
            expected.extend(single.map(|(name, free)| ([account.clone(), name, "spot".to_owned()], free.to_bits())));
        }
        prop_assert_eq!(shown, expected, "{}", exposition);
        prop_assert_eq!(families["xt_polls_total"].samples.len(), bodies.len());
        prop_assert!(families["xt_polls_total"].samples.iter().all(|sample| sample.value.to_bits() == 2_f64.to_bits()));
    }
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
        let said = text_format::read(&bad).unwrap_err();
        assert!(said.contains(why), "{said} for {bad:?}");
    }
}
