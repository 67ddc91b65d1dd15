//! Mistakes that a tired operator makes in the configuration file: each is an error with the line, the key path and the
//! line that would be right. `golden/config_mistakes.snap` has all sentences; the number of a line in a path is checked here.

use std::fs;

use crate::common::{ACCESS_KEY, Exporter, Output, SECRET_KEY, golden::Transcript};

const ACCOUNT: &str = "- name: main\n  access_key_file: k\n  secret_key_file: s\n";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("k"), ACCESS_KEY).unwrap();
        fs::write(folder.path().join("s"), SECRET_KEY).unwrap();
        Self(folder)
    }

    fn check(&self, text: &str) -> Output {
        let path = self.0.path().join("accounts.yml");
        fs::write(&path, text).unwrap();
        Exporter::run(&["--config.check", &format!("--config.file={}", path.display())], &[])
    }
}

/// A file whose only account has these lines too.
fn account(lines: &str) -> String {
    let lines: Vec<_> = lines.lines().map(|line| format!("  {line}\n")).collect();
    format!("accounts:\n{ACCOUNT}{}", lines.concat())
}

/// A file with these lines before the accounts.
fn top(lines: &str) -> String {
    format!("{lines}\naccounts:\n{ACCOUNT}")
}

/// Whole files.
const FILES: &[&str] = &[
    "",
    "# nothing yet\n",
    "---\n",
    "hello\n",
    "accounts = main\n",
    "[accounts]\nname = main\n",
    "accounts:\n",
    "accounts: []\n",
    "accounts: main\n",
    "accounts:\n- main\n",
    "accounts:\n-\n- name: b\n",
    "accounts:\n  main:\n    access_key_file: k\n",
    "accounts:\n  name: main\n  access_key_file: k\n",
    "- name: main\n  access_key_file: k\n",
    "account:\n- name: main\n",
    "accounts:\n- access_key_file: k\n  secret_key_file: s\n",
    "accounts:\n- name: main\n  access_key_file: k\n",
    "accounts:\n- name: main\n  access_key: x\n",
    "accounts:\n- name:\n  access_key_file: k\n",
    "accounts:\n- name: [main]\n",
    "accounts:\n- name: ' main'\n  access_key_file: k\n  secret_key_file: s\n",
    "accounts:\n- name: main\n  access_key_file: nowhere\n  secret_key_file: s\n",
    "accounts:\n- name: main\n  access_key_file: .\n  secret_key_file: s\n",
    "accounts:\n\t- name: main\n",
    "accounts:\n- name: main\n  access_key_file: k\n  secret_key_file: s\n\twatch: {usdt: 5}\n",
    "accounts:\n  - name: main\n   access_key_file: k\n   secret_key_file: s\n",
    "poll_interval: 30s\n\u{feff}accounts:\n- name: main\n",
    "accounts:\n- name: main\n   access_key_file: k\n",
    "accounts:\n- name:main\n  access_key_file: k\n",
    "accounts:\n-name: main\n",
    "accounts:\n– name: main\n",
    "{\"accounts\": [{\"name\": \"main\" \"access_key_file\": \"k\"}]}",
    "accounts:\n- name: a\n  access_key_file: k\n  secret_key_file: s\n- name: a\n  access_key_file: k\n  secret_key_file: s\n",
    "accounts:\n- name: a\n  access_key_file: k\n  secret_key_file: s\n---\naccounts: []\n",
];

/// Lines at the top level.
const TOP: &[&str] = &[
    "poll_intervall: 30s",
    "poll-interval: 30s",
    "pollInterval: 30s",
    "interval: 30s",
    "poll_interval: 30",
    "poll_interval: 30 s 5",
    "poll_interval: -30s",
    "poll_interval: 0s",
    "poll_interval:",
    "poll_interval: {seconds: 30}",
    "poll_timeout: 40s",
    "max_age: 10s",
    "max_age: ~",
    "api: v2",
    "api: 4",
    "api: V4",
    "api: [v4]",
    "api: !v4 v4",
    "API: v4",
    "api_version: v4",
    "api: v4\napi: v1",
    "prices: true",
    "prices:",
    "prices: USDT",
    "prices: [usdt]",
    "base_url: https://sapi.xt.com",
    "base_urls: https://sapi.xt.com",
    "base_urls: [sapi.xt.com]",
    "base_urls: [http://sapi.xt.com]",
    "watch: {usdt: 500}",
    "ca_file: nowhere.crt",
    "proxy_url: proxy.example.com",
    "proxy_credentials_file: #login",
    "proxy_url: a: b",
    "proxy_url: @x",
    "proxy_url: `x`",
    "proxy_url: %x",
    "proxy_url: *x",
    "proxy_url: &",
    "ca_file: \"C:\\keys\\ca.crt\"",
    "ca_file: \"a.crt",
    "x: &defaults {usdt: 500}",
];

