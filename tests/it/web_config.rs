//! The web configuration file: a real client with a certificate and a password is let in, and nobody else;
//! files are read again when they change, and a broken one lets nobody in; what Prometheus' own tools
//! take is taken, or refused with the reason.

mod healthcheck;
mod validation;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
};

use socket2::{Domain, Socket, Type};

use crate::common::messages;
use crate::common::{Exchange, Exporter, WAIT_TIMEOUT, answer, authority::Authority, get, replace, until};

/// Of `hunter2` and of `swordfish`, by Python's bcrypt.
const HASH: &str = "$2b$04$zcJ9CRqi.V8swiImsw8DYeRhPRTQXbenYWojITkx4vLNdL4Al0c0O";
const OTHER_HASH: &str = "$2b$04$TsUXL2jqmoYEQOy9MQchZeyvF8LCqnD.8Go/psNLxaIS2RPJx.gQW";
const ALICE: &[&str] = &["--user", "alice:hunter2"];

/// Every path that exists, and one that does not.
const PATHS: [&str; 6] = ["/metrics", "/", "/api/v1/balances", "/-/healthy", "/-/ready", "/nothing"];

/// Certificates and the web configuration in a temporary folder, and an exchange.
struct WebConfigSetup {
    folder: tempfile::TempDir,
    exchange: Exchange,
}

impl WebConfigSetup {
    /// `host.crt` and `client.crt`, of the authority `ca.crt`, with their keys; `other.crt` of another; and `web.yml`.
    fn new(yaml: &str) -> Self {
        let setup = Self { folder: tempfile::tempdir().unwrap(), exchange: Exchange::documented() };
        let (ca, other) = (Authority::new("ca"), Authority::new("other"));
        setup.write("ca.crt", &ca.pem);
        setup.write("other-ca.crt", &other.pem);
        setup.certify(&ca, "host", &["localhost"]);
        setup.certify(&ca, "client", &["prometheus.example", "10.1.2.3", "spiffe://example/prometheus"]);
        setup.certify(&other, "other", &["prometheus.example"]);
        setup.write("web.yml", yaml);
        setup
    }

    fn write(&self, name: &str, text: &str) {
        replace(&self.path(name), text);
    }

