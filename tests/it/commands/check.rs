//! What `check` reports about keys, hosts, clocks, limits and watched currencies, and its exit codes.

use std::{fs, net::IpAddr};

use super::{CLOSED_PORT, assert_exit, exchange_with, run, write};
use crate::common::{
    ACCESS_KEY, Exchange, Exporter, Output, SECRET_KEY,
    golden::{Transcript, assert_golden},
};
use xt_balance_exporter::simulator::{
    Effect, Fault, LimitReply, SimulatedAccount, SimulatedEndpoint, SimulatedKeyState, SimulatedWallet,
    SimulatorConfig,
};

#[test]
fn check_succeeds_if_everything_works() {
    let exchange = Exchange::documented();
    let url = exchange.url();
    let output = run(&format!("check --balance.watch usdt=500 --xt.base-url {url}"));
    assert_exit(&output, 0, &[]);
    let states = line_states(&output);
    assert!(states.len() > 4 && states.iter().all(|state| *state == "ok"), "{}", output.stdout);
    assert_golden("check_ok", &output.stdout);
}

#[test]
fn check_warns_about_a_watched_currency_that_is_missing_or_low() {
    let exchange = Exchange::documented();
    let watched =
        format!("check --balance.watch usdt=4000 --balance.watch xrp --xt.base-url {}", exchange.url());
    let output = run(&watched);
    assert_exit(&output, 0, &["2 warnings", "below the threshold of 4000"]);
    let warnings = line_states(&output).into_iter().filter(|state| *state == "WARN").count();
    assert_eq!(warnings, 2, "{}", output.stdout);
    assert_exit(&run(&format!("{watched} --strict")), 1, &["no problems found, 2 warnings"]);
}

/// The first word of every line that tells how something is: `ok`, `WARN` or `FAIL`.
fn line_states(output: &Output) -> Vec<&str> {
    let words = output.stdout.lines().filter_map(|line| line.split_whitespace().next());
    words.filter(|word| ["ok", "WARN", "FAIL"].contains(word)).collect()
}

/// The number of problems. Each has a fix; a wallet that cannot be read because of another problem has none.
fn count_problems(output: &Output) -> usize {
    output.stdout.lines().filter(|line| line.trim_start().starts_with("fix: ")).count()
}

#[test]
fn check_examines_prices_if_they_are_wanted() {
    for api in ["v1", "v4"] {
        let exchange = Exchange::documented();
        let command = format!("check --xt.prices usdt --xt.api {api} --xt.base-url {}", exchange.url());
        let mut transcript = Transcript::default();
        let output = run(&command);
        assert_exit(&output, 0, &["prices"]);
        transcript.add_output("all is well", &output);
        for market in ["btc_usdt", "eth_usdt", "ltc_usdt", "xt_usdt"] {
            assert!(exchange.simulator.remove_price(market));
        }
        let output = run(&command);
        assert_exit(&output, 1, &["FAIL prices: ", "[decode]"]);
        assert_eq!(count_problems(&output), 1, "{}", output.stdout);
        transcript.add_output("no usable price", &output);
        exchange.simulator.inject_fault(Fault::new(Effect::from_status(429)));
        let output = run(&command);
        assert_exit(&output, 1, &["FAIL prices: "]);
        assert_eq!(count_problems(&output), 2, "{}", output.stdout);
        transcript.add_output("a limit reply", &output);
        transcript.assert(&format!("check_prices_{api}"));
    }
    let exchange = Exchange::documented();
    let output = run(&format!("check --xt.base-url {}", exchange.url()));
    assert!(!output.stdout.contains("prices"), "{}", output.stdout);
}

