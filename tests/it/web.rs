//! The HTTP server: what each path answers, in which encoding, and that no client, slow, silent,
//! greedy or garbled, keeps others from an answer or the process from its end.

mod clients;

use std::{
    collections::BTreeSet,
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::Instant,
};

use crate::common::messages;
use crate::common::{
    ACCESS_KEY, Answer, Exchange, Exporter, SECRET_KEY, WAIT_TIMEOUT, answer, get, request, until,
};
use xt_balance_exporter::simulator::{Effect, Fault, SimulatedAccount, SimulatedWallet, SimulatorConfig};

/// As many connections as the server keeps of one network.
const CONNECTIONS_OF_A_NETWORK: usize = 128;

/// Every path that answers a GET.
const PATHS: [&str; 5] = ["/metrics", "/", "/api/v1/balances", "/-/healthy", "/-/ready"];

/// A daemon that has polled and will not again for long, and the exchange it polls.
fn daemon(more: &[&str]) -> (Exporter, Exchange) {
    let exchange = Exchange::documented();
    let exporter = Exporter::serve(&exchange.url(), &[&["--poll.interval=1h"], more].concat());
    exporter.ready();
    (exporter, exchange)
}

#[test]
fn a_slash_after_the_path_of_the_metrics_leads_to_them() {
    for (flag, path, location) in [
        ("/metrics", "/metrics/", "../metrics"),
        ("/metrics", "/metrics/?a=b", "../metrics?a=b"),
        ("/a/b", "/a/b/", "../b"),
    ] {
        let (exporter, _exchange) = daemon(&["--web.telemetry-path", flag]);
        for method in ["GET", "HEAD"] {
            let redirect = request(method, exporter.address(), path, &[]);
            assert_eq!((redirect.status, redirect.header("location")), (307, Some(location)));
        }
        assert_eq!(request("POST", exporter.address(), path, &[]).status, 405);
        let curl = std::process::Command::new("curl")
            .args(["--silent", "--location", &format!("http://{}{path}", exporter.address())])
            .output()
            .unwrap();
        assert!(curl.stdout.starts_with(b"# HELP "), "{}", String::from_utf8_lossy(&curl.stdout));
        assert_eq!(exporter.get(&format!("{flag}//")).status, 404);
    }
}

/// A daemon whose answer is larger than what sockets buffer, so that a client that does not read
/// keeps it from being sent.
fn daemon_of_many_currencies(more: &[&str]) -> (Exporter, Exchange) {
    let long = "x".repeat(58);
    let account = SimulatedAccount::new("main", ACCESS_KEY, SECRET_KEY);
    let account = (0..40_000).fold(account, |account, row| {
        account.with_balance(SimulatedWallet::Spot, &format!("{row:05}-{long}"), "1.5", "0")
    });
    let exchange = Exchange::new(SimulatorConfig::default(), vec![account]);
    // In v4 this answer would be longer than the exporter reads.
    let exporter = Exporter::serve(&exchange.url(), &[&["--xt.api=v1"], more].concat());
    exporter.ready();
    assert!(exporter.get("/metrics").body.len() > 10_000_000);
    (exporter, exchange)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
    stream
}

fn send(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    stream
}

/// Everything the server sends until it closes; a reset is a close too.
fn read_to_close(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => all,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => all,
        Err(error) => panic!("it was not closed: {error}"),
    }
}

/// Reads one answer, and leaves the connection open.
fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut raw = Vec::new();
    let mut byte = [0];
    while !raw.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        raw.push(byte[0]);
    }
    let mut answer = answer(&raw);
    answer.body = vec![0; answer.header("content-length").unwrap().parse().unwrap()];
    stream.read_exact(&mut answer.body).unwrap();
    answer
}

fn assert_healthy(address: SocketAddr) {
    assert_eq!(get(address, "/-/healthy", &[]).status, 200);
}