    fn certify(&self, authority: &Authority, name: &str, names: &[&str]) {
        let (certificate, key) = authority.certified(names);
        self.write(&format!("{name}.crt"), &certificate);
        self.write(&format!("{name}.key"), &key);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn serve(&self) -> Exporter {
        let flag = format!("--web.config.file={}", self.path("web.yml").display());
        Exporter::serve(&self.exchange.url(), &[&flag])
    }

    /// Sends a request with curl, which trusts `ca.crt`. Returns status, headers and body, or curl's error text.
    fn curl(&self, exporter: &Exporter, path: &str, more: &[&str]) -> Result<crate::common::Answer, String> {
        let output = self.run_curl(exporter, path, more);
        if output.status.success() {
            return Ok(answer(&output.stdout));
        }
        Err(String::from_utf8(output.stderr).unwrap())
    }

    fn run_curl(&self, exporter: &Exporter, path: &str, more: &[&str]) -> std::process::Output {
        let url = format!("https://localhost:{}{path}", exporter.address().port());
        Command::new("curl")
            .args(["--silent", "--show-error", "--include", "--max-time", "60", "--cacert", "ca.crt"])
            .args(more)
            .arg(url)
            .current_dir(self.folder.path())
            .env_clear()
            .output()
            .unwrap_or_else(|error| panic!("curl is needed, the Debian package: {error}"))
    }

    /// The status of the answer to curl; 0 without an answer.
    fn status(&self, exporter: &Exporter, path: &str, more: &[&str]) -> u16 {
        self.curl(exporter, path, more).map_or(0, |answer| answer.status)
    }
}

const TLS: &str = "tls_server_config: {cert_file: host.crt, key_file: host.key}\n";
const MUTUAL: &str = "tls_server_config:
  cert_file: host.crt
  key_file: host.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
";

fn format_users(format_users: &[(&str, &str)]) -> String {
    let lines = format_users.iter().map(|(user, hash)| format!("  {user}: {hash}\n"));
    format!("basic_auth_users:\n{}", lines.collect::<String>())
}

#[test]
fn only_a_client_with_its_certificate_and_password_is_answered() {
    let headers = "http_server_config: {headers: {X-Frame-Options: deny, Content-Security-Policy: default-src 'none'}}\n";
    let setup = WebConfigSetup::new(&format!("{MUTUAL}{headers}{}", format_users(&[("alice", HASH)])));
    let exporter = setup.serve();
    let certificate = ["--cert", "client.crt", "--key", "client.key"];
    let with = |more: &[&'static str]| [&certificate[..], more].concat();

    until("it is ready", || (setup.status(&exporter, "/-/ready", &with(ALICE)) == 200).then_some(()));
    for path in PATHS {
        let known = setup.curl(&exporter, path, &with(ALICE)).unwrap();
        assert_eq!(known.status, if path == "/nothing" { 404 } else { 200 }, "{path}");
        for more in [&[][..], &["--user", "alice:hunter3"], &["--user", "bob:hunter2"], &["--head"]] {
            let unknown = setup.curl(&exporter, path, &with(more)).unwrap();
            assert_eq!(unknown.status, 401, "{path} {more:?}");
            assert!(unknown.header("www-authenticate").unwrap().starts_with("Basic"));
            assert!(!unknown.text().contains("xt_"), "{path} {more:?}");
            assert_eq!(unknown.header("x-frame-options"), Some("deny"));
        }
        assert_eq!(known.header("x-frame-options"), Some("deny"), "{path}");
        let policy = known.header("content-security-policy").unwrap();
        assert_eq!(
            policy == "default-src 'none'",
            path != "/",
            "the status page has its own: {path} {policy}"
        );
    }
    let metrics = setup.curl(&exporter, "/metrics", &with(ALICE)).unwrap().text();
    assert!(metrics.contains("\nxt_balance_free{account=\"main\",currency=\"usdt\""), "{metrics}");

    for (more, why) in [
        (&[][..], "certificate required"),
        (&["--cert", "other.crt", "--key", "other.key"], "unknown ca"),
        (&["--cert", "client.crt", "--key", "client.key", "--tls-max", "1.1"], ""),
    ] {
        let error = setup.curl(&exporter, "/metrics", &[more, ALICE].concat()).map(|answer| answer.text());
        let error = error.expect_err("no answer").to_lowercase();
        assert!(error.contains(why), "{error}");
    }
    let plain = get(exporter.address(), "/metrics", &[]);
    let advice = "this port speaks HTTPS: use https://";
    assert_eq!((plain.status, &*plain.text()), (400, advice));
    let mut slow = TcpStream::connect(exporter.address()).unwrap();
    slow.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert_eq!(setup.status(&exporter, "/metrics", &with(ALICE)), 200);
    let mut response = String::new();
    slow.read_to_string(&mut response).expect("who reads late is told too");
    assert!(response.ends_with(advice), "{response}");
    let old = with(&["--user", "alice:hunter2", "--tls-max", "1.2"]);
    assert_eq!(setup.status(&exporter, "/metrics", &old), 200, "TLS 1.2 is no older than it may be");
}

#[test]
fn a_certificate_must_have_one_of_the_allowed_names() {
    for (names, answered) in [
        ("prometheus.example", true),
        ("someone.example, 10.1.2.3", true),
        ("\"spiffe://example/prometheus\"", true),
        ("someone.example", false),
        ("\"*.example\"", false),
        ("example", false),
        ("10.1.2.4", false),
        ("\"spiffe://example/prometheus/\"", false),
    ] {
        let setup = WebConfigSetup::new(&format!("{MUTUAL}  client_allowed_sans: [{names}]\n"));
        let exporter = setup.serve();
        let response = setup.curl(&exporter, "/metrics", &["--cert", "client.crt", "--key", "client.key"]);
        assert_eq!(response.map(|answer| answer.status).ok(), answered.then_some(200), "{names}");
        let response = setup.curl(&exporter, "/metrics", &["--cert", "other.crt", "--key", "other.key"]);
        assert!(response.is_err(), "{names}: of an authority that is not trusted");
    }
}

#[test]
fn a_client_may_have_no_certificate_if_it_is_verified_only_when_given() {
    let setup = WebConfigSetup::new(&MUTUAL.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven"));
    let exporter = setup.serve();
    assert_eq!(setup.status(&exporter, "/metrics", &[]), 200);
    assert_eq!(setup.status(&exporter, "/metrics", &["--cert", "client.crt", "--key", "client.key"]), 200);
    assert_eq!(setup.status(&exporter, "/metrics", &["--cert", "other.crt", "--key", "other.key"]), 0);
}

#[test]
fn versions_suites_and_groups_are_those_that_are_asked_for() {
    let setup = WebConfigSetup::new(
        "tls_server_config:
  cert_file: host.crt
  key_file: host.key
  max_version: TLS12
  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]
  curve_preferences: [CurveP384]
",
    );
    let exporter = setup.serve();
    let status = |more: &[&str]| setup.status(&exporter, "/metrics", more);
    assert_eq!(status(&["--ciphers", "ECDHE-ECDSA-AES128-GCM-SHA256"]), 200);
    assert_eq!(status(&["--ciphers", "ECDHE-ECDSA-AES256-GCM-SHA384"]), 0);
    assert_eq!(status(&["--tlsv1.3"]), 0);
    assert_eq!(status(&["--curves", "P-384:P-256"]), 200);
    assert_eq!(status(&["--curves", "P-256"]), 0);
}

#[test]
fn the_order_of_suites_is_the_servers_unless_it_leaves_it_to_the_client() {
    let yaml = TLS.replace(
        '}',
        ", max_version: TLS12, cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]}",
    );
    let setup = WebConfigSetup::new(&yaml);
    let exporter = setup.serve();
    let chosen = || {
        let client = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256";
        let output = setup.run_curl(&exporter, "/-/healthy", &["--verbose", "--ciphers", client]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        let line = stderr
            .lines()
            .find(|line| line.contains("SSL connection using"))
            .unwrap_or_else(|| panic!("{stderr}"));
        ["AES128", "AES256"].into_iter().find(|suite| line.contains(suite)).unwrap()
    };
    assert_eq!(chosen(), "AES128");
    setup.write("web.yml", &yaml.replace('}', ", prefer_server_cipher_suites: false}"));
    assert_eq!(chosen(), "AES256");
}

#[test]
fn a_new_certificate_is_used_from_the_next_connection_on() {
    let setup = WebConfigSetup::new(TLS);
    let exporter = setup.serve();
    assert_eq!(setup.status(&exporter, "/metrics", &[]), 200);
    let new = Authority::new("new");
    let (certificate, key) = new.certified(&["localhost"]);
    setup.write("ca.crt", &new.pem);
    setup.write("host.crt", &certificate);
    // Half of a pair is unusable, and the old pair is not served any more.
    assert_eq!(setup.status(&exporter, "/metrics", &[]), 0);
    exporter.stderr.wait_for(messages::WEB_CONFIG_UNUSABLE);
    setup.write("host.key", &key);
    assert_eq!(setup.status(&exporter, "/metrics", &[]), 200);
    exporter.stderr.wait_for(messages::WEB_CONFIG_IN_FORCE);
}

#[test]
fn a_password_that_is_taken_away_is_refused_from_the_next_request_on() {
    let setup = WebConfigSetup::new(&format_users(&[("alice", HASH)]));
    let exporter = setup.serve();
    let address = exporter.address();
    // base64 of alice:hunter2 and of alice:swordfish
    let [old, new] = ["Basic YWxpY2U6aHVudGVyMg==", "Basic YWxpY2U6c3dvcmRmaXNo"];
    let statuses = || [old, new].map(|value| get(address, "/metrics", &[("Authorization", value)]).status);
    assert_eq!(statuses(), [200, 401]);
    setup.write("web.yml", &format_users(&[("alice", OTHER_HASH)]));
    assert_eq!(statuses(), [401, 200]);
}

#[test]
fn an_invalid_file_blocks_all_clients_until_it_is_fixed() {
    let good = format_users(&[("alice", HASH)]);
    let setup = WebConfigSetup::new(&good);
    let exporter = setup.serve();
    let status =
        |path| get(exporter.address(), path, &[("Authorization", "Basic YWxpY2U6aHVudGVyMg==")]).status;
    assert_eq!(status("/metrics"), 200);
    for broken in ["basic_auth_users: {alice: hunter2}", "basic_auth_user: {}", "{"] {
        setup.write("web.yml", broken);
        for path in PATHS {
            assert_eq!(status(path), 500, "{broken} {path}");
        }
        setup.write("web.yml", &good);
        assert_eq!(status("/metrics"), 200);
    }
    fs::remove_file(setup.path("web.yml")).unwrap();
    assert_eq!([status("/metrics"), status("/metrics")], [500, 500]);
    setup.write("web.yml", &good);
    assert_eq!(status("/metrics"), 200);
    // A line is written after the answer that it is about.
    let in_force = messages::WEB_CONFIG_IN_FORCE;
    let count_in = |text: &str, part: &str| text.lines().filter(|line| line.contains(part)).count();
    until("the last line is written", || (count_in(&exporter.stderr.text(), in_force) >= 4).then_some(()));
    let log = exporter.stderr.text();
    let count = |part: &str| count_in(&log, part);
    assert_eq!(count(messages::WEB_CONFIG_UNUSABLE), 4, "once for each time, not for each request: {log}");
    assert_eq!(count(in_force), 4, "{log}");
    assert!(!log.contains("hunter2"), "{log}");
}

#[test]
fn tls_is_switched_neither_on_nor_off_while_it_runs() {
    let setup = WebConfigSetup::new(TLS);
    let exporter = setup.serve();
    assert_eq!(setup.status(&exporter, "/metrics", &[]), 200);
    setup.write("web.yml", "");
    assert_eq!(setup.status(&exporter, "/metrics", &[]), 0);
    let mut plain = TcpStream::connect(exporter.address()).unwrap();
    let _ = plain.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut response = String::new();
    let _ = plain.read_to_string(&mut response);
    assert_eq!(response, "", "it does not fall back to plain HTTP");
    exporter.stderr.wait_for(messages::TLS_GONE);

    let exporter = setup.serve();
    assert_eq!(get(exporter.address(), "/metrics", &[]).status, 200);
    setup.write("web.yml", TLS);
    assert_eq!(get(exporter.address(), "/metrics", &[]).status, 200);
    exporter.stderr.wait_for(messages::TLS_WANTED);
}

#[test]
fn more_requests_than_the_limit_are_turned_away_and_refused_ones_do_not_count() {
    let setup = WebConfigSetup::new(&format!(
        "rate_limit: {{interval: 1h, burst: 3}}\n{}",
        format_users(&[("alice", HASH)])
    ));
    let exporter = setup.serve();
    let status = |value| get(exporter.address(), "/-/healthy", &[("Authorization", value)]).status;
    let [good, bad] = ["Basic YWxpY2U6aHVudGVyMg==", "Basic YWxpY2U6c3dvcmRmaXNo"];
    assert_eq!(
        [bad, good, bad, good, bad, good, good, bad].map(status),
        [401, 200, 401, 200, 401, 200, 429, 401]
    );
    setup.write(
        "web.yml",
        &format!("rate_limit: {{interval: 0, burst: 3}}\n{}", format_users(&[("alice", HASH)])),
    );
    assert_eq!([good; 9].map(status), [200; 9], "0 is no limit");
}

#[test]
fn a_slow_password_delays_neither_other_clients_nor_the_shutdown() {
    let slow = HASH.replace("$04$", "$20$");
    let setup = WebConfigSetup::new(&format_users(&[("alice", HASH), ("bob", &slow)]));
    let exporter = setup.serve();
    let alice =
        || get(exporter.address(), "/metrics", &[("Authorization", "Basic YWxpY2U6aHVudGVyMg==")]).status;
    assert_eq!(alice(), 200);
    let mut bob = TcpStream::connect(exporter.address()).unwrap();
    let request =
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic Ym9iOnN3b3JkZmlzaA==\r\n\r\n";
    bob.write_all(request).unwrap();
    until("bob's password is at work", || (exporter.cpu_ticks() > 100).then_some(()));
    assert_eq!(alice(), 200);
    bob.set_nonblocking(true).unwrap();
    assert!(bob.read(&mut [0]).is_err(), "bob's is not answered yet");
    exporter.signal("TERM");
    assert!(exporter.wait().status.success());
}

#[test]
fn a_connection_ends_with_the_refusal_of_its_password() {
    let setup = WebConfigSetup::new(&format_users(&[("alice", HASH)]));
    let exporter = setup.serve();
    let mut stream = TcpStream::connect(exporter.address()).unwrap();
    stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    let refused = answer(&response);
    assert_eq!((refused.status, refused.header("connection")), (401, Some("close")));
}

#[test]
fn a_flood_of_wrong_passwords_delays_the_right_one_by_one_of_them() {
    // Takes a while for each try.
    let slow = HASH.replace("$04$", "$12$");
    let setup = WebConfigSetup::new(&format_users(&[("alice", HASH), ("bob", &slow)]));
    let exporter = setup.serve();
    let address = exporter.address();
    let wrong = |host: u8| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, host], 0)).into()).unwrap();
        socket.connect(&address.into()).unwrap();
        let mut stream = TcpStream::from(socket);
        let request =
            b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic Ym9iOnN3b3JkZmlzaA==\r\n\r\n";
        stream.write_all(request).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    };
    let status = |mut stream: &TcpStream| {
        let mut head = [0; 12];
        stream.read_exact(&mut head).ok().map(|()| String::from_utf8_lossy(&head).into_owned())
    };
    let mut flood = Vec::new();
    until("as many wait as may", || {
        flood.push(wrong(2));
        flood.iter().any(|stream| status(stream).is_some_and(|head| head.ends_with("429"))).then_some(())
    });
    let alice = || get(address, "/metrics", &[("Authorization", "Basic YWxpY2U6aHVudGVyMg==")]).status;
    assert_eq!([alice(), alice()], [200, 200]);
    let tried =
        flood.iter().filter(|stream| status(stream).is_some_and(|head| head.ends_with("401"))).count();
    assert!(tried <= 3, "{tried} wrong passwords were tried before the right one");
}