/// Runs `check` against `exchange`, which has one problem, and adds its output to `transcript`.
fn check_names(exchange: &Exchange, case: &str, parts: &[&str], transcript: &mut Transcript) {
    let output = run(&format!("check --xt.base-url {}", exchange.url()));
    assert_exit(&output, 1, parts);
    assert_eq!(count_problems(&output), 1, "{}", output.stdout);
    for secret in [ACCESS_KEY, SECRET_KEY] {
        assert!(!format!("{}{}", output.stdout, output.stderr).contains(secret), "{}", output.stdout);
    }
    transcript.add_output(case, &output);
}

#[test]
fn check_names_what_is_wrong_with_a_key_and_the_fix() {
    let elsewhere: IpAddr = "192.0.2.1".parse().unwrap();
    let mut transcript = Transcript::default();
    let mut names = |case: &str, reason: &str, change: &dyn Fn(&mut SimulatedAccount)| {
        let exchange = exchange_with(SimulatorConfig::default(), change);
        check_names(&exchange, case, &[reason], &mut transcript);
    };
    names("an unknown key", "[auth]", &|account| account.access_key = "another".to_owned());
    names("a wrong secret", "[signature]", &|account| account.secret_key = "another".to_owned());
    names("a key that is not active", "[auth]", &|account| account.key = SimulatedKeyState::Inactive);
    names("a key that may not read", "[auth]", &|account| account.key = SimulatedKeyState::NotAllowedToRead);
    let moved = |account: &mut SimulatedAccount| account.ips = Some(vec![elsewhere]);
    names("an address that is not on the key's list", "[auth]", &moved);
    transcript.assert("check_key");
}

#[test]
fn check_names_a_clock_that_is_off() {
    let mut transcript = Transcript::default();
    for (case, offset) in [("a clock behind", 90_000), ("a clock ahead", -90_000)] {
        let rules = SimulatorConfig { clock_offset_ms: offset, ..SimulatorConfig::default() };
        let exchange = exchange_with(rules, |_| {});
        // Polls correct for it.
        check_names(&exchange, case, &["ok   wallet spot: "], &mut transcript);
    }
    transcript.assert("check_clock");
}

#[test]
fn check_reports_a_rate_limit_in_every_form_of_the_reply() {
    let mut transcript = Transcript::default();
    for (case, limit_reply) in [("a code", LimitReply::Code), ("status 429", LimitReply::Status429)] {
        let rules = SimulatorConfig { asset_calls_per_second: 0, limit_reply, ..SimulatorConfig::default() };
        let exchange = exchange_with(rules, |_| {});
        let url = exchange.url();
        let output = run(&format!("check --xt.api v1 --xt.wallet spot --xt.wallet fiat --xt.base-url {url}"));
        assert_exit(&output, 1, &["FAIL wallet spot: ", "[rate_limited]", "FAIL wallet fiat: "]);
        transcript.add_output(case, &output);
        let asked =
            exchange.simulator.call_log().records.iter().filter(|arrival| arrival.account.is_some()).count();
        assert_eq!(asked, 1, "it does not ask again after a limit reply");
    }
    transcript.assert("check_rate_limited");
}

#[test]
fn check_reports_a_host_that_does_not_exist() {
    let mut transcript = Transcript::default();
    let exchange = Exchange::documented();
    exchange.simulator.inject_fault(Fault::new(Effect::Maintenance));
    check_names(&exchange, "a maintenance page", &["HTTP 503"], &mut transcript);
    for (case, url, reason) in [
        ("a port on which nobody listens", CLOSED_PORT, "[connect]"),
        ("a host without a name", "https://exchange.invalid", "[dns]"),
    ] {
        let output = run(&format!("check --xt.base-url {url}"));
        assert_exit(&output, 1, &[url, reason]);
        assert_eq!(count_problems(&output), 1, "{}", output.stdout);
        transcript.add_output(case, &output);
    }
    transcript.assert("check_host");
}

