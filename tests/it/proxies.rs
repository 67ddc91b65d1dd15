//! Proxies on the way to the exchange: which calls go through one, what it gets to see, what it may do wrong, and how the
//! program shows it. TLS goes through the tunnel, so the exchange has a name here that only a proxy can reach.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use crate::common::authority::Authority;
use crate::common::connect_proxy::{Behaviour, ConnectProxy, proxy_authorization};
use crate::common::golden::Transcript;
use crate::common::proxy::{Proxy, ProxyMode, http_response};
use crate::common::{ACCESS_KEY, Exchange, Exporter, Output, SECRET_KEY, messages, replace, sample, until};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

const NAME: &str = "exchange.test";
const FREE: &str = "xt_balance_free{account=\"main\",currency=\"usdt\",wallet=\"spot\"}";
const UP: &str = "xt_up{account=\"main\",wallet=\"spot\"}";
const IPV6: &str = "--xt.base-url=https://[2001:db8::1]:8443";
const LOGIN: &str = "canary-user:Canary Pass/w0rd";

/// The settings of a server with a certificate of `authority` for `name`.
fn tls_config(authority: &Authority, name: &str) -> Arc<ServerConfig> {
    let (certificate, key) = authority.certified(&[name]);
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    Arc::new(config.with_single_cert(vec![certificate], key).unwrap())
}

fn failures(reason: &str) -> String {
    format!("xt_poll_failures_total{{account=\"main\",reason=\"{reason}\",wallet=\"spot\"}}")
}

/// An exchange behind TLS, and the file with the authority that is trusted.
struct ProxySetup {
    _exchange: Exchange,
    authority: Authority,
    /// Terminates TLS, and records the requests.
    server: Proxy,
    folder: tempfile::TempDir,
}

impl ProxySetup {
    fn new() -> Self {
        let (exchange, authority) = (Exchange::documented(), Authority::new("trusted"));
        let server = Proxy::new(exchange.address);
        server.set_tls(Some(tls_config(&authority, NAME)));
        let setup = Self { _exchange: exchange, authority, server, folder: tempfile::tempdir().unwrap() };
        setup.write("ca.pem", &setup.authority.pem);
        setup
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        replace(&path, text);
        path
    }

    fn proxy(&self) -> ConnectProxy {
        ConnectProxy::new(self.server.address)
    }

    /// Starts the program with the environment `more`, against [`NAME`] unless `words` name another base URL.
    fn start(&self, args: &[&str], more: &[(&str, &str)]) -> Exporter {
        let roots = self.folder.path().join("ca.pem");
        let url = format!("--xt.base-url=https://{NAME}");
        let is_default =
            !args.iter().any(|word| word.contains("--xt.base-url") || word.contains("--config.file"));
        let default = ["--xt.api=v1", &url];
        let args = [args, if is_default { &default } else { &[] }].concat();
        let keys = [("XT_ACCESS_KEY", ACCESS_KEY), ("XT_SECRET_KEY", SECRET_KEY)];
        let keys = if args.iter().any(|word| word.contains("--config.file")) { &[][..] } else { &keys };
        let env = [keys, &[("SSL_CERT_FILE", roots.to_str().unwrap())], more].concat();
        Exporter::start(&args, &env)
    }

    fn run(&self, args: &[&str], more: &[(&str, &str)]) -> Output {
        self.start(args, more).wait()
    }
}

/// No text holds the user, the password, or both as they are sent.
#[track_caller]
fn assert_no_login(texts: &[&str]) {
    let encoded = proxy_authorization(LOGIN);
    let encoded = encoded.rsplit(' ').next().unwrap();
    for text in texts {
        for secret in ["canary", "w0rd", "Pass%20", encoded] {
            assert!(!text.to_lowercase().contains(&secret.to_lowercase()), "{secret}: {text}");
        }
    }
}

