//! The simulated exchange over real sockets, asked by the smallest HTTP client there is and with signatures computed
//! elsewhere (`printf %s "$query" | openssl dgst -sha256 -hmac mySecretKey`).

use std::{
    future::pending,
    io::{ErrorKind, Read as _},
    net::SocketAddr,
    sync::mpsc,
    time::Duration,
};

use crate::common::golden::{Transcript, assert_golden};
use crate::common::proxy::{Front, Manner};
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::yield_now,
};
use xt_balance_exporter::simulator::{
    Effect, ErrorShape, Fault, LimitReply, NonceRefusal, RefusalCause, SimulatedAccount, SimulatedEndpoint,
    SimulatedKeyState, SimulatedWallet, Simulator, SimulatorConfig, UnknownAccount, market,
    max_calls_in_window,
};

const NONCE: i64 = 1_562_919_832_183;
const BALANCE: &str = "/trade/api/v1/getBalance?accesskey=myAccessKey&nonce=1562919832183\
    &signature=84b2653615cbb0bbc19af3f4fdb609f3a60530651b75e2aa788029c5dfe7e452";
const FUNDS_1: &str = "/trade/api/v1/getFunds?accesskey=myAccessKey&account=1&nonce=1562919832183\
    &signature=3946649833a2e67308da1446a7f1ae8e122bd6bb627badc783e1f9cef6912dec";
const FUNDS_2: &str = "/trade/api/v1/getFunds?accesskey=myAccessKey&account=2&nonce=1562919832183\
    &signature=1bec414fc5a93f0a8ea0201fcad0dbc4118486470b8b4f36cc5a499de569c47c";
const FUNDS_3: &str = "/trade/api/v1/getFunds?accesskey=myAccessKey&account=3&nonce=1562919832183\
    &signature=6b2c9344fd902ab9a7ed47ffd59ff4c6c0348a38ae8490413ab9b6a336fc25a3";
const SPOT: &str = r#"{"code":200,"data":{"1inch":{"freeze":"0","available":"150"},"usdt":{"freeze":"3062.17437341","available":"3867.43650012"}},"info":"success"}"#;

/// The clock of the published signatures, and one of them good for any number of calls.
fn rules() -> SimulatorConfig {
    SimulatorConfig { strict_nonce: false, clock_start_ms: Some(NONCE), ..SimulatorConfig::default() }
}

fn account() -> SimulatedAccount {
    SimulatedAccount::new("main", "myAccessKey", "mySecretKey")
        .with_balance(SimulatedWallet::Spot, "usdt", "3867.43650012", "3062.17437341")
        .with_balance(SimulatedWallet::Spot, "1inch", "150", "0")
        .with_balance(SimulatedWallet::Wallet, "btc", "1.5", "0.00")
        .with_balance(SimulatedWallet::Fiat, "usd", "20.00", "0.00")
}

/// An exchange that serves until the test ends.
struct World {
    simulator: Simulator,
    address: SocketAddr,
}

impl World {
    async fn new(rules: SimulatorConfig, account: SimulatedAccount) -> Self {
        Self::with(rules, vec![account]).await
    }

    async fn with(rules: SimulatorConfig, accounts: Vec<SimulatedAccount>) -> Self {
        let simulator = Simulator::new(rules, accounts);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = simulator.clone();
        tokio::spawn(async move { served.serve(listener, pending()).await });
        Self { simulator, address }
    }

    async fn documented() -> Self {
        Self::new(rules(), account()).await
    }

    /// The same exchange, asked through a proxy.
    fn behind(self, front: &Front) -> Self {
        Self { address: front.address, ..self }
    }

    /// Sends a request on a connection of its own.
    async fn send(&self, method: &str, target: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // A server may answer before it has read a body that is too long.
        let _ = stream.write_all(body.as_bytes()).await;
        stream
    }

    async fn ask(&self, method: &str, target: &str, body: &str) -> Answer {
        let mut stream = self.send(method, target, body).await;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        Answer::parse(&bytes)
    }

    async fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, "").await
    }

    async fn under(&self, effect: Effect) -> Answer {
        self.simulator.inject_fault(Fault::new(effect));
        self.get(BALANCE).await
    }

    fn refused(&self, cause: RefusalCause) -> u64 {
        self.simulator.call_log().accounts["main"].count_refused(cause)
    }
}

