//! Shards: several exporters divide the accounts of one configuration file, and each account has exactly one of them.

use std::path::Path;

use tempfile::TempDir;
use xt_balance_exporter::{
    shard::ShardFlag,
    simulator::{SimulatedAccount, SimulatedWallet, SimulatorConfig},
};

use crate::common::{Exchange, Exporter, Output, messages, replace, sample};

/// More than one address may read every second.
const ACCOUNTS: usize = 16;

fn name(number: usize) -> String {
    format!("desk-{number}")
}

/// The simulated exchange with all accounts, and a folder with their keys and the configuration file.
fn start_exchange() -> (Exchange, TempDir) {
    let account = |number: usize| {
        let account =
            SimulatedAccount::new(&name(number), &format!("access-{number}"), &format!("secret-{number}"));
        account.with_balance(SimulatedWallet::Spot, "usdt", "7", "0")
    };
    let exchange = Exchange::new(SimulatorConfig::default(), (0..ACCOUNTS).map(account).collect());
    let folder = tempfile::tempdir().unwrap();
    for number in 0..ACCOUNTS {
        replace(&folder.path().join(format!("{number}.key")), &format!("access-{number}"));
        replace(&folder.path().join(format!("{number}.secret")), &format!("secret-{number}"));
    }
    write_config(folder.path(), &format!("base_urls: ['{}']", exchange.url()));
    (exchange, folder)
}

/// Writes a file with the lines `head` and the accounts.
fn write_config(folder: &Path, head: &str) {
    let account = |number: usize| {
        format!(
            "  - {{name: {}, access_key_file: {number}.key, secret_key_file: {number}.secret}}\n",
            name(number)
        )
    };
    let accounts: String = (0..ACCOUNTS).map(account).collect();
    replace(&folder.join("accounts.yml"), &format!("{head}\naccounts:\n{accounts}"));
}

fn config_flag(folder: &TempDir) -> String {
    format!("--config.file={}", folder.path().join("accounts.yml").display())
}

fn serve(folder: &TempDir, flags: &[&str], env: &[(&str, &str)]) -> Exporter {
    Exporter::start(&[&[&*config_flag(folder), "--web.listen-address=127.0.0.1:0"], flags].concat(), env)
}

fn check(folder: &TempDir, flags: &[&str], env: &[(&str, &str)]) -> Output {
    Exporter::run(&[&[&*config_flag(folder), "--config.check"], flags].concat(), env)
}

/// The accounts whose balance `metrics` show, by number.
fn find_accounts(metrics: &str) -> Vec<usize> {
    let shows = |number: &usize| {
        let series =
            format!("xt_balance_free{{account=\"{}\",currency=\"usdt\",wallet=\"spot\"}}", name(*number));
        sample(metrics, &series) == Some(7.0)
    };
    (0..ACCOUNTS).filter(shows).collect()
}

/// The number of accounts in a shard of `count`.
fn count_accounts(shard: usize, count: usize) -> usize {
    let flag: ShardFlag = format!("{shard}/{count}").parse().unwrap();
    let shard = flag.resolve("").unwrap();
    (0..ACCOUNTS).filter(|number| shard.contains(&name(*number))).count()
}

#[test]
fn every_account_is_watched_by_exactly_one_shard() {
    let (_exchange, folder) = start_exchange();
    let shards = [
        serve(&folder, &["--shard=1/3"], &[]),
        serve(&folder, &[], &[("XT_SHARD", "2/3")]),
        serve(&folder, &["--shard", "pod/3"], &[("POD_NAME", "xt-balance-exporter-2")]),
    ];
    let mut watched = Vec::new();
    for (index, exporter) in shards.iter().enumerate() {
        exporter.ready();
        let metrics = exporter.metrics();
        let accounts = find_accounts(&metrics);
        assert!(!accounts.is_empty() && accounts.len() < ACCOUNTS, "{accounts:?}");
        watched.extend(accounts);
        let info = format!("xt_shard_info{{shard=\"{}\",shards=\"3\"}}", index + 1);
        assert_eq!(sample(&metrics, &info), Some(1.0), "{metrics}");
        assert_eq!(sample(&metrics, "xt_shards"), Some(3.0));
    }
    watched.sort_unstable();
    assert_eq!(watched, (0..ACCOUNTS).collect::<Vec<_>>());
    let whole = serve(&folder, &[], &[]);
    whole.ready();
    assert_eq!(whole.sample("xt_shard_info{shard=\"1\",shards=\"1\"}"), Some(1.0));
    assert_eq!(find_accounts(&whole.metrics()).len(), ACCOUNTS);
}

