//! What a client sends → answers, through the real connection over a pipe in memory, on a clock that does not wait.
//! Whatever it sends, and in whatever pieces: no panic, no connection that never ends, every answer well-formed and
//! exactly as long as it says, every 200 whole; and the next client is served as if nothing had been.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, duplex, split},
    runtime::{Builder, Runtime},
    task::yield_now,
    time::{Instant, timeout},
};
use xt_balance_exporter::{
    clock::Clock,
    exchange::{Wallet, v1},
    snapshot::store::AccountState,
    snapshot::store::{AccountEntry, Store},
    snapshot::wallet::{CurrencyFilter, PollOutcome, PollResult, Thresholds, WalletConfig, WatchedCurrency},
    web::Server,
};

use super::{
    exposition,
    json::{self, Json},
    unpacked,
};

/// The most a connection may live after its last byte, by the listener's own deadlines, and a little more.
const LIFE_MAX: Duration = Duration::from_secs(101);
/// How long the balances of [`site`] are shown.
const MAX_AGE: Duration = Duration::from_secs(90);
const STATUSES: [u16; 9] = [200, 400, 403, 404, 405, 414, 421, 431, 503];

/// Has the exporter answer `input`.
///
/// # Panics
/// If a promise is broken.
pub fn run(input: &[u8]) {
    let whole = conversation(&[b"GET /-/ready HTTP/1.1\r\n\r\n", input].concat(), usize::MAX);
    let (first, whole) =
        whole.split_first().unwrap_or_else(|| panic!("a good request first is not answered"));
    assert_eq!(first.status, 200, "a good request first");
    let step = (input.len() % 13 + 1).max(input.len() / 50);
    let pieces = conversation(input, step);
    // Whether a header just below the limit is too long hangs on what lay before it in hyper's buffer.
    let too_long = whole.iter().chain(&pieces).any(|answer| answer.status == 431);
    let (whole, pieces) = (answered(whole), answered(&pieces));
    // A body that nobody asked for ends the connection unless it is there at once.
    let common = whole.len().min(pieces.len());
    let bodies = ["content-length", "transfer-encoding"].iter().any(|name| mentions(input, name));
    let (whole, pieces) =
        if bodies || too_long { (&whole[..common], &pieces[..common]) } else { (&*whole, &*pieces) };
    assert_eq!(whole, pieces, "sent whole and in pieces");
}

fn mentions(input: &[u8], name: &str) -> bool {
    input.windows(name.len()).any(|bytes| bytes.eq_ignore_ascii_case(name.as_bytes()))
}

/// The statuses up to the end, without the complaint of what cannot be read: of a request that has no end yet, the
/// connection may find out or not.
fn answered(answers: &[Answer]) -> Vec<u16> {
    answers
        .iter()
        .map(|answer| answer.status)
        .take_while(|status| ![400, 414, 431].contains(status))
        .collect()
}

/// Sends `input` in pieces of `step` bytes, and on another connection a good request.
fn conversation(input: &[u8], step: usize) -> Vec<Answer> {
    let runtime = runtime();
    runtime.block_on(async {
        let site = site();
        let sent = talk(&site, input, step).await;
        let bodiless = input.windows(5).filter(|five| five == b"HEAD ").count();
        let answers = answers(&sent, bodiless);
        // One after the other, so that leave which is not given back is missed at once.
        let after = talk(&site, b"GET /metrics HTTP/1.0\r\n\r\n", usize::MAX).await;
        let after = self::answers(&after, 0);
        assert!(
            after.len() == 1 && after.iter().all(|answer| answer.status == 200),
            "the next client: {after:?}"
        );
        answers
    })
}

fn runtime() -> Runtime {
    let built = Builder::new_current_thread().enable_time().start_paused(true).build();
    built.unwrap_or_else(|error| panic!("{error}"))
}

/// A site that answers one scrape at a time.
fn site() -> Server {
    let clock = Clock::start();
    let now = clock.now();
    let watch = ["btc", "usdt"].map(|name| WatchedCurrency {
        currency: name.into(),
        thresholds: Some(Thresholds { warn: 500.0, page: 250.0 }),
    });
    let subject = Arc::new(WalletConfig {
        account: "main".into(),
        wallet: Wallet::Spot,
        watch: watch.into(),
        filter: CurrencyFilter::default(),
        max_age: MAX_AGE,
    });
    let facts = AccountState {
        name: "main".into(),
        labels: Arc::default(),
        paused_until: None,
        credentials_loaded: now.unix,
        poller_restarts: 0,
    };
    let store =
        Store::new(vec![AccountEntry::new(facts, vec![subject], now.uptime + Duration::from_hours(1))]);
    let body = br#"{"code":200,"data":{"usdt":{"available":"1.5","freeze":"0"},"<b>\"\\":{"available":2,"freeze":0}}}"#;
    store.update_account("main", |account| {
        for known in &mut account.wallets {
            let took = Duration::from_millis(120);
            let outcome = PollOutcome::new(now, v1::decode_balances(200, body).map(Some));
            known.set_snapshot(known.snapshot.apply(PollResult {
                at: now,
                took,
                is_suspect: false,
                outcome,
            }));
        }
    });
    Server::new(Arc::new(store), clock, "/metrics".to_owned(), 1)
}

