//! The closed set of reasons, each brought about for real and told apart: what is counted, what is
//! shown of the balances until they are too old, and what a person reads.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::common::in_process::{FREE, Frozen, MAX_AGE, POLLS, UP, Watched, failures, leap};
use crate::common::proxy::{Front, Manner, http};
use crate::common::{Exchange, sample};
use serde_json::json;
use tokio::{
    net::TcpSocket,
    sync::oneshot,
    task::{JoinHandle, JoinSet, yield_now},
};
use xt_balance_exporter::simulator::{Effect, Fault, SimulatedEndpoint, SimulatedWallet, Simulator};

const PATH: &str = "/trade/api/v1/getBalance";

/// What of the exposition is known only as long as the balances are.
const ANSWER_FAMILIES: [&str; 4] =
    ["xt_balance_free{", "xt_balance_frozen{", "xt_currencies{", "xt_watch_present{"];

/// A fault, and what is to be made of it.
struct Case {
    fault: Trouble,
    reason: &'static str,
    /// The sentence, after host and path.
    says: &'static str,
}

/// A way to bring a fault about between two good polls.
enum Trouble {
    /// The simulated exchange does it.
    Exchange(Effect),
    /// Something in front of it answers this.
    Front(Vec<u8>),
}

fn case(effect: Effect, reason: &'static str, says: &'static str) -> Case {
    Case { fault: Trouble::Exchange(effect), reason, says }
}

fn in_front(answer: Vec<u8>, reason: &'static str, says: &'static str) -> Case {
    Case { fault: Trouble::Front(answer), reason, says }
}

fn body(text: &str) -> Effect {
    Effect::Body(text.to_owned())
}

fn code(code: i64, info: &str) -> Effect {
    Effect::Code { code, info: Some(info.to_owned()), msg: None, msg_info: None }
}

fn page(status: u16) -> Effect {
    let body = "<html><body>Sorry</body></html>".to_owned();
    Effect::Status { status, body, content_type: None, retry_after: None, location: None }
}

