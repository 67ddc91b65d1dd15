//! What a user typed in the wrong place is not echoed: a secret may have been pasted where its file, or anything else,
//! belongs. One word that looks like a secret stands in turn at every place of both files, in every flag and in every
//! variable, and appears in no output.

use std::path::Path;

use crate::common::{ACCESS_KEY, Exchange, Exporter, Output, SECRET_KEY, replace, request};

const CANARY: &str = "q7Zk2VnB4xTfR8mLw0YdC6hJp3GsAe5UiOq1Nz9X";

const ACCOUNTS: &str = "\
api: v4
base_urls:
- https://sapi.xt.com
futures_usdt_base_urls:
- https://fapi.xt.com
futures_coin_base_urls:
- https://dapi.xt.com
poll_interval: 30s
poll_timeout: 10s
max_age: 90s
prices: usdt
accounts:
- name: treasury
  access_key_file: key
  secret_key_file: secret
  api: v4
  base_urls:
  - https://sapi.xt.com
  poll_interval: 30s
  poll_timeout: 10s
  max_age: 90s
  wallets:
  - spot
  watch:
    usdt: 500
  currencies:
    only:
    - usdt
    exclude:
    - btc
    hide_zero: true
";

const WEB: &str = "\
tls_server_config:
  cert_file: web.crt
  key_file: web.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: web.crt
  client_allowed_sans:
  - prometheus
  cipher_suites:
  - TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
  curve_preferences:
  - X25519
  min_version: TLS12
  max_version: TLS13
  prefer_server_cipher_suites: true
http_server_config:
  http2: false
  headers:
    X-Frame-Options: deny
basic_auth_users:
  prometheus: $2y$04$abcdefghijklmnopqrstuuXPp2SO2JtBE8IKJ8kgQhjL1fZzG2e9u
rate_limit:
  interval: 1s
  burst: 20
";

/// The document with the canary in place of each key and of each value in turn, and beside each.
fn planted(document: &str) -> Vec<String> {
    let lines: Vec<_> = document.lines().collect();
    let mut planted = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let begin = line.find(|c: char| c != ' ' && c != '-').unwrap();
        let (indent, text) = line.split_at(begin);
        let variants = match text.split_once(':').filter(|_| !text.contains("://")) {
            Some((key, value)) => vec![
                format!("{indent}{CANARY}:{value}"),
                format!("{indent}{key}: {CANARY}"),
                format!("{indent}{key}: [{CANARY}]"),
                format!("{indent}{key}: {{{CANARY}: 1}}"),
                format!("{indent}{key}: \"{CANARY}"),
                format!("{indent}{key}{CANARY}"),
            ],
            None => vec![
                format!("{indent}{CANARY}"),
                format!("{indent}https://{CANARY}"),
                format!("{indent}https://user:{CANARY}@sapi.xt.com"),
                format!("{indent}{{{CANARY}: 1}}"),
            ],
        };
        for variant in variants {
            let mut lines = lines.clone();
            lines[at] = &variant;
            planted.push(lines.join("\n") + "\n");
        }
    }
    planted
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write("key", ACCESS_KEY);
        files.write("secret", SECRET_KEY);
        let (certificate, key) = crate::common::authority::Authority::new("web").certified(&["localhost"]);
        files.write("web.crt", &certificate);
        files.write("web.key", &key);
        files.write("accounts.yml", ACCOUNTS);
        files.write("web.yml", WEB);
        files
    }

    fn write(&self, name: &str, text: &str) {
        replace(&self.path().join(name), text);
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn flag(&self, flag: &str, name: &str) -> String {
        format!("--{flag}={}", self.path().join(name).display())
    }

    fn check(&self) -> Output {
        let (accounts, web) =
            (self.flag("config.file", "accounts.yml"), self.flag("web.config.file", "web.yml"));
        Exporter::run(&["--config.check", &accounts, &web], &[])
    }
}

/// What was echoed, if anything.
fn echo(what: &str, output: &Output) -> Option<String> {
    let text = format!("{}{}", output.stdout, output.stderr);
    text.contains(CANARY).then(|| format!("{what}\n    {}", text.replace(CANARY, "CANARY").trim()))
}

#[test]
fn nothing_of_either_file_is_echoed_in_an_error() {
    let files = Files::new();
    let sound = files.check();
    assert!(sound.status.success(), "{}", sound.stderr);
    let mut echoes = Vec::new();
    for (name, document) in [("accounts.yml", ACCOUNTS), ("web.yml", WEB)] {
        for planted in planted(document) {
            files.write(name, &planted);
            let line = planted.lines().find(|line| line.contains(CANARY)).unwrap().replace(CANARY, "CANARY");
            echoes.extend(echo(&format!("{name}: {line}"), &files.check()));
        }
        files.write(name, document);
    }
    assert!(echoes.is_empty(), "{} places:\n{}", echoes.len(), echoes.join("\n"));
}