/// Everything that is answered to `input` until the connection ends. The client never ends it.
async fn talk(site: &Server, input: &[u8], step: usize) -> Vec<u8> {
    let (client, server) = duplex(64 * 1024);
    let (mut reader, mut writer) = split(client);
    let asking = async {
        for piece in input.chunks(step) {
            if writer.write_all(piece).await.is_err() {
                break;
            }
            yield_now().await;
        }
    };
    let hearing = async {
        let mut heard = Vec::new();
        let end = reader.read_to_end(&mut heard).await;
        assert!(end.is_ok(), "{end:?}");
        heard
    };
    let started = Instant::now();
    let all = async { tokio::join!(site.serve_connection(server), asking, hearing) };
    let Ok(((), (), heard)) = timeout(LIFE_MAX * 2, all).await else { panic!("the connection never ends") };
    assert!(started.elapsed() <= LIFE_MAX, "the connection lived for {:?}", started.elapsed());
    heard
}

#[derive(Debug)]
struct Answer {
    status: u16,
}

/// Takes apart what was heard; at most `bodiless_max` answers have no body where they name a length.
fn answers(all: &[u8], bodiless_max: usize) -> Vec<Answer> {
    let mut left = all;
    let mut bodiless = 0;
    let mut answers = Vec::new();
    while !left.is_empty() {
        let Some(end) = left.windows(4).position(|four| four == b"\r\n\r\n") else {
            // The complaint about what cannot be read is the last word, and hyper does not wait for the client to
            // make room for all of it.
            let complaint = b"HTTP/1.1 4";
            assert!(left.starts_with(complaint) || complaint.starts_with(left), "{}", shown(left));
            break;
        };
        let head = Head::read(&left[..end]);
        left = &left[end + 4..];
        let length = head.length();
        // No body begins like an answer, so this is an answer without one.
        let body = if length > 0 && (left.is_empty() || left.starts_with(b"HTTP/1.")) {
            bodiless += 1;
            None
        } else {
            assert!(left.len() >= length, "{length} bytes are promised and {} sent: {head:?}", left.len());
            let (body, after) = left.split_at(length);
            left = after;
            Some(body)
        };
        head.judge(body);
        answers.push(Answer { status: head.status });
    }
    assert!(
        bodiless <= bodiless_max,
        "{bodiless} answers have no body, and {bodiless_max} were asked for without"
    );
    answers
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().take(2_000).map(char::from).collect()
}

#[derive(Debug)]
struct Head {
    status: u16,
    fields: Vec<(String, String)>,
}

impl Head {
    fn read(bytes: &[u8]) -> Self {
        let text = std::str::from_utf8(bytes).unwrap_or_else(|_| panic!("{}", shown(bytes)));
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let version = first.strip_prefix("HTTP/1.1 ").or_else(|| first.strip_prefix("HTTP/1.0 "));
        let status = version.and_then(|rest| rest.split(' ').next()).filter(|code| code.len() == 3);
        let status = status.and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{first:?}"));
        let field = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("{line:?} is no header"));
            let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            assert!(!name.is_empty() && name.bytes().all(token), "{line:?}");
            assert!(!value.chars().any(char::is_control), "{line:?}");
            (name.to_ascii_lowercase(), value.to_owned())
        };
        Self { status, fields: lines.map(field).collect() }
    }

    fn one(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(known, _)| known == name).map(|(_, value)| &**value);
        let value = values.next();
        assert_eq!(values.next(), None, "{name} comes twice: {self:?}");
        value
    }

    fn length(&self) -> usize {
        assert_eq!(self.one("transfer-encoding"), None, "{self:?}");
        let length = self.one("content-length").and_then(|length| length.parse().ok());
        length.unwrap_or_else(|| panic!("no length: {self:?}"))
    }

    fn judge(&self, body: Option<&[u8]>) {
        assert!(STATUSES.contains(&self.status), "{self:?}");
        let Some(content_type) = self.one("content-type") else {
            assert!([400, 414, 431].contains(&self.status), "{self:?}");
            return;
        };
        assert_eq!(self.one("cache-control"), Some("no-store"), "{self:?}");
        assert_eq!(self.one("x-content-type-options"), Some("nosniff"), "{self:?}");
        assert_eq!(self.one("allow"), (self.status == 405).then_some("GET, HEAD"), "{self:?}");
        let Some(body) = body else { return };
        let text = match self.one("content-encoding") {
            None => body.to_vec(),
            Some("gzip") => unpacked(body),
            Some(other) => panic!("{other} was never offered"),
        };
        let text = String::from_utf8(text).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        match (self.status, content_type) {
            (200, "text/plain; version=0.0.4; charset=utf-8") => {
                let samples = exposition::read(&text);
                assert!(samples.one("process_start_time_seconds", &[]).is_some(), "{text}");
                assert_eq!(samples.of("xt_up").map(|(_, up)| up).collect::<Vec<_>>(), [1.0], "{text}");
            }
            (200, "text/html; charset=utf-8") => {
                assert!(
                    text.starts_with("<!doctype html>") && text.trim_end().ends_with("</html>"),
                    "{text}"
                );
                assert!(!text.contains("<b>\""), "a currency's name became markup: {text}");
                assert!(self.one("content-security-policy").is_some(), "{self:?}");
            }
            (200, "application/json") => judge_balances(&text),
            (_, "text/plain; charset=utf-8") => {
                assert!(text.ends_with('\n') && !text.trim().is_empty(), "{text:?}");
            }
            _ => panic!("{self:?}"),
        }
    }
}

