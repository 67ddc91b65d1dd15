//! Every command of the program, run as a user runs it: what it prints, what it serves, and the
//! code it ends with.

mod check;
mod full_disk;
mod help;
mod variables;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Command,
    thread,
};

use crate::common::golden::{Transcript, assert_golden, error_output};
use crate::common::{
    ACCESS_KEY, Exchange, Exporter, Output, PROGRAM, SECRET_KEY, get, messages, sample, until,
};
use xt_balance_exporter::simulator::{
    Effect, Fault, SimulatedAccount, SimulatedEndpoint, SimulatedWallet, SimulatorConfig,
};

const KEYS: [(&str, &str); 2] = [("XT_ACCESS_KEY", ACCESS_KEY), ("XT_SECRET_KEY", SECRET_KEY)];
/// A port of this machine that only its administrator can listen on, and nobody does.
const CLOSED_PORT: &str = "http://127.0.0.1:1";

fn run(args: &str) -> Output {
    Exporter::run(&args.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>(), &KEYS)
}

/// Asserts that it ended with `code` and that every one of `parts` is somewhere in what it printed.
fn assert_exit(output: &Output, code: i32, parts: &[&str]) {
    let all = format!("{}{}", output.stdout, output.stderr);
    assert_eq!(output.status.code(), Some(code), "{all}");
    for part in parts {
        assert!(all.contains(part), "no {part:?} in\n{all}");
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).unwrap();
}

/// An exchange whose only account is `change`d.
fn exchange_with(rules: SimulatorConfig, change: impl FnOnce(&mut SimulatedAccount)) -> Exchange {
    let mut account = SimulatedAccount::new("main", ACCESS_KEY, SECRET_KEY)
        .with_balance(SimulatedWallet::Spot, "btc", "0.5", "0")
        .with_balance(SimulatedWallet::Spot, "usdt", "3867.43650012", "3062.17437341");
    change(&mut account);
    Exchange::new(rules, vec![account])
}

// serve

#[test]
fn serve_shows_what_the_exchange_holds_to_the_last_digit() {
    let exchange = Exchange::documented();
    let exporter = Exporter::serve(&exchange.url(), &[]);
    exporter.ready();
    let metrics = exporter.metrics();
    let line = |name: &str, value: &str| {
        let line = format!("{name}{{account=\"main\",currency=\"usdt\",wallet=\"spot\"}} {value}\n");
        assert!(metrics.contains(&line), "no {line} in\n{metrics}");
    };
    line("xt_balance_free", "3867.43650012");
    line("xt_balance_frozen", "3062.17437341");
}

#[test]
fn serve_succeeds_after_a_shutdown_signal() {
    for signal in ["TERM", "INT"] {
        let exchange = Exchange::documented();
        let exporter = Exporter::serve(&exchange.url(), &[]);
        exporter.ready();
        exporter.signal(signal);
        let output = exporter.wait();
        assert_eq!(output.status.code(), Some(0), "{signal}: {}", output.stderr);
    }
}

/// The kernel keeps from the first process of a container every signal that it does not listen for.
#[test]
fn once_and_check_end_on_a_signal_as_the_first_process_of_a_container() {
    for command in ["once", "check"] {
        for signal in ["TERM", "INT"] {
            let exchange = Exchange::documented();
            exchange.simulator.inject_fault(Fault::new(Effect::Silence));
            let mut contained = Command::new("unshare");
            contained.args(["--pid", "--fork", "--kill-child", PROGRAM]);
            let url = exchange.url();
            let program = Exporter::start_by(contained, &[command, "--xt.base-url", &url], &KEYS);
            until("it asks the exchange", || {
                (!exchange.simulator.call_log().records.is_empty()).then_some(())
            });
            let parent = program.pid().to_string();
            let child = Command::new("pgrep").args(["--parent", &parent]).output().unwrap();
            let child = String::from_utf8(child.stdout).unwrap();
            assert!(
                Command::new("kill").args([&format!("-{signal}"), child.trim()]).status().unwrap().success()
            );
            let output = program.wait();
            assert_eq!(output.status.code(), Some(1), "{command} {signal}: {}", output.stderr);
            assert!(output.stderr.contains(&format!("SIG{signal}")), "{}", output.stderr);
        }
    }
}

