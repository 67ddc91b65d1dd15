//! What a service manager is told: that the daemon is ready, how it stands, that every poller is
//! alive, that it stops. systemd and what speaks its protocol name a socket in `NOTIFY_SOCKET`;
//! without one nobody is told. Judges life as `/-/healthy` does: by the ledger.

use std::{convert::Infallible, env, ffi::OsString, future, io, process, sync::Arc, time::Duration};

use tokio::{net::UnixDatagram, time};

use super::serve::count;
use crate::{
    ledger::{Account, Ledger},
    moment::{Clock, Moment},
};

/// How often a person's view of the service is brought up to date.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// How long an end is held up by a service manager that does not listen.
const FAREWELL: Duration = Duration::from_secs(1);

/// Says that the sockets listen and the pollers have begun; from then on how the daemon stands and,
/// as long as every poller is alive, that it is.
pub(super) async fn attend(ledger: &Ledger, clock: Clock) -> Infallible {
    if socket().is_none() {
        return future::pending().await;
    }
    if let Err(error) = tell("READY=1".to_owned()).await {
        tracing::warn!(
            "cannot tell the service manager that this is ready: {error}; \
             it will end this, unless NOTIFY_SOCKET was not meant for this process"
        );
    }
    let tell = async |state| {
        if let Err(error) = tell(state).await {
            tracing::debug!("cannot tell the service manager: {error}");
        }
    };
    attend_to(ledger, clock, watchdog(), tell).await
}

/// Says that the daemon was told to end.
pub(super) async fn stopping() {
    // Whoever cannot be told once has been complained of.
    let _ = time::timeout(FAREWELL, tell("STOPPING=1\nSTATUS=ending; running answers may finish".to_owned()))
        .await;
}

/// Says it to `tell`, often enough for a `watchdog` that bites after this time of silence.
async fn attend_to(
    ledger: &Ledger,
    clock: Clock,
    watchdog: Option<Duration>,
    tell: impl AsyncFn(String),
) -> Infallible {
    let pause = watchdog.map_or(STATUS_EVERY, |bite| STATUS_EVERY.min(bite / 3));
    let mut said = String::new();
    loop {
        let now = clock.now();
        let status = format!("STATUS={}", status(ledger, now));
        let mut lines = Vec::new();
        if status != said {
            lines.push(status.clone());
        }
        if watchdog.is_some() && ledger.ailing(now).is_empty() {
            lines.push("WATCHDOG=1".to_owned());
        }
        if !lines.is_empty() {
            tell(lines.join("\n")).await;
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
async fn tell(state: String) -> io::Result<()> {
    let Some(socket) = socket() else { return Ok(()) };
    UnixDatagram::unbound()?.send_to(state.as_bytes(), socket).await.map(drop)
}

/// Where the service manager listens, if there is one that does.
fn socket() -> Option<OsString> {
    env::var_os("NOTIFY_SOCKET")
}

/// One sentence of counts: whoever may see the state of services need not know whose accounts these are.
fn status(ledger: &Ledger, now: Moment) -> String {
    let accounts = ledger.accounts();
    let number = |is: &dyn Fn(&Arc<Account>) -> bool| accounts.iter().filter(|account| is(account)).count();
    let dead = number(&|account| account.overdue(now).is_some());
    let is_price_dead = ledger.market().is_some_and(|market| market.overdue(now).is_some());
    let failing = number(&|account| account.wallets.iter().any(|wallet| wallet.standing.trouble.is_some()));
    let unpolled = number(&|account| account.wallets.iter().any(|wallet| wallet.standing.tally.polls == 0));
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
        exposition::families::AccountFacts,
        standing::{Ended, Filter, PollOutcome, Subject, tests::answer},
    };

    const BITE: Duration = Duration::from_secs(30);
    const ALIVE: Duration = Duration::from_mins(3);

    fn ledger(names: &[&str], clock: Clock) -> Ledger {
        let account = |name: &&str| {
            let subject = Subject {
                account: (*name).into(),
                wallet: Wallet::Spot,
                watch: Vec::new(),
                filter: Filter::default(),
                max_age: Duration::from_secs(90),
            };
            let facts = AccountFacts {
                name: (*name).into(),
                paused_until: None,
                credentials_loaded: Duration::from_secs(1),
                poller_restarts: 0,
            };
            Account::new(facts, vec![Arc::new(subject)], clock.now().later(ALIVE))
        };
        Ledger::new(names.iter().map(account).collect())
    }

    fn poll(ledger: &Ledger, name: &str, clock: Clock, good: bool) {
        ledger.update(name, |account| {
            for wallet in &mut account.wallets {
                let outcome = if good {
                    PollOutcome::Answer { sent: clock.now(), answer: Some(answer(&[])) }
                } else {
                    PollOutcome::Failed(Failure::new(Reason::Dns, "no such name"))
                };
                let ended = Ended { at: clock.now(), took: Duration::ZERO, is_suspect: false, outcome };
                wallet.set(wallet.standing.after(ended));
            }
        });
    }

    /// What is told while `time` passes.
    async fn told(ledger: &Ledger, clock: Clock, watchdog: Option<Duration>, time: Duration) -> Vec<String> {
        let told = Mutex::new(Vec::new());
        let tell = async |state: String| {
            if let Ok(mut told) = told.lock() {
                told.extend(state.lines().map(str::to_owned));
            }
        };
        let _ = tokio::time::timeout(time, attend_to(ledger, clock, watchdog, tell)).await;
        told.into_inner().unwrap_or_default()
    }

    fn pings(told: &[String]) -> usize {
        told.iter().filter(|text| *text == "WATCHDOG=1").count()
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_fed_while_every_poller_gives_signs_of_life_and_no_longer() {
        let clock = Clock::start();
        let ledger = ledger(&["busy", "wedged"], clock);
        let fed = told(&ledger, clock, Some(BITE), ALIVE).await;
        assert!(pings(&fed) as u64 >= 2 * ALIVE.as_secs() / BITE.as_secs(), "{fed:?}");

        ledger.update("busy", |account| account.alive_until = clock.now().later(Duration::from_hours(1)));
        let starved = told(&ledger, clock, Some(BITE), BITE * 4).await;
        assert_eq!(pings(&starved), 0, "{starved:?}");
        assert!(
            starved.contains(&"STATUS=2 accounts; the poller of 1 is stuck or dead".to_owned()),
            "{starved:?}"
        );

        ledger.update("wedged", |account| account.alive_until = clock.now().later(ALIVE));
        assert!(pings(&told(&ledger, clock, Some(BITE), BITE).await) > 0, "it has come back");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_watchdog_there_is_a_status_when_it_changes_and_nothing_else() {
        let clock = Clock::start();
        let ledger = ledger(&["a"], clock);
        assert_eq!(told(&ledger, clock, None, ALIVE / 2).await, ["STATUS=1 account; 1 not polled yet"]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_status_is_true_in_every_state() {
        let clock = Clock::start();
        let ledger = ledger(&["a", "b"], clock);
        let said = || status(&ledger, clock.now());
        assert_eq!(said(), "2 accounts; 2 not polled yet");
        poll(&ledger, "a", clock, true);
        assert_eq!(said(), "2 accounts; 1 not polled yet");
        poll(&ledger, "b", clock, true);
        assert_eq!(said(), "the last polls of 2 accounts were good");
        poll(&ledger, "b", clock, false);
        assert_eq!(said(), "2 accounts; the last poll of 1 failed");
        tokio::time::advance(ALIVE).await;
        assert_eq!(said(), "2 accounts; the poller of 2 is stuck or dead");
    }
}
