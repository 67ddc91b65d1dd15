//! What a service manager is told: that the daemon is ready, how it stands, that every poller is
//! alive, that it stops. systemd and what speaks its protocol name a socket in `NOTIFY_SOCKET`;
//! without one nobody is told. Judges life as `/-/healthy` does: by the ledger.

use std::{convert::Infallible, env, ffi::OsString, future, io, process, sync::Arc, time::Duration};

use tokio::{net::UnixDatagram, time};

use super::serve::count;
use crate::{
    clock::{Clock, Timestamp},
    snapshot::store::{AccountEntry, Store},
};

/// How often a person's view of the service is brought up to date.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);
/// How long an end is held up by a service manager that does not listen.
const STOPPING_DEADLINE: Duration = Duration::from_secs(1);

/// Says that the sockets listen and the pollers have begun; from then on how the daemon stands and,
/// as long as every poller is alive, that it is.
pub(super) async fn notify_loop(store: &Store, clock: Clock) -> Infallible {
    if socket().is_none() {
        return future::pending().await;
    }
    if let Err(error) = notify("READY=1".to_owned()).await {
        tracing::warn!(
            "cannot tell the service manager that this is ready: {error}; \
             it will end this, unless NOTIFY_SOCKET was not meant for this process"
        );
    }
    let tell = async |state| {
        if let Err(error) = notify(state).await {
            tracing::debug!("cannot tell the service manager: {error}");
        }
    };
    run_notify_loop(store, clock, watchdog(), tell).await
}

/// Says that the daemon was told to end.
pub(super) async fn stopping() {
    // Whoever cannot be told once has been complained of.
    let _ = time::timeout(
        STOPPING_DEADLINE,
        notify("STOPPING=1\nSTATUS=ending; running answers may finish".to_owned()),
    )
    .await;
}

/// Says it to `tell`, often enough for a `watchdog` that bites after this time of silence.
async fn run_notify_loop(
    store: &Store,
    clock: Clock,
    watchdog: Option<Duration>,
    notify: impl AsyncFn(String),
) -> Infallible {
    let pause = watchdog.map_or(STATUS_INTERVAL, |bite| STATUS_INTERVAL.min(bite / 3));
    let mut said = String::new();
    loop {
        let now = clock.now();
        let status = format!("STATUS={}", status(store, now));
        let mut lines = Vec::new();
        if status != said {
            lines.push(status.clone());
        }
        if watchdog.is_some() && store.stuck_pollers(now).is_empty() {
            lines.push("WATCHDOG=1".to_owned());
        }
        if !lines.is_empty() {
            notify(lines.join("\n")).await;
        }
        said = status;
        time::sleep(pause).await;
    }
}

/// The time of silence after which the service manager takes this process for dead, if it cares.
fn watchdog() -> Option<Duration> {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    let is_mine = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(process::id()));
    number("WATCHDOG_USEC").filter(|micros| is_mine && *micros > 0).map(Duration::from_micros)
}

/// Sends `state`, lines of `NAME=value`, if there is somebody to hear it. Waits, without holding up
/// anything else, for one whose queue is full: the `sd-notify` crate would stop the whole thread.
async fn notify(state: String) -> io::Result<()> {
    let Some(socket) = socket() else { return Ok(()) };
    UnixDatagram::unbound()?.send_to(state.as_bytes(), socket).await.map(drop)
}

/// Where the service manager listens, if there is one that does.
fn socket() -> Option<OsString> {
    env::var_os("NOTIFY_SOCKET")
}

