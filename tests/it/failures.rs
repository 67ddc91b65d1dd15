//! The closed set of reasons, each brought about for real and told apart: what is counted, what is
//! shown of the balances until they are too old, and what a person reads.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::common::golden::assert_golden;
use crate::common::in_process::{FREE, FrozenClock, MAX_AGE, POLLS, TestPoller, UP, advance_clock, failures};
use crate::common::proxy::{Proxy, ProxyMode, http_response};
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
    fault: ExchangeFault,
    reason: &'static str,
}

/// A way to bring a fault about between two good polls.
enum ExchangeFault {
    /// The simulated exchange does it.
    Exchange(Effect),
    /// Something in front of it answers this.
    ProxyReply(Vec<u8>),
}

fn case(effect: Effect, reason: &'static str) -> Case {
    Case { fault: ExchangeFault::Exchange(effect), reason }
}

fn proxy_case(answer: Vec<u8>, reason: &'static str) -> Case {
    Case { fault: ExchangeFault::ProxyReply(answer), reason }
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
        case(Effect::Reset, "connect"),
        proxy_case(Vec::new(), "connect"),
        proxy_case(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "connect"),
        case(Effect::CutShort, "body"),
        case(Effect::Endless, "body"),
        case(Effect::GzipBomb { mebibytes: 1_024 }, "body"),
        proxy_case(http_response(200, &[("Content-Encoding", "gzip")], b"{\"code\":200}"), "body"),
        case(Effect::Deep { levels: 100_000 }, "decode"),
        case(page(200), "decode"),
        case(page(403), "http"),
        case(page(500), "unavailable"),
        case(page(503), "unavailable"),
        case(code(404, "系统维护中"), "unavailable"),
        case(body(""), "decode"),
        case(body("null"), "decode"),
        case(code(307, "AccessKey error"), "auth"),
        case(code(404, "请检查accesskey是否有效"), "auth"),
        case(code(308, "Sign error"), "signature"),
        case(body(r#"{"code":"308","info":"Sign error"}"#), "signature"),
        case(code(400, "request error, check parameters"), "api"),
        case(price, "api"),
        case(body(r#"{"code":404}"#), "api"),
        case(code(400, "nonce 1 is outside the window"), "clock"),
        case(body(r#"{"code":"200","data":{"usdt":{"available":"1","freeze":"0"}}}"#), "decode"),
        case(body(r#"{"code":200,"data":null}"#), "decode"),
        case(body(r#"{"code":200,"info":"success"}"#), "decode"),
        case(body(r#"{"code":200,"data":[{"usdt":"1"}]}"#), "decode"),
        case(body(r#"{"code":200,"data":{"usdt":{"available":"NaN","freeze":"0"},"btc":null}}"#), "decode"),
        proxy_case(http_response(200, &[], b"{\"code\":200,\"data\":{\"us\xff\":{}}}"), "decode"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_has_its_reason_and_the_last_good_balances_are_held() {
    let cases = cases();
    let mut texts = vec![String::new(); cases.len()];
    let run = |(row, case): (usize, Case)| async move { (row, run_case(case).await) };
    let mut runs: JoinSet<(usize, String)> = cases.into_iter().enumerate().map(run).collect();
    while let Some(run) = runs.join_next().await {
        let (row, text) = run.unwrap();
        texts[row] = text;
    }
    assert_golden("failures", &texts.join("\n"));
}

/// Returns the reason and the text after host and path.
async fn run_case(case: Case) -> String {
    let exchange = Exchange::documented();
    let proxy = Proxy::new(exchange.address);
    let url = if let ExchangeFault::ProxyReply(_) = case.fault { proxy.url() } else { exchange.url() };
    let mut poller = TestPoller::new(&[&url]);
    assert!(poller.poll().await, "{:?}", poller.failure());
    assert_good(&poller, 3_867.436_500_12, &[]);

    match case.fault {
        ExchangeFault::Exchange(effect) => {
            exchange.simulator.inject_fault(Fault::new(effect).for_endpoint(SimulatedEndpoint::GetBalance));
        }
        ExchangeFault::ProxyReply(answer) => {
            proxy.set_mode(ProxyMode::Respond(Arc::new(move |_| answer.clone())));
        }
    }
    exchange.simulator.set_balance("main", SimulatedWallet::Spot, "usdt", "12.50", "0").unwrap();
    assert!(!poller.poll().await, "no failure: {}", case.reason);
    let text = assert_failed(&poller, case.reason, &format!("{url}{PATH}: "));

    exchange.simulator.clear_faults();
    proxy.set_mode(ProxyMode::Relay);
    assert!(poller.poll().await, "{:?}", poller.failure());
    assert_good(&poller, 12.5, &[(case.reason, 1.0)]);
    text
}

/// The last poll was good and brought `usdt`; before it, polls had failed for these reasons.
#[track_caller]
fn assert_good(poller: &TestPoller, usdt: f64, failed: &[(&str, f64)]) {
    let text = poller.text();
    assert_eq!((sample(&text, UP), sample(&text, FREE)), (Some(1.0), Some(usdt)));
    assert_eq!(failures(&text), failed);
}

/// The second poll has failed, for this reason and at this place; the balances of the first are held
/// until they are too old. Returns the reason and what else is said.
#[track_caller]
fn assert_failed(poller: &TestPoller, reason: &'static str, place: &str) -> String {
    let failure = poller.failure().unwrap();
    assert_eq!(failure.reason.label(), reason, "{failure}");
    let error_text = failure.text.strip_prefix(place).unwrap_or_else(|| panic!("{failure}"));
    let good = poller.good_at();
    for (age, held) in [
        (Duration::ZERO, true),
        (MAX_AGE.saturating_sub(Duration::from_nanos(1)), true),
        (MAX_AGE, false),
        (MAX_AGE * 1_000, false),
    ] {
        let text = poller.text_at(good.later(age));
        assert_eq!((sample(&text, UP), sample(&text, POLLS)), (Some(0.0), Some(2.0)), "{error_text}");
        assert_eq!(failures(&text), [(reason, 1.0)], "{error_text}");
        assert_eq!(sample(&text, FREE), held.then_some(3_867.436_500_12), "{error_text} after {age:?}");
        for family in ANSWER_FAMILIES {
            assert_eq!(text.contains(&format!("\n{family}")), held, "{error_text} after {age:?}: {family}");
        }
        let threshold = FREE.replace("_free{", "_free_threshold{");
        assert_eq!(sample(&text, &threshold), Some(500.0), "a threshold never goes");
    }
    format!("{reason}: {error_text}")
}

/// A call that is never answered in whole, under a clock that moves only when told to.
async fn run_timeout_case(effect: Effect) {
    let exchange = Exchange::documented();
    let mut poller = TestPoller::new(&[&exchange.url()]);
    assert!(poller.poll().await, "{:?}", poller.failure());
    advance_clock(Duration::from_secs(2)).await;
    let _frozen = FrozenClock::new();
    exchange.simulator.inject_fault(Fault::new(effect).for_endpoint(SimulatedEndpoint::GetBalance));
    let before = exchange.simulator.call_log().accounts["main"].total();
    {
        let poll = poller.poll();
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
    let text = assert_failed(&poller, "timeout", &format!("{}{PATH}: ", exchange.url()));
    assert_golden("failure_timeout", &text);
    exchange.simulator.clear_faults();
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(poller.poll().await, "{:?}", poller.failure());
    assert_good(&poller, 3_867.436_500_12, &[("timeout", 1.0)]);
}

#[tokio::test]
async fn silence_is_a_timeout() {
    run_timeout_case(Effect::Silence).await;
}

#[tokio::test]
async fn one_byte_every_half_second_is_a_timeout() {
    run_timeout_case(Effect::Slow { every_ms: 500 }).await;
}

#[tokio::test]
async fn a_refused_connection_has_the_reason_connect() {
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
    let mut poller = TestPoller::new(&[&url]);

    let (stop, served) = serve(exchange.simulator.clone());
    assert!(poller.poll().await, "{:?}", poller.failure());
    drop(stop);
    served.await.unwrap();
    assert!(!poller.poll().await);
    assert_golden("failure_refused", &assert_failed(&poller, "connect", &format!("{url}{PATH}: ")));
    let (_stop, _served) = serve(exchange.simulator.clone());
    assert!(poller.poll().await, "{:?}", poller.failure());
    assert_good(&poller, 3_867.436_500_12, &[("connect", 1.0)]);
}

#[tokio::test]
async fn a_name_that_cannot_be_resolved_has_the_reason_dns() {
    let mut poller = TestPoller::new(&["https://nowhere.invalid"]);
    assert!(!poller.poll().await);
    let failure = poller.failure().unwrap();
    assert!(failure.text.starts_with("https://nowhere.invalid/trade/api/v1/getServerTime: "), "{failure}");
    let text = poller.text();
    assert_eq!(failures(&text), [("dns", 1.0)]);
    assert_eq!((sample(&text, UP), sample(&text, FREE)), (Some(0.0), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_never_followed() {
    for status in [301, 302, 303, 307, 308] {
        let exchange = Exchange::documented();
        let elsewhere = Proxy::decoy();
        let location = format!("{}{PATH}", elsewhere.url());
        let mut poller = TestPoller::new(&[&exchange.url()]);
        assert!(poller.poll().await, "{:?}", poller.failure());
        let redirect = Effect::Status {
            status,
            body: String::new(),
            content_type: None,
            retry_after: None,
            location: Some(location),
        };
        exchange.simulator.inject_fault(Fault::new(redirect));
        assert!(!poller.poll().await);
        let text = assert_failed(&poller, "http", &format!("{}{PATH}: HTTP {status}", exchange.url()));
        assert_golden("failure_redirect", &text);
        assert_eq!(elsewhere.connections(), 0);
    }
}