/// A clock that stands still while this is held, even while all wait for the socket.
struct Frozen(#[expect(dead_code, reason = "its end is what counts")] mpsc::Sender<()>);

impl Frozen {
    fn new() -> Self {
        tokio::time::pause();
        let (held, release) = mpsc::channel();
        // A paused clock leaps to the next deadline when there is nothing to run, unless a blocking task is alive.
        tokio::task::spawn_blocking(move || release.recv());
        Self(held)
    }
}

/// A connection that is kept open for further calls.
struct Kept(TcpStream);

impl Kept {
    async fn new(world: &World) -> Self {
        Self(TcpStream::connect(world.address).await.unwrap())
    }

    async fn ask(&mut self, target: &str) {
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        self.0.write_all(request.as_bytes()).await.unwrap();
    }

    /// Reads one answer, and nothing after it.
    async fn read(&mut self) -> Answer {
        let start = std::time::Instant::now(); // the clock of the runtime may stand still
        let (mut bytes, mut byte) = (Vec::new(), [0]);
        while !bytes.ends_with(br#""info":"success"}"#) {
            match self.0.try_read(&mut byte) {
                Ok(0) => panic!("the connection ended"),
                Ok(_) => bytes.extend(byte),
                Err(_) => yield_now().await,
            }
            assert!(start.elapsed() < Duration::from_mins(1), "there is no answer");
        }
        Answer::parse(&bytes)
    }

    /// Whether there is nothing more to read for now.
    fn is_quiet(&self) -> bool {
        self.0.try_read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
        Self {
            status: head["http/1.1 ".len()..][..3].parse().unwrap(),
            head,
            body: bytes[end + 4..].to_vec(),
        }
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

#[tokio::test]
async fn signed_calls_get_the_documented_shape() {
    let world = World::documented().await;
    let answer = world.get(BALANCE).await;
    assert_eq!((answer.status, answer.text()), (200, SPOT));
    assert_eq!(answer.header("content-type"), Some("application/json;charset=utf-8"));
    assert_eq!(world.get(FUNDS_2).await.text(), SPOT);
    let wallet = r#"{"code":200,"data":{"btc":{"freeze":"0.00","available":"1.5"}},"info":"success"}"#;
    assert_eq!(world.get(FUNDS_1).await.text(), wallet);
    assert_eq!(world.simulator.call_log().accounts["main"].accepted, 3);
}

#[tokio::test]
async fn the_third_wallet_is_fiat() {
    let world = World::documented().await;
    assert_eq!(world.get(FUNDS_3).await.json()["data"]["usd"]["available"], "20.00");
}

#[tokio::test]
async fn unsigned_calls_get_the_documented_shape() {
    let world = World::documented().await;
    let time = world.get("/trade/api/v1/getServerTime").await.json();
    assert_eq!((&time["code"], &time["info"]), (&json!(200), &json!("success")));
    assert!(time["data"]["serverTime"].as_i64().unwrap() >= NONCE);
    let accounts = world.get("/trade/api/v1/getAccounts").await.json();
    assert_eq!(accounts["data"][1], json!({"name": " Trading account ", "id": 2}));
    let tickers = world.get("/data/api/v1/getTickers").await.json();
    assert_eq!(tickers["ltc_usdt"]["price"], json!(72.35));
    for field in ["high", "moneyVol", "rate", "low", "price", "ask", "bid", "coinVol"] {
        assert!(tickers["btc_usdt"][field].is_number(), "{field}: {tickers}");
    }
    assert_eq!(tickers.get("code"), None);
}

#[tokio::test]
async fn the_server_time_can_be_off() {
    let rules = SimulatorConfig { clock_offset_ms: -90_000, ..rules() };
    let world = World::new(rules, account()).await;
    let answer = world.get(BALANCE).await.json();
    assert_eq!(answer["code"], 400);
    let info = answer["info"].as_str().unwrap();
    assert!(info.starts_with("nonce 1562919832183 is outside the window: server time is 15629197"), "{info}");
    assert_eq!(world.refused(RefusalCause::Nonce), 1);
}

#[tokio::test]
async fn a_signed_call_may_be_spelled_in_many_ways() {
    let signature = "84b2653615cbb0bbc19af3f4fdb609f3a60530651b75e2aa788029c5dfe7e452";
    let upper = signature.to_uppercase();
    for query in [
        format!("signature={signature}&nonce=1562919832183&accesskey=myAccessKey"),
        format!("accesskey=myAccessKey&nonce=1562919832183&signature={signature}&"),
        format!("accesskey=myAccessKey&nonce=1562919832183&signature={upper}"),
        format!("accesskey=my%41ccess%4bey&nonce=1562919832183&signature={signature}"),
        // Whatever else is sent is signed as well: the documentation's own example.
        "accesskey=myAccessKey&nonce=1562919832183&market=btc_usdt&id=123\
         &signature=a4dbea1b723ef9f55bf236316977054b2628057811f92d35a7e932fe179de02e"
            .to_owned(),
    ] {
        let world = World::documented().await;
        let answer = world.get(&format!("/trade/api/v1/getBalance?{query}")).await;
        assert_eq!(answer.text(), SPOT, "{query}");
    }
}

#[tokio::test]
async fn refusals_say_why() {
    let signed = "signature=84b2653615cbb0bbc19af3f4fdb609f3a60530651b75e2aa788029c5dfe7e452";
    let account_4 = "getFunds?accesskey=myAccessKey&account=4&nonce=1562919832183\
        &signature=43cfd339f59ec0c9c0f3db6986d04752f758cb677c1381c901a6640c3a12f432";
    for (call, code, info) in [
        ("getBalance".to_owned(), 400, "parameter accesskey is missing"),
        ("getBalance?accesskey=no".to_owned(), 307, "AccessKey error"),
        ("getBalance?accesskey=myAccessKey".to_owned(), 400, "parameter nonce is missing"),
        (
            "getBalance?accesskey=myAccessKey&nonce=156291983218".to_owned(),
            400,
            "nonce 156291983218 is not a Unix time of 13 digits",
        ),
        (
            "getBalance?accesskey=myAccessKey&nonce=%2B562919832183".to_owned(),
            400,
            "nonce +562919832183 is not a Unix time of 13 digits",
        ),
        ("getBalance?accesskey=myAccessKey&nonce=1562919832183".to_owned(), 308, "Sign error"),
        (format!("getFunds?accesskey=myAccessKey&account=1&nonce=1562919832183&{signed}"), 308, "Sign error"),
        (
            format!("getBalance?accesskey=myAccessKey&nonce=1562919832183&nonce=1562919832183&{signed}"),
            400,
            "parameter nonce is given more than once",
        ),
        ("getBalance?accesskey=%zz".to_owned(), 400, "parameter accesskey is not percent-encoded"),
        (
            format!("getFunds?accesskey=myAccessKey&nonce=1562919832183&{signed}"),
            400,
            "parameter account is missing: it must be 1, 2 or 3",
        ),
        (account_4.to_owned(), 400, "parameter account is 4: it must be 1, 2 or 3"),
    ] {
        let world = World::documented().await;
        let answer = world.get(&format!("/trade/api/v1/{call}")).await;
        let body = answer.json();
        assert_eq!((answer.status, &body["code"]), (200, &json!(code)), "{call}: {body}");
        assert!(body["info"].as_str().unwrap().starts_with(info), "{call}: {body}");
        assert_eq!(body.get("data"), None);
    }
}

#[tokio::test]
async fn a_key_may_be_unfit() {
    let elsewhere = SimulatedAccount { ips: Some(vec!["10.0.0.1".parse().unwrap()]), ..account() };
    let inactive = SimulatedAccount { key: SimulatedKeyState::Inactive, ..account() };
    let blind = SimulatedAccount { key: SimulatedKeyState::NotAllowedToRead, ..account() };
    for (account, cause, info) in [
        (elsewhere, RefusalCause::Ip, "AccessKey error: IP 127.0.0.1 is not on the IP whitelist of the key"),
        (inactive, RefusalCause::Inactive, "AccessKey error: the key is not activated"),
        (blind, RefusalCause::Permission, "AccessKey error: the key has no read permission"),
    ] {
        let world = World::new(rules(), account).await;
        assert_eq!(world.get(BALANCE).await.json(), json!({"code": 307, "info": info}));
        assert_eq!(world.refused(cause), 1);
    }
    let listed = SimulatedAccount { ips: Some(vec!["127.0.0.1".parse().unwrap()]), ..account() };
    assert_eq!(World::new(rules(), listed).await.get(BALANCE).await.text(), SPOT);
}

#[tokio::test]
async fn a_nonce_is_good_once() {
    let rules = SimulatorConfig { strict_nonce: true, ..rules() };
    let world = World::new(rules, account()).await;
    assert_eq!(world.get(BALANCE).await.text(), SPOT);
    let answer = world.get(FUNDS_1).await.json();
    let info = "nonce 1562919832183 is not above the last accepted nonce 1562919832183";
    assert_eq!(answer, json!({"code": 400, "info": info}));
    assert_eq!(world.refused(RefusalCause::Replay), 1);
}

#[tokio::test]
async fn errors_come_in_the_shapes_seen_in_the_wild() {
    let bad_key = "/trade/api/v1/getBalance?accesskey=no";
    let shaped = async |error_shape, target| {
        let rules = SimulatorConfig { error_shape, ..rules() };
        World::new(rules, account()).await.get(target).await.json()
    };
    assert_eq!(
        shaped(ErrorShape::OldAuth, bad_key).await,
        json!({"code": 404, "info": "请检查accesskey是否有效"})
    );
    let missing = shaped(ErrorShape::OldAuth, "/trade/api/v1/getBalance").await;
    assert_eq!(missing, json!({"code": 400, "info": "parameter accesskey is missing"}));
    let msg_info = json!({"template": "AccessKey error", "args": null, "code": null});
    assert_eq!(
        shaped(ErrorShape::MsgInfo, bad_key).await,
        json!({"code": 307, "msg": "AccessKey error", "msgInfo": msg_info, "data": {}})
    );
}

#[tokio::test]
async fn the_fourth_asset_call_locks_the_account_for_ten_minutes() {
    let rules = SimulatorConfig { nonce_window: Duration::from_hours(1), ..rules() };
    let world = World::new(rules, account()).await;
    let _frozen = Frozen::new();
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(world.get(BALANCE).await.json());
    }
    assert!(answers[..3].iter().all(|answer| answer["code"] == 200), "{answers:?}");
    let info = "account locked: more than 3 asset calls in a second, try again in 600 seconds";
    assert_eq!(answers[3], json!({"code": 404, "info": info}));
    assert_eq!(world.get(FUNDS_1).await.json()["code"], 404);
    let calls = world.simulator.call_log();
    assert_eq!((calls.count_breaches(), calls.accounts["main"].locks), (1, 1));
    assert_eq!(calls.accounts["main"].locked_for_seconds, Some(600));
    assert_eq!((world.refused(RefusalCause::Limit), world.refused(RefusalCause::Locked)), (1, 1));
    assert_eq!(max_calls_in_window(&calls.asset_call_times("main"), Duration::from_secs(1)), 5);
    assert_eq!(calls.call_times_from("127.0.0.1".parse().unwrap()).len(), 5);

    tokio::time::advance(Duration::from_mins(10)).await;
    assert_eq!(world.get(BALANCE).await.text(), SPOT);
}

#[tokio::test]
async fn a_limit_may_be_told_by_status_429() {
    let rules = SimulatorConfig { asset_calls_per_second: 0, limit_reply: LimitReply::Status429, ..rules() };
    let world = World::new(rules, account()).await;
    let answer = world.get(BALANCE).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("600")));
    assert_eq!(answer.json()["code"], 404);
}