#[test]
fn get_and_head_answer_with_the_same_headers_on_every_path() {
    let (exporter, _exchange) = daemon(&[]);
    let address = exporter.address();
    for (path, content_type) in [
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ("/", "text/html; charset=utf-8"),
        ("/-/healthy", "text/plain; charset=utf-8"),
        ("/-/ready", "text/plain; charset=utf-8"),
        ("/metrics?name=x", "text/plain; version=0.0.4; charset=utf-8"),
    ] {
        let [got, head] = ["GET", "HEAD"].map(|method| request(method, address, path, &[]));
        assert_eq!((got.status, head.status), (200, 200), "{path}");
        assert_eq!(got.header("content-type"), Some(content_type), "{path}");
        assert_eq!(got.header("content-length"), Some(&*got.body.len().to_string()), "{path}");
        assert!(!got.body.is_empty() && head.body.is_empty(), "{path}");
        assert_eq!(got.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(got.header("x-content-type-options"), Some("nosniff"), "{path}");
        // Counts and ages in the body may have changed its length from one to the other.
        let names = |answer: &Answer| {
            let passing = ["content-length", "date"];
            let mut headers = answer.headers.clone();
            for (name, value) in &mut headers {
                if passing.contains(&name.as_str()) {
                    assert_ne!(&**value, "0", "{path}: {name}");
                    value.clear();
                }
            }
            headers
        };
        assert_eq!(names(&got), names(&head), "{path}");
    }
    let [got, head] = ["GET", "HEAD"].map(|method| request(method, address, "/-/healthy", &[]));
    assert_eq!(got.header("content-length"), head.header("content-length"));
}

#[test]
fn other_paths_answer_404_with_a_list_of_the_paths() {
    let (exporter, _exchange) = daemon(&["--web.telemetry-path=/private/metrics"]);
    for path in ["/metrics", "/nothing", "/metrics/", "//", "/private/metrics/../x", "/%6detrics"] {
        let answer = exporter.get(path);
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        let lines = answer.text();
        assert_eq!(
            lines.lines().skip(1).collect::<Vec<_>>(),
            ["/", "/account/NAME", "/private/metrics", "/api/v1/balances", "/-/healthy", "/-/ready"]
        );
    }
    assert!(exporter.get("/private/metrics").text().contains("xt_balance_free{"));
    assert!(exporter.get("/").text().contains("/private/metrics"), "the status page links to it");
}

#[test]
fn other_methods_answer_405_with_those_that_are_allowed() {
    let (exporter, _exchange) = daemon(&[]);
    for path in ["/metrics", "/", "/-/healthy", "/-/ready"] {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get", "BREW"] {
            let answer = request(method, exporter.address(), path, &[]);
            assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method} {path}");
        }
    }
}

#[test]
fn gzip_is_sent_only_if_the_client_accepts_it() {
    let (exporter, _exchange) = daemon(&[]);
    let address = exporter.address();
    for path in ["/metrics", "/"] {
        let send_request = |accept: &[(&str, &str)]| get(address, path, accept);
        for headers in [
            &[("Accept-Encoding", "gzip")][..],
            &[("Accept-Encoding", "br"), ("accept-encoding", "gzip;q=0.1")],
        ] {
            let answer = send_request(headers);
            assert_eq!(answer.header("content-encoding"), Some("gzip"), "{headers:?}");
            assert_eq!(answer.header("vary"), Some("Accept-Encoding"));
            assert_eq!(answer.header("content-length"), Some(&*answer.body.len().to_string()));
            let mut plain = String::new();
            flate2::read::GzDecoder::new(&*answer.body).read_to_string(&mut plain).unwrap();
            let expected = send_request(&[]).text();
            if path == "/metrics" {
                // These values are read at each scrape; the skew moves when this machine's clock is corrected.
                let stays = |line: &str| !line.starts_with("process_") && !line.starts_with("xt_clock_skew");
                let lines = |text: &str| {
                    text.lines().filter(|line| stays(line)).map(str::to_owned).collect::<Vec<_>>()
                };
                assert_eq!(lines(&plain), lines(&expected));
            }
            assert!(
                answer.body.len() < plain.len() * 3 / 4 && plain.lines().count() == expected.lines().count()
            );
        }
        for refused in [
            &[][..],
            &[("Accept-Encoding", "gzip;q=0")],
            &[("Accept-Encoding", "identity")],
            &[("Accept-Encoding", "zstd, br")],
        ] {
            let answer = send_request(refused);
            assert_eq!(answer.header("content-encoding"), None, "{refused:?}");
            assert_eq!(answer.header("vary"), Some("Accept-Encoding"), "caches must know: {refused:?}");
            assert!(answer.text().contains("xt_") || path == "/");
        }
    }
}

