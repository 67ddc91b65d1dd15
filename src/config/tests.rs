//! Tests of the whole configuration: flags, environment and file to validated accounts, and every error.

use std::{ffi::OsString, fs};

use super::*;
use crate::{
    cli::{Command, parse},
    clock::UnixTime,
    exchange::{ApiVersion, BaseUrl},
};

pub(super) type TestResult = Result<(), Box<dyn std::error::Error>>;

const NOW: UnixTime = UnixTime::from_secs(1_700_000_000);
pub(super) const KEYS: &[(&str, &str)] = &[("XT_ACCESS_KEY", "k"), ("XT_SECRET_KEY", "s")];
const ONE: &str = "accounts: [{name: main, access_key_file: k, secret_key_file: s}]";

/// A folder with the access keys `k` and `k2`, the secret key `s`, and the file `empty`.
pub(super) fn folder() -> std::io::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    for (name, text) in [("k", "key-one\n"), ("k2", "key-two"), ("s", "secret"), ("empty", " \n")] {
        fs::write(folder.path().join(name), text)?;
    }
    Ok(folder)
}

pub(super) fn load(line: &str, env: &[(&str, &str)]) -> Result<Config, String> {
    let words = ["xt-balance-exporter"].into_iter().chain(line.split_whitespace()).map(OsString::from);
    let Command::Serve(serve) = parse(words).map_err(|error| error.render().to_string())? else {
        return Err("not serve".to_owned());
    };
    let env = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
    Config::load(&serve.account, Some(&serve.poll), &env, NOW).map_err(|error| error.to_string())
}

pub(super) fn from_yaml(text: &str) -> Result<Config, String> {
    let folder = folder().map_err(|error| error.to_string())?;
    let path = folder.path().join("accounts.yml");
    fs::write(&path, text).map_err(|error| error.to_string())?;
    load(&format!("--config.file {}", path.display()), &[])
}

/// `=500:250`, or nothing.
fn describe_thresholds(watch: &WatchedCurrency) -> String {
    watch.thresholds.map(|thresholds| format!("={}:{}", thresholds.warn, thresholds.page)).unwrap_or_default()
}

fn describe(config: &Config) -> Vec<String> {
    let one = |account: &AccountConfig| {
        let AccountConfig { name, hosts, wallets, watch, filter, .. } = account;
        let (interval, timeout, age) = (account.poll_interval, account.poll_timeout, account.max_age);
        let urls: Vec<_> = hosts.base_urls.iter().map(ToString::to_string).collect();
        let watch: Vec<_> = watch
            .iter()
            .map(|(wallet, watch)| format!("{wallet}/{}{}", watch.currency, describe_thresholds(watch)))
            .collect();
        let CurrencyFilter { only, exclude, hide_zero } = filter;
        format!(
            "{name} {urls:?} {wallets:?} {watch:?} {only:?} {exclude:?} {hide_zero} {interval:?} {timeout:?} {age:?}"
        )
    };
    config.accounts.iter().map(one).collect()
}

fn routes(config: &Config) -> Vec<String> {
    config
        .accounts
        .iter()
        .map(|account| account.hosts.routes().into_iter().collect::<Vec<_>>().join(", "))
        .collect()
}

#[test]
fn an_account_has_the_proxy_of_the_file_or_its_own_or_none() -> TestResult {
    let keys = "access_key_file: k, secret_key_file: s";
    let file = |top: &str| {
        from_yaml(&format!(
            "{top}api: v1\nbase_urls: [https://a.b, http://127.0.0.1:1]\naccounts: [{{name: a, {keys}}}, {{name: b, {keys}, proxy_url: 'http://c:1'}}, {{name: c, {keys}, proxy_url: direct}}]"
        ))
    };
    assert_eq!(routes(&file("")?), ["direct", "direct, via proxy c:1", "direct"]);
    let top = "proxy_url: https://d\nproxy_credentials_file: k2\n";
    assert_eq!(file(top).err().unwrap_or_default().matches("user:password").count(), 1);
    let config = file("proxy_url: https://d\n")?;
    assert_eq!(routes(&config), ["direct, via proxy d:443", "direct, via proxy c:1", "direct"]);
    assert_eq!(routes(&load("", &[KEYS, &[("ALL_PROXY", "d:1")]].concat())?), ["via proxy d:1"]);
    Ok(())
}

