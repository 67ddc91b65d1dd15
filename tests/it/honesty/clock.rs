//! A wrong or changed clock of an exchange's host refuses no poll and gives no wrong skew.

use std::time::Duration;

use super::{WALLETS_BY_API, exchange, exchange_with, wallet_poller};
use crate::common::{
    Exchange,
    in_process::{TestPoller, advance_clock, to_millis},
    sample,
};
use tokio::task::JoinSet;
use xt_balance_exporter::{
    clock::{Timestamp, UnixTime},
    exchange::ApiVersion,
    simulator::{Effect, Fault, NonceRefusal, RefusalCause, SimulatedEndpoint, SimulatorConfig},
};

/// Makes the same proof for every way in which a nonce is refused, and every version of the API. A proof holds the
/// exchange to its end.
async fn for_every_refusal<F>(proof: impl Fn(Exchange, TestPoller, ApiVersion) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let refusals =
        [NonceRefusal::Named, NonceRefusal::RequestError, NonceRefusal::OtherErrors, NonceRefusal::SignError];
    let mut proofs = JoinSet::new();
    for nonce_refusal in refusals {
        for (api, wallet) in WALLETS_BY_API {
            let exchange = exchange_with(SimulatorConfig { nonce_refusal, ..SimulatorConfig::default() });
            let poller = wallet_poller(api, wallet, &exchange.url());
            proofs.spawn(proof(exchange, poller, api));
        }
    }
    while let Some(proof) = proofs.join_next().await {
        proof.unwrap();
    }
}

#[tokio::test]
async fn one_wrong_reading_of_the_exchanges_time_refuses_no_poll() {
    for_every_refusal(|exchange: Exchange, mut poller: TestPoller, _| async move {
        let exchange = exchange;
        exchange.simulator.inject_fault(Fault::new(Effect::WrongTime { ahead_ms: 600_000 }).for_calls(1));
        for _ in 0..3 {
            assert!(poller.poll().await, "{:?}", poller.failure());
        }
    })
    .await;
}

#[tokio::test]
async fn a_wrong_server_time_is_corrected_in_the_poll_that_it_caused_to_fail() {
    for_every_refusal(|exchange: Exchange, mut poller: TestPoller, _| async move {
        let exchange = exchange;
        exchange.simulator.inject_fault(Fault::new(Effect::WrongTime { ahead_ms: 600_000 }).for_calls(2));
        assert!(poller.poll().await, "{:?}", poller.failure());
    })
    .await;
}

#[tokio::test]
async fn a_step_of_the_exchanges_clock_is_followed_in_the_poll_that_meets_it() {
    for_every_refusal(|exchange: Exchange, mut poller: TestPoller, _| async move {
        let exchange = exchange;
        assert!(poller.poll().await);
        exchange.simulator.set_clock_offset_ms(3_600_000);
        assert!(poller.poll().await, "{:?}", poller.failure());
    })
    .await;
    for_every_refusal(|exchange: Exchange, mut poller: TestPoller, api| async move {
        let exchange = exchange;
        // To v1 nonces by a clock that was set back are old ones: there only time helps.
        if api == ApiVersion::V4 {
            assert!(poller.poll().await);
            exchange.simulator.set_clock_offset_ms(-3_600_000);
            assert!(poller.poll().await, "{:?}", poller.failure());
        }
    })
    .await;
}

#[tokio::test]
async fn refusals_have_the_clock_read_again_once_in_a_while_and_not_each_time() {
    let exchange = exchange();
    let body = Effect::Body(r#"{"code":400,"info":"Request error"}"#.to_owned());
    exchange.simulator.inject_fault(Fault::new(body).for_endpoint(SimulatedEndpoint::GetBalance));
    let mut poller = TestPoller::new(&[&exchange.url()]);
    let readings = |exchange: &Exchange| {
        let arrivals = exchange.simulator.call_log().records;
        arrivals.iter().filter(|call| call.endpoint == SimulatedEndpoint::GetServerTime).count()
    };
    for _ in 0..4 {
        assert!(!poller.poll().await);
    }
    assert_eq!(readings(&exchange), 2, "the first, and one for the refusals");
    advance_clock(Duration::from_secs(31)).await;
    exchange.simulator.set_clock_offset_ms(to_millis(Duration::from_secs(31)));
    assert!(!poller.poll().await);
    assert_eq!(readings(&exchange), 3);
}

#[tokio::test]
async fn hosts_with_different_clocks_have_independent_nonces() {
    let ahead = exchange_with(SimulatorConfig { clock_offset_ms: 90_000, ..SimulatorConfig::default() });
    let right = exchange();
    let mut poller = TestPoller::new(&[&ahead.url(), &right.url()]);
    for down in [Some(&ahead), None, Some(&right), Some(&ahead), Some(&right)] {
        if let Some(down) = down {
            // It tells the time, and takes the nonce with it.
            down.simulator.inject_fault(
                Fault::new(Effect::Maintenance).for_endpoint(SimulatedEndpoint::GetBalance).for_calls(1),
            );
        }
        assert!(poller.poll().await, "{:?}", poller.failure());
    }
    for exchange in [&ahead, &right] {
        let calls = &exchange.simulator.call_log().accounts["main"];
        assert!(calls.accepted > 0);
        assert_eq!(
            (calls.count_refused(RefusalCause::Nonce), calls.count_refused(RefusalCause::Replay)),
            (0, 0)
        );
    }
}

#[tokio::test]
async fn the_skew_is_computed_at_the_scrape_for_hosts_in_use() {
    let (first, spare) = (
        exchange(),
        exchange_with(SimulatorConfig { clock_offset_ms: 30_000, ..SimulatorConfig::default() }),
    );
    let skew = |text: &str, exchange: &Exchange| {
        sample(text, &format!("xt_clock_skew_seconds{{host=\"{}\"}}", exchange.address))
    };
    let mut poller = TestPoller::new(&[&first.url(), &spare.url()]);
    assert!(poller.poll().await);
    let now = poller.clock.now();
    for set in [0.0, 3_600.0, -800_000_000.0] {
        let unix = Duration::from_secs_f64(now.unix.as_secs_f64() + set);
        let unix = UnixTime::EPOCH + unix;
        let text = poller.text_at(Timestamp { unix, ..now });
        let shown = skew(&text, &first).unwrap();
        // Half a round trip is what a reading may be off by, and no round trip takes this long.
        assert!((shown + set).abs() < 5.0, "{shown} after the clock was set by {set}");
    }

    first.simulator.inject_fault(Fault::new(Effect::Maintenance).for_calls(1));
    assert!(poller.poll().await);
    let text = poller.text();
    assert!(
        skew(&text, &first).is_some() && skew(&text, &spare).is_some_and(|shown| (shown - 30.0).abs() < 5.0)
    );

    // The first is asked again after ten minutes, and the spare no more.
    let time = Duration::from_mins(11);
    advance_clock(time).await;
    first.simulator.set_clock_offset_ms(to_millis(time));
    spare.simulator.set_clock_offset_ms(to_millis(time) + 30_000);
    assert_eq!(skew(&poller.text(), &first), None, "nor is the first, yet");
    assert!(poller.poll().await, "{:?}", poller.failure());
    let text = poller.text();
    assert!(skew(&text, &first).is_some());
    assert_eq!(skew(&text, &spare), None);
}
