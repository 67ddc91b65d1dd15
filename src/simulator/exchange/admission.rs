//! Admission of calls: the limits of each key and IP, and their locks.
//!
//! Must not know signatures or answers.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use super::{
    super::{
        call_log::{CallCounts, RefusalCause},
        clock::seconds_until,
        config::SimulatorConfig,
        endpoint::SimulatedEndpoint,
        sliding_window::SlidingWindow,
    },
    AccountState, CallerState, ExchangeState,
    call::ParsedCall,
    refusal::CallRefusal,
};

const MAX_CALLERS: usize = 4_096;

impl ExchangeState {
    /// Counts the call towards the limits of its key and its IP. Locks a key or IP that exceeds a limit, and refuses
    /// the calls of a locked one.
    pub(super) fn admit(&mut self, call: &ParsedCall) -> Result<(), CallRefusal> {
        self.forget_idle_callers(call.now);
        let config = &self.config;
        let lock_end = call.now.checked_add(config.lock);
        let caller = self.callers.entry(call.ip).or_insert_with(|| CallerState::new(config));
        caller.account_indexes.extend(call.account_index);
        // Every window counts the call, even if the call is refused.
        let is_within_minute = caller.all_calls.record_call(call.now);
        let is_within_second = call.endpoint.is_asset_call() || caller.other_calls.record_call(call.now);
        let mut account = call.account_index.and_then(|index| self.accounts.get_mut(index));
        let exceeded_key_limit =
            account.as_mut().and_then(|account| account.record_call(call.endpoint, call.now));

        let locks = [caller.locked_until, account.as_ref().and_then(|account| account.locked_until)];
        if let Some(end) = locks.into_iter().flatten().filter(|end| *end > call.now).max() {
            return Err(call.refuse_locked(RefusalCause::Locked, "too many calls before this one", end));
        }
        if !is_within_minute || !is_within_second {
            caller.locked_until = lock_end;
            caller.counts.breaches += 1;
            caller.counts.locks += 1;
            for &index in &caller.account_indexes {
                if let Some(account) = self.accounts.get_mut(index) {
                    account.locked_until = lock_end.max(account.locked_until);
                    account.counts.locks += 1;
                }
            }
            let reason = if is_within_minute {
                format!("more than {} calls in a second", config.other_calls_per_second)
            } else {
                format!("more than {} calls in a minute from one IP", config.ip_calls_per_minute)
            };
            return Err(call.refuse_locked(RefusalCause::Limit, &reason, lock_end.unwrap_or(call.now)));
        }
        if let Some((account, limit)) = account.zip(exceeded_key_limit) {
            account.locked_until = lock_end;
            account.counts.breaches += 1;
            account.counts.locks += 1;
            let reason = format!("more than {limit} asset calls in a second");
            return Err(call.refuse_locked(RefusalCause::Limit, &reason, lock_end.unwrap_or(call.now)));
        }
        Ok(())
    }

    /// Forgets callers without recent calls or a lock, if too many callers are stored.
    fn forget_idle_callers(&mut self, now: Instant) {
        if self.callers.len() >= MAX_CALLERS {
            self.callers.retain(|_, caller| {
                !caller.all_calls.is_idle(now) || seconds_until(caller.locked_until, now).is_some()
            });
        }
    }
}

impl AccountState {
    /// Counts a call towards the key's limit for this endpoint. Returns the limit if the call exceeds it.
    fn record_call(&mut self, endpoint: SimulatedEndpoint, now: Instant) -> Option<usize> {
        let window = match endpoint {
            SimulatedEndpoint::V4Balances => &mut self.v4_balances_calls,
            SimulatedEndpoint::V4Balance => &mut self.v4_balance_calls,
            _ => &mut self.asset_calls,
        };
        let is_within_limit = window.record_call(now);
        (!is_within_limit).then_some(window.limit())
    }
}

impl CallerState {
    fn new(config: &SimulatorConfig) -> Self {
        Self {
            other_calls: SlidingWindow::new(config.other_calls_per_second, Duration::from_secs(1)),
            all_calls: SlidingWindow::new(config.ip_calls_per_minute, Duration::from_mins(1)),
            account_indexes: BTreeSet::new(),
            locked_until: None,
            counts: CallCounts::default(),
        }
    }
}