#[test]
fn check_goes_through_every_account_and_wallet_of_a_file() {
    let exchange = exchange_with(SimulatorConfig::default(), |account| {
        *account = account.clone().with_balance(SimulatedWallet::Fiat, "eur", "7", "0");
    });
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("key", ACCESS_KEY), ("secret", SECRET_KEY), ("wrong", "wrong")] {
        write(folder.path(), name, text);
        let private = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o600);
        fs::set_permissions(folder.path().join(name), private).unwrap();
    }
    write(
        folder.path(),
        "accounts.yaml",
        &format!(
            "api: v1\nbase_urls: [\"{}\"]\naccounts:\n\
             - {{name: good, access_key_file: key, secret_key_file: secret, wallets: [spot, fiat]}}\n\
             - {{name: bad, access_key_file: key, secret_key_file: wrong}}\n",
            exchange.url()
        ),
    );
    let file = folder.path().join("accounts.yaml");
    let output = Exporter::run(&["check", "--config.file", file.to_str().unwrap()], &[]);
    assert_exit(&output, 1, &["[signature]"]);
    assert_eq!(count_problems(&output), 1, "{}", output.stdout);
    assert_golden("check_many_accounts", &output.stdout);
    let (good, bad) = output.stdout.split_once("account 'bad'").unwrap();
    assert!(good.contains("ok   wallet spot: ") && good.contains("ok   wallet fiat: "), "{good}");
    assert!(!good.contains("FAIL") && bad.contains("FAIL wallet spot"), "{}", output.stdout);
}

#[test]
fn check_permissions_warns_about_a_key_that_can_do_more_than_read_and_keeps_no_secret() {
    let mut transcript = Transcript::default();
    let mut names = |case: &str, code: i32, change: &dyn Fn(&mut SimulatedAccount)| {
        let exchange = exchange_with(SimulatorConfig::default(), change);
        let url = exchange.url();
        let output = run(&format!(
            "check --permissions --strict --log.level debug --xt.base-url {url} --xt.user-center-base-url {url}"
        ));
        assert_exit(&output, code, &["permissions: "]);
        // The other key's secret is in the answer too.
        for secret in [ACCESS_KEY, SECRET_KEY, "c4na7y"] {
            assert!(!format!("{}{}", output.stdout, output.stderr).contains(secret), "{}", output.stdout);
        }
        transcript.add_output(case, &output);
    };
    let loopback = || Some(vec![IpAddr::from([127, 0, 0, 1])]);
    names("a key that can only read", 0, &|account| account.ips = loopback());
    names("a key that can trade and withdraw", 1, &|account| {
        account.ips = loopback();
        account.scopes = "QUERY_TRADE_WITHDRAW".to_owned();
    });
    names("a key for every address", 1, &|_| {});
    names("a locked key with a permission that is new", 1, &|account| {
        account.ips = loopback();
        account.scopes = "QUERY_ADMIN".to_owned();
        account.is_key_locked = true;
    });
    transcript.assert("check_permissions");

    // Without the flag, and without a user center of the same exchange, the key is not sent to one.
    let exchange = exchange_with(SimulatorConfig::default(), |_| {});
    let url = exchange.url();
    assert_exit(&run(&format!("check --strict --xt.base-url {url}")), 0, &[]);
    let output = run(&format!("check --permissions --xt.base-url {url}"));
    assert_exit(&output, 0, &["permissions: cannot be told", "1 warning"]);
    let calls = exchange.simulator.call_log().records;
    assert!(calls.iter().all(|call| call.endpoint != SimulatedEndpoint::V4ApiKeys));
    exchange.simulator.inject_fault(
        Fault::new(Effect::Body("c4na7y".to_owned())).for_endpoint(SimulatedEndpoint::V4ApiKeys),
    );
    let output = run(&format!("check --permissions --xt.base-url {url} --xt.user-center-base-url {url}"));
    assert_exit(&output, 0, &["permissions: cannot be told"]);
    assert!(!format!("{}{}", output.stdout, output.stderr).contains("c4na7y"), "{}", output.stdout);
}
