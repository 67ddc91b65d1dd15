//! The state file: a crash loop sends nothing for a locked account and tries no refused key, and neither do `once` and
//! `check` in a loop. A new key is tried at once. A limit reply during the shutdown counts. A file that cannot be used costs
//! a warning.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, chown},
    path::Path,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use xt_balance_exporter::simulator::{
    Effect, Fault, SimulatedAccount, SimulatedEndpoint, SimulatedWallet, SimulatorConfig,
};

use crate::common::{
    Exchange, Exporter, Output,
    hanging_folder::HangingFolder,
    messages,
    proxy::{Proxy, ProxyMode, http_response},
    replace, until,
};

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

/// Writes the configuration of these accounts and their key files.
fn write_config(folder: &Path, exchange: &Exchange) {
    write_accounts(
        folder,
        &exchange.url(),
        "poll_interval: 1s\npoll_timeout: 900ms",
        &["locked", "refused", "well"],
    );
}

fn write_accounts(folder: &Path, url: &str, timing: &str, names: &[&str]) {
    let mut text = format!("api: v1\nbase_urls: ['{url}']\n{timing}\naccounts:\n");
    for name in names {
        let account =
            format!("- {{name: {name}, access_key_file: {name}.key, secret_key_file: {name}.secret}}\n");
        text.push_str(&account);
        replace(&folder.join(format!("{name}.key")), &format!("{name}Key"));
        let secret = if *name == "refused" { "wrong" } else { name };
        replace(&folder.join(format!("{name}.secret")), &format!("{secret}Secret"));
    }
    replace(&folder.join("accounts.yml"), &text);
}

fn start(folder: &Path, state: &Path) -> Exporter {
    start_command(&["--web.listen-address=127.0.0.1:0"], folder, Some(state))
}

/// Runs a command to its end.
fn run(command: &str, folder: &Path, state: Option<&Path>) -> Output {
    start_command(&[command], folder, state).wait()
}

fn start_command(words: &[&str], folder: &Path, state: Option<&Path>) -> Exporter {
    let config = format!("--config.file={}", folder.join("accounts.yml").display());
    let state = state.map(|state| ("STATE_DIRECTORY", state.to_str().unwrap()));
    Exporter::start(&[words, &[&config]].concat(), state.as_slice())
}