#[test]
fn a_proxy_of_the_environment_tunnels_every_call_and_sees_no_key() {
    let setup = ProxySetup::new();
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        let (proxy, before) = (setup.proxy(), setup.server.requests().len());
        let host_and_port = proxy.address.to_string();
        // Without a scheme it is an HTTP proxy.
        let value = if variable == "ALL_PROXY" { &host_and_port } else { &proxy.url() };
        let output = setup.run(&["once", "--xt.prices=usdt"], &[(variable, value)]);
        assert_eq!(output.status.code(), Some(0), "{variable}: {}", output.stderr);
        assert_eq!(sample(&output.stdout, FREE), Some(3_867.436_500_12), "{variable}");
        let requests = setup.server.requests().split_off(before);
        let heads = proxy.heads();
        // The time, the balances, the prices and the list of markets.
        assert_eq!((heads.len(), requests.len()), (4, 4), "{variable}: {heads:?}");
        for head in heads {
            assert!(head.starts_with(&format!("CONNECT {NAME}:443 HTTP/1.1\r\n")), "{head}");
            assert!(
                !head.contains(ACCESS_KEY) && !head.to_lowercase().contains("proxy-authorization"),
                "{head}"
            );
        }
        assert!(requests.iter().all(|request| request.header("proxy-authorization").is_none()));
    }
}

#[test]
fn what_no_proxy_exempts_and_this_machine_itself_are_reached_directly() {
    let setup = ProxySetup::new();
    let proxy = setup.proxy();
    let url = proxy.url();
    // Without a proxy, the name cannot be resolved.
    for list in ["*", NAME, ".test", "a.b, test:443"] {
        let output = setup.run(&["once"], &[("HTTPS_PROXY", &url), ("NO_PROXY", list)]);
        assert_eq!(sample(&output.stdout, &failures("dns")), Some(1.0), "{list}: {}", output.stderr);
    }
    let direct = setup.run(&["once", "--xt.proxy-url=direct"], &[("HTTPS_PROXY", &url)]);
    assert_eq!(sample(&direct.stdout, &failures("dns")), Some(1.0), "{}", direct.stderr);
    setup.server.set_tls(Some(tls_config(&setup.authority, "localhost")));
    let local = format!("--xt.base-url=https://localhost:{}", setup.server.address.port());
    let set = format!("--xt.proxy-url={url}");
    for (args, env) in
        [(vec!["once", &local], ("ALL_PROXY", &*url)), (vec!["once", &local, &set], ("X", "y"))]
    {
        let output = setup.run(&args, &[env]);
        assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
    }
    assert_eq!(proxy.heads().len(), 0);
}

#[test]
fn a_setting_overrides_the_environment() {
    let setup = ProxySetup::new();
    let (proxy, other) = (setup.proxy(), setup.proxy());
    let set = format!("--xt.proxy-url={}", proxy.url());
    let output = setup.run(&["once", &set], &[("HTTPS_PROXY", &other.url()), ("NO_PROXY", "*")]);
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
    assert_eq!((proxy.heads().len(), other.heads().len()), (2, 0));
}

#[test]
fn an_egress_group_uses_its_own_proxy_and_prices_the_default_one() {
    let setup = ProxySetup::new();
    let (own, other, default) = (setup.proxy(), setup.proxy(), setup.proxy());
    own.set(Behaviour::RequireLogin(LOGIN));
    for (name, text) in [("login", LOGIN), ("key", ACCESS_KEY), ("secret", SECRET_KEY)] {
        setup.write(name, text);
    }
    let file = setup.write(
        "accounts.yml",
        &format!(
            "api: v1\nbase_urls: ['https://{NAME}']\nprices: usdt\negress:\n\
             - {{name: a, proxy_url: '{}', proxy_credentials_file: login}}\n- {{name: b, proxy_url: '{}'}}\n\
             accounts: [{{name: main, egress: a, access_key_file: key, secret_key_file: secret}}]\n",
            own.url(),
            other.url()
        ),
    );
    let file = format!("--config.file={}", file.display());
    let output = setup.run(&["once", &file], &[("HTTPS_PROXY", &default.url())]);
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
    assert_eq!(sample(&output.stdout, FREE), Some(3_867.436_500_12));
    assert_no_login(&[&output.stdout, &output.stderr]);
    // The time and the balances by one proxy, the prices and the list of markets by the other.
    assert_eq!((own.heads().len(), other.heads().len(), default.heads().len()), (2, 0, 2));
}