/// Lines of an account.
const LINES: &[&str] = &[
    "watch: [usdt]",
    "watch:\n- usdt\n- btc",
    "watch: usdt",
    "watch: usdt, btc",
    "watch:",
    "watch:\n  usdt:500",
    "watch:\n\tusdt: 500",
    "watch: {usdt:500}",
    "watch: {usdt=500}",
    "watch: {usdt 500}",
    "watch: {usdt: 1,000}",
    "watch:\n  usdt: 1,000",
    "watch:\n  usdt: 0,5",
    "watch: {usdt: 1_000}",
    "watch: {usdt: 1 000}",
    "watch: {usdt: 1'000}",
    "watch: {usdt: 500:200}",
    "watch: {usdt: -5}",
    "watch: {usdt: 0}",
    "watch: {usdt: yes}",
    "watch: {usdt: 10%}",
    "watch: {usdt: $500}",
    "watch: {usdt: 500 USDT}",
    "watch: {usdt: 5k}",
    "watch: {usdt: .inf}",
    "watch: {usdt: NaN}",
    "watch:\n  usdt: >500",
    "watch: {usdt: <500}",
    "watch: {500: usdt}",
    "watch: {usdt: [500, 200]}",
    "watch: {usdt: {page: 200}}",
    "watch: {usdt: {warning: 200}}",
    "watch: {usdt: {warn: 500, page: ~}}",
    "watch: {usdt: {warn: 500, page: -1}}",
    "watch: {usdt: {warn: 500, page: '1,5'}}",
    "watch: {usdt: {warn: 200, page: 500}}",
    "watch:\n  usdt: 500\n  usdt: 600",
    "watch:\n  usdt: 500\n  USDT: 600",
    "watch: {futures/usdt: 5}",
    "watch: {futures_usdt/usdt: 5}",
    "watch: *defaults",
    "watch: {usdt: 500",
    "watch: {usdt: 500}}",
    "wacth: {usdt: 500}",
    "usdt: 500",
    "wallet: [spot]",
    "wallets: spot",
    "wallets: []",
    "wallets: [Spot]",
    "wallets: [futures]",
    "wallets: [spot fiat]",
    "wallets: {spot: true}",
    "wallets:[spot]",
    "wallets:\n  - spot\n - fiat",
    "wallets: [spot",
    "currencies: [usdt]",
    "currencies: {exlude: [usdt]}",
    "currencies: {only: usdt}",
    "currencies: {hide_zero: maybe}",
    "prices: usdt",
    "labels: [team]",
    "labels: {team: [a, b]}",
    "labels: {team:}",
    "labels: {team: ''}",
    "labels: {desk-team: a}",
    "labels: {wallet: cold}",
    "labels: {instance: a}",
    "labels: {__name__: a}",
    "labels: {team: a, team: b}",
    "labels: {token: 0123456789abcdef0123456789abcdef01234567}",
    "label: {team: a}",
    "team: a",
];

#[test]
fn every_mistake_is_an_error_that_shows_the_right_line() {
    let folder = Folder::new();
    let mut transcript = Transcript::default();
    let files = FILES.iter().map(|text| (*text, (*text).to_owned()));
    let lines = TOP.iter().map(|lines| (*lines, top(lines)));
    let lines = lines.chain(LINES.iter().map(|lines| (*lines, account(lines))));
    for (shown, text) in files.chain(lines) {
        let output = folder.check(&text);
        assert_eq!(output.status.code(), Some(2), "{text}\n{}", output.stderr);
        transcript.add_output(&shown.escape_debug().to_string(), &output);
    }
    transcript.assert("config_mistakes");
}