/// One sentence of counts: whoever may see the state of services need not know whose accounts these are.
fn status(store: &Store, now: Timestamp) -> String {
    let accounts = store.accounts();
    let number =
        |is: &dyn Fn(&Arc<AccountEntry>) -> bool| accounts.iter().filter(|account| is(account)).count();
    let dead = number(&|account| account.overdue(now).is_some());
    let is_price_dead = store.prices().is_some_and(|market| market.overdue(now).is_some());
    let failing =
        number(&|account| account.wallets.iter().any(|wallet| wallet.snapshot.last_failure.is_some()));
    let unpolled =
        number(&|account| account.wallets.iter().any(|wallet| wallet.snapshot.counters.polls == 0));
    let all = count(accounts.len(), "account");
    match (dead, failing, unpolled) {
        (0, _, _) if is_price_dead => format!("{all}; the poller of prices is stuck or dead"),
        (0, 0, 0) => format!("the last polls of {all} were good"),
        (0, 0, _) => format!("{all}; {unpolled} not polled yet"),
        (0, _, _) => format!("{all}; the last poll of {failing} failed"),
        (_, _, _) => format!("{all}; the poller of {dead} is stuck or dead"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::{
        exchange::{Failure, Reason, Wallet},
        snapshot::store::AccountFacts,
        snapshot::wallet::{CurrencyFilter, PollOutcome, PollResult, WalletConfig, tests::answer},
    };

    const BITE: Duration = Duration::from_secs(30);
    const ALIVE: Duration = Duration::from_mins(3);

    fn store(names: &[&str], clock: Clock) -> Store {
        let account = |name: &&str| {
            let wallet_config = WalletConfig {
                account: (*name).into(),
                wallet: Wallet::Spot,
                watch: Vec::new(),
                filter: CurrencyFilter::default(),
                max_age: Duration::from_secs(90),
            };
            let facts = AccountFacts {
                name: (*name).into(),
                paused_until: None,
                credentials_loaded: Duration::from_secs(1),
                poller_restarts: 0,
            };
            AccountEntry::new(facts, vec![Arc::new(wallet_config)], clock.now().later(ALIVE))
        };
        Store::new(names.iter().map(account).collect())
    }

    fn poll(store: &Store, name: &str, clock: Clock, good: bool) {
        store.update(name, |account| {
            for wallet in &mut account.wallets {
                let outcome = if good {
                    PollOutcome::Answer { sent: clock.now(), answer: Some(answer(&[])) }
                } else {
                    PollOutcome::Failed(Failure::new(Reason::Dns, "no such name"))
                };
                let ended = PollResult { at: clock.now(), took: Duration::ZERO, is_suspect: false, outcome };
                wallet.set(wallet.snapshot.apply(ended));
            }
        });
    }

    /// What is told while `time` passes.
    async fn told(store: &Store, clock: Clock, watchdog: Option<Duration>, time: Duration) -> Vec<String> {
        let told = Mutex::new(Vec::new());
        let tell = async |state: String| {
            if let Ok(mut told) = told.lock() {
                told.extend(state.lines().map(str::to_owned));
            }
        };
        let _ = tokio::time::timeout(time, run_notify_loop(store, clock, watchdog, tell)).await;
        told.into_inner().unwrap_or_default()
    }

    fn pings(told: &[String]) -> usize {
        told.iter().filter(|text| *text == "WATCHDOG=1").count()
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_fed_while_every_poller_gives_signs_of_life_and_no_longer() {
        let clock = Clock::start();
        let store = store(&["busy", "wedged"], clock);
        let fed = told(&store, clock, Some(BITE), ALIVE).await;
        assert!(pings(&fed) as u64 >= 2 * ALIVE.as_secs() / BITE.as_secs(), "{fed:?}");

        store.update("busy", |account| {
            account.heartbeat_deadline = clock.now().later(Duration::from_hours(1));
        });
        let starved = told(&store, clock, Some(BITE), BITE * 4).await;
        assert_eq!(pings(&starved), 0, "{starved:?}");
        assert!(
            starved.contains(&"STATUS=2 accounts; the poller of 1 is stuck or dead".to_owned()),
            "{starved:?}"
        );

        store.update("wedged", |account| account.heartbeat_deadline = clock.now().later(ALIVE));
        assert!(pings(&told(&store, clock, Some(BITE), BITE).await) > 0, "it has come back");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_watchdog_there_is_a_status_when_it_changes_and_nothing_else() {
        let clock = Clock::start();
        let store = store(&["a"], clock);
        assert_eq!(told(&store, clock, None, ALIVE / 2).await, ["STATUS=1 account; 1 not polled yet"]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_status_is_true_in_every_state() {
        let clock = Clock::start();
        let store = store(&["a", "b"], clock);
        let said = || status(&store, clock.now());
        assert_eq!(said(), "2 accounts; 2 not polled yet");
        poll(&store, "a", clock, true);
        assert_eq!(said(), "2 accounts; 1 not polled yet");
        poll(&store, "b", clock, true);
        assert_eq!(said(), "the last polls of 2 accounts were good");
        poll(&store, "b", clock, false);
        assert_eq!(said(), "2 accounts; the last poll of 1 failed");
        tokio::time::advance(ALIVE).await;
        assert_eq!(said(), "2 accounts; the poller of 2 is stuck or dead");
    }
}