#[test]
fn user_and_password_reach_the_proxy_and_no_text() {
    let setup = ProxySetup::new();
    let proxy = setup.proxy();
    proxy.set(Behaviour::RequireLogin(LOGIN));
    let file = setup.write("login", &format!("{LOGIN}\n"));
    let (file, set) = (
        format!("--xt.proxy-credentials-file={}", file.display()),
        format!("--xt.proxy-url={}", proxy.url()),
    );
    let in_url = format!("http://canary-user:Canary%20Pass%2Fw0rd@{}", proxy.address);
    for (args, env) in [
        (vec![&*set, &file], ("X", "y".to_owned())),
        (vec![&*file], ("HTTPS_PROXY", proxy.url())),
        (vec![], ("HTTPS_PROXY", in_url)),
    ] {
        let before = setup.server.requests().len();
        for command in ["once", "check"] {
            let args = [&[command, "--log.level=trace"][..], &args].concat();
            let output = setup.run(&args, &[(env.0, &env.1)]);
            assert_eq!(output.status.code(), Some(0), "{args:?}: {}{}", output.stdout, output.stderr);
            assert_no_login(&[&output.stdout, &output.stderr]);
        }
        for request in &setup.server.requests()[before..] {
            assert_no_login(&[&request.head]);
        }
    }
    assert!(proxy.heads().iter().all(|head| head.contains(&proxy_authorization(LOGIN))));
    // A wrong password, and a proxy that repeats what it was sent.
    proxy.set(Behaviour::RequireLogin("other:password"));
    let echo: &'static str =
        format!("HTTP/1.1 403 {LOGIN}\r\nX: {}\r\n\r\n", proxy_authorization(LOGIN)).leak();
    for behaviour in [Behaviour::RequireLogin("other:password"), Behaviour::Reply(echo)] {
        proxy.set(behaviour);
        for command in ["once", "check"] {
            let output = setup.run(&[command, "--log.level=trace", &set, &file], &[]);
            assert_eq!(output.status.code(), Some(1), "{}", output.stderr);
            assert_no_login(&[&output.stdout, &output.stderr]);
        }
    }
    // A page that the proxy puts in place of the exchange's answer.
    proxy.set(Behaviour::RequireLogin(LOGIN));
    setup.server.set_mode(ProxyMode::Respond(Arc::new(|_| {
        http_response(403, &[], format!("<p>{LOGIN} {}", proxy_authorization(LOGIN)).as_bytes())
    })));
    for command in ["once", "check"] {
        let output = setup.run(&[command, "--log.level=trace", &set, &file], &[]);
        assert_eq!(output.status.code(), Some(1), "{}", output.stderr);
        assert_no_login(&[&output.stdout, &output.stderr]);
    }
}