#[test]
fn a_label_that_contains_a_key_of_the_account_is_rejected_and_not_repeated() {
    let folder = Folder::new();
    let half = |key: &str| key[..key.len() / 2].to_owned();
    for (key, line) in [ACCESS_KEY, SECRET_KEY].into_iter().flat_map(|key| {
        [(key, format!("labels: {{team: '{key}'}}")), (key, format!("labels: {{team: x, token: 'x {key}'}}"))]
    }) {
        let output = folder.check(&account(&line));
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(output.stderr.contains("labels"), "{}", output.stderr);
        assert!(!output.stderr.contains(&half(key)), "{}", output.stderr);
    }
}

#[test]
fn the_line_of_an_error_is_right() {
    let folder = Folder::new();
    let accounts: Vec<_> =
        (0..50).map(|n| format!("- name: a{n}\n  access_key_file: k\n  secret_key_file: s\n")).collect();
    let sound = format!("# A comment.\n\naccounts:\n{}", accounts.concat());
    let lines: Vec<_> = sound.lines().collect();
    for (index, key) in [(3, "name"), (76, "access_key_file"), (152, "secret_key_file")] {
        let at = lines[index].find(key).unwrap();
        let mut lines: Vec<_> = lines.iter().map(ToString::to_string).collect();
        lines[index] = format!("{}{key}: [x]", &lines[index][..at]);
        for (line_end, mark) in [("\n", ""), ("\r\n", "\u{feff}")] {
            let error = folder.check(&format!("{mark}{}", lines.join(line_end))).stderr;
            let place = format!(
                ": line {}, column {}: accounts[{}].{key}: ",
                index + 1,
                at + key.len() + 3,
                (index - 3) / 3
            );
            assert!(error.contains(&place), "{place}\n{error}");
        }
    }
}

#[test]
fn spellings_that_have_one_meaning_are_accepted() {
    let folder = Folder::new();
    let sound = account("watch: {usdt: 500}");
    for text in [
        sound.replace('\n', "\r\n"),
        format!("\u{feff}{sound}"),
        format!("---\n{sound}...\n"),
        sound.trim_end().to_owned(),
        account("watch: {usdt: '500'}"),
        account("watch: {usdt: 1e3}"),
        account("watch: {USDT: 500.50}"),
        account("watch:\n  usdt:\n  btc: ~"),
        account("watch: &watch {usdt: 500}")
            + "- name: b\n  access_key_file: k\n  secret_key_file: s\n  watch: *watch\n",
        account("currencies: {hide_zero: yes}"),
        account("api: \"v4\""),
        "{\"accounts\": [{\"name\": \"main\", \"access_key_file\": \"k\", \"secret_key_file\": \"s\"}]}"
            .to_owned(),
    ] {
        let output = folder.check(&text);
        assert_eq!(output.status.code(), Some(0), "{text}\n{}", output.stderr);
    }
}

#[test]
fn config_check_finds_a_mistake_in_every_file_that_serve_reads() {
    let folder = Folder::new();
    let write = |name: &str, text: &str| fs::write(folder.0.path().join(name), text).unwrap();
    write("empty", "");
    write("web.yml", "tls_server_config: {cert_file: empty, key_file: empty}\n");
    let web = format!("--web.config.file={}", folder.0.path().join("web.yml").display());
    let accounts = format!("--config.file={}", folder.0.path().join("accounts.yml").display());
    let mut transcript = Transcript::default();
    for (key, flags) in [
        ("access_key_file: empty", &[][..]),
        ("secret_key_file: empty", &[]),
        ("ca_file: empty", &[]),
        ("proxy_url: http://proxy.example.com:3128\n  proxy_credentials_file: empty", &[]),
        ("api: v4", &[&*web]),
        ("api: v4", &["--web.listen-address=10770"]),
        ("api: v4", &["--web.listen-address=:1", "--web.listen-address=:1"]),
    ] {
        let name = key.split(':').next().unwrap();
        let others = ACCOUNT.lines().filter(|line| !line.contains(name));
        let others: Vec<_> = others.map(|line| format!("{line}\n")).collect();
        write("accounts.yml", &format!("accounts:\n{}  {key}\n", others.concat()));
        let output = Exporter::run(&[&["--config.check", &accounts], flags].concat(), &[]);
        assert_eq!(output.status.code(), Some(2), "{key} {flags:?}\n{}", output.stderr);
        let flags = flags.iter().map(|flag| flag.rsplit('/').next().unwrap());
        transcript.add_output(&format!("{key} {}", flags.collect::<Vec<_>>().join(" ")), &output);
    }
    transcript.assert("config_check_files");
}