#[rustfmt::skip] // a row a case
fn cases() -> Vec<Case> {
    let price = Effect::Code {
        code: 500,
        info: None,
        msg: Some("price scale error".to_owned()),
        msg_info: Some(json!({"template": "price scale error", "args": null, "code": null})),
    };
    vec![
        case(Effect::Reset, "connect", "the connection broke before an answer came: connection error: Connection reset by peer (os error 104)"),
        in_front(Vec::new(), "connect", "the connection broke before an answer came: connection closed before message completed"),
        in_front(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "connect", "the connection broke before an answer came: invalid HTTP version parsed"),
        case(Effect::CutShort, "body", "the body was cut short: error reading a body from connection: end of file before message length reached"),
        case(Effect::Endless, "body", "the body is over 8 MiB"),
        case(Effect::GzipBomb { mebibytes: 1_024 }, "body", "the body is over 8 MiB"),
        in_front(http(200, &[("Content-Encoding", "gzip")], b"{\"code\":200}"), "body", "the body was cut short: Invalid gzip header"),
        case(Effect::Deep { levels: 100_000 }, "decode", "`data` is not an object of currencies"),
        case(page(200), "decode", "HTTP 200, not the documented JSON: <html><body>Sorry</body></html>"),
        case(page(403), "http", "HTTP 403, not the documented JSON: <html><body>Sorry</body></html>"),
        case(page(500), "unavailable", "HTTP 500, not the documented JSON: <html><body>Sorry</body></html>"),
        case(page(503), "unavailable", "HTTP 503, not the documented JSON: <html><body>Sorry</body></html>"),
        case(code(404, "系统维护中"), "unavailable", "the exchange answered code 404: 系统维护中"),
        case(body(""), "decode", "HTTP 200, an empty body"),
        case(body("null"), "decode", "HTTP 200, not the documented JSON: null"),
        case(code(307, "AccessKey error"), "auth", "the exchange answered code 307: AccessKey error"),
        case(code(404, "请检查accesskey是否有效"), "auth", "the exchange answered code 404: 请检查accesskey是否有效"),
        case(code(308, "Sign error"), "signature", "the exchange answered code 308: Sign error"),
        case(body(r#"{"code":"308","info":"Sign error"}"#), "signature", "the exchange answered code 308: Sign error"),
        case(code(400, "request error, check parameters"), "api", "the exchange answered code 400: request error, check parameters"),
        case(price, "api", "the exchange answered code 500: price scale error"),
        case(body(r#"{"code":404}"#), "api", "the exchange answered code 404, without a text"),
        case(code(400, "nonce 1 is outside the window"), "clock", "the exchange answered code 400: nonce 1 is outside the window"),
        case(body(r#"{"code":"200","data":{"usdt":{"available":"1","freeze":"0"}}}"#), "decode", "`code` is the text \"200\", not the number 200"),
        case(body(r#"{"code":200,"data":null}"#), "decode", "`code` is 200 and there is no `data`"),
        case(body(r#"{"code":200,"info":"success"}"#), "decode", "`code` is 200 and there is no `data`"),
        case(body(r#"{"code":200,"data":[{"usdt":"1"}]}"#), "decode", "`data` is not an object of currencies"),
        case(body(r#"{"code":200,"data":{"usdt":{"available":"NaN","freeze":"0"},"btc":null}}"#), "decode", "none of the 2 rows has usable amounts"),
        in_front(http(200, &[], b"{\"code\":200,\"data\":{\"us\xff\":{}}}"), "decode", "HTTP 200, not the documented JSON: {\"code\":200,\"data\":{\"us\u{fffd}\":{}}}"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reason_is_told_apart_while_the_last_good_values_are_held_until_max_age() {
    let mut proofs: JoinSet<()> = cases().into_iter().map(prove).collect();
    while let Some(proof) = proofs.join_next().await {
        proof.unwrap();
    }
}

async fn prove(case: Case) {
    let exchange = Exchange::documented();
    let front = Front::new(exchange.address);
    let url = if let Trouble::Front(_) = case.fault { front.url() } else { exchange.url() };
    let mut watched = Watched::new(&[&url]);
    assert!(watched.poll().await, "{:?}", watched.failure());
    assert_good(&watched, 3_867.436_500_12, &[]);

    match case.fault {
        Trouble::Exchange(effect) => {
            exchange.simulator.inject_fault(Fault::new(effect).for_endpoint(SimulatedEndpoint::GetBalance));
        }
        Trouble::Front(answer) => front.set(Manner::Answer(Arc::new(move |_| answer.clone()))),
    }
    exchange.simulator.set_balance("main", SimulatedWallet::Spot, "usdt", "12.50", "0").unwrap();
    assert!(!watched.poll().await, "no failure: {}", case.says);
    assert_failed(&watched, case.reason, &format!("{url}{PATH}: {}", case.says));

    exchange.simulator.clear_faults();
    front.set(Manner::Relay);
    assert!(watched.poll().await, "{:?}", watched.failure());
    assert_good(&watched, 12.5, &[(case.reason, 1.0)]);
}

/// The last poll was good and brought `usdt`; before it, polls had failed for these reasons.
#[track_caller]
fn assert_good(watched: &Watched, usdt: f64, failed: &[(&str, f64)]) {
    let text = watched.text();
    assert_eq!((sample(&text, UP), sample(&text, FREE)), (Some(1.0), Some(usdt)));
    assert_eq!(failures(&text), failed);
}

/// The second poll has failed, for this reason and with this text; the balances of the first are
/// held until they are too old.
#[track_caller]
fn assert_failed(watched: &Watched, reason: &'static str, says: &str) {
    let failure = watched.failure().unwrap();
    assert_eq!((failure.reason.label(), &*failure.text), (reason, says));
    let good = watched.good_at();
    for (age, held) in [
        (Duration::ZERO, true),
        (MAX_AGE.saturating_sub(Duration::from_nanos(1)), true),
        (MAX_AGE, false),
        (MAX_AGE * 1_000, false),
    ] {
        let text = watched.text_at(good.later(age));
        assert_eq!((sample(&text, UP), sample(&text, POLLS)), (Some(0.0), Some(2.0)), "{says}");
        assert_eq!(failures(&text), [(reason, 1.0)], "{says}");
        assert_eq!(sample(&text, FREE), held.then_some(3_867.436_500_12), "{says} after {age:?}");
        for family in ANSWER_FAMILIES {
            assert_eq!(text.contains(&format!("\n{family}")), held, "{says} after {age:?}: {family}");
        }
        let threshold = FREE.replace("_free{", "_free_threshold{");
        assert_eq!(sample(&text, &threshold), Some(500.0), "a threshold never goes");
    }
}

/// A call that is never answered in whole, under a clock that moves only when told to.
async fn prove_timeout(effect: Effect) {
    let exchange = Exchange::documented();
    let mut watched = Watched::new(&[&exchange.url()]);
    assert!(watched.poll().await, "{:?}", watched.failure());
    leap(Duration::from_secs(2)).await;
    let _frozen = Frozen::new();
    exchange.simulator.inject_fault(Fault::new(effect).for_endpoint(SimulatedEndpoint::GetBalance));
    let before = exchange.simulator.call_log().accounts["main"].total();
    {
        let poll = watched.poll();
        tokio::pin!(poll);
        while exchange.simulator.call_log().accounts["main"].total() == before {
            tokio::select! { biased; _ = &mut poll => panic!("it has ended"), () = yield_now() => {} }
        }
        tokio::time::advance(Duration::from_secs(9)).await;
        tokio::select! { biased; _ = &mut poll => panic!("it has ended early"), () = yield_now() => {} }
        // One millisecond more, the resolution of the timer.
        tokio::time::advance(Duration::from_millis(1_001)).await;
        assert!(!poll.await);
    }
    assert_failed(&watched, "timeout", &format!("{}{PATH}: no whole answer within 10s", exchange.url()));
    exchange.simulator.clear_faults();
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(watched.poll().await, "{:?}", watched.failure());
    assert_good(&watched, 3_867.436_500_12, &[("timeout", 1.0)]);
}

#[tokio::test]
async fn silence_is_a_timeout() {
    prove_timeout(Effect::Silence).await;
}

#[tokio::test]
async fn one_byte_every_half_second_is_a_timeout() {
    prove_timeout(Effect::Slow { every_ms: 500 }).await;
}

#[tokio::test]
async fn a_refused_connection_is_told_apart() {
    let exchange = Exchange::documented();
    let socket = |address: SocketAddr| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseport(true).unwrap();
        socket.bind(address).unwrap();
        socket
    };
    // Keeps the port from others while nobody listens there.
    let keeper = socket(SocketAddr::from(([127, 0, 0, 1], 0)));
    let address = keeper.local_addr().unwrap();
    let serve = |simulator: Simulator| -> (oneshot::Sender<()>, JoinHandle<()>) {
        let (stop, stopped) = oneshot::channel::<()>();
        let listener = socket(address).listen(16).unwrap();
        (stop, tokio::spawn(async move { simulator.serve(listener, async { drop(stopped.await) }).await }))
    };
    let url = format!("http://{address}");
    let mut watched = Watched::new(&[&url]);

    let (stop, served) = serve(exchange.simulator.clone());
    assert!(watched.poll().await, "{:?}", watched.failure());
    drop(stop);
    served.await.unwrap();
    assert!(!watched.poll().await);
    let says = "no connection: tcp connect error: Connection refused (os error 111)";
    assert_failed(&watched, "connect", &format!("{url}{PATH}: {says}"));
    let (_stop, _served) = serve(exchange.simulator.clone());
    assert!(watched.poll().await, "{:?}", watched.failure());
    assert_good(&watched, 3_867.436_500_12, &[("connect", 1.0)]);
}

#[tokio::test]
async fn a_name_that_cannot_be_resolved_is_told_apart() {
    let mut watched = Watched::new(&["https://nowhere.invalid"]);
    assert!(!watched.poll().await);
    let failure = watched.failure().unwrap();
    let says = "https://nowhere.invalid/trade/api/v1/getServerTime: the host's name could not be resolved: ";
    assert!(failure.text.starts_with(says), "{failure}");
    let text = watched.text();
    assert_eq!(failures(&text), [("dns", 1.0)]);
    assert_eq!((sample(&text, UP), sample(&text, FREE)), (Some(0.0), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_never_followed() {
    for status in [301, 302, 303, 307, 308] {
        let exchange = Exchange::documented();
        let elsewhere = Front::decoy();
        let location = format!("{}{PATH}", elsewhere.url());
        let mut watched = Watched::new(&[&exchange.url()]);
        assert!(watched.poll().await, "{:?}", watched.failure());
        let redirect = Effect::Status {
            status,
            body: String::new(),
            content_type: None,
            retry_after: None,
            location: Some(location),
        };
        exchange.simulator.inject_fault(Fault::new(redirect));
        assert!(!watched.poll().await);
        let says = format!("{}{PATH}: HTTP {status}: redirects are not followed", exchange.url());
        assert_failed(&watched, "http", &says);
        assert_eq!(elsewhere.connections(), 0);
    }
}
