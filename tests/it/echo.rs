//! Errors do not repeat a secret that a user pasted into the wrong place. Words that look like secrets stand in turn at
//! every place of both files, in every flag and in every variable, and appear in no output.

use std::{collections::BTreeSet, path::Path, sync::Mutex};

use crate::common::{
    ACCESS_KEY, Exchange, Exporter, Output, SECRET_KEY, messages, replace, request, run_concurrently, until,
};

const CANARY: &str = "q7Zk2VnB4xTfR8mLw0YdC6hJp3GsAe5UiOq1Nz9X";
/// A password: short, and in lower case like a flag.
const PASSWORD: &str = "qvnbztfkrw";

const ACCOUNTS: &str = "\
api: v4
base_urls:
- https://sapi.xt.com
futures_usdt_base_urls:
- https://fapi.xt.com
futures_coin_base_urls:
- https://dapi.xt.com
proxy_url: http://proxy.test:3128
proxy_credentials_file: login
ca_file: web.crt
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
  proxy_url: http://other.test:3128
  proxy_credentials_file: login
  ca_file: web.crt
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

/// The document with `secret` in place of each key and of each value in turn, and beside each.
fn planted(document: &str, secret: &str) -> Vec<String> {
    let lines: Vec<_> = document.lines().collect();
    let mut planted = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let begin = line.find(|c: char| c != ' ' && c != '-').unwrap();
        let (indent, text) = line.split_at(begin);
        let variants = match text.split_once(':').filter(|_| !text.contains("://")) {
            Some((key, value)) => vec![
                format!("{indent}{secret}:{value}"),
                format!("{indent}{key}: {secret}"),
                format!("{indent}{key}: [{secret}]"),
                format!("{indent}{key}: {{{secret}: 1}}"),
                format!("{indent}{key}: \"{secret}"),
                format!("{indent}{key}{secret}"),
            ],
            None => vec![
                format!("{indent}{secret}"),
                format!("{indent}https://{secret}"),
                format!("{indent}https://user:{secret}@sapi.xt.com"),
                format!("{indent}{{{secret}: 1}}"),
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
        files.write("login", "user:password");
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

/// Finds a secret in any case: names of currencies are turned into lower case.
fn has_secret(text: &str) -> bool {
    let text = text.to_lowercase();
    [CANARY, PASSWORD].iter().any(|secret| text.contains(&secret.to_lowercase()))
}

/// The output of the case `what` if it repeats a secret.
fn echo(what: &str, output: &Output) -> Option<String> {
    let text = format!("{}{}", output.stdout, output.stderr);
    has_secret(&text).then(|| format!("{what}\n    {}", text.trim()))
}

#[test]
fn nothing_of_either_file_is_echoed_in_an_error() {
    let files = Files::new();
    let sound = files.check();
    assert!(sound.status.success(), "{}", sound.stderr);
    let mut echoes = Vec::new();
    for (name, document) in [("accounts.yml", ACCOUNTS), ("web.yml", WEB)] {
        for secret in [CANARY, PASSWORD] {
            for planted in planted(document, secret) {
                files.write(name, &planted);
                let line = planted.lines().find(|line| line.contains(secret)).unwrap();
                echoes.extend(echo(&format!("{name}: {line}"), &files.check()));
            }
        }
        files.write(name, document);
    }
    assert!(echoes.is_empty(), "{} places:\n{}", echoes.len(), echoes.join("\n"));
}

#[test]
fn no_error_of_a_library_is_echoed() {
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
fn nothing_of_a_flag_is_echoed_in_an_error() {
    let definition = xt_balance_exporter::cli::definition();
    let mut echoes = Vec::new();
    let keys = [("XT_ACCESS_KEY", ACCESS_KEY), ("XT_SECRET_KEY", SECRET_KEY)];
    for command in definition.get_subcommands() {
        let name = command.get_name();
        for secret in [CANARY, PASSWORD] {
            for flag in command.get_arguments().filter_map(clap_long) {
                // A file is written where the first says; the account's name is published.
                if ["output", "xt.account"].contains(&&*flag) {
                    continue;
                }
                let mut arguments = vec![format!("--{flag}{secret}")];
                // With any valid value these two run without an end.
                if !matches!(name, "demo" | "simulate") || flag.ends_with("listen-address") {
                    arguments.extend([format!("--{flag}={secret}"), format!("--{flag}={secret}:80")]);
                }
                for argument in arguments {
                    // Nobody listens there.
                    let nowhere = "--xt.base-url=http://127.0.0.1:9";
                    let more: &[&str] = match name {
                        // This flag is used only by a daemon that starts.
                        "serve" if flag != "web.listen-address" => &["--config.check"],
                        "serve" => &[nowhere],
                        "once" | "check" if !flag.starts_with("config") => &[nowhere],
                        _ => &[],
                    };
                    let args = [&[name, &argument], more].concat();
                    echoes.extend(echo(&args.join(" "), &Exporter::run(&args, &keys)));
                }
            }
            for argument in
                [secret.to_owned(), format!("--{secret}"), format!("-{secret}"), format!("--{secret}=1")]
            {
                echoes.extend(echo(name, &Exporter::run(&[name, &argument], &keys)));
                echoes.extend(echo("no command", &Exporter::run(&[&argument], &keys)));
            }
        }
    }
    assert!(echoes.is_empty(), "{} places:\n{}", echoes.len(), echoes.join("\n"));
}

#[test]
fn nothing_of_a_variable_is_echoed_in_an_error() {
    let definition = xt_balance_exporter::cli::definition();
    let arguments = definition.get_subcommands().flat_map(clap::Command::get_arguments);
    let mut variables: BTreeSet<_> =
        arguments.filter_map(|arg| Some(arg.get_env()?.to_str()?.to_owned())).collect();
    assert!(variables.len() > 1, "{variables:?}");
    variables.extend(
        ["XT_ACCESS_KEY", "XT_SECRET_KEY", "XT_ACCESS_KEY_FILE", "XT_SECRET_KEY_FILE"].map(str::to_owned),
    );
    // As with flags: a file is written where the first says; the account's name is published.
    variables.retain(|variable| !["XT_OUTPUT", "XT_ACCOUNT"].contains(&&**variable));
    let nowhere = "--xt.base-url=http://127.0.0.1:9";
    let keys = [("XT_ACCESS_KEY", ACCESS_KEY), ("XT_SECRET_KEY", SECRET_KEY)];
    let values = [CANARY, PASSWORD].map(str::to_owned);
    let values = values.into_iter().chain([format!("{PASSWORD}:80"), format!("{CANARY} {PASSWORD}")]);
    let values: Vec<_> = values.collect();
    let cases = variables.iter().flat_map(|variable| values.iter().map(move |value| (variable, value)));
    let echoes = Mutex::new(Vec::new());
    run_concurrently(cases.collect(), |(variable, value)| {
        let others =
            keys.iter().filter(|(name, _)| variable.strip_suffix("_FILE").unwrap_or(variable) != *name);
        let mut env: Vec<_> = others.copied().collect();
        env.push((variable, value));
        let run = |args: &[&str]| {
            let echo = echo(&format!("{variable}: {args:?}"), &Exporter::run(args, &env));
            echoes.lock().unwrap().extend(echo);
        };
        for args in [&["--config.check"][..], &["once", nowhere], &["check", nowhere], &["healthcheck"]] {
            run(args);
        }
        // A daemon that starts would not end.
        if variable == "XT_WEB_LISTEN_ADDRESS" {
            run(&["serve", nowhere]);
            run(&["demo"]);
        }
    });
    let echoes = echoes.into_inner().unwrap();
    assert!(echoes.is_empty(), "{} places:\n{}", echoes.len(), echoes.join("\n"));
}

#[test]
fn a_currency_that_is_accepted_is_repeated_only_if_it_is_short() {
    let secret = CANARY.to_lowercase();
    let files = Files::new();
    for (account, exclude) in [
        (format!("watch: {{{CANARY}: 1, {secret}: 2}}"), ""),
        (format!("watch: {{{CANARY}: 0}}"), ""),
        (format!("watch: {{spot/{CANARY}: 1, {CANARY}: 2}}"), ""),
        (format!("watch: {{{CANARY}: 1}}"), CANARY),
    ] {
        files.write("accounts.yml", &format!(
            "accounts: [{{name: a, access_key_file: key, secret_key_file: secret, {account}, currencies: {{exclude: [{exclude}]}}}}]"
        ));
        let output = files.check();
        assert_eq!(output.status.code(), Some(2), "{account}");
        assert_eq!(echo(&account, &output), None);
    }
    for flags in [
        [format!("--balance.watch={CANARY}"), format!("--balance.watch={CANARY}=5")],
        [format!("--balance.watch={CANARY}=0"), "--config.check".to_owned()],
        [format!("--balance.watch=usdt={CANARY}"), "--config.check".to_owned()],
        [format!("--balance.watch={CANARY}/usdt"), "--config.check".to_owned()],
    ] {
        let flags = flags.each_ref().map(String::as_str);
        let keys = [("XT_ACCESS_KEY", ACCESS_KEY), ("XT_SECRET_KEY", SECRET_KEY)];
        let output = Exporter::run(&flags, &keys);
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert_eq!(echo(&flags.join(" "), &output), None);
    }
}

fn clap_long(arg: &clap::Arg) -> Option<String> {
    arg.get_long().map(str::to_owned)
}

#[test]
fn no_way_to_read_the_file_echoes_anything() {
    let exchange = Exchange::documented();
    let files = Files::new();
    let sound = format!(
        "base_urls: ['{}']\naccounts:\n- name: main\n  access_key_file: key\n  secret_key_file: secret\n  wallets:\n  - spot\n",
        exchange.url()
    );
    files.write("accounts.yml", &sound);
    let accounts = files.flag("config.file", "accounts.yml");
    let exporter =
        Exporter::start(&["--web.listen-address=127.0.0.1:0", "--web.enable-lifecycle", &accounts], &[]);
    exporter.ready();
    for (number, secret) in [CANARY, PASSWORD].into_iter().enumerate() {
        // Published, or a host that is accepted.
        let accepted = [format!("name: {secret}"), format!("- https://{secret}")];
        let is_rejected = |text: &String| !accepted.iter().any(|line| text.contains(line));
        for planted in planted(&sound, secret).into_iter().filter(is_rejected) {
            files.write("accounts.yml", &planted);
            for command in ["serve", "once", "check"] {
                let output = Exporter::run(&[command, &accounts], &[]);
                assert_eq!(output.status.code(), Some(2), "{command}: {planted}");
                assert_eq!(echo(&planted, &output), None);
            }
            let answer = request("POST", exporter.address(), "/-/reload", &[]);
            assert_eq!(answer.status, 500, "{planted}");
            assert!(!has_secret(&answer.text()), "{}", answer.text());
        }
        // Each reload is another line of the log, so the number of lines tells when the signal's is there.
        let failures = || exporter.stderr.text().matches(messages::RELOAD_FAILED).count();
        let before = failures();
        exporter.signal("HUP");
        until(&format!("signal {number} is logged"), || (failures() > before).then_some(()));
    }
    assert!(!has_secret(&exporter.stderr.text()), "{}", exporter.stderr.text());
}