#[tokio::test]
async fn other_paths_and_methods_are_turned_away_and_counted() {
    let world = World::documented().await;
    assert_eq!(world.get("/trade/api/v1/getOpenOrders").await.status, 404);
    assert_eq!(world.get("/").await.status, 404);
    let posted = world.ask("POST", "/trade/api/v1/getBalance", "").await;
    assert_eq!((posted.status, posted.header("allow")), (405, Some("get")));
    assert_eq!(world.simulator.call_log().unknown_requests, 3);
}

#[tokio::test]
async fn one_connection_may_carry_many_calls() {
    let world = World::documented().await;
    let mut kept = Kept::new(&world).await;
    for _ in 0..2 {
        kept.ask(BALANCE).await;
        assert_eq!(kept.read().await.text(), SPOT);
    }
}

#[tokio::test]
async fn balances_can_be_set_and_removed() {
    let world = World::documented().await;
    let simulator = &world.simulator;
    simulator.set_balance("main", SimulatedWallet::Spot, "1inch", "1E-8", "").unwrap();
    simulator.set_balance("main", SimulatedWallet::Spot, "gal(ft)", "7", "0.1").unwrap();
    simulator.remove_balance("main", SimulatedWallet::Spot, "usdt").unwrap();
    assert_eq!(
        world.get(BALANCE).await.json()["data"],
        json!({
            "1inch": {"available": "1E-8", "freeze": ""},
            "gal(ft)": {"available": "7", "freeze": "0.1"},
        })
    );
    let nobody = simulator.set_balance("nobody", SimulatedWallet::Spot, "usdt", "1", "0");
    assert_eq!(nobody, Err(UnknownAccount("nobody".to_owned())));
}

#[tokio::test]
async fn a_fault_may_be_any_status() {
    for status in [301, 404, 429, 500, 502] {
        let effect = Effect::Status {
            status,
            body: "as it is".to_owned(),
            content_type: Some("text/plain".to_owned()),
            retry_after: Some("30".to_owned()),
            location: Some("http://127.0.0.1:1/".to_owned()),
        };
        let answer = World::documented().await.under(effect).await;
        assert_eq!((answer.status, answer.text()), (status, "as it is"));
        assert_eq!(answer.header("content-type"), Some("text/plain"));
        assert_eq!(answer.header("retry-after"), Some("30"));
        assert_eq!(answer.header("location"), Some("http://127.0.0.1:1/"));
    }
    let bare = World::documented().await.under(Effect::from_status(502)).await;
    assert_eq!(bare.status, 502);
    assert!(bare.text().contains("Bad Gateway"));
}

#[tokio::test]
async fn a_fault_may_be_a_maintenance_page() {
    let world = World::documented().await;
    let answer = world.under(Effect::Maintenance).await;
    assert_eq!((answer.status, answer.header("content-type")), (503, Some("text/html; charset=utf-8")));
    assert!(answer.text().starts_with("<!DOCTYPE html>"));
    assert_eq!(world.simulator.call_log().accounts["main"].faulted, 1);
}

