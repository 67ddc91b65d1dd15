//! Egress groups: each account's calls leave by the address of its group alone, and each address has limits of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use tempfile::TempDir;
use xt_balance_exporter::simulator::{CallLog, SimulatedAccount, SimulatedWallet, SimulatorConfig};

use crate::common::{Exchange, Exporter, Output, messages, replace, sample, until};

/// 127.0.0.2 and the addresses after it.
fn address(group: usize) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, u8::try_from(group + 2).unwrap()).into()
}

fn name(number: usize) -> String {
    format!("desk-{number}")
}

/// An exchange with `accounts` accounts, and a folder with their keys.
fn start_exchange(config: SimulatorConfig, accounts: usize) -> (Exchange, TempDir) {
    let account = |number: usize| {
        let (access, secret) = (format!("access-{number}"), format!("secret-{number}"));
        SimulatedAccount::new(&name(number), &access, &secret)
            .with_balance(SimulatedWallet::Spot, "usdt", "7", "0")
            .with_balance(SimulatedWallet::FuturesUsdt, "usdt", "5", "0")
    };
    let exchange = Exchange::new(config, (0..accounts).map(account).collect());
    let folder = tempfile::tempdir().unwrap();
    write_keys(folder.path(), accounts);
    (exchange, folder)
}

fn write_keys(folder: &Path, accounts: usize) {
    for number in 0..accounts {
        replace(&folder.join(format!("{number}.key")), &format!("access-{number}"));
        replace(&folder.join(format!("{number}.secret")), &format!("secret-{number}"));
    }
}

/// A file with the lines `head`, groups, and accounts with the numbers of their groups.
fn write_config(folder: &TempDir, head: &str, groups: usize, accounts: &[usize], more: &str) {
    let mut text = format!("{head}\negress:\n");
    for group in 0..groups {
        writeln!(text, "  - {{name: g{group}, source_address: {}}}", address(group)).unwrap();
    }
    text.push_str("accounts:\n");
    for (number, group) in accounts.iter().enumerate() {
        let keys = format!("access_key_file: {number}.key, secret_key_file: {number}.secret");
        writeln!(text, "  - {{name: {}, egress: g{group}, {keys}{more}}}", name(number)).unwrap();
    }
    replace(&folder.path().join("accounts.yml"), &text);
}

fn config_flag(folder: &TempDir) -> String {
    format!("--config.file={}", folder.path().join("accounts.yml").display())
}

fn serve(folder: &TempDir) -> Exporter {
    Exporter::start(&[&config_flag(folder), "--web.listen-address=127.0.0.1:0"], &[])
}

fn check(folder: &TempDir) -> Output {
    Exporter::run(&[&config_flag(folder), "--config.check"], &[])
}

/// The addresses that the calls with each account's key came from.
fn addresses_by_account(log: &CallLog) -> BTreeMap<String, BTreeSet<IpAddr>> {
    let mut addresses = BTreeMap::<String, BTreeSet<IpAddr>>::new();
    for record in &log.records {
        if let Some(account) = &record.account {
            addresses.entry(account.clone()).or_default().insert(record.ip);
        }
    }
    addresses
}

#[test]
fn every_call_with_a_key_leaves_by_the_address_of_its_group() {
    const GROUPS: usize = 12;
    const ACCOUNTS: usize = GROUPS + 2;
    let (exchange, folder) = start_exchange(SimulatorConfig::default(), ACCOUNTS);
    let groups: Vec<_> = (0..ACCOUNTS).map(|number| number % GROUPS).collect();
    let head = |first: &str| {
        let url = exchange.url();
        format!("base_urls: [{first}'{url}']\nfutures_usdt_base_urls: ['{url}/fapi']\nprices: usdt")
    };
    let more = ", wallets: [spot, futures_usdt], futures_risk: true";
    // The first base URL fails, so that every read needs a failover.
    write_config(&folder, &head("'http://127.0.0.1:1', "), GROUPS, &groups, more);
    let file = config_flag(&folder);
    let run = |command: &str| Exporter::run(&[command, &file], &[]);
    let exporter = serve(&folder);
    exporter.ready();
    let metrics = exporter.metrics();
    // They take their time for each account, and make one more call for the watched currency without a row.
    write_config(&folder, &head(""), GROUPS, &groups[..1], &format!("{more}, watch: {{spot/xt: ~}}"));
    for command in ["once", "check"] {
        let output = run(command);
        assert_eq!(output.status.code(), Some(0), "{command}: {}{}", output.stdout, output.stderr);
    }
    for number in 0..ACCOUNTS {
        for (wallet, amount) in [("spot", 7.0), ("futures_usdt", 5.0)] {
            let series = format!(
                "xt_balance_free{{account=\"{}\",currency=\"usdt\",wallet=\"{wallet}\"}}",
                name(number)
            );
            assert_eq!(sample(&metrics, &series), Some(amount), "{series}");
        }
    }
    let log = exchange.simulator.call_log();
    let addresses = addresses_by_account(&log);
    assert_eq!(addresses.len(), ACCOUNTS);
    for (number, group) in groups.iter().enumerate() {
        assert_eq!(addresses[&name(number)], BTreeSet::from([address(*group)]), "{number}");
    }
    // Each group reads the clock by its own address, and prices leave by the default group.
    let all: BTreeSet<_> = log.ips.keys().copied().collect();
    let expected = (0..GROUPS).map(address).chain([Ipv4Addr::LOCALHOST.into()]);
    assert_eq!(all, expected.collect());
    let keyless = log.records.iter().filter(|record| record.ip == Ipv4Addr::LOCALHOST);
    assert!(keyless.clone().count() > 0 && keyless.clone().all(|record| record.account.is_none()));
    assert_eq!(log.count_breaches(), 0);
    for group in ["default".to_owned()].into_iter().chain((0..GROUPS).map(|group| format!("g{group}"))) {
        let labels = format!("{{egress=\"{group}\",scope=\"address\"}}");
        assert_eq!(sample(&metrics, &format!("xt_rate_limit_capacity{labels}")), Some(900.0), "{group}");
        until("its calls are counted", || {
            exporter.sample(&format!("xt_rate_limit_calls{labels}")).filter(|calls| *calls > 0.0)
        });
    }
}