#[test]
fn once_and_check_read_the_accounts_of_one_shard() {
    let (_exchange, folder) = start_exchange();
    // A shard with one or two accounts, because check takes some seconds for each.
    let is_small = |shard: &usize| (1..=2).contains(&count_accounts(*shard, ACCOUNTS));
    let shard = (1..=ACCOUNTS).find(is_small).unwrap();
    let (file, shard) = (config_flag(&folder), format!("--shard={shard}/{ACCOUNTS}"));
    let once = Exporter::run(&["once", &file, &shard], &[]);
    assert_eq!(once.status.code(), Some(0), "{}", once.stderr);
    assert!(
        !once.stdout.contains("xt_shard"),
        "two textfiles must not have the same series: {}",
        once.stdout
    );
    let accounts = find_accounts(&once.stdout);
    assert!((1..=2).contains(&accounts.len()), "{accounts:?}");
    let output = Exporter::run(&["check", &file, &shard], &[]);
    let is_checked = |number: &usize| output.stdout.contains(&format!("'{}'", name(*number)));
    assert_eq!((0..ACCOUNTS).filter(is_checked).collect::<Vec<_>>(), accounts, "{}", output.stdout);
}

#[test]
fn a_shard_without_accounts_runs_and_says_so() {
    let (exchange, folder) = start_exchange();
    write_config(folder.path(), &format!("base_urls: ['{}']\nprices: usdt", exchange.url()));
    let count = ACCOUNTS + 1;
    let empty = (1..=count).find(|shard| count_accounts(*shard, count) == 0).unwrap();
    let exporter = serve(&folder, &["--shard", &format!("{empty}/{count}")], &[]);
    exporter.stderr.wait_for(messages::EMPTY_SHARD);
    exporter.ready();
    assert_eq!(find_accounts(&exporter.metrics()), [0; 0]);
    for path in ["/-/healthy", "/", "/api/v1/balances"] {
        assert_eq!(exporter.get(path).status, 200, "{path}");
    }
    assert!(exchange.simulator.call_log().records.is_empty(), "not even prices are read");
}

#[test]
fn the_calls_of_other_shards_do_not_count_but_their_keys_do() {
    let (exchange, folder) = start_exchange();
    write_config(
        folder.path(),
        &format!("base_urls: ['{}']\npoll_interval: 1s\npoll_timeout: 500ms", exchange.url()),
    );
    let whole = check(&folder, &[], &[]);
    assert_eq!(whole.status.code(), Some(2), "{}", whole.stdout);
    for shard in ["1/2", "2/2"] {
        let output = check(&folder, &["--shard", shard], &[]);
        assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
    }
    // Both shards would make all calls that the key permits.
    let shard = "1/2".parse::<ShardFlag>().unwrap().resolve("").unwrap();
    let (mine, others): (Vec<_>, Vec<_>) = (0..ACCOUNTS).partition(|number| shard.contains(&name(*number)));
    replace(&folder.path().join(format!("{}.key", mine[0])), &format!("access-{}", others[0]));
    for shard in ["1/2", "2/2"] {
        let output = check(&folder, &["--shard", shard], &[]);
        assert_eq!(output.status.code(), Some(2), "{}", output.stdout);
        for part in [&name(mine[0]), &name(others[0]), "different shards"] {
            assert!(output.stderr.contains(part), "{}", output.stderr);
        }
    }
}

#[test]
fn a_shard_that_cannot_be_determined_is_an_error_with_the_fix() {
    let (_exchange, folder) = start_exchange();
    for (flags, env, part) in [
        (["--shard=3/2"], &[][..], "such as 2/5"),
        (["--shard=hunter2/2"], &[], "such as 2/5"),
        (["--shard=pod/2"], &[("POD_NAME", "exporter")], "POD_NAME"),
        (["--shard=pod/2"], &[("POD_NAME", "exporter-2")], "0 to 1"),
    ] {
        let output = check(&folder, &flags, env);
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(output.stderr.contains(part) && !output.stderr.contains("hunter2"), "{}", output.stderr);
    }
    let keys = [("XT_ACCESS_KEY", "k"), ("XT_SECRET_KEY", "s")];
    let output = Exporter::run(&["--config.check", "--shard=1/2"], &keys);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stderr.contains("--config.file"), "{}", output.stderr);
}
