//! Active faults: which of them apply to a call, and when they end.
//!
//! Must not know how a fault changes a reply. Time is an argument.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    clock::seconds_until,
    endpoint::SimulatedEndpoint,
    fault::{Effect, Fault, FaultTarget},
    reply::SimulatedReply,
};

/// Injected faults, oldest first. Ended faults stay in the list until the next change of it.
#[derive(Default)]
pub(super) struct ActiveFaults(Vec<ActiveFault>);

/// An injected fault.
struct ActiveFault {
    fault: Fault,
    ends_at: Option<Instant>,
    /// Calls that the fault has hit.
    hits: u64,
    /// Answers that an [`Effect::Cached`] repeats.
    cached: BTreeMap<SimulatedEndpoint, SimulatedReply>,
}

/// A fault that applies to a call.
pub(super) struct MatchedFault {
    /// Position in the list of active faults.
    index: usize,
    pub(super) effect: Effect,
}

impl ActiveFaults {
    pub(super) fn inject(&mut self, fault: Fault, now: Instant) {
        self.0.retain(|fault| fault.is_active(now));
        self.0.push(ActiveFault {
            ends_at: fault.duration.and_then(|duration| now.checked_add(duration)),
            fault,
            hits: 0,
            cached: BTreeMap::new(),
        });
    }

    /// Ends all faults. Returns the number of faults that were still active.
    pub(super) fn clear(&mut self, now: Instant) -> usize {
        self.0.retain(|fault| fault.is_active(now));
        let ended = self.0.len();
        self.0.clear();
        ended
    }

    /// Finds the oldest active fault with this target for a call of this endpoint and account, and counts one hit.
    pub(super) fn apply(
        &mut self,
        target: FaultTarget,
        endpoint: SimulatedEndpoint,
        account: Option<&str>,
        now: Instant,
    ) -> Option<MatchedFault> {
        let mut faults = self.0.iter_mut().enumerate();
        let (index, fault) = faults.find(|(_, fault)| {
            fault.fault.effect.target() == target && fault.matches_call(endpoint, account, now)
        })?;
        fault.hits += 1;
        Some(MatchedFault { index, effect: fault.fault.effect.clone() })
    }

    /// Effects of all active faults on the rows of a call, oldest first. Counts one hit for each of these faults.
    pub(super) fn apply_to_rows(
        &mut self,
        endpoint: SimulatedEndpoint,
        account: Option<&str>,
        now: Instant,
    ) -> Vec<Effect> {
        let row_faults = self.0.iter_mut().filter(|fault| fault.fault.effect.target() == FaultTarget::Rows);
        let matching = row_faults.filter(|fault| fault.matches_call(endpoint, account, now));
        let count_hit = |fault: &mut ActiveFault| {
            fault.hits += 1;
            fault.fault.effect.clone()
        };
        matching.map(count_hit).collect()
    }

    /// The answer that the cache of a fault holds for an endpoint.
    pub(super) fn cached_reply(
        &self,
        fault: &MatchedFault,
        endpoint: SimulatedEndpoint,
    ) -> Option<SimulatedReply> {
        self.0.get(fault.index)?.cached.get(&endpoint).cloned()
    }

    /// Stores the answer for an endpoint in the cache of a fault.
    pub(super) fn cache_reply(
        &mut self,
        fault: &MatchedFault,
        endpoint: SimulatedEndpoint,
        reply: SimulatedReply,
    ) {
        if let Some(fault) = self.0.get_mut(fault.index) {
            fault.cached.insert(endpoint, reply);
        }
    }

    /// The active faults in JSON, for the control pages.
    pub(super) fn to_json(&self, now: Instant) -> Vec<Value> {
        let active = self.0.iter().filter(|fault| fault.is_active(now));
        active
            .map(|fault| {
                let ends_in_seconds = seconds_until(fault.ends_at, now);
                json!({"fault": fault.fault, "hits": fault.hits, "ends_in_seconds": ends_in_seconds})
            })
            .collect()
    }
}

impl ActiveFault {
    fn is_active(&self, now: Instant) -> bool {
        self.ends_at.is_none_or(|end| now < end) && self.fault.max_calls.is_none_or(|max| self.hits < max)
    }

    fn matches_call(&self, endpoint: SimulatedEndpoint, account: Option<&str>, now: Instant) -> bool {
        let fault = &self.fault;
        self.is_active(now)
            && fault.endpoint.is_none_or(|wanted| wanted == endpoint)
            && (fault.account.is_none() || fault.account.as_deref() == account)
    }
}
