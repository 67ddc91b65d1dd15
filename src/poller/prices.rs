//! The price poller: one read per interval for all accounts. Its failures change no balance and count in no
//! account's polls.
//! Depends on neither HTTP, JSON nor the text format.

use super::{
    NextPoll, PollContext, PollTarget, Poller,
    log_lines::{self, FailureChange, LastAnswer},
};
use crate::{
    clock::{MonotonicTime, Timestamp, Uptime},
    config::PricesConfig,
    exchange::{Paused, PriceClient, ReadOutcome, suggest_fix},
    snapshot::prices::{MarketListState, PriceSnapshot},
};

/// The poller of prices.
pub type PricePoller = Poller<PriceTarget>;

/// Prices as the target of a poller.
#[derive(Debug)]
pub struct PriceTarget {
    pub(super) client: PriceClient,
    pub(super) config: PricesConfig,
}

impl PollTarget for PriceTarget {
    fn account(&self) -> Option<&str> {
        None
    }

    fn pause(&self, context: &PollContext) -> Option<Paused> {
        context.exchange.price_pause()
    }

    fn publish_next_poll(
        &self,
        context: &PollContext,
        now: Timestamp,
        next: NextPoll,
        heartbeat_deadline: Uptime,
    ) {
        context.store.update_prices(|prices| {
            prices.heartbeat_deadline = heartbeat_deadline;
            prices.next_poll = Some(next.due.max(now.monotonic));
        });
    }

    async fn poll_next(&mut self, context: &PollContext, _slot: MonotonicTime) {
        self.poll(context).await;
    }
}

impl PriceTarget {
    /// Reads prices and publishes the result. Returns whether the read was good.
    async fn poll(&mut self, context: &PollContext) -> bool {
        let PollContext { exchange, store, clock } = context;
        let (result, market_list) =
            match exchange.read_prices(&mut self.client, self.config.poll_timeout).await {
                ReadOutcome::Answered(answer) => (Ok((answer.sent, answer.prices)), Some(answer.market_list)),
                ReadOutcome::Failed(failure) => (Err(failure), None),
                ReadOutcome::Skipped => return false,
            };
        let Some(entry) = store.prices() else { return false };
        let is_good = result.is_ok();
        let before = &entry.snapshot;
        let now = clock.now();
        let mut after = before.apply(now, result);
        if let Some(market_list) = market_list {
            after = after.apply_market_list(now, market_list);
        }
        store.update_prices(|prices| prices.set_snapshot(after.clone()));
        // Update the store before logging: a reader of the line may look at once.
        log_transition(before, &after, now);
        log_market_list(&before.market_list, &after.market_list);
        is_good
    }
}

impl PricePoller {
    /// Polls once, for `once`. Returns whether the poll was good.
    pub async fn run_once(&mut self) -> bool {
        let is_good = self.target.poll(&self.context).await;
        if let Some(paused) = self.context.exchange.price_pause() {
            log_lines::log_price_pause(paused.until, self.context.clock.now());
        }
        is_good
    }
}

/// Logs changes of state at the levels info and warn, and every poll at the level debug.
fn log_transition(before: &PriceSnapshot, after: &PriceSnapshot, now: Timestamp) {
    let currencies = after.last_good.as_ref().map_or(0, |good| good.prices.currencies().len());
    match (&before.last_failure, &after.last_failure) {
        (None, None) if before.last_good.is_none() => {
            tracing::info!(currencies, "first prices read");
        }
        (None, None) => tracing::debug!(currencies, "prices read"),
        (Some(failure), None) => {
            let failing_seconds =
                after.last_good.as_ref().map_or(0, |good| failure.since.age(good.at).as_secs());
            tracing::info!(currencies, failing_seconds, "prices can be read again");
        }
        (old, Some(new)) => {
            let (reason, text, fix) =
                (new.failure.reason.label(), &new.failure.text, suggest_fix(&new.failure));
            let LastAnswer { state: prices, held_until } = LastAnswer::new(after.visible_until(now), now);
            let was_visible = |at| before.visible(at).is_some();
            let is_visible = after.visible(now).is_some();
            match FailureChange::new(old.as_ref(), new, was_visible, is_visible) {
                FailureChange::Nothing => {
                    tracing::debug!(reason, "still cannot read prices: {text}");
                }
                FailureChange::Expired => {
                    tracing::warn!(
                        reason,
                        prices,
                        fix,
                        "prices are unknown, because the last good answer is older than max_age: {text}"
                    );
                }
                FailureChange::NewReason => {
                    tracing::warn!(reason, prices, held_until, fix, "cannot read prices: {text}");
                }
            }
        }
    }
}

/// Logs when the list of markets cannot be read, and when it can be read again.
fn log_market_list(before: &MarketListState, after: &MarketListState) {
    match (&before.last_failure, &after.last_failure) {
        (None, Some(new)) => {
            let (reason, text) = (new.failure.reason.label(), &new.failure.text);
            let consequence = if after.last_success.is_some() {
                "prices are checked against the last list"
            } else {
                "prices of closed markets are not left out"
            };
            let fix = suggest_fix(&new.failure);
            tracing::warn!(reason, fix, "cannot read the list of markets, {consequence}: {text}");
        }
        (Some(_), None) => tracing::info!("the list of markets can be read again"),
        _ => {}
    }
}