#[tokio::test]
async fn a_fault_may_be_any_code() {
    let effect = Effect::Code {
        code: 500,
        info: None,
        msg: Some("price scale error".to_owned()),
        msg_info: Some(json!({"template": "price scale error"})),
    };
    let answer = World::documented().await.under(effect).await;
    let expected = json!({
        "code": 500,
        "msg": "price scale error",
        "msgInfo": {"template": "price scale error"},
    });
    assert_eq!((answer.status, answer.json()), (200, expected));
}

#[tokio::test]
async fn a_fault_may_be_any_text() {
    for text in ["", "{", r#"{"code":200,"data":null}"#, "[]", "\u{0}"] {
        let answer = World::documented().await.under(Effect::Body(text.to_owned())).await;
        assert_eq!((answer.status, answer.text()), (200, text));
    }
}

#[tokio::test]
async fn a_fault_may_be_deep() {
    let answer = World::documented().await.under(Effect::Deep { levels: 100_000 }).await;
    assert_eq!(answer.text().matches('[').count(), 100_000);
    assert!(answer.text().ends_with(r#"]],"info":"success"}"#));
}

#[tokio::test]
async fn a_fault_may_be_silence() {
    let world = World::documented().await;
    world.simulator.inject_fault(Fault::new(Effect::Silence).for_calls(1));
    let silent = world.send("GET", BALANCE, "").await;
    while world.simulator.call_log().accounts["main"].faulted == 0 {
        yield_now().await;
    }
    // Another call is answered meanwhile, so an answer to the first had the time to come.
    assert_eq!(world.get(BALANCE).await.text(), SPOT);
    let read = silent.try_read(&mut [0]);
    assert_eq!(read.unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_fault_may_be_a_reset() {
    let world = World::documented().await;
    world.simulator.inject_fault(Fault::new(Effect::Reset));
    let mut stream = world.send("GET", BALANCE, "").await;
    let read = stream.read_to_end(&mut Vec::new()).await;
    assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_fault_may_be_endless() {
    let world = World::documented().await;
    world.simulator.inject_fault(Fault::new(Effect::Endless));
    let mut stream = world.send("GET", BALANCE, "").await;
    let mut bytes = vec![0; 4 << 20];
    stream.read_exact(&mut bytes).await.unwrap();
    let answer = Answer::parse(&bytes);
    assert_eq!((answer.status, answer.header("content-length")), (200, None));
    assert!(
        String::from_utf8_lossy(&answer.body).contains(r#""c9999":{"freeze":"0.00","available":"1.00"}"#)
    );
}

#[tokio::test]
async fn a_fault_may_be_a_gzip_bomb() {
    let world = World::documented().await;
    let answer = world.under(Effect::GzipBomb { mebibytes: 5 }).await;
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert!(answer.body.len() < 20_000, "{} bytes on the wire", answer.body.len());
    let mut decoded = Vec::new();
    GzDecoder::new(answer.body.as_slice()).read_to_end(&mut decoded).unwrap();
    assert_eq!(decoded.len(), 5 << 20);
    assert!(decoded.iter().all(|&byte| byte == b' '));
}

#[tokio::test]
async fn a_fault_may_be_late_or_slow() {
    let bytes = u32::try_from(SPOT.len()).unwrap();
    for (effect, least) in [
        (Effect::Delay { ms: 3_000 }, Duration::from_secs(3)),
        (Effect::Slow { every_ms: 20 }, Duration::from_millis(20) * (bytes - 1)),
    ] {
        let world = World::documented().await;
        world.simulator.inject_fault(Fault::new(effect));
        let frozen = Frozen::new();
        let start = tokio::time::Instant::now();
        let mut stream = world.send("GET", BALANCE, "").await;
        while world.simulator.call_log().records.is_empty() {
            yield_now().await;
        }
        drop(frozen); // from here on, the clock leaps over every wait
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(Answer::parse(&bytes).text(), SPOT);
        assert!(start.elapsed() >= least);
        assert_eq!(world.simulator.call_log().accounts["main"].accepted, 1);
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_fault_may_cut_the_answer_short() {
    let answer = World::documented().await.under(Effect::CutShort).await;
    assert_eq!(answer.header("content-length"), Some(SPOT.len().to_string().as_str()));
    assert_eq!(answer.text(), &SPOT[..SPOT.len() / 2]);
}

#[tokio::test]
async fn a_fault_may_revoke_the_key() {
    let world = World::documented().await;
    let answer = world.under(Effect::Revoked).await;
    assert_eq!(answer.json(), json!({"code": 307, "info": "AccessKey error"}));
    assert_eq!(world.refused(RefusalCause::AccessKey), 1);
}

#[tokio::test]
async fn a_fault_may_change_the_rows() {
    let row = json!({"available": "NaN", "freeze": null});
    let odd = Effect::Row { currency: "eth".to_owned(), value: row.clone() };
    let world = World::documented().await;
    world.simulator.inject_fault(Fault::new(Effect::DropCurrency("usdt".to_owned())));
    let answer = world.under(odd).await.json();
    assert_eq!(answer["data"], json!({"1inch": {"freeze": "0", "available": "150"}, "eth": row}));
    let answer = world.under(Effect::EmptyData).await;
    assert_eq!(answer.text(), r#"{"code":200,"data":{},"info":"success"}"#);
}

#[tokio::test]
async fn a_fault_may_make_every_amount_zero() {
    let world = World::documented().await;
    let zeros = r#"{"code":200,"data":{"1inch":{"freeze":"0","available":"0"},"usdt":{"freeze":"0","available":"0"}},"info":"success"}"#;
    assert_eq!(world.under(Effect::Zeros).await.text(), zeros);
    let wallet = r#"{"code":200,"data":{"btc":{"freeze":"0","available":"0"}},"info":"success"}"#;
    assert_eq!(world.get(FUNDS_1).await.text(), wallet);
    world.simulator.clear_faults();
    assert_eq!(world.get(FUNDS_2).await.text(), SPOT);
}

#[tokio::test]
async fn a_fault_may_add_a_row_of_any_name() {
    let row = json!({"available": "7", "freeze": "1"});
    for name in strange_names() {
        let world = World::documented().await;
        let effect = json!({"row": {"currency": name, "value": row}});
        let fault = json!({"effect": effect}).to_string();
        assert_eq!(world.ask("POST", "/simulator/faults", &fault).await.status, 200, "{fault}");
        let data = world.get(BALANCE).await.json()["data"].clone();
        assert_eq!((data.as_object().unwrap().len(), &data[&name]), (3, &row), "{data}");
        assert_eq!(data["usdt"]["available"], "3867.43650012");
    }
}

/// Names that look like those of a currency, or like none.
fn strange_names() -> Vec<String> {
    let long = "x".repeat(70);
    ["", " usdt", "\u{200b}usdt", "usdt\u{feff}", "us\ndt", &long].map(str::to_owned).into()
}

#[tokio::test]
async fn a_fault_may_change_the_status_alone() {
    for status in [203, 500] {
        let world = World::documented().await;
        let answer = world.under(Effect::Restatus { status }).await;
        assert_eq!((answer.status, answer.text()), (status, SPOT));
        assert_eq!(answer.header("content-type"), Some("application/json;charset=utf-8"));
        assert_eq!(world.simulator.call_log().accounts["main"].accepted, 1);
        let refused = world.get("/trade/api/v1/getBalance?accesskey=myAccessKey").await;
        assert_eq!((refused.status, &refused.json()["code"]), (status, &json!(400)));
    }
}

const OTHERS_BALANCE: &str = "/trade/api/v1/getBalance?accesskey=otherAccessKey&nonce=1562919832183\
    &signature=12ac78631034fb9a727da17628bf7fbf714c6cff7b1d20e488abbbf5cd086949";
const START: &str = "fri, 12 jul 2019 08:23:52 gmt";

#[tokio::test]
async fn a_fault_may_be_a_cache_in_between() {
    let _frozen = Frozen::new();
    for (age, date_behind, sent_age, sent_date) in [
        (None, None, None, START),
        (Some(3_600), None, Some("3600"), START),
        (None, Some(0), None, "fri, 12 jul 2019 08:24:22 gmt"),
        (Some(90), Some(90), Some("90"), "fri, 12 jul 2019 08:22:52 gmt"),
    ] {
        let other = SimulatedAccount::new("other", "otherAccessKey", "mySecretKey").with_balance(
            SimulatedWallet::Spot,
            "eth",
            "9",
            "0",
        );
        let world = World::with(rules(), vec![account(), other]).await;
        assert_eq!(world.get(OTHERS_BALANCE).await.json()["data"]["eth"]["available"], "9");

        world.simulator.inject_fault(Fault::new(Effect::Cached { age, date_behind }));
        let first = world.get(BALANCE).await;
        assert_eq!((first.text(), first.header("age"), first.header("date")), (SPOT, None, Some(START)));

        world.simulator.set_balance("main", SimulatedWallet::Spot, "usdt", "1", "1").unwrap();
        tokio::time::advance(Duration::from_secs(30)).await;
        for target in [BALANCE, OTHERS_BALANCE] {
            let again = world.get(target).await;
            assert_eq!((again.status, again.text()), (200, SPOT));
            assert_eq!(again.header("content-type"), Some("application/json;charset=utf-8"));
            assert_eq!((again.header("age"), again.header("date")), (sent_age, Some(sent_date)));
        }
        let calls = world.simulator.call_log();
        assert_eq!((calls.accounts["main"].accepted, calls.accounts["main"].faulted), (1, 1));
        // Another endpoint has an answer of its own in the cache.
        assert_eq!(world.get(FUNDS_1).await.json()["data"]["btc"]["available"], "1.5");

        // A fault that is injected again begins with an empty cache.
        world.simulator.clear_faults();
        world.simulator.inject_fault(Fault::new(Effect::Cached { age, date_behind }));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(world.get(BALANCE).await.json()["data"]["usdt"]["available"], "1");
    }
}

#[tokio::test]
async fn a_fault_may_send_an_answer_once_more() {
    let _frozen = Frozen::new();
    let world = World::documented().await;
    world.simulator.inject_fault(Fault::new(Effect::Surplus { after_ms: 130 }).for_calls(1));
    let mut kept = Kept::new(&world).await;
    kept.ask(BALANCE).await;
    let first = kept.read().await;
    assert_eq!(first.text(), SPOT);

    // A call before the copy is due gets its own answer.
    world.simulator.set_balance("main", SimulatedWallet::Spot, "usdt", "1", "1").unwrap();
    kept.ask(BALANCE).await;
    assert_eq!(kept.read().await.json()["data"]["usdt"]["available"], "1");
    tokio::time::advance(Duration::from_millis(125)).await;
    world.get("/trade/api/v1/getServerTime").await;
    assert!(kept.is_quiet());

    tokio::time::advance(Duration::from_millis(6)).await; // timers are exact to a millisecond
    let copy = kept.read().await;
    assert_eq!((copy.status, copy.text()), (200, SPOT));
    for name in ["content-type", "content-length", "date"] {
        assert_eq!(copy.header(name), first.header(name), "{name}");
        assert!(copy.header(name).is_some(), "{name}");
    }
    // The connection still works.
    kept.ask(BALANCE).await;
    assert_eq!(kept.read().await.json()["data"]["usdt"]["available"], "1");
    assert_eq!(world.simulator.call_log().accounts["main"].accepted, 3);
}

#[tokio::test]
async fn a_client_that_closes_gets_no_answer_twice() {
    let world = World::documented().await;
    assert_eq!(world.under(Effect::Surplus { after_ms: 0 }).await.text(), SPOT);
}

#[tokio::test]
async fn a_fault_may_make_the_answered_time_wrong() {
    const TIME: &str = "/trade/api/v1/getServerTime";
    let _frozen = Frozen::new();
    let world = World::documented().await;
    let time = async || world.get(TIME).await.json()["data"]["serverTime"].as_i64().unwrap() - NONCE;
    for ahead_ms in [600_000, -600_000] {
        world.simulator.inject_fault(Fault::new(Effect::WrongTime { ahead_ms }).for_calls(1));
        // A balance does not use the fault up, and the nonce is still in the window.
        assert_eq!(world.get(BALANCE).await.text(), SPOT);
        let answer = world.get(TIME).await;
        assert_eq!(answer.json()["data"]["serverTime"], NONCE + ahead_ms);
        assert_eq!(answer.header("date"), Some(START));
        assert_eq!((time().await, world.simulator.server_time_ms()), (0, NONCE));
    }
}

#[tokio::test]
async fn the_date_follows_the_exchanges_clock() {
    let _frozen = Frozen::new();
    let world = World::documented().await;
    for path in [BALANCE, "/nothing", "/simulator/"] {
        assert_eq!(world.get(path).await.header("date"), Some(START), "{path}");
    }
    tokio::time::advance(Duration::from_secs(30)).await;
    let date = async || world.get(BALANCE).await.header("date").map(str::to_owned);
    assert_eq!(date().await.as_deref(), Some("fri, 12 jul 2019 08:24:22 gmt"));
    world.simulator.set_clock_offset_ms(-90_000);
    assert_eq!(date().await.as_deref(), Some("fri, 12 jul 2019 08:22:52 gmt"));
    world.simulator.inject_fault(Fault::new(Effect::Maintenance));
    assert_eq!(date().await.as_deref(), Some("fri, 12 jul 2019 08:22:52 gmt"));
}

#[tokio::test]
async fn people_can_set_the_clock() {
    let _frozen = Frozen::new();
    let world = World::documented().await;
    let set = world.ask("PUT", "/simulator/clock", r#"{"ahead_ms":3600000}"#).await;
    assert_eq!(set.status, 200);
    assert_golden("simulator_clock", set.text());
    let time = world.get("/trade/api/v1/getServerTime").await;
    assert_eq!(time.header("date"), Some("fri, 12 jul 2019 09:23:52 gmt"));
    assert_eq!(time.json()["data"]["serverTime"], NONCE + 3_600_000);
    assert_eq!(world.get(BALANCE).await.json()["code"], 400);
    assert_eq!(world.refused(RefusalCause::Nonce), 1);
    // The offset is one from the machine's clock, not from the last one that was set.
    assert_eq!(world.ask("PUT", "/simulator/clock", r#"{"ahead_ms":-60000}"#).await.status, 200);
    assert_eq!(world.simulator.server_time_ms(), NONCE - 60_000);
    assert_eq!(world.get(BALANCE).await.text(), SPOT);
    let mut said = Transcript::default();
    for body in ["", r#"{"ahead_ms":"1"}"#, r#"{"ahead_ms":1,"x":1}"#, r#"{"ahead_ms":-315360000001}"#] {
        let answer = world.ask("PUT", "/simulator/clock", body).await;
        assert_eq!(answer.status, 400, "{body}");
        said.add(body, answer.text());
    }
    said.assert("simulator_bad_clock");
    assert_eq!(world.simulator.server_time_ms(), NONCE - 60_000);
}

#[tokio::test]
async fn the_refusal_of_a_nonce_need_not_name_it() {
    for (nonce_refusal, code, info) in [
        (NonceRefusal::RequestError, 400, "Request error"),
        (NonceRefusal::OtherErrors, 404, "other errors"),
        (NonceRefusal::SignError, 308, "Sign error"),
    ] {
        let expected = json!({"code": code, "info": info});
        let rules = SimulatorConfig { nonce_refusal, strict_nonce: true, ..rules() };
        let world = World::new(rules, account()).await;
        assert_eq!(world.get(BALANCE).await.text(), SPOT);
        assert_eq!(world.get(FUNDS_1).await.json(), expected);
        world.simulator.set_clock_offset_ms(90_000);
        assert_eq!(world.get(BALANCE).await.json(), expected);
        assert_eq!((world.refused(RefusalCause::Replay), world.refused(RefusalCause::Nonce)), (1, 1));
        let world = World::new(SimulatorConfig { nonce_refusal, ..self::rules() }, account()).await;
        let short = "/trade/api/v1/getBalance?accesskey=myAccessKey&nonce=1";
        assert_eq!(world.get(short).await.json(), expected);
        // A nonce that is missing is no wrong nonce.
        let missing = world.get("/trade/api/v1/getBalance?accesskey=myAccessKey").await.json();
        assert_eq!(missing, json!({"code": 400, "info": "parameter nonce is missing"}));
    }
}

// The proxy that other tests put between the program and this exchange.

#[tokio::test]
async fn the_proxy_passes_the_date_on_and_adds_headers() {
    let _frozen = Frozen::new();
    let world = World::documented().await;
    let front = Front::new(world.address);
    let world = world.behind(&front);
    assert_eq!(world.get(BALANCE).await.header("date"), Some(START));
    let date = "Thu, 06 Jan 2022 05:17:17 GMT";
    front.set(Manner::AddHeaders(vec![("Age", "7".to_owned()), ("Date", date.to_owned())]));
    let answer = world.get(BALANCE).await;
    assert_eq!((answer.text(), answer.header("age")), (SPOT, Some("7")));
    assert_eq!(answer.head.matches("date: ").count(), 1);
    assert_eq!(answer.header("date"), Some(date.to_lowercase().as_str()));
    front.set(Manner::Relay);
    world.simulator.inject_fault(Fault::new(Effect::Cached { age: Some(9), date_behind: Some(60) }));
    world.get(FUNDS_1).await;
    let cached = world.get(FUNDS_1).await;
    assert_eq!(
        (cached.header("age"), cached.header("date")),
        (Some("9"), Some("fri, 12 jul 2019 08:22:52 gmt"))
    );
}

#[tokio::test]
async fn the_proxy_may_be_a_shared_cache() {
    let world = World::documented().await;
    let front = Front::new(world.address);
    let world = world.behind(&front);
    front.set(Manner::SharedCache);
    assert_eq!(world.get(BALANCE).await.text(), SPOT);
    world.simulator.set_balance("main", SimulatedWallet::Spot, "usdt", "1", "1").unwrap();
    assert_eq!(world.get(&format!("{BALANCE}0")).await.text(), SPOT);
    assert_eq!(world.get(FUNDS_1).await.json()["data"]["btc"]["available"], "1.5");
    assert_eq!(world.simulator.call_log().accounts["main"].total(), 2);
    front.set(Manner::Relay);
    assert_eq!(world.get(BALANCE).await.json()["data"]["usdt"]["available"], "1");
}

#[tokio::test]
async fn the_proxy_may_send_an_answer_once_more() {
    let world = World::documented().await;
    let front = Front::new(world.address);
    let world = world.behind(&front);
    let after = Duration::from_millis(50);
    front.set(Manner::Surplus(after));
    let start = std::time::Instant::now();
    let mut kept = Kept::new(&world).await;
    kept.ask(BALANCE).await;
    assert_eq!(kept.read().await.text(), SPOT);
    assert_eq!(kept.read().await.text(), SPOT);
    assert!(start.elapsed() >= after);
    assert_eq!(world.simulator.call_log().accounts["main"].accepted, 1);
    // A client that closes the connection gets one answer, and the end of the connection.
    assert_eq!(world.get(BALANCE).await.text(), SPOT);
    // A call for the time is passed on alone.
    kept.ask("/trade/api/v1/getServerTime").await;
    assert!(kept.read().await.text().contains("serverTime"));
    tokio::time::sleep(after * 2).await;
    assert!(kept.is_quiet());
}

#[tokio::test]
async fn faults_hit_only_what_they_name_and_play_in_order() {
    let world = World::documented().await;
    let simulator = &world.simulator;
    simulator.inject_fault(Fault::new(Effect::from_status(500)).for_account("other"));
    simulator.inject_fault(Fault::new(Effect::from_status(501)).for_endpoint(SimulatedEndpoint::GetFunds));
    simulator.inject_fault(Fault::new(Effect::from_status(502)).for_account("main").for_calls(1));
    simulator.inject_fault(
        Fault::new(Effect::Maintenance).for_endpoint(SimulatedEndpoint::GetBalance).for_calls(1),
    );
    assert_eq!(world.get("/trade/api/v1/getServerTime").await.status, 200);
    assert_eq!(world.get(BALANCE).await.status, 502);
    assert_eq!(world.get(BALANCE).await.status, 503);
    assert_eq!(world.get(FUNDS_1).await.status, 501);
    simulator.clear_faults();
    let _frozen = Frozen::new();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(world.get(FUNDS_1).await.status, 200);
}

#[tokio::test]
async fn a_fault_may_last_for_a_time() {
    let world = World::documented().await;
    let _frozen = Frozen::new();
    world.simulator.inject_fault(Fault::new(Effect::Maintenance).for_duration(Duration::from_secs(45)));
    tokio::time::advance(Duration::from_millis(44_999)).await;
    assert_eq!(world.get(BALANCE).await.status, 503);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(world.get(BALANCE).await.status, 200);
}

#[tokio::test]
async fn people_can_read_what_there_is() {
    let world = World::documented().await;
    for path in ["/simulator/", "/simulator"] {
        let help = world.get(path).await;
        assert_eq!((help.status, help.header("content-type")), (200, Some("text/plain; charset=utf-8")));
        for part in
            ["main", "myAccessKey", "mySecretKey", &format!("curl http://{}/simulator/state", world.address)]
        {
            assert!(help.text().contains(part), "{part} is not in {}", help.text());
        }
        assert!(!help.text().contains("{first}") && !help.text().contains("{base}"));
    }
    world.get(BALANCE).await;
    world.get("/trade/api/v1/getBalance?accesskey=myAccessKey&nonce=1562919832183").await;
    world.simulator.inject_fault(Fault::new(Effect::Silence).for_duration(Duration::from_mins(1)));
    let state = world.get("/simulator/state").await.json();
    let main = &state["accounts"]["main"];
    assert_eq!((&main["calls"]["accepted"], &main["calls"]["refused"]["signature"]), (&json!(1), &json!(1)));
    assert_eq!(main["balances"]["fiat"]["usd"]["available"], "20.00");
    assert_eq!(state["ips"]["127.0.0.1"]["accepted"], 1);
    assert_eq!(state["faults"][0]["fault"], json!({"effect": "silence", "seconds": 60.0}));
    assert!(!state.to_string().contains("mySecretKey"));
}

#[tokio::test]
async fn people_can_inject_and_end_faults() {
    let world = World::documented().await;
    let fault = r#"{"account":"main","endpoint":"getBalance","calls":9,"seconds":60,"effect":"maintenance"}"#;
    let injected = world.ask("POST", "/simulator/faults", fault).await;
    assert_eq!(injected.status, 200, "{}", injected.text());
    assert_eq!(world.get(BALANCE).await.status, 503);
    let ended = world.ask("DELETE", "/simulator/faults", "").await;
    assert_eq!(ended.status, 200);
    assert_golden("simulator_faults_ended", ended.text());
    assert_eq!(world.get(BALANCE).await.status, 200);
}

#[tokio::test]
async fn every_effect_has_the_spelling_of_the_help_page() {
    let world = World::documented().await;
    let help = world.get("/simulator/").await;
    let effects = help.text().split("Effects\n").nth(1).unwrap();
    let mut tried = 0;
    for line in effects.lines().map(str::trim_start).filter(|line| line.starts_with(['{', '"'])) {
        // An effect ends where its JSON does; words may follow.
        let effect = serde_json::Deserializer::from_str(line).into_iter::<Value>().next().unwrap().unwrap();
        let fault = json!({"calls": 1, "effect": effect}).to_string();
        let answer = world.ask("POST", "/simulator/faults", &fault).await;
        assert_eq!(answer.status, 200, "{fault}: {}", answer.text());
        tried += 1;
    }
    assert_eq!(tried, 23);
}

#[tokio::test]
async fn bad_faults_are_refused_with_a_sentence() {
    let mut said = Transcript::default();
    for fault in [
        "",
        r#"{"effect":"explode"}"#,
        r#"{"effect":"silence","minutes":1}"#,
        r#"{"effect":{"delay":{"ms":1,"s":2}}}"#,
        r#"{"effect":"silence","seconds":-1}"#,
        r#"{"effect":"silence","seconds":1e300}"#,
        r#"{"effect":"silence","account":"nobody"}"#,
        r#"{"effect":{"status":{"status":101}}}"#,
        r#"{"effect":{"status":{"status":301,"location":"a\nb"}}}"#,
        r#"{"effect":{"restatus":{"status":600}}}"#,
        r#"{"effect":{"cached":{"ages":1}}}"#,
        r#"{"effect":{"cached":{"age":-1}}}"#,
        r#"{"effect":{"surplus":{}}}"#,
        r#"{"effect":{"wrong_time":{}}}"#,
        r#"{"effect":{"deep":{"levels":10000001}}}"#,
        r#"{"effect":{"gzip_bomb":{"mebibytes":16385}}}"#,
    ] {
        let world = World::documented().await;
        let answer = world.ask("POST", "/simulator/faults", fault).await;
        assert_eq!(answer.status, 400, "{fault}");
        said.add(fault, answer.text());
        assert_eq!(world.get(BALANCE).await.text(), SPOT);
    }
    said.assert("simulator_bad_faults");
}

#[tokio::test]
async fn people_can_set_and_remove_balances() {
    let world = World::documented().await;
    let path = "/simulator/accounts/main/spot/gal%28ft%29";
    let set = world.ask("PUT", path, r#"{"available":"120.5","freeze":"0"}"#).await;
    assert_eq!(set.status, 200, "{}", set.text());
    assert_eq!(world.get(BALANCE).await.json()["data"]["gal(ft)"]["available"], "120.5");
    assert_eq!(world.ask("DELETE", path, "").await.status, 200);
    assert_eq!(world.get(BALANCE).await.text(), SPOT);
    assert_eq!(world.ask("DELETE", path, "").await.status, 404);
}

#[tokio::test]
async fn bad_balances_are_refused_with_a_sentence() {
    let world = World::documented().await;
    let good = r#"{"available":"1","freeze":"0"}"#;
    let mut said = Transcript::default();
    for (path, body, status) in [
        ("nobody/spot/usdt", good, 404),
        ("main/margin/usdt", good, 404),
        ("main/spot/", good, 404),
        ("main/spot/usdt", r#"{"available":"1"}"#, 400),
        ("main/spot/usdt", r#"{"available":1,"freeze":"0"}"#, 400),
        ("main/spot/usdt", r#"{"available":"1","freeze":"0","x":1}"#, 400),
        ("main/spot/usdt", r#"{"available":"-1","freeze":"0"}"#, 400),
        ("main/spot/usdt", r#"{"available":"1","freeze":"1."}"#, 400),
    ] {
        let answer = world.ask("PUT", &format!("/simulator/accounts/{path}"), body).await;
        assert_eq!(answer.status, status, "{path} {body}");
        said.add(&format!("{path} {body}"), answer.text());
    }
    said.assert("simulator_bad_balances");
    assert_eq!(world.get(BALANCE).await.text(), SPOT);
}

#[tokio::test]
async fn people_can_set_and_remove_prices() {
    let world = World::documented().await;
    let path = "/simulator/prices/gal%28ft%29_usdt";
    let set = world.ask("PUT", path, r#"{"price":"3.25"}"#).await;
    assert_eq!(set.status, 200, "{}", set.text());
    assert_eq!(world.get("/data/api/v1/getTickers").await.json()["gal(ft)_usdt"]["price"], json!(3.25));
    let v4 = world.get("/v4/public/ticker/price?symbol=gal%28ft%29_usdt").await.json();
    assert_eq!(v4["result"][0]["p"], "3.25");
    assert_eq!(world.get("/simulator/state").await.json()["prices"]["gal(ft)_usdt"], "3.25");
    assert_eq!(world.ask("DELETE", path, "").await.status, 200);
    assert_eq!(world.get("/data/api/v1/getTickers").await.json().get("gal(ft)_usdt"), None);
    let mut said = Transcript::default();
    for (method, path, body, status) in [
        ("DELETE", path, "", 404),
        ("PUT", path, r#"{"price":3.25}"#, 400),
        ("PUT", path, r#"{"price":"-1"}"#, 400),
        ("PUT", path, r#"{"price":"1","x":1}"#, 400),
        ("PUT", "/simulator/prices/", r#"{"price":"1"}"#, 404),
        ("GET", path, "", 405),
    ] {
        let answer = world.ask(method, path, body).await;
        assert_eq!(answer.status, status, "{method} {path} {body}");
        said.add(&format!("{method} {path} {body}"), answer.text());
    }
    said.assert("simulator_bad_prices");
}

#[tokio::test]
async fn the_control_pages_know_their_methods_and_cap() {
    let world = World::documented().await;
    for (method, path, status) in [
        ("POST", "/simulator/", 405),
        ("PUT", "/simulator/state", 405),
        ("GET", "/simulator/faults", 405),
        ("GET", "/simulator/clock", 405),
        ("GET", "/simulator/accounts/main/spot/usdt", 405),
        ("GET", "/simulator/nothing", 404),
    ] {
        assert_eq!(world.ask(method, path, "").await.status, status, "{method} {path}");
    }
    let padded = format!(r#"{{"effect":"silence"}}{}"#, " ".repeat(64 * 1024));
    let mut stream = world.send("POST", "/simulator/faults", &padded).await;
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await; // unread body: the close may be a reset
    assert_eq!(Answer::parse(&bytes).status, 413);
    let calls = world.simulator.call_log();
    assert!(calls.records.is_empty() && calls.unknown_requests == 0);
}

#[tokio::test]
async fn serving_ends_even_while_a_call_hangs() {
    let simulator = Simulator::new(rules(), vec![account()]);
    simulator.inject_fault(Fault::new(Effect::Silence));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let served = simulator.clone();
    let serving = tokio::spawn(async move { served.serve(listener, async { drop(stopped.await) }).await });
    let world = World { simulator, address };
    let mut silent = world.send("GET", BALANCE, "").await;
    while world.simulator.call_log().records.is_empty() {
        yield_now().await;
    }
    tokio::time::pause();
    stop.send(()).unwrap();
    serving.await.unwrap();
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn the_demo_world_is_served_like_any_other() {
    let accounts = market::create_accounts();
    let names: Vec<_> = accounts.iter().map(|account| account.name.as_str()).collect();
    assert_eq!(names, ["treasury", "market-maker", "arbitrage", "cold-storage", "grid-bot"]);
    for account in &accounts {
        let spot = &account.wallets[&SimulatedWallet::Spot];
        assert!(spot.len() >= 24, "{} lists {}", account.name, spot.len());
        assert!(account.access_key.starts_with("de300000-") && account.access_key.len() == 36);
        assert!(account.secret_key.starts_with("de300000") && account.secret_key.len() == 40);
        for (currency, balance) in spot {
            for amount in [&balance.available, &balance.freeze] {
                let (whole, part) = amount.split_once('.').unwrap();
                assert!((2..=8).contains(&part.len()), "{currency} {amount}");
                assert!(whole.parse::<u64>().is_ok() && part.parse::<u64>().is_ok(), "{currency} {amount}");
            }
        }
    }
}