#[test]
fn a_setting_with_a_password_or_an_unusable_proxy_is_rejected_without_a_word_of_it() {
    let setup = ProxySetup::new();
    let file = setup.write("login", LOGIN);
    let file = format!("--xt.proxy-credentials-file={}", file.display());
    let mut transcript = Transcript::default();
    for (case, args, env) in [
        ("a password in the setting", vec!["--xt.proxy-url=http://canary:w0rd@proxy:1"], ("X", "y")),
        ("SOCKS in the setting", vec!["--xt.proxy-url=socks5://canary:1080"], ("X", "y")),
        ("no URL", vec!["--xt.proxy-url=canary"], ("X", "y")),
        ("SOCKS in the environment", vec![], ("ALL_PROXY", "socks5h://canary:w0rd@x:1")),
        ("no URL in the environment", vec![], ("https_proxy", "canary w0rd")),
        ("two passwords", vec![&*file], ("HTTPS_PROXY", "http://canary:w0rd@proxy:1")),
        ("a password without a proxy", vec![&*file], ("X", "y")),
        ("no file", vec!["--xt.proxy-url=http://proxy:1", "--xt.proxy-credentials-file=canary"], ("X", "y")),
        ("no authorities", vec!["--xt.ca-file=/dev/null"], ("X", "y")),
        ("an IPv6 address", vec![IPV6, "--xt.proxy-url=http://proxy:1"], ("X", "y")),
        ("an IPv6 address in the environment", vec![IPV6], ("ALL_PROXY", "http://proxy:1")),
    ] {
        let output = setup.run(&[&["--config.check"][..], &args].concat(), &[env]);
        assert_eq!(output.status.code(), Some(2), "{case}: {}", output.stdout);
        assert_no_login(&[&output.stdout, &output.stderr]);
        transcript.add_output(case, &output);
    }
    // A proxy that no base URL uses is no error.
    let exempt = [("ALL_PROXY", "socks5://x:1"), ("NO_PROXY", NAME)];
    assert_eq!(setup.run(&["--config.check"], &exempt).status.code(), Some(0));
    let exempt = [("ALL_PROXY", "http://proxy:1"), ("NO_PROXY", "2001:db8::1")];
    assert_eq!(setup.run(&["--config.check", IPV6], &exempt).status.code(), Some(0));
    transcript.assert("proxy_settings");
}

#[test]
fn check_names_the_proxy_what_it_does_and_the_fix() {
    let setup = ProxySetup::new();
    let (proxy, stranger) = (setup.proxy(), Authority::new("proxy's"));
    let (set, file) = (format!("--xt.proxy-url={}", proxy.url()), setup.write("login", LOGIN));
    let file = format!("--xt.proxy-credentials-file={}", file.display());
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (gone, unknown) =
        (format!("--xt.proxy-url=http://{nobody}"), "--xt.proxy-url=http://proxy.invalid:3128");
    let refused = Behaviour::Reply("HTTP/1.1 403 X\r\nContent-Length: 0\r\n\r\n");
    let unreachable = Behaviour::Reply("HTTP/1.1 502 X\r\n\r\n");
    let strange = Behaviour::Reply("HTTP/1.1 302 X\r\n\r\n");
    let intercepted = Some(tls_config(&stranger, NAME));
    let (honest, page) = (Some(tls_config(&setup.authority, NAME)), None);
    let mut transcript = Transcript::default();
    for (case, args, behaviour, tls, reason) in [
        ("all is well", vec![&*set], Behaviour::Tunnel, &honest, None),
        ("it refuses", vec![&*set], refused, &honest, Some("connect")),
        ("it cannot connect", vec![&*set], unreachable, &honest, Some("connect")),
        ("it answers something else", vec![&*set], strange, &honest, Some("connect")),
        ("it wants a password", vec![&*set], Behaviour::RequireLogin(LOGIN), &honest, Some("connect")),
        (
            "it wants another password",
            vec![&*set, &file],
            Behaviour::RequireLogin("a:b"),
            &honest,
            Some("connect"),
        ),
        ("it hangs up", vec![&*set], Behaviour::Reply(""), &honest, Some("connect")),
        ("it speaks no HTTP", vec![&*set], Behaviour::Reply("SSH-2.0\r\n\r\n"), &honest, Some("connect")),
        ("it is not there", vec![&*gone], Behaviour::Tunnel, &honest, Some("connect")),
        ("nobody knows its name", vec![unknown], Behaviour::Tunnel, &honest, Some("dns")),
        ("it intercepts TLS", vec![&*set], Behaviour::Tunnel, &intercepted, Some("tls")),
        ("it answers in place of the exchange", vec![&*set], Behaviour::Tunnel, &page, Some("tls")),
    ] {
        proxy.set(behaviour);
        setup.server.set_tls(tls.clone());
        let args = [&["check"][..], &args].concat();
        let output = setup.run(&args, &[]);
        assert_eq!(output.status.code(), Some(i32::from(reason.is_some())), "{case}: {}", output.stdout);
        if let Some(reason) = reason {
            assert!(output.stdout.contains(&format!("[{reason}]")), "{case}: {}", output.stdout);
        }
        transcript.add_output(case, &output);
    }
    transcript.assert("check_proxy");
}

