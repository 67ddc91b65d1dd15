//! The poller of prices: one reading an interval for all accounts. Its failures are its own: they
//! touch no balance and count in no account's polls.
//! Knows no HTTP, no JSON and no text format.

use std::{
    convert::Infallible,
    panic::{self, AssertUnwindSafe},
    time::Duration,
};

use super::{
    Desk, PERMITS_MAX, Schedule, Ticks, alive_while,
    restart::{self, Restarts},
};
use crate::{config::Prices, exchange::Ticker, moment::Moment, quotation::Quotation};

/// The keeper of prices.
#[derive(Debug)]
pub struct PricePoller {
    pub(super) ticker: Ticker,
    pub(super) plan: Prices,
    pub(super) schedule: Schedule,
    /// When the next reading is due, on [`Moment::elapsed`].
    pub(super) due: Duration,
    pub(super) desk: Desk,
    pub(super) restarts: Restarts,
}

impl PricePoller {
    /// Reads on schedule, for ever, in the runtime whose `ticks` these are. Begins again after a panic, with a growing
    /// pause. May be given up at any time.
    pub async fn run(&mut self, ticks: Ticks) -> Infallible {
        loop {
            let (ran, text) = restart::until_panic(self.read_on_schedule(ticks)).await;
            let delay = self.restarts.after_panic(ran);
            let restart_seconds = delay.as_secs();
            tracing::error!(
                restart_seconds,
                "a bug: the poller of prices panicked and is started again after a pause: {text}"
            );
            let restarts = self.restarts.count;
            let publish = || self.desk.ledger.update_market(|market| market.poller_restarts = restarts);
            // What panicked may have been this.
            let _ = panic::catch_unwind(AssertUnwindSafe(publish));
            tokio::time::sleep(delay).await;
        }
    }

    async fn read_on_schedule(&mut self, ticks: Ticks) -> Infallible {
        loop {
            let pause = || self.desk.exchange.pause_of_prices();
            let tell = |now: Moment, _| {
                let alive_until = now.later(self.schedule.life);
                self.desk.ledger.update_market(|market| market.alive_until = alive_until);
            };
            self.schedule.wait_until(self.due, ticks, &self.desk, pause, tell).await;
            self.run_once().await;
            self.due = self.schedule.next(self.desk.clock.now().elapsed, fastrand::f64());
        }
    }

    /// Reads once and writes down what came of it. Returns whether it was good.
    pub async fn run_once(&mut self) -> bool {
        let Desk { exchange, ledger, clock } = &self.desk;
        let beat = || {
            let alive_until = clock.now().later(self.schedule.life);
            ledger.update_market(|market| market.alive_until = alive_until);
        };
        let timeout = self.plan.poll_timeout;
        let read = exchange.prices(&mut self.ticker, timeout);
        let Ok(outcome) = alive_while(read, timeout + PERMITS_MAX, beat).await else {
            return false;
        };
        let Some(market) = ledger.market() else { return false };
        let is_good = outcome.is_ok();
        let before = &market.quotation;
        let after = before.after(clock.now(), outcome.map(|answer| (answer.sent, answer.prices)));
        ledger.update_market(|market| market.set(after.clone()));
        // What a line says shall be seen by whoever looks because of it.
        log_change(before, &after);
        is_good
    }
}

/// One line at a change of state, not one a reading.
fn log_change(before: &Quotation, after: &Quotation) {
    let priced = after.good.as_ref().map_or(0, |good| good.prices.currencies().len());
    match (&before.trouble, &after.trouble) {
        (None, None) if before.good.is_none() => tracing::info!(priced, "the first prices were read"),
        (None, None) => tracing::debug!(priced, "prices were read"),
        (Some(trouble), None) => {
            let failing_seconds = after.good.as_ref().map_or(0, |good| trouble.since.age(good.at).as_secs());
            tracing::info!(priced, failing_seconds, "prices can be read again");
        }
        (old, Some(trouble)) => {
            let reason = trouble.failure.reason.label();
            if old.as_ref().is_some_and(|old| old.failure.reason == trouble.failure.reason) {
                tracing::debug!(reason, "prices still cannot be read: {}", trouble.failure.text);
            } else {
                tracing::warn!(reason, "prices cannot be read: {}", trouble.failure.text);
            }
        }
    }
}