#[test]
fn nothing_is_echoed_of_what_a_library_complains_of() {
    let files = Files::new();
    let account = "name: a, access_key_file: key, secret_key_file: secret";
    let mut echoes = Vec::new();
    for yaml in [
        format!("accounts: [{{{account}, watch: {{{CANARY}: 1, {CANARY}: 2}}}}]"),
        format!("api: !{CANARY} v4\naccounts: [{{{account}}}]"),
        format!("accounts: [{{{account}, {CANARY}: 1, {CANARY}: 2}}]"),
    ] {
        files.write("accounts.yml", &yaml);
        echoes.extend(echo(&yaml, &files.check()));
    }
    files.write("accounts.yml", &format!("accounts: [{{{account}}}]"));
    for yaml in [
        format!("tls_server_config: {{cert: '-----BEGIN {CANARY}', key: x}}"),
        format!("tls_server_config: {{cert_file: web.crt, key: '-----BEGIN {CANARY}'}}"),
        format!("basic_auth_users: {{{CANARY}: x}}"),
        format!(
            "basic_auth_users: {{{CANARY}: $2y$31$abcdefghijklmnopqrstuuXPp2SO2JtBE8IKJ8kgQhjL1fZzG2e9u}}"
        ),
        format!("basic_auth_users: {{{CANARY}: x, {CANARY}: x}}"),
    ] {
        files.write("web.yml", &yaml);
        let output = files.check();
        assert!(!output.status.success(), "{yaml}");
        echoes.extend(echo(&yaml, &output));
        // The bytes of `q7Zk`.
        assert!(!output.stderr.contains("113, 55, 90"), "{}", output.stderr);
    }
    assert!(echoes.is_empty(), "{} places:\n{}", echoes.len(), echoes.join("\n"));
}

#[test]
fn nothing_of_a_flag_or_a_variable_is_echoed_in_an_error() {
    let definition = xt_balance_exporter::cli::definition();
    let mut echoes = Vec::new();
    let keys = [("XT_ACCESS_KEY", ACCESS_KEY), ("XT_SECRET_KEY", SECRET_KEY)];
    for command in definition.get_subcommands() {
        for flag in command.get_arguments().filter_map(clap_long) {
            for value in [format!("--{flag}={CANARY}"), format!("--{flag}{CANARY}")] {
                // A file is written where this one says, and a valid value of these begins something without an end.
                // An account's name is published.
                if ["output", "xt.account"].contains(&&*flag) {
                    continue;
                }
                if matches!(command.get_name(), "demo" | "simulate")
                    && !value.ends_with(&format!("{flag}{CANARY}"))
                {
                    continue;
                }
                // Nobody listens there.
                let nowhere = "--xt.base-url=http://127.0.0.1:9";
                let more: &[&str] = match command.get_name() {
                    "serve" => &["--config.check"],
                    "once" | "check" if !flag.starts_with("config") => &[nowhere],
                    _ => &[],
                };
                let args = [&[command.get_name(), &value], more].concat();
                let output = Exporter::run(&args, &keys);
                echoes.extend(echo(&args.join(" ").replace(CANARY, "CANARY"), &output));
            }
        }
        echoes.extend(echo(command.get_name(), &Exporter::run(&[command.get_name(), CANARY], &keys)));
    }
    echoes.extend(echo("command", &Exporter::run(&[CANARY], &keys)));
    for name in [
        "XT_ACCESS_KEY",
        "XT_SECRET_KEY",
        "XT_ACCESS_KEY_FILE",
        "XT_SECRET_KEY_FILE",
        "XT_WEB_LISTEN_ADDRESS",
        "XT_WEB_ALLOWED_HOSTS",
    ] {
        let output = Exporter::run(&["--config.check"], &[(name, CANARY)]);
        echoes.extend(echo(name, &output));
    }
    assert!(echoes.is_empty(), "{} places:\n{}", echoes.len(), echoes.join("\n"));
}

fn clap_long(arg: &clap::Arg) -> Option<String> {
    arg.get_long().map(str::to_owned)
}

#[test]
fn a_reload_echoes_nothing() {
    let exchange = Exchange::documented();
    let files = Files::new();
    let sound = format!(
        "base_urls: ['{}']\naccounts:\n- name: main\n  access_key_file: key\n  secret_key_file: secret\n",
        exchange.url()
    );
    files.write("accounts.yml", &sound);
    let accounts = files.flag("config.file", "accounts.yml");
    let exporter =
        Exporter::start(&["--web.listen-address=127.0.0.1:0", "--web.enable-lifecycle", &accounts], &[]);
    exporter.ready();
    for planted in planted(&sound).into_iter().filter(|text| !text.contains(&format!("name: {CANARY}"))) {
        files.write("accounts.yml", &planted);
        let answer = request("POST", exporter.address(), "/-/reload", &[]);
        assert_eq!(answer.status, 500, "{planted}");
        assert!(!answer.text().contains(CANARY), "{}", answer.text());
    }
    assert!(!exporter.stderr.text().contains(CANARY), "{}", exporter.stderr.text());
}