#[test]
fn a_connection_is_kept_for_the_next_request() {
    let (exporter, _exchange) = daemon(&[]);
    let mut stream = connect(exporter.address());
    for path in ["/metrics", "/-/ready", "/nothing", "/metrics"] {
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let answer = read_answer(&mut stream);
        assert_eq!(answer.status, if path == "/nothing" { 404 } else { 200 });
        assert_eq!(answer.header("connection"), None, "not close");
    }
    // Two at once are answered in turn.
    stream.write_all(b"GET /-/ready HTTP/1.1\r\nHost: localhost\r\n\r\nHEAD /-/healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    assert!(read_answer(&mut stream).text().starts_with("ready"));
    assert_eq!(answer(&read_to_close(&mut stream)).status, 200);
}

#[test]
fn a_foreign_name_that_points_to_loopback_gets_no_balances() {
    let (exporter, _exchange) = daemon(&["--web.allowed-hosts=balances.example.com,other.example"]);
    let address = exporter.address();
    let send_request = |request: &str| answer(&read_to_close(&mut send(address, request.as_bytes())));
    for path in PATHS {
        for request in [
            format!("GET {path} HTTP/1.1\r\nHost: rebind.evil.example\r\n\r\n"),
            format!("GET {path} HTTP/1.0\r\nHost: rebind.evil.example:{}\r\n\r\n", address.port()),
            format!("GET http://rebind.evil.example{path} HTTP/1.1\r\nHost: {address}\r\n\r\n"),
            format!("HEAD {path} HTTP/1.1\r\nHost: {address}\r\nHost: rebind.evil.example\r\n\r\n"),
        ] {
            let refused = send_request(&request);
            assert_eq!((refused.status, refused.header("connection")), (421, Some("close")), "{request}");
            assert!(!refused.text().contains("xt_") && !refused.text().contains("3867"), "{request}");
        }
        for host in ["localhost", "127.0.0.1:1", "[::1]", "Balances.Example.com.:443", "other.example"] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            assert_eq!(send_request(&request).status, 200, "{request}");
        }
        assert_eq!(send_request(&format!("GET {path} HTTP/1.0\r\n\r\n")).status, 200, "{path}");
    }
    let health =
        Exporter::run(&["healthcheck", &format!("--web.listen-address=localhost:{}", address.port())], &[]);
    assert_eq!(health.status.code(), Some(0), "{}", health.stderr);
}