#[test]
fn serve_takes_flags_before_and_after_the_command_and_keys_from_files() {
    let exchange = Exchange::documented();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "key", &format!("{ACCESS_KEY}\n"));
    write(folder.path(), "secret", &format!("{SECRET_KEY}\n"));
    let key = folder.path().join("key");
    let secret = folder.path().join("secret");
    let url = exchange.url();
    let args = [
        "--web.listen-address=127.0.0.1:0",
        "--xt.account",
        "serve",
        "--xt.access-key-file",
        key.to_str().unwrap(),
        "serve",
        "--xt.base-url",
        &url,
        "--balance.watch=xrp",
        "--balance.watch=usdt=500",
        "--poll.interval=1s",
        "--poll.timeout=900ms",
        "--web.telemetry-path=/private",
    ];
    let exporter = Exporter::start(&args, &[("XT_SECRET_KEY_FILE", secret.to_str().unwrap())]);
    let metrics = until("the second poll confirms that xrp is missing", || {
        let metrics = exporter.get("/private").text();
        metrics.contains("xt_balance_free{").then_some(metrics)
    });
    let value = |name: &str, currency: &str| {
        sample(&metrics, &format!("{name}{{account=\"serve\",currency=\"{currency}\",wallet=\"spot\"}}"))
    };
    assert_eq!(value("xt_balance_free", "usdt"), Some(3_867.436_500_12));
    assert_eq!(value("xt_balance_free_threshold", "usdt"), Some(500.0));
    assert_eq!(value("xt_balance_free", "xrp"), Some(0.0), "watched, and not in the answer");
    assert_eq!(value("xt_watch_present", "xrp"), Some(0.0));
    assert_eq!(exporter.get("/metrics").status, 404);
}

#[test]
fn serve_reads_many_accounts_and_wallets_from_a_file_with_keys_beside_it() {
    let treasury = SimulatedAccount::new("t", "key-t", "secret-t")
        .with_balance(SimulatedWallet::Spot, "usdt", "1.5", "0")
        .with_balance(SimulatedWallet::Wallet, "usdt", "2.5", "0.25")
        .with_balance(SimulatedWallet::Fiat, "eur", "3.5", "0");
    let bots = SimulatedAccount::new("b", "key-b", "secret-b")
        .with_balance(SimulatedWallet::Spot, "btc", "4.5", "0")
        .with_balance(SimulatedWallet::Spot, "doge", "9", "0");
    let exchange = Exchange::new(SimulatorConfig::default(), vec![treasury, bots]);
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("keys")).unwrap();
    for (name, text) in [("t.key", "key-t"), ("t.secret", "secret-t"), ("b.key", "key-b\n")] {
        write(&folder.path().join("keys"), name, text);
    }
    write(folder.path(), "b.secret", "secret-b\n");
    let url = exchange.url();
    write(
        folder.path(),
        "accounts.yaml",
        &format!(
            "api: v1\nbase_urls: [\"{url}\"]\npoll_interval: 3s\npoll_timeout: 1s\naccounts:\n\
             - name: treasury\n  access_key_file: keys/t.key\n  secret_key_file: keys/t.secret\n  wallets: [spot, wallet, fiat]\n  watch: {{usdt: 500, wallet/xrp: ~}}\n\
             - name: bots\n  access_key_file: keys/b.key\n  secret_key_file: b.secret\n  currencies: {{exclude: [doge]}}\n"
        ),
    );
    let file = folder.path().join("accounts.yaml");
    let exporter =
        Exporter::start(&["--config.file", file.to_str().unwrap(), "--web.listen-address=127.0.0.1:0"], &[]);
    let metrics = until("a second poll of each wallet confirms what is missing", || {
        let metrics = exporter.metrics();
        let is_up = |line: &str| !line.starts_with("xt_up{") || line.ends_with(" 1");
        (metrics.contains("xt_up{") && metrics.lines().all(is_up)).then_some(metrics)
    });
    let free = |account: &str, wallet: &str, currency: &str| {
        let labels = format!("account=\"{account}\",currency=\"{currency}\",wallet=\"{wallet}\"");
        sample(&metrics, &format!("xt_balance_free{{{labels}}}"))
    };
    assert_eq!(free("treasury", "spot", "usdt"), Some(1.5));
    assert_eq!(free("treasury", "wallet", "usdt"), Some(2.5));
    assert_eq!(free("treasury", "fiat", "eur"), Some(3.5));
    assert_eq!(free("treasury", "fiat", "usdt"), Some(0.0), "a watch is on every wallet of its account");
    let xrp = ["spot", "wallet", "fiat"].map(|wallet| free("treasury", wallet, "xrp"));
    assert_eq!(xrp, [None, Some(0.0), None], "but for one that names its wallet");
    assert_eq!(free("bots", "spot", "btc"), Some(4.5));
    assert_eq!(free("bots", "spot", "doge"), None, "excluded");
}