#[test]
fn a_proxy_that_intercepts_tls_gets_a_key_only_if_its_authority_is_trusted() {
    let setup = ProxySetup::new();
    let (proxy, stranger) = (setup.proxy(), Authority::new("proxy's"));
    setup.server.set_tls(Some(tls_config(&stranger, NAME)));
    let set = format!("--xt.proxy-url={}", proxy.url());
    let output = setup.run(&["once", &set], &[]);
    assert_eq!(sample(&output.stdout, &failures("tls")), Some(1.0), "{}", output.stderr);
    assert_eq!(setup.server.requests().len(), 0);
    let added = setup.write("proxy.pem", &stranger.pem);
    let added = format!("--xt.ca-file={}", added.display());
    let output = setup.run(&["once", &set, &added], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
    // The authorities of the system are trusted as before.
    setup.server.set_tls(Some(tls_config(&setup.authority, NAME)));
    let output = setup.run(&["once", &set, &added], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
}

#[test]
fn the_connection_to_a_proxy_can_have_tls_too() {
    let setup = ProxySetup::new();
    let tls = tls_config(&setup.authority, "localhost");
    let proxy = ConnectProxy::with_tls(setup.server.address, Some(tls));
    let set = format!("--xt.proxy-url=https://localhost:{}", proxy.address.port());
    let output = setup.run(&["once", &set], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
    let proxy =
        ConnectProxy::with_tls(setup.server.address, Some(tls_config(&Authority::new("other"), "localhost")));
    let set = format!("--xt.proxy-url=https://localhost:{}", proxy.address.port());
    let output = setup.run(&["once", &set], &[]);
    assert_eq!(sample(&output.stdout, &failures("tls")), Some(1.0), "{}", output.stderr);
    assert!(output.stderr.contains(&format!("the proxy localhost:{} cannot be used", proxy.address.port())));
}

#[test]
fn a_silent_proxy_is_a_timeout() {
    let setup = ProxySetup::new();
    let proxy = setup.proxy();
    proxy.set(Behaviour::Silence);
    let output = setup.run(&["once", "--poll.timeout=1s", &format!("--xt.proxy-url={}", proxy.url())], &[]);
    assert_eq!(sample(&output.stdout, &failures("timeout")), Some(1.0), "{}", output.stderr);
    assert!(output.stderr.contains(&format!("via proxy {}", proxy.address)), "{}", output.stderr);
}

/// A configuration with the account `main` and these settings of the account `other`.
fn two_accounts(setup: &ProxySetup, main: &str, other: &str) -> PathBuf {
    setup.write("key", ACCESS_KEY);
    setup.write("secret", SECRET_KEY);
    let keys = "access_key_file: key, secret_key_file: secret";
    setup.write(
        "accounts.yml",
        &format!(
            "api: v1\nbase_urls: ['https://{NAME}']\npoll_interval: 2s\npoll_timeout: 1500ms\n{main}\n\
             accounts: [{{name: main, {keys}}}, {{name: other, {keys}, {other}}}]\n"
        ),
    )
}

fn serve(config: &Path) -> [String; 3] {
    let config = format!("--config.file={}", config.display());
    ["--web.listen-address=127.0.0.1:0".to_owned(), "--log.level=trace".to_owned(), config]
}

#[test]
fn each_account_has_its_own_proxy_and_none_suffers_from_another() {
    let setup = ProxySetup::new();
    let (good, bad) = (setup.proxy(), setup.proxy());
    bad.set(Behaviour::Reply("HTTP/1.1 503 X\r\n\r\n"));
    let config =
        two_accounts(&setup, &format!("proxy_url: '{}'", good.url()), &format!("proxy_url: '{}'", bad.url()));
    let args = serve(&config);
    let exporter = setup.start(&args.each_ref().map(String::as_str), &[]);
    let line = exporter.stderr.wait_for(messages::STARTING);
    let mut proxies =
        [good.address.to_string(), bad.address.to_string()].map(|proxy| format!("via proxy {proxy}"));
    proxies.sort();
    assert!(line.contains(&format!("route=\"{}\"", proxies.join(", "))), "{line}");
    let other = UP.replace("main", "other");
    let polls = |account: &str| format!("xt_polls_total{{account=\"{account}\",wallet=\"spot\"}}");
    until("both are polled", || {
        let polled = |account| exporter.sample(&polls(account)).is_some_and(|polls| polls >= 3.0);
        (polled("main") && polled("other")).then_some(())
    });
    assert_eq!((exporter.sample(UP), exporter.sample(&other)), (Some(1.0), Some(0.0)));
    assert_eq!(exporter.sample(&failures("connect")), Some(0.0));
    let page = exporter.get("/").text();
    for proxy in proxies {
        assert!(page.contains(&proxy), "{proxy}: {page}");
    }
    // The other account leaves its proxy, and then has none.
    two_accounts(&setup, &format!("proxy_url: '{}'", good.url()), "wallets: [spot]");
    exporter.signal("HUP");
    let line = exporter.stderr.wait_for(messages::RELOADED);
    assert!(line.contains("changed=1") && line.contains("unchanged=1"), "{line}");
    until("the other account is read", || exporter.sample(&other).filter(|up| *up > 0.0));
    let before = good.heads().len();
    assert!(before > 0 && good.heads().iter().all(|head| head.starts_with("CONNECT ")));
}

#[test]
fn a_new_password_in_the_file_is_used_without_a_restart() {
    let setup = ProxySetup::new();
    let proxy = setup.proxy();
    proxy.set(Behaviour::RequireLogin(LOGIN));
    setup.write("login", LOGIN);
    let main = format!("proxy_url: '{}'\nproxy_credentials_file: login", proxy.url());
    let config = two_accounts(&setup, &main, "proxy_url: direct");
    let args = serve(&config);
    let exporter = setup.start(&args.each_ref().map(String::as_str), &[]);
    until("it is read", || exporter.sample(UP).filter(|up| *up > 0.0));
    proxy.set(Behaviour::RequireLogin("canary-user:other"));
    until("the password is rejected", || exporter.sample(&failures("connect")).filter(|count| *count > 0.0));
    setup.write("login", "canary-user:other\n");
    until("it is read again", || exporter.sample(UP).filter(|up| *up > 0.0));
    assert_no_login(&[&exporter.stderr.text(), &exporter.get("/").text(), &exporter.metrics()]);
}

#[test]
fn a_rejected_password_is_sent_once_in_five_minutes() {
    let setup = ProxySetup::new();
    let proxy = setup.proxy();
    proxy.set(Behaviour::RequireLogin("other:password"));
    setup.write("login", LOGIN);
    let main = format!("proxy_url: '{}'\nproxy_credentials_file: login", proxy.url());
    // Another base URL has the same proxy.
    let config = two_accounts(&setup, &main, "base_urls: ['https://one.test', 'https://two.test']");
    let args = serve(&config);
    let exporter = setup.start(&args.each_ref().map(String::as_str), &[]);
    until("both have failed three times", || {
        let failed = |series: &str| exporter.sample(series).is_some_and(|count| count >= 3.0);
        (failed(&failures("connect")) && failed(&failures("connect").replace("main", "other"))).then_some(())
    });
    assert_eq!(proxy.heads().len(), 1, "{:?}", proxy.heads());
    // A reload, which replaces both accounts, forgets nothing.
    two_accounts(
        &setup,
        &format!("{main}\nmax_age: 1h"),
        "base_urls: ['https://one.test', 'https://two.test']",
    );
    exporter.signal("HUP");
    let line = exporter.stderr.wait_for(messages::RELOADED);
    assert!(line.contains("changed=2"), "{line}");
    let failed = |account: &str| exporter.sample(&failures("connect").replace("main", account)).unwrap();
    let before = (failed("main"), failed("other"));
    until("both have failed again", || {
        (failed("main") > before.0 && failed("other") > before.1).then_some(())
    });
    assert_eq!(proxy.heads().len(), 1, "{:?}", proxy.heads());
}

#[test]
fn many_accounts_try_a_wrong_password_once() {
    let setup = ProxySetup::new();
    let proxy = setup.proxy();
    // So slow that other accounts are due before the first answer.
    proxy.set(Behaviour::SlowlyRequireLogin("other:password", Duration::from_secs(6)));
    setup.write("login", LOGIN);
    setup.write("key", ACCESS_KEY);
    let account = |number| {
        setup.write(&format!("key{number}"), &format!("{ACCESS_KEY}{number}"));
        format!("- {{name: main{number}, access_key_file: key{number}, secret_key_file: key}}\n")
    };
    let accounts = (0..20).map(account).collect::<Vec<_>>().concat();
    let url = proxy.url();
    let config = setup.write(
        "accounts.yml",
        &format!(
            "api: v1\nbase_urls: ['https://{NAME}']\npoll_interval: 20s\npoll_timeout: 19s\nproxy_url: '{url}'\n\
             proxy_credentials_file: login\naccounts:\n{accounts}"
        ),
    );
    let args = serve(&config);
    let exporter = setup.start(&args.each_ref().map(String::as_str), &[]);
    until("all have failed", || {
        let failed = |number| exporter.sample(&failures("connect").replace("main", &format!("main{number}")));
        (0..20).all(|number| failed(number).is_some_and(|count| count > 0.0)).then_some(())
    });
    assert_eq!(proxy.heads().len(), 1, "{:?}", proxy.heads());
}

/// Debian's tinyproxy, for which [`NAME`] is this machine. Killed when dropped.
struct Tinyproxy(Child);

impl Tinyproxy {
    fn start(folder: &Path, port: u16, more: &str) -> Self {
        let (config, hosts) = (folder.join("tinyproxy.conf"), folder.join("hosts"));
        fs::write(&config, format!("Port {port}\nListen 127.0.0.1\nAllow 127.0.0.1\nTimeout 60\n{more}\n"))
            .unwrap();
        fs::write(&hosts, format!("127.0.0.1 {NAME}\n")).unwrap();
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation=private", "sh", "-c"]).arg(format!(
            "mount --bind {} /etc/hosts && exec tinyproxy -d -c {}",
            hosts.display(),
            config.display()
        ));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).spawn().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        until("tinyproxy listens", || std::net::TcpStream::connect(address).ok());
        Self(child)
    }
}

