//! A right line for each key of the configuration file, for errors.

use crate::yaml::KeyExamples;

/// The shortest file.
pub(super) const ACCOUNTS_EXAMPLE: &str =
    "accounts: [{name: main, access_key_file: main.key, secret_key_file: main.secret}]";

/// Every key of the file; a test compares them with the types that read it.
pub(super) const EXAMPLES: KeyExamples = KeyExamples {
    lines: &[
        ("", ACCOUNTS_EXAMPLE),
        ("api", "api: v4"),
        ("base_urls", "base_urls: [https://sapi.xt.com]"),
        ("futures_usdt_base_urls", "futures_usdt_base_urls: [https://fapi.xt.com]"),
        ("futures_coin_base_urls", "futures_coin_base_urls: [https://dapi.xt.com]"),
        ("user_center_base_url", "user_center_base_url: https://api.xt.com"),
        ("proxy_url", "proxy_url: http://proxy.example.com:3128"),
        ("proxy_credentials_file", "proxy_credentials_file: proxy.login"),
        ("ca_file", "ca_file: exchange-ca.crt"),
        ("poll_interval", "poll_interval: 30s"),
        ("poll_timeout", "poll_timeout: 10s"),
        ("max_age", "max_age: 90s"),
        ("prices", "prices: usdt"),
        ("limits", "limits: {share: 1/2}"),
        ("limits.share", "share: 1/2"),
        ("accounts", ACCOUNTS_EXAMPLE),
        ("accounts[]", "- {name: main, access_key_file: main.key, secret_key_file: main.secret}"),
        ("accounts[].name", "name: main"),
        ("accounts[].access_key_file", "access_key_file: main.key"),
        ("accounts[].secret_key_file", "secret_key_file: main.secret"),
        ("accounts[].wallets", "wallets: [spot]"),
        ("accounts[].watch", "watch: {usdt: 500}"),
        (
            "accounts[].watch.*",
            "usdt: 500`, `usdt: {warn: 500, page: 200}` or, without a threshold, `usdt: ~",
        ),
        ("accounts[].watch.*.warn", "warn: 500"),
        ("accounts[].watch.*.page", "page: 200"),
        ("accounts[].labels", "labels: {team: desk-a}"),
        ("accounts[].currencies", "currencies: {exclude: [shib]}"),
        ("accounts[].currencies.only", "only: [usdt, btc]"),
        ("accounts[].currencies.exclude", "exclude: [shib]"),
        ("accounts[].currencies.hide_zero", "hide_zero: true"),
        ("accounts[].futures_risk", "futures_risk: true"),
        ("accounts[].max_positions", "max_positions: 200"),
        ("accounts[].liquidation_distance", "liquidation_distance: {warn: 0.2, page: 0.1}"),
        ("accounts[].liquidation_distance.warn", "warn: 0.2"),
        ("accounts[].liquidation_distance.page", "page: 0.1"),
        ("accounts[].api", "api: v4"),
        ("accounts[].base_urls", "base_urls: [https://sapi.xt.com]"),
        ("accounts[].futures_usdt_base_urls", "futures_usdt_base_urls: [https://fapi.xt.com]"),
        ("accounts[].futures_coin_base_urls", "futures_coin_base_urls: [https://dapi.xt.com]"),
        ("accounts[].user_center_base_url", "user_center_base_url: https://api.xt.com"),
        ("accounts[].proxy_url", "proxy_url: http://proxy.example.com:3128"),
        ("accounts[].proxy_credentials_file", "proxy_credentials_file: proxy.login"),
        ("accounts[].ca_file", "ca_file: exchange-ca.crt"),
        ("accounts[].poll_interval", "poll_interval: 30s"),
        ("accounts[].poll_timeout", "poll_timeout: 10s"),
        ("accounts[].max_age", "max_age: 90s"),
    ],
    currencies: "accounts[].watch",
};
