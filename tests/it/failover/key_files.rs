//! Which key pair is used when the key files change, and how often a refused key is sent.

use std::{sync::Arc, time::Duration};

use super::{LAST_GOOD_USDT, asset_calls, two_keys};
use crate::common::{
    ACCESS_KEY, Exchange, SECRET_KEY,
    in_process::{FREE, FrozenClock, LOADED, TestPoller, account, exposition},
    proxy::{Proxy, ProxyMode, http_response},
    replace, sample,
};
use tokio::task::yield_now;
use xt_balance_exporter::{
    clock::MonotonicTime,
    exchange::{KeyHalf, KeySource},
    simulator::{Effect, Fault, SimulatedEndpoint},
};

struct KeyFiles(tempfile::TempDir);

impl KeyFiles {
    fn new(access: &str, secret: &str) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write(access, secret);
        files
    }

    fn write(&self, access: &str, secret: &str) {
        replace(&self.0.path().join("key"), access);
        replace(&self.0.path().join("secret"), secret);
    }

    fn source(&self) -> KeySource {
        let half = |name: &str| KeyHalf::File(self.0.path().join(name));
        KeySource { access: half("key"), secret: half("secret") }
    }
}

fn refused(exchange: &Exchange) -> u64 {
    exchange.simulator.call_log().ips.values().map(|counts| counts.refused.values().sum::<u64>()).sum()
}

#[tokio::test]
async fn new_key_files_are_used_from_the_next_poll_on() {
    let exchange = two_keys();
    let files = KeyFiles::new(ACCESS_KEY, SECRET_KEY);
    let mut poller = TestPoller::for_account(account("main", &[&exchange.url()], files.source()));
    assert!(poller.poll().await, "{:?}", poller.failure());
    let loaded = poller.sample(LOADED);
    files.write("nextKey\n", "nextSecret\n");
    assert!(poller.poll().await, "{:?}", poller.failure());
    assert_eq!((poller.sample(FREE), poller.failures(), refused(&exchange)), (Some(7.0), vec![], 0));
    assert!(poller.sample(LOADED) > loaded);
}

#[tokio::test]
async fn after_invalid_new_key_files_the_old_pair_stays_in_use() {
    let exchange = two_keys();
    let files = KeyFiles::new(ACCESS_KEY, SECRET_KEY);
    let mut poller = TestPoller::for_account(account("main", &[&exchange.url()], files.source()));
    assert!(poller.poll().await, "{:?}", poller.failure());
    let loaded = poller.sample(LOADED);
    files.write("noKey", "noSecret");
    for _ in 0..3 {
        assert!(poller.poll().await, "{:?}", poller.failure());
        assert_eq!((poller.sample(FREE), poller.failures(), refused(&exchange)), (LAST_GOOD_USDT, vec![], 1));
        assert_eq!(poller.sample(LOADED), loaded);
    }
}