#[test]
fn serve_names_the_address_that_it_cannot_listen_on() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut transcript = Transcript::default();
    let output = run(&format!("--xt.base-url {CLOSED_PORT} --web.listen-address {address}"));
    assert_exit(&output, 1, &[&address.to_string()]);
    transcript.add_output("an address that is in use", &output);
    let output = run(&format!("--xt.base-url {CLOSED_PORT} --web.listen-address nowhere"));
    assert_exit(&output, 2, &["--web.listen-address"]);
    transcript.add_output("--web.listen-address nowhere", &output);
    transcript.assert("serve_listen_address");
}

#[test]
fn a_good_configuration_passes_config_check_without_a_word_to_the_exchange() {
    let exchange = Exchange::documented();
    let output = run(&format!("--config.check --xt.base-url {}", exchange.url()));
    assert_exit(&output, 0, &[]);
    assert_golden("config_check_valid", &output.stdout);
    assert!(exchange.simulator.call_log().records.is_empty());
}

#[test]
fn a_bad_configuration_fails_config_check_with_the_place_and_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("accounts.yaml");
    let file = file.to_str().unwrap();
    let mut transcript = Transcript::default();
    let missing = Exporter::run(&["--config.check", "--config.file", file], &[]);
    assert_exit(&missing, 2, &["--config.file"]);
    transcript.add_output("no file", &missing);

    write(folder.path(), "k", "key");
    write(folder.path(), "s", "secret");
    let account = "access_key_file: k, secret_key_file: s";
    for text in [
        format!("accounts: [{{name: a, {account}, walets: [spot]}}]"),
        format!("accounts: [{{name: a, {account}}}, {{name: a, {account}}}]"),
        "accounts: []".to_owned(),
        format!("accounts: [{{name: a, {account}, poll_interval: 5s}}]"),
        "accounts: [{name: a, access_key_file: k, secret_key_file: none}]".to_owned(),
    ] {
        write(folder.path(), "accounts.yaml", &text);
        let output = Exporter::run(&["--config.check", "--config.file", file], &[]);
        assert_exit(&output, 2, &[file]);
        assert_eq!(output.stdout, "");
        transcript.add_output(&text, &output);
    }
    transcript.assert("config_check_invalid");
}

#[test]
fn two_sources_for_a_key_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "key", ACCESS_KEY);
    let key = folder.path().join("key");
    let key = key.to_str().unwrap();
    let mut transcript = Transcript::default();
    let output = Exporter::run(&["--xt.access-key-file", key], &KEYS);
    assert_exit(&output, 2, &["--xt.access-key-file", "XT_ACCESS_KEY"]);
    transcript.add_output("--xt.access-key-file and XT_ACCESS_KEY", &output);
    let twice = [KEYS[0], KEYS[1], ("XT_SECRET_KEY_FILE", key)];
    let output = Exporter::run(&["once"], &twice);
    assert_exit(&output, 2, &["XT_SECRET_KEY_FILE", "XT_SECRET_KEY"]);
    transcript.add_output("XT_SECRET_KEY_FILE and XT_SECRET_KEY", &output);
    let output = Exporter::run(&["check", "--config.file", "x.yaml"], &KEYS);
    assert_exit(&output, 2, &["XT_ACCESS_KEY", "--config.file"]);
    transcript.add_output("XT_ACCESS_KEY and --config.file", &output);
    transcript.assert("two_sources_for_a_key");
}