/// Judges the answer of `/api/v1/balances`: JSON of the documented shape, and of the one wallet everything that is known
/// or, once that is too old, nothing.
fn judge_balances(text: &str) {
    let whole = json::read(text).unwrap_or_else(|| panic!("no JSON: {text}"));
    assert_eq!(names(&whole), ["time", "wallets"], "{text}");
    assert!(words(&whole, "time").is_some_and(is_rfc3339), "{text}");
    let Some(Json::List(wallets)) = whole.field("wallets") else { panic!("no list: {text}") };
    let [wallet] = wallets.as_slice() else { panic!("{} wallets: {text}", wallets.len()) };
    assert_eq!(
        names(wallet),
        ["account", "wallet", "state", "answered", "age_seconds", "balances"],
        "{text}"
    );
    assert_eq!((words(wallet, "account"), words(wallet, "wallet")), (Some("main"), Some("spot")), "{text}");
    assert!(words(wallet, "answered").is_some_and(is_rfc3339), "{text}");
    let Some(Json::Number(age)) = wallet.field("age_seconds") else { panic!("no age: {text}") };
    let age: f64 = age.parse().unwrap_or_else(|error| panic!("{error}: {text}"));
    let is_fresh = age < MAX_AGE.as_secs_f64();
    assert_eq!(words(wallet, "state"), Some(if is_fresh { "fresh" } else { "unknown" }), "{text}");
    match wallet.field("balances") {
        Some(Json::Null) => assert!(!is_fresh, "{text}"),
        Some(Json::List(rows)) => {
            assert!(is_fresh, "{text}");
            assert_eq!(rows.iter().map(row).collect::<Vec<_>>(), ROWS, "{text}");
        }
        _ => panic!("no balances: {text}"),
    }
}

/// What is known of the wallet: currency, free, frozen, and whether the exchange has sent a row.
const ROWS: [(&str, &str, &str, bool); 3] =
    [("<b>\"\\", "2", "0", true), ("btc", "0", "0", false), ("usdt", "1.5", "0", true)];

fn row(row: &Json) -> (&str, &str, &str, bool) {
    assert_eq!(
        names(row),
        ["currency", "free", "frozen", "frozen_parts", "present", "thresholds"],
        "{row:?}"
    );
    let words = |name: &str| words(row, name).unwrap_or_else(|| panic!("no {name}: {row:?}"));
    let Some(Json::Bool(present)) = row.field("present") else { panic!("not told: {row:?}") };
    (words("currency"), words("free"), words("frozen"), *present)
}

/// The names of an object, in its order.
fn names(json: &Json) -> Vec<&str> {
    let Json::Object(entries) = json else { panic!("no object: {json:?}") };
    entries.iter().map(|(name, _)| name.as_deref().unwrap_or_default()).collect()
}

fn words<'a>(json: &'a Json, name: &str) -> Option<&'a str> {
    match json.field(name)? {
        Json::Text(text) => text.as_deref(),
        _ => None,
    }
}

/// Whether it is a time as `2026-11-28T03:53:02.123Z`.
fn is_rfc3339(text: &str) -> bool {
    let form = "0000-00-00T00:00:00.000Z";
    text.len() == form.len()
        && text.bytes().zip(form.bytes()).all(|(byte, wanted)| match wanted {
            b'0' => byte.is_ascii_digit(),
            wanted => byte == wanted,
        })
}