#[test]
fn an_empty_file_and_no_flags_have_the_same_defaults() -> TestResult {
    let expected = r#"main ["https://sapi.xt.com"] [Spot] [] [] [] false 30s 10s 90s"#;
    assert_eq!(describe(&load("", KEYS)?), [expected]);
    assert_eq!(describe(&from_yaml(ONE)?), [expected]);
    Ok(())
}

#[test]
fn flags_are_parsed() -> TestResult {
    let line = "--xt.api v1 --xt.base-url https://api.a.top --xt.account desk --xt.wallet fiat --xt.wallet spot \
                --balance.watch USDT=500.5 --balance.watch btc --balance.watch fiat/EUR=9 --poll.interval 1m --poll.timeout 5s --poll.max-age 2m";
    let expected = r#"desk ["https://api.a.top"] [Spot, Fiat] ["spot/btc", "spot/usdt=500.5:250.25", "fiat/btc", "fiat/eur=9:4.5", "fiat/usdt=500.5:250.25"] [] [] false 60s 5s 120s"#;
    assert_eq!(describe(&load(line, KEYS)?), [expected]);
    Ok(())
}

#[test]
fn files_in_a_folder_are_found_among_credentials_of_systemd() -> TestResult {
    let folder = tempfile::tempdir()?;
    let text = "
proxy_url: http://proxy.example.com:3128
proxy_credentials_file: keys/proxy
accounts: [{name: main, access_key_file: keys/k, secret_key_file: keys/more/s}]";
    fs::write(folder.path().join("accounts.yml"), text)?;
    let line = format!("--config.file {}", folder.path().join("accounts.yml").display());
    assert!(load(&line, &[]).is_err(), "there is no such file");
    fs::write(folder.path().join("keys_k"), "flat")?;
    fs::write(folder.path().join("keys_more_s"), "secret")?;
    assert!(load(&line, &[]).is_err(), "there is no proxy password");
    fs::write(folder.path().join("keys_proxy"), "user:password")?;
    let key = |config: &Config| config.accounts.first().map(|account| account.credentials.pair().id());
    let flat = load(&line, &[])?;
    fs::create_dir_all(folder.path().join("keys/more"))?;
    fs::write(folder.path().join("keys/k"), "folder")?;
    assert_ne!(key(&flat), key(&load(&line, &[])?), "a folder comes first");
    Ok(())
}

