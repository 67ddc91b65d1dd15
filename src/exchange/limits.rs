//! The rate limiter and the refused keys of one process. All calls share them, also those that outlive their poll. Sends
//! nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::{
    auth_backoff::AuthBackoff,
    balance::Wallet,
    egress::Egress,
    error::{Failure, Reason},
    pauses::Caller,
    rate_limiter::RateLimiter,
    secret::PairId,
    share::LimitShares,
};
use crate::clock::Clock;

/// The rate limiter and the refused keys of one process.
#[derive(Debug)]
pub(super) struct Limits {
    clock: Clock,
    pub rate_limiter: Arc<RateLimiter>,
    auth_backoff: Mutex<AuthBackoff>,
    /// Counts changes of pauses and refused keys.
    changes: watch::Sender<u64>,
}

impl Limits {
    /// See [`RateLimiter::new`].
    pub(super) fn new(clock: Clock, shares: LimitShares, others_before: bool) -> Self {
        Self {
            clock,
            rate_limiter: Arc::new(RateLimiter::new(clock, shares, others_before)),
            auth_backoff: Mutex::default(),
            changes: watch::Sender::default(),
        }
    }

    /// Pauses `caller` if `failure` is a limit reply to its call.
    pub(super) fn record_failure(&self, caller: Caller<'_>, failure: &Failure) {
        if failure.reason == Reason::RateLimited {
            self.rate_limiter.record_limit_reply(caller, failure.retry_after);
            self.notify_change();
        }
    }

    /// See [`RateLimiter::set_egress`].
    pub(super) fn set_egress(&self, groups: &[Egress]) {
        if self.rate_limiter.set_egress(groups) {
            self.notify_change();
        }
    }

    /// Records whether the exchange accepted or refused `pair` in a call for `wallet`, if `result` tells.
    pub(super) fn record_key_result<T>(&self, pair: PairId, wallet: Wallet, result: &Result<T, Failure>) {
        let has_worked = match result {
            Ok(_) => true,
            Err(failure) if failure.reason.is_key_fault() => false,
            Err(_) => return,
        };
        let now = self.clock.now().monotonic;
        let is_change = self.auth_backoff().record(pair, wallet, has_worked, now);
        if is_change {
            self.notify_change();
        }
    }

    /// Removes the last refusal of `pair` for `wallet`: it was not the key's fault.
    pub(super) fn forget_refusal(&self, pair: PairId, wallet: Wallet) {
        self.auth_backoff().forget(pair, wallet);
        self.notify_change();
    }

    pub(super) fn auth_backoff(&self) -> MutexGuard<'_, AuthBackoff> {
        self.auth_backoff.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes whenever a pause begins, the egress groups change, or the exchange refuses a key or accepts a refused one.
    pub(super) fn subscribe_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn notify_change(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}