#[test]
fn a_locked_address_pauses_the_accounts_of_its_group_and_no_others() {
    let limits = SimulatorConfig { ip_calls_per_minute: 10, ..SimulatorConfig::default() };
    let (exchange, folder) = start_exchange(limits, 9);
    // Eight accounts share the first address, and make more calls than the exchange permits.
    let head = format!("base_urls: ['{}']\npoll_interval: 2s\npoll_timeout: 1s", exchange.url());
    write_config(&folder, &head, 2, &[0, 0, 0, 0, 0, 0, 0, 0, 1], "");
    // One call in twelve seconds stays below the limit.
    let path = folder.path().join("accounts.yml");
    let text = std::fs::read_to_string(&path).unwrap();
    replace(&path, &text.replace("{name: desk-8,", "{name: desk-8, poll_interval: 12s,"));
    let exporter = serve(&folder);
    let paused = |number: usize| {
        exporter.sample(&format!("xt_paused_until_timestamp_seconds{{account=\"{}\"}}", name(number)))
    };
    until("all accounts of the address are paused", || {
        (0..8).all(|number| paused(number).is_some_and(|until| until > 0.0)).then_some(())
    });
    let calls = || exchange.simulator.call_log().call_times_from(address(0)).len();
    let before = (calls(), exchange.simulator.call_log().call_times_from(address(1)).len());
    until("the other account is still polled", || {
        (exchange.simulator.call_log().call_times_from(address(1)).len() > before.1).then_some(())
    });
    assert_eq!(calls(), before.0, "nothing is sent from the locked address");
    assert_eq!(paused(8), Some(0.0));
}

#[test]
fn a_reload_moves_an_account_to_another_address() {
    let (exchange, folder) = start_exchange(SimulatorConfig::default(), 2);
    let head = format!("base_urls: ['{}']\npoll_interval: 1s\npoll_timeout: 500ms", exchange.url());
    write_config(&folder, &head, 2, &[0, 1], "");
    let exporter = serve(&folder);
    exporter.ready();
    write_config(&folder, &head, 3, &[2, 1], "");
    exporter.signal("HUP");
    exporter.stderr.wait_for(messages::RELOADED);
    until("it is polled from the new address", || {
        let calls = exchange.simulator.call_log().call_times_from(address(2)).len();
        (calls > 3).then_some(())
    });
    let log = exchange.simulator.call_log();
    assert_eq!(addresses_by_account(&log)["desk-0"], BTreeSet::from([address(0), address(2)]));
    assert_eq!(addresses_by_account(&log)["desk-1"], BTreeSet::from([address(1)]));
    let last_old = log.call_times_from(address(0)).last().copied();
    let first_new =
        log.records.iter().find(|record| record.ip == address(2)).map(|record| record.since_start);
    assert!(last_old < first_new, "the old address is no longer used");
    assert_eq!(log.count_breaches(), 0);
    let metrics = exporter.metrics();
    assert!(metrics.contains("egress=\"g2\"") && metrics.contains("egress=\"g0\""), "{metrics}");
}

#[test]
fn the_load_is_checked_for_each_address() {
    let folder = tempfile::tempdir().unwrap();
    write_keys(folder.path(), 902);
    let groups = |first: usize| (0..902).map(|number| usize::from(number >= first)).collect::<Vec<_>>();
    write_config(&folder, "", 2, &groups(450)[..900], "");
    assert_eq!(check(&folder).status.code(), Some(0), "{}", check(&folder).stderr);
    write_config(&folder, "", 2, &groups(451), "");
    let output = check(&folder);
    assert_eq!(output.status.code(), Some(2), "{}", output.stdout);
    for part in ["'g0'", "451 accounts", "902 calls per minute"] {
        assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
    }
    // Prices leave by the default group, which has no other calls.
    write_config(&folder, "prices: usdt", 2, &groups(450)[..900], "");
    assert_eq!(check(&folder).status.code(), Some(0), "{}", check(&folder).stderr);
}