impl Drop for Tinyproxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn tinyproxy_resolves_the_name_checks_the_password_and_refuses_ports() {
    let setup = ProxySetup::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let exchange = setup.server.address.port();
    let url = format!("--xt.base-url=https://{NAME}:{exchange}");
    let set = format!("--xt.proxy-url=http://127.0.0.1:{port}");
    let file = setup.write("login", "jane:secret-word\n");
    let file = format!("--xt.proxy-credentials-file={}", file.display());
    let allowed = format!("BasicAuth jane secret-word\nConnectPort {exchange}");
    let tinyproxy = Tinyproxy::start(setup.folder.path(), port, &allowed);
    for (args, code, expected_text) in [
        (vec!["once", &url, &set, &file], 0, ""),
        (vec!["once", &url, &set], 1, "requires a user and password"),
    ] {
        let output = setup.run(&args, &[]);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", output.stderr);
        assert!(output.stderr.contains(expected_text), "{expected_text}: {}", output.stderr);
    }
    drop(tinyproxy);
    let _tinyproxy = Tinyproxy::start(setup.folder.path(), port, "ConnectPort 1");
    let output = setup.run(&["once", &url, &set], &[]);
    assert_eq!(sample(&output.stdout, &failures("connect")), Some(1.0), "{}", output.stderr);
    assert!(output.stderr.contains("refused or failed to connect"), "{}", output.stderr);
}