#[test]
fn without_a_key_the_error_explains_how_to_set_one() {
    let outputs = ["serve", "once", "check"].map(|command| Exporter::run(&[command], &[]));
    for output in &outputs {
        assert_exit(output, 2, &["--xt.access-key-file", "XT_ACCESS_KEY", "--config.file", "demo"]);
        assert_eq!(error_output(output), error_output(&outputs[0]));
    }
    assert_golden("no_key", &error_output(&outputs[0]));
}

// once

#[test]
fn once_prints_the_metrics_of_one_poll_and_none_of_its_own_process() {
    let exchange = Exchange::documented();
    let output = run(&format!("once --balance.watch usdt=500 --xt.base-url {}", exchange.url()));
    assert_exit(&output, 0, &[]);
    let spot = r#"{account="main",currency="usdt",wallet="spot"}"#;
    assert_eq!(sample(&output.stdout, &format!("xt_balance_free{spot}")), Some(3_867.436_500_12));
    assert_eq!(sample(&output.stdout, r#"xt_up{account="main",wallet="spot"}"#), Some(1.0));
    assert_eq!(sample(&output.stdout, r#"xt_polls_total{account="main",wallet="spot"}"#), Some(1.0));
    assert!(!output.stdout.contains("process_"), "{}", output.stdout);
    assert!(output.stdout.lines().all(|line| line.starts_with("# ") || line.starts_with("xt_")));
}

#[test]
fn once_prints_metrics_and_ends_with_1_if_a_poll_fails() {
    let exchange = Exchange::documented();
    exchange.simulator.inject_fault(Fault::new(Effect::Maintenance));
    let output = run(&format!("once --balance.watch usdt=500 --xt.base-url {}", exchange.url()));
    assert_exit(&output, 1, &["HTTP 503"]);
    assert_golden("once_poll_failed", &error_output(&output));
    assert_eq!(sample(&output.stdout, r#"xt_up{account="main",wallet="spot"}"#), Some(0.0));
    let failures = r#"xt_poll_failures_total{account="main",reason="unavailable",wallet="spot"}"#;
    assert_eq!(sample(&output.stdout, failures), Some(1.0));
    assert!(!output.stdout.contains("xt_balance_free{"), "{}", output.stdout);
    assert!(output.stdout.contains("xt_balance_free_threshold{"), "{}", output.stdout);
}

#[test]
fn once_asks_for_prices_too_and_ends_with_1_if_they_cannot_be_read() {
    for (api, endpoint) in [("v1", SimulatedEndpoint::GetTickers), ("v4", SimulatedEndpoint::V4Prices)] {
        let exchange = Exchange::documented();
        let command = format!("once --xt.prices usdt --xt.api {api} --xt.base-url {}", exchange.url());
        let output = run(&command);
        assert_exit(&output, 0, &[]);
        let btc = "xt_price{currency=\"btc\",quote=\"usdt\"}";
        assert_eq!(sample(&output.stdout, btc), Some(64_210.0));
        let unpriced = r#"xt_unpriced_currencies{account="main",wallet="spot"}"#;
        assert_eq!(sample(&output.stdout, unpriced), Some(0.0));

        exchange.simulator.inject_fault(Fault::new(Effect::Maintenance).for_endpoint(endpoint));
        let output = run(&command);
        assert_exit(&output, 1, &["HTTP 503"]);
        assert_golden("once_prices_failed", &error_output(&output));
        assert_eq!(sample(&output.stdout, r#"xt_up{account="main",wallet="spot"}"#), Some(1.0));
        assert_eq!(sample(&output.stdout, "xt_price_last_success_timestamp_seconds"), Some(0.0));
        assert!(!output.stdout.contains("xt_price{"), "{}", output.stdout);
        exchange.simulator.inject_fault(Fault::new(Effect::Maintenance));
        let output = run(&command);
        assert_exit(&output, 1, &[]);
        assert_golden("once_poll_and_prices_failed", &error_output(&output));
    }
}

#[test]
fn once_replaces_its_output_file_atomically_and_leaves_no_temporary_file() {
    let exchange = Exchange::documented();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("xt.prom");
    fs::write(&file, "old\n").unwrap();
    // A process that has the old file open keeps reading the old file.
    let mut old = fs::File::open(&file).unwrap();
    let command = format!("once --output {} --xt.base-url {}", file.display(), exchange.url());
    assert_exit(&run(&command), 0, &[]);
    let mut read = String::new();
    std::io::Read::read_to_string(&mut old, &mut read).unwrap();
    assert_eq!(read, "old\n");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("xt_balance_free{") && !text.contains("process_"), "{text}");

    // A failed poll is worth a file as well: it says that the balances are not known.
    exchange.simulator.inject_fault(Fault::new(Effect::Maintenance));
    assert_exit(&run(&command), 1, &[]);
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(sample(&text, r#"xt_up{account="main",wallet="spot"}"#), Some(0.0));
    assert!(!text.contains("xt_balance_free{"), "{text}");

    let names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["xt.prom"]);
}

#[test]
fn once_does_not_change_a_file_that_it_cannot_replace() {
    let exchange = Exchange::documented();
    let folder = tempfile::tempdir().unwrap();
    // A folder cannot be replaced by a file, not even by root.
    let target = folder.path().join("xt.prom");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("inside"), "old\n").unwrap();
    let command = |path: &Path| format!("once --output {} --xt.base-url {}", path.display(), exchange.url());
    let mut transcript = Transcript::default();
    let output = run(&command(&target));
    assert_exit(&output, 1, &["--output", "xt.prom"]);
    transcript.add("a folder", &error_output(&output));
    assert_eq!(fs::read_to_string(target.join("inside")).unwrap(), "old\n");
    let names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["xt.prom"], "no draft is left");

    let nowhere = folder.path().join("no/such/folder/xt.prom");
    let output = run(&command(&nowhere));
    assert_exit(&output, 1, &["--output", "No such file or directory"]);
    transcript.add("in no folder", &error_output(&output));
    transcript.assert("once_output_cannot_be_written");
}

// healthcheck

#[test]
fn healthcheck_distinguishes_a_running_daemon_from_a_missing_one() {
    let exchange = Exchange::documented();
    let exporter = Exporter::serve(&exchange.url(), &[]);
    let address = exporter.address();
    let healthy = Exporter::run(&["healthcheck", &format!("--web.listen-address={address}")], &[]);
    assert_exit(&healthy, 0, &[]);
    exporter.signal("TERM");
    exporter.wait();
    let gone = Exporter::run(&["healthcheck", &format!("--web.listen-address={address}")], &[]);
    assert_exit(&gone, 1, &[&address.to_string(), "/-/healthy"]);
    let mut transcript = Transcript::default();
    transcript.add_output("a daemon that is healthy", &healthy);
    transcript.add_output("no daemon", &gone);
    transcript.assert("healthcheck");
}

/// Answers one request with `answer` and closes. Returns the address.
fn answer_once(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut client = BufReader::new(listener.accept().unwrap().0);
        let mut line = String::new();
        // An empty line ends the request.
        while client.read_line(&mut line).unwrap() > 2 {
            line.clear();
        }
        client.get_mut().write_all(answer.as_bytes()).unwrap();
    });
    address
}

#[test]
fn healthcheck_prints_the_answer_that_a_proxy_sends_in_chunks() {
    let proxy = answer_once(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nheal\r\n4\r\nthy\n\r\n0\r\n\r\n",
    );
    let output = Exporter::run(&["healthcheck", "--url", &format!("http://{proxy}/exporter")], &[]);
    assert_exit(&output, 0, &[]);
    assert_eq!(output.stdout, "healthy\n");
}

#[test]
fn healthcheck_tells_a_server_of_another_protocol_from_a_missing_one() {
    let server = answer_once("SSH-2.0-OpenSSH_9.2\r\n");
    let output = Exporter::run(&["healthcheck", "--url", &format!("http://{server}")], &[]);
    assert_exit(&output, 1, &[&server.to_string(), "does not answer in HTTP"]);
}

// demo and simulate

/// The address behind `before` in what was printed.
fn printed_address(exporter: &Exporter, before: &str) -> SocketAddr {
    let line = exporter.stdout.wait_for(before);
    let url = line.split("http://").nth(1).unwrap_or_else(|| panic!("{line}"));
    url.split('/').next().unwrap().parse().unwrap_or_else(|error| panic!("{line}: {error}"))
}

#[test]
fn demo_shows_every_account_without_a_key_or_an_environment() {
    let exporter = Exporter::start(&["demo", "--web.listen-address=127.0.0.1:0"], &[]);
    let site = printed_address(&exporter, "status page");
    assert_eq!(printed_address(&exporter, "metrics"), site);
    assert_eq!(get(printed_address(&exporter, "  simulated exchange "), "/simulator/", &[]).status, 200);
    until("every account has been polled", || (get(site, "/-/ready", &[]).status == 200).then_some(()));
    let metrics = get(site, "/metrics", &[]).text();
    let ups: Vec<_> = metrics.lines().filter(|line| line.starts_with("xt_up{")).collect();
    for account in ["treasury", "market-maker", "arbitrage", "cold-storage", "grid-bot", "otc-desk"] {
        let mine: Vec<_> =
            ups.iter().filter(|line| line.contains(&format!("account=\"{account}\""))).collect();
        let up = if account == "otc-desk" { " 0" } else { " 1" };
        assert!(!mine.is_empty() && mine.iter().all(|line| line.ends_with(up)), "{account}: {ups:?}");
    }
    assert!(get(site, "/", &[]).text().contains("market-maker"));
    // What the demo shows from the start on.
    exporter.stdout.wait_for(messages::DEMO_LOW);
    exporter.stdout.wait_for(messages::DEMO_REFUSED);
    exporter.signal("INT");
    let output = exporter.wait();
    assert_exit(&output, 0, &[]);
    assert_eq!(output.stderr, "", "the log would hide the lines of the demo");
    let widest = output.stdout.lines().max_by_key(|line| line.chars().count()).unwrap();
    assert!(widest.chars().count() <= 80, "{widest}");
}

#[test]
fn demo_prints_the_log_on_request() {
    let exporter = Exporter::start(&["demo", "--web.listen-address=127.0.0.1:0", "--log.level=info"], &[]);
    exporter.stderr.wait_for(messages::FIRST_POLL_GOOD);
    exporter.signal("TERM");
    let output = exporter.wait();
    assert_exit(&output, 0, &[]);
    assert!(output.stderr.contains(messages::SHUTTING_DOWN), "{}", output.stderr);
}

#[test]
fn simulate_prints_keys_that_work_on_the_exchange_it_serves() {
    let exporter = Exporter::start(&["simulate", "--web.listen-address", "127.0.0.1:0"], &[]);
    let address = printed_address(&exporter, "listens on");
    let line = exporter.stdout.wait_for("treasury");
    let columns: Vec<_> = line.split_whitespace().collect();
    let [_, access, secret] = columns[..] else { panic!("{line}") };
    let url = format!("http://{address}");
    let watched = Exporter::run(
        &["check", "--xt.base-url", &url],
        &[("XT_ACCESS_KEY", access), ("XT_SECRET_KEY", secret)],
    );
    assert_exit(&watched, 0, &["ok   wallet spot: "]);
    assert!(get(address, "/simulator/", &[]).text().contains(access));
    exporter.signal("TERM");
    assert_exit(&exporter.wait(), 0, &[]);
}

#[test]
fn simulate_refuses_to_be_reached_from_other_machines() {
    let mut transcript = Transcript::default();
    for address in ["0.0.0.0:0", "[::]:0", ":0"] {
        let output = Exporter::run(&["simulate", "--web.listen-address", address], &[]);
        assert_exit(&output, 2, &[&format!("--web.listen-address {address}")]);
        assert_eq!(output.stdout, "", "no keys, no address");
        transcript.add_output(address, &output);
    }
    let output = Exporter::run(&["simulate", "--web.listen-address", "nowhere"], &[]);
    assert_exit(&output, 2, &["--web.listen-address"]);
    transcript.add_output("nowhere", &output);
    transcript.assert("simulate_listen");
}

// words

#[test]
fn a_flag_that_the_command_has_no_use_for_is_refused_and_its_owner_named() {
    let mut transcript = Transcript::default();
    for (args, parts) in [
        ("--output x", ["--output", "`serve`", "`once`"].as_slice()),
        ("--poll.interval 1m check", &["--poll.interval", "`serve`"]),
        ("sevre", &["sevre", "serve"]),
        ("--xt.acount a", &["'--xt.acount'", "'--xt.account'"]),
        ("--xt.acount=a", &["'--xt.acount'", "'--xt.account'"]),
        ("once --xt.acount a", &["'--xt.acount'", "'--xt.account'"]),
        ("--poll.interval 30", &["--poll.interval"]),
        ("simulate --listen 127.0.0.1:0", &["--listen", "--web.listen-address"]),
    ] {
        let output = run(args);
        assert_exit(&output, 2, parts);
        transcript.add_output(args, &output);
    }
    transcript.assert("wrong_flags");
}

#[test]
fn logs_are_json_on_request() {
    let output = run(&format!("once --log.format json --xt.base-url {CLOSED_PORT}"));
    assert_exit(&output, 1, &[]);
    // A message for the user at the prompt is not a log line.
    let log = output.stderr.lines().filter(|line| !line.starts_with("error: "));
    let lines: Vec<serde_json::Value> = log.map(|line| serde_json::from_str(line).unwrap()).collect();
    let poll = lines.iter().find(|line| line["reason"] == "connect").unwrap();
    assert_eq!((&poll["account"], &poll["level"]), (&"main".into(), &"warn".into()));
}

/// As Docker mounts a secret: of mode 0444, which nobody can change there.
#[test]
fn a_key_file_that_others_may_read_is_a_warning_and_no_problem() {
    let exchange = Exchange::documented();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o444)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (key, secret) = (file("key", ACCESS_KEY), file("secret", SECRET_KEY));
    let env = [("XT_ACCESS_KEY_FILE", &*key), ("XT_SECRET_KEY_FILE", &*secret)];
    let checked = Exporter::run(&["check", "--xt.base-url", &exchange.url()], &env);
    assert!(checked.status.success(), "{}", checked.stdout);
    let warnings = checked.stdout.lines().filter(|line| line.trim_start().starts_with("WARN key pair: "));
    assert_eq!(warnings.count(), 2, "{}", checked.stdout);
}

/// A base URL on this machine may be a proxy to the real exchange.
#[test]
fn restarts_in_a_loop_keep_a_second_between_their_calls_on_this_machine_too() {
    let exchange = Exchange::documented();
    let calls = || exchange.simulator.call_log().asset_call_times("main");
    for restarts in 0..4 {
        let exporter = Exporter::serve(&exchange.url(), &["--poll.interval=30s"]);
        until("it asks", || (calls().len() > restarts).then_some(()));
        drop(exporter);
    }
    let once = Exporter::run(
        &["once", "--xt.base-url", &exchange.url()],
        &[("XT_ACCESS_KEY", ACCESS_KEY), ("XT_SECRET_KEY", SECRET_KEY)],
    );
    assert!(once.status.success(), "{}", once.stderr);
    let calls = calls();
    let gaps: Vec<_> =
        calls.iter().zip(calls.iter().skip(1)).map(|(one, next)| next.saturating_sub(*one)).collect();
    assert!(gaps.len() == 4 && gaps.iter().all(|gap| gap.as_secs() >= 1), "{gaps:?}");
}