fn saved(state: &Path) -> String {
    fs::read_to_string(state.join("limits.json")).unwrap_or_default()
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
    let saved = || saved(state.path());
    let first = start(folder.path(), state.path());
    until("both are saved", || {
        let text = saved();
        (text.contains("\"account\":\"locked\"") && text.contains("\"spot\":")).then_some(())
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

/// As two machines do that share a directory, while both are awake and after that.
#[test]
fn a_second_process_reads_the_pauses_of_the_first_and_saves_its_own_after_its_end() {
    let (exchange, folder, state) = (exchange(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_config(folder.path(), &exchange);
    let first = start(folder.path(), state.path());
    until("the pause is saved", || saved(state.path()).contains("\"account\":\"locked\"").then_some(()));
    let second = start(folder.path(), state.path());
    wait_for_polls(&second);
    assert_eq!(exchange.simulator.call_log().asset_call_times("locked").len(), 1);

    first.signal("KILL");
    first.wait();
    exchange.simulator.inject_fault(Fault::new(Effect::from_status(429)).for_account("well"));
    until("the second process saves both pauses", || {
        let text = saved(state.path());
        (text.contains("\"account\":\"locked\"") && text.contains("\"account\":\"well\"")).then_some(())
    });
}

#[test]
fn a_limit_reply_during_the_shutdown_is_saved() {
    let (exchange, folder, state) = (exchange(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let proxy = Proxy::new(exchange.address);
    write_accounts(folder.path(), &proxy.url(), "poll_interval: 20s", &["well"]);
    let (called, calls) = mpsc::channel();
    let (reply, replies) = mpsc::channel::<()>();
    let (called, replies) = (Mutex::new(called), Mutex::new(replies));
    proxy.set_mode(ProxyMode::Respond(Arc::new(move |_| {
        called.lock().unwrap().send(()).unwrap();
        let _ = replies.lock().unwrap().recv();
        http_response(429, &[], b"")
    })));
    let exporter = start(folder.path(), state.path());
    calls.recv_timeout(crate::common::WAIT_TIMEOUT).unwrap();
    exporter.signal("TERM");
    exporter.stderr.wait_for(messages::SHUTTING_DOWN);
    assert_eq!(saved(state.path()), "");
    reply.send(()).unwrap();
    let output = exporter.wait();
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
    assert!(saved(state.path()).contains("\"account\":\"well\""), "{}", saved(state.path()));
    assert!(calls.try_recv().is_err(), "polls have stopped");
}

#[test]
fn once_and_check_in_a_loop_call_a_locked_account_once() {
    let (exchange, folder, state) = (exchange(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let only_locked = || write_accounts(folder.path(), &exchange.url(), "poll_interval: 20s", &["locked"]);
    only_locked();
    let calls = || exchange.simulator.call_log().accounts["locked"].total();
    for (command, expected) in [("once", [1, 2]), ("check", [3, 4])] {
        for expected in expected {
            assert_eq!(run(command, folder.path(), None).status.code(), Some(1));
            assert_eq!(calls(), expected, "{command} without a state directory");
        }
    }
    // The file belongs to the owner of the directory, even if root runs the command.
    let other_state = tempfile::tempdir().unwrap();
    for (state, commands, expected) in
        [(&other_state, ["once", "check", "once"], 5), (&state, ["check", "once", "check"], 6)]
    {
        chown(state.path(), Some(65_532), Some(65_532)).unwrap();
        for command in commands {
            let output = run(command, folder.path(), Some(state.path()));
            assert_eq!(output.status.code(), Some(1), "{command}: {}{}", output.stdout, output.stderr);
            assert_eq!(calls(), expected, "{command}");
            assert_eq!(fs::metadata(state.path().join("limits.json")).unwrap().uid(), 65_532);
        }
    }
    let output = run("check", folder.path(), Some(state.path()));
    assert!(output.stdout.contains("[rate_limited]"), "{}", output.stdout);
    // A daemon goes on from there.
    write_config(folder.path(), &exchange);
    let exporter = start(folder.path(), state.path());
    wait_for_polls(&exporter);
    assert_eq!(calls(), 6, "the daemon");
}

#[test]
fn a_file_from_the_future_pauses_once_more_and_not_at_every_start() {
    let (exchange, folder, state) = (exchange(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_config(folder.path(), &exchange);
    let text = "{\"version\":1,\"saved_unix_ms\":9000000000000,\"paused_accounts\":[{\"account\":\"locked\",\"pause\":\
                {\"since_reply_ms\":1,\"rest_ms\":600000}}],\"paused_keys\":[],\"prices\":null,\"all_accounts_ms\":null,\
                \"refused_keys\":[]}";
    fs::write(state.path().join("limits.json"), text).unwrap();
    for warnings in [1, 0] {
        let exporter = start(folder.path(), state.path());
        exporter.stderr.wait_for(messages::LISTENING);
        let log = exporter.stderr.text();
        assert_eq!(log.matches(messages::STATE_FILE_FROM_FUTURE).count(), warnings, "{log}");
        let saved = saved(state.path());
        assert!(!saved.contains("9000000000000") && saved.contains("\"account\":\"locked\""), "{saved}");
    }
    assert_eq!(exchange.simulator.call_log().asset_call_times("locked").len(), 0);
}

#[test]
fn a_state_file_that_cannot_be_used_costs_a_warning_each_for_reading_and_writing() {
    let (exchange, folder, state) = (exchange(), tempfile::tempdir().unwrap(), HangingFolder::new());
    write_config(folder.path(), &exchange);
    let warnings = |exporter: &Exporter| {
        let log = exporter.stderr.text();
        [messages::STATE_FILE_UNREADABLE, messages::STATE_FILE_UNWRITABLE]
            .map(|text| log.matches(text).count())
    };
    fs::write(state.path().join("limits.json"), "{\"version\": 1, \"saved\"").unwrap();
    let exporter = start(folder.path(), &state.path());
    until("the file is written again", || saved(&state.path()).contains("locked").then_some(()));
    assert_eq!(warnings(&exporter), [1, 0], "{}", exporter.stderr.text());
    drop(exporter);

    // Something in place of the file that cannot be removed either.
    fs::remove_file(state.path().join("limits.json")).unwrap();
    for name in ["limits.json", "limits.json.new"] {
        fs::create_dir(state.path().join(name)).unwrap();
    }
    let exporter = start(folder.path(), &state.path());
    exporter.stderr.wait_for(messages::STATE_FILE_UNWRITABLE);
    wait_for_polls(&exporter);
    assert_eq!(warnings(&exporter), [1, 1], "{}", exporter.stderr.text());
    drop(exporter);

    state.hang();
    let exporter = start(folder.path(), &state.path());
    wait_for_polls(&exporter);
    assert_eq!(warnings(&exporter)[0], 1, "{}", exporter.stderr.text());
    exporter.signal("TERM");
    assert_eq!(exporter.wait().status.code(), Some(0));

    let nowhere = folder.path().join("nowhere");
    let exporter = start(folder.path(), &nowhere);
    exporter.stderr.wait_for(messages::STATE_FILE_UNWRITABLE);
    wait_for_polls(&exporter);
    assert_eq!(warnings(&exporter), [0, 1], "{}", exporter.stderr.text());
}

#[test]
fn a_state_directory_that_is_not_absolute_is_ignored_with_a_warning() {
    let (exchange, folder) = (exchange(), tempfile::tempdir().unwrap());
    write_config(folder.path(), &exchange);
    for (state, warnings) in [("state", 1), ("", 0)] {
        let output = run("once", folder.path(), Some(Path::new(state)));
        assert_eq!(
            output.stderr.matches(messages::STATE_DIRECTORY_RELATIVE).count(),
            warnings,
            "{}",
            output.stderr
        );
    }
}
