//! The program follows the clock of the exchange, and works without it.

use super::{LAST_GOOD_USDT, body, clock_calls, main_account};
use crate::common::{
    Exchange,
    in_process::{FREE, TestPoller},
};
use xt_balance_exporter::simulator::{Effect, Fault, SimulatedEndpoint, SimulatorConfig};

#[tokio::test]
async fn a_machine_whose_clock_is_off_polls_without_a_failure() {
    for offset in [90, -90] {
        let exchange = Exchange::new(
            SimulatorConfig { clock_offset_ms: offset * 1_000, ..SimulatorConfig::default() },
            vec![main_account()],
        );
        let mut poller = TestPoller::new(&[&exchange.url()]);
        assert!(poller.poll().await, "{:?}", poller.failure());
        assert!(poller.poll().await, "{:?}", poller.failure());
        // A clock so far from ours is read twice before it is believed.
        assert_eq!((poller.failures(), clock_calls(&exchange)), (vec![], 2));
        let series = format!("xt_clock_skew_seconds{{host=\"{}\"}}", exchange.address);
        let skew = poller.sample(&series).unwrap();
        // Half a round trip is what the reading may be off by, and no round trip takes this long.
        assert!((skew - f64::from(i32::try_from(offset).unwrap())).abs() < 5.0, "{skew}");
    }
}

#[tokio::test]
async fn after_a_refused_nonce_the_clock_is_read_again_before_the_next_call() {
    let exchange = Exchange::documented();
    let mut poller = TestPoller::new(&[&exchange.url()]);
    assert!(poller.poll().await, "{:?}", poller.failure());
    assert_eq!(clock_calls(&exchange), 1);
    let nonce = body(r#"{"code":400,"info":"nonce is outside the window"}"#);
    exchange.simulator.inject_fault(Fault::new(nonce).for_calls(1));
    assert!(!poller.poll().await);
    assert!(poller.poll().await, "{:?}", poller.failure());
    assert_eq!((clock_calls(&exchange), poller.failures()), (2, vec![("clock", 1.0)]));
}

#[tokio::test]
async fn without_the_exchanges_time_this_machines_clock_is_used() {
    let exchange = Exchange::documented();
    exchange
        .simulator
        .inject_fault(Fault::new(Effect::from_status(404)).for_endpoint(SimulatedEndpoint::GetServerTime));
    let mut poller = TestPoller::new(&[&exchange.url()]);
    assert!(poller.poll().await, "{:?}", poller.failure());
    assert_eq!((poller.sample(FREE), poller.failures()), (LAST_GOOD_USDT, vec![]));
    assert!(!poller.text().contains("xt_clock_skew_seconds"));
}