#[test]
fn an_account_overrides_the_settings_of_the_file() -> TestResult {
    let config = from_yaml(
        "
api: v1
base_urls: [https://api.a.top]
poll_interval: 40s
poll_timeout: 5s
max_age: 2m
accounts:
- name: one
  access_key_file: k
  secret_key_file: s
  watch: {USDT: 500, wallet/btc: ~}
  wallets: [wallet]
  currencies: {only: [ETH], exclude: [doge], hide_zero: true}
- name: two
  access_key_file: k2
  secret_key_file: s
  api: v1
  base_urls: [https://b.c]
  poll_interval: 1m
  poll_timeout: 6s
  max_age: 3m
",
    )?;
    let expected = [
        r#"one ["https://api.a.top"] [Wallet] ["wallet/btc", "wallet/usdt=500:250"] ["eth"] ["doge"] true 40s 5s 120s"#,
        r#"two ["https://b.c"] [Spot] [] [] [] false 60s 6s 180s"#,
    ];
    assert_eq!(describe(&config), expected);
    Ok(())
}

/// API version, wallets, and the hosts of spot, USDT-margined and coin-margined futures.
fn describe_hosts(config: &Config) -> Vec<String> {
    let one = |AccountConfig { hosts, wallets, .. }: &AccountConfig| {
        let join_hosts = |urls: &[BaseUrl]| urls.iter().map(BaseUrl::host).collect::<Vec<_>>().join(",");
        let wallets: Vec<_> = wallets.iter().map(|wallet| wallet.label()).collect();
        let ExchangeHosts { api, base_urls, futures_usdt, futures_coin, user_center: _ } = hosts;
        format!(
            "{} {} {} {} {}",
            api.label(),
            wallets.join(","),
            join_hosts(base_urls),
            join_hosts(futures_usdt),
            join_hosts(futures_coin)
        )
    };
    config.accounts.iter().map(one).collect()
}

#[test]
fn v4_has_its_own_hosts_and_wallets() -> TestResult {
    let own = "v4 spot,futures_usdt,futures_coin sapi.xt.com fapi.xt.com dapi.xt.com";
    let wallets = "--xt.wallet futures_coin --xt.wallet spot --xt.wallet futures_usdt";
    assert_eq!(describe_hosts(&load(wallets, KEYS)?), [own]);
    let flags = "--xt.base-url https://s.b --xt.futures-usdt-base-url https://f.b --xt.futures-usdt-base-url https://f.c --xt.futures-coin-base-url https://d.b";
    assert_eq!(
        describe_hosts(&load(&format!("{wallets} {flags}"), KEYS)?),
        ["v4 spot,futures_usdt,futures_coin s.b f.b,f.c d.b"]
    );
    let config = from_yaml(
        "
accounts:
- {name: one, access_key_file: k, secret_key_file: s, wallets: [futures_usdt]}
- {name: two, access_key_file: k2, secret_key_file: s, api: v1, wallets: [fiat]}
- name: three
  access_key_file: k2
  secret_key_file: s
  base_urls: [https://s.b]
  futures_coin_base_urls: [https://d.b]
  wallets: [spot, futures_coin]
",
    )?;
    let expected = [
        "v4 futures_usdt sapi.xt.com fapi.xt.com ",
        "v1 fiat api.xt.com,api.xt.pub  ",
        "v4 spot,futures_coin s.b  d.b",
    ];
    assert_eq!(describe_hosts(&config), expected);
    Ok(())
}

/// API version, hosts and timing of prices.
fn describe_prices(config: &Config) -> Option<String> {
    config.prices.as_ref().map(|prices| {
        let hosts: Vec<_> = prices.hosts.base_urls.iter().map(BaseUrl::host).collect();
        let (interval, timeout) = (prices.poll_interval, prices.poll_timeout);
        format!(
            "{} {} {interval:?} {timeout:?} {:?}",
            prices.hosts.api.label(),
            hosts.join(","),
            prices.max_age
        )
    })
}

#[test]
fn prices_use_the_endpoints_of_the_first_account() -> TestResult {
    assert_eq!(describe_prices(&load("", KEYS)?), None);
    assert_eq!(describe_prices(&from_yaml(ONE)?), None);
    let own = Some("v4 sapi.xt.com 30s 10s 90s".to_owned());
    assert_eq!(describe_prices(&load("--xt.prices usdt", KEYS)?), own);
    assert_eq!(describe_prices(&from_yaml(&format!("prices: usdt\n{ONE}"))?), own);
    let line = "--xt.prices usdt --xt.api v1 --poll.interval 1m --poll.timeout 5s --poll.max-age 2m";
    assert_eq!(describe_prices(&load(line, KEYS)?), Some("v1 api.xt.com,api.xt.pub 60s 5s 120s".to_owned()));
    let many = |base_urls: &str| {
        from_yaml(&format!(
            "prices: usdt\npoll_interval: 40s\nmax_age: 2m\naccounts:\n\
             - {{name: a, access_key_file: k, secret_key_file: s, api: v4, poll_interval: 1m, {base_urls}}}\n\
             - {{name: b, access_key_file: k2, secret_key_file: s, api: v1, poll_timeout: 1s}}"
        ))
    };
    // Both accounts are on XT.
    let first = Some("v4 sapi.xt.com 40s 10s 120s".to_owned());
    assert_eq!(describe_prices(&many("")?), first);
    assert_eq!(describe_prices(&many("base_urls: [https://sapi.xt.com]")?), first);
    let error = many("base_urls: [https://sapi.xt.com.b]").err().unwrap_or_default();
    assert!(error.contains("the base_urls of accounts 'a' and 'b' belong to different exchanges: run one exporter per exchange, or remove prices"), "{error}");
    Ok(())
}

#[test]
fn hosts_tell_exchanges_apart() -> TestResult {
    let is_other = |one: (ApiVersion, &[&str]), other: (ApiVersion, &[&str])| -> Result<bool, String> {
        let parse_hosts = |(api, urls): (ApiVersion, &[&str])| -> Result<ExchangeHosts, String> {
            let base_urls = urls.iter().map(|url| BaseUrl::parse(url)).collect::<Result<_, _>>()?;
            Ok(ExchangeHosts { api, base_urls, ..ExchangeHosts::default() })
        };
        Ok(is_other_exchange(&parse_hosts(one)?, &parse_hosts(other)?))
    };
    let (xt, xt_spare): (&[&str], &[&str]) = (&["https://api.xt.com"], &["https://api.xt.pub"]);
    let (a, a2, b): (&[&str], &[&str], &[&str]) =
        (&["https://a.a"], &["https://c.a", "https://a.a"], &["https://b.b"]);
    for (one, other, expected) in [
        ((ApiVersion::V1, xt), (ApiVersion::V1, xt_spare), false),
        ((ApiVersion::V1, xt), (ApiVersion::V4, &["https://sapi.xt.com"]), false),
        ((ApiVersion::V1, xt), (ApiVersion::V1, a), true),
        ((ApiVersion::V4, a), (ApiVersion::V1, xt), true),
        ((ApiVersion::V1, a), (ApiVersion::V1, a), false),
        ((ApiVersion::V1, a), (ApiVersion::V1, a2), false),
        ((ApiVersion::V1, a), (ApiVersion::V1, b), true),
        ((ApiVersion::V1, a), (ApiVersion::V4, b), false),
        ((ApiVersion::V1, xt), (ApiVersion::V1, &["https://xt.com"]), true),
    ] {
        assert_eq!(is_other(one, other)?, expected, "{one:?} {other:?}");
    }
    Ok(())
}

/// Flags, environment, and a part of the error.
type InvalidFlags = (&'static str, &'static [(&'static str, &'static str)], &'static str);

const INVALID_FLAGS: &[InvalidFlags] = &[
    ("", &[], "no access key: set --xt.access-key-file FILE, XT_ACCESS_KEY_FILE or XT_ACCESS_KEY"),
    ("", &[("XT_ACCESS_KEY", "k")], "no secret key"),
    ("--xt.access-key-file f", KEYS, "--xt.access-key-file and XT_ACCESS_KEY both set the access key"),
    (
        "",
        &[("XT_ACCESS_KEY", "k"), ("XT_SECRET_KEY", "s"), ("XT_SECRET_KEY_FILE", "f")],
        "XT_SECRET_KEY_FILE and XT_SECRET_KEY both set the secret key",
    ),
    ("", &[("XT_ACCESS_KEY", ""), ("XT_SECRET_KEY", "s")], "XT_ACCESS_KEY is empty"),
    (
        "--xt.access-key-file /nonexistent --xt.secret-key-file x",
        &[],
        "the access key file cannot be read: No such file",
    ),
    ("--poll.interval 500ms --poll.timeout 100ms", KEYS, "--poll.interval is 500ms, but must be at least 1s"),
    (
        "--poll.timeout 30s",
        KEYS,
        "--poll.timeout is 30s, but must be above 0 and shorter than --poll.interval (30s): lower --poll.timeout or raise --poll.interval",
    ),
    ("--poll.timeout 0s", KEYS, "--poll.timeout is 0s, but must be above 0"),
    ("--poll.max-age 29s", KEYS, "--poll.max-age is 29s, but must be at least --poll.interval (30s)"),
    ("--poll.max-age 3years", KEYS, "must be under a year"),
    ("--poll.timeout 500000000000years", KEYS, "must be under a year"),
    ("--xt.base-url http://api.xt.com", KEYS, "--xt.base-url: the base URL would send the key in the clear"),
    (
        "--xt.base-url https://a.test --xt.base-url https://A.test/",
        KEYS,
        "--xt.base-url lists the same URL twice: remove one of them",
    ),
    (
        "--xt.base-url https://api.xt.com/",
        KEYS,
        "--xt.base-url names a host of API v1, but the default of --xt.api is v4: set --xt.api to v1",
    ),
    (
        "--xt.wallet spot --xt.wallet earn --balance.watch earn/usdt=5",
        KEYS,
        "--balance.watch has a threshold for 'usdt' of wallet 'earn', whose money is never free: remove the threshold",
    ),
    (
        "--xt.wallet earn --balance.watch usdt",
        KEYS,
        "--balance.watch lists 'usdt' without a wallet, which leaves out wallet 'earn', and --xt.wallet lists no other: add the prefix 'earn/'",
    ),
    ("--xt.wallet spot --xt.wallet spot", KEYS, "--xt.wallet lists 'spot' twice"),
    (
        "--xt.api v1 --xt.wallet futures_usdt",
        KEYS,
        "--xt.wallet lists 'futures_usdt', which API v1 does not have: it has spot, wallet and fiat. Choose one of these, or set --xt.api to v4",
    ),
    (
        "--xt.wallet spot --xt.wallet fiat",
        KEYS,
        "--xt.wallet lists 'fiat', which API v4 does not have: it has spot, futures_usdt, futures_coin and earn",
    ),
    (
        "--xt.wallet futures_usdt --xt.base-url https://a.b",
        KEYS,
        "--xt.base-url is set, but --xt.futures-usdt-base-url for wallet 'futures_usdt' is not",
    ),
    (
        "--xt.wallet futures_coin --xt.futures-coin-base-url https://a.b",
        KEYS,
        "--xt.futures-coin-base-url is set, but --xt.base-url is not",
    ),
    ("--balance.watch usdt --balance.watch USDT=5", KEYS, "--balance.watch lists 'usdt' twice"),
    (
        "--balance.watch usdt=",
        KEYS,
        "--balance.watch: the threshold of 'usdt' is not a number: write usdt, usdt=500",
    ),
    ("--balance.watch usdt=nan", KEYS, "is not a number"),
    ("--balance.watch usdt=0", KEYS, "the threshold of 'usdt' is 0, but must be above 0"),
    ("--balance.watch =5", KEYS, "--balance.watch: the name of a currency has only letters"),
    ("--balance.watch bank/usdt=5", KEYS, "--balance.watch: unknown wallet: the wallets are "),
    (
        "--xt.api v1 --balance.watch fiat/eur=5",
        KEYS,
        "--balance.watch names a currency of wallet 'fiat', which --xt.wallet does not list",
    ),
    ("--balance.watch usdt --balance.watch spot/usdt=5", KEYS, "--balance.watch lists 'usdt' twice"),
    (
        "--xt.wallet spot --xt.wallet futures_usdt --xt.wallet futures_coin --poll.interval 1s --poll.timeout 900ms",
        KEYS,
        "the key of account 'main' makes 3.0 calls per second, but the limit for one key is 2",
    ),
    ("--config.file /nonexistent.yml", &[], "cannot read --config.file: No such file"),
    ("--config.file x.yml", KEYS, "XT_ACCESS_KEY is set, but the file of --config.file names the key files"),
];

#[test]
fn invalid_flags_are_rejected_with_the_fix() {
    for (line, env, expected) in INVALID_FLAGS {
        let error = load(line, env).err().unwrap_or_default();
        assert!(error.contains(expected), "{line}: {error}");
    }
}

#[test]
fn invalid_files_are_rejected_with_the_fix() {
    let account =
        |rest: &str| format!("accounts: [{{name: a, access_key_file: k, secret_key_file: s{rest}}}]");
    let twice = "accounts:\n- {name: a, access_key_file: k, secret_key_file: s}\n- {name: a, access_key_file: k2, secret_key_file: s}";
    for (yaml, expected) in [
        ("accounts: []".to_owned(), "accounts is empty"),
        (String::new(), "accounts"),
        (format!("pollinterval: 5s\n{ONE}"), "did you mean `poll_interval`? Write `poll_interval: 30s`"),
        (account(", secret_key: x"), "secret_key"),
        ("accounts: [{name: a, access_key_file: k}]".to_owned(), "secret_key_file"),
        (format!("api: v2\n{ONE}"), "api: expected v1 or v4: write `api: v4`"),
        (format!("poll_interval: 30\n{ONE}"), "\"30\" has no unit"),
        (account(", wallets: [Spot]"), "the wallets are spot, wallet and fiat"),
        (account(", wallets: []"), "account 'a': wallets is empty"),
        (account(", base_urls: []"), "account 'a': base_urls is empty"),
        (
            format!("base_urls: [https://api.xt.pub]\n{}", account("")),
            "account 'a': base_urls names a host of API v1, but the default of api is v4: set api to v1",
        ),
        (
            format!("base_urls: [https://a.b]\n{}", account(", api: v1")),
            "account 'a': its api differs from the api of the file, so it cannot use the base_urls of the file",
        ),
        (
            format!("base_urls: [https://a.b]\n{}", account(", wallets: [futures_coin]")),
            "account 'a': base_urls is set, but futures_coin_base_urls for wallet 'futures_coin' is not",
        ),
        (
            format!("futures_usdt_base_urls: [https://a.b]\n{}", account("")),
            "account 'a': futures_usdt_base_urls is set, but base_urls is not",
        ),
        (account(", watch: {usdt: 1, USDT: 2}"), "watch lists 'usdt' twice"),
        (account(", watch: {spot/usdt: 1, usdt: 2}"), "watch lists 'usdt' twice"),
        (account(", watch: {fiat/eur: 1}"), "add it to wallets, or remove the prefix 'fiat/'"),
        (account(", watch: {usdt: -1}"), "a threshold must be above 0"),
        (account(", watch: {usdt: 1, usdt: 2}"), "accounts[0].watch.usdt: a key is set twice"),
        (account(", watch: {usdt: 1}, currencies: {exclude: [USDT]}"), "currencies.exclude lists 'usdt'"),
        (
            account(", currencies: {only: ['']}"),
            "account 'a': currencies.only: the name of a currency has only letters",
        ),
        (
            account(", poll_timeout: 40s"),
            "account 'a': poll_timeout is 40s, but must be above 0 and shorter than poll_interval (30s)",
        ),
        (account("").replace("k,", "empty,"), "empty is empty"),
        (
            account("").replace("name: a", "name: \"a\\nb\""),
            "accounts[0].name: the name must have 1 to 64 bytes",
        ),
        (account("").replace("name: a", "name: ' a'"), "accounts[0].name: the name must have 1 to 64 bytes"),
        (account("").replace("name: a", "name: ''"), "accounts[0].name: the name must have 1 to 64 bytes"),
        (twice.to_owned(), "two accounts are named 'a'"),
        (format!("prices: btc\n{ONE}"), "prices: the only currency of prices is usdt: write `prices: usdt`"),
        (account(", prices: usdt"), "`prices` is a key of the top level"),
        (
            format!("prices: usdt\npoll_timeout: 40s\n{}", account(", poll_timeout: 1s")),
            "prices: poll_timeout is 40s, but must be above 0 and shorter than poll_interval (30s)",
        ),
        ("accounts: [".to_owned(), "accounts.yml"),
    ] {
        let error = from_yaml(&yaml).err().unwrap_or_default();
        assert!(error.contains(expected), "{yaml}: {error}");
    }
}

#[test]
fn an_error_is_one_readable_line_whatever_the_file_contains() {
    let account =
        |name: &str| format!("accounts: [{{name: {name}, access_key_file: k, secret_key_file: s}}]");
    let error = from_yaml(&account("\"a\\n\\e[2J\"")).err().unwrap_or_default();
    assert!(error.ends_with("name must have 1 to 64 bytes, no control characters and no surrounding spaces"));
    let wallets = ", wallets: [spot, spot]}]";
    let error = from_yaml(&account("\"é\"").replace("}]", wallets)).err().unwrap_or_default();
    assert!(error.contains("account 'é': wallets lists 'spot' twice"), "{error:?}");
}

#[test]
fn more_calls_than_the_rate_limits_permit_are_rejected() {
    let row =
        |n: usize, more: &str| format!("- {{name: a{n}, access_key_file: k{n}, secret_key_file: s{more}}}\n");
    let many_with = |head: &str, count: usize, more: &str| -> Result<Config, Box<dyn std::error::Error>> {
        let folder = folder()?;
        for n in 0..count {
            fs::write(folder.path().join(format!("k{n}")), format!("key-{n}"))?;
        }
        let path = folder.path().join("accounts.yml");
        let rows: String = (0..count).map(|n| row(n, more)).collect();
        fs::write(&path, format!("{head}accounts:\n{rows}"))?;
        Ok(load(&format!("--config.file {}", path.display()), &[])?)
    };
    let many = |head: &str, count: usize| many_with(head, count, "");
    assert!(many("", 450).is_ok(), "900 calls per minute are permitted");
    let watch = ", watch: {usdt: ~, btc: ~}";
    assert!(many_with("", 440, watch).is_ok(), "880 calls, and 15 for currencies that may be missing");
    assert!(many_with("api: v1\n", 450, watch).is_ok(), "v1 has no call for one currency");
    let error = many_with("", 450, watch).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("450 accounts make 915 calls per minute"), "{error}");
    assert!(many("prices: usdt\n", 448).is_ok(), "prices add two calls per minute, and the list of markets");
    let error = many("prices: usdt\n", 450).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("450 accounts and prices make 903 calls per minute"), "{error}");
    let error = many("", 451).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(
        error.contains("451 accounts make 902 calls per minute, but the limit for one IP address is 900"),
        "{error}"
    );
    let shared = "poll_interval: 1s\npoll_timeout: 500ms\naccounts:\n\
                  - {name: a, access_key_file: k, secret_key_file: s, wallets: [spot, futures_usdt]}\n\
                  - {name: b, access_key_file: k, secret_key_file: s}";
    let error = from_yaml(shared).err().unwrap_or_default();
    assert!(error.contains("the key of account 'a', 'b' makes 3.0 calls per second"), "{error}");
    let watched = "poll_interval: 1s\npoll_timeout: 500ms\naccounts:\n\
                   - {name: a, access_key_file: k, secret_key_file: s, wallets: [spot, futures_usdt], watch: {spot/usdt: ~}}";
    let error = from_yaml(watched).err().unwrap_or_default();
    assert!(error.contains("the key of account 'a' makes 2.1 calls per second"), "{error}");
}

#[test]
fn positions_are_read_if_futures_risk_is_true_and_a_futures_wallet_is_read() -> TestResult {
    let keys = "access_key_file: k, secret_key_file: s";
    let file = |rest: &str| from_yaml(&format!("accounts: [{{name: a, {keys}{rest}}}]"));
    let risk = |config: Config| config.accounts.first().and_then(|account| account.futures_risk);
    let wallets = ", wallets: [spot, futures_usdt, futures_coin]";
    assert_eq!(risk(file(wallets)?), None);
    assert_eq!(risk(file(&format!("{wallets}, futures_risk: false"))?), None);
    let config = file(&format!("{wallets}, futures_risk: true"))?;
    let read: Vec<_> =
        config.accounts.iter().flat_map(AccountConfig::position_wallets).map(Wallet::label).collect();
    assert_eq!(read, ["futures_usdt", "futures_coin"]);
    assert_eq!(
        risk(config),
        Some(FuturesRisk { max_positions: 200, warn_distance: 0.2, page_distance: 0.1 })
    );
    let whole = ", futures_risk: true, max_positions: 7, liquidation_distance: {warn: 0.3, page: 0.3}";
    let expected = Some(FuturesRisk { max_positions: 7, warn_distance: 0.3, page_distance: 0.3 });
    assert_eq!(risk(file(&format!("{wallets}{whole}"))?), expected);
    let flags = load("--xt.wallet futures_usdt --xt.futures-risk", KEYS)?;
    assert_eq!(risk(flags), Some(FuturesRisk::default()));
    for (rest, words) in [
        (", futures_risk: true", &["'a'", "futures_risk needs a futures wallet", "wallets"][..]),
        (", max_positions: 7", &["max_positions and liquidation_distance need futures_risk"]),
        (", liquidation_distance: {warn: 0.2, page: 0.1}", &["need futures_risk"]),
        (
            ", wallets: [futures_usdt], futures_risk: true, max_positions: 0",
            &["max_positions is 0", "1 to 10000"],
        ),
        (", wallets: [futures_usdt], futures_risk: true, max_positions: 10001", &["max_positions is 10001"]),
        (
            ", wallets: [futures_usdt], futures_risk: true, liquidation_distance: {warn: 20, page: 10}",
            &["below 1"],
        ),
        (
            ", wallets: [futures_usdt], futures_risk: true, liquidation_distance: {warn: 0.1, page: 0.2}",
            &["page must not be above warn"],
        ),
        (
            ", wallets: [futures_usdt], futures_risk: true, liquidation_distance: {warn: 0.1, page: 0}",
            &["above 0"],
        ),
        (", wallets: [futures_usdt], futures_risk: true, liquidation_distance: {warn: 0.1}", &["page"]),
        (", wallets: [futures_usdt], futures_risk: maybe", &["true or false"]),
    ] {
        let why = file(rest).err().unwrap_or_default();
        assert!(words.iter().all(|word| why.contains(word)), "{rest}: {why}");
    }
    let why = load("--xt.futures-risk", KEYS).err().unwrap_or_default();
    assert!(why.contains("--xt.futures-risk needs a futures wallet") && why.contains("--xt.wallet"), "{why}");
    Ok(())
}

#[test]
fn positions_count_as_calls_of_the_address_and_of_the_key() -> TestResult {
    let folder = folder()?;
    let load_accounts = |count: usize, interval: &str, risk: &str| {
        let mut text = format!("poll_interval: {interval}\npoll_timeout: 400ms\naccounts:\n");
        for number in 0..count {
            fs::write(folder.path().join(format!("k{number}")), format!("key-{number}")).ok();
            let keys = format!("access_key_file: k{number}, secret_key_file: s");
            text = format!("{text}- {{name: a{number}, {keys}, wallets: [futures_usdt]{risk}}}\n");
        }
        let path = folder.path().join("accounts.yml");
        fs::write(&path, text).map_err(|error| error.to_string())?;
        load(&format!("--config.file {}", path.display()), &[])
    };
    let risk = ", futures_risk: true";
    assert!(load_accounts(450, "30s", "").is_ok());
    assert!(load_accounts(225, "30s", risk).is_ok());
    assert!(load_accounts(450, "60s", risk).is_ok());
    let why = load_accounts(450, "30s", risk).err().unwrap_or_default();
    assert!(
        why.contains("1800 calls per minute") && why.contains("900") && why.contains("futures_risk"),
        "{why}"
    );
    assert!(load_accounts(1, "1s", risk).is_ok());
    let why = load(
        "--xt.wallet futures_usdt --xt.wallet spot --xt.futures-risk --poll.interval 1s --poll.timeout 400ms",
        KEYS,
    )
    .err()
    .unwrap_or_default();
    assert!(why.contains("3.0 calls per second") && why.contains("futures_risk"), "{why}");
    Ok(())
}
