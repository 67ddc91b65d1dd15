//! The state of the rate limiter: the calls that count against each limit. Pure: waits for nothing and reads no clock.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    call_window::{Availability, CallWindow, WindowUsage},
    pauses::{Caller, DEFAULT_EGRESS, Pauses},
    secret::KeyId,
    share::{CallLimit, LimitShares},
};
use crate::clock::MonotonicTime;

#[derive(Debug)]
pub(super) struct State {
    pub shares: LimitShares,
    /// When a process that was killed just before this one may have ended its last calls.
    others_ended: Option<MonotonicTime>,
    /// By the name of the egress group.
    pub addresses: BTreeMap<Box<str>, AddressState>,
    keys: HashMap<KeyId, KeyState>,
    /// By the name of the account; `None` for calls without one.
    callers: HashMap<Option<Box<str>>, CallerState>,
    pub pauses: Pauses,
}

/// The calls of one address, that is of one egress group.
#[derive(Debug)]
pub(super) struct AddressState {
    pub window: CallWindow,
    pace: CallWindow,
    /// The calls of other processes, which the other windows count too.
    lent: CallWindow,
    /// Calls wait for the address in the order of their arrival.
    pub queue: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
pub(super) struct KeyState {
    pub window: CallWindow,
    /// The calls of other processes, which the other window counts too.
    lent: CallWindow,
    pub slot: Arc<tokio::sync::Mutex<KeySlot>>,
}

#[derive(Debug, Default)]
pub(super) struct CallerState {
    /// Each caller has one call in flight at a time.
    slot: Arc<tokio::sync::Mutex<()>>,
    /// The key of its last call.
    key: Option<KeyId>,
}

/// The state that calls with one key share: one call is in flight at a time, and the nonces for a host only grow.
#[derive(Debug, Default)]
pub(super) struct KeySlot {
    /// The last nonce sent to each host, unless it was released.
    pub nonces: HashMap<Box<str>, u64>,
}

impl State {
    /// State without calls. `others_ended` is when another process may have ended its last calls, if one may have made any.
    pub(super) fn new(shares: LimitShares, others_ended: Option<MonotonicTime>) -> Self {
        let mut state = Self {
            shares,
            others_ended,
            addresses: BTreeMap::new(),
            keys: HashMap::new(),
            callers: HashMap::new(),
            pauses: Pauses::default(),
        };
        state.address(DEFAULT_EGRESS);
        state
    }

    pub(super) fn caller_slot(&mut self, caller: Caller<'_>) -> Arc<tokio::sync::Mutex<()>> {
        let state = self.callers.entry(caller.name().map(Into::into)).or_default();
        state.key = caller.key();
        Arc::clone(&state.slot)
    }

    pub(super) fn key_state(&mut self, key: KeyId) -> &mut KeyState {
        let (shares, others_ended) = (self.shares, self.others_ended);
        let new = || KeyState {
            window: new_window(shares.key_limit(), others_ended),
            lent: CallWindow::new(shares.for_others().key_limit()),
            slot: Arc::default(),
        };
        self.keys.entry(key).or_insert_with(new)
    }

    pub(super) fn address(&mut self, egress: &str) -> &mut AddressState {
        let (shares, others_ended) = (self.shares, self.others_ended);
        self.addresses.entry(egress.into()).or_insert_with(|| AddressState {
            window: CallWindow::new(shares.address_limit()),
            pace: new_window(shares.pace(), others_ended),
            lent: CallWindow::new(shares.for_others().address_limit()),
            queue: Arc::default(),
        })
    }

    pub(super) fn set_shares(&mut self, shares: LimitShares) {
        self.shares = shares;
        for address in self.addresses.values_mut() {
            address.window.set_limit(shares.address_limit());
            address.pace.set_limit(shares.pace());
            address.lent.set_limit(shares.for_others().address_limit());
        }
        for key in self.keys.values_mut() {
            key.window.set_limit(shares.key_limit());
            key.lent.set_limit(shares.for_others().key_limit());
        }
    }

    /// Counts a call for `caller` if there is room for it.
    pub(super) fn start_call(&mut self, caller: Caller<'_>, now: MonotonicTime) -> Availability {
        let key = caller.key();
        let of_key = key.map_or(Availability::Now, |key| self.key_state(key).window.availability(now));
        let address = self.address(caller.egress());
        let availability = address.availability(now).max(of_key);
        if availability == Availability::Now {
            address.start(now);
            if let Some(key) = key {
                self.key_state(key).window.start();
            }
        }
        availability
    }

    /// Records the end of such a call.
    pub(super) fn end_call(&mut self, egress: &str, key: Option<KeyId>, now: MonotonicTime) {
        self.address(egress).window.end(now);
        if let Some(key) = key {
            self.key_state(key).window.end(now);
        }
    }

    /// Counts a call of another process if there is room for it, in the part of the limits that other processes may use.
    pub(super) fn start_lent_call(
        &mut self,
        egress: &str,
        key: Option<KeyId>,
        now: MonotonicTime,
    ) -> Availability {
        let of_key = key.map_or(Availability::Now, |key| {
            let key = self.key_state(key);
            key.window.availability(now).max(key.lent.availability(now))
        });
        let address = self.address(egress);
        let availability = address.availability(now).max(address.lent.availability(now)).max(of_key);
        if availability == Availability::Now {
            address.start(now);
            address.lent.start();
            if let Some(key) = key.map(|key| self.key_state(key)) {
                key.window.start();
                key.lent.start();
            }
        }
        availability
    }

    /// Records the end of a call of another process.
    pub(super) fn end_lent_call(&mut self, egress: &str, key: Option<KeyId>, now: MonotonicTime) {
        self.end_call(egress, key, now);
        self.address(egress).lent.end(now);
        if let Some(key) = key {
            self.key_state(key).lent.end(now);
        }
    }

    /// Whether this process has made a call with `key`.
    pub(super) fn knows_key(&self, key: KeyId) -> bool {
        self.keys.contains_key(&key)
    }

    /// The use of the account's key.
    pub(super) fn key_usage(&mut self, account: &str, now: MonotonicTime) -> WindowUsage {
        let key = self.callers.get(&Some(account.into())).and_then(|caller| caller.key);
        match key.and_then(|key| self.keys.get_mut(&key)) {
            Some(key) => key.window.usage(now),
            None => WindowUsage { calls: 0, capacity: self.shares.key_limit().calls },
        }
    }
}

impl AddressState {
    pub(super) fn availability(&mut self, now: MonotonicTime) -> Availability {
        self.window.availability(now).max(self.pace.availability(now))
    }

    pub(super) fn start(&mut self, now: MonotonicTime) {
        self.window.start();
        self.pace.start();
        self.pace.end(now);
    }
}

/// A window that is full if the calls of another process ended at `others_ended`.
fn new_window(limit: CallLimit, others_ended: Option<MonotonicTime>) -> CallWindow {
    others_ended.map_or_else(|| CallWindow::new(limit), |ended| CallWindow::full(limit, ended))
}
