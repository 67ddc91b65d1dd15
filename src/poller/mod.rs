//! Pollers: each reads one account, or prices, on a schedule and writes the results into the store. An account's
//! wallets take turns, spread evenly over the interval.
//! Depends on neither HTTP, JSON nor the text format.

mod account;
mod log_lines;
mod positions;
mod prices;
#[cfg(test)]
mod rate_limit_model;
mod rate_limits;
mod restart;
mod schedule;
mod set;

use std::{
    convert::Infallible,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

pub use self::schedule::NextPoll;
pub use self::{
    account::{AccountPoller, AccountTarget, PollStatus},
    prices::{PricePoller, PriceTarget},
    rate_limits::keep_publishing_rate_limits,
    set::{PollerSet, ReloadSummary, create_pollers},
};
use self::{restart::Restarts, schedule::Schedule};
use crate::{
    clock::{Clock, MonotonicTime, Timestamp, Uptime},
    exchange::{Client, Paused},
    snapshot::store::Store,
};

/// How often a poller renews its heartbeat while a poll runs.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Polls its target on a schedule and restarts itself after a panic.
#[derive(Debug)]
pub struct Poller<T> {
    target: T,
    context: PollContext,
    schedule: Schedule,
    /// When the next poll is due.
    due: MonotonicTime,
    restarts: Restarts,
}

/// What every poller needs.
#[derive(Clone, Debug)]
pub struct PollContext {
    exchange: Arc<Client>,
    store: Arc<Store>,
    clock: Clock,
}

/// The target of a poller: an account or prices.
pub trait PollTarget: Send {
    /// The `account` field of log lines; `None` for prices.
    fn account(&self) -> Option<&str>;

    /// The pause that forbids a poll now.
    fn pause(&self, context: &PollContext) -> Option<Paused>;

    /// Publishes when the next poll is due, and renews the heartbeat.
    fn publish_next_poll(
        &self,
        context: &PollContext,
        now: Timestamp,
        next: NextPoll,
        heartbeat_deadline: Uptime,
    );

    /// Polls once, in `slot`, and publishes the result.
    fn poll_next(&mut self, context: &PollContext, slot: MonotonicTime) -> impl Future<Output = ()> + Send;
}

impl<T: PollTarget> Poller<T> {
    /// Polls on schedule, forever. After a panic it starts again with a growing delay. May be dropped at any time.
    pub async fn run(&mut self) -> Infallible {
        loop {
            let (ran, text) = restart::run_until_panic(self.poll_on_schedule()).await;
            let delay = self.restarts.record_panic(ran);
            let restart_seconds = delay.as_secs();
            if let Some(account) = self.target.account() {
                tracing::error!(
                    account,
                    restart_seconds,
                    "bug: the poller panicked and will restart: {text}"
                );
            } else {
                tracing::error!(restart_seconds, "bug: the price poller panicked and will restart: {text}");
            }
            let (heartbeat, restarts) = (self.heartbeat(), self.restarts.count);
            // The panic may have come from publishing.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| heartbeat.set_restarts(restarts)));
            tokio::time::sleep(delay).await;
        }
    }

    async fn poll_on_schedule(&mut self) -> Infallible {
        let heartbeat = self.heartbeat();
        loop {
            let pause = || self.target.pause(&self.context);
            let publish = |now: Timestamp, due| {
                let deadline = now.uptime + self.schedule.heartbeat_life;
                let next = NextPoll { due, slot: self.schedule.slot_of(due) };
                self.target.publish_next_poll(&self.context, now, next, deadline);
            };
            self.schedule.wait_until(self.due, &self.context, pause, publish).await;
            let slot = self.schedule.slot_of(self.context.clock.now().monotonic);
            // The future of a poll is large, and most of thousands of pollers only wait.
            let poll = Box::pin(self.target.poll_next(&self.context, slot));
            run_with_heartbeat(poll, self.schedule.poll_max, &heartbeat).await;
            self.due = self.schedule.next(self.context.clock.now().monotonic, fastrand::f64());
        }
    }

    fn heartbeat(&self) -> PollerHealth {
        let PollContext { store, clock, .. } = &self.context;
        PollerHealth {
            store: Arc::clone(store),
            clock: *clock,
            account: self.target.account().map(Into::into),
            life: self.schedule.heartbeat_life,
        }
    }
}

/// Tells the store that a poller is alive.
#[derive(Clone, Debug)]
struct PollerHealth {
    store: Arc<Store>,
    clock: Clock,
    /// `None` for prices.
    account: Option<Box<str>>,
    /// How long a poller counts as alive after a heartbeat.
    life: Duration,
}

impl PollerHealth {
    fn renew_heartbeat(&self) {
        let deadline = self.clock.now().uptime + self.life;
        match &self.account {
            Some(name) => self.store.update_account(name, |account| account.heartbeat_deadline = deadline),
            None => self.store.update_prices(|prices| prices.heartbeat_deadline = deadline),
        }
    }

    fn set_restarts(&self, restarts: u64) {
        match &self.account {
            Some(name) => self.store.update_account(name, |account| account.state.poller_restarts = restarts),
            None => self.store.update_prices(|prices| prices.poller_restarts = restarts),
        }
    }
}

/// Runs `work` and renews the heartbeat meanwhile: a poller that waits for the exchange or for a permit is not stuck.
/// After `longest`, the most time that the work can take, the heartbeat stops.
async fn run_with_heartbeat(work: impl Future<Output = ()>, longest: Duration, heartbeat: &PollerHealth) {
    let began = Instant::now();
    tokio::pin!(work);
    while began.elapsed() < longest {
        heartbeat.renew_heartbeat();
        if tokio::time::timeout(HEARTBEAT_INTERVAL, &mut work).await.is_ok() {
            return;
        }
    }
    work.await;
}
