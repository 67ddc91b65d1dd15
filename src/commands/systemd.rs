//! Messages to the service manager (`sd_notify`): ready, status, watchdog, stopping. `NOTIFY_SOCKET` names the socket;
//! without that variable nothing is sent. Reads the store only, like `/-/healthy`.

use std::{convert::Infallible, env, ffi::OsString, future, io, process, sync::Arc, time::Duration};

use tokio::{net::UnixDatagram, time};

use super::outcome::count;
use crate::{
    clock::{Clock, Timestamp},
    snapshot::store::{AccountEntry, Store},
};

/// Maximum time between updates of the status.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);
/// Maximum delay of a shutdown by a service manager that does not read its socket.
const STOPPING_DEADLINE: Duration = Duration::from_secs(1);

/// Sends READY once, then the status when it changes, and the watchdog's keep-alive while every poller is alive.
pub(super) async fn notify_loop(store: &Store, clock: Clock) -> Infallible {
    if socket().is_none() {
        return future::pending().await;
    }
    if let Err(error) = notify("READY=1".to_owned()).await {
        tracing::warn!(
            "cannot notify the service manager: {error}; it will stop this process after a timeout: \
             unset NOTIFY_SOCKET if it is set by mistake"
        );
    }
    let send = async |state| {
        if let Err(error) = notify(state).await {
            tracing::debug!("cannot notify the service manager: {error}");
        }
    };
    run_notify_loop(store, clock, read_watchdog_timeout(), send).await
}

/// Sends STOPPING.
pub(super) async fn notify_stopping() {
    // A failure was logged for READY already.
    let _ = time::timeout(STOPPING_DEADLINE, notify("STOPPING=1\nSTATUS=shutting down".to_owned())).await;
}

/// Calls `notify`, often enough for a `watchdog` with this timeout.
async fn run_notify_loop(
    store: &Store,
    clock: Clock,
    watchdog: Option<Duration>,
    notify: impl AsyncFn(String),
) -> Infallible {
    let pause = watchdog.map_or(STATUS_INTERVAL, |timeout| STATUS_INTERVAL.min(timeout / 3));
    let mut last_status = String::new();
    loop {
        let now = clock.now();
        let status = format!("STATUS={}", format_status(store, now));
        let mut lines = Vec::new();
        if status != last_status {
            lines.push(status.clone());
        }
        if watchdog.is_some() && store.stuck_pollers(now).is_empty() {
            lines.push("WATCHDOG=1".to_owned());
        }
        if !lines.is_empty() {
            notify(lines.join("\n")).await;
        }
        last_status = status;
        time::sleep(pause).await;
    }
}

/// Time without a keep-alive after which the service manager kills this process; `None` without a watchdog.
fn read_watchdog_timeout() -> Option<Duration> {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    let is_mine = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(process::id()));
    number("WATCHDOG_USEC").filter(|micros| is_mine && *micros > 0).map(Duration::from_micros)
}

/// Sends `state`, lines of `NAME=value`, if there is a service manager. Waits asynchronously while the socket's queue is
/// full; the `sd-notify` crate would block the thread.
async fn notify(state: String) -> io::Result<()> {
    let Some(socket) = socket() else { return Ok(()) };
    UnixDatagram::unbound()?.send_to(state.as_bytes(), socket).await.map(drop)
}

/// The service manager's socket.
fn socket() -> Option<OsString> {
    env::var_os("NOTIFY_SOCKET")
}

