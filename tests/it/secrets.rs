//! The canary: a key pair that is easily recognised, every way a poll can fail, every command, the
//! most talkative log there is, and an exchange that repeats all it was sent. Nothing that leaves
//! the program holds the access key, the secret key or a signature, nor a good part of one.

use std::{
    fmt::Write as _,
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::common::messages;
use crate::common::proxy::{PLAIN_HEADERS, Proxy, ProxyMode, Request, http_response};
use crate::common::{Exchange, Exporter, Output, get, run_concurrently, sample, until};
use xt_balance_exporter::simulator::{
    Effect, Fault, SimulatedAccount, SimulatedEndpoint, SimulatedWallet, SimulatorConfig,
};

/// With characters that have to be encoded in a URL.
const ACCESS: &str = "9f+Canary/Access=Key&d41d8cd98f00";
const SECRET: &str = "Canary~Secret~7215ee9c7d9dc229d292";
const FREE: &str = "xt_balance_free{account=\"main\",currency=\"usdt\",wallet=\"spot\"}";
const LOGS: [&str; 2] = ["--log.format=logfmt", "--log.format=json"];

/// Number of successive characters of a secret that count as a leak.
const LEAK_LENGTH: usize = 8;

/// An exchange that knows the canary, and a proxy that sees every signature.
struct CanarySetup {
    exchange: Exchange,
    proxy: Proxy,
    folder: tempfile::TempDir,
}

impl CanarySetup {
    fn new() -> Self {
        let account = SimulatedAccount::new("main", ACCESS, SECRET)
            .with_balance(SimulatedWallet::Spot, "usdt", "5", "0")
            .with_balance(SimulatedWallet::FuturesUsdt, "usdt", "6", "0");
        let exchange = Exchange::new(SimulatorConfig::default(), vec![account]);
        let proxy = Proxy::new(exchange.address);
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("one", ACCESS), ("two", SECRET)] {
            let path = folder.path().join(name);
            fs::write(&path, format!("{text}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        Self { exchange, proxy, folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a command with the keys from files.
    fn start(&self, args: &[&str]) -> Exporter {
        self.start_by(Command::new(crate::common::PROGRAM), args)
    }

    /// Like [`Self::start`], by a `command` that executes the program.
    fn start_by(&self, command: Command, args: &[&str]) -> Exporter {
        let (one, two, url) = (self.file("one"), self.file("two"), self.proxy.url());
        let keys = [
            "--log.level=trace",
            "--xt.base-url",
            &url,
            "--xt.access-key-file",
            one.to_str().unwrap(),
            "--xt.secret-key-file",
            two.to_str().unwrap(),
        ];
        Exporter::start_by(command, &[args, &keys].concat(), &[("XT_API", "v1")])
    }

    fn run(&self, args: &[&str]) -> Output {
        self.start(args).wait()
    }

    /// All signatures that were sent.
    fn signatures(&self) -> Vec<String> {
        let requests = self.proxy.requests();
        requests
            .iter()
            .filter_map(|request| {
                request.parameter("signature").or_else(|| request.header("validate-signature"))
            })
            .map(str::to_owned)
            .collect()
    }

    /// Asserts that no text contains a part of a secret or of a signature.
    #[track_caller]
    fn assert_no_leak(&self, case: &str, texts: &[(&str, &str)]) {
        let signatures = self.signatures();
        let secrets: Vec<_> = signatures.iter().map(String::as_str).chain([ACCESS, SECRET]).collect();
        for (place, text) in texts {
            for secret in &secrets {
                let leak = find_leak(text, secret);
                assert!(leak.is_none(), "{case}: {leak:?} of a secret stands in {place}:\n{text}");
            }
        }
    }

    #[track_caller]
    fn assert_no_leak_in_output(&self, case: &str, output: &Output) {
        self.assert_no_leak(case, &[("stdout", &output.stdout), ("stderr", &output.stderr)]);
    }
}

#[test]
fn no_core_dump_contains_a_key_unless_core_dumps_are_allowed() {
    for (more, limit) in [(&[][..], "0"), (&["--allow-core-dumps"][..], "unlimited")] {
        let setup = CanarySetup::new();
        let mut unlimited = Command::new("prlimit");
        unlimited
            .args(["--core=unlimited:unlimited", crate::common::PROGRAM])
            .current_dir(setup.folder.path());
        let args = [&["--web.listen-address=127.0.0.1:0"][..], more].concat();
        let exporter = setup.start_by(unlimited, &args);
        exporter.ready();
        let limits = fs::read_to_string(format!("/proc/{}/limits", exporter.pid())).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        let core: Vec<_> = core.split_whitespace().skip(4).take(2).collect();
        assert_eq!(core, [limit, limit], "{limits}");
        exporter.signal("ABRT");
        let output = exporter.wait();
        if more.is_empty() {
            assert!(!std::os::unix::process::ExitStatusExt::core_dumped(&output.status));
            let files = fs::read_dir(setup.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
            assert!(!files.into_iter().any(|name| name.to_string_lossy().starts_with("core")));
        }
    }
}

/// A part of `secret` that stands in `text`, as it is or percent-encoded, in whatever case.
fn find_leak(text: &str, secret: &str) -> Option<String> {
    let secret = secret.to_ascii_lowercase();
    let plain = text.to_ascii_lowercase();
    let decoded = percent_decode(&percent_decode(&plain));
    let mut parts = secret.as_bytes().windows(LEAK_LENGTH).map(|part| std::str::from_utf8(part).unwrap());
    parts.find(|part| plain.contains(part) || decoded.contains(part)).map(str::to_owned)
}

/// Undoes percent-encoding wherever there is some.
fn percent_decode(text: &str) -> String {
    let mut pieces = text.split('%');
    let mut decoded = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let byte = piece.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        decoded.push(byte.map_or('%', char::from));
        decoded.push_str(&piece[if byte.is_some() { 2 } else { 0 }..]);
    }
    decoded
}

fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[test]
fn the_search_for_the_canary_finds_it() {
    let query = format!("accesskey={}&nonce=1", percent_encode(ACCESS));
    for text in [
        ACCESS,
        &query,
        &query.to_uppercase(),
        &percent_encode(&ACCESS[..12]),
        &format!("x{}", &ACCESS[9..17]),
    ] {
        assert!(find_leak(text, ACCESS).is_some(), "{text}");
    }
    assert_eq!(find_leak("access=key", ACCESS), Some("access=k".to_owned()));
    assert_eq!(find_leak("a canary is a bird", ACCESS), None);
}

/// The name of a spelling of the request, and the function that spells it.
type Echo = (&'static str, fn(&Request) -> String);

/// The spellings in which an exchange may repeat a request's URL: unchanged, in the other case, encoded, decoded.
fn echoes() -> Vec<Echo> {
    vec![
        ("as it came", |request| request.target().to_owned()),
        ("in upper case", |request| request.target().to_uppercase()),
        ("in lower case", |request| request.target().to_lowercase()),
        ("encoded", |request| percent_encode(&percent_decode(request.target()))),
        ("encoded twice", |request| percent_encode(request.target())),
        ("decoded", |request| percent_decode(request.target())),
        ("every byte encoded", |request| {
            percent_decode(request.target()).bytes().fold(String::new(), |mut out, byte| {
                let _ = write!(out, "%{byte:02x}");
                out
            })
        }),
    ]
}

/// Answers and their names.
type Answers = Vec<(&'static str, Vec<u8>)>;

/// Answers of an exchange that repeat a text.
fn answers(echoed_text: &str) -> Answers {
    let json = |text: String| http_response(200, &[("Content-Type", "application/json")], text.as_bytes());
    let page = format!("<html><title>Forbidden</title><p>{echoed_text}</p></html>");
    vec![
        ("info", json(format!(r#"{{"code":404,"info":"no such thing: {echoed_text}"}}"#))),
        ("msg", json(format!(r#"{{"code":307,"msg":"{echoed_text}"}}"#))),
        ("msgInfo", json(format!(r#"{{"code":308,"msgInfo":{{"template":"{echoed_text}"}}}}"#))),
        ("a text instead of JSON", http_response(200, &[], echoed_text.as_bytes())),
        ("a page with 403", http_response(403, &[], page.as_bytes())),
        ("a page with 503", http_response(503, &[], page.as_bytes())),
        ("429", http_response(429, &[("Retry-After", echoed_text)], page.as_bytes())),
        ("a redirect", http_response(302, &[("Location", echoed_text)], page.as_bytes())),
        ("no HTTP", format!("{echoed_text}\r\n\r\n").into_bytes()),
        ("a status line", format!("HTTP/1.1 403 {echoed_text}\r\nContent-Length: 0\r\n\r\n").into_bytes()),
        ("half a body", [&http_response(200, &[], page.as_bytes())[..], b"\xff"].concat()),
    ]
}

/// The headers of v4, in which it sends what v1 sends in the URL.
fn signed_headers(request: &Request) -> String {
    let headers = request.head.lines().filter(|line| line.starts_with("validate-"));
    headers.collect::<Vec<_>>().join(" ")
}

/// What an exchange may repeat of the headers. How a text is cleaned of it is proven with the URLs above.
fn echoes_of_headers() -> Vec<Echo> {
    vec![
        ("as they came", signed_headers),
        ("every byte encoded twice", |request| {
            signed_headers(request).bytes().fold(String::new(), |mut out, byte| {
                let _ = write!(out, "%25{byte:02x}");
                out
            })
        }),
    ]
}

/// What v4, spot and futures, may repeat it in, beside what answers of v1 are to it.
fn answers_of_v4(echoed_text: &str) -> Answers {
    let json = |text: String| http_response(200, &[("Content-Type", "application/json")], text.as_bytes());
    let mut answers = answers(echoed_text);
    answers.extend([
        ("mc", json(format!(r#"{{"rc":1,"mc":"{echoed_text}","ma":[],"result":null}}"#))),
        (
            "ma",
            json(format!(r#"{{"rc":1,"mc":"AUTH_103","ma":["{echoed_text}"],"result":"{echoed_text}"}}"#)),
        ),
        ("msg", json(format!(r#"{{"returnCode":1,"error":{{"code":"403","msg":"{echoed_text}"}}}}"#))),
        (
            "code",
            json(format!(
                r#"{{"returnCode":1,"msgInfo":"{echoed_text}","error":{{"code":"{echoed_text}"}}}}"#
            )),
        ),
    ]);
    answers
}

/// Runs a command against every answer with every echo, and looks for leaks in its output.
fn run_with_every_answer(command: &str, echoes: impl IntoIterator<Item = Echo>) {
    assert_no_answer_leaks(&[command], answers, echoes);
}

#[test]
fn once_leaks_no_secret_that_spot_of_v4_repeats() {
    assert_no_answer_leaks(&["once", "--xt.api=v4"], answers_of_v4, echoes_of_headers());
}

#[test]
fn check_leaks_no_secret_that_futures_repeat() {
    let echoes = echoes_of_headers().into_iter().take(1);
    assert_no_answer_leaks(&["check", "--xt.api=v4", "--xt.wallet=futures_usdt"], answers_of_v4, echoes);
}

fn assert_no_answer_leaks(
    args: &[&str],
    answers: fn(&str) -> Answers,
    echoes: impl IntoIterator<Item = Echo>,
) {
    let kinds = answers("").len();
    let cases = echoes.into_iter().flat_map(|echo| (0..kinds).map(move |kind| (echo, kind))).collect();
    run_concurrently(cases, |((spelling, echo), kind)| {
        let setup = CanarySetup::new();
        let answer = move |request: &Request| answers(&echo(request)).swap_remove(kind).1;
        setup.proxy.set_mode(ProxyMode::Respond(Arc::new(answer)));
        let futures = format!("--xt.futures-usdt-base-url={}/fapi", setup.proxy.url());
        let output = setup.run(&[args, &["--xt.prices=usdt", LOGS[kind % 2], &futures]].concat());
        let case = format!("{args:?}: {} with the request {spelling}", answers("")[kind].0);
        assert_eq!(output.status.code(), Some(1), "{case}: {}", output.stderr);
        assert!(!setup.signatures().is_empty(), "{case}: nothing was signed");
        setup.assert_no_leak_in_output(&case, &output);
    });
}

#[test]
fn once_leaks_no_secret_that_the_exchange_repeats() {
    run_with_every_answer("once", echoes());
}

#[test]
fn check_leaks_no_secret_that_the_exchange_repeats() {
    // How a text is cleaned does not depend on the command; what is printed of it does.
    run_with_every_answer("check", echoes().into_iter().take(1));
}

#[test]
fn no_cut_of_a_text_leaves_a_part_of_a_secret() {
    run_concurrently((0..330).step_by(LEAK_LENGTH + 3).collect(), |padding| {
        let setup = CanarySetup::new();
        let answer = move |request: &Request| {
            http_response(403, &[], format!("{}{}", "x".repeat(padding), request.target()).as_bytes())
        };
        setup.proxy.set_mode(ProxyMode::Respond(Arc::new(answer)));
        let output = setup.run(&["once"]);
        assert!(!setup.signatures().is_empty(), "nothing was signed");
        setup.assert_no_leak_in_output(&format!("after {padding} characters"), &output);
    });
}

#[test]
fn no_failure_of_the_exchange_brings_a_secret_out() {
    let code =
        |code: i64, info: &str| Effect::Code { code, info: Some(info.to_owned()), msg: None, msg_info: None };
    let effects = [
        Effect::Reset,
        Effect::Silence,
        Effect::CutShort,
        Effect::Endless,
        Effect::GzipBomb { mebibytes: 64 },
        Effect::Deep { levels: 100_000 },
        Effect::Maintenance,
        Effect::Body(String::new()),
        Effect::Body(r#"{"code":200,"data":{}}"#.to_owned()),
        Effect::from_status(429),
        code(307, "AccessKey error"),
        code(308, "Sign error"),
        code(400, "nonce is outside the window"),
    ];
    let cases = effects.iter().enumerate();
    let cases = cases.flat_map(|case| ["once", "check"].map(|command| (case, command))).collect();
    run_concurrently(cases, |((place, effect), command)| {
        let setup = CanarySetup::new();
        let case = format!("{command}: {effect:?}");
        setup
            .exchange
            .simulator
            .inject_fault(Fault::new(effect.clone()).for_endpoint(SimulatedEndpoint::GetBalance));
        if *effect == Effect::Silence {
            setup.proxy.set_mode(ProxyMode::NoResponse);
        }
        let output = setup.run(&[command, LOGS[place % 2], "--poll.timeout=3s"]);
        assert!(!setup.signatures().is_empty(), "{case}: nothing was signed");
        setup.assert_no_leak_in_output(&case, &output);
    });
}

#[test]
fn a_host_that_cannot_be_reached_brings_no_secret_out() {
    let setup = CanarySetup::new();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for url in ["https://nowhere.invalid".to_owned(), format!("http://{closed}"), format!("https://{closed}")]
    {
        for command in ["once", "check"] {
            let args = [command, "--log.level=trace", "--xt.base-url", &url];
            let output = Exporter::run(&args, &[("XT_ACCESS_KEY", ACCESS), ("XT_SECRET_KEY", SECRET)]);
            assert_eq!(output.status.code(), Some(1), "{url}: {}", output.stderr);
            setup.assert_no_leak_in_output(&url, &output);
        }
    }
}

#[test]
fn the_daemon_leaks_no_secret_on_any_page_or_in_any_log() {
    for (log, api) in LOGS.into_iter().zip(["--xt.api=v1", "--xt.api=v4"]) {
        let setup = CanarySetup::new();
        let serve = [
            "serve",
            log,
            api,
            "--web.listen-address=127.0.0.1:0",
            "--xt.prices=usdt",
            "--poll.interval=1s",
            "--poll.timeout=900ms",
        ];
        let exporter = setup.start(&serve);
        exporter.stderr.wait_for(messages::FIRST_POLL_GOOD);
        // What is asked without a key is answered with the last call that had one.
        let (last, told) = (Mutex::new(String::new()), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&told);
        let echo = move |request: &Request| {
            let mut last = last.lock().unwrap();
            if find_leak(&request.head, ACCESS).is_some() {
                last.clone_from(&request.head);
            } else if !last.is_empty() {
                count.fetch_add(1, Ordering::Relaxed);
            }
            http_response(503, &[], format!("{last} {}", percent_decode(&last)).as_bytes())
        };
        setup.proxy.set_mode(ProxyMode::Respond(Arc::new(echo)));
        exporter.stderr.wait_for(messages::POLL_FAILED);
        exporter.stderr.wait_for(messages::POLL_FAILED_AGAIN);
        exporter.stderr.wait_for(messages::PRICES_FAILED);
        // When prices are asked for again, what came of the call before has been written down.
        until("prices are refused twice with a secret", || (told.load(Ordering::Relaxed) > 1).then_some(()));
        let line = exporter.stderr.wait_for(messages::LISTENING);
        let port = line.split("127.0.0.1:").nth(1).unwrap().chars().take_while(char::is_ascii_digit);
        let port = port.collect::<String>().parse().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let pages = ["/metrics", "/", "/-/healthy", "/-/ready", "/nothing"]
            .map(|path| (path, get(address, path, &[]).text()));
        let pages: Vec<_> = pages.iter().map(|(path, text)| (*path, text.as_str())).collect();
        setup.assert_no_leak(log, &pages);
        for name in ["cmdline", "environ"] {
            let path = format!("/proc/{}/{name}", exporter.pid());
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            setup.assert_no_leak(log, &[(&path, &text)]);
        }
        exporter.signal("TERM");
        setup.assert_no_leak_in_output(log, &exporter.wait());
    }
}

#[test]
fn keys_of_the_environment_stay_where_the_user_put_them() {
    let setup = CanarySetup::new();
    let url = setup.proxy.url();
    let exporter = Exporter::start(
        &["--web.listen-address=127.0.0.1:0", "--log.level=trace", "--xt.base-url", &url],
        &[("XT_API", "v1"), ("XT_ACCESS_KEY", ACCESS), ("XT_SECRET_KEY", SECRET)],
    );
    exporter.stderr.wait_for(messages::FIRST_POLL_GOOD);
    let read = |name: &str| {
        let bytes = fs::read(format!("/proc/{}/{name}", exporter.pid())).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    setup.assert_no_leak("environment", &[("cmdline", &read("cmdline")), ("/", &exporter.get("/").text())]);
    let environ = read("environ");
    let mut variables: Vec<_> = environ.split_terminator('\0').collect();
    variables.sort_unstable();
    assert_eq!(
        variables,
        [format!("XT_ACCESS_KEY={ACCESS}"), "XT_API=v1".to_owned(), format!("XT_SECRET_KEY={SECRET}")]
    );
    exporter.signal("TERM");
    setup.assert_no_leak_in_output("environment", &exporter.wait());
}

#[test]
fn a_bad_configuration_is_refused_without_quoting_a_key() {
    let setup = CanarySetup::new();
    fs::write(setup.file("both"), format!("{ACCESS} {SECRET}")).unwrap();
    let both = setup.file("both");
    let both = both.to_str().unwrap();
    for command in ["serve", "once", "check"] {
        let output =
            Exporter::run(&[command, "--xt.access-key-file", both, "--xt.secret-key-file", both], &[]);
        assert_eq!(output.status.code(), Some(2), "{}", output.stderr);
        setup.assert_no_leak_in_output(command, &output);
    }
    // Keys where the configuration should have been.
    for file in ["both", "none"] {
        let output = Exporter::run(&["--config.file", setup.file(file).to_str().unwrap()], &[]);
        assert_eq!(output.status.code(), Some(2), "{}", output.stderr);
        setup.assert_no_leak_in_output("configuration", &output);
    }
}

#[test]
fn a_request_carries_what_it_must_and_goes_nowhere_else() {
    let setup = CanarySetup::new();
    let elsewhere = Proxy::decoy();
    let output = setup.run(&["once"]);
    assert_eq!(sample(&output.stdout, FREE), Some(5.0), "a line break after a key is no part of it");
    let url = elsewhere.url();
    setup.proxy.set_mode(ProxyMode::Respond(Arc::new(move |request| {
        http_response(307, &[("Location", &format!("{url}{}", request.target()))], b"")
    })));
    let output = setup.run(&["once"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(elsewhere.connections(), 0);
    let requests = setup.proxy.requests();
    assert_eq!(requests.len(), 5, "the clock and the balances, twice, and the clock after the refusal");
    for request in requests {
        let mut names = request.header_names();
        names.sort_unstable();
        assert_eq!(names, PLAIN_HEADERS, "{request:?}");
        assert_eq!(request.parameter("signature").is_some(), request.target().contains("/getBalance"));
        let head = request.head.replace(request.target(), "");
        for secret in [ACCESS, SECRET] {
            assert_eq!(find_leak(&head, secret), None, "{head}");
        }
    }
}

#[test]
fn a_request_of_v4_carries_the_key_in_headers_alone_and_goes_nowhere_else() {
    let setup = CanarySetup::new();
    let elsewhere = Proxy::decoy();
    let futures = format!("--xt.futures-usdt-base-url={}/fapi", setup.proxy.url());
    let args = ["once", "--xt.api=v4", "--xt.wallet=spot", "--xt.wallet=futures_usdt", &futures];
    let output = setup.run(&args);
    assert_eq!(sample(&output.stdout, FREE), Some(5.0), "{}", output.stderr);
    assert_eq!(sample(&output.stdout, &FREE.replace("spot", "futures_usdt")), Some(6.0), "{}", output.stderr);
    let url = elsewhere.url();
    setup.proxy.set_mode(ProxyMode::Respond(Arc::new(move |request| {
        http_response(307, &[("Location", &format!("{url}{}", request.target()))], b"")
    })));
    let output = setup.run(&args);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(elsewhere.connections(), 0);
    let requests = setup.proxy.requests();
    assert_eq!(requests.len(), 7, "the clock and both wallets, twice, and the clock after the refusal");
    for request in requests {
        let mut names = request.header_names();
        names.sort_unstable();
        let plain = PLAIN_HEADERS;
        let signed: &[&str] = match request.target() {
            "/v4/public/time" => &[],
            "/v4/balances" => &["algorithms", "appkey", "recvwindow", "signature", "timestamp"],
            "/fapi/future/user/v1/balance/list" => &["appkey", "signature", "timestamp"],
            other => panic!("{other} was asked for"),
        };
        let signed = signed.iter().map(|name| format!("validate-{name}"));
        let expected: Vec<_> = plain.map(str::to_owned).into_iter().chain(signed).collect();
        assert_eq!(names, expected, "{request:?}");
        assert_eq!(find_leak(&request.head, SECRET), None, "{request:?}");
    }
}

#[test]
fn keys_travel_over_https_or_stay_on_this_machine() {
    let setup = CanarySetup::new();
    for url in ["http://192.0.2.1", "http://api.xt.com", "http://127.0.0.1.nip.io", "ftp://127.0.0.1"] {
        let args = ["once", "--xt.base-url", url];
        let output = Exporter::run(&args, &[("XT_ACCESS_KEY", ACCESS), ("XT_SECRET_KEY", SECRET)]);
        assert_eq!(output.status.code(), Some(2), "{url}: {}", output.stderr);
        assert!(output.stderr.contains("https://"), "{url}: {}", output.stderr);
        setup.assert_no_leak_in_output(url, &output);
    }
}

#[test]
fn key_files_that_others_can_read_cause_one_warning() {
    let setup = CanarySetup::new();
    for name in ["one", "two"] {
        fs::set_permissions(setup.file(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    let exporter =
        setup.start(&["--web.listen-address=127.0.0.1:0", "--poll.interval=1s", "--poll.timeout=900ms"]);
    let polls = "xt_polls_total{account=\"main\",wallet=\"spot\"}";
    until("it has polled three times", || exporter.sample(polls).filter(|polls| *polls >= 3.0));
    exporter.signal("TERM");
    let output = exporter.wait();
    for name in ["one", "two"] {
        let warning = format!("other users can read {}:", setup.file(name).display());
        assert_eq!(output.stderr.matches(&warning).count(), 1, "{}", output.stderr);
    }
}

#[test]
fn invalid_key_files_are_logged_once_and_the_old_pair_stays_in_use() {
    let setup = CanarySetup::new();
    let exporter =
        setup.start(&["--web.listen-address=127.0.0.1:0", "--poll.interval=1s", "--poll.timeout=900ms"]);
    exporter.stderr.wait_for(messages::FIRST_POLL_GOOD);
    fs::write(setup.file("two"), format!("{SECRET} {ACCESS}")).unwrap();
    exporter.stderr.wait_for(messages::KEY_FILES_NOT_USED);
    let polls = "xt_polls_total{account=\"main\",wallet=\"spot\"}";
    let before = exporter.sample(polls).unwrap();
    until("it has polled three times more", || exporter.sample(polls).filter(|polls| *polls >= before + 3.0));
    assert_eq!(exporter.sample(FREE), Some(5.0));
    exporter.signal("TERM");
    let output = exporter.wait();
    assert_eq!(output.stderr.matches(messages::KEY_FILES_NOT_USED).count(), 1, "{}", output.stderr);
    setup.assert_no_leak_in_output("bad files", &output);
}