#[test]
fn a_kept_connection_ends_when_its_authority_is_no_longer_trusted() {
    let setup = WebConfigSetup::new(MUTUAL);
    let exporter = setup.serve();
    assert_eq!(setup.status(&exporter, "/metrics", &["--cert", "client.crt", "--key", "client.key"]), 200);
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-cert", "client.crt", "-key", "client.key", "-CAfile", "ca.crt"])
        .args(["-connect", &exporter.address().to_string()])
        .current_dir(setup.folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("openssl is needed, the Debian package: {error}"));
    let (mut stdin, mut stdout) =
        (client.stdin.take().unwrap(), BufReader::new(client.stdout.take().unwrap()));
    let mut send_request = || stdin.write_all(b"HEAD /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut status = || {
        let mut first = String::new();
        stdout.read_line(&mut first).unwrap();
        let mut line = first.clone();
        while line.trim() != "" {
            line.clear();
            stdout.read_line(&mut line).unwrap();
        }
        first.split(' ').nth(1).map(str::to_owned)
    };
    // A certificate of the server that changes is no reason to connect again.
    for kept in [true, true, false] {
        if kept {
            setup.write("web.yml", &format!("{MUTUAL}  prefer_server_cipher_suites: false\n"));
        } else {
            setup.write("ca.crt", &setup.text("other-ca.crt"));
        }
        let _ = send_request();
        assert_eq!(status().as_deref(), kept.then_some("200"));
    }
    client.kill().unwrap();
    client.wait().unwrap();
}

#[test]
fn a_client_that_never_ends_its_handshake_is_disconnected_and_delays_no_other() {
    let setup = WebConfigSetup::new(TLS);
    let exporter = setup.serve();
    let mut silent = TcpStream::connect(exporter.address()).unwrap();
    silent.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
    assert_eq!(setup.status(&exporter, "/metrics", &[]), 200);
    assert_eq!(silent.read(&mut [0]).unwrap(), 0, "it was closed");

    let _silent = TcpStream::connect(exporter.address()).unwrap();
    assert_eq!(setup.status(&exporter, "/metrics", &[]), 200);
    exporter.signal("TERM");
    let ended = exporter.wait();
    assert!(ended.status.success());
    assert!(!ended.stderr.contains(messages::CUT_OFF), "nothing was waited for: {}", ended.stderr);
}
