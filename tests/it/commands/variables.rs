//! The environment variables of flags: each flag has one, the flag wins, and errors name the variable.

use std::{collections::BTreeMap, process::Command};

use clap::ArgAction;

use super::{CLOSED_PORT, KEYS, assert_exit};
use crate::common::{
    ACCESS_KEY, Exchange, Exporter, Output, PROGRAM, SECRET_KEY,
    golden::{Transcript, error_output},
    sample, until,
};
use xt_balance_exporter::cli;

/// Runs the program with keys and these variables.
fn run_with(args: &str, env: &[(&str, &str)]) -> Output {
    let args: Vec<_> = args.split(' ').filter(|word| !word.is_empty()).collect();
    Exporter::run(&args, &[&KEYS[..], env].concat())
}

#[test]
fn every_flag_has_a_variable_of_its_own() {
    let definition = cli::definition();
    let mut flags = BTreeMap::new();
    for command in definition.get_subcommands() {
        for arg in command.get_arguments() {
            let Some(flag) = arg.get_long() else { continue };
            let name = format!("{} --{flag}", command.get_name());
            if ["metrics", "xt.access-key-file", "xt.secret-key-file"].contains(&flag) {
                assert_eq!(arg.get_env(), None, "{name}");
                continue;
            }
            let variable =
                arg.get_env().unwrap_or_else(|| panic!("{name} has no variable")).to_str().unwrap();
            assert_eq!(*flags.entry(variable.to_owned()).or_insert(flag), flag, "{variable}");
            let help = Exporter::run(&[command.get_name(), "--help"], &[("COLUMNS", "100")]).stdout;
            let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(help.contains(&format!("[env: {variable}]")), "{name}: {help}");
        }
    }
    assert!(flags.len() > 25, "{flags:?}");
}