#[test]
fn a_source_address_of_another_machine_is_a_failure_that_names_it() {
    let (exchange, folder) = start_exchange(SimulatorConfig::default(), 1);
    write_config(&folder, &format!("base_urls: ['{}']", exchange.url()), 1, &[0], "");
    let path = folder.path().join("accounts.yml");
    let text = std::fs::read_to_string(&path).unwrap();
    replace(&path, &text.replace("127.0.0.2", "192.0.2.77"));
    let output = Exporter::run(&["once", &config_flag(&folder)], &[]);
    assert_eq!(output.status.code(), Some(1), "{}", output.stdout);
    assert!(
        output.stderr.contains("192.0.2.77") && output.stderr.contains("reason=connect"),
        "{}",
        output.stderr
    );
    assert!(output.stderr.contains(messages::NO_SOURCE_ADDRESS), "{}", output.stderr);
    let output = Exporter::run(&["check", &config_flag(&folder)], &[]);
    assert!(output.stdout.contains(messages::NO_SOURCE_ADDRESS), "{}", output.stdout);
    assert!(exchange.simulator.call_log().records.is_empty());
}

#[test]
fn a_group_that_would_not_keep_its_address_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    write_keys(folder.path(), 3);
    let one = "{name: a, source_address: 127.0.0.2}";
    let keys = |number: usize| format!("access_key_file: {number}.key, secret_key_file: {number}.secret");
    let account = |more: &str| format!("[{{name: x, {}{more}}}]", keys(0));
    let two = |other_key: usize| {
        let second =
            format!("{{name: y, egress: b, access_key_file: {other_key}.key, secret_key_file: 1.secret}}");
        format!("[{{name: x, egress: a, {}}}, {second}]", keys(0))
    };
    let both = format!("{one}, {{name: b, source_address: 127.0.0.3}}");
    let long = "a".repeat(31);
    let check_text = |groups: &str, accounts: &str| {
        replace(&folder.path().join("accounts.yml"), &format!("egress: [{groups}]\naccounts: {accounts}\n"));
        check(&folder)
    };
    let valid = [
        (one.to_owned(), account(", egress: a")),
        (format!("{one}, {{name: b, source_address: '::1'}}"), account(", egress: b")),
        ("{name: a, proxy_url: 'http://proxy.example.com:3128'}".to_owned(), account(", egress: a")),
        (both.clone(), two(1)),
    ];
    for (groups, accounts) in &valid {
        let output = check_text(groups, accounts);
        assert_eq!(output.status.code(), Some(0), "{groups}: {}", output.stderr);
    }
    for (groups, accounts, parts) in [
        (one, account(""), ["egress is not set", "name one of a"]),
        (one, account(", egress: hunter2"), ["unknown group", "lists a"]),
        ("", account(", egress: hunter2"), ["lists none", "egress: [{name"]),
        (one, account(", egress: a, proxy_url: direct"), ["decides about the proxy", "remove proxy_url"]),
        ("{name: default, source_address: 127.0.0.2}", account(""), ["reserved", "another name"]),
        ("{name: 'hunter 2', source_address: 127.0.0.2}", account(""), ["egress[0].name", "letters, digits"]),
        (&format!("{{name: {long}, source_address: 127.0.0.2}}"), account(""), ["egress[0].name", "1 to 30"]),
        ("{name: a}", account(""), ["needs a source_address or a proxy_url", "192.0.2.1"]),
        ("{name: a, source_address: hunter2}", account(""), ["source_address is not", "192.0.2.1"]),
        ("{name: a, source_address: 0.0.0.0}", account(""), ["source_address is not", "192.0.2.1"]),
        ("{name: a, source_address: 224.0.0.1}", account(""), ["source_address is not", "192.0.2.1"]),
        ("{name: a, proxy_url: direct}", account(""), ["proxy_url", "set source_address"]),
        ("{name: a, proxy_url: 'socks5://hunter2:1'}", account(""), ["proxy_url", "SOCKS"]),
        (
            "{name: a, source_address: 127.0.0.2, proxy_url: 'http://p:1'}",
            account(""),
            ["source_address and a proxy_url", "remove one"],
        ),
        (
            "{name: a, source_address: 127.0.0.2, proxy_credentials_file: login}",
            account(""),
            ["proxy_credentials_file", "remove it"],
        ),
        (&format!("{one}, {one}"), account(", egress: a"), ["'a'", "same address"]),
        (
            &format!("{one}, {{name: b, source_address: '::ffff:127.0.0.2'}}"),
            account(", egress: a"),
            ["same address", "one group"],
        ),
        (
            &format!("{one}, {{name: a, source_address: 127.0.0.3}}"),
            account(", egress: a"),
            ["two egress groups are named 'a'", "rename"],
        ),
        (&both, two(0), ["'x' and 'y' have the same key", "different egress groups"]),
    ] {
        let output = check_text(groups, &accounts);
        assert_eq!(output.status.code(), Some(2), "{groups} {accounts}: {}", output.stdout);
        for part in parts {
            assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
        }
        assert!(!output.stderr.contains("hunter"), "{}", output.stderr);
    }
}