#[test]
fn pages_of_other_sites_reload_nothing_and_read_nothing() {
    let (exporter, _exchange) = daemon(&["--web.enable-lifecycle"]);
    let address = exporter.address();
    let foreign = [
        &[("Origin", "https://evil.example")][..],
        &[("Origin", "null")],
        &[("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")],
        &[("Sec-Fetch-Site", "same-site")],
    ];
    for headers in foreign {
        for (method, path) in [("POST", "/-/reload"), ("GET", "/"), ("GET", "/api/v1/balances")] {
            let refused = request(method, address, path, headers);
            assert_eq!(refused.status, 403, "{method} {path} {headers:?}");
            assert!(!refused.text().contains("3867"), "{path}");
        }
        assert_eq!(get(address, "/metrics", headers).status, 200, "{headers:?}");
    }
    let link =
        [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")];
    assert_eq!(get(address, "/", &link).status, 200, "a link leads to the page");
    assert_eq!(request("POST", address, "/-/reload", &link).status, 403);
    assert_eq!(request("POST", address, "/-/reload", &[]).status, 200, "curl is no page");
    exporter.stderr.wait_for(messages::RELOADED);
    let log = exporter.stderr.text();
    assert_eq!(log.matches(messages::RELOADED).count(), 1, "{log}");
}

#[test]
fn more_scrapes_than_allowed_get_status_503() {
    let (exporter, _exchange) = daemon_of_many_currencies(&["--web.max-requests=1"]);
    let address = exporter.address();
    let mut slow = send(address, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    // Once its first byte is here, its scrape is under way; the rest stays with the server.
    slow.read_exact(&mut [0]).unwrap();
    let refused = get(address, "/metrics", &[]);
    assert_eq!(refused.status, 503);
    assert_eq!(refused.text(), "too many concurrent scrapes (--web.max-requests=1): try again later\n");
    assert_eq!(request("HEAD", address, "/metrics", &[]).status, 503);
    for path in ["/-/healthy", "/-/ready", "/", "/api/v1/balances"] {
        assert_eq!(get(address, path, &[]).status, 200, "{path} is no scrape");
    }
    drop(slow);
    until("the next scrape is answered", || (get(address, "/metrics", &[]).status == 200).then_some(()));
}

#[test]
fn concurrent_requests_for_balances_share_one_rendering() {
    let (exporter, _exchange) = daemon_of_many_currencies(&["--poll.interval=1h"]);
    let address = exporter.address();
    let began = Instant::now();
    let bodies: Vec<_> = thread::scope(|scope| {
        let send_request = |gzip: bool| {
            scope.spawn(move || {
                let accept = if gzip { "gzip" } else { "identity" };
                let answer = get(address, "/api/v1/balances", &[("Accept-Encoding", accept)]);
                assert_eq!(answer.status, 200);
                assert_eq!(answer.header("content-encoding"), gzip.then_some("gzip"));
                let mut plain = answer.body.clone();
                if gzip {
                    plain.clear();
                    flate2::read::GzDecoder::new(&*answer.body).read_to_end(&mut plain).unwrap();
                }
                plain
            })
        };
        let asking: Vec<_> = (0..12).map(|number| send_request(number % 2 == 0)).collect();
        asking.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    let allowed = 2 + began.elapsed().as_secs();
    let different: BTreeSet<_> = bodies.iter().collect();
    assert!(different.len() as u64 <= allowed, "{} renderings for 12 clients", different.len());
}

#[test]
fn it_is_ready_after_every_first_poll_good_or_failed() {
    let exchange = Exchange::documented();
    exchange.simulator.inject_fault(Fault::new(Effect::Silence));
    let exporter = Exporter::serve(&exchange.url(), &["--poll.interval=61s", "--poll.timeout=60s"]);
    let address = exporter.address();
    let unready = get(address, "/-/ready", &[]);
    assert_eq!((unready.status, &*unready.text()), (503, "not ready: waiting for the first poll of main\n"));
    assert_eq!(get(address, "/-/healthy", &[]).status, 200, "waiting is no ailment");
    assert!(
        exporter.metrics().contains("xt_up{account=\"main\",wallet=\"spot\"} 0\n"),
        "metrics do not wait"
    );

    let exchange = Exchange::documented();
    exchange.simulator.inject_fault(Fault::new(Effect::Maintenance));
    let exporter = Exporter::serve(&exchange.url(), &[]);
    exporter.ready();
    let ready = exporter.get("/-/ready");
    assert_eq!((ready.status, &*ready.text()), (200, "ready: every account has been polled\n"));
    assert!(
        exporter.metrics().contains("xt_up{account=\"main\",wallet=\"spot\"} 0\n"),
        "though the poll failed"
    );
    assert_eq!(exporter.get("/-/healthy").status, 200);
}

#[test]
fn it_becomes_ready_when_a_silent_exchange_speaks() {
    let exchange = Exchange::documented();
    exchange.simulator.inject_fault(Fault::new(Effect::Silence));
    let exporter = Exporter::serve(&exchange.url(), &["--poll.interval=1s", "--poll.timeout=900ms"]);
    exporter.ready();
    exchange.simulator.clear_faults();
    until("a poll was good", || {
        (exporter.sample(r#"xt_up{account="main",wallet="spot"}"#) == Some(1.0)).then_some(())
    });
    assert_eq!(exporter.get("/-/ready").status, 200);
}

#[test]
fn readiness_names_the_account_without_a_finished_poll() {
    let accounts =
        ["quick", "slow"].map(|name| SimulatedAccount::new(name, &format!("key-{name}"), "secret"));
    let exchange = Exchange::new(SimulatorConfig::default(), accounts.into());
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("quick", "key-quick"), ("slow", "key-slow"), ("secret", "secret")] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let account = |name: &str| format!("{{name: {name}, access_key_file: {name}, secret_key_file: secret}}");
    // The first polls are spread over the interval: the second account waits for half an hour.
    let text = format!(
        "base_urls: [\"{}\"]\npoll_interval: 1h\naccounts: [{}, {}]\n",
        exchange.url(),
        account("quick"),
        account("slow")
    );
    let file = folder.path().join("accounts.yaml");
    std::fs::write(&file, text).unwrap();
    let exporter =
        Exporter::start(&["--config.file", file.to_str().unwrap(), "--web.listen-address=127.0.0.1:0"], &[]);
    let address = exporter.address();
    until("only one is left", || {
        let unready = get(address, "/-/ready", &[]);
        assert_eq!(unready.status, 503);
        (unready.text().contains("slow") && !unready.text().contains("quick")).then_some(())
    });
}

#[test]
fn one_listener_takes_both_families_where_the_system_would_split_them() {
    if !is_root() {
        eprintln!("not root: a network of its own cannot be made");
        return;
    }
    let (exchange, port) = (Exchange::documented(), "10770");
    let script = "ip link set lo up && echo 1 > /proc/sys/net/ipv6/bindv6only && exec \"$0\" \"$@\"";
    let mut apart = std::process::Command::new("unshare");
    apart.args(["--net", "sh", "-c", script, crate::common::PROGRAM]);
    let keys = [
        ("XT_ACCESS_KEY", ACCESS_KEY),
        ("XT_SECRET_KEY", SECRET_KEY),
        ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    ];
    // What it polls cannot be reached from there, and that does not matter here.
    let listen = format!("--web.listen-address=:{port}");
    let exporter = Exporter::start_by(apart, &[&listen, "--xt.base-url", &exchange.url()], &keys);
    exporter.stderr.wait_for(messages::LISTENING);
    for address in
        [format!(":{port}"), format!("127.0.0.1:{port}"), format!("[::1]:{port}"), format!("[::]:{port}")]
    {
        let mut inside = std::process::Command::new("nsenter");
        inside.args([&format!("--net=/proc/{}/ns/net", exporter.pid()), crate::common::PROGRAM]);
        let flag = format!("--web.listen-address={address}");
        let health = Exporter::start_by(inside, &["healthcheck", &flag], &[("PATH", "/usr/bin:/bin")]).wait();
        assert_eq!(health.status.code(), Some(0), "{address}: {}", health.stderr);
    }
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().any(|line| line.starts_with("Uid:\t0\t"))
}