/// A sentence with counts. It names no account, because every user of the machine can read it.
fn format_status(store: &Store, now: Timestamp) -> String {
    let accounts = store.accounts();
    let count_where =
        |is: &dyn Fn(&Arc<AccountEntry>) -> bool| accounts.iter().filter(|account| is(account)).count();
    let dead = count_where(&|account| account.overdue(now).is_some());
    let prices_dead = store.prices().is_some_and(|prices| prices.overdue(now).is_some());
    let failing =
        count_where(&|account| account.wallets.iter().any(|wallet| wallet.snapshot.last_failure.is_some()));
    let unpolled =
        count_where(&|account| account.wallets.iter().any(|wallet| wallet.snapshot.counters.polls == 0));
    let accounts = count(accounts.len(), "account");
    match (dead, failing, unpolled) {
        (0, _, _) if prices_dead => format!("{accounts}; the price poller is stuck or dead"),
        (0, 0, 0) => format!("{accounts}; all last polls succeeded"),
        (0, 0, _) => format!("{accounts}; {unpolled} not polled yet"),
        (0, _, _) => format!("{accounts}; the last poll of {failing} failed"),
        (_, _, _) => format!("{accounts}; the poller of {dead} is stuck or dead"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::{
        exchange::{Failure, Reason, Wallet},
        snapshot::store::AccountState,
        snapshot::wallet::{CurrencyFilter, PollOutcome, PollResult, WalletConfig, tests::answer},
    };

    const WATCHDOG_TIMEOUT: Duration = Duration::from_secs(30);
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
            let facts = AccountState {
                name: (*name).into(),
                labels: Arc::default(),
                paused_until: None,
                credentials_loaded: clock.now().unix,
                poller_restarts: 0,
            };
            AccountEntry::new(facts, vec![Arc::new(wallet_config)], clock.now().uptime + ALIVE)
        };
        Store::new(names.iter().map(account).collect())
    }

    fn poll(store: &Store, name: &str, clock: Clock, good: bool) {
        store.update_account(name, |account| {
            for wallet in &mut account.wallets {
                let outcome = if good {
                    PollOutcome::Answer { sent: clock.now(), answer: Some(answer(&[])) }
                } else {
                    PollOutcome::Failed(Failure::new(Reason::Dns, "no such name"))
                };
                let result = PollResult { at: clock.now(), took: Duration::ZERO, is_suspect: false, outcome };
                wallet.set_snapshot(wallet.snapshot.apply(result));
            }
        });
    }

    /// The lines that are sent while `time` passes.
    async fn sent_lines(
        store: &Store,
        clock: Clock,
        watchdog: Option<Duration>,
        time: Duration,
    ) -> Vec<String> {
        let lines = Mutex::new(Vec::new());
        let send = async |state: String| {
            if let Ok(mut lines) = lines.lock() {
                lines.extend(state.lines().map(str::to_owned));
            }
        };
        let _ = tokio::time::timeout(time, run_notify_loop(store, clock, watchdog, send)).await;
        lines.into_inner().unwrap_or_default()
    }

    fn count_keep_alives(lines: &[String]) -> usize {
        lines.iter().filter(|text| *text == "WATCHDOG=1").count()
    }

    #[tokio::test(start_paused = true)]
    async fn keep_alives_are_sent_only_while_every_poller_is_alive() {
        let clock = Clock::start();
        let store = store(&["busy", "wedged"], clock);
        let fed = sent_lines(&store, clock, Some(WATCHDOG_TIMEOUT), ALIVE).await;
        assert!(
            count_keep_alives(&fed) as u64 >= 2 * ALIVE.as_secs() / WATCHDOG_TIMEOUT.as_secs(),
            "{fed:?}"
        );

        store.update_account("busy", |account| {
            account.heartbeat_deadline = clock.now().uptime + Duration::from_hours(1);
        });
        let starved = sent_lines(&store, clock, Some(WATCHDOG_TIMEOUT), WATCHDOG_TIMEOUT * 4).await;
        assert_eq!(count_keep_alives(&starved), 0, "{starved:?}");
        assert!(
            starved.contains(&"STATUS=2 accounts; the poller of 1 is stuck or dead".to_owned()),
            "{starved:?}"
        );

        store.update_account("wedged", |account| account.heartbeat_deadline = clock.now().uptime + ALIVE);
        assert!(
            count_keep_alives(&sent_lines(&store, clock, Some(WATCHDOG_TIMEOUT), WATCHDOG_TIMEOUT).await) > 0,
            "the poller recovered"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_watchdog_only_changes_of_the_status_are_sent() {
        let clock = Clock::start();
        let store = store(&["a"], clock);
        assert_eq!(sent_lines(&store, clock, None, ALIVE / 2).await, ["STATUS=1 account; 1 not polled yet"]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_status_is_true_in_every_state() {
        let clock = Clock::start();
        let store = store(&["a", "b"], clock);
        let status = || super::format_status(&store, clock.now());
        assert_eq!(status(), "2 accounts; 2 not polled yet");
        poll(&store, "a", clock, true);
        assert_eq!(status(), "2 accounts; 1 not polled yet");
        poll(&store, "b", clock, true);
        assert_eq!(status(), "2 accounts; all last polls succeeded");
        poll(&store, "b", clock, false);
        assert_eq!(status(), "2 accounts; the last poll of 1 failed");
        tokio::time::advance(ALIVE).await;
        assert_eq!(status(), "2 accounts; the poller of 2 is stuck or dead");
    }
}
