//! The poller of prices: one reading an interval for all accounts. Its failures are its own: they
//! touch no balance and count in no account's polls.
//! Knows no HTTP, no JSON and no text format.

use std::{
    convert::Infallible,
    panic::{self, AssertUnwindSafe},
    time::Duration,
};

use super::{
    PERMIT_WAIT_MAX, PollContext, Schedule,
    restart::{self, Restarts},
    run_with_heartbeat,
};
use crate::{clock::Timestamp, config::PricesConfig, exchange::PriceClient, snapshot::prices::PriceSnapshot};

/// The keeper of prices.
#[derive(Debug)]
pub struct PricePoller {
    pub(super) ticker: PriceClient,
    pub(super) plan: PricesConfig,
    pub(super) schedule: Schedule,
    /// When the next reading is due, on [`Moment::elapsed`].
    pub(super) due: Duration,
    pub(super) context: PollContext,
    pub(super) restarts: Restarts,
}

impl PricePoller {
    /// Reads on schedule, forever. Restarts again after a panic, with a growing
    /// pause. May be given up at any time.
    pub async fn run(&mut self) -> Infallible {
        loop {
            let (ran, text) = restart::until_panic(self.read_on_schedule()).await;
            let delay = self.restarts.after_panic(ran);
            let restart_seconds = delay.as_secs();
            tracing::error!(
                restart_seconds,
                "a bug: the poller of prices panicked and is started again after a pause: {text}"
            );
            let restarts = self.restarts.count;
            let publish = || self.context.store.update_prices(|market| market.poller_restarts = restarts);
            // What panicked may have been this.
            let _ = panic::catch_unwind(AssertUnwindSafe(publish));
            tokio::time::sleep(delay).await;
        }
    }

    async fn read_on_schedule(&mut self) -> Infallible {
        loop {
            let pause = || self.context.exchange.price_pause();
            let tell = |now: Timestamp, _| {
                let alive_until = now.later(self.schedule.life);
                self.context.store.update_prices(|market| market.heartbeat_deadline = alive_until);
            };
            self.schedule.wait_until(self.due, &self.context, pause, tell).await;
            self.run_once().await;
            self.due = self.schedule.next(self.context.clock.now().elapsed, fastrand::f64());
        }
    }

    /// Reads once and writes down what came of it. Returns whether it was good.
    pub async fn run_once(&mut self) -> bool {
        let PollContext { exchange, store, clock } = &self.context;
        let beat = || {
            let alive_until = clock.now().later(self.schedule.life);
            store.update_prices(|market| market.heartbeat_deadline = alive_until);
        };
        let timeout = self.plan.poll_timeout;
        let read = exchange.read_prices(&mut self.ticker, timeout);
        let Ok(outcome) = run_with_heartbeat(read, timeout + PERMIT_WAIT_MAX, beat).await else {
            return false;
        };
        let Some(market) = store.prices() else { return false };
        let is_good = outcome.is_ok();
        let before = &market.snapshot;
        let after = before.apply(clock.now(), outcome.map(|answer| (answer.sent, answer.prices)));
        store.update_prices(|market| market.set(after.clone()));
        // What a line says shall be seen by whoever looks because of it.
        log_transition(before, &after);
        is_good
    }
}

/// One line at a change of state, not one a reading.
fn log_transition(before: &PriceSnapshot, after: &PriceSnapshot) {
    let priced = after.last_good.as_ref().map_or(0, |good| good.prices.currencies().len());
    match (&before.last_failure, &after.last_failure) {
        (None, None) if before.last_good.is_none() => tracing::info!(priced, "the first prices were read"),
        (None, None) => tracing::debug!(priced, "prices were read"),
        (Some(failure), None) => {
            let failing_seconds =
                after.last_good.as_ref().map_or(0, |good| failure.since.age(good.at).as_secs());
            tracing::info!(priced, failing_seconds, "prices can be read again");
        }
        (old, Some(failure)) => {
            let reason = failure.failure.reason.label();
            if old.as_ref().is_some_and(|old| old.failure.reason == failure.failure.reason) {
                tracing::debug!(reason, "prices still cannot be read: {}", failure.failure.text);
            } else {
                tracing::warn!(reason, "prices cannot be read: {}", failure.failure.text);
            }
        }
    }
}