/// The codes of a refused key are documented since 2021 and were others before.
#[tokio::test]
async fn a_new_pair_is_not_trusted_either_when_the_exchange_words_its_refusal_in_its_own_way() {
    for reply in [
        http_response(200, &[], br#"{"code":400,"info":"request error"}"#),
        http_response(403, &[], b"<html>Forbidden</html>"),
    ] {
        let exchange = two_keys();
        let proxy = Proxy::new(exchange.address);
        let files = KeyFiles::new(ACCESS_KEY, SECRET_KEY);
        let mut poller = TestPoller::for_account(account("main", &[&proxy.url()], files.source()));
        assert!(poller.poll().await, "{:?}", poller.failure());
        files.write("nextKey", "nextSecret");
        let old = Proxy::new(exchange.address);
        proxy.set_mode(ProxyMode::Respond(Arc::new(move |request| {
            if request.parameter("accesskey") == Some(ACCESS_KEY) {
                old.forward(request)
            } else {
                reply.clone()
            }
        })));
        for _ in 0..2 {
            assert!(poller.poll().await, "{:?}", poller.failure());
            assert_eq!((poller.sample(FREE), poller.failures()), (LAST_GOOD_USDT, vec![]));
        }
        proxy.set_mode(ProxyMode::Relay);
        assert!(poller.poll().await, "{:?}", poller.failure());
        assert_eq!(poller.sample(FREE), Some(7.0), "it is taken once it works");
    }
}

#[tokio::test]
async fn a_torn_change_of_the_key_files_leaves_no_gap() {
    let exchange = two_keys();
    let files = KeyFiles::new(ACCESS_KEY, SECRET_KEY);
    let mut poller = TestPoller::for_account(account("main", &[&exchange.url()], files.source()));
    assert!(poller.poll().await, "{:?}", poller.failure());
    for (access, secret) in [("nextKey", SECRET_KEY), ("", SECRET_KEY), ("nextKey", "")] {
        files.write(access, secret);
        for _ in 0..2 {
            assert!(poller.poll().await, "{:?}", poller.failure());
            assert_eq!(poller.sample(FREE), LAST_GOOD_USDT);
        }
    }
    files.write("nextKey", "nextSecret");
    assert!(poller.poll().await, "{:?}", poller.failure());
    assert_eq!((poller.sample(FREE), poller.failures()), (Some(7.0), vec![]));
}

#[tokio::test]
async fn a_refused_key_is_tried_every_five_minutes_and_at_once_when_its_files_change() {
    let exchange = two_keys();
    // Its clock does not leap: calls go by this machine's, which does not either.
    exchange
        .simulator
        .inject_fault(Fault::new(Effect::from_status(404)).for_endpoint(SimulatedEndpoint::GetServerTime));
    let files = KeyFiles::new("nextKey", "wrongSecret");
    let pollers = account("main", &[&exchange.url()], files.source());
    let interval = pollers.poll_interval;
    let mut pollers = TestPoller::for_accounts(vec![pollers]);
    let TestPoller { mut poller, store, clock } = pollers.remove(0);
    let frozen = FrozenClock::new();
    let running = tokio::spawn(async move { poller.run().await });
    let (mut tries, mut foretold) = (Vec::new(), MonotonicTime::START);
    while tries.len() < 3 {
        if tries.len() == 1 {
            foretold = store.accounts()[0].next_poll().unwrap();
        }
        advance_half_a_second(&store, clock).await;
        if asset_calls(&exchange) > tries.len() {
            tries.push(clock.now().monotonic);
        }
    }
    let jitter = Duration::from_secs(2);
    let is_foretold = |time: MonotonicTime| {
        time.saturating_duration_since(foretold) <= jitter
            && foretold.saturating_duration_since(time) <= jitter
    };
    assert!(is_foretold(tries[1]) && !is_foretold(tries[2]), "{foretold:?} {tries:?}");
    for pair in tries.windows(2) {
        let gap = pair[1].saturating_duration_since(pair[0]);
        assert!(gap >= Duration::from_mins(5) && gap <= Duration::from_mins(6), "{tries:?}");
    }
    assert_eq!(sample(&exposition(&store, clock.now()), FREE), None);

    files.write("nextKey", "nextSecret");
    let changed = clock.now().monotonic;
    while sample(&exposition(&store, clock.now()), FREE) != Some(7.0) {
        advance_half_a_second(&store, clock).await;
        let waited = clock.now().monotonic.saturating_duration_since(changed);
        assert!(waited < interval * 2, "{waited:?}");
    }
    assert_eq!(asset_calls(&exchange), 4);
    running.abort();
    drop(frozen);
}

/// Advances the clock by half a second and waits until all due polls have ended. After a longer step every poller would be
/// late for its slot, and a late poller skips the slot.
async fn advance_half_a_second(
    store: &xt_balance_exporter::snapshot::store::Store,
    clock: xt_balance_exporter::clock::Clock,
) {
    tokio::time::advance(Duration::from_millis(500)).await;
    let busy = || {
        let next = store.accounts()[0].next_poll();
        next.is_none_or(|next| next <= clock.now().monotonic)
    };
    // Key files are read on a thread that knows nothing of the paused clock: it has a few milliseconds in any case. What
    // waits for a limit waits for a later step.
    for round in 0..200 {
        if round > 4 && !busy() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
        yield_now().await;
    }
}

// The clock.