#[test]
fn serve_is_set_up_by_variables_alone() {
    let exchange = Exchange::documented();
    let url = exchange.url();
    let env = [
        ("XT_BASE_URL", &*url),
        ("XT_ACCOUNT", "variables"),
        ("XT_WALLET", "spot"),
        ("XT_BALANCE_WATCH", "usdt=500,xrp"),
        ("XT_POLL_INTERVAL", "1s"),
        ("XT_POLL_TIMEOUT", "900ms"),
        ("XT_WEB_LISTEN_ADDRESS", "127.0.0.1:0,[::1]:0"),
        ("XT_WEB_ENABLE_LIFECYCLE", "yes"),
        ("XT_WEB_SYSTEMD_SOCKET", "0"),
        ("XT_LOG_LEVEL", "debug"),
    ];
    let exporter = Exporter::start(&[], &[&KEYS[..], &env].concat());
    let watched = until("the second poll confirms that xrp is missing", || {
        sample(&exporter.metrics(), r#"xt_watch_present{account="variables",currency="xrp",wallet="spot"}"#)
    });
    assert!(watched < 1.0, "{watched}");
    exporter.stderr.wait_for("address=[::1]:");
    let reloaded = crate::common::request("POST", exporter.address(), "/-/reload", &[]);
    assert_eq!(reloaded.status, 200, "{}", reloaded.text());
}

#[test]
fn a_flag_wins_over_its_variable_and_others_are_ignored() {
    let exchange = Exchange::documented();
    let flags = format!("once --xt.account flag --balance.watch usdt=7 --xt.base-url {}", exchange.url());
    let env = [
        ("XT_ACCOUNT", "variable"),
        ("XT_BALANCE_WATCH", "usdt=1,btc=2"),
        ("XT_BASE_URL", CLOSED_PORT),
        // Of other commands.
        ("XT_WEB_MAX_REQUESTS", "nonsense"),
        ("XT_POLL_INTERVAL", "nonsense"),
        ("XT_URL", "nonsense"),
    ];
    let output = run_with(&flags, &env);
    assert_exit(&output, 0, &[]);
    let threshold = |currency: &str| {
        let labels = format!(r#"{{account="flag",currency="{currency}",wallet="spot"}}"#);
        sample(&output.stdout, &format!("xt_balance_free_threshold{labels}"))
    };
    assert_eq!((threshold("usdt"), threshold("btc")), (Some(7.0), None));
    // A comma separates values only in a variable.
    let output = run_with("--config.check --balance.watch usdt=500,btc=1", &[]);
    assert_exit(&output, 2, &["--balance.watch"]);
}

#[test]
fn an_error_names_the_variable_and_the_fix() {
    let mut transcript = Transcript::default();
    for (args, variable, value) in [
        ("--config.check", "XT_POLL_INTERVAL", "30"),
        ("--config.check", "XT_LOG_LEVEL", "loud"),
        ("--config.check", "XT_WEB_SYSTEMD_SOCKET", "perhaps"),
        ("--config.check", "XT_WEB_ALLOWED_HOSTS", "a,b:80"),
        ("--config.check", "XT_BALANCE_WATCH", "usdt=500,btc:1"),
        ("--config.check --poll.interval 5s", "XT_POLL_TIMEOUT", "10s"),
        ("--config.check", "XT_BALANCE_WATCH", "usdt=abc"),
        ("--config.check", "XT_BALANCE_WATCH", "usdt=500,"),
        ("--config.check", "XT_WALLET", "spot, ,futures_usdt"),
        ("--config.check", "XT_BASE_URL", "https://a.b:99999"),
        ("--config.check", "XT_WEB_MAX_REQUESTS", "x"),
        ("--config.check", "XT_WEB_LISTEN_ADDRESS", "127.0.0.1"),
        ("healthcheck", "XT_WEB_LISTEN_ADDRESS", "127.0.0.1"),
        ("healthcheck", "XT_WEB_LISTEN_ADDRESS", "127.0.0.1:0"),
        ("healthcheck", "XT_URL", "https://127.0.0.1:99999"),
        ("simulate", "XT_SIMULATE_LISTEN_ADDRESS", "127.0.0.1"),
        ("--config.check", "XT_CONFIG_FILE", "missing.yml"),
        ("--config.check --config.file x.yml", "XT_POLL_INTERVAL", "1m"),
        ("--config.check --config.file x.yml", "XT_ACCOUNT", "a"),
        ("check --xt.account a", "XT_CONFIG_FILE", "x.yml"),
    ] {
        let output = run_with(args, &[(variable, value)]);
        assert_exit(&output, 2, &[variable]);
        transcript.add_output(&format!("{variable}={value} {args}"), &output);
    }
    let output = run_without_utf8(&["--config.check"], Some("XT_ACCOUNT"));
    assert_exit(&output, 2, &["XT_ACCOUNT"]);
    transcript.add_output("XT_ACCOUNT is not UTF-8", &output);
    let output = run_without_utf8(&["--config.check", "--xt.account"], None);
    assert_exit(&output, 2, &["--xt.account"]);
    transcript.add_output("--xt.account is not UTF-8", &output);
    let both = [("XT_POLL_INTERVAL", "1m"), ("XT_CONFIG_FILE", "x.yml")];
    let output = run_with("--config.check", &both);
    assert_exit(&output, 2, &["XT_POLL_INTERVAL", "XT_CONFIG_FILE"]);
    transcript.add_output("both", &output);
    transcript.assert("wrong_variables");
}

/// Runs the program with a value that is not UTF-8, of this variable or as the last argument.
fn run_without_utf8(args: &[&str], variable: Option<&str>) -> Output {
    let script = r#"value=$(printf '\377'); if [ "$VARIABLE" ]; then export "$VARIABLE=$value"; exec "$@"; fi; exec "$@" "$value""#;
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh", PROGRAM]);
    let env = [&KEYS[..], &[("VARIABLE", variable.unwrap_or_default()), ("PATH", "/usr/bin:/bin")]].concat();
    Exporter::start_by(shell, args, &env).wait()
}

#[test]
fn a_space_after_a_comma_is_accepted_in_every_list() {
    let values = [
        ("XT_BASE_URL", "http://127.0.0.1:1 , http://127.0.0.1:2"),
        ("XT_FUTURES_USDT_BASE_URL", "http://127.0.0.1:1, http://127.0.0.1:2"),
        ("XT_FUTURES_COIN_BASE_URL", "http://127.0.0.1:1, http://127.0.0.1:2"),
        ("XT_WALLET", "spot, futures_usdt, futures_coin"),
        ("XT_BALANCE_WATCH", "usdt=500, btc"),
        ("XT_WEB_LISTEN_ADDRESS", "127.0.0.1:1, 127.0.0.1:2"),
        ("XT_WEB_ALLOWED_HOSTS", "a.test, b.test"),
    ];
    let output = run_with("--config.check", &values);
    assert_exit(&output, 0, &["configuration is valid"]);
    let serve = cli::definition().find_subcommand("serve").unwrap().clone();
    let lists = serve.get_arguments().filter(|arg| matches!(arg.get_action(), ArgAction::Append));
    let mut lists: Vec<_> = lists.map(|arg| arg.get_env().unwrap().to_str().unwrap()).collect();
    let mut tried = values.map(|(name, _)| name);
    lists.sort_unstable();
    tried.sort_unstable();
    assert_eq!(lists, tried, "every list is tried");
}

#[test]
fn the_list_of_metrics_needs_no_valid_variable() {
    assert_exit(&run_with("--metrics", &[("XT_API", "bad"), ("XT_WALLET", ",")]), 0, &["xt_up"]);
}

#[test]
fn a_misspelled_variable_is_a_warning() {
    let output = run_with("--config.check", &[("XT_POLL_INTERVALL", "1m"), ("XT_OTHER_PROGRAM", "1")]);
    assert_exit(&output, 0, &["XT_POLL_INTERVALL", "did you mean XT_POLL_INTERVAL?"]);
    assert!(!output.stderr.contains("XT_OTHER_PROGRAM"), "{}", output.stderr);
    assert_eq!(error_output(&output), "", "it is a line of the log");
}

#[test]
fn healthcheck_asks_the_first_address_of_the_variable() {
    let exchange = Exchange::documented();
    let exporter = Exporter::serve(&exchange.url(), &[]);
    let addresses = format!(" {} , 127.0.0.1:1", exporter.address());
    assert_exit(&Exporter::run(&["healthcheck"], &[("XT_WEB_LISTEN_ADDRESS", &addresses)]), 0, &[]);
}

/// Compose sets a variable that has no value to the empty text.
#[test]
fn a_variable_that_is_empty_counts_as_unset() {
    let exchange = Exchange::documented();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (key, secret) = (file("key", ACCESS_KEY), file("secret", SECRET_KEY));
    let empty = ["XT_ACCESS_KEY", "XT_SECRET_KEY", "XT_WEB_LISTEN_ADDRESS", "XT_WEB_ALLOWED_HOSTS"];
    let mut env: Vec<_> = empty.iter().map(|name| (*name, "")).collect();
    env.extend([("XT_ACCESS_KEY_FILE", &*key), ("XT_SECRET_KEY_FILE", &*secret)]);
    for arguments in [&["--config.check"][..], &["once"]] {
        let assert_exit = Exporter::run(&[arguments, &["--xt.base-url", &exchange.url()]].concat(), &env);
        assert!(assert_exit.status.success(), "{}", assert_exit.stderr);
    }
    let config = file("accounts.yml", "accounts: [{name: a, access_key_file: key, secret_key_file: secret}]");
    let empty: Vec<_> = env.iter().map(|(name, _)| (*name, "")).collect();
    let assert_exit = Exporter::run(&["--config.check", "--config.file", &config], &empty);
    assert!(assert_exit.status.success(), "{}", assert_exit.stderr);
}
